"""Sources: values that lie in pieces along one axis, in memory, in files or in another Dask graph.

A source is asked for the pieces of an interval; it never joins them. A piece is an array, a part of an array of this
process, a part of a file, or a part of another task's result.

Arrays never travel inside tasks: where a piece of an array is pickled, the array is written into a file once, and on
the other side the piece is mapped from it.
"""

from __future__ import annotations

import atexit
import bisect
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from flowgraph.errors import ClusterError, DataError, ShapeError
from flowgraph.types import Shape, TensorType, tensor_type

Array = np.ndarray[Any, Any]

SMALL_BYTES = 1 << 16
"""Arrays below so many bytes travel inside tasks: a file would cost more."""
CHUNK_BYTES = 16 << 20
"""Files are written in parts of about so many bytes."""


def interval(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """The index of the elements start to stop along `axis`."""
    return (slice(None),) * axis + (slice(start, stop),)


# Pieces.


@dataclass(frozen=True, slots=True)
class FilePiece:
    """The rows start to stop of an array in a .npy file; opened where it is read."""

    path: str
    start: int
    stop: int
    cut: tuple[int, int, int] | None = None
    """Of these rows, only (axis, start, stop)."""

    def array(self) -> Array:
        """The elements, mapped into memory."""
        rows = _mapped(self.path)[self.start : self.stop]
        return rows if self.cut is None else rows[interval(*self.cut)]


_MAPS: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""The files that somebody reads at the moment. A map that outlives its readers would keep a removed file on the disk."""


def _mapped(path: str) -> Array:
    found = _MAPS.get(path)
    if found is None:
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise ClusterError(
                f"to read rows from {path}",
                "this process does not see the file: it runs on another machine, or the run that wrote it is over",
                "Make the client the current one (`with client.as_current():`), so that flowgraph sees that the disk "
                "is not shared; or load the data with Dask, which needs no file.",
            ) from None
        _MAPS[path] = found
    return found  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class HeldPiece:
    """The elements start to stop along `axis` of an array that this process holds."""

    held: Held
    start: int
    stop: int
    axis: int

    def array(self) -> Array:
        """A view of the elements."""
        return self.held.array[interval(self.axis, self.start, self.stop)]  # type: ignore[no-any-return]

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
    if isinstance(piece, FilePiece | HeldPiece):
        return piece.array()
    if isinstance(piece, list | tuple):  # a task's result, the interval wanted of it, and the shape it should have
        array, start, stop, axis, shape = piece
        array = np.asarray(array)
        if array.shape != shape:
            raise DataError(
                f"a block of shape {shape}, as a dask array promised",
                f"its task gave {array.shape}",
                "Give the array its true chunks (`x.compute_chunk_sizes()`), or correct the function that loads a block.",
            )
        return array[interval(axis, start, stop)] if shape else array
    return piece  # type: ignore[no-any-return]


# Arrays of this process, and how they leave it.


class _Sending(threading.local):
    """How arrays leave this thread at the moment."""

    known = False
    """Whether somebody waits for the receivers, so that files may go afterwards."""
    inside = False
    """Whether arrays must travel inside tasks, because the receivers do not see this disk."""


_SENDING = _Sending()


@contextmanager
def sending(shared_disk: bool = True) -> Iterator[None]:
    """A context for a run that waits for its tasks: the files of arrays need to last no longer than their `Held`."""
    before = _SENDING.known, _SENDING.inside
    _SENDING.known, _SENDING.inside = True, not shared_disk
    try:
        yield
    finally:
        _SENDING.known, _SENDING.inside = before


class _Directory:
    """The directory of this process for arrays on their way to others; it is there as long as files are in it."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.lock = threading.Lock()
        self.count = 0
        self.pinned: list[Held] = []
        """Arrays whose receivers nobody waits for: their files last until the process ends."""

    def new_file(self) -> Path:
        """The path of a file that does not exist yet; only this user may read the directory."""
        with self.lock:
            if self.path is None or not self.path.exists():
                if self.path is None:
                    atexit.register(self.clear)
                self.path = Path(tempfile.mkdtemp(prefix="flowgraph-"))
            self.count += 1
            return self.path / f"{self.count}.npy"

    def remove(self, path: Path, process: int) -> None:
        """Remove a file, and the directory after the last one; a forked child leaves its parent's files alone."""
        if os.getpid() != process:
            return
        with self.lock:
            path.unlink(missing_ok=True)
            try:
                path.parent.rmdir()
            except OSError:  # there are others
                pass

    def clear(self) -> None:
        """Remove everything, when the process ends."""
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)


_DIRECTORY = _Directory()


class Held:
    """An array of this process as a source. Where it is pickled it goes into a file, once for all its receivers."""

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
    def shape(self) -> tuple[int, ...]:
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
        if self.array.nbytes < SMALL_BYTES or not self.array.ndim or _SENDING.inside:
            return None
        with self._lock:
            sample = _sample(self.array)
            if self._path is None or sample != self._sample:  # the user wrote to the array since
                self._sample = sample
                self._place()
        if not _SENDING.known and self not in _DIRECTORY.pinned:
            _DIRECTORY.pinned.append(self)
        return self._path

    def _place(self) -> None:
        found = _file_of(self.array)
        if found is not None:
            self._path, self.offset = found
            return
        self.release()
        path = _DIRECTORY.new_file()
        self._file = weakref.finalize(self, _DIRECTORY.remove, path, os.getpid())
        _write(path, self.array)
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


