"""Tensors as Dask collections: computed together as one program, next to dask arrays, and nothing is read twice."""

from __future__ import annotations

import asyncio
import pickle
import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask.base import is_dask_collection, tokenize
from dask.task_spec import Task
from dask.typing import DaskCollection
from jobs import ROWS, X, bits, linear, mlp

import flowgraph as fg
from flowgraph import collection, eager, errors, run, schedule

if TYPE_CHECKING:
    from distributed import Client

TILE = 16


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch, fresh_programs: None) -> None:
    """Tiles of 16 rows, so that little data has many; caches of programs must not outlive it."""
    monkeypatch.setattr(schedule, "TILE_ROWS", (TILE, TILE))


@pytest.fixture
def expected(small_tiles: None) -> list[bytes]:
    return bits(linear(X))


def as_bytes(values: Any) -> list[bytes]:
    for one in values:
        assert type(one) is np.ndarray
    return [one.tobytes() for one in values]


# The protocol.


def test_a_tensor_is_a_collection() -> None:
    lazy, known = linear(X)[0], fg.constant([1.0, 2.0])
    for tensor in (lazy, known, fg.asarray(da.from_array(X, chunks=50))):
        assert isinstance(tensor, DaskCollection)
        assert is_dask_collection(tensor)
        assert tensor.__dask_keys__() == tensor.__dask_keys__()
        (key,) = tensor.__dask_keys__()
        assert key in tensor.__dask_graph__()
        assert tensor.__dask_scheduler__ is dask.threaded.get
    assert lazy.node.memo is None


def test_an_argument_of_a_traced_function_is_no_collection() -> None:
    seen = []

    @fg.function
    def double(x: Any) -> Any:
        seen.append(is_dask_collection(x))
        return x + x

    double(X)
    assert seen == [False]


def test_a_graph_has_one_task_for_each_tensor() -> None:
    for tensor in linear(X):
        (task,) = tensor.__dask_graph__().values()
        assert isinstance(task, Task)


def test_tensors_that_are_computed_together_are_one_program(expected: list[bytes]) -> None:
    tensors = linear(fg.shard(X, rows=4))
    merged: dict[Any, Any] = {}
    for one in tensors:
        merged.update(one.__dask_graph__())
    tasks = collection.optimize(merged, [one.__dask_keys__() for one in tensors])
    count = Counter(key[0].rpartition("-")[0] for key in tasks)
    assert count["flowgraph-loop-zero"] == 4
    assert count["flowgraph-tensor"] == 3
    assert as_bytes(dask.compute(*tensors)) == expected


@pytest.mark.parametrize("optimize_graph", [True, False])
@pytest.mark.parametrize("scheduler", ["threads", "synchronous", dask.local.get_sync])
@pytest.mark.parametrize("make", [lambda: X, lambda: da.from_array(X, chunks=(50, 2))], ids=["memory", "dask"])
def test_compute(expected: list[bytes], make: Callable[[], Any], scheduler: Any, optimize_graph: bool) -> None:
    found = dask.compute(*linear(make()), scheduler=scheduler, optimize_graph=optimize_graph)
    assert as_bytes(found) == expected


def test_compute_looks_into_structures(expected: list[bytes]) -> None:
    loss, w, b = linear(X)
    (found,) = dask.compute({"loss": loss, "gradients": [w, (b, 3)]})
    assert as_bytes([found["loss"], found["gradients"][0], found["gradients"][1][0]]) == expected
    assert found["gradients"][1][1] == 3


def test_the_method_compute(expected: list[bytes]) -> None:
    for more in ({}, {"scheduler": "synchronous"}, {"optimize_graph": False}, {"num_workers": 2}):
        tensors = linear(X)
        assert as_bytes([one.compute(**more) for one in tensors]) == expected
    assert tensors[0].compute() is tensors[0].compute()  # what is known is not computed again
    with pytest.raises(errors.UsageError, match="'nowhere'"):
        linear(X)[0].compute(scheduler="nowhere")


def test_known_tensors_and_results_that_are_inputs() -> None:
    x = fg.asarray(X)
    known, same, blocks, scalar = x * 1, fg.shard(x, rows=3), fg.from_blocks([X[:3], X[3:]]), fg.constant(2.0)
    known.numpy()
    for found in (
        dask.compute(known, same, blocks, scalar),
        dask.compute(known, same, blocks, scalar, optimize_graph=False),
    ):
        for one in found[:3]:
            np.testing.assert_array_equal(one, X)
        assert found[3] == 2


