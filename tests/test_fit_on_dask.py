"""Training on dask arrays: each chunk is computed once, and the bits are those of plain arrays."""

from __future__ import annotations

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
