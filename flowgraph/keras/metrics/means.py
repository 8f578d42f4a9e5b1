"""Figures gathered over batches, by `update_state`, `result` and `reset_state`: means, and what is made of them.

The state is kept in float64 variables, so that `update_state` works in a compiled function as well, and a mean over
many batches stays exact; the result is float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import ShapeError
from flowgraph.ops.create import cast
from flowgraph.ops.elementwise import sqrt, where
from flowgraph.ops.reduce import sum
from flowgraph.ops.shape import broadcast_like, expand_dims, squeeze
from flowgraph.ops.sorting import argmax
from flowgraph.spellings.numbers import divide_no_nan
from flowgraph.state import Variable
from flowgraph.tensor import Tensor
from flowgraph.train.class_losses import class_numbers
from flowgraph.train.losses import mae, mse, pair


class Metric:
    """State that batches are added to, in variables of the given shapes; what is made of it, `result` says."""

    def __init__(self, name: str, dtype: Any, **shapes: tuple[int, ...]) -> None:
        self.name, self.dtype = name, np.dtype(dtype)
        self.state = {
            part: Variable(np.zeros(shape), trainable=False, name=f"{name}_{part}") for part, shape in shapes.items()
        }

    @property
    def variables(self) -> list[Variable]:
        """The variables of the state."""
        return list(self.state.values())

    def result(self) -> Tensor:
        """The figure over all that the state has seen."""
        raise NotImplementedError

    def reset_state(self) -> None:
        """Forget everything. Returns nothing."""
        for one in self.variables:
            one.assign(np.zeros(one.shape))

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Take in a batch. Returns nothing."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Take in a batch; returns the figure over everything so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


def weights_of(sample_weight: Any, values: Tensor, name: str) -> Tensor:
    """The weights in a shape that meets the values from the left."""
    weights = cast(1.0 if sample_weight is None else sample_weight, np.float64)
    if weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
        weights = squeeze(weights, axis=-1)
    if weights.ndim > values.ndim:
        raise ShapeError(
            f"{name} of {values.type} values with sample_weight of shape {weights.shape}",
            "there are more axes of weights than of values",
            "Give one weight a sample.",
        )
    if 0 < weights.ndim < values.ndim:
        weights = expand_dims(weights, tuple(range(weights.ndim, values.ndim)))
    return weights


class Mean(Metric):
    """The weighted mean of values.

    >>> import flowgraph as fg
    >>> mean = fg.keras.metrics.Mean()
    >>> mean.update_state([1.0, 3.0])
    >>> mean.update_state(8.0, sample_weight=2.0)
    >>> float(mean.result())
    5.0
    """

    def __init__(self, name: str = "mean", dtype: Any = np.float32) -> None:
        super().__init__(name, dtype, total=(), weight=())

    def add(self, values: Any, sample_weight: Any = None) -> None:
        """Add values to the state, each with the weight of its sample. Returns nothing."""
        found = cast(values, np.float64)
        weights = broadcast_like(weights_of(sample_weight, found, self.name), found)
        self.state["total"].assign_add(sum(where(weights == 0, 0, found * weights)))
        self.state["weight"].assign_add(sum(weights))

    def mean(self) -> Tensor:
        """The weighted mean of all values, and 0 where there were none."""
        return divide_no_nan(self.state["total"], self.state["weight"])

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Take in a batch. Returns nothing."""
        self.add(*args, **kwargs)

    def result(self) -> Tensor:
        """The mean of all that the state has seen."""
        return cast(self.mean(), self.dtype)


class Sum(Mean):
    """The weighted sum of values.

    >>> import flowgraph as fg
    >>> total = fg.keras.metrics.Sum()
    >>> total.update_state([1.0, 3.0], sample_weight=[1.0, 0.5])
    >>> float(total.result())
    2.5
    """

    def __init__(self, name: str = "sum", dtype: Any = np.float32) -> None:
        super().__init__(name, dtype)

    def result(self) -> Tensor:
        """The sum of all values."""
        return cast(self.state["total"], self.dtype)


