"""One pass over CSV files of unknown length: parse, check, count, moments; the rows end up in blocks on a fixed grid.

    files ── header ── columns ── batches of text ── numbers ── checks ── blocks (memory or .npy) + moments

Training makes many passes over its rows; this one turns text into what the later passes read without any check.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from flowgraph.data.blocks import BlockStore
from flowgraph.data.columns import Selection, number_hint, select_columns
from flowgraph.data.csv import Batch, CsvFile, Dialect, lines_of, lost_digits, read_batches, read_header, to_floats
from flowgraph.data.moments import Moments
from flowgraph.data.source import counted, find_files, listed, quoted
from flowgraph.errors import DataError, OutputExistsError, UsageError

_LISTED_CELLS = 5
_LISTED_COLUMNS = 10


@dataclass(frozen=True, eq=False)
class Ingested:
    """The rows of some files as blocks of numbers, and what the pass over them found. All arrays are read-only."""

    feature_names: tuple[str, ...]
    """The columns of the blocks, in order."""
    target_name: str | None
    """The column to predict, or None."""
    features: tuple[NDArray[Any], ...]
    """C-order blocks of shape `(block_rows, n_features)`, the last one maybe shorter; memory maps if spilled."""
    target: tuple[NDArray[Any], ...]
    """Blocks of shape `(block_rows,)` on the same rows; empty without a target."""
    block_rows: int
    """Rows of every block but the last."""
    rows: int
    """Rows in all blocks."""
    dropped_rows: int
    """Rows left out because a cell of theirs was missing or not finite."""
    skipped: tuple[str, ...]
    """Columns left out because they hold text or have no name; empty where the features were named."""
    files: tuple[Path, ...]
    """The files, in the order of their rows."""
    moments: Moments
    """Moments of the features, each array of shape `(n_features,)`."""
    target_moments: Moments | None
    """Moments of the target, each array of shape `()`; None without a target."""


def ingest_csv(
    paths: str | Path | Iterable[str | Path],
    *,
    target: str | None,
    features: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    missing: Literal["refuse", "drop"] = "refuse",
    dtype: DTypeLike = np.float64,
    block_rows: int = 65536,
    directory: str | Path | None = None,
    memory_limit_bytes: int = 1 << 30,
    progress: Callable[[int], object] | None = None,
    delimiter: str = ",",
    decimal_point: str = ".",
    encoding: str = "utf-8",
    chunk_bytes: int = 1 << 20,
    allow_constant: bool = False,
    allow_few_rows: bool = False,
) -> Ingested:
    r"""Returns the rows of CSV files as blocks of numbers, after every check that can be made on them.

    `paths`: file names and glob patterns, see `find_files`. Columns are matched by name, in any order.
    `target`: the column to predict, or None to read rows for a prediction: then constant columns and few rows are fine.
    `features`: the other columns to read, in this order; None for all that hold numbers, as the first file orders them,
    but for those of `exclude`.
    `missing`: "refuse" raises for missing, infinite and nan cells; "drop" leaves out their rows.
    `dtype`: float32 or float64. `block_rows`: rows of a block, at least 1.
    `directory`, `memory_limit_bytes`: where blocks go once they exceed the limit; None: memory, however many.
    `progress`: called with the bytes read so far, over all files. `delimiter`, `decimal_point`, `encoding`,
    `chunk_bytes`: how the files are written, see `Dialect`.
    `allow_constant`, `allow_few_rows`: accept features that never change, and fewer rows than features.

    Raises InputNotFoundError, UsageError for arguments that can not be used, DataError for data that can not, and
    OutputExistsError if `directory` already holds blocks.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "rows.csv")
    ...     _ = file.write_text("height,city,weight\n1.5,Oslo,50\n2,Rome,90\n1,Bonn,30\n")
    ...     data = ingest_csv(file, target="weight", block_rows=2)
    >>> data.feature_names, data.skipped, data.rows
    (('height',), ('city',), 3)
    >>> [block.tolist() for block in data.features]
    [[[1.5], [2.0]], [[1.0]]]
    >>> float(data.moments.mean[0])
    1.5
    """
    dialect = Dialect(delimiter, decimal_point, encoding, chunk_bytes)
    element, size = _checked_options(missing, dtype, block_rows, memory_limit_bytes)
    spill_paths = () if directory is None else _checked_directory(Path(directory))
    files = tuple(read_header(path, dialect) for path in find_files(paths))
    selection = select_columns(files, target, features, (exclude,) if isinstance(exclude, str) else tuple(exclude))
    width = len(selection.features)
    stores = [BlockStore(shape, element, size) for shape in ([(width,)] if target is None else [(width,), ()])]
    reader = _Reader(selection, element, missing == "drop")
    try:
        for table in reader.tables(files, progress):
            for store, part in zip(stores, (table[:, :width], table[:, -1]), strict=False):
                store.append(part)
            if spill_paths and sum(store.nbytes for store in stores) > memory_limit_bytes:
                for store, path in zip(stores, spill_paths, strict=False):
                    store.spill(path)
        reader.check()
        ingested = _finish(selection, files, stores, size, reader.dropped_rows)
        if target is not None:
            _check_fit(ingested, allow_constant, allow_few_rows)
    except BaseException:
        for store in stores:
            store.discard()
        raise
    return ingested


def _checked_options(missing: str, dtype: DTypeLike, block_rows: int, limit: Any) -> tuple[np.dtype[Any], int]:
    if missing not in ("refuse", "drop"):
        found = "only 'refuse' and 'drop' are known"
        remedy = "Use 'drop' to leave out rows with missing cells, 'refuse' to be told of them."
        raise UsageError(f"treat missing cells by missing={missing!r}", found, remedy)
    try:
        element = np.dtype(dtype)
    except TypeError:
        element = np.dtype(object)
    if element not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise UsageError(f"store rows as {dtype!r}", "only float32 and float64 are known", "Use one of these dtypes.")
    try:
        size = operator.index(block_rows)
    except TypeError:
        size = 0
    if size < 1:
        remedy = "Use a whole number of rows, at least 1; a power of two is best."
        raise UsageError("store rows in blocks", f"block_rows is {block_rows!r}", remedy)
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0:
        found = f"memory_limit_bytes is {limit!r}"
        raise UsageError("keep rows in memory up to a limit", found, "Use a number of bytes such as 2**30.")
    return element, size


def _checked_directory(directory: Path) -> tuple[Path, Path]:
    """Returns where the blocks of features and target would go; a bad place is refused before hours of reading."""
    asked = f"write blocks of rows to {quoted(directory)}"
    if directory.exists() and not directory.is_dir():
        raise UsageError(asked, "it is not a directory", "Name a directory; it is made if it is not there.")
    paths = directory / "features.npy", directory / "target.npy"
    for path in paths:
        if path.exists():
            raise OutputExistsError(asked, f"{quoted(path)} exists", "Remove it, or name another directory.")
    return paths


def _finish(
    selection: Selection, files: Sequence[CsvFile], stores: Sequence[BlockStore], block_rows: int, dropped_rows: int
) -> Ingested:
    paths = tuple(file.path for file in files)
    rows = stores[0].rows
    if rows == 0:
        found = f"all {dropped_rows} rows hold a missing or infinite cell" if dropped_rows else "there is only a header"
        remedy = "Fill in the cells, or leave out the columns that are never filled." if dropped_rows else "Add rows."
        raise DataError(f"read the rows of {listed(paths, 3)}", found, remedy)
    blocks = [store.finish() for store in stores]
    moments = [store.moments.result() for store in stores]
    return Ingested(
        feature_names=selection.features,
        target_name=selection.target,
        features=blocks[0],
        target=blocks[1] if selection.target is not None else (),
        block_rows=block_rows,
        rows=rows,
        dropped_rows=dropped_rows,
        skipped=selection.skipped,
        files=paths,
        moments=moments[0],
        target_moments=moments[1] if selection.target is not None else None,
    )


def _check_fit(data: Ingested, allow_constant: bool, allow_few_rows: bool) -> None:
    """Returns nothing; raises DataError for rows that no plain regression can learn from."""
    asked = f"learn {quoted(data.target_name)} from {counted(len(data.feature_names), 'feature')}"
    alone = data.rows == 1 and not allow_constant  # of one row every column is constant
    if alone or (data.rows < len(data.feature_names) and not allow_few_rows):
        remedy = "Add rows or name fewer features; allow_few_rows=True is for models with a penalty (`--ridge`)."
        raise DataError(asked, f"only {counted(data.rows, 'row')}, so many answers fit equally well", remedy)
    constant = data.moments.minimum == data.moments.maximum
    if constant.any() and not allow_constant:
        named = [name for name, same in zip(data.feature_names, constant, strict=True) if same]
        found = f"constant over {counted(data.rows, 'row')}: {listed(named)}"
        remedy = f"Leave these columns out (`--exclude {','.join(named[:10])!r}`), or pass allow_constant=True."
        raise DataError(asked, found, remedy)


@dataclass(frozen=True)
class _Cell:
    file: CsvFile
    record: int
    column: str
    text: str = ""


class _Reader:
    """Turns batches of text into tables of finite numbers and counts the cells that are not."""

    def __init__(self, selection: Selection, dtype: np.dtype[Any], drop: bool) -> None:
        self._names, self._dtype, self._drop = selection.wanted, dtype, drop
        self._counts = {kind: np.zeros(len(self._names), np.int64) for kind in ("missing", "infinite")}
        self._first: dict[tuple[str, int], _Cell] = {}
        self.dropped_rows = 0

    def tables(self, files: Iterable[CsvFile], progress: Callable[[int], object] | None) -> Iterator[NDArray[Any]]:
        """Yields C-order tables of shape `(any, features + target)` without missing or infinite cells."""
        done = 0
        for file in files:
            for batch in read_batches(file, [file.names.index(name) for name in self._names]):
                table = self._numbers(batch, file)
                keep = self._count(table, batch, file)
                if progress is not None:
                    progress(done + batch.bytes_read)
                # Once a row is refused the rest is only counted.
                if self._drop or not self._first:
                    yield table if keep.all() else table[keep]
            done += file.path.stat().st_size
            if progress is not None:
                progress(done)

    def check(self) -> None:
        """Returns nothing; raises DataError with the counts per column if cells were refused."""
        if self._drop or not self._first:
            return
        found = [self._described(kind, counts) for kind, counts in self._counts.items() if counts.any()]
        remedy = "Fill in the cells, or pass missing='drop' (`--missing drop`) to leave out their rows."
        raise DataError(f"read the columns {listed(self._names)} as numbers", "; ".join(found), remedy)

    def _described(self, kind: str, counts: NDArray[np.int64]) -> str:
        positions = np.flatnonzero(counts).tolist()
        cells = [self._first[kind, position] for position in positions[:_LISTED_COLUMNS]]
        parts = [
            f"{counts[position]} in column {quoted(cell.column)} (first: {place})"
            for position, cell, place in zip(positions, cells, _places(cells), strict=False)
        ]
        label = "missing values" if kind == "missing" else f"values that are infinite or beyond {self._dtype}"
        more = f" and {len(positions) - len(parts)} more columns" if len(positions) > len(parts) else ""
        return f"{label}: {', '.join(parts)}{more}"

    def _numbers(self, batch: Batch, file: CsvFile) -> NDArray[Any]:
        table = np.empty((len(batch.columns[0]), len(self._names)), self._dtype)
        text: list[_Cell] = []
        lost: list[_Cell] = []
        for position, (name, cells) in enumerate(zip(self._names, batch.columns, strict=True)):
            numbers, bad = to_floats(cells, file.dialect.decimal_point)
            changed = lost_digits(cells, numbers)
            for found, rows in ((text, bad[:_LISTED_CELLS].tolist()), (lost, [] if changed is None else [changed])):
                found += [_Cell(file, batch.first_record + row, name, cells[row].as_py()) for row in rows]
            with np.errstate(over="ignore"):  # what does not fit float32 becomes inf and is counted
                table[:, position] = numbers
        if text or lost:
            raise _not_numbers(text, lost)
        return table

    def _count(self, table: NDArray[Any], batch: Batch, file: CsvFile) -> NDArray[np.bool_]:
        """Returns which rows are finite throughout, shape `(rows,)`; counts the cells of the others."""
        finite = np.isfinite(table)
        keep: NDArray[np.bool_] = finite.all(axis=1)
        if keep.all():
            return keep
        for kind, cells in (("missing", np.isnan(table)), ("infinite", np.isinf(table))):
            self._counts[kind] += cells.sum(axis=0)
            for position in np.flatnonzero(cells.any(axis=0)).tolist():
                record = batch.first_record + int(cells[:, position].argmax())
                self._first.setdefault((kind, position), _Cell(file, record, self._names[position]))
        if self._drop:
            self.dropped_rows += int((~keep).sum())
        return keep


def _places(cells: Sequence[_Cell]) -> list[str]:
    """Returns file and line of each cell, reading each file once."""
    records: dict[CsvFile, set[int]] = {}
    for cell in cells:
        records.setdefault(cell.file, set()).add(cell.record)
    lines = {file: lines_of(file, wanted) for file, wanted in records.items()}
    places = []
    for cell in cells:
        line = lines[cell.file].get(cell.record)
        where = f"data row {cell.record + 1}" if line is None else f"line {line}"
        places.append(f"{where} of {quoted(cell.file.path)}")
    return places


def _not_numbers(text: Sequence[_Cell], lost: Sequence[_Cell]) -> DataError:
    """Returns the error for text cells and integers that lose digits, at least one, all from one batch.

    Whichever row comes first decides, so that the error does not depend on how the parser cuts the file.
    """
    text, lost = (sorted(cells, key=lambda cell: cell.record) for cells in (text, lost))
    if not text or (lost and lost[0].record < text[0].record):
        cell = lost[0]
        (place,) = _places([cell])
        found = f"the integer {quoted(cell.text)}, {place}, has more digits than float64 keeps (2**53)"
        remedy = "An identifier is no feature: leave the column out; else write the number with a decimal point."
    else:
        cell, listing = text[0], text[:_LISTED_CELLS]
        shown = (
            f"{quoted(bad.text)} in column {quoted(bad.column)}, {place}"
            for bad, place in zip(listing, _places(listing), strict=True)
        )
        found = f"text in a numeric column: {'; '.join(shown)}"
        remedy = f"{number_hint(cell.text)}Correct the cells, or leave their columns out."
    return DataError(f"read column {quoted(cell.column)} as numbers", found, remedy)
