"""Zarr arrays as tensors: decoded chunk by chunk, in the task that computes with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from flowgraph.data.source import listed, path_of, quoted
from flowgraph.errors import DataError, DTypeError, InputNotFoundError, ShapeError, UsageError
from flowgraph.graph import make_input
from flowgraph.sources import Reader, Stamp, StreamedPiece, Streams
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import as_dtype, tensor_type

BLOCK_BYTES = 4 << 20
"""Small chunks are decoded so many bytes at a time: each call of the library costs about a millisecond."""
METADATA = ("zarr.json", ".zarray")

Array = np.ndarray[Any, Any]


def read_zarr(path: str | Path, component: str | None = None, *, dtype: DTypeLike | None = None) -> Tensor:
    """A tensor of the Zarr array in the directory `path`, or of the array `component` in a group.

    Now only the metadata is read. The rows are decoded where they are computed with, chunk by chunk, so that data
    larger than memory can be differentiated; and anew by every run, so data that fits is better kept (`x.persist()`).
    Workers open the array themselves, under the same path. `dtype`: of the tensor; None for that of the array.

    Raises InputNotFoundError where there is no such array, UsageError for a group of arrays none of which is named,
    DTypeError for elements that are no numbers or do not fit the dtype, and DataError for chunks that can not be read.

    >>> import tempfile, zarr, numpy as np, flowgraph as fg
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     array = zarr.create_array(folder + "/x.zarr", shape=(5, 2), chunks=(2, 2), dtype="float32")
    ...     array[:] = np.arange(10).reshape(5, 2)
    ...     x = fg.read_zarr(folder + "/x.zarr")
    ...     x.shape, float(fg.sum(x * x))
    ((5, 2), 285.0)
    """
    place = path_of(path) if component is None else path_of(path) / component
    array = _opened(place)
    known = as_dtype(array.dtype.newbyteorder("=")) if array.dtype.kind in "biufc" else None
    if known is None:
        raise DTypeError(
            f"a tensor of {quoted(place)}", f"its elements are {array.dtype}, not numbers", "Convert it first."
        )
    wanted = known if dtype is None else as_dtype(dtype)
    if not np.can_cast(known, wanted, "same_kind"):
        raise DTypeError(
            f"{quoted(place)} as {wanted}",
            f"its elements are {known}, which {wanted} can not hold",
            "Read it as it is, and use `fg.cast`.",
        )
    if not array.shape:
        raise ShapeError(f"the rows of {quoted(place)}", "it has no axes", "Use `fg.constant(array[()])`.")
    of = tensor_type(array.shape, wanted)
    stamp = Stamp.of(next(place / name for name in METADATA if (place / name).exists()))
    rows = array.shape[0]
    pieces = [ZarrPiece(0, rows, stamp, array.chunks[0], tuple(array.shape), wanted)] if rows else []
    return tensor_of(make_input(of, value=Streams(pieces, of)))


@dataclass(frozen=True)
class ZarrPiece(StreamedPiece):
    """The rows start to stop of a Zarr array."""

    stamp: Stamp
    """Its metadata. That chunks were written to since is not seen."""
    chunk_rows: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_type(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """All axes but the first."""
        return self.shape[1:], self.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """The rows of each chunk; the last one may be shorter."""
        size, rows = self.chunk_rows, self.shape[0]
        return tuple(min(size, rows - start) for start in range(0, rows, size))

    def open(self, row: int) -> Reader:
        """A reader that decodes from the beginning of the chunk of `row`."""
        return ZarrReader(self, row)


class ZarrReader:
    """Decodes whole chunks, and copies the rows wanted."""

    def __init__(self, piece: ZarrPiece, row: int) -> None:
        piece.stamp.check()
        self.array = _opened(Path(piece.stamp.path).parent)
        self.piece, self.row = piece, row
        row_bytes = self.array.dtype.itemsize * int(np.prod(piece.shape[1:]))
        chunks = BLOCK_BYTES // max(piece.chunk_rows * row_bytes, 1)
        self.block_rows = piece.chunk_rows * max(chunks, 1)
        self.first = 0
        self.block: Array | None = None

    def take(self, out: Array) -> None:
        """Fill `out` with the next rows."""
        done = 0
        while done < len(out):
            if self.block is None or self.row >= self.first + len(self.block):
                self.block = None  # before the next one is made
                self._decode()
            assert self.block is not None
            start = self.row - self.first
            count = min(len(out) - done, len(self.block) - start)
            with np.errstate(over="ignore"):  # a number that is too large for a float is inf
                np.copyto(out[done : done + count], self.block[start : start + count], casting="same_kind")
            self.row += count
            done += count

    def _decode(self) -> None:
        size = self.piece.chunk_rows
        self.first = self.row // size * size
        # The next piece of the same array begins where this one ends: what lies behind is not decoded for nothing.
        stop = min(self.first + self.block_rows, -(-self.piece.stop // size) * size, self.piece.shape[0])
        try:
            self.block = np.asarray(self.array[self.first : stop])
        except Exception as error:  # codecs raise what they like
            raise DataError(
                f"to decode rows {self.first} to {stop} of {quoted(Path(self.piece.stamp.path).parent)}",
                f"{type(error).__name__}: {error}",
                "A chunk is damaged: write the array again.",
            ) from error


def _opened(place: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        remedy = "Install it: pip install 'flowgraph[zarr]'"
        raise UsageError("read Zarr arrays", "zarr, which decodes them, is not installed", remedy) from error
    asked = f"read the Zarr array {quoted(place)}"
    if not place.is_dir():
        found = "it is a file" if place.exists() else "there is no such directory"
        raise InputNotFoundError(asked, found, "Name the directory of an array.")
    try:
        opened = zarr.open(store=str(place), mode="r")
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise InputNotFoundError(asked, f"the directory holds no array: {error}", "Name that of an array.") from error
    if isinstance(opened, zarr.Array):
        return opened
    names = listed(sorted(name for name, _ in opened.arrays()))
    raise UsageError(asked, f"it is a group; its arrays are {names or 'none'}", "Name one as `component`.")
