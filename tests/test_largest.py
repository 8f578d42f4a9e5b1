"""The k largest over cut lines: ties, nan, pieces shorter than k, and no line is ever gathered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oracles_largest import top_k
from walk import tiles

import flowgraph as fg
from flowgraph.eager import compiled, cone, detached
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.graph import ops_used

RNG = np.random.default_rng(0)
X = np.array([[3.0, 1.0, 3.0, 2.0], [0.0, 5.0, -1.0, 5.0], [2.0, 2.0, 2.0, 2.0]])
SHARDS = (1, 3, 7, 16, (0, 1, 0, 50, 2, 0, 48), (101, 0))
DTYPES = (np.float16, np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64, np.uint64, np.bool_)


def program_of(*tensors: Any) -> Any:
    return compiled(detached(cone([one.node for one in tensors]))).program


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda one: one.__name__)
@pytest.mark.parametrize("k", [0, 1, 5, 40, 101])
def test_a_cut_line_has_the_bits_of_the_whole(dtype: Any, k: int) -> None:
    x = RNG.integers(0, 9, 101).astype(dtype)
    if x.dtype.kind == "f":
        x[[3, 50, 99]] = np.nan
        x[[7, 8]] = np.inf
        x[::11] *= -0.0
    whole = fg.top_k(fg.constant(x), k)
    with tiles(4, 8):
        assert "gather" not in ops_used(program_of(*fg.top_k(fg.asarray(x), k)).parts.graph)
        for shards in SHARDS:
            found = fg.top_k(fg.shard(fg.asarray(x), rows=shards), k)
            for one, other in zip(found, whole, strict=True):
                assert one.dtype == other.dtype
                assert one.compute(scheduler="synchronous").tobytes() == other.numpy().tobytes()


@pytest.mark.parametrize("shards", SHARDS, ids=str)
def test_lines_that_are_columns_of_rows(shards: Any) -> None:
    x = RNG.integers(0, 5, (101, 3)).astype(np.float32)
    x[40::20, 1] = np.nan
    with tiles(4, 8):
        found = fg.top_k(fg.transpose(fg.shard(fg.asarray(x), rows=shards)), 7)
        assert "gather" not in ops_used(program_of(*found).parts.graph)
        order = np.argsort(np.where(np.isnan(x.T), -np.inf, -x.T), axis=-1, kind="stable")[:, :7]
        assert found.indices.tolist() == order.tolist()
        np.testing.assert_array_equal(found.values.numpy(), np.take_along_axis(x.T, order, -1))


def test_lines_beside_one_another_are_cut_as_well() -> None:
    x = RNG.integers(0, 5, (101, 6)).astype(np.float32)
    values, places = top_k(x, 2)
    with tiles(4, 8):
        for shards in SHARDS:
            found = fg.top_k(fg.shard(fg.asarray(x), rows=shards), 2)
            np.testing.assert_array_equal(found.indices.compute(scheduler="synchronous"), places)
            np.testing.assert_array_equal(found.values.compute(scheduler="synchronous"), values)


def test_what_is_computed_from_the_largest_over_rows_again() -> None:
    """A second loop that knows the results of the first; the gradient is placed piece by piece."""
    x = RNG.permutation(101).astype(np.float64)
    weights = np.array([1.0, 10.0, 100.0])

    def loss(x: Any) -> Any:
        values, places = fg.top_k(x, 3)
        return fg.sum(values * weights) + fg.sum(fg.square(x - values[0])) + fg.sum(places)

    x0 = fg.asarray(x)
    total = loss(x0)
    slope = fg.gradient(total, x0)
    largest = np.argsort(-x)[:3]
    wanted = 2 * (x - x.max())
    wanted[largest[0]] -= np.sum(2 * (x - x.max()))
    wanted[largest] += weights
    with tiles(4, 8):
        assert "gather" not in ops_used(program_of(slope).parts.graph)
        found = fg.gradient(loss(x0), x0).numpy()
        np.testing.assert_allclose(found, wanted)
        for shards in SHARDS:
            cut = fg.shard(x0, rows=shards)
            assert fg.gradient(loss(cut), x0).compute(scheduler="threads").tobytes() == found.tobytes()


def test_a_long_line_is_not_ordered_as_a_whole() -> None:
    x = RNG.integers(0, 1000, 5000).astype(np.float32)
    x[17] = np.nan
    for k in (1, 10, 600, 700):
        values, places = (one.numpy() for one in fg.top_k(fg.constant(x), k))
        order = np.argsort(np.where(np.isnan(x), -np.inf, -x), kind="stable")[:k]
        assert places.tolist() == order.tolist()
        np.testing.assert_array_equal(values, x[order])
    assert fg.top_k(fg.constant(np.full(500, np.nan)), 3).indices.tolist() == [0, 1, 2]


def test_of_lines_in_a_batch() -> None:
    found = fg.vmap(lambda line: fg.top_k(line, 2).values)(fg.constant(X))
    assert found.tolist() == [[3, 3], [5, 5], [2, 2]]
    assert fg.vmap(fg.grad(lambda line: fg.sum(fg.top_k(line, 1).values)))(fg.constant(X)).tolist()[0] == [1, 0, 0, 0]


def test_what_is_refused() -> None:
    for k in (5, -1, 1.5):
        with pytest.raises(UsageError, match="not as many"):
            fg.top_k(fg.constant(X), k)  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match="order"):
        fg.top_k(fg.constant([1j]), 1)
    with pytest.raises(ShapeError):
        fg.top_k(fg.constant(1.0), 1)


def test_a_line_whose_length_shows_when_it_runs() -> None:
    with fg.compat.v1.Graph().as_default():
        x = fg.compat.v1.placeholder(fg.float32, [None])
        found = fg.top_k(x, 3)
        with fg.compat.v1.Session() as session:
            assert session.run(found.indices, {x: [1.0, 5.0, 2.0, 4.0]}).tolist() == [1, 3, 2]
            with pytest.raises(UsageError, match="3 largest"):
                session.run(found.indices, {x: [1.0, 5.0]})
