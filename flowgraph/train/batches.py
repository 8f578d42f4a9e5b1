"""Mini-batches: which rows a step sees. A function of (seed, epoch, rows, batch size) alone.

The rows lie in fixed blocks. An epoch permutes the blocks; then rows are shuffled inside a buffer of several blocks:

    blocks    0 1 2 3 4 5 6 7      the last one may be short and stays last
    permuted  5 2 0 | 6 1 4 | 3 7
    buffers   rows of 5 2 0 shuffled, then those of 6 1 4, ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgraph.errors import UsageError
from flowgraph.sources import pieces, resolve

BLOCK_ROWS = 1024
"""A block has at least so many rows, and a multiple of the batch size."""
BUFFER_BLOCKS = 64
"""Rows are shuffled among so many blocks at a time."""


@dataclass(frozen=True)
class Buffer:
    """Rows that are in memory at the same time, and how they are dealt into batches."""

    intervals: tuple[tuple[int, int], ...]
    """The (start, stop) rows of the data that it holds, in order."""
    seed: tuple[int, ...] | None
    """The seed of the shuffle of its rows; None: they stay in order."""
    rows: int
    """How many rows it holds."""

    def order(self) -> np.ndarray[Any, Any] | None:
        """The permutation of its rows."""
        return None if self.seed is None else np.random.default_rng(self.seed).permutation(self.rows)


@dataclass(frozen=True)
class Batches:
    """The plan of all mini-batches of a run."""

    rows: int
    batch_size: int
    shuffle: bool
    seed: int

    def __post_init__(self) -> None:
        size = self.batch_size
        if not _is_whole(size) or size < 1:
            raise UsageError(
                f"batch_size={size!r}", "it must be a whole number above 0", "Give a batch_size such as 256."
            )
        if not _is_whole(self.seed) or self.seed < 0:
            raise UsageError(f"seed={self.seed!r}", "it must be a whole number from 0 on", "Give a seed such as 0.")

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has; the last may be short."""
        return max(-(-self.rows // self.batch_size), 1)

    def epoch(self, number: int) -> Iterator[Buffer]:
        """The buffers of an epoch, in order. All but the last hold a multiple of the batch size."""
        block = self.batch_size * -(-BLOCK_ROWS // self.batch_size)
        count = -(-self.rows // block)
        blocks = np.arange(count)
        if self.shuffle and count > 1:
            whole = count - (self.rows % block != 0)
            blocks[:whole] = np.random.default_rng([self.seed, number]).permutation(whole)
        for first in range(0, count, BUFFER_BLOCKS):
            own = blocks[first : first + BUFFER_BLOCKS]
            intervals = _joined([(int(b) * block, min((int(b) + 1) * block, self.rows)) for b in own])
            held = sum(stop - start for start, stop in intervals)
            yield Buffer(intervals, (self.seed, number, first + 1) if self.shuffle else None, held)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _joined(intervals: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """`intervals` with neighbours that touch made one."""
    result: list[tuple[int, int]] = []
    for start, stop in intervals:
        if result and result[-1][1] == start:
            result[-1] = (result[-1][0], stop)
        else:
            result.append((start, stop))
    return tuple(result)


def load(parts: Sequence[Any], order: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    """The rows of a buffer in the order of its batches: in place where that is possible."""
    arrays = [np.asarray(resolve(one)) for one in parts]
    if order is None:
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return np.take(joined, order, axis=0)


def buffer_pieces(value: Any, buffer: Buffer) -> list[Any]:
    """The pieces of an array or source that a buffer holds."""
    return [piece for start, stop in buffer.intervals for piece in pieces(value, start, stop, 0)]


@dataclass(frozen=True)
class Part:
    """The rows of one array or source that a buffer holds, before they are read."""

    pieces: list[Any]
    buffer: Buffer

    def load(self) -> np.ndarray[Any, Any]:
        """The rows in the order of the batches."""
        return load(self.pieces, self.buffer.order())


def portable_part(value: Any) -> Any:
    """A value as an argument of a task: an array, or [pieces, intervals, seed, rows] of a buffer of rows."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Part):
        return [value.pieces, value.buffer.intervals, value.buffer.seed, value.buffer.rows]
    return [value.pieces(0, value.type.shape[0], 0), (), None, 0]