def test_persist(expected: list[bytes]) -> None:
    kept = dask.persist(*linear(X))
    assert as_bytes([one.node.memo for one in kept]) == expected
    assert linear(X)[0].persist(scheduler="synchronous").node.memo.tobytes() == expected[0]


def test_rebuild_honours_rename() -> None:
    tensor = linear(X)[0]
    build, arguments = tensor.__dask_postpersist__()
    (key,) = tensor.__dask_keys__()
    new = ("other", *key[1:])
    graph = {new: Task(new, np.float32, 5)}
    again = build(graph, *arguments, rename={key[0]: "other"})
    assert again.__dask_keys__() == [new]
    assert again.__dask_graph__() == graph
    assert float(again + 1) == 6
    assert again.type is tensor.type


def test_dask_optimize_gives_tensors(expected: list[bytes]) -> None:
    again = dask.optimize(*linear(da.from_array(X, chunks=50)))
    assert all(isinstance(one, fg.Tensor) for one in again)
    assert as_bytes(dask.compute(*again)) == expected


def test_visualize_fails_as_dask_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in ("graphviz", "ipycytoscape"):
        monkeypatch.setitem(sys.modules, engine, None)
    for more in ({}, {"optimize_graph": True}):
        with pytest.raises(RuntimeError, match="No visualization engine"):
            linear(X)[0].visualize(**more)
    with pytest.raises(RuntimeError, match="No visualization engine"):
        dask.visualize(*linear(X))


def test_pickle_carries_the_value(expected: list[bytes]) -> None:
    again = pickle.loads(pickle.dumps(linear(X)))
    assert as_bytes([one.node.memo for one in again]) == expected
    assert [one.dtype for one in again] == [np.float32] * 3


def test_delayed_takes_tensors(expected: list[bytes]) -> None:
    loss, w, _ = linear(da.from_array(X, chunks=50))
    found = dask.delayed(lambda *values: values)(loss, [w])
    assert as_bytes([(result := found.compute())[0], result[1][0]]) == expected[:2]


def test_await_a_tensor_without_futures() -> None:
    async def wait() -> Any:
        return await linear(X)[0]

    assert isinstance(asyncio.run(wait()), fg.Tensor)


# Tokens.


def test_equal_content_has_equal_tokens() -> None:
    for make in (linear, mlp):
        for first, second in zip(make(X), make(X.copy()), strict=True):
            assert tokenize(first) == tokenize(second)
    for value in (X, da.from_array(X, chunks=50), fg.from_blocks([X[:3], X[3:]]), 3.5, [1, 2]):
        assert tokenize(fg.asarray(value)) == tokenize(fg.asarray(value))


def test_different_content_has_different_tokens() -> None:
    other = X.copy()
    other[7, 3] += 1
    tensors = [
        *linear(X),
        *linear(other),
        *mlp(X),
        fg.asarray(X),
        fg.asarray(other),
        fg.asarray(X).astype("float64"),
        fg.asarray(da.from_array(X, chunks=50)),
        fg.sum(X),
        fg.sum(X, axis=0),
        fg.sum(X, axis=0, keepdims=True),
        fg.asarray(X) * 2,
        fg.asarray(X) * 2.5,
        fg.asarray(X) * 3.5,
        fg.from_blocks([X[:3], X[3:]]),
        fg.from_blocks([other[:3], other[3:]]),
    ]
    tokens = [tokenize(one) for one in tensors]
    assert len(set(tokens)) == len(tokens)


def test_a_token_lasts() -> None:
    tensor = linear(X)[0]
    before = tokenize(tensor)
    tensor.numpy()
    assert tokenize(tensor) == before


def test_tokens_tell_user_ops_apart() -> None:
    def token(number: int) -> str:
        return tokenize(fg.define("mine", "... -> ...", lambda x: x + number, doc="Mine.")(X))

    try:
        one, same, two = token(1), token(1), token(2)
    finally:
        del fg.OPS["mine"]
    assert one == same != two


# Dask arrays.


