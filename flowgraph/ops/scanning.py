"""Scans: running sums and products along an axis, and differences of neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Carry, Monoid, Op, define
from flowgraph.ops.complex import conj
from flowgraph.ops.shape import concat
from flowgraph.tensor import Tensor
from flowgraph.types import DEFAULT_INT, Dim, Size, affine, as_dtype, normal_axis, whole

__all__ = [
    "cumprod",
    "cumsum",
    "cumulative_prod",
    "cumulative_sum",
    "diff",
]


def whole_axis(types: Any, attrs: Any) -> str:
    """The factor string of what works along one `axis`: that one stays whole, and all others may be cut."""
    names = [f"[a{axis}]" if axis == attrs["axis"] else f"a{axis}" for axis in range(types[0].ndim)]
    return f"{', '.join([' '.join(names)] * len(types))} -> {' '.join(names)}"


def running_axis(types: Any, attrs: Any) -> str:
    """The factor string of what runs along one `axis`, from piece to piece."""
    return whole_axis(types, attrs).replace("[", "{").replace("]", "}")


def summed_dtype(types: Any, attrs: Any) -> Any:
    """`dtype` if given, else the Array API's rule: small integers are summed as wide as the default integer."""
    dtype = attrs.get("dtype", types[0].dtype)
    if "dtype" not in attrs and dtype.kind in "bi" and dtype.itemsize < DEFAULT_INT.itemsize:
        dtype = DEFAULT_INT
    elif "dtype" not in attrs and dtype.kind == "u" and dtype.itemsize < DEFAULT_INT.itemsize:
        dtype = np.dtype(np.uint32)
    return (dtype,), dtype


def longer(length: Size, by: int) -> Size:
    """`length` + `by`, where the length may be unknown."""
    return affine(length.base, length.times, length.plus + by) if isinstance(length, Dim) else length + by


def along(axis: int, part: slice) -> tuple[slice, ...]:
    """The key of `part` of one axis and all of the others."""
    return (*(slice(None),) * axis, part)


def _scan_attrs(
    x: Any,
    /,
    axis: Any = None,
    dtype: Any = None,
    include_initial: bool = False,
    exclusive: bool = False,
    reverse: bool = False,
    *,
    shape: Any = None,
) -> dict[str, Any]:
    if axis is None and x.ndim != 1:
        raise UsageError(f"a scan of {x}", "which axis is meant is not said", "Give axis=.")
    if include_initial and exclusive:
        raise UsageError("include_initial and exclusive", "the two contradict each other", "Choose one of them.")
    at = normal_axis(0 if axis is None else axis, x.ndim)
    length = longer(x.shape[at], 1) if include_initial else x.shape[at]
    attrs = {
        "axis": at,
        "include_initial": bool(include_initial),
        "exclusive": bool(exclusive),
        "reverse": bool(reverse),
        "shape": (*x.shape[:at], length, *x.shape[at + 1 :]),
    }
    return attrs if dtype is None else attrs | {"dtype": as_dtype(dtype)}


def _scan_factors(types: Any, attrs: Any) -> str:
    if not attrs["include_initial"]:
        return running_axis(types, attrs)
    operand, _, result = whole_axis(types, attrs).partition(" -> ")
    return f"{operand} -> {result.replace('[', '[n')}"


def _scan(
    ufunc: np.ufunc, x: Any, axis: int, include_initial: bool, exclusive: bool, reverse: bool, before: Any
) -> Any:
    count, more = x.shape[axis], include_initial or exclusive
    result = np.empty((*x.shape[:axis], count + more, *x.shape[axis + 1 :]), x.dtype)
    lines, inner = (x[along(axis, _BACK)], result[along(axis, _BACK)]) if reverse else (x, result)
    if more:
        inner[along(axis, slice(1))] = ufunc.identity
    ufunc.accumulate(lines, axis, x.dtype, inner[along(axis, slice(int(more), None))])
    if before is not None and len(before):
        ufunc(result, before[0], result)
    if not exclusive:
        return result
    return result[along(axis, slice(1, None) if reverse else slice(count))]


