"""Norms of vectors and matrices, and the rank. The gradient of a norm at 0 is 0, one of its subgradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import ShapeError, UsageError
from flowgraph.ops.decompositions import svdvals
from flowgraph.ops.elementwise import abs as absolute, power, square, where
from flowgraph.ops.least_squares import checked_rtol
from flowgraph.ops.reduce import max, min, root, sum
from flowgraph.ops.rules import floats
from flowgraph.ops.shape import expand_dims, transpose
from flowgraph.tensor import Tensor
from flowgraph.types import normal_axes

__all__ = [
    "norm",
]

_EUCLIDEAN = (2, "euclidean", "fro")


def squares(x: Tensor) -> Tensor:
    """|x| ** 2, which is real."""
    return square(absolute(x) if x.dtype.kind == "c" else x)  # type: ignore[no-any-return]


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Tensor:
    """The `ord`-norm of the numbers along `axis` (all axes if None): the `ord`-th root of the sum of |x| ** ord.

    `ord` may be any real number; inf and -inf give the largest and the smallest |x|, 0 counts what is not 0.

    >>> import flowgraph as fg
    >>> float(fg.linalg.vector_norm([3.0, 4.0]))
    5.0
    """
    x = floats(x)
    axes = normal_axes(axis, x.ndim)
    if isinstance(ord, bool) or not isinstance(ord, int | float | np.number) or math.isnan(ord):
        raise UsageError(f"vector_norm with ord={ord!r}", "it is no number", "Give a real number, inf or -inf.")
    size = absolute(x)
    if ord == math.inf:
        return max(size, axis=axes, keepdims=keepdims)  # type: ignore[no-any-return]
    if ord == -math.inf:
        return min(size, axis=axes, keepdims=keepdims)  # type: ignore[no-any-return]
    if ord == 0:
        return sum((size != 0).astype(size.dtype), axis=axes, keepdims=keepdims)  # type: ignore[no-any-return]
    if ord == 1:
        return sum(size, axis=axes, keepdims=keepdims)  # type: ignore[no-any-return]
    if ord == 2:
        return root(sum(squares(x), axis=axes, keepdims=keepdims), 2)
    return _power_norm(size, axes, keepdims, float(ord))


def _power_norm(size: Tensor, axes: tuple[int, ...], keepdims: bool, p: float) -> Tensor:
    if p < 0:  # 0 ** p is inf, and the norm 0
        smallest = min(size, axis=axes, keepdims=keepdims)
        total = sum(power(where(size == 0, 1, size), p), axis=axes, keepdims=keepdims)
        return where(smallest == 0, 0, power(total, 1 / p))  # type: ignore[no-any-return]
    powers = where(size == 0, 0, power(where(size == 0, 1, size), p))
    return root(sum(powers, axis=axes, keepdims=keepdims), p)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """The norms of the matrices in the last two axes.

    `ord` is 'fro' (the root of the sum of squares), 'nuc' (the sum of singular values), 1 or -1 (the largest, smallest
    sum of a column), inf or -inf (of a row), 2 or -2 (the largest, smallest singular value).

    >>> import flowgraph as fg
    >>> float(fg.linalg.matrix_norm([[1.0, 2.0], [3.0, 4.0]], ord=1))
    6.0
    """
    x = floats(x)
    if x.ndim < 2:
        raise ShapeError(f"matrix_norm of {x.type}", "it holds no matrices", "Give a tensor of two or more axes.")
    last = (x.ndim - 2, x.ndim - 1)
    if ord == "fro":
        return vector_norm(x, axis=last, keepdims=keepdims)
    if ord in (1, -1, math.inf, -math.inf):
        sums = sum(absolute(x), axis=last[0 if math.isfinite(ord) else 1], keepdims=True)
        return (max if ord > 0 else min)(sums, axis=last, keepdims=keepdims)  # type: ignore[no-any-return]
    if ord not in ("nuc", 2, -2):
        raise UsageError(f"matrix_norm with ord={ord!r}", "there is no such norm", "fro, nuc, 1, -1, 2, -2, inf, -inf.")
    values = svdvals(x)
    found = {"nuc": sum, 2: max, -2: min}[ord](values, axis=-1)
    return expand_dims(found, last) if keepdims else found  # type: ignore[no-any-return]


def norm(tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors, where `axis` is None (all elements) or an int, or of matrices, where it is a pair of axes.

    >>> import flowgraph as fg
    >>> fg.norm([[3.0, 4.0], [0.0, 0.0]], axis=1).tolist()
    [5.0, 0.0]
    """
    x = convert(tensor)
    if not isinstance(axis, list | tuple):
        return vector_norm(x, axis=axis, keepdims=keepdims, ord=2 if ord in _EUCLIDEAN else ord)
    rows, columns = normal_axes(axis[:1], x.ndim) + normal_axes(axis[1:], x.ndim) if len(axis) == 2 else (None, None)
    if rows is None or columns is None or rows == columns:
        raise UsageError(
            f"norm over axis={axis}", "a matrix has two axes", "Name two different axes, or one as an int."
        )
    if ord in ("euclidean", "fro"):
        return vector_norm(x, axis=(rows, columns), keepdims=keepdims)
    rest = tuple(one for one in range(x.ndim) if one not in (rows, columns))
    found = matrix_norm(transpose(x, axes=(*rest, rows, columns)), ord=ord)
    return expand_dims(found, tuple(sorted((rows, columns)))) if keepdims else found


def matrix_rank(x: Any, /, *, rtol: Any = None) -> Tensor:
    """How many singular values of the matrices are above `rtol` times the largest (None: the precision times the size).

    `rtol` is a number or a tensor that is broadcast against the batch.

    >>> import flowgraph as fg
    >>> int(fg.linalg.matrix_rank([[1.0, 2.0], [2.0, 4.0]]))
    1
    """
    values = svdvals(x)
    if not values.shape[-1]:
        return sum(values, axis=-1).astype(np.int32)  # type: ignore[no-any-return]
    longest = np.max([length for length in convert(x).shape[-2:] if isinstance(length, int)])
    limit = checked_rtol(rtol)
    relative = float(longest * np.finfo(values.dtype).eps) if limit is None else limit
    if isinstance(relative, Tensor):
        relative = expand_dims(relative, -1)
    return sum(values > relative * max(values, axis=-1, keepdims=True), axis=-1)  # type: ignore[no-any-return]