class Counting:
    """Blocks of X, and how often each was read."""

    def __init__(self, rows: int = 37) -> None:
        self.seen: Counter[int] = Counter()
        self.rows = rows
        self.starts = list(range(0, ROWS, rows))

    shape, dtype, ndim = X.shape, X.dtype, 2

    def __getitem__(self, index: tuple[slice, ...]) -> Any:
        if index[0].start < index[0].stop:  # Dask asks for nothing, to see what comes
            self.seen[index[0].start // self.rows] += 1
        return X[index]

    def load(self, number: int) -> Any:
        self.seen[number] += 1
        return X[self.starts[number] :][: self.rows]

    def from_delayed(self) -> Any:
        load = dask.delayed(self.load, pure=True)
        shapes = [(min(self.rows, ROWS - start), 5) for start in self.starts]
        return da.concatenate([da.from_delayed(load(n), shape, X.dtype) for n, shape in enumerate(shapes)])

    def from_array(self) -> Any:
        return da.from_array(self, chunks=(self.rows, 5))

    def map_blocks(self) -> Any:
        chunks = (tuple(min(self.rows, ROWS - start) for start in self.starts), (5,))

        def block(block_info: Any = None) -> Any:
            return self.load(block_info[None]["chunk-location"][0])

        return da.map_blocks(block, chunks=chunks, dtype=X.dtype, meta=X[:0])

    def __dask_tokenize__(self) -> Any:
        return "counting", id(self)

    def check(self) -> None:
        assert self.seen == dict.fromkeys(range(len(self.starts)), 1)
        self.seen.clear()


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
@pytest.mark.parametrize("kind", ["from_delayed", "from_array", "map_blocks"])
def test_no_block_is_read_twice(expected: list[bytes], kind: str, scheduler: str) -> None:
    data = Counting()
    x = getattr(data, kind)()
    tensors = linear(x)
    assert data.seen == {}
    *found, whole = dask.compute(*tensors, x, scheduler=scheduler)
    assert as_bytes(found) == expected
    np.testing.assert_array_equal(whole, X)
    data.check()
    # Tensors of the same array by other handles, and of an array made of it.
    more = [*linear(x), *mlp(fg.asarray(x)), fg.max(fg.asarray(x + 1))]
    dask.compute(*more, scheduler=scheduler)
    data.check()
    dask.compute(*more, scheduler=scheduler, optimize_graph=False)
    data.check()
    bits(linear(x), scheduler=scheduler)
    data.check()


def test_dask_arrays_enter_expressions() -> None:
    x, t = da.from_array(X, chunks=(50, 2)), fg.asarray(X)
    w = np.ones((5, 2), np.float32)
    for found, wanted in [
        (x + t, X + X),
        (t + x, X + X),
        (x * 2 - t, X),
        (t / (x + 9), X / (X + 9)),
        (t.T @ x, X.T @ X),
        (x.T @ t, X.T @ X),
        (t @ da.from_array(w, chunks=2), X @ w),
        (x < t, np.zeros(X.shape, bool)),
        (fg.where(x > 0, x, t * 0), np.where(X > 0, X, 0)),
        (fg.sum(x, axis=0), X.sum(axis=0)),
        (fg.asarray(x.sum()) + 1, X.sum() + 1),
        (fg.cast(x, "float64").T @ np.ones(ROWS), X.astype("f8").sum(axis=0)),
        (fg.concat([x, t]), np.concatenate([X, X])),
        (fg.asarray(x)[3:70:2, 1], X[3:70:2, 1]),
        (fg.asarray(x), X),
    ]:
        assert isinstance(found, fg.Tensor)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-4)
        (again,) = dask.compute(found)
        np.testing.assert_array_equal(again, found.numpy())


def test_gradients_flow_to_a_dask_array() -> None:
    x = fg.asarray(da.from_array(X, chunks=(50, 2)))
    with fg.GradientTape() as tape:
        tape.watch(x)
        loss = fg.sum(x * x * 3)
    gradient = tape.gradient(loss, x)
    np.testing.assert_allclose(gradient.compute(), 6 * X, rtol=1e-6)


def test_shards_follow_chunks() -> None:
    rows = 20_000
    x = da.ones((rows, 2), chunks=(500, 2), dtype="float32")
    total = fg.sum(fg.asarray(x))
    tasks = collection.optimize(total.__dask_graph__(), total.__dask_keys__())
    loops = [task for key, task in tasks.items() if re.fullmatch(r"flowgraph-loop-zero-[0-9a-f]{12}", key[0])]
    assert len(loops) == 40
    chunks = [sum(1 for key in task.dependencies if key[0].startswith("ones")) for task in loops]
    assert max(chunks) <= 3
    assert float(total) == 2 * rows


