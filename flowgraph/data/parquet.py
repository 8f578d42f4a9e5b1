"""Parquet files as rows of a tensor: decoded row group by row group, in the task that computes with them."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from flowgraph.data.source import find_files, listed, nearest, path_of, quoted, several
from flowgraph.errors import DataError, DTypeError, InputNotFoundError, UsageError
from flowgraph.graph import make_input
from flowgraph.sources import Reader, Stamp, StreamedPiece, Streams
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import as_dtype, tensor_type

BATCH_BYTES = 24 << 20
"""What is decoded at a time, if cells have 8 bytes: smaller batches cost the decoder up to half as much again."""
READ_BYTES = 1 << 14
"""What is read of each column before it is known how long a page is. It is copied, the rest of a page is not."""
BATCH_ROWS = 3 << 10
"""The fewest rows that are decoded at a time, however many columns there are."""
BLOCK_BYTES = 1 << 20
"""What is put together at a time: columns that are still in the cache when rows are made of them."""
BLOCK_ROWS = 256
"""The fewest rows that are put together at a time."""
PADDING = 16
"""Cells between the columns of a block. Columns a power of two apart would push one another out of the cache."""
SUFFIXES = (".parquet", ".parq", ".pq")

Array = np.ndarray[Any, Any]


def read_parquet(
    paths: str | Path | Iterable[str | Path],
    columns: str | Sequence[str] | None = None,
    *,
    dtype: DTypeLike = np.float32,
) -> Tensor:
    """A tensor of the rows of Parquet files, of shape `(rows, columns)`; `(rows,)` if `columns` is one name.

    Now only the metadata is read. The rows are decoded where they are computed with, a few at a time, so that data
    larger than memory can be differentiated; and anew by every run, so data that fits is better kept (`x.persist()`).

    `paths`: file names, patterns and directories; the files of a directory are those that end in .parquet, sorted by
    name. Workers open the files themselves, under the same paths. `columns`: which, in this order; None for all that
    hold numbers. `dtype`: of the tensor.

    Raises UsageError for columns that are not there, DTypeError for columns that hold no numbers or do not fit the
    dtype, DataError for files that can not be read, and for null cells, whose number it tells.

    >>> import tempfile, pyarrow, pyarrow.parquet, flowgraph as fg
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pyarrow.table({"height": [1.5, 2.0, 1.0], "city": ["Oslo", "Rome", "Bonn"], "weight": [50, 90, 30]})
    ...     pyarrow.parquet.write_table(table, folder + "/rows.parquet", row_group_size=2)
    ...     x = fg.read_parquet(folder)
    ...     x.shape, float(fg.sum(x * x)), fg.read_parquet(folder, "weight").tolist()
    ((3, 2), 11507.25, [50.0, 90.0, 30.0])
    """
    wanted = as_dtype(dtype)
    files = [_opened(path) for path in _files(paths)]
    names = _columns(files, columns)
    for one in files:
        _check_types(one, names, wanted)
    _check_nulls(files, names)
    vector = isinstance(columns, str)
    pieces = []
    for path, file in files:
        groups = tuple(file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups))
        if sum(groups):
            pieces.append(ParquetPiece(0, sum(groups), Stamp.of(path), groups, names, vector, wanted))
        file.close()
    rows = sum(one.stop for one in pieces)
    of = tensor_type((rows,) if vector else (rows, len(names)), wanted)
    return tensor_of(make_input(of, value=Streams(pieces, of)))


@dataclass(frozen=True)
class ParquetPiece(StreamedPiece):
    """The rows start to stop of a Parquet file."""

    stamp: Stamp
    groups: tuple[int, ...]
    """The rows of each row group."""
    columns: tuple[str, ...]
    vector: bool
    """Whether a row is one number, that of the one column."""
    dtype: np.dtype[Any]

    @property
    def row_type(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """One number, or one for each column."""
        return () if self.vector else (len(self.columns),), self.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """The row groups that have rows."""
        return tuple(rows for rows in self.groups if rows)

    def open(self, row: int) -> Reader:
        """A reader that decodes from the beginning of the row group of `row`."""
        return ParquetReader(self, row)


class ParquetReader:
    """Decodes batches of columns, and puts them together as rows."""

    def __init__(self, piece: ParquetPiece, row: int) -> None:
        piece.stamp.check()
        self.piece = piece
        offsets = [0, *accumulate(piece.groups)]
        group = bisect.bisect_right(offsets, row) - 1
        self._batches = _decoded(piece, group)
        self._columns: list[Array] = []
        self._used = row - offsets[group]
        self._block = _block(len(piece.columns), piece.dtype)
        self._next()
        while self._used >= len(self._columns[0]):  # what lies before in the row group must be decoded as well
            self._used -= len(self._columns[0])
            self._next()

    def take(self, out: Array) -> None:
        """Fill `out` with the next rows."""
        done = 0
        while done < len(out):
            if self._used == len(self._columns[0]):
                self._next()
                self._used = 0
            count = min(len(out) - done, len(self._columns[0]) - self._used)
            columns = [one[self._used : self._used + count] for one in self._columns]
            put_together(columns, out[done : done + count], self._block)
            self._used += count
            done += count

    def _next(self) -> None:
        self._columns = []  # let go of before the next ones are made
        self._columns = next(self._batches)


def _decoded(piece: ParquetPiece, group: int) -> Iterator[list[Array]]:
    """The columns of a piece from a row group on, batch by batch.

    A function, as a method that yields refers to the reader, which refers to it: both would keep their batches until
    the collector of cycles comes by.
    """
    arrow, parquet = load_pyarrow()
    offsets = [0, *accumulate(piece.groups)]
    row, last = offsets[group], bisect.bisect_left(offsets, piece.stop) - 1
    size = _batch_rows(len(piece.columns))
    # The piece may end behind the head of its last row group: what lies behind is not decoded for nothing.
    parts = [(list(range(group, last)), size), ([last], min(size, piece.stop - offsets[last]))]
    try:
        # A map of the file would count as memory of the process, and a buffer without a size holds row groups.
        with parquet.ParquetFile(piece.stamp.path, pre_buffer=False, buffer_size=READ_BYTES) as file:
            for groups, most in parts:
                for batch in file.iter_batches(most, groups, list(piece.columns), use_threads=False):
                    rows = batch.num_rows
                    if rows:
                        yield [_numbers(piece, batch.column(name), name, row) for name in piece.columns]
                    del batch  # before the next one is made
                    row += rows
    except arrow.ArrowMemoryError:
        raise
    except (arrow.ArrowException, OSError) as error:
        raise DataError(
            f"to decode rows from {row} on of {quoted(Path(piece.stamp.path))}",
            f"{type(error).__name__}: {error}",
            "The file is damaged: write it again.",
        ) from error


def _batch_rows(columns: int) -> int:
    """The rows of a batch: three times a power of two.

    The decoder makes room for a power of two, and for a page that it looks ahead. Where a batch fills its room to the
    brim the page no longer fits, so that every batch moves to twice the room and back.
    """
    thirds = max(BATCH_BYTES // (8 * columns), BATCH_ROWS) // 3
    return 3 << (thirds.bit_length() - 1)


def _numbers(piece: ParquetPiece, column: Any, name: str, row: int) -> Array:
    """The cells of a column that begins at `row`."""
    if column.null_count:
        raise _has_nulls(
            f"{column.null_count} in column {quoted(name)} among rows {row} to {row + len(column)} of "
            f"{quoted(Path(piece.stamp.path))}"
        )
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _block(columns: int, dtype: np.dtype[Any]) -> Array:
    """Memory for a block of `columns`, which lie one after the other."""
    rows = max(BLOCK_BYTES // (columns * dtype.itemsize), BLOCK_ROWS)
    return np.empty((columns, rows + PADDING), dtype)[:, :rows]


def put_together(columns: Sequence[Array], out: Array, block: Array) -> None:
    """Write columns as the rows of `out`, by way of `block`.

    The way is no detour: from columns a fixed distance apart numpy writes whole rows, and it casts while it copies
    what lies in order. Column by column, every cell would be a visit to another line of the cache.
    """
    with np.errstate(over="ignore"):  # a number that is too large for a float is inf
        if out.ndim == 1:
            np.copyto(out, columns[0], casting="same_kind")
            return
        for start in range(0, len(out), block.shape[1]):
            rows = out[start : start + block.shape[1]]
            for line, column in zip(block, columns, strict=True):
                np.copyto(line[: len(rows)], column[start : start + len(rows)], casting="same_kind")
            rows[...] = block[:, : len(rows)].T


def load_pyarrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet; raises UsageError if they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        remedy = "Install it: pip install 'flowgraph[parquet]'"
        raise UsageError("read Parquet files", "pyarrow, which decodes them, is not installed", remedy) from error
    return pyarrow, pyarrow.parquet


# What can be known before anything runs.


def _files(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    given = several(paths)
    found = [one for name in given for one in (_inside(path_of(name)) if name and path_of(name).is_dir() else [name])]
    return list(find_files(found))


def _inside(folder: Path) -> list[Path]:
    entries = sorted(folder.iterdir())
    found = [one for one in entries if one.suffix in SUFFIXES and one.name[0] not in "._" and one.is_file()]
    if found:
        return found
    hive = [one.name for one in entries if "=" in one.name and one.is_dir()]
    what = f"its files lie in directories such as {quoted(hive[0])}" if hive else f"no file ends in {SUFFIXES[0]}"
    raise InputNotFoundError(
        f"read the Parquet files in {quoted(folder)}",
        what,
        f"Name the files by a pattern, for example {quoted(folder / '**' / '*.parquet')}; columns that are only in the "
        "names of directories are not read."
        if hive
        else "Name the files, or a directory that holds them.",
    )


def _opened(path: Path) -> tuple[Path, Any]:
    arrow, parquet = load_pyarrow()
    try:
        return path, parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(
            f"read the metadata of {quoted(path)}", str(error), "Name Parquet files that were written to their end."
        ) from error


def _is_numeric(of: Any) -> bool:
    types = load_pyarrow()[0].types
    return bool(types.is_integer(of) or types.is_floating(of) or types.is_boolean(of))


def _columns(files: Sequence[tuple[Path, Any]], columns: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names of the columns to read; every file must have each of them once."""
    first = files[0][1].schema_arrow
    if columns is None:
        names = tuple(one.name for one in first if _is_numeric(one.type))
        if not names:
            raise DTypeError(
                f"a tensor of the columns of {quoted(files[0][0])} that hold numbers",
                f"none does; there are {listed(first.names)}",
                "Convert them first.",
            )
    else:
        names = (columns,) if isinstance(columns, str) else tuple(columns)
    asked = f"read the columns {listed(names)}"
    if not names:
        raise UsageError(asked, "no column is named", "Name at least one column, or none for all that hold numbers.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(asked, f"named more than once: {listed(twice)}", "Name each column once.")
    for path, file in files:
        known = file.schema_arrow.names
        for name in names:
            if known.count(name) != 1:
                found = "has no column" if name not in known else "has more than one column"
                raise UsageError(
                    asked,
                    f"{quoted(path)} {found} {quoted(name)}; it has {listed(known)}",
                    f"{nearest(name, known)}Name columns that all files have.",
                )
    return names


def _check_types(opened: tuple[Path, Any], names: Sequence[str], wanted: np.dtype[Any]) -> None:
    path, file = opened
    for name in names:
        of = file.schema_arrow.field(name).type
        if not _is_numeric(of):
            raise DTypeError(
                f"column {quoted(name)} of {quoted(path)} in a tensor",
                f"its cells are {of}, not numbers",
                "Leave it out of `columns`, or convert it first.",
            )
        if not np.can_cast(np.dtype(of.to_pandas_dtype()), wanted, "same_kind"):
            raise DTypeError(
                f"column {quoted(name)} of {quoted(path)} as {wanted}",
                f"its cells are {of}, which {wanted} can not hold",
                "Read it as a wider dtype, and use `fg.cast`.",
            )


def _check_nulls(files: Sequence[tuple[Path, Any]], names: Sequence[str]) -> None:
    """Raise DataError for nulls that the metadata counts; where it does not, they are found when they are decoded."""
    counts: Counter[tuple[str, Path]] = Counter()
    for path, file in files:
        known = {file.schema.column(number).path: number for number in range(len(file.schema))}
        places = [(name, known[name]) for name in names if name in known]
        for group in range(file.metadata.num_row_groups):
            found = file.metadata.row_group(group)
            for name, place in places:
                statistics = found.column(place).statistics
                if statistics is not None and statistics.has_null_count and statistics.null_count:
                    counts[name, path] += statistics.null_count
    if counts:
        shown = [f"{count} in column {quoted(name)} of {quoted(path)}" for (name, path), count in counts.items()]
        raise _has_nulls(", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else ""))


def _has_nulls(where: str) -> DataError:
    return DataError(
        "read the cells of Parquet files as numbers",
        f"some are null: {where}",
        "Fill them in, or drop their rows, and write the files again; nan is a number.",
    )
