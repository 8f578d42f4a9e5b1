"""What depends on values for its shape, and is computed when it is called: unique elements, places that are not 0."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import ShapeError, UsageError
from flowgraph.ops.gather import take
from flowgraph.ops.shape import reshape
from flowgraph.tensor import Tensor

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


def _computed(x: Tensor, what: str) -> Any:
    """The value of `x`, on which the shape of the result depends."""
    if x.node.symbolic:
        raise UsageError(
            f"{what} of {x.type} while a function is being traced",
            "the length of the result is not known until the function runs",
            "Use `fg.where` for a choice element by element, or call it outside of the function.",
        )
    return x.numpy()


def unique_all(x: Any) -> UniqueAll:
    """The unique elements of `x` in order, where each occurs first, which of them each element is, and how often.

    The elements are computed to see how many there are; the gradient of a unique element is that of its first place.
    Each nan is an element of its own.

    >>> import flowgraph as fg
    >>> [one.tolist() for one in fg.unique_all(fg.constant([3, 1, 3]))]
    [[1, 3], [1, 0], [1, 0, 1], [1, 2]]
    """
    x = convert(x)
    found = np.unique_all(_computed(x, "the unique elements"))
    values = take(reshape(x, (-1,)), found.indices)
    return UniqueAll(values, *map(convert, (found.indices, found.inverse_indices, found.counts)))


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
    return tuple(convert(one) for one in np.nonzero(_computed(x, "the elements that are not 0")))
