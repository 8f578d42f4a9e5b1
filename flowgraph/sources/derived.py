"""Parts of sources: a slice of rows, or rows with zeros around them, taken where the rows come from.

A derived source holds no data. It is asked for an interval like any source, and asks the one below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from flowgraph.sources.rows import Array, Held, pieces, resolve, type_of
from flowgraph.types import TensorType, tensor_type


class Slice(NamedTuple):
    """Every `step`-th element from start to stop along `axis`, as Python slices count."""

    axis: int
    start: int | None
    stop: int | None
    step: int | None

    def span(self, length: int) -> range:
        """The places that are taken of `length`."""
        return range(*slice(self.start, self.stop, self.step).indices(length))

    def length(self, length: int) -> int:
        """How many elements are taken of `length`."""
        return len(self.span(length))


class Pad(NamedTuple):
    """Zeros before and behind, along `axis`."""

    axis: int
    before: int
    behind: int

    def length(self, length: int) -> int:
        """How many elements there are with the zeros."""
        return self.before + length + self.behind


Part = Slice | Pad


@dataclass(frozen=True, slots=True)
class ZeroPiece:
    """Zeros that are made where they are needed."""

    shape: tuple[int, ...]
    dtype: Any

    def array(self) -> Array:
        """The zeros, without memory of their own."""
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)


@dataclass(frozen=True, slots=True)
class EveryPiece:
    """Every `step`-th element of a piece along `axis`, from `first` on; backwards if `step` is negative."""

    inner: Any
    axis: int
    first: int
    step: int

    def array(self) -> Array:
        """A view of the elements."""
        return resolve(self.inner)[(slice(None),) * self.axis + (slice(self.first, None, self.step),)]


def _length(piece: Any, axis: int) -> int:
    """How many elements a piece has."""
    if isinstance(piece, np.ndarray | ZeroPiece):
        return piece.shape[axis]
    if isinstance(piece, EveryPiece):
        length = _length(piece.inner, axis)
        return len(range(piece.first, length if piece.step > 0 else -1, piece.step))
    return piece.stop - piece.start  # type: ignore[no-any-return]


def _every(found: Sequence[Any], axis: int, step: int) -> list[Any]:
    """Every `step`-th element of pieces that lie one after the other, from the first of all (or the last) on."""
    result: list[Any] = []
    skip = 0
    for piece in found if step > 0 else reversed(found):
        length = _length(piece, axis)
        if skip < length:
            result.append(EveryPiece(piece, axis, skip if step > 0 else length - 1 - skip, step))
        skip = (skip - length) % abs(step) if skip < length else skip - length
    return result


class Derived:
    """A part of an array or a source."""

    chunks: tuple[int, ...] = ()

    def __init__(self, below: Any, part: Part) -> None:
        self.below, self.part = below, part
        of = type_of(below)
        self._length: int = of.shape[part.axis]  # type: ignore[assignment]
        shape = (*of.shape[: part.axis], part.length(self._length), *of.shape[part.axis + 1 :])
        self._type = tensor_type(shape, of.dtype)
        self._joined: Held | None = None

    @property
    def type(self) -> TensorType:
        """The type of the part."""
        return self._type

    @property
    def shape(self) -> Any:
        """The shape of the part."""
        return self._type.shape

    def pieces(self, start: int, stop: int, axis: int) -> list[Any]:
        """The pieces of the elements start to stop; along another axis than that of the part it is made whole."""
        if axis != self.part.axis:
            if self._joined is None:
                self._joined = Held(np.asarray(self))
            return self._joined.pieces(start, stop, axis)
        if isinstance(self.part, Slice):
            return self._slice(self.part, start, stop)
        return self._padded(self.part, start, stop)

    def _slice(self, part: Slice, start: int, stop: int) -> list[Any]:
        span = part.span(self._length)[start:stop]
        if not span:
            return pieces(self.below, 0, 0, part.axis)
        low, high = min(span[0], span[-1]), max(span[0], span[-1]) + 1
        found = pieces(self.below, low, high, part.axis)
        return found if span.step == 1 else _every(found, part.axis, span.step)

    def _padded(self, part: Pad, start: int, stop: int) -> list[Any]:
        first, last = part.before, part.before + self._length
        found: list[Any] = []
        low, high = max(start, first), min(stop, last)
        if start < first:
            found.append(self._zeros(min(stop, first) - start))
        if low < high:
            found += pieces(self.below, low - first, high - first, part.axis)
        if stop > last:
            found.append(self._zeros(stop - max(start, last)))
        return found or [self._zeros(0)]

    def _zeros(self, count: int) -> ZeroPiece:
        axis = self.part.axis
        return ZeroPiece((*self.shape[:axis], count, *self.shape[axis + 1 :]), self._type.dtype)

    def whole(self) -> list[Any]:
        """The pieces of all, which are joined along the first axis."""
        if self.part.axis:
            return [np.asarray(self)]
        return self.pieces(0, self.shape[0], 0)

    def tasks(self) -> Mapping[Any, Any]:
        """The tasks of the source below."""
        return {} if isinstance(self.below, np.ndarray) else self.below.tasks()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        axis = self.part.axis
        parts = [resolve(one) for one in self.pieces(0, self.shape[axis], axis)]
        return np.concatenate(parts, axis, dtype=dtype if dtype is not None else self._type.dtype)

    def __getstate__(self) -> Any:
        return self.__dict__ | {"_joined": None}


def derive(value: Any, parts: Sequence[Part]) -> Any:
    """The part of an array or a source that `parts`, one after the other, take of it; of an array, a view if it can be.

    >>> derive(np.arange(5), [Slice(0, 1, None, None), Slice(0, None, -1, None)])
    array([1, 2, 3])
    """
    for part in parts:
        if isinstance(value, np.ndarray) and isinstance(part, Slice):
            value = value[(slice(None),) * part.axis + (slice(part.start, part.stop, part.step),)]
        else:
            value = Derived(value, part)
    return value
