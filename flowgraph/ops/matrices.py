"""Edges, triangles and diagonals: pad, tril, triu, eye, diagonal, diag, trace."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import apply, convert, freeze
from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops.gather import take
from flowgraph.ops.reduce import sum as sum_of
from flowgraph.ops.scanning import longer
from flowgraph.ops.shape import checked_shape, factor_names
from flowgraph.tensor import Tensor, check_device
from flowgraph.types import DEFAULT_FLOAT, Dim, as_dtype, promote, promote_scalar, whole

__all__ = [
    "diag",
    "diagonal",
    "eye",
    "pad",
    "trace",
    "tril",
    "triu",
]

# Edges.


def _pad_attrs(x: Any, value: Any, /, paddings: Any, *, shape: Any = None) -> dict[str, Any]:
    if value.shape != ():
        raise ShapeError(f"pad with {value}", "one number fills all of the edges", "Give a scalar.")
    lengths = tuple(longer(length, before + after) for length, (before, after) in zip(x.shape, paddings, strict=True))
    return {"paddings": paddings, "shape": lengths}


def _pad_factors(types: Any, attrs: Any) -> str:
    names = factor_names(types[0].ndim)
    pairs = list(zip(names, attrs["paddings"], strict=True))
    inner = [name if pair == (0, 0) else f"<{name}>" for name, pair in pairs]
    outer = [name if pair == (0, 0) else f"<o{name}>" for name, pair in pairs]
    return f"{' '.join(inner)}, -> {' '.join(outer)}"


def _pad(x: Any, value: Any, paddings: Any) -> Any:
    widths = zip(x.shape, paddings, strict=True)
    result = np.full([before + length + after for length, (before, after) in widths], value, x.dtype)
    result[tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, paddings, strict=True))] = x
    return result


def _pad_gradient(g: Tensor, out: Tensor, x: Tensor, value: Tensor, paddings: Any) -> Any:
    inner = tuple(slice(before, -after if after else None) for before, after in paddings)
    return (lambda: g[inner], lambda: sum_of(g) - sum_of(g[inner]))


def _pad_dtype(types: Any, attrs: Any) -> Any:
    dtype = types[0].dtype
    if promote(dtype, types[1].dtype) != dtype:
        raise UsageError(f"pad {types[0]} with {types[1]}", "the tensor can not hold that number", "Cast one of them.")
    return (dtype, dtype), dtype


pad_op: Op = define(
    "pad",
    _pad_factors,
    _pad,
    attrs=_pad_attrs,
    dtype=_pad_dtype,
    gradient=_pad_gradient,
    flops=0,
    samples=lambda: [
        (((5, 3), ()), {"paddings": ((0, 0), (1, 2))}),
        (((5, 3), ()), {"paddings": ((2, 0), (0, 1))}),
        (((0, 3), ()), {"paddings": ((1, 1), (0, 0))}),
        (((5,), ()), {"paddings": ((0, 0),)}),
    ],
    doc="x with edges of one value around it.",
)


def pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0) -> Tensor:
    """`tensor` with edges around it: `paddings` has (before, after) for each axis, as in TensorFlow.

    The `mode` is CONSTANT, filled with `constant_values`, REFLECT, the elements mirrored at the last one, or
    SYMMETRIC, mirrored behind the last one.

    >>> import flowgraph as fg
    >>> fg.pad(fg.constant([1, 2, 3]), [[2, 1]], "REFLECT").tolist()
    [3, 2, 1, 2, 3, 2]
    """
    x = convert(tensor)
    pairs = freeze(paddings)
    if not _are_paddings(pairs) or len(pairs) != x.ndim:
        raise UsageError(
            f"pad {x.type} by {paddings}", "that is no (before, after) for each axis", "Give a pair for each axis."
        )
    kind = mode.upper()
    if kind == "CONSTANT":
        value: Any = constant_values
        if isinstance(value, bool | int | float | complex):
            python = next(one for one in (bool, int, float, complex) if isinstance(value, one))
            value = np.asarray(
                value, x.dtype if x.dtype.kind == "b" and value in (0, 1) else promote_scalar(python, x.dtype)
            )
        return apply(pad_op, (x, value), {"paddings": pairs})  # type: ignore[no-any-return]
    if kind not in ("REFLECT", "SYMMETRIC"):
        raise UsageError(f"pad with mode={mode!r}", "there is none of that name", "CONSTANT, REFLECT or SYMMETRIC.")
    for axis, pair in enumerate(pairs):
        length = x.shape[axis]
        if pair == (0, 0):
            continue
        most = length if isinstance(length, Dim) else length - (kind == "REFLECT")
        if isinstance(most, Dim) or max(pair) > most:
            raise ShapeError(
                f"pad an axis of length {length} by {pair} with mode={kind}",
                "there are not that many elements to mirror",
                f"Pad by at most {most}.",
            )
        x = take(
            x,
            np.pad(np.arange(most + (kind == "REFLECT")), pair, "reflect" if kind == "REFLECT" else "symmetric"),
            axis=axis,
        )
    return x


def _are_paddings(pairs: Any) -> bool:
    if not isinstance(pairs, tuple):
        return False
    return all(isinstance(p, tuple) and len(p) == 2 and all(isinstance(n, int) and n >= 0 for n in p) for p in pairs)


# Triangles.


def _positions(at: Any, k: int) -> Any:
    """Column minus row minus k, for the last two axes of a piece."""
    (top, bottom, _), (left, right, _) = at[-2:]
    k = max(min(k, right), -bottom)  # any diagonal beyond is as far away, and a larger number may not fit
    return np.arange(left, right) - np.arange(top, bottom)[:, None] - k


def _tril(x: Any, k: int, at: Any) -> Any:
    return np.where(_positions(at, k) <= 0, x, np.zeros((), x.dtype))


def _triu(x: Any, k: int, at: Any) -> Any:
    return np.where(_positions(at, k) >= 0, x, np.zeros((), x.dtype))


def _matrix_factors(types: Any, attrs: Any) -> str:
    names = " ".join(factor_names(types[0].ndim))
    return f"{names} -> {names}"


def _triangle_attrs(x: Any, /, k: int = 0) -> dict[str, Any]:
    if x.ndim < 2:
        raise ShapeError(f"a triangle of {x}", f"it has {x.ndim} axes", "Give a tensor with at least two axes.")
    return {"k": whole(k, "k")}


def _triangle_samples() -> Any:
    return [
        (((4, 5),), {}),
        (((5, 3),), {"k": 1}),
        (((2, 4, 4),), {"k": -2}),
        (((0, 3),), {}),
    ]


tril: Op = define(
    "tril",
    _matrix_factors,
    _tril,
    attrs=_triangle_attrs,
    dtype="keep",
    gradient=lambda g, out, x, k: (tril(g, k=k),),
    flops=0,
    samples=_triangle_samples,
    doc="The matrices of the last two axes with zeros above the diagonal number k.",
)
triu: Op = define(
    "triu",
    _matrix_factors,
    _triu,
    attrs=_triangle_attrs,
    dtype="keep",
    gradient=lambda g, out, x, k: (triu(g, k=k),),
    flops=0,
    samples=_triangle_samples,
    doc="The matrices of the last two axes with zeros below the diagonal number k.",
)


def _eye(k: int, at: Any, dtype: Any) -> Any:
    return (_positions(at, k) == 0).astype(dtype)


eye_op: Op = define(
    "eye",
    "-> i j",
    _eye,
    attrs=lambda shape, k, dtype: {"shape": checked_shape(shape), "k": k, "dtype": as_dtype(dtype)},
    dtype=lambda types, attrs: ((), attrs["dtype"]),
    flops=0,
    samples=lambda: [
        ((), {"shape": (5, 4), "k": 0, "dtype": np.dtype(np.float64)}),
        ((), {"shape": (3, 6), "k": -1, "dtype": np.dtype(np.int32)}),
    ],
    doc="Zeros, with ones on diagonal number k.",
)


def eye(n_rows: int, n_cols: int | None = None, k: int = 0, dtype: Any = None, device: Any = None) -> Tensor:
    """A matrix of zeros with ones on diagonal number `k`, float32 unless `dtype` is given.

    >>> import flowgraph as fg
    >>> fg.eye(2, 3, k=1).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    check_device(device)
    shape = (freeze(n_rows), freeze(n_rows if n_cols is None else n_cols))
    return eye_op(shape=shape, k=whole(k, "k"), dtype=DEFAULT_FLOAT if dtype is None else as_dtype(dtype))  # type: ignore[no-any-return]


