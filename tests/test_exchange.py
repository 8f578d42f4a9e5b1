"""Dask collections in and out: columns, unknown sizes, delayed values; tensors as lazy dask arrays."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from jobs import ROWS, X, bits, linear

import flowgraph as fg
from flowgraph import errors, schedule

if TYPE_CHECKING:
    from distributed import Client

TILE = 16


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch, fresh_programs: None) -> None:
    """Tiles of 16 rows, so that little data has many; caches of programs must not outlive it."""
    monkeypatch.setattr(schedule, "TILE_ROWS", (TILE, TILE))


def counted_chunks() -> tuple[da.Array, list[int]]:
    """X in chunks of 50 rows, and the list that gets the length of each chunk as often as it is read."""
    seen: list[int] = []

    def load(block: Any) -> Any:
        seen.append(len(block))
        return block

    return da.from_array(X, chunks=(50, -1)).map_blocks(load, dtype=X.dtype, meta=X[:0]), seen


# In.


def test_data_frames() -> None:
    pandas = pd.DataFrame({"a": X[:, 0], "b": np.arange(ROWS), "c": ["text"] * ROWS})
    frame = dd.from_pandas(pandas, npartitions=3)
    for found, wanted, dtype in [
        (fg.from_dask(frame["a"]), X[:, 0], np.float32),
        (fg.from_dask(frame[["a"]]), X[:, :1], np.float32),
        (fg.from_dask(frame[["a", "b"]]), pandas[["a", "b"]].to_numpy(), np.float64),
        (fg.from_dask(frame[["a", "b"]], dtype="float32"), pandas[["a", "b"]].to_numpy("f4"), np.float32),
        (fg.from_dask(frame[frame["b"] > 100]["b"]), np.arange(101, ROWS), np.int64),
        (fg.from_dask(frame["b"].astype("Int64")), np.arange(ROWS), np.int64),
        (fg.from_dask(frame.index), np.arange(ROWS), np.int64),
    ]:
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.numpy(), wanted)
    with pytest.raises(errors.DTypeError, match="column 'c' of a dask data frame"):
        fg.from_dask(frame)
    with pytest.raises(errors.ShapeError, match="no columns"):
        fg.from_dask(frame[[]])


def test_chunks_of_unknown_sizes_are_computed_once() -> None:
    x, seen = counted_chunks()
    some = x[x[:, 0] > 0]
    tensor = fg.from_dask(some)
    reads = len(seen)
    assert tensor.shape == ((X[:, 0] > 0).sum(), 5)
    assert np.isnan(some.chunks[0][0])  # the array itself is as it was
    np.testing.assert_allclose(float(fg.sum(tensor)), X[X[:, 0] > 0].sum(), rtol=1e-4)
    assert len(seen) == 2 * reads


def test_delayed_values() -> None:
    load = dask.delayed(lambda a, b: X[a:b], pure=True)
    edges = [(0, 100), (100, 100), (100, ROWS)]
    x = fg.from_delayed([load(a, b) for a, b in edges], [(b - a, 5) for a, b in edges])
    assert bits(linear(x)) == bits(linear(X))
    assert float(fg.from_delayed(dask.delayed(np.float32)(3), ())) == 3
    assert fg.from_delayed(load(0, 9), (9, 5)).shape == (9, 5)
    for call, kind, text in [
        (lambda: fg.from_delayed([], (1,)), errors.UsageError, "there are none"),
        (lambda: fg.from_delayed([load(0, 1)], [(1, 5), (2, 5)]), errors.ShapeError, "2 shapes"),
        (lambda: fg.from_delayed([load(0, 1)] * 2, [(1, 5), (2, 4)]), errors.ShapeError, "Only the number of rows"),
        *(
            (lambda bad=bad: fg.from_delayed(load(0, 1), bad), errors.ShapeError, "is none")
            for bad in (5, None, (None, 5), (-1, 5), "ab")
        ),
        (lambda: fg.from_delayed([X], (1, 5)), errors.UsageError, "one is a ndarray"),
        (lambda: fg.sum(fg.from_delayed(load(0, 9), (8, 5))).numpy(), errors.DataError, r"shape \(8, 5\)"),
    ]:
        with pytest.raises(kind, match=text):
            call()


@pytest.mark.cluster
def test_futures(cluster: Client) -> None:
    future = cluster.submit(np.ones, (4, 2))
    assert float(fg.sum(fg.from_delayed([future, future], (4, 2), "float64"))) == 16


# Out.


def test_gradients_of_dask_arrays_have_their_chunks() -> None:
    x = da.from_array(X, chunks=(50, 2))
    expected = fg.grad(lambda x: fg.sum(fg.tanh(x)))(X).numpy()
    for form in (x, fg.from_dask(x)):
        slope = fg.grad(lambda x: fg.sum(fg.tanh(x)))(form)
        array = slope.to_dask_array()
        assert slope.node.memo is None  # nothing was computed
        assert array.chunks == ((50, 50, 50, 50, 3), (5,))
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array.compute(), expected)
        np.testing.assert_array_equal((x - array).compute(), X - expected)


def test_arrays_that_share_a_graph_read_once() -> None:
    x, seen = counted_chunks()
    value, slope = fg.value_and_grad(lambda x: fg.sum(fg.tanh(x)))(x)
    total, array = fg.to_dask_arrays(value, slope)
    found, slopes, whole = dask.compute(total, array, x)
    assert sorted(seen) == [3, 50, 50, 50, 50]
    assert found.shape == ()
    np.testing.assert_allclose(found, np.tanh(X).sum(), rtol=1e-4)
    np.testing.assert_array_equal(whole, X)
    assert slopes.shape == X.shape


def test_kinds_of_tensors_as_arrays() -> None:
    x = fg.asarray(X)
    lazy = fg.tanh(x) * 2
    for tensor, wanted in [
        (x, X),
        (fg.constant(3.0), np.float32(3)),
        (lazy, np.tanh(X) * 2),
        (fg.from_blocks([X[:9], X[9:]]), X),
        (fg.asarray(da.from_array(X, chunks=70)), X),
        (fg.sum(x, axis=0), X.sum(axis=0)),
        (x.T @ x, X.T @ X),
        (fg.cast(fg.asarray(da.ones((), dtype="float32")), "float64"), np.float64(1)),
        (fg.asarray(da.ones((), dtype="float32")), np.float32(1)),
        (fg.zeros((0, 3)) + 1, np.zeros((0, 3))),
    ]:
        array = tensor.to_dask_array()
        assert (array.shape, array.dtype) == (tensor.shape, tensor.dtype)
        np.testing.assert_allclose(array.compute(), wanted, rtol=1e-4, atol=1e-4)
    assert len(lazy.to_dask_array().chunks[0]) >= 2
    first, again = fg.to_dask_arrays(x + 1, x)
    np.testing.assert_array_equal(dask.compute(first, again)[0], X + 1)

    @fg.function
    def traced(x: Any) -> Any:
        return fg.asarray(x.to_dask_array())

    with pytest.raises(errors.UsageError, match="being traced"):
        traced(X)


def test_logical_cuts_are_computed_by_dask() -> None:
    w = np.arange(20, dtype=np.float32).reshape(5, 4)
    cut = fg.shard(fg.asarray(w), axes={1: 2})
    y = fg.asarray(da.from_array(X, chunks=50)) @ cut
    (found,) = dask.compute(y)
    np.testing.assert_allclose(found, X @ w, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(y.to_dask_array().compute(), found)


@pytest.mark.cluster
def test_a_cluster_computes_arrays(cluster: Client) -> None:
    x = da.from_array(X, chunks=(50, -1))
    with cluster.as_current():
        array = fg.grad(lambda x: fg.sum(x * x))(x).to_dask_array()
        np.testing.assert_array_equal(array.compute(), 2 * X)


PLANNED = """
import warnings, dask, numpy as np
dask.config.set({"array.query-planning": True})
import dask.array as da, flowgraph as fg
x = da.from_array(np.arange(1000.0).reshape(-1, 4), chunks=(60, 2)) + 1
value, slope = fg.value_and_grad(lambda x: fg.sum(x * x))(x)
total, array = fg.to_dask_arrays(value, slope)
assert "_array_expr" in type(array).__module__
assert array.chunks == ((60, 60, 60, 60, 10), (4,)), array.chunks
want = np.arange(1000.0).reshape(-1, 4) + 1
assert (array.compute() == 2 * want).all()
assert ((array + array).compute() == 4 * want).all()
assert float(total.compute()) == float(value) == (want * want).sum()
assert fg.from_dask(x).shape == (250, 4)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    found, whole = dask.compute(fg.sum(fg.from_dask(x)), x)
assert found == want.sum() and (whole == want).all()
"""


def test_with_query_planning() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLANNED], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
