"""Files as tensors: Parquet, Zarr and CSV have the bits of the same rows in memory; what is wrong is told."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dask.base import tokenize
from jobs import ROWS, X, Y, bits, linear, ranks

import flowgraph as fg
from flowgraph import collection, data, errors, program, schedule, sources
from flowgraph.data import parquet
from flowgraph.partition import behind

if TYPE_CHECKING:
    from distributed import Client

zarr = pytest.importorskip("zarr")

TILE = 16
NAMES = [f"x{number}" for number in range(X.shape[1])]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch, fresh_programs: None) -> None:
    """Tiles of 16 rows, so that little data has many; caches of programs must not outlive it."""
    monkeypatch.setattr(schedule, "TILE_ROWS", (TILE, TILE))
    monkeypatch.setattr(program, "SHARD_TILES", 1)


def write(path: Path, rows: Any = X, groups: int = 40, **more: Any) -> Path:
    """A Parquet file of `rows` and further columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: rows[:, number] for number, name in enumerate(NAMES)}
    pq.write_table(pa.table({**columns, **more}), path, row_group_size=groups)
    return path


def files(folder: Path) -> Any:
    """X in three files of different row groups, one of them without rows."""
    edges = [0, 90, 90, ROWS]
    for number, (a, b) in enumerate(itertools.pairwise(edges)):
        write(folder / f"part-{number}.parquet", X[a:b], groups=(7, 5, 64)[number])
    return fg.read_parquet(folder)


def chunks(folder: Path, rows: int = 30) -> Any:
    """X as a Zarr array."""
    array = zarr.create_array(str(folder / "x.zarr"), shape=X.shape, chunks=(rows, 2), dtype="float32")
    array[:] = X
    return fg.read_zarr(folder / "x.zarr")


def table(folder: Path) -> Any:
    """X as CSV files, and in blocks in a file."""
    for number, (a, b) in enumerate([(0, 50), (50, ROWS)]):
        lines = [",".join(NAMES), *(",".join(map(repr, map(float, row))) for row in X[a:b])]
        (folder / f"{number}.csv").write_text("\n".join(lines), encoding="utf-8")
    return fg.read_csv(folder / "*.csv", memory_limit_bytes=100)


KINDS: dict[str, Callable[[Path], Any]] = {"parquet": files, "zarr": chunks, "csv": table}


@pytest.fixture(params=KINDS)
def x(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """X, read from files."""
    yield KINDS[request.param](tmp_path)


# Values.


def test_the_rows_are_there(x: Any) -> None:
    assert (x.shape, x.dtype) == (X.shape, np.float32)
    np.testing.assert_array_equal(fg.asarray(x).numpy(), X)


@pytest.mark.parametrize("job", [linear, ranks])
@pytest.mark.parametrize("scheduler", [None, "threads", "synchronous"])
def test_bits_are_those_of_the_rows_in_memory(x: Any, job: Any, scheduler: Any) -> None:
    assert bits(job(x), scheduler=scheduler) == bits(job(X))
    assert isinstance(x.node.memo, sources.Streams) or x.node.memo.base is not None  # nobody loaded it


@pytest.mark.parametrize("rows", [1, 3, (0, 100, 3, 100)])
def test_any_cut_has_the_same_bits(x: Any, rows: Any) -> None:
    assert bits(linear(fg.shard(x, rows=rows))) == bits(linear(X))


def test_parts_of_files(x: Any) -> None:
    for part in (slice(20, 150), slice(None, None, 3), slice(150, 10, -2), slice(0, 0)):
        np.testing.assert_allclose(fg.sum(x[part] * 2, axis=0).numpy(), X[part].sum(axis=0) * 2, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(x[:, 2].numpy(), X[:, 2])
    np.testing.assert_allclose((x.T @ x).numpy(), X.T @ X, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(fg.sort(x, axis=0).numpy(), np.sort(X, axis=0))
    np.testing.assert_array_equal(fg.tanh(x).to_dask_array().compute(), fg.tanh(X).numpy())
    np.testing.assert_array_equal(x.to_dask_array().compute(), X)


def test_dask_computes_them(x: Any) -> None:
    assert [one.tobytes() for one in dask.compute(*linear(x))] == bits(linear(X))
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(x.node.memo))), X)
    assert tokenize(x) == tokenize(x)
    assert len(collection.optimize(fg.sum(x).__dask_graph__(), [])) < 40


