"""Training: losses, optimizers, the fit loop."""

from flowgraph.train.loop import History, fit

__all__ = ["History", "fit"]
