"""CSV files as batches of text cells, text cells as numbers, and the line of a row that an error has to name.

Cells are parsed as text first and cast to float64 after that: it costs no time over parsing numbers directly, and the
text is there when a cell turns out not to be a number or to lose digits.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from flowgraph.data.source import Utf8Stream, check_encoding, listed, quoted
from flowgraph.errors import DataError, UsageError

_LONGEST_HEADER = 1 << 24
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip or Excel",
}
"""With what the files of other kinds begin that people take for CSV."""
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "Null", "null", "None", "none", "NaN", "nan", "NAN")
"""The spellings of a missing value."""

# What counts as a number once blanks around it are gone. It must cover all that the fast cast accepts, or the same cell
# would be judged by the company it keeps.
_NUMBER = r"^[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf|infinity|nan(?:\([a-z0-9_]*\))?))$"
_INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True)
class Dialect:
    """How the cells of a CSV file are written."""

    delimiter: str = ","
    """The character between two cells."""
    decimal_point: str = "."
    """The character before the decimals of a number; if it is the delimiter too, such numbers stand in quotes."""
    encoding: str = "utf-8"
    """A text encoding that Python knows; a UTF-8 byte order mark is skipped."""
    chunk_bytes: int = 1 << 20
    """Bytes that the parser takes at a time; the longest row has to fit."""

    def __post_init__(self) -> None:
        remedy = "Use one character that does not occur in numbers, such as ',', ';' or a tab."
        if len(str(self.delimiter)) != 1 or self.delimiter in '"\r\n+-.0123456789eE' or not self.delimiter.isascii():
            asked = f"split the cells at delimiter={self.delimiter!r}"
            raise UsageError(asked, "that can not be told apart from a part of a cell", remedy)
        if self.decimal_point not in (".", ","):
            asked = f"read numbers with decimal_point={self.decimal_point!r}"
            raise UsageError(asked, "only '.' and ',' are known", "Use decimal_point='.' or decimal_point=','.")
        if self.chunk_bytes < 1:
            remedy = "Use a number of bytes such as 2**20."
            raise UsageError("read files in chunks", f"chunk_bytes is {self.chunk_bytes}", remedy)
        check_encoding(self.encoding)


@dataclass(frozen=True)
class CsvFile:
    """A CSV file whose header has been read."""

    path: Path
    """Where it is."""
    dialect: Dialect
    """How it is written."""
    names: tuple[str, ...]
    """The columns as the header spells them."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some consecutive rows of one file, as text."""

    first_record: int
    """Index of the first row among the data rows of its file."""
    columns: tuple[Any, ...]
    """One Arrow array of strings per column asked for; a missing cell is null."""
    bytes_read: int
    """How much of the file has been read."""


def load_pyarrow() -> tuple[Any, Any, Any]:
    """Returns the modules pyarrow, pyarrow.csv and pyarrow.compute; raises UsageError if they are not installed."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv

        with suppress(ImportError):  # pyarrow does so itself when it meets an array, and loses a Ctrl-C meanwhile
            for name in ("pandas", "pyarrow.pandas_compat", "pyarrow.vendored.version"):
                import_module(name)
    except ImportError as error:
        remedy = "Install it: pip install 'flowgraph[dataframes]'"
        raise UsageError("read CSV files", "pyarrow, which parses them, is not installed", remedy) from error
    return pyarrow, pyarrow.csv, pyarrow.compute


def read_header(path: Path, dialect: Dialect) -> CsvFile:
    """Returns the file with the names of its columns; raises DataError if it is empty or its header can not be read."""
    _check_unpacked(path)
    with closing(Utf8Stream(path, dialect.encoding)) as raw, io.BufferedReader(raw) as stream:
        names = tuple(_take_header(stream, path, dialect))
    if not any(name.strip() for name in names):
        found = "the header line names no column" if names else "the file is empty"
        remedy = "Give it a first line with the names of the columns, or leave the file out."
        raise DataError(f"read the columns of {quoted(path)}", found, remedy)
    return CsvFile(path, dialect, names)


def _check_unpacked(path: Path) -> None:
    with path.open("rb") as file:
        first = file.read(8)
    for mark, kind in _PACKED.items():
        if first.startswith(mark):
            remedy = "Unpack it first, or save it as CSV: rows are found by their places in a plain file."
            raise DataError(f"read the columns of {quoted(path)}", f"it is a {kind} file, not text", remedy)


def read_batches(file: CsvFile, columns: Sequence[int]) -> Generator[Batch, None, None]:
    """Yields the data rows of the file in order, with only the `columns` (positions in the header) asked for.

    How many rows a batch holds is up to the parser. Raises DataError for a row with too many or too few fields, for
    a quote that is never closed and for a row longer than a chunk.
    """
    arrow, arrow_csv, _ = load_pyarrow()
    labels = [str(position) for position in range(len(file.names))]  # names may repeat, positions do not
    reading = arrow_csv.ReadOptions(column_names=labels, block_size=max(file.dialect.chunk_bytes, 2))
    # A blank line in a file of one column is a missing value: to skip it would shift all later rows.
    skip_blank = len(labels) > 1
    parsing = arrow_csv.ParseOptions(
        delimiter=file.dialect.delimiter, newlines_in_values=True, ignore_empty_lines=skip_blank
    )
    converting = arrow_csv.ConvertOptions(
        include_columns=[labels[position] for position in columns],
        column_types=dict.fromkeys(labels, arrow.string()),
        null_values=list(MISSING),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        check_utf8=False,  # Utf8Stream has, and knows the byte
    )
    first = 0
    with closing(Utf8Stream(file.path, file.dialect.encoding)) as raw, io.BufferedReader(raw, 1 << 18) as stream:
        _take_header(stream, file.path, file.dialect)
        if not stream.peek(1):
            return
        try:
            with arrow_csv.open_csv(stream, reading, parsing, converting) as reader:
                for batch in reader:
                    yield Batch(first, tuple(batch.columns), raw.bytes_read)
                    first += batch.num_rows
        except arrow.ArrowInvalid as error:
            raise _explained(file, str(error)) from error
        if raw.quotes % 2:
            _check_quotes(file)


def to_floats(cells: Any, decimal_point: str) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Returns the numbers of one column of a Batch, shape `(rows,)`, and the positions of the cells that are text.

    A missing cell and a text cell are nan, a number beyond float64 is inf. Blanks around a number and a plus sign are
    allowed. The nearest float64 is taken, so what `repr` wrote comes back to the bit.
    """
    arrow, _, compute = load_pyarrow()
    if decimal_point == ",":
        # A point would be a thousands separator then; "?" makes it text.
        cells = compute.replace_substring(compute.replace_substring(cells, ".", "?"), ",", ".")
    text = np.empty(0, np.intp)
    try:
        numbers = compute.cast(cells, arrow.float64())
    except arrow.ArrowInvalid:
        trimmed = compute.replace_substring_regex(compute.ascii_trim_whitespace(cells), r"^\+([0-9.])", r"\1")
        trimmed = compute.if_else(compute.is_in(trimmed, arrow.array(MISSING)), None, trimmed)
        numeric = compute.match_substring_regex(trimmed, _NUMBER)
        text = np.flatnonzero(~compute.fill_null(numeric, True).to_numpy(zero_copy_only=False))
        numbers = compute.cast(compute.if_else(numeric, trimmed, None), arrow.float64())
    return numbers.to_numpy(zero_copy_only=False), text


