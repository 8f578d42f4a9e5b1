"""Files as streams of checked UTF-8: which files a pattern means, their bytes, and names made safe for messages."""

from __future__ import annotations

import codecs
import difflib
import glob
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flowgraph.errors import DataError, InputNotFoundError, UsageError

_READ_BYTES = 1 << 18
_LONGEST_SHOWN = 100


def quoted(text: object) -> str:
    r"""Returns `text` in quotes and cut to a readable length, with control characters escaped.

    A column name comes from a file that somebody else wrote; it must not be able to drive a terminal or forge a log.

    >>> print(quoted("a\x1b[31m"))
    'a\x1b[31m'
    """
    shown = str(text)
    # A path is told apart by its end, so it is never cut.
    return repr(shown if isinstance(text, Path) or len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + "...")


def printable(text: object) -> str:
    r"""Returns `text` on one line without quotes, with control characters escaped.

    >>> print(printable("a\x1b[31m"))
    a\x1b[31m
    """
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in str(text))


def listed(names: Iterable[object], limit: int = 10) -> str:
    """Returns the first `limit` names, quoted and joined by commas, and how many there are beyond them.

    >>> listed(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    every = list(names)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(quoted(name) for name in every[:limit]) + more


def counted(number: int, noun: str) -> str:
    """Returns a number of things in words.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def nearest(name: str, known: Sequence[str]) -> str:
    """Returns a sentence that names the entry of `known` closest to `name`, or an empty string if none is close.

    >>> nearest("heigth", ["weight", "height"])
    "Did you mean 'height'? "
    """
    plain = {entry.strip().casefold(): entry for entry in reversed(known)}
    close = difflib.get_close_matches(name.strip().casefold(), list(plain), n=1)
    return f"Did you mean {quoted(plain[close[0]])}? " if close else ""


def find_files(paths: str | Path | Iterable[str | Path]) -> tuple[Path, ...]:
    """Returns the files that file names and glob patterns stand for: patterns in the order given, sorted inside each.

    `paths`: one name or pattern, or several. A name that exists is taken literally, even if it holds `*`, `?` or `[`.
    In others a leading `~` is the home directory.
    Sorting compares characters, so `part.10.csv` comes before `part.2.csv`.

    Raises InputNotFoundError for a missing or unreadable file, a directory and a pattern that matches nothing, and
    UsageError for an empty list and for a file that is named twice (its rows would count twice).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.csv", "a.csv"):
    ...         _ = Path(folder, name).write_text("x,y")
    ...     [file.name for file in find_files(folder + "/*.csv")]
    ['a.csv', 'b.csv']
    """
    patterns = several(paths)
    for one in patterns:
        path_of(one)
    if not patterns:
        raise UsageError("read rows from files", "the list of files is empty", "Name one file or pattern, or several.")
    files = tuple(file for pattern in patterns for file in _matches(pattern))
    seen: dict[str, Path] = {}
    for file in files:
        first = seen.setdefault(os.path.realpath(file), file)
        if first is not file:
            raise UsageError(
                f"read {len(files)} files",
                f"{quoted(file)} and {quoted(first)} are the same file, so its rows would count twice",
                "Name each file once, and check that no two patterns overlap.",
            )
    return files


def several(paths: Any) -> list[Any]:
    """The names in a list, or the one name that was given in its place."""
    return list(paths) if isinstance(paths, Iterable) and not isinstance(paths, str | bytes) else [paths]


def path_of(name: Any) -> Path:
    """`name` as a path; raises UsageError for what is no name of a file."""
    if not isinstance(name, str | os.PathLike):
        found = f"that is of type {type(name).__name__}, not the name of a file"
        raise UsageError(f"read rows from {name!r:.100}", found, "Name one file or pattern, or several.")
    return Path(name)


