"""Rows: the rows of one shard as a kernel sees them, whatever arrays they lie in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Rows:
    """Consecutive rows, held in one or more arrays; what has a shape and gives slices of its rows will do for an array.

    A tile is used in place where its rows lie in one array in C order, aligned and in native byte order; any other is
    copied into a buffer first. So every tile looks the same to BLAS, whose bits depend on memory order.
    """

    def __init__(self, segments: Sequence[Any], dtype: Any, axis: int = 0, times: int = 1) -> None:
        self.segments = [one for one in segments if one.shape[axis]] or list(segments[:1])
        self.dtype = np.dtype(dtype)
        self.axis, self.times = axis, times
        self._starts = [0]
        for one in self.segments:
            self._starts.append(self._starts[-1] + one.shape[axis])
        self.rows = self._starts[-1] // times
        self._buffer: Array | None = None
        alone = self.segments[0] if axis == 0 and times == 1 and len(self.segments) == 1 else None
        if isinstance(alone, np.ndarray) and self._is_clean(alone):
            self.tile = _slicer(alone)  # type: ignore[assignment, method-assign]

    def tile(self, low: int, count: int) -> Array:
        """The rows low to low + count, in C order."""
        # A method, as an attribute that refers to one would keep the rows until the collector of cycles comes by.
        start, stop = low * self.times, (low + count) * self.times
        starts = self._starts
        if len(self.segments) == 1:
            return self._clean(self._piece(0, start, stop))
        first = int(np.searchsorted(starts, start, side="right")) - 1
        first = min(first, len(self.segments) - 1)
        if stop <= starts[first + 1]:
            return self._clean(self._piece(first, start, stop))
        pieces = []
        while start < stop:
            end = min(stop, starts[first + 1])
            pieces.append(self._piece(first, start, end))
            start, first = end, first + 1
        return self._copied(pieces, stop - low * self.times)

    def _piece(self, number: int, start: int, stop: int) -> Array:
        offset = self._starts[number]
        segment: Any = self.segments[number]
        if self.axis == 0:
            return segment[start - offset : stop - offset]  # type: ignore[no-any-return]
        return segment[(slice(None),) * self.axis + (slice(start - offset, stop - offset),)]  # type: ignore[no-any-return]

    def _is_clean(self, piece: Array) -> bool:
        flags = piece.flags
        return bool(flags.c_contiguous and flags.aligned and piece.dtype == self.dtype)

    def _clean(self, piece: Array) -> Array:
        if self._is_clean(piece):
            return piece
        return self._copied([piece], piece.shape[self.axis])

    def _copied(self, pieces: Sequence[Array], length: int) -> Array:
        shape = list(pieces[0].shape)
        shape[self.axis] = length
        count = int(np.prod(shape))
        if self._buffer is None or self._buffer.size < count:
            self._buffer = np.empty(count, self.dtype)
        tile = self._buffer[:count].reshape(shape)
        position = 0
        for piece in pieces:
            end = position + piece.shape[self.axis]
            tile[(slice(None),) * self.axis + (slice(position, end),)] = piece
            position = end
        return tile


def _slicer(array: Array) -> Callable[[int, int], Array]:
    """`tile` for rows that need no care."""
    array = np.asarray(array)  # a memory map's slices are slow to make

    def tile(low: int, count: int) -> Array:
        return array[low : low + count]

    return tile


@lru_cache(maxsize=16)
def _ones(capacity: int, dtype: Any) -> Array:
    result = np.ones(capacity, dtype)
    result.flags.writeable = False
    return result


def ones(count: int, dtype: Any) -> Array:
    """`count` ones that nobody may write to; the same memory for all who ask."""
    return _ones(1 << max(count - 1, 0).bit_length(), dtype)[:count]


def owned(value: Any, dtype: Any, *operands: Any) -> Any:
    """`value` in C order, of `dtype`, in memory of its own: a kernel may hand back an operand, whose buffer goes on."""
    result = np.asarray(value, dtype, order="C")
    return result.copy() if any(np.may_share_memory(result, one) for one in operands) else result
