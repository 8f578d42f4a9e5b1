"""keras.optimizers."""

from flowgraph.keras.optimizers import schedules
from flowgraph.train.adaptive import Adadelta, Adagrad, Adamax, AdamW, Lion, RMSprop
from flowgraph.train.optimizers import SGD, Adam, Optimizer

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Optimizer",
    "RMSprop",
    "schedules",
]