_BACK = slice(None, None, -1)


def _cumulative_sum(
    x: Any, axis: int, include_initial: bool, exclusive: bool, reverse: bool, before: Any = None
) -> Any:
    return _scan(np.add, x, axis, include_initial, exclusive, reverse, before)


def _cumulative_prod(
    x: Any, axis: int, include_initial: bool, exclusive: bool, reverse: bool, before: Any = None
) -> Any:
    return _scan(np.multiply, x, axis, include_initial, exclusive, reverse, before)


# Along an axis that is cut every tile hands on what it adds up to, and starts from what those before it came to.


def joined(left: tuple[Any, ...], right: tuple[Any, ...]) -> tuple[Any, ...]:
    """What neighbouring pieces hand on, one after the other."""
    return tuple([np.concatenate(pair) for pair in zip(left, right, strict=True)])


def sum_carry(x: Any, axis: int) -> tuple[Any]:
    """The sum of a piece."""
    return (np.add.reduce(x, axis, x.dtype, keepdims=True)[None],)


def prod_carry(x: Any, axis: int) -> tuple[Any]:
    """The product of a piece."""
    return (np.multiply.reduce(x, axis, x.dtype, keepdims=True)[None],)


def _entering(ufunc: np.ufunc, totals: Any, reverse: bool) -> Any:
    if reverse:
        return ufunc.accumulate(totals[:0:-1], 0, totals.dtype)[::-1]
    return ufunc.accumulate(totals[:-1], 0, totals.dtype)


def sum_entering(state: tuple[Any], reverse: bool) -> Any:
    """The sums of all pieces before each but the first."""
    return _entering(np.add, state[0], reverse)


def prod_entering(state: tuple[Any], reverse: bool) -> Any:
    """The products of all pieces before each but the first."""
    return _entering(np.multiply, state[0], reverse)


def _is_reversed(attrs: Any) -> bool:
    return bool(attrs["reverse"])


def _sum_gradient(
    g: Tensor, out: Tensor, x: Tensor, axis: int, include_initial: bool, exclusive: bool, reverse: bool
) -> Any:
    if include_initial:  # the sum of nothing, at the end where the scan began, depends on nothing
        g = g[along(axis, slice(None, -1) if reverse else slice(1, None))]
    return (cumulative_sum(g, axis=axis, exclusive=exclusive, reverse=not reverse),)


def _prod_gradient(
    g: Tensor, out: Tensor, x: Tensor, axis: int, include_initial: bool, exclusive: bool, reverse: bool
) -> Any:
    """Without a division, so that zeros do no harm.

    With p_i = x_0 ... x_i the gradient of x_k is p_{k-1} s_k, where s_k = g_k + x_{k+1} s_{k+1}; of complex numbers
    these are the conjugates.
    """
    x = conj(x)
    back = along(axis, slice(None, None, -1))
    if reverse:
        g, x = g[back], x[back]
    if include_initial:
        g = g[along(axis, slice(1, None))]
    elif exclusive:
        g = shift(g, axis=axis, by=-1)
    share = cumulative_prod(x, axis=axis, exclusive=True) * recurrence(x, g, axis=axis, backward=True)
    return (share[back] if reverse else share,)


def _scan_samples() -> Any:
    return [
        (((5,),), {}),
        (((5, 4),), {"axis": 0}),
        (((5, 4),), {"axis": -1, "exclusive": True}),
        (((5, 3),), {"axis": 1, "reverse": True}),
        (((5, 3),), {"axis": 1, "include_initial": True}),
        (((4, 3),), {"axis": 0, "include_initial": True, "reverse": True}),
        (((5, 3, 2),), {"axis": 1, "exclusive": True, "reverse": True}),
        (((3, 0),), {"axis": 1, "exclusive": True}),
        (((0, 3),), {"axis": 1}),
        (((3, 1),), {"axis": 1}),
    ]


