"""Random orders, and TensorFlow's names for draws that depend on nothing but a seed of two numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import apply, convert, freeze
from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops.distributions import categorical, gamma, poisson, truncated_normal
from flowgraph.ops.random import KEY_TYPE, key_of, normal, uniform, words
from flowgraph.ops.shape import checked_shape, factor_names
from flowgraph.tensor import Tensor
from flowgraph.types import tensor_type

Array = np.ndarray[Any, Any]

__all__: list[str] = []


def _order(key: Array, count: int) -> Array:
    """A random order of `count` rows: that of one word for each."""
    return np.argsort(words(key, (count,), ((0, count, count),)), kind="stable")


def _shuffle(key: Array, x: Array, back: bool) -> Array:
    order = _order(key, x.shape[0])
    if not back:
        return x[order]
    result = np.empty_like(x)
    result[order] = x
    return result


shuffle_op: Op = define(
    "random_shuffle",
    lambda types, attrs: f"[key], {_first_whole(types[1].ndim)} -> {_first_whole(types[1].ndim)}",
    _shuffle,
    attrs=lambda key, x, /, back=False: {"back": bool(back)},
    dtype=lambda types, attrs: (tuple(one.dtype for one in types), types[1].dtype),
    gradient=lambda g, out, key, x, back: (None, lambda: shuffle_op(key, g, back=not back)),
    flops=0,
    samples=lambda: [
        ((KEY_TYPE, (5, 3)), {}),
        ((KEY_TYPE, (7,)), {"back": True}),
        ((KEY_TYPE, (0, 2)), {}),
        ((KEY_TYPE, tensor_type((6, 1, 2), np.int32)), {}),
    ],
    doc="The rows of x in a random order; with `back` from there into theirs.",
)


def _first_whole(rank: int) -> str:
    return " ".join(["[rows]", *factor_names(rank - 1)])


def shuffle(value: Any, seed: Any = None) -> Tensor:
    """`value` with its rows (its first axis) in a random order.

    >>> import flowgraph as fg
    >>> sorted(fg.random.shuffle([1, 2, 3], seed=1).tolist())
    [1, 2, 3]
    """
    x = convert(value)
    if not x.ndim:
        raise ShapeError(f"to shuffle {x.type}", "it has no rows", "Give a tensor of one axis or more.")
    return apply(shuffle_op, (key_of(seed), x), {})  # type: ignore[no-any-return]


def permutation(x: Any, seed: Any = None) -> Tensor:
    """The numbers from 0 to x - 1 in a random order, where `x` is an int; else the rows of `x` in one, as `shuffle`.

    >>> import flowgraph as fg
    >>> sorted(fg.random.permutation(4, seed=1).tolist())
    [0, 1, 2, 3]
    """
    if isinstance(x, bool) or not isinstance(x, int | np.integer):
        return shuffle(x, seed)
    if x < 0:
        raise UsageError(f"a permutation of {x} numbers", "there are no fewer than none", "Give an int from 0 on.")
    return shuffle(np.arange(int(x), dtype=np.int32 if x < 2**31 else np.int64), seed)


# TensorFlow's names.


def stateless_uniform(shape: Any, seed: Any, minval: Any = 0, maxval: Any = None, dtype: Any = np.float32) -> Tensor:
    """`uniform` with a seed of two numbers, always the same for the same seed.

    >>> import flowgraph as fg
    >>> fg.random.stateless_uniform([2], seed=[1, 2]).shape
    (2,)
    """
    return uniform(shape, minval, maxval, dtype, seed)


def stateless_normal(shape: Any, seed: Any, mean: Any = 0, stddev: Any = 1, dtype: Any = np.float32) -> Tensor:
    """`normal` with a seed of two numbers.

    >>> import flowgraph as fg
    >>> fg.random.stateless_normal([2], seed=[1, 2]).shape
    (2,)
    """
    return normal(shape, mean, stddev, dtype, seed)


def stateless_truncated_normal(
    shape: Any, seed: Any, mean: Any = 0, stddev: Any = 1, dtype: Any = np.float32
) -> Tensor:
    """`truncated_normal` with a seed of two numbers.

    >>> import flowgraph as fg
    >>> fg.random.stateless_truncated_normal([2], seed=[1, 2]).shape
    (2,)
    """
    return truncated_normal(shape, mean, stddev, dtype, seed)


def stateless_categorical(logits: Any, num_samples: int, seed: Any, dtype: Any = np.int64) -> Tensor:
    """`categorical` with a seed of two numbers.

    >>> import flowgraph as fg
    >>> fg.random.stateless_categorical([[0.0, 0.0]], 3, seed=[1, 2]).shape
    (1, 3)
    """
    return categorical(logits, num_samples, dtype, seed)


def stateless_gamma(shape: Any, seed: Any, alpha: Any, beta: Any = None, dtype: Any = np.float32) -> Tensor:
    """`gamma` with a seed of two numbers and, as TensorFlow has it here, the whole shape of the result.

    >>> import flowgraph as fg
    >>> fg.random.stateless_gamma([3, 2], seed=[1, 2], alpha=[0.5, 2.0]).shape
    (3, 2)
    """
    return gamma(_leading(shape, alpha), alpha, beta, dtype, seed)


def stateless_poisson(shape: Any, seed: Any, lam: Any, dtype: Any = np.int32) -> Tensor:
    """`poisson` with a seed of two numbers and, as TensorFlow has it here, the whole shape of the result.

    >>> import flowgraph as fg
    >>> fg.random.stateless_poisson([3, 2], seed=[1, 2], lam=[0.5, 20.0]).shape
    (3, 2)
    """
    return poisson(_leading(shape, lam), lam, dtype, seed)


def _leading(shape: Any, parameter: Any) -> tuple[Any, ...]:
    """The axes of `shape` before those of the parameter, which must be its last."""
    whole, own = checked_shape(freeze(shape)), convert(parameter).shape
    if own != whole[len(whole) - len(own) :]:
        raise ShapeError(
            f"draws of shape {whole} with parameters of shape {own}", "the last axes differ", "Give the whole shape."
        )
    return whole[: len(whole) - len(own)]
