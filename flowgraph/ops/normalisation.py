"""Normalisation, dropout and cross-entropies of neural networks, composed of other ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops import random
from flowgraph.ops.comparison import isinf
from flowgraph.ops.elementwise import maximum, softplus, sqrt, square, where
from flowgraph.ops.reduce import logsumexp, mean, sum, var
from flowgraph.ops.rules import floats
from flowgraph.tensor import Tensor
from flowgraph.types import Dim, normal_axis, promote

__all__: list[str] = []


def bias_add(value: Any, bias: Any) -> Tensor:
    """`value` plus a vector with one number for each of its channels, the last axis.

    >>> import flowgraph as fg
    >>> fg.nn.bias_add([[1.0, 2.0]], [10.0, 20.0]).tolist()
    [[11.0, 22.0]]
    """
    x, b = convert(value), convert(bias)
    if b.ndim != 1 or not x.ndim or b.shape[0] != x.shape[-1]:
        raise ShapeError(
            f"bias_add of {x.type} and {b.type}", "the bias is no vector of channels", "Give one number each."
        )
    return x + b


def moments(x: Any, axes: Any, shift: Any = None, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """The mean and the variance over `axes`. `shift` is TensorFlow's and changes nothing: sums do not cancel here.

    >>> import flowgraph as fg
    >>> [float(one) for one in fg.nn.moments([1.0, 3.0], axes=[0])]
    [2.0, 1.0]
    """
    x = floats(x)
    return mean(x, axis=axes, keepdims=keepdims), var(x, axis=axes, keepdims=keepdims)


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: float = 1e-3
) -> Tensor:
    """(x - mean) / sqrt(variance + variance_epsilon) * scale + offset; scale and offset may be None.

    >>> import flowgraph as fg
    >>> fg.nn.batch_normalization([1.0, 3.0], 2.0, 1.0, None, 2.0, 0.0).tolist()
    [-2.0, 2.0]
    """
    x = floats(x)
    factor = 1 / sqrt(convert(variance, x.dtype) + variance_epsilon)
    factor = factor if scale is None else factor * scale
    result = (x - mean) * factor
    return result if offset is None else result + offset  # type: ignore[no-any-return]


def layer_normalization(x: Any, scale: Any = None, offset: Any = None, axis: Any = -1, epsilon: float = 1e-3) -> Tensor:
    """`x` with mean 0 and variance 1 over `axis`, times `scale`, plus `offset`.

    >>> import flowgraph as fg
    >>> fg.nn.layer_normalization([[1.0, 3.0]], epsilon=0.0).tolist()
    [[-1.0, 1.0]]
    """
    centre, spread = moments(x, axis, keepdims=True)
    return batch_normalization(x, centre, spread, offset, scale, epsilon)


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Tensor:
    """`x` divided by its Euclidean norm over `axis`; a norm whose square is below `epsilon` counts as that.

    >>> import flowgraph as fg
    >>> fg.nn.l2_normalize([3.0, 4.0]).tolist()
    [0.6, 0.8]
    """
    x = floats(x)
    return x / sqrt(maximum(sum(square(x), axis=axis, keepdims=True), epsilon))  # type: ignore[no-any-return]


def dropout(x: Any, rate: Any, noise_shape: Any = None, seed: int | None = None) -> Tensor:
    """`x` with each element set to 0 with probability `rate`, the others divided by 1 - rate.

    With `noise_shape` elements along its axes of length 1 share their fate. Which elements these are depends on the
    seed and on their place; in a traced function they are others at every call.

    >>> import flowgraph as fg
    >>> fg.nn.dropout([1.0, 2.0], rate=0.0).tolist()
    [1.0, 2.0]
    """
    x = floats(x)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise UsageError(f"dropout with rate={rate!r}", "it is a probability below 1", "Give a number from 0 to 1.")
    if rate == 0:
        return x  # type: ignore[no-any-return]
    shape = x.shape if noise_shape is None else tuple(noise_shape)
    kept = random.uniform(shape, dtype=x.dtype, seed=seed) >= rate
    return where(kept, x * (1 / (1 - rate)), 0)  # type: ignore[no-any-return]


# Cross-entropies


def _pair(labels: Any, logits: Any, name: str) -> tuple[Tensor, Tensor]:
    x = floats(logits)
    z = convert(labels)
    z = z if z.dtype == x.dtype else z.astype(promote(x.dtype, z.dtype) if z.dtype.kind == "f" else x.dtype)
    if z.ndim != x.ndim or any(
        a != b and not isinstance(a, Dim) and not isinstance(b, Dim) for a, b in zip(z.shape, x.shape, strict=True)
    ):
        raise ShapeError(f"{name} of labels {z.type} and logits {x.type}", "their shapes differ", "Give one shape.")
    return z, x


def sigmoid_cross_entropy_with_logits(labels: Any, logits: Any) -> Tensor:
    """-labels log(sigmoid(logits)) - (1 - labels) log(1 - sigmoid(logits)), without overflow.

    >>> import flowgraph as fg
    >>> fg.nn.sigmoid_cross_entropy_with_logits([1.0, 0.0], [100.0, 100.0]).tolist()
    [0.0, 100.0]
    """
    z, x = _pair(labels, logits, "sigmoid_cross_entropy_with_logits")
    return softplus(x) - x * z  # type: ignore[no-any-return]


def weighted_cross_entropy_with_logits(labels: Any, logits: Any, pos_weight: Any) -> Tensor:
    """-labels log(sigmoid(logits)) pos_weight - (1 - labels) log(1 - sigmoid(logits)), without overflow.

    >>> import flowgraph as fg
    >>> fg.nn.weighted_cross_entropy_with_logits([1.0, 0.0], [-100.0, 100.0], 3.0).tolist()
    [300.0, 100.0]
    """
    z, x = _pair(labels, logits, "weighted_cross_entropy_with_logits")
    return (1 - z) * x + (1 + (pos_weight - 1) * z) * softplus(-x)  # type: ignore[no-any-return]


def softmax_cross_entropy_with_logits(labels: Any, logits: Any, axis: int = -1) -> Tensor:
    """-sum(labels log(softmax(logits))) along `axis`: labels are probabilities.

    >>> import flowgraph as fg
    >>> round(float(fg.nn.softmax_cross_entropy_with_logits([0.0, 1.0], [2.0, 2.0])), 4)
    0.6931
    """
    z, x = _pair(labels, logits, "softmax_cross_entropy_with_logits")
    axis = normal_axis(axis, x.ndim)
    cost = logsumexp(x, axis=axis, keepdims=True) - x
    cost = where((z == 0) & isinf(cost), 0, cost)  # a class that can not be, and is not, costs nothing
    return sum(z * cost, axis=axis)  # type: ignore[no-any-return]


def _class_matches(labels: Any, operand_shapes: Any) -> Any:
    *batch, classes = operand_shapes[1]
    labels = np.broadcast_to(labels, np.broadcast_shapes(labels.shape, tuple(batch)))
    return labels[..., None] == np.arange(classes)


one_of: Op = define(
    "class_matches",
    "..., ~ ... [classes] -> ... [classes]",
    _class_matches,
    attrs=lambda labels, like, /: {},
    dtype=lambda types, attrs: (tuple(one.dtype for one in types), np.dtype(np.bool_)),
    gradient=lambda g, out, labels, like: (None, None),
    samples=lambda: [((np.array([2, 0, 1]), (3, 4)), {}), ((np.array([[1], [5]]), (2, 1, 3)), {})],
    doc="Which class each label names, along a new last axis with as many classes as another tensor has there.",
)


def sparse_softmax_cross_entropy_with_logits(labels: Any, logits: Any) -> Tensor:
    """-log(softmax(logits)) at the class that each label names; classes lie along the last axis of the logits.

    A label that names no class costs nan.

    >>> import flowgraph as fg
    >>> round(float(fg.nn.sparse_softmax_cross_entropy_with_logits(1, [2.0, 2.0])), 4)
    0.6931
    """
    x, z = floats(logits), convert(labels)
    if z.dtype.kind not in "iu":
        raise DTypeError(f"labels of dtype {z.dtype}", "they are the numbers of classes", "Give integers.")
    if not x.ndim or z.ndim != x.ndim - 1:
        raise ShapeError(
            f"sparse_softmax_cross_entropy_with_logits of labels {z.type} and logits {x.type}",
            "labels have all axes of the logits but the last",
            "Give one label for each vector of logits.",
        )
    matches = one_of(z, x)
    costs = sum(where(matches, logsumexp(x, axis=-1, keepdims=True) - x, 0), axis=-1)
    return where(sum(matches, axis=-1) == 1, costs, np.nan)  # type: ignore[no-any-return]
