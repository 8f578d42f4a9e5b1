"""Order: where the largest is, sorting, places in a sorted list."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.op import Monoid, Op, define
from flowgraph.ops.gather import take_along_axis
from flowgraph.ops.picking import INDEX
from flowgraph.ops.scanning import whole_axis
from flowgraph.tensor import Tensor
from flowgraph.types import normal_axis, promote

__all__ = [
    "argmax",
    "argmin",
    "argsort",
    "searchsorted",
    "sort",
]


def check_order(dtype: np.dtype[Any], what: str) -> None:
    """Raise DTypeError for complex numbers."""
    if dtype.kind == "c":
        raise DTypeError(f"{what} of {dtype}", "complex numbers have no order", "Order their absolute values.")


def ordered_dtype(types: Any) -> Any:
    """The dtype of an operand whose elements have an order: any but the complex ones."""
    check_order(types[0].dtype, "the order")
    return (types[0].dtype,)


def _position_dtype(types: Any, attrs: Any) -> Any:
    return ordered_dtype(types), INDEX


# Where the largest is: a piece knows its best element, where that is, and how many elements it has.


def _best_attrs(x: Any, /, axis: Any = None, keepdims: bool = False) -> dict[str, Any]:
    at = None if axis is None else normal_axis(axis, x.ndim)
    if 0 in (x.shape if at is None else x.shape[at : at + 1]):
        raise ShapeError(f"the largest or smallest of {x}", "there is none", "Give a tensor with at least one element.")
    return {"axis": at, "keepdims": bool(keepdims)}


def _best_factors(types: Any, attrs: Any) -> str:
    """Over all axes only the first may be cut: positions count row by row."""
    axis, rank = attrs["axis"], types[0].ndim
    if axis is None:
        operand = [f"[a{k}]" if k else "a0" for k in range(rank)]
        result = ["1"] * rank if attrs["keepdims"] else []
    else:
        operand = [f"a{k}" for k in range(rank)]
        result = [("1" if attrs["keepdims"] else "") if k == axis else name for k, name in enumerate(operand)]
    return f"{' '.join(operand)} -> {' '.join(filter(None, result))}"


State = tuple[Any, Any, Any]


def _best(function: Any, x: Any, axis: int | None) -> State:
    places = np.asarray(function(x, axis=axis, keepdims=True))
    flat = x.reshape((-1,) if axis is None else x.shape)
    at = places.reshape(-1) if axis is None else places
    values = np.take_along_axis(flat, at, 0 if axis is None else axis).reshape(places.shape)
    return values, places.astype(INDEX), np.int64(x.size if axis is None else x.shape[axis])


def _merged(left: State, right: State, better: Any) -> State:
    with np.errstate(invalid="ignore"):
        later = better(right[0], left[0]) | ((right[0] != right[0]) & (left[0] == left[0]))  # nan is the best of all
    values = np.where(later, right[0], left[0])
    return values, np.where(later, right[1] + left[2], left[1]), left[2] + right[2]


def largest_partial(x: Any, axis: int | None) -> State:
    """(largest element, its place, number of elements) of a piece."""
    return _best(np.argmax, x, axis)


def smallest_partial(x: Any, axis: int | None) -> State:
    """(smallest element, its place, number of elements) of a piece."""
    return _best(np.argmin, x, axis)


def largest_merge(left: State, right: State) -> State:
    """The state of two neighbouring pieces; of equal elements the first counts."""
    return _merged(left, right, np.greater)


def smallest_merge(left: State, right: State) -> State:
    """The state of two neighbouring pieces; of equal elements the first counts."""
    return _merged(left, right, np.less)


def place_finish(state: State, axis: int | None, keepdims: bool) -> Any:
    """The place of the best element."""
    return state[1] if keepdims else np.squeeze(state[1], axis)


def _argmax(x: Any, axis: int | None, keepdims: bool) -> Any:
    return np.argmax(x, axis=axis, keepdims=keepdims)


def _argmin(x: Any, axis: int | None, keepdims: bool) -> Any:
    return np.argmin(x, axis=axis, keepdims=keepdims)


def _arg(name: str, kernel: Any, monoid: Monoid, word: str) -> Op:
    tied = np.array([[1.0, 3.0, 3.0], [3.0, 0.0, 1.0], [0.0, 0.0, 3.0]])
    return define(
        name,
        _best_factors,
        kernel,
        attrs=_best_attrs,
        dtype=_position_dtype,
        combine=monoid,
        gradient=lambda g, out, x: (None,),
        samples=lambda: [
            (((5, 4),), {}),
            (((5, 4),), {"axis": 0}),
            (((5, 4),), {"axis": -1, "keepdims": True}),
            (((5, 3, 2),), {"axis": 1}),
            (((3, 4),), {"keepdims": True}),
            (((),), {}),
            ((tied,), {}),
            ((tied,), {"axis": 0}),
            ((np.array([1.0, np.nan, 3.0, np.nan, 0.0]),), {}),
        ],
        doc=f"The place of the {word} element along `axis`, or in all elements row by row; of equal ones the first.",
    )


argmax = _arg("argmax", _argmax, Monoid(largest_partial, largest_merge, place_finish), "largest")
argmin = _arg("argmin", _argmin, Monoid(smallest_partial, smallest_merge, place_finish), "smallest")


# Sorting.


def _sort_attrs(x: Any, /, axis: int = -1, descending: bool = False, stable: bool = True) -> dict[str, Any]:
    return {"axis": normal_axis(axis, x.ndim), "descending": bool(descending), "stable": bool(stable)}


def _sort(x: Any, axis: int, descending: bool) -> Any:
    result = np.sort(x, axis, kind="stable")
    return np.flip(result, axis) if descending else result


def places_in_order(x: Any, axis: int, descending: bool) -> Any:
    """Places in order; in a descending one too, equal elements keep theirs."""
    if not descending:
        return np.argsort(x, axis, kind="stable")
    order = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    return x.shape[axis] - 1 - order


def _sort_gradient(g: Tensor, out: Tensor, x: Tensor, axis: int, descending: bool) -> Any:
    """The gradient of each element stands where the element went."""
    order = argsort(x, axis=axis, descending=descending)
    return (take_along_axis(g, argsort(order, axis=axis), axis=axis),)


def _sort_dtype(types: Any, attrs: Any) -> Any:
    return ordered_dtype(types), types[0].dtype


def _sort_samples() -> Any:
    return [
        (((5, 4),), {}),
        (((5, 4),), {"axis": 0}),
        (((5, 3, 2),), {"axis": 1, "descending": True}),
        (((5, 6),), {"descending": True, "stable": False}),
        (((3, 0),), {}),
        (((3, 1),), {}),
    ]


sort = define(
    "sort",
    whole_axis,
    _sort,
    attrs=_sort_attrs,
    dtype=_sort_dtype,
    gradient=_sort_gradient,
    flops=10,
    samples=_sort_samples,
    doc="x with the elements of each line along `axis` in order; nan stands behind all numbers.",
)
argsort = define(
    "argsort",
    whole_axis,
    places_in_order,
    attrs=_sort_attrs,
    dtype=_position_dtype,
    gradient=lambda g, out, x: (None,),
    flops=10,
    samples=lambda: [
        *_sort_samples(),
        ((np.array([[2.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 3.0]]),), {"descending": True}),
    ],
    doc="The places of the elements of each line along `axis`, in order; equal elements keep theirs.",
)


# Places in a sorted list.


LONG = 1 << 16
"""A sorted line of so many elements leaves the cache: it is walked from one end to the other, not jumped about in."""


def _search(x: Any, values: Any, side: Any) -> Any:
    if x.ndim == 1 and len(x) < LONG:
        return np.asarray(np.searchsorted(x, values, side), INDEX)
    if x.ndim == 1:  # measured: 2 times faster in a line of 100,000 elements, 4 times in 4 million
        wanted = values.reshape(-1)
        order, result = np.argsort(wanted), np.empty(wanted.shape, INDEX)
        result[order] = np.searchsorted(x, wanted[order], side)
        return result.reshape(values.shape)
    count = math.prod(x.shape[:-1])
    lines, wanted = x.reshape(count, x.shape[-1]), values.reshape(count, values.shape[-1])
    result = np.empty(wanted.shape, INDEX)
    for number, line in enumerate(lines):
        result[number] = np.searchsorted(line, wanted[number], side)
    return result.reshape(values.shape)


def _search_factors(types: Any, attrs: Any) -> str:
    x, values = types
    if x.ndim == 1:
        names = " ".join(f"i{k}" for k in range(values.ndim))
        return f"[n], {names} -> {names}"
    batch = " ".join(f"b{k}" for k in range(x.ndim - 1))
    return f"{batch} [n], {batch} i -> {batch} i"


def _search_attrs(x: Any, values: Any, /, side: str = "left") -> dict[str, Any]:
    if side not in ("left", "right"):
        raise UsageError(f"searchsorted with side={side!r}", "there is none of that name", "'left' or 'right'.")
    if x.ndim == 0 or (x.ndim > 1 and x.ndim != values.ndim):
        raise ShapeError(
            f"searchsorted of {values} in {x}", "there is not one sorted line, nor one for each", "Give a vector."
        )
    return {"side": side}


def _search_dtype(types: Any, attrs: Any) -> Any:
    common = promote(types[0].dtype, types[1].dtype)
    return (common, common), INDEX


search_op = define(
    "searchsorted",
    _search_factors,
    _search,
    attrs=_search_attrs,
    dtype=_search_dtype,
    gradient=lambda g, out, x, values: (None, None),
    flops=20,
    samples=lambda: [
        ((np.array([-1.0, 0.0, 0.0, 1.0]), (5, 3)), {}),
        ((np.array([-1.0, 0.0, 0.0, 1.0]), np.array([0.0, -1.0, 2.0])), {"side": "right"}),
        ((np.array([[-1.0, 0.0, 1.0], [0.0, 0.5, 0.5]]), (2, 4)), {"side": "right"}),
        ((np.zeros((0,)), (3,)), {}),
    ],
    doc="For each of the values, the place in a sorted line where it would stand.",
)


def searchsorted(x1: Any, x2: Any, side: str = "left", sorter: Any = None) -> Tensor:
    """For each element of `x2` its place in the sorted `x1`: before equal ones, or behind them with side="right".

    `x1` is a vector, or has as many lines as `x2`. `sorter` are the places that bring it in order.

    >>> import flowgraph as fg
    >>> fg.searchsorted(fg.constant([1, 3, 5]), [3, 4]).tolist()
    [1, 2]
    """
    lines = convert(x1) if sorter is None else take_along_axis(x1, sorter, axis=-1)
    check_order(promote(lines.dtype, convert(x2).dtype), "places in order")
    return search_op(lines, x2, side=side)  # type: ignore[no-any-return]
