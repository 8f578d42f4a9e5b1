"""Keras's names: `keras.activations`, `initializers`, `losses`, `metrics`, `optimizers`."""

from flowgraph.keras import activations, initializers, losses, metrics, optimizers

__all__ = ["activations", "initializers", "losses", "metrics", "optimizers"]
