"""Training on dask arrays: each chunk is computed once, and the bits are those of plain arrays."""

from __future__ import annotations

from collections import Counter
from typing import Any

import dask.array as da
import numpy as np
import pytest

import flowgraph as fg

ROWS = 60_000
X = np.random.default_rng(0).standard_normal((ROWS, 4)).astype("f4")
Y = X @ np.array([[1.0], [2.0], [3.0], [4.0]], "f4")
READS: list[int] = []


def read(block: Any) -> Any:
    READS.append(len(block))
    return block.copy()


def trained(x: Any, y: Any, batch_size: int | None, client: Any = None) -> tuple[Any, Any]:
    w = fg.Variable(np.zeros((4, 1), "f4"))
    history = fg.fit(
        lambda x, y: fg.mean(fg.square(x @ w - y)),
        (x, y),
        variables=[w],
        optimizer=fg.keras.optimizers.Adam(0.1),
        steps=12,
        batch_size=batch_size,
        window=5,
        client=client,
    )
    return history.losses, w.numpy()


@pytest.mark.parametrize("batch_size", [None, 500])
def test_chunks_are_read_once_and_change_no_bit(batch_size: int | None) -> None:
    READS.clear()
    x = da.from_array(X, chunks=(7000, 4)).map_blocks(read, dtype="f4", meta=np.empty((0, 0), "f4"), name="counted")
    found = trained(x, da.from_array(Y, chunks=(10_000, 1)), batch_size)
    assert sorted(READS) == sorted(x.chunks[0])
    for one, other in zip(found, trained(X, Y, batch_size), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.cluster
@pytest.mark.parametrize("batch_size", [None, 500])
def test_a_cluster_holds_the_chunks_and_changes_no_bit(cluster: Any, batch_size: int | None) -> None:
    x, y = da.from_array(X, chunks=(7000, 4)), da.from_array(Y, chunks=(10_000, 1))
    for one, other in zip(trained(x, y, batch_size, cluster), trained(X, Y, batch_size), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.cluster
def test_threads_of_a_worker_change_no_bit(threaded_cluster: Any) -> None:
    """Kernels, files of arrays and compiled programs of a worker meet in several threads at once."""
    x, y = da.from_array(X, chunks=(7000, 4)), da.from_array(Y, chunks=(10_000, 1))
    product = fg.function(lambda x: fg.tanh(fg.shard(x, rows=16) @ X[:4].T) @ X[:4], client=threaded_cluster)
    for batch_size in (None, 500):
        here = trained(X, Y, batch_size)
        for there in (trained(x, y, batch_size, threaded_cluster), trained(X, Y, batch_size, threaded_cluster)):
            assert all(map(np.array_equal, here, there))
    for _ in range(3):
        assert np.array_equal(product(X).numpy(), product.python_function(X).numpy())


@pytest.mark.cluster
def test_every_worker_has_its_shards_in_every_step(cluster: Any) -> None:
    """Dask alone runs tasks where their kernel and state are, which may be one worker for all of them."""
    x = np.random.default_rng(0).standard_normal((600_000, 8)).astype("f4")
    w = fg.Variable(np.zeros((8, 1), "f4"))
    workers = len(cluster.nthreads())
    with fg.tracing() as seen:
        fg.fit(
            lambda x: fg.mean(fg.square(fg.tanh(fg.shard(x, rows=workers) @ w) - 0.5)),
            x,
            variables=[w],
            optimizer=fg.keras.optimizers.Adam(0.1),
            steps=6,
            window=6,
            client=cluster,
        )
    places = Counter(one.place for one in seen.spans if one.name == "flowgraph-loop-zero")
    assert list(places.values()) == [6] * workers
    assert [one.nbytes < 1000 for one in seen.spans if one.name == "flowgraph-history"] == [True]