cumulative_sum: Op = define(
    "cumulative_sum",
    _scan_factors,
    _cumulative_sum,
    attrs=_scan_attrs,
    dtype=summed_dtype,
    carry=Carry(Monoid(sum_carry, joined, sum_entering), _is_reversed),
    gradient=_sum_gradient,
    samples=_scan_samples,
    doc=(
        "The sums of the elements up to each one along `axis`; with `include_initial` a 0 comes first, with "
        "`exclusive` each sum ends before the element, with `reverse` they run from the end."
    ),
)
cumulative_prod: Op = define(
    "cumulative_prod",
    _scan_factors,
    _cumulative_prod,
    attrs=_scan_attrs,
    dtype=summed_dtype,
    carry=Carry(Monoid(prod_carry, joined, prod_entering), _is_reversed),
    gradient=_prod_gradient,
    samples=lambda: [
        *_scan_samples(),
        ((np.array([[2.0, 0.0, 3.0, 0.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0]]),), {"axis": 1}),
    ],
    doc=(
        "The products of the elements up to each one along `axis`; with `include_initial` a 1 comes first, with "
        "`exclusive` each product ends before the element, with `reverse` they run from the end."
    ),
)


def cumsum(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """The running sums along `axis`: TensorFlow's name for `cumulative_sum`.

    >>> import flowgraph as fg
    >>> fg.cumsum(fg.constant([1, 2, 3]), exclusive=True).tolist()
    [0, 1, 3]
    """
    return cumulative_sum(x, axis=axis, exclusive=exclusive, reverse=reverse)  # type: ignore[no-any-return]


def cumprod(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """The running products along `axis`: TensorFlow's name for `cumulative_prod`.

    >>> import flowgraph as fg
    >>> fg.cumprod(fg.constant([1, 2, 3]), reverse=True).tolist()
    [6, 6, 3]
    """
    return cumulative_prod(x, axis=axis, exclusive=exclusive, reverse=reverse)  # type: ignore[no-any-return]


def diff(x: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """The differences of neighbours along `axis`, taken `n` times, after `prepend` and `append` were joined to x.

    >>> import flowgraph as fg
    >>> fg.diff(fg.constant([1, 4, 9]), prepend=[0]).tolist()
    [1, 3, 5]
    """
    given = convert(x)
    at = normal_axis(axis, given.ndim)
    if whole(n, "the n of diff", 0) == 0:
        return given
    ends = [None if one is None else convert(one) for one in (prepend, append)]
    for one in ends:
        if one is not None and one.ndim != given.ndim:
            raise ShapeError(
                f"diff of {given.type} joined to {one.type}", "they differ in their number of axes", "Reshape it first."
            )
    parts = [one for one in (ends[0], given, ends[1]) if one is not None]
    result = concat(parts, axis=at) if len(parts) > 1 else given
    for _ in range(n):
        result = result[along(at, slice(1, None))] - result[along(at, slice(None, -1))]
    return result


# What the gradients of products are made of.


def _recurrence(a: Any, b: Any, axis: int, backward: bool, before: Any = None) -> Any:
    factors, result = np.moveaxis(a, axis, 0), np.array(np.moveaxis(b, axis, 0), order="C")
    if before is not None and len(before) and len(result):
        if backward:
            result[-1] += before[0]
        else:
            result[0] += factors[0] * before[0]
    steps = range(len(result) - 2, -1, -1) if backward else range(1, len(result))
    for k in steps:
        result[k] += factors[k + 1] * result[k + 1] if backward else factors[k] * result[k - 1]
    return np.moveaxis(result, 0, axis)


def recurrence_carry(a: Any, b: Any, axis: int, backward: bool) -> tuple[Any, Any]:
    """(the product of a, what leaves a piece that nothing enters); backwards, a[0] s[0] leaves."""
    result = np.moveaxis(_recurrence(a, b, axis, backward), axis, 0)
    leaves = np.moveaxis(a, axis, 0)[0] * result[0] if backward else result[-1]
    return np.multiply.reduce(a, axis, a.dtype)[None], leaves[None]


def recurrence_entering(state: tuple[Any, Any], backward: bool) -> Any:
    """What enters each piece but the first: what leaves the one before, with what entered that carried through."""
    factors, leaves = state
    if backward:
        return _recurrence(factors[:0:-1], leaves[:0:-1], 0, False)[::-1]
    return _recurrence(factors[:-1], leaves[:-1], 0, False)


def _recurrence_gradient(g: Tensor, out: Tensor, a: Tensor, b: Tensor, axis: int, backward: bool) -> Any:
    share, out = recurrence(conj(a), g, axis=axis, backward=not backward), conj(out)
    pair = (share, out) if not backward else (out, share)
    return (lambda: pair[0] * shift(pair[1], axis=axis, by=1), share)


recurrence: Op = define(
    "recurrence",
    running_axis,
    _recurrence,
    carry=Carry(Monoid(recurrence_carry, joined, recurrence_entering), lambda attrs: bool(attrs["backward"])),
    attrs=lambda a, b, /, axis, backward=False: {"axis": normal_axis(axis, a.ndim), "backward": bool(backward)},
    gradient=_recurrence_gradient,
    flops=2,
    samples=lambda: [
        (((5,), (5,)), {"axis": 0}),
        (((4, 5), (4, 5)), {"axis": 1, "backward": True}),
        (((5, 3), (5, 3)), {"axis": 0, "backward": True}),
        (((3, 1), (3, 1)), {"axis": 1}),
        (((3, 0), (3, 0)), {"axis": 1}),
    ],
    doc="s with s[k] = b[k] + a[k] s[k-1] along `axis`; with `backward`, s[k] = b[k] + a[k+1] s[k+1].",
)


def _in_direction(x: Any, axis: int, by: int) -> Any:
    rows = np.moveaxis(x, axis, 0)
    return rows[::-1] if by < 0 else rows


def _shift(x: Any, axis: int, by: int, before: Any = None) -> Any:
    result, count = np.zeros_like(x, order="C"), abs(by)
    rows, moved = _in_direction(x, axis, by), _in_direction(result, axis, by)
    moved[count:] = rows[: max(len(rows) - count, 0)]
    if before is not None and len(before):
        moved[:count] = before[0][: len(rows)]
    return result


def shift_carry(x: Any, axis: int, by: int) -> tuple[Any, Any]:
    """(the last rows of a piece, behind zeros where it has fewer than are wanted; how many it has)."""
    rows = _in_direction(x, axis, by)
    own = min(len(rows), abs(by))
    last = np.zeros((1, abs(by), *rows.shape[1:]), x.dtype)
    last[0, abs(by) - own :] = rows[len(rows) - own :]
    return last, np.array([own])


def shift_entering(state: tuple[Any, Any], by: int) -> Any:
    """The last rows of all pieces before each but the first."""
    last, own = (one[::-1] if by < 0 else one for one in state)
    result = last[:-1].copy()
    for k in range(1, len(result)):
        result[k, : abs(by) - own[k]] = result[k - 1, own[k] :]
    return result[::-1] if by < 0 else result


shift: Op = define(
    "shift",
    running_axis,
    _shift,
    carry=Carry(Monoid(shift_carry, joined, shift_entering), lambda attrs: bool(attrs["by"] < 0)),
    attrs=lambda x, /, axis, by: {"axis": normal_axis(axis, x.ndim), "by": by},
    dtype="keep",
    gradient=lambda g, out, x, axis, by: (shift(g, axis=axis, by=-by),),
    flops=0,
    samples=lambda: [
        (((5, 3),), {"axis": 0, "by": 1}),
        (((5, 3),), {"axis": 1, "by": -2}),
        (((2,),), {"axis": 0, "by": 3}),
    ],
    doc="x moved by some places along `axis`, with zeros where nothing comes from.",
)
