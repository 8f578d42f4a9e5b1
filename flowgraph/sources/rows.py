"""The kinds of sources, and the pieces that they give."""

from __future__ import annotations

import bisect
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from flowgraph.errors import DataError, ShapeError
from flowgraph.sources.files import DIRECTORY, SENDING, SMALL_BYTES, FilePiece, file_of, interval, sample, write
from flowgraph.types import TensorType, tensor_type

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class HeldPiece:
    """The elements start to stop along `axis` of an array that this process holds."""

    held: Held
    start: int
    stop: int
    axis: int

    def array(self) -> Array:
        """A view of the elements."""
        return self.held.array[interval(self.axis, self.start, self.stop)]

    def __reduce__(self) -> Any:
        path = self.held.path()
        if path is None:
            return np.asarray, (np.ascontiguousarray(self.array()),)
        first = self.held.offset
        if self.axis:
            return FilePiece, (path, first, first + len(self.held.array), (self.axis, self.start, self.stop))
        return FilePiece, (path, first + self.start, first + self.stop)


@dataclass(frozen=True, slots=True)
class TaskPiece:
    """The rows start to stop of the result of the Dask task `key`, which should have `shape`."""

    key: Any
    start: int
    stop: int
    shape: tuple[int, ...]


def resolve(piece: Any) -> Array:
    """The array of a piece, on the worker that needs it."""
    if isinstance(piece, np.ndarray):
        return piece
    if isinstance(piece, list | tuple) and isinstance(piece[0], type):  # a piece made of pieces, in the form of a task
        return piece[0](*piece[1:]).array()  # type: ignore[no-any-return]
    if isinstance(piece, list | tuple):  # a task's result, the interval wanted of it, and the shape it should have
        array, start, stop, axis, shape = piece
        array = np.asarray(array)
        if array.shape != shape:
            raise DataError(
                f"a block of shape {shape}, as a dask array or `from_delayed` promised",
                f"its task gave {array.shape}",
                "Give the true chunks (`x.compute_chunk_sizes()`) or shapes, or correct what loads a block.",
            )
        return array[interval(axis, start, stop)] if shape else array
    return piece.array()  # type: ignore[no-any-return]


class Held:
    """An array of this process as a source. Where it is pickled it goes into a file, once for all its receivers."""

    chunks: tuple[int, ...] = ()

    def __init__(self, array: Array) -> None:
        self.array = array
        self.offset = 0
        """The row of the file that is row 0 of the array."""
        self._path: str | None = None
        self._sample: bytes = b""
        self._lock = threading.Lock()
        self._file: Any = None

    @property
    def type(self) -> TensorType:
        """The type of the array."""
        return tensor_type(self.array.shape, self.array.dtype)

    @property
    def shape(self) -> Any:
        """The shape of the array."""
        return self.array.shape

    def pieces(self, start: int, stop: int, axis: int) -> list[Any]:
        """One piece."""
        return [HeldPiece(self, start, stop, axis)]

    def whole(self) -> list[Any]:
        """One piece with all of it."""
        return self.pieces(0, len(self.array), 0) if self.array.ndim else [self.array]

    def tasks(self) -> Mapping[Any, Any]:
        """No tasks."""
        return {}

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype=dtype, copy=copy)

    def path(self) -> str | None:
        """The file with the array, written if need be; None if it travels inside tasks."""
        if self.array.nbytes < SMALL_BYTES or not self.array.ndim or SENDING.inside:
            return None
        with self._lock:
            now = sample(self.array)
            if self._path is None or now != self._sample:  # the user wrote to the array since
                self._sample = now
                self._place()
        if not SENDING.known and self not in DIRECTORY.pinned:
            DIRECTORY.pinned.append(self)
        return self._path

    def _place(self) -> None:
        found = file_of(self.array)
        if found is not None:
            self._path, self.offset = found
            return
        self.release()
        path = DIRECTORY.new_file()
        self._file = weakref.finalize(self, DIRECTORY.remove, path, os.getpid())
        write(path, self.array)
        self._path = str(path)

    def release(self) -> None:
        """Remove the file; it is written again if it is needed again."""
        self._path = None
        if self._file is not None:
            self._file()
            self._file = None

    def __reduce__(self) -> Any:
        path = self.path()
        if path is None:
            return Parts, ([np.ascontiguousarray(self.array)], self.type)
        return Parts, ([FilePiece(path, self.offset, self.offset + len(self.array))], self.type)


