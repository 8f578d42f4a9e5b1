"""TensorFlow's names for what the room `train` offers: `keras.losses`, `keras.optimizers`."""

from flowgraph.keras import losses, optimizers

__all__ = ["losses", "optimizers"]