def test_large_rows_that_a_user_holds_are_not_brought_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "KEEP_BYTES", 1000)
    x = fg.asarray(da.from_array(X, chunks=50))
    scaled = (x - fg.mean(x, axis=0)) * 2
    column = fg.sum(scaled, axis=0)
    loss = fg.sum(column * column)
    loss.numpy()
    assert column.node.memo is not None
    assert scaled.node.memo is None
    np.testing.assert_allclose(scaled.numpy(), (X - X.mean(axis=0)) * 2, rtol=1e-5, atol=1e-5)


def test_dask_arrays_that_are_refused() -> None:
    x = da.from_array(X, chunks=50)
    with pytest.raises(errors.ShapeError, match=r"chunks are not known[\s\S]*compute_chunk_sizes"):
        fg.asarray(x[x[:, 0] > 0])
    with pytest.raises(errors.DTypeError, match="not numbers"):
        fg.asarray(da.from_array(np.array(["a"]), chunks=1))
    frame = dd.from_pandas(pd.DataFrame({"a": [1.0, 2.0]}), npartitions=1)
    for other in (dask.delayed(3), frame, frame["a"]):
        with pytest.raises(errors.UsageError, match=r"to_dask_array[\s\S]*from_delayed"):
            fg.asarray(other)
    assert fg.sum(fg.asarray(frame.to_dask_array(lengths=True))).numpy() == 3
    wrong = da.from_delayed(dask.delayed(np.ones)((4,)), (5,), "float64")
    with pytest.raises(errors.DataError, match=r"of shape \(5,\)[\s\S]*gave \(4,\)"):
        fg.sum(wrong).numpy()


def test_pandas_columns() -> None:
    frame = pd.DataFrame({"Hours": [1.5, 2.5, 3.5], "Scores": [2, 4, 8]})
    assert fg.cast(frame["Hours"], fg.float32).tolist() == [1.5, 2.5, 3.5]
    assert (fg.asarray(frame) * 2).tolist() == [[3, 4], [5, 8], [7, 16]]
    assert float(fg.sum(frame["Scores"])) == 14


def test_mixed_collections_keep_their_places(expected: list[bytes]) -> None:
    x = da.from_array(X, chunks=50)
    loss, w, _ = linear(x)
    for order in ((loss, w, x), (x, loss, w), (loss, w, x, x + 1), (x, x + 1, loss, w)):
        found = dask.compute(*order)
        assert [one.shape for one in found] == [one.shape for one in order]
    for mixed in ((loss, x, w), (x, loss, x + 1)):
        for call in (dask.compute, dask.persist):
            with pytest.raises(errors.UsageError, match=r"another order[\s\S]*next to each other"):
                call(*mixed)


@pytest.mark.xfail(strict=True, reason="when Dask keeps the order, `_check_order` can go")
def test_dask_keeps_the_order_of_mixed_collections() -> None:
    x, y = da.zeros(3), da.ones(4)
    assert [np.shape(one) for one in dask.compute(x, dask.delayed(5), y)] == [(3,), (), (4,)]


# A cluster.


def check_close(found: Any, expected: list[bytes]) -> None:
    """Tasks that nobody lowered are compiled on the worker, where tiles are not those of this test: other bits."""
    for one, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.ravel(), np.frombuffer(wanted, np.float32), rtol=1e-5, atol=1e-5)


@pytest.mark.cluster
@pytest.mark.parametrize("make", [lambda: X, lambda: da.from_array(X, chunks=(50, 2))], ids=["memory", "dask"])
def test_a_cluster_computes(cluster: Client, expected: list[bytes], make: Callable[[], Any]) -> None:
    assert as_bytes(dask.compute(*linear(make()), scheduler=cluster)) == expected
    check_close(dask.compute(*linear(make()), scheduler=cluster, optimize_graph=False), expected)
    assert as_bytes(cluster.gather(cluster.compute(linear(make())))) == expected
    assert as_bytes([cluster.compute(linear(make())[0], sync=True)]) == expected[:1]
    x = da.from_array(X, chunks=50)
    *found, whole = dask.compute(*linear(make()), x, scheduler=cluster)
    assert as_bytes(found) == expected
    np.testing.assert_array_equal(whole, X)
    found = dask.delayed(lambda *values: values)(*linear(make())).compute(scheduler=cluster)
    assert as_bytes(found) == expected
    with cluster.as_current():
        assert bits(linear(make())) == expected
        assert as_bytes([one.compute() for one in linear(make())]) == expected


