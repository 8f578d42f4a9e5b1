"""Unique elements of rows, however they are cut: numpy's answers to the bit, and no row is gathered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from limited import needs_linux, results_on_a_file
from walk import tiles

import flowgraph as fg
from flowgraph.ops.sets import distinct_finish, distinct_merge, distinct_partial

RNG = np.random.default_rng(0)
SHARDS = (1, 3, 7, 16, (0, 1, 0, 50, 2, 0, 48), (101, 0))
DTYPES = (np.float16, np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64, np.uint64, np.bool_, np.complex64)


def data(dtype: Any, shape: Any = (101, 3)) -> Any:
    """Few different numbers, with nan, both zeros and inf where there are."""
    x = RNG.integers(0, 9, shape).astype(dtype)
    if x.dtype.kind in "fc":
        x[3::20, 1] = np.nan
        x[5::20] *= -0.0
        x[7, 0] = np.inf
    if x.dtype.kind == "c":
        x[9::20, 2] = 1j * np.nan
        x[2::9] += 3j
    return x


def same(found: Any, wanted: Any) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert one.compute(scheduler="synchronous").tobytes() == np.ascontiguousarray(other).tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda one: one.__name__)
def test_unique_elements_of_cut_rows_are_those_of_numpy(dtype: Any) -> None:
    x = data(dtype)
    wanted = np.unique_all(x)
    same(fg.unique_all(fg.asarray(x)), wanted)
    with tiles(4, 8):
        for shards in SHARDS:
            same(fg.unique_all(fg.shard(fg.asarray(x), rows=shards)), wanted)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
@pytest.mark.usefixtures("processes")
def test_of_chunks_and_of_what_was_computed(scheduler: str) -> None:
    x = data(np.float32)
    with tiles(4, 8), np.errstate(invalid="ignore"):
        import dask

        with dask.config.set(scheduler=scheduler):
            same(fg.unique_all(fg.asarray(da.from_array(x, chunks=(17, 3)))), np.unique_all(x))
        same(fg.unique_all(fg.asarray(x) * 2), np.unique_all(x * 2))
        same(fg.unique_all(fg.from_blocks([x[:13], x[13:14], x[14:]])), np.unique_all(x))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (0, 3), (3, 0), (1, 7), (2, 3, 2)], ids=str)
def test_of_all_ranks(shape: Any) -> None:
    x = np.asarray(RNG.integers(0, 3, shape), np.float32)
    same(fg.unique_all(fg.asarray(x)), np.unique_all(x))
    assert fg.unique_values(fg.asarray(x)).tolist() == np.unique_values(x).tolist()
    assert fg.unique_inverse(fg.asarray(x)).inverse_indices.shape == shape
    assert fg.unique_counts(fg.asarray(x)).counts.tolist() == np.unique_counts(x).counts.tolist()


def test_states_merge_in_any_grouping() -> None:
    x = data(np.float32).ravel()
    parts = [distinct_partial(one) for one in (x[:50], x[50:50], x[50:51], x[51:])]
    one = distinct_merge(distinct_merge(parts[0], parts[1]), distinct_merge(parts[2], parts[3]))
    other = distinct_merge(parts[0], distinct_merge(parts[1], distinct_merge(parts[2], parts[3])))
    for a, b in zip(distinct_finish(one), distinct_finish(other), strict=True):
        assert a.tobytes() == b.tobytes()


def test_values_keep_their_gradient_and_the_data_its_nodes() -> None:
    x = fg.constant([3.0, 1.0, 3.0])
    weights = np.array([1.0, 10.0], np.float32)
    assert fg.gradient(fg.sum(fg.unique_values(x) * weights), x).tolist() == [10, 1, 0]
    with fg.GradientTape() as tape:
        tape.watch(x)
        loss = fg.sum(fg.unique_all(x).values * weights)
    assert tape.gradient(loss, x).tolist() == [10, 1, 0]


JOB = """
def job(x):
    found = fg.unique_all(fg.shard(fg.asarray(x), rows=7) * 2)
    yield from (found.values, found.counts, found.indices)
    yield fg.sum(found.inverse_indices.astype(fg.float64))
    yield fg.top_k(fg.reshape(fg.asarray(x), (-1,)), 5).indices
"""


@needs_linux
def test_data_larger_than_the_memory_that_there_may_be(tmp_path: Path) -> None:
    """Unique elements, a lookup of each element among them, the largest."""
    x = RNG.integers(0, 50, (800_000, 16), dtype=np.int8).astype(np.float32)
    row = 600_000
    x[row, 7] = np.nan
    values, counts, indices, total, largest = results_on_a_file(x, JOB, tmp_path)
    flat = x.ravel()
    counted = np.bincount(flat[~np.isnan(flat)].astype(np.int64))
    np.testing.assert_array_equal(values, [*(2.0 * np.arange(50)), np.nan])
    np.testing.assert_array_equal(counts, [*counted, 1])
    np.testing.assert_array_equal(indices, [*(int(np.argmax(flat == one)) for one in range(50)), row * 16 + 7])
    assert total == np.sum(counted * np.arange(50)) + 50
    assert largest.tolist() == [row * 16 + 7, *np.flatnonzero(flat[:10_000] == 49)[:4]]
