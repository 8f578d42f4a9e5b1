"""keras.optimizers."""

from flowgraph.keras.optimizers import schedules
from flowgraph.train.optimizers import SGD, Adam, Optimizer

__all__ = ["SGD", "Adam", "Optimizer", "schedules"]