@pytest.mark.cluster
def test_a_cluster_persists(cluster: Client, expected: list[bytes]) -> None:
    from distributed import Future

    tensors = linear(da.from_array(X, chunks=50))
    scaled = fg.asarray(X) * 2
    for kept in (cluster.persist([*tensors, scaled]), dask.persist(*tensors, scaled, scheduler=cluster)):
        assert all(isinstance(one, fg.Tensor) for one in kept)
        assert [one.__dask_keys__() for one in kept] == [one.__dask_keys__() for one in (*tensors, scaled)]
        for one in kept:
            ((key, future),) = one.__dask_graph__().items()
            assert isinstance(future, Future)
            assert [key] == one.__dask_keys__()
        *graph, rows = kept
        more = fg.sum(rows, axis=0) + graph[0]
        assert as_bytes(cluster.gather(cluster.compute(graph))) == expected
        assert bits(tuple(graph)) == expected  # nobody named the client: the futures know it
        assert bits((more,)) == bits((fg.sum(fg.asarray(X) * 2, axis=0) + linear(X)[0],))
        assert as_bytes(dask.persist(more, scheduler=cluster)[0].compute()[None]) == bits((more,))


@pytest.mark.cluster
def test_arrays_that_a_cluster_holds(cluster: Client, expected: list[bytes]) -> None:
    x = cluster.persist(da.from_array(X, chunks=50))
    assert bits(linear(x)) == expected
    assert as_bytes(dask.compute(*linear(x), scheduler=cluster)) == expected


@pytest.mark.cluster
def test_an_asynchronous_client(cluster: Client, expected: list[bytes]) -> None:
    from distributed import Client as AnyClient

    async def work() -> tuple[Any, Any]:
        async with AnyClient(cluster.scheduler.address, asynchronous=True) as client:
            kept = client.persist(linear(X)[1])
            again = await kept
            with pytest.raises(errors.UsageError, match="asynchronous"):
                linear(X)[0].compute(client=client)
            return await client.compute(linear(X)[0]), await client.compute(again)

    assert as_bytes(asyncio.run(work())) == expected[:2]


def nested() -> bytes:
    """What a task that itself computes tensors returns."""
    x = np.arange(200_000, dtype=np.float32).reshape(-1, 2)
    return fg.sum(fg.shard(x, rows=4), axis=0).numpy().tobytes()


@pytest.mark.cluster
def test_a_task_that_computes_tensors(cluster: Client) -> None:
    schedule.TILE_ROWS = (64, 32_768)
    assert cluster.submit(nested).result() == nested()


@pytest.mark.cluster
def test_recipes_carry_the_users_ops(cluster: Client) -> None:
    cube = fg.define(
        "cube", "... -> ...", lambda x: x * x * x, gradient=lambda g, out, x: g * 3 * x * x, doc="x cubed."
    )
    try:

        def job() -> Any:
            x = fg.asarray(da.from_array(X, chunks=50))
            return linear(cube(x))

        expected = bits(job())
        assert as_bytes(dask.compute(*job(), scheduler=cluster)) == expected
        check_close(dask.compute(*job(), scheduler=cluster, optimize_graph=False), expected)
        again = pickle.loads(pickle.dumps(job()[0].__dask_graph__()))
        assert len(again) == 6
    finally:
        del fg.OPS["cube"]


@pytest.mark.cluster
def test_recipes_without_a_shared_disk(cluster: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(30_000, 5)).astype(np.float32)
    expected = bits((fg.sum(x, axis=0),))
    monkeypatch.setitem(run._PROBED, cluster, (frozenset(cluster.nthreads()), False))

    def refuse(*args: Any) -> None:
        raise AssertionError("a file was written")

    monkeypatch.setattr("flowgraph.sources.rows.write", refuse)
    with cluster.as_current():
        for value in (x, fg.from_blocks([x[:7], x[7:]])):
            assert as_bytes(dask.compute(fg.sum(value, axis=0))) == expected
            check_close(dask.compute(fg.sum(value, axis=0), optimize_graph=False), expected)