class MeanMetricWrapper(Mean):
    """The weighted mean of a function of (y_true, y_pred), which gives a value for each sample."""

    def __init__(self, function: Callable[[Any, Any], Any], name: str, dtype: Any = np.float32) -> None:
        super().__init__(name, dtype)
        self.function = function

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch, with a weight for each sample where given. Returns nothing."""
        self.add(self.function(y_true, y_pred), sample_weight)


class MeanSquaredError(MeanMetricWrapper):
    """The mean of the squared errors.

    >>> import flowgraph as fg
    >>> float(fg.keras.metrics.MeanSquaredError()([[0.0], [0.0]], [[1.0], [3.0]]))
    5.0
    """

    def __init__(self, name: str = "mean_squared_error", dtype: Any = np.float32) -> None:
        super().__init__(mse, name, dtype)


class MeanAbsoluteError(MeanMetricWrapper):
    """The mean of the absolute errors."""

    def __init__(self, name: str = "mean_absolute_error", dtype: Any = np.float32) -> None:
        super().__init__(mae, name, dtype)


class RootMeanSquaredError(MeanMetricWrapper):
    """The root of the mean of the squared errors.

    >>> import flowgraph as fg
    >>> float(fg.keras.metrics.RootMeanSquaredError()([[0.0], [0.0]], [[3.0], [3.0]]))
    3.0
    """

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = np.float32) -> None:
        super().__init__(mse, name, dtype)

    def result(self) -> Tensor:
        """The root of the mean."""
        return cast(sqrt(self.mean()), self.dtype)


def _equal(y_true: Any, y_pred: Any) -> Tensor:
    true, pred = pair(y_true, y_pred, "accuracy")
    return true == pred  # type: ignore[no-any-return]


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Tensor:
    """The share of labels of 0 or 1, over the last axis, that a probability above `threshold` tells right.

    >>> import flowgraph as fg
    >>> float(fg.keras.metrics.binary_accuracy([1.0, 0.0], [0.7, 0.6]))
    0.5
    """
    true, pred = pair(y_true, y_pred, "binary_accuracy")
    right = cast(true == cast(pred > threshold, true.dtype), np.float32)
    return right.mean(axis=-1) if right.ndim else right


def categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the largest element along the last axis stands at the same place in both, else 0.

    >>> import flowgraph as fg
    >>> fg.keras.metrics.categorical_accuracy([[0.0, 1.0], [0.0, 1.0]], [[0.2, 0.8], [0.6, 0.4]]).tolist()
    [1.0, 0.0]
    """
    true, pred = pair(y_true, y_pred, "categorical_accuracy")
    return cast(argmax(true, axis=-1) == argmax(pred, axis=-1), np.float32)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the largest element along the last axis stands at the class that `y_true` names, else 0.

    >>> import flowgraph as fg
    >>> fg.keras.metrics.sparse_categorical_accuracy([1, 1], [[0.2, 0.8], [0.6, 0.4]]).tolist()
    [1.0, 0.0]
    """
    return cast(class_numbers(y_true, y_pred) == argmax(convert(y_pred), axis=-1), np.float32)


class Accuracy(MeanMetricWrapper):
    """The share of elements that are equal.

    >>> import flowgraph as fg
    >>> float(fg.keras.metrics.Accuracy()([1, 2, 3, 4], [0, 2, 3, 4]))
    0.75
    """

    def __init__(self, name: str = "accuracy", dtype: Any = np.float32) -> None:
        super().__init__(_equal, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """The share of labels of 0 or 1 that a probability above `threshold` tells right."""

    def __init__(self, name: str = "binary_accuracy", dtype: Any = np.float32, threshold: float = 0.5) -> None:
        super().__init__(lambda true, pred: binary_accuracy(true, pred, threshold), name, dtype)


class CategoricalAccuracy(MeanMetricWrapper):
    """The share of samples whose largest prediction is at the class that `y_true` has largest."""

    def __init__(self, name: str = "categorical_accuracy", dtype: Any = np.float32) -> None:
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """The share of samples whose largest prediction is at the class that `y_true` names."""

    def __init__(self, name: str = "sparse_categorical_accuracy", dtype: Any = np.float32) -> None:
        super().__init__(sparse_categorical_accuracy, name, dtype)
