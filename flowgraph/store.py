"""Durable state: named arrays and a manifest in a directory that is there completely or not at all.

    DIR/manifest.json        what the arrays are called, their shapes and dtypes, a checksum of each file, and facts
    DIR/state.safetensors    the arrays

Neither file can carry code: no pickle, no name that is imported, no name that is a path. The loader believes nothing
before it has checked it: sizes, then the manifest, then the bytes, and only then the arrays.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from flowgraph.errors import DataError, FlowgraphError, InputNotFoundError, OutputExistsError, UsageError
from flowgraph.machine import version_of
from flowgraph.types import is_count

MANIFEST = "manifest.json"
STATE = "state.safetensors"
FORMAT = "flowgraph-state"
VERSION = 1

_MANIFEST_BYTES = 1 << 24
_DEPTH = 8
_NAME_LENGTH = 1000
_DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
_READ_BYTES = 1 << 20

Arrays = dict[str, np.ndarray[Any, Any]]


def save_state(
    directory: str | Path,
    arrays: Mapping[str, np.ndarray[Any, Any]],
    content: Mapping[str, Any],
    replace: bool = False,
) -> None:
    """Returns nothing; writes `arrays` and `content` to the new `directory`, completely or not at all.

    `arrays`: numbers and booleans of any shape, by name. `content`: anything that JSON can hold, without nan and inf.
    `replace`: whether a directory of the same kind may be replaced; others never are.

    Raises OutputExistsError if `directory` is there, UsageError for what can not be written or without safetensors.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state(Path(folder, "new"), {"w": np.ones(2)}, {"step": 3})
    ...     load_state(Path(folder, "new"))
    ({'w': array([1., 1.])}, {'step': 3})
    """
    with new_directory(directory, replace) as made:
        write_state(made, arrays, content)


def write_state(directory: Path, arrays: Mapping[str, np.ndarray[Any, Any]], content: Mapping[str, Any]) -> None:
    """Returns nothing; writes the two files into `directory`, for instance one that `new_directory` yields."""
    save = _safetensors("write arrays").save
    held = {_checked_name(name): _plain(name, array) for name, array in arrays.items()}
    data: bytes = save(held)
    try:
        plain = json.loads(json.dumps(content, allow_nan=False))  # what a reader will see: lists for tuples
    except (TypeError, ValueError) as error:
        remedy = "Use texts, finite numbers, booleans, None, lists, and dicts with texts as keys."
        raise UsageError("write a manifest", f"JSON can not hold it: {error}", remedy) from error
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "flowgraph": version_of("flowgraph") or "0+unknown",
        "numpy": np.__version__,
        "arrays": {name: {"shape": list(one.shape), "dtype": one.dtype.name} for name, one in held.items()},
        "file": {"name": STATE, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        "content": plain,
    }
    manifest["checksum"] = _checksum(manifest)
    text = json.dumps(manifest, indent=1).encode()
    if len(text) > _MANIFEST_BYTES or _depth(manifest) > _DEPTH:
        found = f"it has {len(text)} bytes and {_depth(manifest)} levels, where {_MANIFEST_BYTES} and {_DEPTH} are read"
        raise UsageError("write a manifest", found, "Put large things into arrays.")
    for name, written in ((STATE, data), (MANIFEST, text)):
        # Readable by this user alone: what a model was learned from may be anything.
        with os.fdopen(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(written)


@contextmanager
def new_directory(path: str | Path, replace: bool = False, ours: Collection[str] = ()) -> Iterator[Path]:
    """Yields a temporary directory beside `path`, which takes that name when the block ends without an error.

    After an error nothing is left, and after a crash at most the temporary directory: `path` is the old directory, the
    new one, or not there. All that was written is on the disk before the rename. `replace`, `ours`: see `check_free`.
    """
    target = Path(path).absolute()
    check_free(target, replace, ours)
    made = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        temporary.mkdir(mode=0o700)
        yield temporary
        _synchronise(temporary)
        _rename(temporary, target, replace, ours)
        made = []
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # someone else may have put a file there
            for parent in made:
                parent.rmdir()
    _fsync(target.parent)


def check_free(path: str | Path, replace: bool = False, ours: Collection[str] = ()) -> None:
    """Returns nothing; raises OutputExistsError if `path` can not become a directory of ours.

    `replace`: accept a directory that holds nothing but a state and files called `ours`; it will be removed.
    """
    path = Path(path)
    asked = f"write to the directory {str(path)!r}"
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise OutputExistsError(asked, "it exists, and is no directory", "Name another one, or move it away.")
    if not replace:
        remedy = "Name another one, or pass replace=True (`--force`) to replace it."
        raise OutputExistsError(asked, "it exists already", remedy)
    names = sorted(entry.name for entry in path.iterdir())
    strange = [name for name in names if name not in (MANIFEST, STATE, *ours)]
    if strange or (MANIFEST in names and not _is_ours(path)):
        found = f"it holds what flowgraph did not write: {(strange or [MANIFEST])[0]!r}"
        raise OutputExistsError(asked, found, "Move that away, or name another directory: nothing of yours is removed.")


def load_state(directory: str | Path) -> tuple[Arrays, dict[str, Any]]:
    """Returns the arrays by name, and the content, that `save_state` wrote to `directory`.

    Raises InputNotFoundError if there is no such state, and DataError for one that is damaged or of a newer version.
    """
    path = Path(directory)
    manifest = _read_manifest(path)
    described, expected = manifest["arrays"], manifest["file"]
    try:
        data = _read(path / STATE, expected["bytes"])
    except FileNotFoundError as error:
        raise _damaged(path, f"it has no file {STATE!r}") from error
    if len(data) != expected["bytes"]:
        more = "at least " if len(data) > expected["bytes"] else ""
        found = f"{STATE!r} has {more}{len(data)} bytes, where {expected['bytes']} were written"
        raise _damaged(path, found)
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise _damaged(path, f"the checksum of {STATE!r} is wrong: its bytes were changed")
    reader = _safetensors("read arrays")
    try:
        arrays: Arrays = reader.load(data)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise _damaged(path, f"{STATE!r} is no safetensors file: {error}") from error
    found_types = {name: {"shape": list(one.shape), "dtype": one.dtype.name} for name, one in arrays.items()}
    for name in sorted({*found_types, *described}):
        if found_types.get(name) != described.get(name):
            difference = f"{STATE!r} has {found_types.get(name)}, the manifest says {described.get(name)}"
            raise _damaged(path, f"of the array {name!r} {difference}")
    return {name: arrays[name] for name in described}, manifest["content"]


# Reading


def _read_manifest(directory: Path) -> dict[str, Any]:
    asked = f"read the state in {str(directory)!r}"
    remedy = "Name a directory that flowgraph wrote, for instance the one of `flowgraph fit --out`."
    if not directory.is_dir():
        found = "it is a file, not a directory" if directory.exists() else "there is no such directory"
        raise InputNotFoundError(asked, found, remedy)
    try:
        text = _read(directory / MANIFEST, _MANIFEST_BYTES)
    except FileNotFoundError as error:
        raise InputNotFoundError(asked, f"it has no file {MANIFEST!r}", remedy) from error
    if len(text) > _MANIFEST_BYTES:
        raise _damaged(directory, f"{MANIFEST!r} is larger than {_MANIFEST_BYTES} bytes")
    try:
        manifest = json.loads(
            text.decode(), object_pairs_hook=_without_duplicates, parse_float=_finite, parse_constant=_no_constant
        )
        if _depth(manifest) > _DEPTH:
            raise ValueError(f"it has more than {_DEPTH} levels")
    except (ValueError, RecursionError) as error:
        raise _damaged(directory, f"{MANIFEST!r} can not be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(asked, f"{MANIFEST!r} is not one of flowgraph's", remedy)
    if manifest.get("version") != VERSION:
        found = f"its format has version {manifest.get('version')!r}, and this flowgraph reads version {VERSION}"
        newer = f"Use the flowgraph that wrote it ({manifest.get('flowgraph')!r}), or a newer one."
        raise DataError(asked, found, newer)
    reason = _flaw(manifest)
    if reason:
        raise _damaged(directory, f"{MANIFEST!r} is not as it was written: {reason}")
    return manifest


def _flaw(manifest: dict[str, Any]) -> str:
    """Returns what is wrong with a manifest of this version, or an empty text."""
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest):
        return "its checksum is wrong"
    arrays, file = manifest.get("arrays"), manifest.get("file")
    if not isinstance(manifest.get("content"), dict) or not isinstance(arrays, dict) or not isinstance(file, dict):
        return "a part is missing"
    if file.get("name") != STATE or not is_count(file.get("bytes"), 0) or not isinstance(file.get("sha256"), str):
        return "the file is not described"
    total = 0
    for name, one in arrays.items():
        if not isinstance(one, dict) or set(one) != {"shape", "dtype"} or one["dtype"] not in _DTYPES:
            return f"the array {name!r} is not described"
        if not isinstance(one["shape"], list) or not all(is_count(length, 0) for length in one["shape"]):
            return f"the array {name!r} has the shape {one['shape']!r}"
        size = np.dtype(one["dtype"]).itemsize
        for length in one["shape"]:
            size *= length  # Python's integers do not overflow
        total += size
    return "" if total <= file["bytes"] else f"its arrays have {total} bytes, its file {file['bytes']}"


def _read(path: Path, limit: int) -> bytes:
    """Returns the bytes of a regular file that is no link, at most one more than `limit`."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _damaged(path.parent, f"{path.name!r} can not be opened: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _damaged(path.parent, f"{path.name!r} is no regular file")
        parts: list[bytes] = []
        while limit >= 0 and (part := file.read(min(limit + 1, _READ_BYTES))):
            parts.append(part)
            limit -= len(part)
    return b"".join(parts)


