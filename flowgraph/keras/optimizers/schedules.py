"""keras.optimizers.schedules."""

from flowgraph.train.optimizers import ExponentialDecay

__all__ = ["ExponentialDecay"]