class Source(Protocol):
    """What a leaf may hold instead of one array."""

    chunks: tuple[int, ...]
    """The rows of the units in which it is best read; empty where every cut is as good."""

    @property
    def type(self) -> TensorType:
        """The type of the whole."""

    def pieces(self, start: int, stop: int, axis: int) -> list[Any]:
        """The pieces of the elements start to stop along `axis`, in order."""

    def whole(self) -> list[Any]:
        """The pieces of all."""

    def tasks(self) -> Mapping[Any, Any]:
        """The Dask tasks that the pieces refer to."""


def pieces(value: Any, start: int, stop: int, axis: int) -> list[Any]:
    """The pieces of an array or a source."""
    if isinstance(value, np.ndarray):
        return [value[interval(axis, start, stop)]]
    return value.pieces(start, stop, axis)  # type: ignore[no-any-return]


def type_of(value: Any) -> TensorType:
    """The type of an array or a source."""
    return tensor_type(value.shape, value.dtype) if isinstance(value, np.ndarray) else value.type


def in_memory(value: Any) -> Any:
    """The array that a value stands for, where it is one array; else the value."""
    return value.array if isinstance(value, Held) else value


@contextmanager
def portable(values: Sequence[Any]) -> Iterator[list[Any]]:
    """A context in which `values` can be sent to other processes many times: files are written once, and go after."""
    held = [Held(one) if _is_large(one) else one for one in values]
    try:
        yield held
    finally:
        for one, value in zip(held, values, strict=True):
            if one is not value:
                one.release()


