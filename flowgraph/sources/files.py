"""How arrays leave this process: as .npy files, written once and mapped into memory on the other side."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgraph.errors import ClusterError
from flowgraph.machine import dask_config

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]

SMALL_BYTES = 1 << 16
"""Arrays below so many bytes travel inside tasks: a file would cost more."""
CHUNK_BYTES = 16 << 20
"""Files are written in parts of about so many bytes."""


def interval(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """The index of the elements start to stop along `axis`."""
    return (slice(None),) * axis + (slice(start, stop),)


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
"""The files that somebody reads at the moment. Maps that outlive their readers would keep removed files on the disk."""


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


class _Sending(threading.local):
    """How arrays leave this thread at the moment."""

    known = False
    """Whether somebody waits for the receivers, so that files may go afterwards."""
    inside = False
    """Whether arrays must travel inside tasks, because the receivers do not see this disk."""


SENDING = _Sending()


@contextmanager
def sending(shared_disk: bool = True) -> Iterator[None]:
    """A context for a run that waits for its tasks: the files of arrays need to last no longer than their `Held`."""
    before = SENDING.known, SENDING.inside
    SENDING.known, SENDING.inside = True, not shared_disk
    try:
        yield
    finally:
        SENDING.known, SENDING.inside = before


class _Directory:
    """The directory of this process for arrays on their way to others; it is there as long as files are in it."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.lock = threading.Lock()
        self.count = 0
        self.pinned: list[Any] = []
        """Arrays whose receivers nobody waits for: their files last until the process ends."""

    def new_file(self) -> Path:
        """A new, empty file; only this user may read the directory, which lies where Dask has its temporary files."""
        with self.lock:
            if self.path is None or not self.path.exists():
                if self.path is None:
                    atexit.register(self.clear)
                config = dask_config()
                parent = config.get("temporary-directory", None) if config is not None else None
                import tempfile  # late, as whatever `import flowgraph` does not need
                from pathlib import Path

                self.path = Path(tempfile.mkdtemp(prefix="flowgraph-", dir=parent))
            self.count += 1
            path = self.path / f"{self.count}.npy"
            path.touch(mode=0o600, exist_ok=False)
            return path

    def remove(self, path: Path, process: int) -> None:
        """Remove a file, and the directory after the last one; a forked child leaves its parent's files alone."""
        if os.getpid() != process:
            return
        with self.lock:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # there are others
                path.parent.rmdir()

    def clear(self) -> None:
        """Remove everything, when the process ends."""
        if self.path is not None:
            import shutil

            shutil.rmtree(self.path, ignore_errors=True)


DIRECTORY = _Directory()


def sample(array: Array) -> bytes:
    """Some bytes of an array, to notice that it was changed: it is cheap, and finds no change between its samples."""
    if not array.flags.writeable:
        return b""
    step = max(array.size // 1024, 1)
    return array.flat[::step].tobytes() + array[-1:].tobytes()[-64:]


def file_of(array: Array) -> tuple[str, int] | None:
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


def write(path: Path, array: Array) -> None:
    """A .npy file of `array` in C order and native bytes, written and not mapped: a full disk is then no crash."""
    dtype = array.dtype.newbyteorder("=")
    rows = max(CHUNK_BYTES * len(array) // max(array.nbytes, 1), 1)
    try:
        with path.open("wb") as file:
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
