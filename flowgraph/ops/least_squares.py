"""Pseudo-inverses and least squares, of the matrices in the last two axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops.linalg import adjoint
from flowgraph.ops.solvers import identity_matrix, lapack_dtype, same_dtype, solve, well_posed
from flowgraph.tensor import Tensor
from flowgraph.types import real_dtype

Array = np.ndarray[Any, Any]

__all__: list[str] = []


def _pinv(x: Array, rtol: float | None) -> Array:
    cut = max(x.shape[-2:]) * np.finfo(x.dtype).eps if rtol is None else rtol
    return np.linalg.pinv(x, rtol=cut)


def checked_rtol(rtol: Any) -> float | Tensor | None:
    """`rtol` as a number from 0 on, as a tensor with one for each matrix of a batch, or None."""
    if rtol is None:
        return None
    if isinstance(rtol, bool) or (isinstance(rtol, int | float) and not rtol >= 0):
        raise UsageError(f"rtol={rtol!r}", "it is a relative tolerance", "Give a number from 0 on, or None.")
    if isinstance(rtol, int | float):
        return float(rtol)
    limits = convert(rtol)
    if limits.dtype.kind not in "iuf":
        raise DTypeError(f"rtol of {limits.dtype}", "a relative tolerance is a real number", "Give numbers from 0 on.")
    return limits


def _pinv_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    """Golub and Pereyra (1973), for matrices whose rank does not change."""
    p, ph, gh = out, adjoint(out), adjoint(g)
    rows = gh @ p @ ph  # (I - x p) rows + columns (I - p x), without the two projections as matrices
    columns = ph @ p @ gh
    return (rows - x @ (p @ rows) + columns - (columns @ p) @ x - ph @ g @ ph,)


pinv_op: Op = define(
    "pinv",
    "... [m] [n] -> ... [n] [m]",
    _pinv,
    attrs=lambda x, /, *, rtol=None: {"rtol": rtol},
    dtype=same_dtype,
    gradient=_pinv_gradient,
    flops=20,
    samples=lambda: (
        [((x,), {}) for x in well_posed((3, 3), (4, 2), (5, 2, 4), (0, 2, 3), (3, 0), (1, 1))]
        + [((well_posed((4, 3))[0],), {"rtol": 0.1})]
    ),
    doc="The pseudo-inverses of matrices; singular values up to `rtol` times the largest count as 0.",
)


def _pinv_within(x: Array, rtol: Array) -> Array:
    # numpy scales the inverses of singular values in place, so the batch must have its final shape before.
    batch = np.broadcast_shapes(x.shape[:-2], rtol.shape)
    return np.linalg.pinv(np.broadcast_to(x, (*batch, *x.shape[-2:])), rtol=rtol)


def _with_limits(types: Any, attrs: Any) -> Any:
    common = lapack_dtype(types[:1])
    return (common, real_dtype(common)), common


pinv_within: Op = define(
    "pinv_within",
    "... [m] [n], ... -> ... [n] [m]",
    _pinv_within,
    dtype=_with_limits,
    gradient=lambda g, out, x, rtol: (*_pinv_gradient(g, out, x), None),
    flops=20,
    samples=lambda: [
        ((well_posed(shape)[0], limits), {})
        for shape, limits in (
            ((3, 3), np.array(0.1)),
            ((5, 2, 4), np.array([0.0, 0.1, 0.2, 0.01, 0.1])),
            ((2, 3), np.array([[0.1], [0.2]])),
            ((1, 4, 2), np.array([0.1, 0.0, 0.2])),
            ((0, 2, 3), np.zeros(0)),
            ((3, 0), np.array([0.1])),
        )
    ],
    doc="The pseudo-inverses of matrices; singular values up to `rtol`, one for each matrix, times the largest are 0.",
)


def pinv(x: Any, /, *, rtol: Any = None) -> Tensor:
    """The pseudo-inverses of matrices; singular values up to `rtol` times the largest count as 0.

    `rtol` is a number or a tensor that is broadcast against the batch. None stands for the precision of the elements
    times the longer side.

    >>> import flowgraph as fg
    >>> fg.linalg.pinv([[2.0, 0.0], [0.0, 1.0]], rtol=[0.1, 0.7]).tolist()
    [[[0.5, 0.0], [0.0, 1.0]], [[0.5, 0.0], [0.0, 0.0]]]
    """
    limit = checked_rtol(rtol)
    found: Tensor = pinv_within(x, limit) if isinstance(limit, Tensor) else pinv_op(x, rtol=limit)
    return found


def lstsq(matrix: Any, rhs: Any, l2_regularizer: float = 0.0) -> Tensor:
    """The solutions of matrix @ solution = rhs with the least squared error; the shortest where there are several.

    With `l2_regularizer` the squared length of the solution, times that number, is added to the error. Then the normal
    equations are solved, for which rows may lie in many pieces; otherwise the pseudo-inverse needs the whole matrix.

    >>> import flowgraph as fg
    >>> fg.linalg.lstsq([[1.0], [1.0]], [[1.0], [3.0]]).tolist()
    [[2.0]]
    """
    a, b = convert(matrix), convert(rhs)
    common = lapack_dtype([a.type, b.type])
    a, b = (one if one.dtype == common else one.astype(common) for one in (a, b))
    if a.ndim < 2 or b.ndim < 2:
        raise ShapeError(f"lstsq of {a.type} and {b.type}", "they are no matrices", "Give two axes or more to both.")
    if not l2_regularizer:
        return pinv(a) @ b
    return solve(adjoint(a) @ a + l2_regularizer * identity_matrix(a.shape[-1], a.dtype), adjoint(a) @ b)  # type: ignore[no-any-return]