def _matches(pattern: str | Path) -> list[Path]:
    text = os.fspath(pattern)
    if text in ("", "-"):
        reason = "the standard input can be read only once" if text else "the name is empty"
        raise InputNotFoundError(f"read {text!r}", reason, "Name a regular file: it is opened more than once.")
    path = Path(text)
    if os.path.lexists(path):
        _check_readable(path)
        return [path]
    expanded = os.path.expanduser(text)  # noqa: PTH111 - Path's own refuses an unknown user
    if expanded != text:  # a shell has not
        return _matches(expanded)
    if glob.has_magic(text):
        matches = glob.glob(text, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        found = sorted(Path(match) for match in matches if not Path(match).is_dir())
        for match in found:
            _check_readable(match)
        if found:
            return found
        remedy = f"Check the pattern; it is relative to {quoted(Path.cwd())} unless it begins with a slash."
        raise InputNotFoundError(f"read the files {quoted(path)}", "the pattern matches no file", remedy)
    folder, here = path.parent, quoted(Path.cwd())
    if not folder.is_dir():
        remedy = f"{nearest(folder.name, _entries(folder.parent))}Check the path and the working directory, {here}."
        raise InputNotFoundError(f"read {quoted(path)}", f"there is no directory {quoted(folder)}", remedy)
    remedy = f"{nearest(path.name, _entries(folder))}Check the name and the working directory, {here}."
    raise InputNotFoundError(f"read {quoted(path)}", "there is no such file", remedy)


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:  # a hint is not worth a second error
        return []


def _check_readable(path: Path) -> None:
    if path.is_dir():
        remedy = f"Name the files in it, for example {quoted(path / '*.csv')}."
        raise InputNotFoundError(f"read {quoted(path)}", "it is a directory, not a file", remedy)
    if path.exists() and not path.is_file():
        remedy = "Write the rows to a regular file first: it is opened more than once."
        raise InputNotFoundError(f"read {quoted(path)}", "it is a pipe or a device, not a file", remedy)
    try:
        path.open("rb").close()
    except OSError as error:
        remedy = "Check that the file is there and that you may read it."
        raise InputNotFoundError(f"read {quoted(path)}", f"{error.strerror or error}", remedy) from error


class Utf8Stream(io.RawIOBase):
    """The bytes of a text file as UTF-8, without byte order mark; reading raises DataError at the first bad byte.

    `path`: the file, `encoding`: what it is written in. `bytes_read` and `quotes` grow as the stream is read.
    """

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        super().__init__()
        # Python's "utf-8-sig" would also strip the mark, but its errors count bytes from behind the mark.
        self._is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
        self._path, self._encoding = path, encoding
        self._decoder = codecs.getincrementaldecoder("utf-8" if self._is_utf8 else encoding)()
        self._file = path.open("rb")
        self._pending = memoryview(b"")
        self.bytes_read = 0
        """Bytes taken from the file so far; the parser reads ahead of the rows that it has handed out."""
        self.quotes = 0
        """Quote characters seen so far; an odd number at the end of the file means that one may be unclosed."""

    def readable(self) -> bool:
        """True."""
        return True

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fills `buffer` with UTF-8 from its start and returns the number of bytes, 0 only at the end of the file."""
        while not self._pending:
            chunk = self._file.read(_READ_BYTES)
            self._pending = memoryview(self._checked(chunk))
            if not chunk and not self._pending:
                return 0
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size

    def _checked(self, chunk: bytes) -> bytes:
        start = self.bytes_read - len(self._decoder.getstate()[0])
        if self.bytes_read == 0 and self._is_utf8 and chunk.startswith(codecs.BOM_UTF8):
            self.bytes_read = start = len(codecs.BOM_UTF8)
            chunk = chunk[start:]
        try:
            text = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            marked = start == 0 and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            guess = "utf-16" if marked else "latin-1"
            raise DataError(
                f"read {quoted(self._path)} as {self._encoding} text",
                f"byte {start + error.start} is not {self._encoding}: {error.reason}",
                f"Convert the file to UTF-8, or name its encoding, say encoding={guess!r} (`--encoding {guess}`).",
            ) from error
        self.bytes_read += len(chunk)
        data = text.encode()
        self.quotes += data.count(b'"')
        return data


def check_encoding(encoding: str) -> None:
    """Returns nothing; raises UsageError if Python knows no text encoding of that name.

    >>> check_encoding("latin-1")
    """
    try:
        "".encode(encoding)
    except (LookupError, TypeError, ValueError) as error:
        remedy = "Use a name such as 'utf-8', 'latin-1', 'cp1252' or 'utf-16'."
        raise UsageError(f"read files with encoding={encoding!r}", str(error), remedy) from error