# Diagonals.


def _diagonal_span(rows: int, columns: int, offset: int) -> int:
    return max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)


def _diagonal_attrs(x: Any, /, offset: int = 0, *, shape: Any = None) -> dict[str, Any]:
    if x.ndim < 2 or any(isinstance(length, Dim) for length in x.shape[-2:]):
        raise ShapeError(f"the diagonal of {x}", "that is no matrix of known size", "Give a tensor with two such axes.")
    rows, columns = x.shape[-2:]
    offset = whole(offset, "offset")
    return {"offset": offset, "shape": (*x.shape[:-2], _diagonal_span(rows, columns, offset))}


def _diagonal_factors(types: Any, attrs: Any) -> str:
    outer = " ".join(factor_names(types[0].ndim - 2))
    return f"{outer} [i] [j] -> {outer} [d]"


diagonal: Op = define(
    "diagonal",
    _diagonal_factors,
    lambda x, offset: np.diagonal(x, offset, -2, -1).copy(),
    attrs=_diagonal_attrs,
    dtype="keep",
    gradient=lambda g, out, x, offset: (matrix_diag(g, offset=offset, rows=x.shape[-2], columns=x.shape[-1]),),
    flops=0,
    samples=lambda: [
        (((4, 5),), {}),
        (((5, 3),), {"offset": -1}),
        (((2, 4, 4),), {"offset": 2}),
        (((2, 2),), {"offset": 3}),
    ],
    doc="Diagonal number `offset` of the matrices of the last two axes.",
)


