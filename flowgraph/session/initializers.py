"""First values of variables, as functions of (shape, dtype)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowgraph.errors import UsageError
from flowgraph.leaves import as_array
from flowgraph.ops import distributions, random
from flowgraph.ops.create import cast, full
from flowgraph.tensor import Tensor

_SPREAD_WITHIN_2 = 0.87962566103423978
"""The standard deviation of a standard normal number that lies between -2 and 2."""


class zeros_initializer:  # noqa: N801
    """Zeros."""

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype = dtype

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The first value of a variable."""
        return full(tuple(shape), 0, dtype if dtype is not None else self.dtype)


class ones_initializer:  # noqa: N801
    """Ones."""

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype = dtype

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The first value of a variable."""
        return full(tuple(shape), 1, dtype if dtype is not None else self.dtype)


class constant_initializer:  # noqa: N801
    """A number everywhere, or given values laid out in the shape."""

    def __init__(self, value: Any = 0, dtype: Any = np.float32) -> None:
        as_array(value)  # refuses what is no number
        self.value, self.dtype = np.asarray(value), dtype

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The first value of a variable."""
        if self.value.size not in (1, math.prod(shape)):
            raise UsageError(
                f"a variable of shape {tuple(shape)}",
                f"its initializer has {self.value.size} values",
                "Give one number, or as many as the shape has elements.",
            )
        filled = np.full(shape, self.value.reshape(())) if self.value.size == 1 else self.value.reshape(shape)
        return cast(filled, dtype if dtype is not None else self.dtype)


class random_uniform_initializer:  # noqa: N801
    """Uniform numbers in [minval, maxval)."""

    def __init__(self, minval: Any = 0, maxval: Any = None, seed: int | None = None, dtype: Any = np.float32) -> None:
        self.minval, self.maxval, self.seed, self.dtype = minval, maxval, seed, dtype

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The first value of a variable."""
        kind = dtype if dtype is not None else self.dtype
        return random.uniform(tuple(shape), self.minval, self.maxval, kind, self.seed)


class random_normal_initializer:  # noqa: N801
    """Normal numbers of a mean and a standard deviation."""

    def __init__(self, mean: Any = 0.0, stddev: Any = 1.0, seed: int | None = None, dtype: Any = np.float32) -> None:
        self.mean, self.stddev, self.seed, self.dtype = mean, stddev, seed, dtype

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The first value of a variable."""
        kind = dtype if dtype is not None else self.dtype
        return random.normal(tuple(shape), self.mean, self.stddev, kind, self.seed)


class glorot_uniform_initializer:  # noqa: N801
    """Uniform numbers within sqrt(6 / (fan in + fan out)) of zero (Glorot and Bengio 2010)."""

    def __init__(self, seed: int | None = None, dtype: Any = np.float32) -> None:
        self.seed, self.dtype = seed, dtype

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The first value of a variable."""
        inward, outward = fans(shape)
        bound = math.sqrt(6 / max(inward + outward, 1))
        return random.uniform(tuple(shape), -bound, bound, dtype if dtype is not None else self.dtype, self.seed)


class glorot_normal_initializer:  # noqa: N801
    """Normal numbers of standard deviation sqrt(2 / (fan in + fan out)) (Glorot and Bengio 2010).

    As in TensorFlow none lies further out than twice that of the normal distribution from which they are drawn.
    """

    def __init__(self, seed: int | None = None, dtype: Any = np.float32) -> None:
        self.seed, self.dtype = seed, dtype

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The first value of a variable."""
        inward, outward = fans(shape)
        stddev = math.sqrt(2 / max(inward + outward, 1)) / _SPREAD_WITHIN_2
        kind = dtype if dtype is not None else self.dtype
        return distributions.truncated_normal(tuple(shape), 0.0, stddev, kind, self.seed)


class RandomUniform(random_uniform_initializer):
    """Uniform numbers in [minval, maxval), with the bounds of TensorFlow 2."""

    def __init__(
        self, minval: Any = -0.05, maxval: Any = 0.05, seed: int | None = None, dtype: Any = np.float32
    ) -> None:
        super().__init__(minval, maxval, seed, dtype)


class RandomNormal(random_normal_initializer):
    """Normal numbers of a mean and a standard deviation, with those of TensorFlow 2."""

    def __init__(self, mean: Any = 0.0, stddev: Any = 0.05, seed: int | None = None, dtype: Any = np.float32) -> None:
        super().__init__(mean, stddev, seed, dtype)


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """How many inputs and outputs a weight of `shape` joins; the leading axes of a filter count for both.

    >>> fans([3, 4]), fans([5, 5, 3, 8])
    ((3, 4), (75, 200))
    """
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field