def test_a_fit_reads_them(x: Any) -> None:
    w = fg.Variable(np.zeros((X.shape[1], 1), np.float32))
    sgd = fg.keras.optimizers.SGD(0.01)
    history = fg.fit(
        lambda x, y: fg.mean(fg.square(x @ w - y)), (x, Y), variables=[w], optimizer=sgd, epochs=3, batch_size=64
    )
    assert history.losses[-1] < history.losses[0]


@pytest.mark.cluster
def test_a_cluster_reads_them(cluster: Client, x: Any) -> None:
    assert bits(linear(x), client=cluster) == bits(linear(X))


@pytest.mark.cluster
def test_paths_travel_where_no_disk_is_shared(cluster: Client, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("flowgraph.run.shares_disk", lambda client, workers: False)
    x = files(tmp_path)
    with cluster.as_current():
        (found,) = dask.compute(fg.sum(x))
    np.testing.assert_allclose(found, X.sum(), rtol=1e-4)


def test_a_shard_reads_few_row_groups_and_holds_a_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[int, int]] = []
    largest = [0]
    init, take = parquet.ParquetReader.__init__, parquet.ParquetReader.take

    def noted(self: Any, piece: Any, row: int) -> None:
        opened.append((row, piece.stop))
        init(self, piece, row)

    def measured(self: Any, out: Any) -> None:
        largest[0] = max(largest[0], len(out))
        take(self, out)

    monkeypatch.setattr(parquet.ParquetReader, "__init__", noted)
    monkeypatch.setattr(parquet.ParquetReader, "take", measured)
    x = fg.read_parquet(write(tmp_path / "x.parquet", groups=32))
    total = fg.sum(x, axis=0)
    total.compute(scheduler="threads")
    assert 2 <= len(opened) <= 8
    assert all(row % 32 == 0 for row, _ in opened)  # no shard begins behind the beginning of a row group
    assert largest[0] == TILE


def test_a_reader_that_stops_early_lets_go_of_what_it_decoded(tmp_path: Path) -> None:
    """At once: it waited for the collector of cycles, with the batches and pages of its shard."""
    (piece,) = fg.read_parquet(write(tmp_path / "x.parquet")).node.memo.parts
    gc.disable()
    try:
        before = pa.total_allocated_bytes()
        reader = piece.open(3)
        reader.take(np.empty((2, X.shape[1]), np.float32))
        assert pa.total_allocated_bytes() > before
        del reader
        assert pa.total_allocated_bytes() == before
    finally:
        gc.enable()


