"""Gradients of data on disk in a process with little memory, and what reading and decoding them takes alone.

`with_flowgraph` and `with_numpy` take their part from here. zarr and pyarrow are imported where they are used.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .data import FEATURES, Array, Data, Results, results
from .memory import limited

Run = Callable[[], Results]
LIMIT = 1_500_000_000
"""The bytes of memory that a process may take, once the data are written."""
CHUNK_ROWS = {"zarr": 1 << 16, "parquet": 1 << 20}
"""The rows of a chunk of 8 MB, and of a row group as pyarrow cuts them if nobody tells."""


def write(data: Data) -> Path:
    """The path of the rows of `data`, as their library writes them by default; written by the first who asks."""
    path = data.folder / f"rows.{data.format}"
    if path.exists():
        return path
    needed, free = 4 * FEATURES * data.count * 5 // 4, shutil.disk_usage(data.folder).free
    if free < needed:
        raise OSError(
            f"{data.folder} has {free / 1e9:.1f} GB, the data take {needed / 1e9:.1f}; point TMPDIR elsewhere"
        )
    unfinished = path.with_suffix(".unfinished")
    {"zarr": _write_zarr, "parquet": _write_parquet}[data.format](unfinished, data.count)
    return unfinished.rename(path)


def _blocks(rows: int, size: int) -> Iterator[Array]:
    rng = np.random.default_rng(0)
    for start in range(0, rows, size):
        yield rng.standard_normal((min(size, rows - start), FEATURES), dtype=np.float32)


def _write_zarr(path: Path, rows: int) -> None:
    import zarr

    size = CHUNK_ROWS["zarr"]
    array = zarr.create_array(str(path), shape=(rows, FEATURES), chunks=(size, FEATURES), dtype="float32")
    for number, block in enumerate(_blocks(rows, size)):
        array[number * size : number * size + len(block)] = block


def _write_parquet(path: Path, rows: int) -> None:
    import pyarrow
    import pyarrow.parquet

    names = [f"x{number}" for number in range(FEATURES)]
    with pyarrow.parquet.ParquetWriter(path, pyarrow.schema([(name, pyarrow.float32()) for name in names])) as writer:
        for block in _blocks(rows, CHUNK_ROWS["parquet"]):
            writer.write_table(pyarrow.table(list(np.ascontiguousarray(block.T)), names))


def out_of_core(data: Data, threads: int) -> Run:
    """A traced function of a tensor of the file."""
    import flowgraph as fg

    from .losses import gradients, linear_loss

    path = write(data)
    X = fg.read_zarr(path) if data.format == "zarr" else fg.read_parquet(path)
    return limited(LIMIT, gradients(linear_loss, data, X[: 1 << 16]), gradients(linear_loss, data, X))


def _decoders(data: Data, path: Path) -> tuple[int, Callable[[int], Any]]:
    """How many chunks there are, and a function that reads and decodes one, in the thread that calls it."""
    if data.format == "zarr":
        import zarr

        array, size = zarr.open_array(str(path), mode="r"), CHUNK_ROWS["zarr"]
        return -(-array.shape[0] // size), lambda number: array[number * size : (number + 1) * size]
    from pyarrow.parquet import ParquetFile

    def group(number: int) -> Any:
        with ParquetFile(path, metadata=metadata) as file:
            return file.read_row_group(number, use_threads=False)

    metadata = ParquetFile(path).metadata
    return metadata.num_row_groups, group


def out_of_core_decode(data: Data, threads: int) -> Run:
    """The library of the format alone: chunks in turn on each thread, as they are decoded, and let go of."""
    path = write(data)
    count, decode = _decoders(data, path)
    pool = ThreadPoolExecutor(threads)

    def own(numbers: Sequence[int]) -> None:
        for number in numbers:
            decode(number)

    def run() -> Results:
        list(pool.map(own, [range(count * n // threads, count * (n + 1) // threads) for n in range(threads)]))
        return {}

    return limited(LIMIT, lambda: list(pool.map(decode, [0] * threads)), run)


def by_hand(data: Data, threads: int) -> Run:
    """numpy, chunk after chunk, with the gradients of a linear model written down."""
    path = write(data)
    count, decode = _decoders(data, path)

    def rows(number: int) -> Array:
        found = decode(number)
        return found if isinstance(found, np.ndarray) else np.column_stack([one.to_numpy() for one in found.columns])

    def run() -> Results:
        w, b = data.parameters
        loss, slopes = 0.0, [np.zeros(one.shape) for one in (w, b)]
        for number in range(count):
            X = rows(number)
            r = X @ w + b - data.y
            loss += float(np.vdot(r, r))
            slopes[0] += X.T @ r
            slopes[1] += r.sum(0)
        return results(loss / data.count, [2 * one / data.count for one in slopes])

    return limited(LIMIT, lambda: rows(0), run)