def _sample(array: Array) -> bytes:
    """Some bytes of an array, to notice that it was changed: it is cheap, and finds no change between its samples."""
    if not array.flags.writeable:
        return b""
    step = max(array.size // 1024, 1)
    return array.flat[::step].tobytes() + array[-1:].tobytes()[-64:]


def _file_of(array: Array) -> tuple[str, int] | None:
    """The .npy file that `array` is mapped from, and the row of the file at which it begins."""
    root: Any = array
    while isinstance(getattr(root, "base", None), np.ndarray):
        root = root.base
    name = getattr(root, "filename", None)
    if name is None or root.mode == "c" or array.strides != root.strides or array.shape[1:] != root.shape[1:]:
        return None
    try:
        there = np.load(name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):  # no .npy file, or gone
        return None
    if (there.offset, there.dtype, there.shape) != (root.offset, array.dtype, root.shape):
        return None
    start = (array.ctypes.data - root.ctypes.data) // array.strides[0]
    ends = np.array_equal(there[start], array[0], equal_nan=True)
    return (str(name), start) if ends else None


def _write(path: Path, array: Array) -> None:
    """A .npy file of `array` in C order and native bytes. It is written in parts, so a full disk is an error and no crash."""
    dtype = array.dtype.newbyteorder("=")
    rows = max(CHUNK_BYTES * len(array) // max(array.nbytes, 1), 1)
    try:
        with path.open("xb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(array), rows):
                file.write(np.ascontiguousarray(array[start : start + rows], dtype).data)
    except OSError as error:
        raise ClusterError(
            f"to hand an array of {array.nbytes / 1e6:.0f} MB to other processes by a file in {path.parent}",
            str(error),
            "Make room, or point TMPDIR to a disk with more; or load the data with Dask, which needs no file.",
        ) from error


# Sources.


class Source(Protocol):
    """What a leaf may hold instead of one array."""

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


def in_memory(value: Any) -> Any:
    """The array that a value stands for, where it is one array; else the value."""
    return value.array if isinstance(value, Held) else value


@contextmanager
def portable(values: Sequence[Any]) -> Iterator[list[Any]]:
    """A context in which `values` can be sent to other processes many times: their files are written once, and go after."""
    held = [Held(one) if isinstance(one, np.ndarray) and one.ndim and one.nbytes >= SMALL_BYTES else one for one in values]
    try:
        yield held
    finally:
        for one, value in zip(held, values, strict=True):
            if one is not value:
                one.release()


_OWNED: weakref.WeakKeyDictionary[Any, Held] = weakref.WeakKeyDictionary()


def held_by(owner: Any, value: Any) -> Any:
    """`value` for runs elsewhere: a large array as the one `Held` of its `owner`, so that loops write its file once."""
    if not isinstance(value, np.ndarray) or value.nbytes < SMALL_BYTES or not value.ndim:
        return value
    found = _OWNED.get(owner)
    if found is None or found.array is not value:
        found = _OWNED[owner] = Held(value)
    return found


def has_tasks(values: Sequence[Any]) -> bool:
    """Whether any of the values comes from other Dask tasks."""
    return any(not isinstance(one, np.ndarray) and bool(one.tasks()) for one in values)


def owner_of_tasks(values: Sequence[Any]) -> Any:
    """The distributed client whose futures are among the tasks of the values, or None."""
    for value in values:
        if not isinstance(value, np.ndarray):
            for task in value.tasks().values():
                if hasattr(task, "client") and hasattr(task, "status"):
                    return task.client
    return None


class _Chunked:
    """Pieces along the first axis."""

    def __init__(self, lengths: Sequence[int], of: TensorType) -> None:
        self.lengths = tuple(lengths)
        """The rows of each block."""
        self._offsets = [0, *accumulate(lengths)]
        self._type = of
        self._joined: Held | None = None

    @property
    def type(self) -> TensorType:
        """The type of the whole."""
        return self._type

    def pieces(self, start: int, stop: int, axis: int) -> list[Any]:
        """The pieces of the elements start to stop; at least one, even of nothing. Along other axes blocks are joined."""
        if axis != 0:
            if self._joined is None:
                self._joined = Held(np.asarray(self))
            return self._joined.pieces(start, stop, axis)
        found = []
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
        self.keys, self._tasks = tuple(keys), tasks

    def at(self, keys: Sequence[Any]) -> DaskRows:
        """The same rows as the results of other tasks, which are in the graph already."""
        return DaskRows(keys, self.lengths, self._type, {})

    def piece(self, number: int, start: int, stop: int) -> Any:
        """A part of a chunk."""
        return TaskPiece(self.keys[number], start, stop, (self.lengths[number], *known(self._type.shape[1:])))

    def whole(self) -> list[Any]:
        """The pieces of all; for a scalar its one value."""
        return super().whole() if self._type.shape else [TaskPiece(self.keys[0], 0, 0, ())]

    def tasks(self) -> Mapping[Any, Any]:
        """The tasks of the dask array."""
        return self._tasks

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        raise AssertionError("the value of Dask tasks is found by a run, not by a conversion")


def known(shape: Shape) -> tuple[int, ...]:
    """A shape without unknown lengths."""
    assert all(isinstance(length, int) for length in shape), shape
    return shape  # type: ignore[return-value]