def lost_digits(cells: Any, numbers: NDArray[np.float64]) -> int | None:
    """Returns the position of the first integer of one column that `numbers`, its float64 values, changed, or None."""
    for position in np.flatnonzero(np.isfinite(numbers) & (np.abs(numbers) >= 2.0**53)):
        text = cells[int(position)].as_py().strip()
        if _INTEGER.fullmatch(text) and Decimal(text) != Decimal(float(numbers[position])):
            return int(position)
    return None


def lines_of(file: CsvFile, records: Collection[int]) -> dict[int, int]:
    """Returns the 1-based line of the file on which each of the data rows `records` (0-based) begins.

    Rows and lines differ by quoted line ends and blank lines, so the file is read again: only errors need it.
    """
    lines: dict[int, int] = {}
    last = max(records, default=-1)
    for index, (line, _) in enumerate(_records(file)):
        if index > last:
            break
        if index in records:
            lines[index] = line
    return lines


def _take_header(stream: BinaryIO, path: Path, dialect: Dialect) -> list[str]:
    """Returns the fields of the first line that is not blank; the stream then stands at the first data row."""
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        while line := stream.readline(_LONGEST_HEADER - taken):
            taken += len(line)
            if taken >= _LONGEST_HEADER:
                raise csv.Error(f"it is longer than {_LONGEST_HEADER} bytes")
            yield line.decode()

    try:
        for record in csv.reader(lines(), delimiter=dialect.delimiter, strict=True):
            if any("\0" in name for name in record):
                raise csv.Error("it holds NUL bytes, as UTF-16 text does")
            if not _is_blank(record):
                return record
    except csv.Error as error:
        remedy = "Check for an unclosed quote, for lines that end in a bare carriage return, and the encoding"
        remedy += " (for example encoding='utf-16', `--encoding utf-16`)."
        raise DataError(f"read the header line of {quoted(path)}", str(error), remedy) from error
    return []


def _is_blank(record: list[str]) -> bool:
    return not record or (len(record) == 1 and not record[0].strip())


def _records(file: CsvFile, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yields the line and the fields of each data row, as Python's own slow parser sees them."""
    raw = Utf8Stream(file.path, file.dialect.encoding)
    with io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-8", newline="") as text:
        reader = csv.reader(text, delimiter=file.dialect.delimiter, strict=strict)
        in_header, line = True, 1
        try:
            for record in reader:
                if in_header:
                    in_header = _is_blank(record)
                elif record or len(file.names) == 1:
                    yield line, record
                line = reader.line_num + 1
        except csv.Error as error:
            if strict:
                raise _unclosed(file, line, str(error)) from error


def _check_quotes(file: CsvFile) -> None:
    for _ in _records(file, strict=True):
        pass


def _unclosed(file: CsvFile, line: int, reason: str) -> DataError:
    remedy = "Close the quote; a quote inside a quoted cell is written twice."
    return DataError(f"read the rows of {quoted(file.path)}", f"line {line}: a quote does not close ({reason})", remedy)


def _explained(file: CsvFile, reason: str) -> DataError:
    asked = f"read the rows of {quoted(file.path)}"
    width = len(file.names)
    if "straddl" in reason:
        found = f"a row is longer than {file.dialect.chunk_bytes} bytes"
        return DataError(asked, found, "Look for a quote that is never closed, or pass a larger chunk_bytes.")
    for line, record in _records(file):
        # In a file of one column a blank line is a row whose cell is missing.
        if len(record) != width and record:
            found = f"line {line} has {len(record)} fields where the header has {width}: {listed(record, 5)}"
            remedy = "Give every row as many fields as the header; put quotes around a cell that holds the delimiter"
            return DataError(asked, found, f"{remedy} {quoted(file.dialect.delimiter)}.")
    return DataError(asked, f"the parser stopped: {quoted(reason)}", "Correct the file there.")
