"""Products of matrices and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.errors import ShapeError
from flowgraph.op import Call, define
from flowgraph.ops.complex import conj
from flowgraph.ops.shape import expand_dims, numbers_dtype, squeeze
from flowgraph.tensor import Tensor

__all__ = [
    "matmul",
]


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
        return Call("dot({0}, {1}, {out})", {"dot": np.dot})
    if x.ndim == y.ndim == 2 and x.shape[1] == 1:
        # An outer product is no work for BLAS: the plain product takes a third of the time (measured).
        return Call("multiply({0}, {1}, {out})", {"multiply": np.multiply})
    return Call("matmul({0}, {1}, {out})", {"matmul": np.matmul})


def _matmul_gradient(g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
    if x.ndim == 1 and y.ndim == 1:
        return (lambda: g * conj(y), lambda: g * conj(x))
    if x.ndim == 1:
        return (
            lambda: squeeze(expand_dims(g, -2) @ conj(y).mT, -2),
            lambda: expand_dims(conj(x), -1) @ expand_dims(g, -2),
        )
    if y.ndim == 1:
        return (
            lambda: expand_dims(g, -1) @ expand_dims(conj(y), 0),
            lambda: squeeze(conj(x).mT @ expand_dims(g, -1), -1),
        )
    return (lambda: g @ conj(y).mT, lambda: conj(x).mT @ g)


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

inner = define(
    "inner_product",
    lambda types, attrs: f"{_axes(types[0].ndim)}, {_axes(types[0].ndim)} ->",
    lambda x, y: np.dot(np.ravel(x), np.ravel(y)),
    attrs=lambda x, y, /: {},
    dtype=numbers_dtype,
    combine="add",
    call=lambda types, attrs: Call(
        "dot({0}, {1}, {out})" if types[0].ndim == 1 else "dot({0}.ravel(), {1}.ravel(), {out})", {"dot": np.dot}
    ),
    gradient=lambda g, out, x, y: (lambda: g * conj(y), lambda: g * conj(x)),
    flops=2,
    samples=lambda: [(((3, 4), (3, 4)), {}), (((5,), (5,)), {})],
    doc="The sum of the products of the elements of two tensors of one shape.",
)


def _axes(rank: int) -> str:
    return " ".join(f"a{axis}" for axis in range(rank))
