"""Bad input of parallel programs: each gives one error that names what was asked, or is defined to work."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import pytest

import flowgraph as fg
from flowgraph import run
from flowgraph.errors import ClusterError, FlowgraphError, ShapeError, UsageError

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


class Fake:
    """A client whose workers have another numpy."""

    def __init__(self, different: dict[str, Any]) -> None:
        self.different = different

    def nthreads(self) -> dict[str, int]:
        return {"tcp://10.0.0.1:1": 1, "tcp://10.0.0.2:1": 1}

    def run(self, function: Any, workers: Any, on_error: str) -> dict[str, Any]:
        return {address: run.traits() | self.different for address in workers}


def test_workers_of_other_versions_are_refused_with_each_difference() -> None:
    with pytest.raises(ClusterError) as caught:
        run.check_workers(Fake({"numpy": "0.1", "flowgraph": "9"}))
    assert "numpy 0.1 (here" in caught.value.found
    assert "flowgraph 9 (here" in caught.value.found
    run.check_workers(Fake({}))
