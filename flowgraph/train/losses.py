"""Losses: functions that average over the last axis, and Keras-style classes that weigh and reduce over samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowgraph.apply import convert, together
from flowgraph.errors import ShapeError, UsageError
from flowgraph.ops.elementwise import abs as absolute, maximum, minimum, square, where
from flowgraph.ops.reduce import mean, sum
from flowgraph.ops.shape import broadcast_like, expand_dims, size, squeeze
from flowgraph.tensor import Tensor
from flowgraph.types import DEFAULT_FLOAT, Dim, Shape, is_float


def pair(y_true: Any, y_pred: Any, name: str) -> tuple[Tensor, Tensor]:
    """Both as floats of one shape. A pair like (n,) and (n, 1) is refused: it would broadcast to (n, n)."""
    true, pred = together((y_true, y_pred))
    if not is_float(pred.dtype):
        pred = pred.astype(true.dtype if is_float(true.dtype) else DEFAULT_FLOAT)
    true = true.astype(pred.dtype) if true.dtype != pred.dtype else true
    if true.ndim and pred.ndim and not (_stretches(true.shape, pred.shape) or _stretches(pred.shape, true.shape)):
        raise ShapeError(
            f"{name} of y_true {true.type} and y_pred {pred.type}",
            "their shapes differ, and broadcasting them would compare every value with every other",
            "Give both the same shape: reshape one, for instance y_true to (-1, 1).",
        )
    return true, pred


def _stretches(small: Shape, large: Shape) -> bool:
    """Whether a tensor of shape `small` has the axes of one of shape `large`, some of them of length 1."""
    if len(small) != len(large):
        return False
    pairs = zip(small, large, strict=True)
    return all(a == 1 or a == b or isinstance(a, Dim) or isinstance(b, Dim) for a, b in pairs)


def _last_mean(values: Tensor) -> Tensor:
    return mean(values, axis=-1) if values.ndim else values


def mse(y_true: Any, y_pred: Any) -> Tensor:
    """The mean of (y_true - y_pred)**2 over the last axis: a scalar for vectors.

    >>> import flowgraph as fg
    >>> float(fg.keras.losses.mse([1.0, 2.0], [1.0, 4.0]))
    2.0
    """
    true, pred = pair(y_true, y_pred, "mse")
    return _last_mean(square(pred - true))


def mae(y_true: Any, y_pred: Any) -> Tensor:
    """The mean of |y_true - y_pred| over the last axis.

    >>> import flowgraph as fg
    >>> float(fg.keras.losses.mae([1.0, 2.0], [1.0, 4.0]))
    1.0
    """
    true, pred = pair(y_true, y_pred, "mae")
    return _last_mean(absolute(pred - true))


def huber(y_true: Any, y_pred: Any, delta: Any = 1.0) -> Tensor:
    """The mean over the last axis of r**2 / 2 where |r| <= delta, else delta * (|r| - delta / 2); r = y_pred - y_true.

    Written as c * (r - c / 2), where c is r between -delta and delta: the same values without a branch, and a second
    derivative of 1 at r = 0 too, where that of |r| is 0.

    >>> import flowgraph as fg
    >>> float(fg.keras.losses.huber([0.0, 0.0], [1.0, 3.0]))
    1.5
    """
    if not isinstance(delta, int | float | np.number) or not delta > 0:
        raise UsageError(
            f"huber with delta={delta!r}", "delta is the width of the quadratic part", "Give delta above 0."
        )
    true, pred = pair(y_true, y_pred, "huber")
    error = pred - true
    near = maximum(minimum(error, delta), -delta)
    return _last_mean(near * (error - near * 0.5))


mean_squared_error, mean_absolute_error = mse, mae

REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none")


class Loss:
    """A loss of samples: `loss(y_true, y_pred, sample_weight=None)`.

    `reduction` is, as in Keras, "sum_over_batch_size" or "mean" (both: the sum divided by the number of samples),
    "mean_with_sample_weight" (divided by the sum of the weights), "sum", or "none" (one value a sample).
    `sample_weight` has one weight a sample.
    """

    def __init__(self, function: Callable[[Any, Any], Tensor], reduction: str | None, name: str) -> None:
        chosen = "none" if reduction is None else reduction
        if chosen not in REDUCTIONS:
            raise UsageError(f"reduction={reduction!r}", "it is not known", f"One of {', '.join(REDUCTIONS)}.")
        self.function, self.reduction, self.name = function, chosen, name

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """The loss as a scalar; with reduction "none" one value a sample."""
        losses = self.function(y_true, y_pred)
        weights = None if sample_weight is None else self._weights(sample_weight, losses)
        if weights is not None:
            losses = losses * weights
        if self.reduction == "none":
            return losses
        total: Tensor = sum(losses)
        if self.reduction == "sum":
            return total
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            count = sum(broadcast_like(weights, losses))
            count = where(count == 0, 1, count)  # samples that all weigh nothing cost nothing
        else:
            count = size(losses, dtype=np.dtype(losses.dtype))
        result: Tensor = total / count
        return result

    def _weights(self, sample_weight: Any, losses: Tensor) -> Tensor:
        """The weights in a shape that meets the losses of the samples from the left: one weight a sample."""
        weights: Tensor = convert(sample_weight).astype(losses.dtype)
        if weights.ndim == losses.ndim + 1 and weights.shape[-1] == 1:
            weights = squeeze(weights, axis=-1)
        if weights.ndim and weights.ndim < losses.ndim:
            weights = expand_dims(weights, tuple(range(weights.ndim, losses.ndim)))
        if weights.ndim and not _stretches(weights.shape, losses.shape):
            raise ShapeError(
                f"{self.name} with sample_weight of shape {convert(sample_weight).shape}",
                f"there are {losses.type} losses: a sample is all but the last axis of y_true",
                "Give one weight a sample, and samples as rows: y of shape (n, 1) for n samples of one value.",
            )
        return weights

    def __repr__(self) -> str:
        return f"{type(self).__name__}(reduction={self.reduction!r})"


class MeanSquaredError(Loss):
    """The mean squared error of samples.

    >>> import flowgraph as fg
    >>> loss = fg.keras.losses.MeanSquaredError()
    >>> float(loss([[0.0], [0.0]], [[1.0], [2.0]]))
    2.5
    >>> float(loss([[0.0], [0.0]], [[1.0], [2.0]], sample_weight=[1.0, 0.0]))
    0.5
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "mean_squared_error") -> None:
        super().__init__(mse, reduction, name)


class MeanAbsoluteError(Loss):
    """The mean absolute error of samples."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "mean_absolute_error") -> None:
        super().__init__(mae, reduction, name)


class Huber(Loss):
    """The Huber loss of samples, quadratic up to `delta` and linear beyond."""

    def __init__(
        self, delta: float = 1.0, reduction: str | None = "sum_over_batch_size", name: str = "huber_loss"
    ) -> None:
        super().__init__(lambda true, pred: huber(true, pred, delta), reduction, name)
        self.delta = delta