def test_a_piece_decodes_no_more_than_the_head_of_its_last_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decoded a whole batch of it, which the next piece decoded again."""
    (piece,) = fg.read_parquet(write(tmp_path / "x.parquet", groups=100)).node.memo.parts
    decoded: list[int] = []
    numbers = parquet._numbers

    def noted(piece: Any, column: Any, name: str, row: int) -> Any:
        decoded.append(len(column))
        return numbers(piece, column, name, row)

    monkeypatch.setattr(parquet, "_numbers", noted)
    for start, stop, total in [(0, 108, 108), (100, 103, 3), (40, 100, 100), (108, ROWS, ROWS - 100)]:
        decoded.clear()
        part = dataclasses.replace(piece, start=start, stop=stop)
        np.testing.assert_array_equal(part.array(), X[start:stop])
        assert sum(decoded) == total * X.shape[1]


@pytest.mark.parametrize("columns", [1, 3, 32, 1000])
def test_batches_leave_the_decoder_room_to_look_ahead(columns: int) -> None:
    """Batches of a power of two were moved to twice the room and back: a fifth of the work of decoding."""
    rows = parquet._batch_rows(columns)
    room = 1 << (rows - 1).bit_length()
    assert rows == room * 3 // 4 >= parquet.BATCH_ROWS
    assert rows * columns * 8 <= max(parquet.BATCH_BYTES, parquet.BATCH_ROWS * columns * 8)


def test_columns_are_put_together_in_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parquet, "BLOCK_BYTES", 1)
    monkeypatch.setattr(parquet, "BLOCK_ROWS", 7)
    np.testing.assert_array_equal(fg.read_parquet(write(tmp_path / "x.parquet")).numpy(), X)


def test_shards_end_behind_chunks() -> None:
    assert behind([100, 100, 50], 250, 16) == (112, 96, 42)
    assert behind([100, 100], 100, 16) == (64, 36)  # two elements a row
    assert behind([5, 5], 10, 16) == (10, 0)
    assert behind([0], 0, 16) == (0,)


def test_columns_and_dtypes(tmp_path: Path) -> None:
    more = {"count": np.arange(ROWS), "flag": np.arange(ROWS) % 2 == 0, "name": ["text"] * ROWS, "a.b": X[:, 0]}
    path = write(tmp_path / "x.parquet", **more)
    assert fg.read_parquet(path).shape == (ROWS, 8)  # all but the text
    assert fg.read_parquet(path, "x3").numpy().tobytes() == X[:, 3].tobytes()
    assert fg.read_parquet(path, ["x4", "x0"]).numpy().tobytes() == X[:, [4, 0]].tobytes()
    assert fg.read_parquet(path, "a.b").tolist() == X[:, 0].tolist()
    assert fg.read_parquet(path, "count", dtype="int64").tolist() == list(range(ROWS))
    assert fg.read_parquet(path, ["flag", "x1"], dtype="float64").numpy()[:, 0].sum() == (ROWS + 1) // 2
    again = [path, tmp_path / "y.parquet"]
    write(again[1], X[:9])
    assert fg.read_parquet(again, "x0").shape == (ROWS + 9,)
    for name in ("_metadata.parquet", ".hidden.parquet", "notes.txt"):
        (tmp_path / name).write_text("no rows")
    assert fg.read_parquet(tmp_path, "x0").shape == (ROWS + 9,)
    assert fg.read_parquet(str(tmp_path / "?.parquet"), "x0").shape == (ROWS + 9,)


def test_files_without_rows(tmp_path: Path) -> None:
    x = fg.read_parquet(write(tmp_path / "x.parquet", X[:0]))
    assert x.shape == (0, 5)
    assert fg.sum(x, axis=0).tolist() == [0] * 5
    array = zarr.create_array(str(tmp_path / "x.zarr"), shape=(0, 3), chunks=(4, 3), dtype="float32")
    assert array.shape == (0, 3)
    assert fg.read_zarr(tmp_path / "x.zarr").numpy().shape == (0, 3)


def test_zarr_groups_ranks_and_dtypes(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "all.zarr"), mode="w")
    values = np.arange(7 * 3 * 2).reshape(7, 3, 2)
    for name, found in (("a", values), ("b", values[:, 0, 0])):
        array = group.create_array(name, shape=found.shape, chunks=(2,) * found.ndim, dtype="int16")
        array[:] = found
    x = fg.read_zarr(tmp_path / "all.zarr", "a")
    assert (x.dtype, x.tolist()) == (np.int16, values.tolist())
    assert (
        fg.read_zarr(tmp_path / "all.zarr", "b", dtype="float32").numpy().tobytes()
        == values[:, 0, 0].astype("f4").tobytes()
    )
    with pytest.raises(errors.UsageError, match=r"it is a group; its arrays are 'a', 'b'"):
        fg.read_zarr(tmp_path / "all.zarr")


def test_the_file_of_a_csv_goes_with_the_tensor(tmp_path: Path) -> None:
    with dask.config.set({"temporary-directory": str(tmp_path / "space")}):
        (tmp_path / "space").mkdir()
        (tmp_path / "x.csv").write_text("a,b\n1,2\n3,4\n")
        x = fg.read_csv(tmp_path / "x.csv", "b", memory_limit_bytes=1)
        assert len(list((tmp_path / "space").iterdir())) == 1
        assert x.tolist() == [2, 4]
        del x
        assert list((tmp_path / "space").iterdir()) == []
        assert fg.read_csv(tmp_path / "x.csv").tolist() == [[1, 2], [3, 4]]
        with pytest.raises(errors.UsageError, match="no such column"):
            fg.read_csv(tmp_path / "x.csv", ["c"])
        assert list((tmp_path / "space").iterdir()) == []


# What is wrong.


def test_parquet_that_is_refused_when_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", name=["text"] * ROWS, large=np.arange(ROWS) * 1.5)
    other = tmp_path / "y.parquet"
    pq.write_table(pa.table({"x0": X[:, 0]}), other)
    nulls = tmp_path / "n.parquet"
    pq.write_table(pa.table({"a": [1.0, None, 3.0, None], "b": [None, 2, 3, 4]}), nulls, row_group_size=2)
    (tmp_path / "text.parquet").write_text("this is no such file")
    (tmp_path / "hive" / "year=1").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    read = fg.read_parquet
    for call, kind, text in [
        (lambda: read(path, "larg"), errors.UsageError, r"no column 'larg'; it has 'x0'[\s\S]*Did you mean"),
        (lambda: read([path, other], ["x0", "x1"]), errors.UsageError, r"y.parquet' has no column 'x1'"),
        (lambda: read(path, ["x0", "x0"]), errors.UsageError, "more than once: 'x0'"),
        (lambda: read(path, []), errors.UsageError, "no column is named"),
        (lambda: read(path, "name"), errors.DTypeError, r"its cells are string, not numbers"),
        (lambda: read(path, "large", dtype="int32"), errors.DTypeError, "double, which int32 can not hold"),
        (lambda: read(nulls), errors.DataError, r"2 in column 'a' of .*n.parquet', 1 in column 'b'"),
        (lambda: read(tmp_path / "text.parquet"), errors.DataError, "read the metadata"),
        (lambda: read(tmp_path / "none.parquet"), errors.InputNotFoundError, "no such file"),
        (lambda: read(tmp_path / "hive"), errors.InputNotFoundError, r"such as 'year=1'[\s\S]*\*\*"),
        (lambda: read(tmp_path / "empty"), errors.InputNotFoundError, "no file ends in .parquet"),
        (lambda: read([path, path]), errors.UsageError, "count twice"),
        (lambda: fg.read_zarr(tmp_path / "no.zarr"), errors.InputNotFoundError, "no such directory"),
        (lambda: fg.read_zarr(path), errors.InputNotFoundError, "it is a file"),
        (lambda: fg.read_zarr(tmp_path / "empty"), errors.InputNotFoundError, "holds no array"),
    ]:
        with pytest.raises(kind, match=text):
            call()


def test_zarr_that_is_refused(tmp_path: Path) -> None:
    for name, dtype in (("text", "S3"), ("floats", "float64")):
        zarr.create_array(str(tmp_path / name), shape=(3,), chunks=(2,), dtype=dtype, zarr_format=2)
    zarr.create_array(str(tmp_path / "scalar"), shape=(), dtype="float32")
    with pytest.raises(errors.DTypeError, match="not numbers"):
        fg.read_zarr(tmp_path / "text")
    with pytest.raises(errors.DTypeError, match="int32 can not hold"):
        fg.read_zarr(tmp_path / "floats", dtype="int32")
    with pytest.raises(errors.ShapeError, match="no axes"):
        fg.read_zarr(tmp_path / "scalar")


def test_nulls_that_the_metadata_does_not_count(tmp_path: Path) -> None:
    values = [1.0] * 50 + [None] * 3
    pq.write_table(pa.table({"a": values}), tmp_path / "x.parquet", write_statistics=False)
    x = fg.read_parquet(tmp_path / "x.parquet")
    with pytest.raises(errors.DataError, match=r"3 in column 'a' among rows 0 to 53"):
        fg.sum(x).numpy()


def test_files_that_changed_or_went(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet")
    x = fg.read_parquet(path)
    os.utime(path, (1, 1))
    with pytest.raises(errors.DataError, match="changed after the tensor was made"):
        fg.sum(x).numpy()
    path.unlink()
    with pytest.raises(errors.ClusterError, match=r"does not see the file[\s\S]*disk that all workers see"):
        fg.sum(x * 2).numpy()


def test_files_that_are_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", groups=ROWS)
    content = bytearray(path.read_bytes())
    content[4:1200] = bytes(1196)
    path.write_bytes(content)
    with pytest.raises(errors.DataError, match=r"to decode rows from 0 on of .*x.parquet'"):
        fg.sum(fg.read_parquet(path)).numpy()
    x = chunks(tmp_path)
    (chunk,) = (tmp_path / "x.zarr" / "c" / "1").glob("0")
    chunk.write_bytes(b"no chunk")
    with pytest.raises(errors.DataError, match=r"to decode rows \d+ to \d+ of .*x.zarr'"):
        fg.sum(x).numpy()


@pytest.mark.parametrize(("module", "call"), [("pyarrow", "read_parquet"), ("zarr", "read_zarr")])
def test_libraries_that_are_not_installed(module: str, call: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet")
    code = f"import sys; sys.modules[{module!r}] = None; import flowgraph as fg; fg.{call}({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'flowgraph[{call.removeprefix('read_')}]'" in done.stderr


# Streams.


def test_a_stream_goes_back_where_it_must(tmp_path: Path) -> None:
    (piece,) = fg.read_parquet(write(tmp_path / "x.parquet")).node.memo.parts
    stream = sources.segment(piece)
    for a, b in [(0, 10), (10, 90), (50, 60), (200, ROWS), (0, 3), (3, 3)]:
        np.testing.assert_array_equal(stream[a:b], X[a:b])
    np.testing.assert_array_equal(sources.resolve(piece), X)


def test_public_names() -> None:
    assert fg.read_parquet is data.read_parquet
    assert {"read_csv", "read_parquet", "read_zarr", "from_dask", "from_delayed", "to_dask_arrays"} <= set(dir(fg))