def _matrix_diag_attrs(
    x: Any, /, offset: int = 0, rows: int | None = None, columns: int | None = None, *, shape: Any = None
) -> dict[str, Any]:
    if not x.ndim or isinstance(x.shape[-1], Dim):
        raise ShapeError(f"a matrix with diagonal {x}", "that has no axis of known length", "Give a vector.")
    own = x.shape[-1]
    rows, columns = (own + abs(offset) if given is None else given for given in (rows, columns))
    if _diagonal_span(rows, columns, offset) != own:
        raise ShapeError(
            f"a matrix of shape {(rows, columns)} with {x} on diagonal {offset}",
            f"that diagonal has {_diagonal_span(rows, columns, offset)} elements",
            "Give as many.",
        )
    return {"offset": offset, "rows": rows, "columns": columns, "shape": (*x.shape[:-1], rows, columns)}


def _matrix_diag(x: Any, offset: int, shape: tuple[int, ...]) -> Any:
    result = np.zeros(shape, x.dtype)
    places = np.arange(x.shape[-1])
    result[..., places + max(-offset, 0), places + max(offset, 0)] = x
    return result


def _matrix_diag_factors(types: Any, attrs: Any) -> str:
    outer = " ".join(factor_names(types[0].ndim - 1))
    return f"{outer} [d] -> {outer} [i] [j]"


matrix_diag: Op = define(
    "matrix_diag",
    _matrix_diag_factors,
    _matrix_diag,
    attrs=_matrix_diag_attrs,
    dtype="keep",
    gradient=lambda g, out, x, offset: (diagonal(g, offset=offset),),
    flops=0,
    samples=lambda: [
        (((4,),), {}),
        (((3,),), {"offset": -1, "rows": 5, "columns": 3}),
        (((2, 3),), {"offset": 2}),
        (((0,),), {"offset": 1}),
    ],
    doc="Matrices of zeros with x on diagonal number `offset`.",
)


def diag(x: Any, k: int = 0) -> Tensor:
    """Matrices of zeros with the last axis of `x` on diagonal number `k`.

    >>> import flowgraph as fg
    >>> fg.diag(fg.constant([1, 2])).tolist()
    [[1, 0], [0, 2]]
    """
    return matrix_diag(x, offset=whole(k, "k"))  # type: ignore[no-any-return]


def trace(x: Any, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sum of diagonal number `offset` of the matrices of the last two axes.

    >>> import flowgraph as fg
    >>> int(fg.trace(fg.constant([[1, 2], [3, 4]])))
    5
    """
    return sum_of(diagonal(x, offset=offset), axis=-1, dtype=dtype)  # type: ignore[no-any-return]
