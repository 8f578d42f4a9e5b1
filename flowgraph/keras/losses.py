"""keras.losses."""

from flowgraph.train.losses import (
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    huber,
    mae,
    mean_absolute_error,
    mean_squared_error,
    mse,
)

__all__ = [
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "huber",
    "mae",
    "mean_absolute_error",
    "mean_squared_error",
    "mse",
]