def _is_large(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.nbytes >= SMALL_BYTES and value.ndim > 0


_OWNED: weakref.WeakKeyDictionary[Any, Held] = weakref.WeakKeyDictionary()


def held_by(owner: Any, value: Any) -> Any:
    """`value` for runs elsewhere: a large array as the one `Held` of its `owner`, so that loops write its file once."""
    if not _is_large(value):
        return value
    found = _OWNED.get(owner)
    if found is None or found.array is not value:
        found = _OWNED[owner] = Held(value)
    return found


def has_tasks(values: Sequence[Any]) -> bool:
    """Whether any of the values comes from other Dask tasks."""
    for one in values:
        if type(one) is not np.ndarray and not isinstance(one, np.generic | np.ndarray) and one.tasks():
            return True
    return False


def owner_of_tasks(values: Sequence[Any]) -> Any:
    """The distributed client whose futures are among the tasks of the values, or None."""
    for value in values:
        if not isinstance(value, np.ndarray | np.generic):
            for task in value.tasks().values():
                if hasattr(task, "client") and hasattr(task, "status"):
                    return task.client
    return None


class _Chunked:
    """Pieces along the first axis."""

    def __init__(self, lengths: Sequence[int], of: TensorType) -> None:
        self.lengths = tuple(lengths)
        """The rows of each block."""
        self.chunks: tuple[int, ...] = ()
        self._offsets = [0, *accumulate(lengths)]
        self._type = of
        self._joined: Held | None = None

    @property
    def type(self) -> TensorType:
        """The type of the whole."""
        return self._type

    def pieces(self, start: int, stop: int, axis: int) -> list[Any]:
        """The pieces of the elements start to stop, at least one. Along other axes than 0 the blocks are joined."""
        if axis != 0:
            if self._joined is None:
                self._joined = Held(np.asarray(self))
            return self._joined.pieces(start, stop, axis)
        found: list[Any] = []
        last = len(self._offsets) - 2
        number = min(max(bisect.bisect_right(self._offsets, start) - 1, 0), last)
        while number <= last and (self._offsets[number] < stop or not found):
            low, high = self._offsets[number], self._offsets[number + 1]
            if max(start, low) < min(stop, high) or stop <= start:
                first = max(start, low)
                found.append(self.piece(number, first - low, max(min(stop, high), first) - low))
            number += 1
        return found

    def piece(self, number: int, start: int, stop: int) -> Any:
        """The rows start to stop of block `number`."""
        raise NotImplementedError

    def whole(self) -> list[Any]:
        """The pieces of all rows."""
        return self.pieces(0, self._offsets[-1], 0)

    def tasks(self) -> Mapping[Any, Any]:
        """No tasks, unless a subclass has some."""
        return {}

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        parts = [resolve(one) for one in self.whole()]
        return np.concatenate(parts, dtype=dtype if dtype is not None else self._type.dtype)

    def __getstate__(self) -> Any:
        return self.__dict__ | {"_joined": None}


class Parts(_Chunked):
    """Rows in several arrays or files, one after the other."""

    def __init__(self, parts: Sequence[Any], of: TensorType) -> None:
        super().__init__([len(one) if isinstance(one, np.ndarray) else one.stop - one.start for one in parts], of)
        self.parts = list(parts)

    def piece(self, number: int, start: int, stop: int) -> Any:
        """A piece of one of the parts."""
        part = self.parts[number]
        if isinstance(part, np.ndarray):
            return part[start:stop]
        return replace(part, start=part.start + start, stop=part.start + stop)


class Blocks(Parts):
    """Rows in several arrays of this process."""

    def __init__(self, blocks: Sequence[Array]) -> None:
        if not blocks:
            raise DataError("a tensor of blocks", "there are none", "Give at least one array.")
        first = blocks[0]
        for number, one in enumerate(blocks):
            same = one.ndim and one.shape[1:] == first.shape[1:]
            if not same or one.dtype.newbyteorder("=") != first.dtype.newbyteorder("="):
                raise ShapeError(
                    "one tensor of several blocks",
                    f"block 0 is {first.dtype} of shape {first.shape}, block {number} is {one.dtype} of {one.shape}",
                    "Give blocks with one row a sample that differ only in their number of rows.",
                )
        of = tensor_type((sum(len(one) for one in blocks), *first.shape[1:]), first.dtype.newbyteorder("="))
        super().__init__([HeldPiece(Held(one), 0, len(one), 0) for one in blocks], of)


class DaskRows(_Chunked):
    """The results of Dask tasks, one after the other: row chunks of a dask array, or one task's whole value.

    Its tasks join our graph, under their own keys, so that nothing is computed twice.
    """

    def __init__(self, keys: Sequence[Any], lengths: Sequence[int], of: TensorType, tasks: Mapping[Any, Any]) -> None:
        super().__init__(lengths, of)
        self.chunks = self.lengths
        self.keys, self._tasks = tuple(keys), tasks

    def at(self, keys: Sequence[Any]) -> DaskRows:
        """The same rows as the results of other tasks, which are in the graph already."""
        return DaskRows(keys, self.lengths, self._type, {})

    def piece(self, number: int, start: int, stop: int) -> Any:
        """A part of a chunk."""
        shape: Any = (self.lengths[number], *self._type.shape[1:])
        return TaskPiece(self.keys[number], start, stop, shape)

    def whole(self) -> list[Any]:
        """The pieces of all; for a scalar its one value."""
        return super().whole() if self._type.shape else [TaskPiece(self.keys[0], 0, 0, ())]

    def tasks(self) -> Mapping[Any, Any]:
        """The tasks of the dask array."""
        return self._tasks

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        raise AssertionError("the value of Dask tasks is found by a run, not by a conversion")
