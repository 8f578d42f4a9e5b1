"""Products of matrices and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import ShapeError
from flowgraph.op import Call, Op, define
from flowgraph.ops import numerics
from flowgraph.ops.complex import conj
from flowgraph.ops.shape import expand_dims, numbers_dtype, reshape, squeeze, transpose
from flowgraph.tensor import Tensor
from flowgraph.types import normal_axis

__all__ = [
    "matmul",
    "matrix_transpose",
]


def adjoint(x: Tensor) -> Tensor:
    """The conjugate transposes of the matrices in the last two axes."""
    return conj(x).mT


def _matmul_factors(types: Any, attrs: Any) -> str:
    ranks = tuple(min(one.ndim, 2) for one in types)
    if 0 in ranks:
        raise ShapeError(
            f"matmul of {types[0]} and {types[1]}", "one of them is a scalar", "Use `*` to multiply by a number."
        )
    return {
        (1, 1): "k, k ->",
        (1, 2): "k, ... k j -> ... j",
        (2, 1): "... i k, k -> ... i",
        (2, 2): "... i k, ... k j -> ... i j",
    }[ranks]


def _matmul_call(types: Any, attrs: Any) -> Call:
    x, y = types
    if x.ndim == y.ndim == 1:
        return Call("dot({0}, {1}, {out})", {"dot": numerics.DOT})
    if x.ndim == y.ndim == 2 and x.shape[1] == 1:
        # An outer product is no work for BLAS: the plain product takes a third of the time (measured).
        return Call("multiply({0}, {1}, {out})", {"multiply": np.multiply})
    return Call("matmul({0}, {1}, {out})", {"matmul": np.matmul})


def _matmul_gradient(g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
    if x.ndim == 1 and y.ndim == 1:
        return (lambda: g * conj(y), lambda: g * conj(x))
    if x.ndim == 1:
        return (
            lambda: squeeze(expand_dims(g, -2) @ adjoint(y), -2),
            lambda: expand_dims(conj(x), -1) @ expand_dims(g, -2),
        )
    if y.ndim == 1:
        return (
            lambda: expand_dims(g, -1) @ expand_dims(conj(y), 0),
            lambda: squeeze(adjoint(x) @ expand_dims(g, -1), -1),
        )
    return (lambda: g @ adjoint(y), lambda: adjoint(x) @ g)


matmul = define(
    "matmul",
    _matmul_factors,
    np.matmul,
    attrs=lambda x, y, /: {},
    combine="add",
    call=_matmul_call,
    gradient=_matmul_gradient,
    flops=2,
    samples=lambda: [
        (((3, 4), (4, 2)), {}),
        (((5, 3, 4), (4, 2)), {}),
        (((5, 1, 3, 4), (2, 4, 6)), {}),
        (((4,), (4,)), {}),
        (((3, 4), (4,)), {}),
        (((4,), (4, 2)), {}),
        (((3, 1), (1, 4)), {}),
    ],
    doc="The matrix product over the last two axes; leading axes broadcast. A vector is a row left, a column right.",
)

inner_product = define(
    "inner_product",
    lambda types, attrs: f"{_axes(types[0].ndim)}, {_axes(types[0].ndim)} ->",
    lambda x, y: np.dot(np.ravel(x), np.ravel(y)),
    attrs=lambda x, y, /: {},
    dtype=numbers_dtype,
    combine="add",
    call=lambda types, attrs: Call(
        "dot({0}, {1}, {out})" if types[0].ndim == 1 else "dot({0}.ravel(), {1}.ravel(), {out})", {"dot": numerics.DOT}
    ),
    gradient=lambda g, out, x, y: (lambda: g * conj(y), lambda: g * conj(x)),
    flops=2,
    samples=lambda: [(((3, 4), (3, 4)), {}), (((5,), (5,)), {})],
    doc="The sum of the products of the elements of two tensors of one shape.",
)


def _axes(rank: int) -> str:
    return " ".join(f"a{axis}" for axis in range(rank))


def matrix_transpose(x: Any) -> Tensor:
    """The transposes of the matrices in the last two axes.

    >>> import flowgraph as fg
    >>> fg.matrix_transpose([[1, 2], [3, 4]]).tolist()
    [[1, 3], [2, 4]]
    """
    return convert(x).mT


def outer(x1: Any, x2: Any, /) -> Tensor:
    """The products of each element of one vector with each of another.

    >>> import flowgraph as fg
    >>> fg.linalg.outer([1, 2], [3, 4]).tolist()
    [[3, 4], [6, 8]]
    """
    x, y = convert(x1), convert(x2)
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(f"outer of {x.type} and {y.type}", "they are no vectors", "Give two tensors of one axis.")
    return expand_dims(x, -1) * y  # type: ignore[no-any-return]


def kron(a: Any, b: Any) -> Tensor:
    """The Kronecker product: each element of `a` times all of `b`, as one block. Missing axes of length 1 lead.

    >>> import flowgraph as fg
    >>> fg.linalg.kron([1, 10], [1, 2]).tolist()
    [1, 2, 10, 20]
    """
    x, y = convert(a), convert(b)
    rank = max(x.ndim, y.ndim)
    first, second = (reshape(one, (1,) * (rank - one.ndim) + one.shape) for one in (x, y))
    pairs = list(zip(first.shape, second.shape, strict=True))
    left = reshape(first, tuple(length for m, _ in pairs for length in (m, 1)))
    right = reshape(second, tuple(length for _, n in pairs for length in (1, n)))
    return reshape(left * right, tuple(m * n for m, n in pairs))  # type: ignore[no-any-return]


cross_op: Op = define(
    "cross",
    "... [c], ... [c] -> ... [c]",
    np.linalg.cross,
    dtype=numbers_dtype,
    gradient=lambda g, out, x, y: (lambda: cross_op(conj(y), g), lambda: cross_op(g, conj(x))),
    flops=3,
    samples=lambda: [(((3,), (3,)), {}), (((5, 3), (5, 3)), {}), (((5, 1, 3), (4, 3)), {})],
    doc="The cross products of the vectors of three elements in the last axis.",
)


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """The cross products of vectors of three elements along `axis`; other axes broadcast.

    >>> import flowgraph as fg
    >>> fg.linalg.cross([1, 0, 0], [0, 1, 0]).tolist()
    [0, 0, 1]
    """
    x, y = convert(x1), convert(x2)
    rank = max(x.ndim, y.ndim)
    back = normal_axis(axis, rank) - rank
    if min(x.ndim, y.ndim) < -back or x.shape[back] != 3 or y.shape[back] != 3:
        raise ShapeError(
            f"cross of {x.type} and {y.type} along axis {axis}", "the vectors must have 3 elements", "Name their axis."
        )
    if back == -1:
        return cross_op(x, y)  # type: ignore[no-any-return]
    product = cross_op(*(transpose(one, axes=_moved(one.ndim, back, -1)) for one in (x, y)))
    return transpose(product, axes=_moved(rank, -1, back))  # type: ignore[no-any-return]


def _moved(rank: int, source: int, target: int) -> tuple[int, ...]:
    """The order of axes in which the axis `source` stands at `target`; both are counted from the end."""
    axes = [axis for axis in range(rank) if axis != rank + source]
    axes.insert(rank + target, rank + source)
    return tuple(axes)