def _damaged(directory: Path, found: str) -> DataError:
    remedy = "Use a copy that is whole, or make it again: nothing of it was used."
    return DataError(f"read the state in {str(directory)!r}", found, remedy)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _finite(text: str) -> float:
    number = float(text)
    if not np.isfinite(number):
        raise ValueError(f"{text} is beyond float64")
    return number


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _depth(value: Any) -> int:
    """Returns how many levels of lists and dicts there are."""
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list | tuple | Mapping)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, Mapping) else one)]
    return depth


def _checksum(manifest: Mapping[str, Any]) -> str:
    """Returns the hash of everything in a manifest; its layout as text does not count."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, allow_nan=False).encode()).hexdigest()


# Writing


def _safetensors(purpose: str) -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        remedy = "Install it: pip install 'flowgraph[files]'"
        raise UsageError(purpose, "safetensors, which does it, is not installed", remedy) from error
    return safetensors.numpy


def check_installed() -> None:
    """Returns nothing; raises UsageError if states can not be written here, before hours of work go into one."""
    _safetensors("write arrays")


def _checked_name(name: str) -> str:
    if not 0 < len(name) <= _NAME_LENGTH or "\0" in name or name == "__metadata__":
        remedy = f"Use 1 to {_NAME_LENGTH} characters without NUL."
        raise UsageError(f"write an array called {name!r:.200}", "that can not be the name of one", remedy)
    return name


def _plain(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns the array in C order and native byte order, as the format has it."""
    given = np.asarray(array)
    if given.dtype.name not in _DTYPES:
        raise UsageError(f"write the array {name!r} of {given.dtype}", "only numbers are written", "Convert it first.")
    return np.array(given, given.dtype.newbyteorder("="), order="C")


def _is_ours(directory: Path) -> bool:
    try:
        _read_manifest(directory)
    except FlowgraphError:
        return False
    return True


def _synchronise(directory: Path) -> None:
    for folder, _, files in os.walk(directory, topdown=False):
        for name in files:
            _fsync(Path(folder, name))
        _fsync(Path(folder))


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # a directory can not be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(temporary: Path, target: Path, replace: bool, ours: Collection[str]) -> None:
    # Once more: hours may have passed since the first check, and a rename would replace an empty directory silently.
    check_free(target, replace, ours)
    if not os.path.lexists(target):
        temporary.rename(target)
    elif not _exchange(temporary, target):
        old = temporary.with_suffix(".old")
        target.rename(old)
        temporary.rename(target)
        old.rename(temporary)  # the caller removes it


def _exchange(one: Path, other: Path) -> bool:
    """Returns whether the two directories have changed names at one blow, which Linux can do and Python can not say."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
