"""Which columns of some CSV files are read: as named, or all that hold numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgraph.data.csv import CsvFile, load_pyarrow, read_batches, to_floats
from flowgraph.data.source import listed, nearest, quoted
from flowgraph.errors import DataError, UsageError

_SAMPLE_ROWS = 1024
_SAMPLE_CELLS = 1 << 20

_NUMBER_NAME = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")
# 1,000  1.234,56  $5  5%  1_000  1D3  0x1F, a minus sign that is not ASCII, blanks that do not break
_FOREIGN_NUMBER = re.compile(
    r"""\s* (?: 0[xX][0-9a-fA-F]+
        | [-+\u2212]? [$\u20ac\u00a3]? \d+ (?:[.,_'\x20\u00a0\u202f]\d{3})* (?:[.,]\d+)? (?:[eEdD][-+\u2212]?\d+)?
          \s* [%$\u20ac\u00a3]?
        ) \s*""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Selection:
    """The columns to read."""

    features: tuple[str, ...]
    """The columns of the table, in its order."""
    target: str | None
    """The column to predict, or None."""
    skipped: tuple[str, ...]
    """Columns left out because they hold text or have no name."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """The features and then the target."""
        return self.features if self.target is None else (*self.features, self.target)


def select_columns(
    files: Sequence[CsvFile], target: str | None, features: str | Sequence[str] | None, exclude: Sequence[str] = ()
) -> Selection:
    """Returns which columns of `files` are read.

    `features` None means all columns that hold numbers, judged by the first rows of the first file that has rows,
    without those of `exclude`.
    Raises UsageError for names that are wrong and DataError for headers that are.
    """
    named = None if features is None else _checked_features(features, target)
    wanted = (*(named or ()), *(() if target is None else (target,)))
    for file in files:
        _check_header(file, wanted, strict=named is None)
    _check_known(files[0], wanted, target)
    _check_exclude(files[0], wanted, exclude, target)
    _check_same_columns(files, wanted, every=named is None)
    if named is not None:
        return Selection(named, target, ())
    candidates = tuple(name for name in files[0].names if name.strip() and name != target and name not in exclude)
    text = _text_columns(files, candidates)
    numeric = tuple(name for name in candidates if name not in text)
    skipped = tuple(name for name in files[0].names if name in text or not name.strip())
    if not numeric:
        none = f"there is no other column{' that is not excluded' if exclude else ''}"
        found = f"no column holds numbers; left out: {listed(skipped)}" if skipped else none
        remedy = "Check the delimiter and the decimal point (`--sep`, `--decimal`), or name the features."
        besides = "" if target is None else f" besides the target {quoted(target)}"
        raise DataError(f"use the columns of {quoted(files[0].path)} that hold numbers{besides}", found, remedy)
    return Selection(numeric, target, skipped)


def _checked_features(features: str | Sequence[str], target: str | None) -> tuple[str, ...]:
    named = (features,) if isinstance(features, str) or not isinstance(features, Iterable) else tuple(features)
    for one in named:
        if not isinstance(one, str):
            found = f"that is a {type(one).__name__}, and columns are found by name"
            raise UsageError(f"use the feature {one!r:.100}", found, "Name it as the first line of the file does.")
    asked = f"use the features {listed(named)}"
    if not named:
        remedy = "Name at least one column, or pass None for all that hold numbers."
        raise UsageError("use the features of an empty list", "no column is named", remedy)
    twice = [name for name, count in Counter(named).items() if count > 1]
    if twice:
        raise UsageError(asked, f"named more than once: {listed(twice)}", "Name each column once.")
    if target in named:
        remedy = "Take it out of the features: a model that sees the answer learns nothing else."
        raise UsageError(asked, f"{quoted(target)} is the target too", remedy)
    return named


def check_delimiter(file: CsvFile, wanted: Sequence[str]) -> None:
    """Returns nothing; raises DataError for a header that is one column because its delimiter is another one."""
    if len(file.names) == 1 and file.names[0] not in wanted:
        for other, spelling in ((";", "';'"), ("\t", r"'\t'"), ("|", "'|'")):
            if other in file.names[0]:
                remedy = f"Did you mean delimiter={spelling} (`--sep {spelling}`)?"
                remedy += " With a decimal comma also decimal_point=',' (`--decimal ','`)." if other != "|" else ""
                asked = f"read the columns of {quoted(file.path)}"
                raise DataError(asked, f"the header is one column, {quoted(file.names[0])}", remedy)


def _check_header(file: CsvFile, wanted: Sequence[str], strict: bool) -> None:
    check_delimiter(file, wanted)
    asked = f"read the columns of {quoted(file.path)}"
    named = [name for name in file.names if name.strip()]
    if strict and all(_NUMBER_NAME.fullmatch(name) for name in named):
        remedy = "Put a line with the names of the columns first; if these numbers are names, list the features."
        raise DataError(asked, f"the first line holds numbers, not names: {listed(named, 5)}", remedy)
    twice = [name for name, count in Counter(named).items() if count > 1]
    if twice:
        raise DataError(asked, f"more than one column is called {listed(twice)}", "Give each column its own name.")


def _check_known(file: CsvFile, wanted: Sequence[str], target: str | None) -> None:
    for name in wanted:
        if name not in file.names:
            role = "target" if name == target else "feature"
            found = f"{quoted(file.path)} has no such column; it has {listed(file.names)}"
            remedy = f"{nearest(name, file.names)}Names are compared letter by letter, with their blanks."
            raise UsageError(f"use the column {quoted(name)} as {role}", found, remedy)


def _check_exclude(file: CsvFile, wanted: Sequence[str], exclude: Sequence[str], target: str | None) -> None:
    for name in exclude:
        asked = f"leave out the column {quoted(name)}"
        if name in wanted:
            role = "the target" if name == target else "named as a feature too"
            raise UsageError(asked, f"it is {role}", "Name it in one place.")
        if name not in file.names:
            found = f"{quoted(file.path)} has no such column; it has {listed(file.names)}"
            remedy = f"{nearest(name, file.names)}Names are compared letter by letter, with their blanks."
            raise UsageError(asked, found, remedy)


def _check_same_columns(files: Sequence[CsvFile], wanted: Sequence[str], every: bool) -> None:
    """Returns nothing; raises DataError unless each file has the wanted columns, or with `every` those of the first."""
    first = files[0]
    needed = [name for name in first.names if name.strip()] if every else list(wanted)
    for file in files[1:]:
        missing = [name for name in needed if name not in file.names]
        extra = [name for name in file.names if every and name.strip() and name not in first.names]
        if missing or extra:
            found = [f"{quoted(file.path)} has no column {listed(missing)}"] if missing else []
            found += [f"{quoted(file.path)} has the column {listed(extra)}, which the first has not"] if extra else []
            hint = nearest(missing[0], file.names) if missing else ""
            remedy = f"{hint}Give all files the same columns, in any order, or name the features that they share."
            raise DataError(f"read {len(files)} files like {quoted(first.path)}", "; ".join(found), remedy)


def _text_columns(files: Sequence[CsvFile], candidates: Sequence[str]) -> set[str]:
    """Returns the candidates whose first cells are all text; raises DataError if these are numbers in disguise."""
    for file in files:
        columns = _first_rows(file, candidates) if candidates else []
        if columns:
            break
    else:
        return set()
    text = set()
    for name, cells in zip(candidates, columns, strict=True):
        numbers, positions = to_floats(cells, file.dialect.decimal_point)
        if len(positions) == 0 or not np.isnan(numbers).all():
            continue
        shown = [cells[int(position)].as_py() for position in positions]
        if all(_FOREIGN_NUMBER.fullmatch(cell) for cell in shown):
            found = f"they are numbers in a notation that is not read: {listed(shown, 5)}"
            remedy = number_hint(shown[0]) + "Write them like -1234.5, or name the features without this column."
            raise DataError(f"read the cells of column {quoted(name)} of {quoted(file.path)}", found, remedy)
        text.add(name)
    return text


def number_hint(cell: str) -> str:
    """Returns a sentence on the option that would make a number of this text, or an empty string.

    >>> number_hint("1,5")
    "If the comma is the decimal point, pass decimal_point=',' (`--decimal ','`). "
    >>> number_hint("1,500")
    "If the comma is the decimal point, pass decimal_point=',' (`--decimal ','`); between thousands write none. "
    """
    decimal = "If the comma is the decimal point, pass decimal_point=',' (`--decimal ','`)"
    if re.fullmatch(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*", cell):
        return f"{decimal}; between thousands write none. "
    if re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell):
        return f"{decimal}. "
    return ""


def _first_rows(file: CsvFile, names: Sequence[str]) -> list[Any]:
    """Returns the first cells of each column: a fixed number, however the parser cuts the file; none without rows."""
    size = max(16, min(_SAMPLE_ROWS, _SAMPLE_CELLS // max(len(names), 1)))
    batches = []
    rows = 0
    with closing(read_batches(file, [file.names.index(name) for name in names])) as reader:
        while rows < size and (batch := next(reader, None)) is not None:
            batches.append(batch.columns)
            rows += len(batch.columns[0])
    concatenate = load_pyarrow()[0].concat_arrays
    return [concatenate(parts).slice(0, size) for parts in zip(*batches, strict=True)] if rows else []
