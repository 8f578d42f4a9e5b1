"""Diagonals of matrices: taken out, put in, summed; and what lies near them."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops.reduce import sum
from flowgraph.tensor import Tensor

Array = np.ndarray[Any, Any]

__all__: list[str] = []


def _offset(offset: Any) -> int:
    if isinstance(offset, bool) or not isinstance(offset, int | np.integer):
        raise UsageError(f"offset={offset!r}", "it counts diagonals", "Give an integer; 0 is the main diagonal.")
    return int(offset)


def _matrix_lengths(x: Any) -> tuple[int, int]:
    """The numbers of rows and columns of the matrices in `x`."""
    if x.ndim < 2 or not all(isinstance(length, int) for length in x.shape[-2:]):
        raise ShapeError(
            f"the diagonal of {x}",
            "it holds no matrices of a known size",
            "Give a tensor whose last two axes are matrices.",
        )
    rows, columns = x.shape[-2:]
    return rows, columns


def _diagonal_attrs(x: Any, /, offset: int = 0, *, shape: Any = None) -> dict[str, Any]:
    offset = _offset(offset)
    rows, columns = _matrix_lengths(x)
    count = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    return {"offset": offset, "shape": (*x.shape[:-2], count)}


def _put_attrs(x: Any, /, offset: int, matrix: Any, *, shape: Any = None) -> dict[str, Any]:
    return {"offset": offset, "matrix": matrix, "shape": (*x.shape[:-1], *matrix)}


def _put(x: Array, offset: int, matrix: Any) -> Array:
    """Matrices of zeros with the vectors of `x` on a diagonal."""
    result = np.zeros((*x.shape[:-1], *matrix), x.dtype)
    index = np.arange(x.shape[-1])
    result[..., index + max(-offset, 0), index + max(offset, 0)] = x
    return result


diagonal: Op = define(
    "diagonal",
    "... [i] [j] -> ... [d]",
    lambda x, offset: np.diagonal(x, offset, -2, -1),
    attrs=_diagonal_attrs,
    dtype="keep",
    gradient=lambda g, out, x, offset: (put_diagonal(g, offset=offset, matrix=x.shape[-2:]),),
    flops=0,
    samples=lambda: [
        (((3, 4),), {}),
        (((5, 4, 3),), {"offset": 1}),
        (((2, 5, 3, 3),), {"offset": -1}),
        (((3, 2),), {"offset": 5}),
        (((0, 2, 2),), {}),
    ],
    doc="The diagonals of the matrices in the last two axes; those with a positive `offset` lie above the main one.",
)
put_diagonal: Op = define(
    "put_diagonal",
    "... [d] -> ... [i] [j]",
    _put,
    attrs=_put_attrs,
    dtype="keep",
    gradient=lambda g, out, x, offset: (diagonal(g, offset=offset),),
    flops=0,
    samples=lambda: [
        (((3,),), {"offset": 0, "matrix": (3, 4)}),
        (((5, 2),), {"offset": -1, "matrix": (3, 2)}),
        (((5, 2),), {"offset": 1, "matrix": (3, 3)}),
    ],
    doc="Matrices of zeros, of the size `matrix`, with the vectors of x on a diagonal.",
)


def _band_attrs(x: Any, /, num_lower: int, num_upper: int) -> dict[str, Any]:
    if x.ndim < 2:
        raise ShapeError(f"a band of {x}", "it holds no matrices", "Give a tensor of two or more axes.")
    return {"num_lower": _offset(num_lower), "num_upper": _offset(num_upper)}


def _band(x: Array, num_lower: int, num_upper: int) -> Array:
    rows, columns = x.shape[-2:]
    distance = np.arange(columns) - np.arange(rows)[:, None]
    inside = ((num_upper < 0) | (distance <= num_upper)) & ((num_lower < 0) | (-distance <= num_lower))
    return np.where(inside, x, np.zeros((), x.dtype))


band_part: Op = define(
    "band_part",
    "... [i] [j] -> ... [i] [j]",
    _band,
    attrs=_band_attrs,
    dtype="keep",
    gradient=lambda g, out, x, num_lower, num_upper: (band_part(g, num_lower=num_lower, num_upper=num_upper),),
    flops=1,
    samples=lambda: [
        (((3, 4),), {"num_lower": 1, "num_upper": 0}),
        (((5, 4, 3),), {"num_lower": -1, "num_upper": 1}),
        (((2, 5, 3, 3),), {"num_lower": 0, "num_upper": -1}),
    ],
    doc="The matrices with zeros outside `num_lower` diagonals below and `num_upper` above the main; -1 means all.",
)


def diag(diagonal: Any, k: int = 0) -> Tensor:
    """Square matrices of zeros with the vectors in the last axis of `diagonal` on the diagonal number `k`.

    >>> import flowgraph as fg
    >>> fg.linalg.diag([1, 2]).tolist()
    [[1, 0], [0, 2]]
    """
    x = convert(diagonal)
    if x.ndim == 0 or not isinstance(x.shape[-1], int):
        raise ShapeError(f"diag of {x.type}", "it holds no vectors of a known length", "Give one axis or more.")
    side = x.shape[-1] + abs(_offset(k))
    return put_diagonal(x, offset=int(k), matrix=(side, side))  # type: ignore[no-any-return]


def diag_part(x: Any, k: int = 0) -> Tensor:
    """The diagonal number `k` of the matrices in the last two axes: TensorFlow's name for `diagonal`.

    >>> import flowgraph as fg
    >>> fg.linalg.diag_part([[1, 2], [3, 4]]).tolist()
    [1, 4]
    """
    return diagonal(x, offset=k)  # type: ignore[no-any-return]


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sums of the diagonals of the matrices in the last two axes, computed in `dtype` where it is given.

    >>> import flowgraph as fg
    >>> int(fg.linalg.trace([[1, 2], [3, 4]]))
    5
    """
    x = convert(x)
    return sum(diagonal(x if dtype is None else x.astype(dtype), offset=offset), axis=-1)  # type: ignore[no-any-return]
