"""Rows that are decoded where they are read: a few at a time, front to back, into a buffer that is used again.

A kernel walks its rows in tiles. So a shard of a file takes the memory of a tile, however many rows the shard has, and
what was decoded is still in the cache when it is computed with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from flowgraph.errors import ClusterError, DataError
from flowgraph.sources.rows import Array, Parts, resolve
from flowgraph.types import TensorType

if TYPE_CHECKING:
    from pathlib import Path  # late, as whatever `import flowgraph` does not need


class Reader(Protocol):
    """An open file at some row."""

    def take(self, out: Array) -> None:
        """Fill `out` with the next `len(out)` rows, and go on behind them."""


class Stamp(NamedTuple):
    """A file as it was when a tensor was made of it."""

    path: str
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The file as it is now; its path is made absolute, for workers have other working directories."""
        found = path.stat()
        return cls(str(path.resolve()), found.st_size, found.st_mtime_ns)

    def check(self) -> None:
        """Raise ClusterError where this process does not see the file, DataError where it was changed."""
        from pathlib import Path

        try:
            found = Path(self.path).stat()
        except OSError as error:
            raise ClusterError(
                f"to read rows from {self.path}",
                f"this process does not see the file: {error.strerror or error}",
                "Files are read where they are needed: put them on a disk that all workers see, under the same path.",
            ) from error
        if (found.st_size, found.st_mtime_ns) != (self.size, self.modified):
            raise DataError(
                f"to read rows from {self.path}",
                "the file was changed after the tensor was made of it",
                "Make the tensor again, and leave files alone while tensors read them.",
            )


@dataclass(frozen=True)
class StreamedPiece:
    """The rows start to stop of something that has to be decoded; subclasses say how."""

    start: int
    stop: int

    @property
    def row_type(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """The shape and dtype of a row."""
        raise NotImplementedError

    @property
    def chunks(self) -> tuple[int, ...]:
        """The rows of the units that are decoded for themselves; those before `start` and from `stop` on count too."""
        raise NotImplementedError

    def open(self, row: int) -> Reader:
        """A reader that stands at `row`."""
        raise NotImplementedError

    def stream(self) -> Stream:
        """The rows, to be read in tiles."""
        return Stream(self)

    def array(self) -> Array:
        """All rows at once."""
        shape, dtype = self.row_type
        result = np.empty((self.stop - self.start, *shape), dtype)
        if len(result):
            self.open(self.start).take(result)
        return result


class Stream:
    """The rows of a piece as a kernel takes them: slices, in order. A slice is valid until the next one is asked for.

    A slice that does not begin where the last one ended is right as well, and costs what lies before it in the file.
    """

    def __init__(self, piece: StreamedPiece) -> None:
        self.piece = piece
        shape, self.dtype = piece.row_type
        self.shape = (piece.stop - piece.start, *shape)
        self._reader: Reader | None = None
        self._next = 0
        self._buffer: Array | None = None

    def __getitem__(self, rows: slice) -> Array:
        count = rows.stop - rows.start
        if self._buffer is None or len(self._buffer) < count:
            self._buffer = np.empty((count, *self.shape[1:]), self.dtype)
        out = self._buffer[:count]
        if count:
            if self._reader is None or rows.start != self._next:
                self._reader = self.piece.open(self.piece.start + rows.start)
            self._reader.take(out)
            self._next = rows.stop
            if self._next == self.shape[0]:
                self._reader = None  # closes the file
        return out


def segment(piece: Any) -> Any:
    """What `Rows` takes of a piece along the first axis: an array, or a stream of one."""
    return piece.stream() if isinstance(piece, StreamedPiece) else resolve(piece)


class Streams(Parts):
    """Rows in several files, one after the other, that are decoded as they are read."""

    def __init__(self, parts: Sequence[StreamedPiece], of: TensorType) -> None:
        # Without rows there is no piece that could tell the shape.
        tail: Any = of.shape[1:]
        empty = [np.empty((0, *tail), of.dtype)]
        super().__init__(list(parts) or empty, of)
        self.chunks = tuple(rows for one in parts for rows in one.chunks)
