"""Sources: values that lie in pieces along one axis, in memory, in files or in another Dask graph.

A source is asked for the pieces of an interval; it never joins them. A piece is an array, a part of a file, or a part
of another task's result.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from flowgraph.errors import DataError, ShapeError
from flowgraph.types import TensorType, tensor_type

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class FilePiece:
    """Consecutive rows of an array in a .npy file; opened where it is read."""

    path: str
    start: int
    stop: int

    def array(self) -> Array:
        """The rows, mapped into memory."""
        return _mapped(self.path)[self.start : self.stop]  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _mapped(path: str) -> Any:
    return np.load(path, mmap_mode="r", allow_pickle=False)


@dataclass(frozen=True, slots=True)
class TaskPiece:
    """The rows start:stop of the result of the Dask task `key`."""

    key: Any
    start: int
    stop: int


class Source(Protocol):
    """What a leaf may hold instead of one array."""

    @property
    def type(self) -> TensorType:
        """The type of the whole."""

    def pieces(self, start: int, stop: int, axis: int) -> list[Any]:
        """The pieces of the elements start to stop along `axis`, in order."""

    def tasks(self) -> Mapping[Any, Any]:
        """The Dask tasks that the pieces refer to."""

    def shared_as(self, directory: Any) -> Any:
        """This source in a form that other processes can read."""


def pieces(value: Any, start: int, stop: int, axis: int) -> list[Any]:
    """The pieces of an array or a source."""
    if isinstance(value, np.ndarray):
        return [value[(slice(None),) * axis + (slice(start, stop),)]]
    return value.pieces(start, stop, axis)  # type: ignore[no-any-return]


def resolve(piece: Any) -> Array:
    """The array of a piece, on the worker that needs it."""
    if isinstance(piece, FilePiece):
        return piece.array()
    if isinstance(piece, list | tuple):  # a task's result and the interval wanted of it
        array, start, stop = piece
        return np.asarray(array)[start:stop]
    return piece  # type: ignore[no-any-return]


def _check_alike(shapes: Sequence[tuple[int, ...]], dtypes: Sequence[Any]) -> None:
    for number, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
        if shape[1:] != shapes[0][1:] or dtype != dtypes[0]:
            raise ShapeError(
                "one tensor of several blocks",
                f"block 0 has rows of {shapes[0][1:]} {dtypes[0]}, block {number} of {shape[1:]} {dtype}",
                "Give blocks that differ only in their number of rows.",
            )


class _Chunked:
    """Pieces along the first axis."""

    def __init__(self, lengths: Sequence[int], shape: tuple[int, ...], dtype: Any) -> None:
        self._offsets = [0, *accumulate(lengths)]
        self._type = tensor_type((self._offsets[-1], *shape), dtype)

    @property
    def type(self) -> TensorType:
        """The type of the whole."""
        return self._type

    def pieces(self, start: int, stop: int, axis: int) -> list[Any]:
        """The pieces of the rows start to stop."""
        if axis != 0:
            raise DataError(
                f"to cut a tensor of blocks along axis {axis}", "its blocks lie along axis 0", "Join the blocks first."
            )
        found = []
        number = max(bisect.bisect_right(self._offsets, start) - 1, 0)
        while number < len(self._offsets) - 1 and (self._offsets[number] < stop or not found):
            low, high = self._offsets[number], self._offsets[number + 1]
            if max(start, low) < min(stop, high) or stop <= start:
                found.append(self.piece(number, max(start - low, 0), max(min(stop, high) - low, 0)))
            number += 1
        return found

    def piece(self, number: int, start: int, stop: int) -> Any:
        """The rows start to stop of block `number`."""
        raise NotImplementedError

    def tasks(self) -> Mapping[Any, Any]:
        """No tasks, unless a subclass has some."""
        return {}


class Blocks(_Chunked):
    """Rows in several arrays, one after the other."""

    def __init__(self, blocks: Sequence[Array]) -> None:
        if not blocks:
            raise DataError("a tensor of blocks", "there are none", "Give at least one array.")
        _check_alike([one.shape for one in blocks], [one.dtype for one in blocks])
        super().__init__([len(one) for one in blocks], blocks[0].shape[1:], blocks[0].dtype)
        self.blocks = list(blocks)

    def piece(self, number: int, start: int, stop: int) -> Any:
        """A view of a block."""
        return self.blocks[number][start:stop]

    def shared_as(self, directory: Any) -> Any:
        """The blocks as files; those that are mapped from .npy files already are used where they lie."""
        return Files([share_array(one, directory) for one in self.blocks])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.concatenate(self.blocks).astype(dtype or self.blocks[0].dtype, copy=False)


class Files(_Chunked):
    """Rows in several .npy files, one after the other."""

    def __init__(self, parts: Sequence[FilePiece]) -> None:
        arrays = [one.array() for one in parts]
        super().__init__([len(one) for one in arrays], arrays[0].shape[1:], arrays[0].dtype)
        self.parts = list(parts)

    def piece(self, number: int, start: int, stop: int) -> Any:
        """A part of a file."""
        part = self.parts[number]
        return FilePiece(part.path, part.start + start, part.start + stop)

    def shared_as(self, directory: Any) -> Any:
        """Files can be read by all already."""
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.concatenate([one.array() for one in self.parts]).astype(dtype or self._type.dtype, copy=False)


class DaskRows(_Chunked):
    """The chunks of a dask array: its tasks join our graph and nothing is read twice."""

    def __init__(self, keys: Sequence[Any], lengths: Sequence[int], shape: tuple[int, ...], dtype: Any, tasks: Any) -> None:
        super().__init__(lengths, shape, dtype)
        self.keys, self._tasks = list(keys), tasks

    def piece(self, number: int, start: int, stop: int) -> Any:
        """A part of a chunk."""
        return TaskPiece(self.keys[number], start, stop)

    def tasks(self) -> Mapping[Any, Any]:
        """The tasks of the dask array."""
        return self._tasks  # type: ignore[no-any-return]

    def shared_as(self, directory: Any) -> Any:
        """Results of tasks reach every worker anyway."""
        return self


def share_array(array: Array, directory: Any) -> FilePiece:
    """`array` as rows of a .npy file: the file that it is mapped from, or a new one in `directory`."""
    import hashlib
    from pathlib import Path

    path = Path(directory) / f"{hashlib.sha256(f'{id(array)}-{array.shape}'.encode()).hexdigest()[:16]}.npy"
    while path.exists():
        path = path.with_name(f"{path.stem}x.npy")
    np.save(path, array, allow_pickle=False)
    return FilePiece(str(path), 0, len(array))
