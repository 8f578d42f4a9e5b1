"""What depends on values for its shape, and is computed when it is called: unique elements, places that are not 0.

Unique elements of cut rows are found piece by piece, and those of neighbouring pieces merge in a tree: rows are never
gathered, and no more is held than what differs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from flowgraph.apply import convert
from flowgraph.context import Hooks
from flowgraph.errors import ShapeError, UsageError
from flowgraph.graph import ITEM, make_node
from flowgraph.op import Monoid, Op
from flowgraph.ops.comparison import equal
from flowgraph.ops.create import arange
from flowgraph.ops.elementwise import minimum, where
from flowgraph.ops.gather import take
from flowgraph.ops.picking import INDEX
from flowgraph.ops.shape import reshape
from flowgraph.ops.sorting import search_op
from flowgraph.tensor import Tensor
from flowgraph.types import Dim

__all__ = [
    "nonzero",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]


class UniqueAll(NamedTuple):
    """The unique elements, and all about them."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """The unique elements, and how often each occurs."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """The unique elements, and for each element its place among them."""

    values: Tensor
    inverse_indices: Tensor


def _known(x: Tensor, what: str) -> Tensor:
    """`x`, on whose value the shape of the result depends."""
    if x.node.symbolic:
        raise UsageError(
            f"{what} of {x.type} while a function is being traced",
            "the length of the result is not known until the function runs",
            "Use `fg.where` for a choice element by element, or call it outside of the function.",
        )
    return x


# Unique elements: a piece knows them in order, where each occurs first, how often, and how long the piece is.


State = tuple[Any, Any, Any, Any]
_LENGTH = Dim("distinct")


def _grouped(order: Any, values: Any, first: Any, counts: Any) -> tuple[Any, Any, Any]:
    """In `order`, equal elements as one: the first of them, and the sum of their counts. A nan is equal to nothing."""
    ordered = values[order]
    differs = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], differs[1:])
    starts = np.flatnonzero(differs)
    return ordered[starts], first[order[starts]], np.add.reduceat(counts[order], starts)


def _distinct(x: Any) -> tuple[Any, Any, Any]:
    order = np.argsort(x, kind="stable")
    return _grouped(order, x, np.arange(len(x), dtype=INDEX), np.ones(len(x), INDEX))


def distinct_partial(x: Any) -> State:
    """The state of one piece."""
    return *_distinct(x), np.int64(len(x))


def distinct_merge(left: State, right: State) -> State:
    """The state of two neighbouring pieces: of equal elements those on the left come first."""
    some, more = len(left[0]), len(right[0])
    places = np.searchsorted(left[0], right[0], side="right") + np.arange(more)
    of_left = np.ones(some + more, np.bool_)
    of_left[places] = False
    order = np.empty(some + more, INDEX)
    order[of_left], order[places] = np.arange(some), np.arange(some, some + more)
    parts = ((left[0], right[0]), (left[1], right[1] + left[3]), (left[2], right[2]))
    return *_grouped(order, *map(np.concatenate, parts)), left[3] + right[3]


def distinct_finish(state: State) -> tuple[Any, Any, Any]:
    """The unique elements in order, where each occurs first, how often."""
    return state[:3]


DISTINCT = Op(
    "distinct",
    "n -> [u], [u], [u]",
    _distinct,
    attrs=lambda x, /, *, shape=None: {"shape": (_LENGTH,)},
    dtype=lambda types, attrs: ((types[0].dtype,), (types[0].dtype, INDEX, INDEX)),
    combine=Monoid(distinct_partial, distinct_merge, distinct_finish),
    doc="The unique elements of a vector in order, where each occurs first, how often.",
)
"""No op of the table: how long its results are shows when they are computed, so only `_found` makes its nodes."""


def _found(x: Tensor) -> list[Any]:
    """The unique elements of `x`, where each occurs first in all elements row by row, how often."""
    _known(x, "the unique elements")
    node = make_node(DISTINCT, (reshape(x, (-1,)).node,))
    items = [make_node(ITEM, (node,), (("index", number),)) for number in range(len(node.types))]
    Hooks.evaluate(items)
    return [item.memo for item in items]


def _inverse(x: Tensor, values: Any, first: Any) -> Tensor:
    """For each element of `x` its place among its unique elements. Each nan is found by where it stands."""
    place = search_op(values, x)
    numbers = len(values) - int(np.count_nonzero(np.isnan(values)))
    if numbers == len(values):
        return place  # type: ignore[no-any-return]
    order = np.argsort(first[numbers:])
    at = search_op(first[numbers:][order], _numbered(x.shape))
    return where(equal(x, x), place, take(order + numbers, minimum(at, len(order) - 1)))  # type: ignore[no-any-return]


def _numbered(shape: Any) -> Tensor:
    """The number of each element, row by row; of the rows in this shape, so that they are cut as those of the data."""
    if not shape:
        return arange(1, dtype=INDEX)[0]
    inner = math.prod(shape[1:])
    rows = reshape(arange(shape[0], dtype=INDEX), (shape[0], *(1,) * (len(shape) - 1)))
    return rows * inner + np.arange(inner).reshape(shape[1:])  # type: ignore[no-any-return]


def unique_all(x: Any) -> UniqueAll:
    """The unique elements of `x` in order, where each occurs first, which of them each element is, and how often.

    The elements are computed to see how many there are, and which of them each element is when that is asked for. The
    gradient of a unique element is that of its first place. Each nan is an element of its own.

    >>> import flowgraph as fg
    >>> [one.tolist() for one in fg.unique_all(fg.constant([3, 1, 3]))]
    [[1, 3], [1, 0], [1, 0, 1], [1, 2]]
    """
    x = convert(x)
    found, first, counts = _found(x)
    values = take(reshape(x, (-1,)), first)
    values.node.memo = found  # known already; the node is there for its gradient
    return UniqueAll(values, convert(first), _inverse(x, found, first), convert(counts))


def unique_counts(x: Any) -> UniqueCounts:
    """The unique elements of `x` in order, and how often each occurs; see `unique_all`.

    >>> import flowgraph as fg
    >>> fg.unique_counts(fg.constant([3, 1, 3])).counts.tolist()
    [1, 2]
    """
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Any) -> UniqueInverse:
    """The unique elements of `x` in order, and which of them each element is; see `unique_all`.

    >>> import flowgraph as fg
    >>> fg.unique_inverse(fg.constant([3, 1, 3])).inverse_indices.tolist()
    [1, 0, 1]
    """
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Any) -> Tensor:
    """The unique elements of `x` in order; see `unique_all`.

    >>> import flowgraph as fg
    >>> fg.unique_values(fg.constant([3, 1, 3])).tolist()
    [1, 3]
    """
    return unique_all(x).values


def nonzero(x: Any) -> tuple[Tensor, ...]:
    """The places of the elements that are not 0, one tensor for each axis; `x` is computed to see how many they are.

    >>> import flowgraph as fg
    >>> [one.tolist() for one in fg.nonzero(fg.constant([0, 7, 7]))]
    [[1, 2]]
    """
    x = convert(x)
    if not x.ndim:
        raise ShapeError("nonzero of a scalar", "it has no axes along which to count", "Use `x != 0`.")
    return tuple(convert(one) for one in np.nonzero(_known(x, "the elements that are not 0").numpy()))
