"""Bad input of parallel programs: each gives one error that names what was asked, or is defined to work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import dask
import dask.array as da
import dask.dataframe
import numpy as np
import pandas
import pytest
from distributed import Client, LocalCluster

import flowgraph as fg
from flowgraph import run
from flowgraph.errors import ClusterError, DataError, FlowgraphError, ShapeError, UsageError

X = np.random.default_rng(0).standard_normal((50_003, 6)).astype(np.float32)


class Asynchronous:
    asynchronous = True


def _fit(**options: Any) -> Any:
    w = fg.Variable(np.zeros(6, np.float32))
    optimizer = options.pop("optimizer", None) or fg.keras.optimizers.SGD(0.1)
    return fg.fit(lambda x: fg.mean(fg.square(x @ w - 1)), X, variables=[w], optimizer=optimizer, steps=1, **options)


def _in_mesh(function: Callable[[], Any], **axes: int) -> Any:
    with fg.Mesh(**axes):
        return function()


def _unknown() -> Any:
    x = da.from_array(X, chunks=(10_000, 6))
    return fg.sum(x[x[:, 0] > 0]).numpy()


def _contradiction() -> Any:
    w = fg.shard(fg.ones((4, 4)), axes={0: 2})
    return fg.shard(w, axes={1: 2}).numpy()


def _whole_numbers(*more: Any) -> Any:
    frame = pandas.DataFrame({"a": pandas.array([1, 2, *more], dtype="Int64")})
    return dask.dataframe.from_pandas(frame, npartitions=1)["a"]


WRONG: dict[str, tuple[Callable[[], Any], type[FlowgraphError], str]] = {
    "an axis that the mesh does not have, for rows": (
        lambda: _in_mesh(lambda: fg.shard(X, rows="data"), model=2), UsageError, "'data'"),
    "an axis that the mesh does not have, for a weight": (
        lambda: _in_mesh(lambda: fg.shard(fg.ones((4, 4)), axes={1: "model"}), data=2), UsageError, "'model'"),
    "an axis that the mesh does not have, for an optimizer": (
        lambda: _in_mesh(lambda: _fit(optimizer=fg.keras.optimizers.Adam(0.1, shard="data")), model=2),
        UsageError, "'data'"),
    "an axis that the tensor does not have": (
        lambda: fg.shard(fg.ones((4, 4)), axes={2: 2}), ShapeError, "2 axes"),
    "an axis of a scalar": (lambda: fg.shard(fg.constant(1.0), axes={0: 2}), ShapeError, "0 axes"),
    "rows of a scalar": (lambda: fg.shard(fg.constant(1.0), rows=2), UsageError, "no rows"),
    "no pieces": (lambda: fg.shard(fg.ones((4, 4)), axes={0: 0}), UsageError, "number of pieces"),
    "no shards": (lambda: fg.shard(fg.ones((4, 4)), rows=0), UsageError, "number of shards"),
    "a negative shard": (lambda: fg.shard(fg.ones((4, 4)), rows=(5, -1)), UsageError, "number of shards"),
    "a mesh without places": (lambda: fg.Mesh(data=0), UsageError, "at least one piece"),
    "wishes that contradict": (_contradiction, UsageError, r"test_parallel_wrong_inputs.py[\s\S]*wrong_inputs.py"),
    "chunks of unknown size": (_unknown, ShapeError, "compute_chunk_sizes"),
    "an asynchronous client": (lambda: _fit(client=Asynchronous()), UsageError, "asynchronous"),
    "the address of a client": (lambda: _fit(client="tcp://127.0.0.1:8786"), UsageError, "no distributed.Client"),
    "a memory that is no size": (lambda: fg.function(fg.sum).explain(X, memory="lots"), UsageError, "number of bytes"),
    "no name of a Parquet file": (lambda: fg.read_parquet(3), UsageError, "not the name of a file"),  # type: ignore[arg-type]
    "no name of a Zarr array": (lambda: fg.read_zarr(3), UsageError, "not the name of a file"),  # type: ignore[arg-type]
    "missing integers": (lambda: fg.from_dask(_whole_numbers(None)), DataError, "cells are missing"),
    "a stage below the first": (lambda: fg.pipeline_stage(-1).__enter__(), UsageError, "counted from 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_named(name: str) -> None:
    call, kind, text = WRONG[name]
    with pytest.raises(kind, match=text) as caught:
        call()
    assert caught.value.asked
    assert caught.value.found
    assert caught.value.remedy


# What is defined to work.


def gradients(x: Any, **where: Any) -> list[bytes]:
    w = fg.asarray(np.linspace(-1, 1, 6, dtype=np.float32))

    def f(x: Any, w: Any) -> Any:
        return fg.mean(fg.square(fg.tanh(x @ w) - 1))

    value, (by_x, by_w) = fg.function(fg.value_and_grad(f, argnums=(0, 1)), **where)(x, w)
    return [np.asarray(one).tobytes() for one in (value, by_x, by_w)]


@pytest.mark.parametrize("rows", [3, 5, 16])
def test_a_mesh_larger_than_the_data_has_empty_pieces(rows: int) -> None:
    x = np.arange(18, dtype=np.float32).reshape(3, 6)
    expected = gradients(x)
    with fg.Mesh(data=rows, model=9):
        assert gradients(fg.shard(fg.asarray(x), rows="data")) == expected
        w = fg.shard(fg.asarray(x), axes={1: "model"})
        np.testing.assert_allclose(fg.tanh(w).sum(axis=0).numpy(), np.tanh(x).sum(axis=0), rtol=1e-6)


def test_a_cut_inside_a_bracketed_axis_works_on_the_whole() -> None:
    x = np.random.default_rng(1).standard_normal((5, 5)) + 5 * np.eye(5)
    cut = fg.shard(fg.asarray(x), axes={0: 2})
    np.testing.assert_allclose(fg.linalg.inv(cut).numpy(), np.linalg.inv(x), rtol=1e-9)
    np.testing.assert_allclose(fg.sort(cut, axis=0).numpy(), np.sort(x, axis=0))


ORDERS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "backwards": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "every second": lambda x: np.repeat(x, 2, axis=0)[::2],
    "columns of more": lambda x: np.concatenate([x, x], axis=1)[:, :6],
    "big-endian": lambda x: x.astype(">f4"),
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "unaligned": lambda x: np.frombuffer(b"x" + x.tobytes(), np.float32, offset=1).reshape(x.shape),
}


@pytest.mark.parametrize("order", ORDERS)
def test_chunks_of_any_order_and_size_have_the_same_bits(order: str) -> None:
    expected = gradients(X)
    x = ORDERS[order](X)
    assert gradients(x) == expected
    assert gradients(fg.shard(fg.asarray(x), rows=(1, 0, 9_999, 40_003))) == expected
    chunks = ((1, 4_999, 17_003, 3, 27_997), (6,))
    blocks = [ORDERS[order](np.array(x[a:b])) for a, b in pairwise(np.cumsum((0, *chunks[0])))]
    lazy = da.concatenate([da.from_array(one, chunks=one.shape) for one in blocks]).astype(x.dtype)
    assert gradients(lazy) == expected


# Workers.


@pytest.mark.cluster
def test_workers_of_other_versions_are_refused_with_a_table() -> None:
    """Two real workers: both say that they have another numpy, one of them also another flowgraph."""
    with a_cluster(2) as client:
        first, second = client.nthreads()
        for worker, different in ((first, {"numpy": "0.1"}), (second, {"numpy": "0.1", "flowgraph": "9"})):
            client.run(pretend, different, workers=[worker])
        for call in (lambda: _fit(client=client), lambda: fg.sum(fg.asarray(X)).compute(client=client)):
            with pytest.raises(ClusterError) as caught:
                call()
            _, head, *lines = caught.value.found.splitlines()
            assert sorted(head.split()) == sorted(["here", first, second])
            table = {name: dict(zip(head.split(), cells, strict=True)) for name, *cells in map(str.split, lines)}
            own = run.traits()
            assert table == {
                "numpy": {"here": own["numpy"], first: "0.1", second: "0.1"},
                "flowgraph": {"here": own["flowgraph"], first: own["flowgraph"], second: "9"},
            }
            assert "same versions" in caught.value.remedy
        with dask.config.set({"flowgraph.same-bits": False}):
            assert np.isfinite(_fit(client=client).losses).all()


def pretend(different: dict[str, str]) -> None:
    """Makes this process say that it has other versions."""
    from flowgraph import machine

    found = machine.traits() | different
    machine.traits = lambda: found


def test_workers_that_are_alike_share_a_column() -> None:
    own = {"numpy": "2", "BLAS": "a", "Python": "3.11"}
    workers = {f"w{number}": own | {"numpy": "1", "BLAS": None} for number in (2, 0, 1)}
    assert run._difference(own, workers).splitlines() == [
        "       here  w0 and 2 more",
        "numpy  2     1",
        "BLAS   a     none",
    ]


@contextmanager
def a_cluster(workers: int) -> Iterator[Client]:
    """A client of so many new workers, each a process."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,
            silence_logs=logging.ERROR,
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.cluster
def test_without_workers_a_run_waits_for_the_first() -> None:
    """As Dask does: a cluster may grow when there is something to do. What runs nothing does not wait."""
    with a_cluster(0) as client, ThreadPoolExecutor(3) as threads:
        function = fg.function(lambda x: fg.sum(x, axis=0), client=client)
        assert function.explain(X).tasks > 0
        with client.as_current(), pytest.raises(UsageError, match="no workers"):
            fg.plan(function, X)
        waiting = [
            threads.submit(call)
            for call in (
                lambda: _fit(client=client).losses,
                lambda: function(X).numpy(),
                lambda: fg.sum(fg.asarray(X), axis=0).compute(client=client),
            )
        ]
        assert not wait(waiting, timeout=0.5).done
        client.cluster.scale(1)
        losses, *sums = [one.result() for one in waiting]
        assert losses.tolist() == _fit().losses.tolist()
        for one in sums:
            np.testing.assert_array_equal(one, fg.sum(fg.asarray(X), axis=0).numpy())


def test_whole_numbers_that_may_be_missing_and_are_not() -> None:
    found = fg.from_dask(_whole_numbers(3))
    assert (found.dtype, found.tolist()) == (np.int64, [1, 2, 3])


def test_the_memory_of_a_worker_may_be_a_text() -> None:
    explained = str(fg.function(fg.sum).explain(X, memory="4 GB"))
    assert "fits into a worker's 4 GB" in explained
