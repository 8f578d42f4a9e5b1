"""Parts of rows are taken where the rows come from: slices, joins and their gradients, on every kind of source."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, strategies as st
from limited import needs_linux, results_on_a_file

import flowgraph as fg
from flowgraph import schedule
from flowgraph.eager import compiled, cone, detached
from flowgraph.graph import Graph, interpret, make_input, ops_used
from flowgraph.passes import sink
from flowgraph.sources import Blocks, Derived, Held, Pad, Slice, derive, resolve
from flowgraph.tensor import tensor_of
from flowgraph.types import tensor_type

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
X = RNG.standard_normal((101, 3)).astype(np.float32)
Y = RNG.standard_normal((50, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch, fresh_programs: None) -> None:
    module = import_module("flowgraph.passes.sink")
    monkeypatch.setattr(module, "LEAF_BYTES", 1)
    monkeypatch.setattr(module, "COMPUTED_BYTES", 1)
    monkeypatch.setattr(schedule, "TILE_ROWS", (4, 8))


def gradient_of_differences(x: Any, y: Any) -> Any:
    return fg.gradient(fg.sum(fg.square(fg.exp(x)[1:] - fg.exp(x)[:-1])), x)


def expected_gradient(x: Array, y: Array) -> Array:
    e = np.exp(x)
    d = 2 * np.diff(e, axis=0)
    return e * (np.concatenate([np.zeros_like(d[:1]), d]) - np.concatenate([d, np.zeros_like(d[:1])]))


JOBS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Array, Array], Any]]] = {
    "a slice": (lambda x, y: fg.exp(x)[7:] * 2, lambda x, y: np.exp(x)[7:] * 2),
    "a slice from behind": (lambda x, y: fg.exp(x)[-20:-3], lambda x, y: np.exp(x)[-20:-3]),
    "an empty slice": (lambda x, y: fg.exp(x)[50:50], lambda x, y: np.exp(x)[50:50]),
    "every third row": (lambda x, y: fg.sum(fg.square(x[1::3]), axis=0), lambda x, y: np.sum(x[1::3] ** 2, axis=0)),
    "backwards": (lambda x, y: fg.tanh(x)[::-1], lambda x, y: np.tanh(x)[::-1]),
    "backwards, every other": (lambda x, y: fg.tanh(x)[90:3:-2], lambda x, y: np.tanh(x)[90:3:-2]),
    "a slice of a slice": (lambda x, y: fg.exp(x * 2)[3:][::2][:-5], lambda x, y: np.exp(x * 2)[3:][::2][:-5]),
    "differences": (lambda x, y: fg.exp(x)[1:] - fg.exp(x)[:-1], lambda x, y: np.diff(np.exp(x), axis=0)),
    "one row": (lambda x, y: fg.tanh(x)[5] + fg.tanh(x)[-1], lambda x, y: np.tanh(x)[5] + np.tanh(x)[-1]),
    "a column of rows": (lambda x, y: fg.tanh(x)[5:40, 1], lambda x, y: np.tanh(x)[5:40, 1]),
    "a new axis": (lambda x, y: fg.tanh(x)[None, 5:40], lambda x, y: np.tanh(x)[None, 5:40]),
    "after a product": (lambda x, y: (x @ y[:3].T)[10:], lambda x, y: (x @ y[:3].T)[10:]),
    "a global mean": (lambda x, y: (x - fg.mean(x, axis=0))[4:], lambda x, y: (x - x.mean(axis=0))[4:]),
    "a join": (
        lambda x, y: fg.tanh(fg.concat([fg.exp(x), y * 2])),
        lambda x, y: np.tanh(np.concatenate([np.exp(x), y * 2])),
    ),
    "a join of three": (
        lambda x, y: fg.sum(fg.concat([x, y, x * 3]), axis=0),
        lambda x, y: np.concatenate([x, y, x * 3]).sum(axis=0),
    ),
    "a roll": (lambda x, y: fg.concat([x[-7:], x[:-7]]) * 2, lambda x, y: np.roll(x, 7, axis=0) * 2),
    "a slice of a join": (lambda x, y: fg.concat([x, y])[90:120], lambda x, y: np.concatenate([x, y])[90:120]),
    "roll": (lambda x, y: fg.roll(fg.exp(x), 17, axis=0), lambda x, y: np.roll(np.exp(x), 17, axis=0)),
    "roll by nothing": (lambda x, y: fg.roll(fg.exp(x), 101, axis=0), lambda x, y: np.exp(x)),
    "edges": (
        lambda x, y: fg.pad(fg.exp(x), [[3, 2], [0, 1]], constant_values=7.0) * 2,
        lambda x, y: np.pad(np.exp(x), ((3, 2), (0, 1)), constant_values=7.0) * 2,
    ),
    "differences by name": (lambda x, y: fg.diff(fg.exp(x), axis=0), lambda x, y: np.diff(np.exp(x), axis=0)),
    "a gradient": (gradient_of_differences, expected_gradient),
    "the number of each row": (
        lambda x, y: (x * fg.expand_dims(fg.arange(0.0, 101.0), 1))[3::2],
        lambda x, y: (x * np.arange(101.0)[:, None])[3::2],
    ),
}


@pytest.mark.parametrize("name", JOBS)
def test_parts_agree_with_numpy_and_no_row_factor_is_gathered(name: str) -> None:
    job, expected = JOBS[name]
    tensor = job(fg.asarray(X), fg.asarray(Y))
    graph = detached(cone([tensor.node]))
    sunk = sink(graph).graph.check()
    assert not {"concat", "scatter_slice", "roll", "pad"} & set(ops_used(sunk)) or name == "edges"
    np.testing.assert_allclose(
        tensor.numpy(), expected(X.astype(np.float64), Y.astype(np.float64)), rtol=2e-5, atol=2e-5
    )


@pytest.mark.parametrize("name", JOBS)
def test_parts_have_the_same_bits_everywhere(name: str) -> None:
    job, _ = JOBS[name]
    wanted = job(fg.asarray(X), fg.asarray(Y)).numpy()
    sources: tuple[tuple[Any, Any], ...] = (
        (fg.shard(fg.asarray(X), rows=3), fg.asarray(Y)),
        (fg.from_blocks([X[:13], X[13:14], X[14:]]), fg.from_blocks([Y[:30], Y[30:]])),
        (fg.asarray(np.asfortranarray(X)), fg.asarray(Y[::-1][::-1])),
        (fg.asarray(da.from_array(X, chunks=(17, 3))), fg.asarray(da.from_array(Y, chunks=(50, 2)))),
    )
    for x, y in sources:
        for scheduler in ("threads", "synchronous"):
            found = job(x, y).compute(scheduler=scheduler)
            assert found.tobytes() == wanted.tobytes()


def by_windows(x: Array, w: Array, stride: int, pad: int) -> Array:
    padded = np.pad(x[0], ((pad, pad), (0, 0)))
    count = (len(padded) - len(w)) // stride + 1
    return np.stack([np.einsum("kc,kcr->r", padded[i * stride : i * stride + len(w)], w) for i in range(count)])[None]


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, 1), (3, 4)])
def test_a_convolution_along_rows(monkeypatch: pytest.MonkeyPatch, stride: int, pad: int) -> None:
    monkeypatch.setattr(import_module("flowgraph.partition.rows"), "SECOND_FACTOR_BYTES", 1)
    w = RNG.standard_normal((4, 3, 2)).astype(np.float32)
    signal = fg.asarray(X[None])

    def job(x: Any) -> Any:
        return fg.nn.conv1d(fg.tanh(x), w, stride=stride, padding=pad)

    tensor = job(signal)
    entry = compiled(detached(cone([tensor.node])))
    assert "gather" not in ops_used(entry.program.parts.graph)
    assert entry.program.meshes
    found = tensor.numpy()
    np.testing.assert_allclose(found, by_windows(np.tanh(X[None]), w, stride, pad), rtol=1e-4, atol=1e-5)
    for shards in (2, 3):
        assert job(fg.shard(signal, rows=shards)).compute(scheduler="threads").tobytes() == found.tobytes()


def test_a_convolution_of_an_image_of_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("flowgraph.partition.rows"), "SECOND_FACTOR_BYTES", 1)
    image = RNG.standard_normal((1, 40, 6, 2)).astype(np.float32)
    w = RNG.standard_normal((3, 2, 2, 3)).astype(np.float32)
    found = fg.nn.conv2d(fg.asarray(image), w, padding="SAME")
    entry = compiled(detached(cone([found.node])))
    assert "gather" not in ops_used(entry.program.parts.graph)
    several = fg.nn.conv2d(fg.asarray(np.concatenate([image, image])), w, padding="SAME")
    np.testing.assert_allclose(found.numpy()[0], several.numpy()[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["every third row", "a join", "a gradient"])
def test_parts_in_other_processes(name: str, processes: None) -> None:
    job, _ = JOBS[name]
    wanted = job(fg.asarray(X), fg.asarray(Y)).numpy()
    for x in (fg.asarray(X), fg.asarray(da.from_array(X, chunks=(17, 3)))):
        assert job(x, fg.asarray(Y)).compute(scheduler="processes").tobytes() == wanted.tobytes()


def test_what_draws_by_position_stays_where_it_is() -> None:
    draw = fg.random.normal((101, 3), seed=3)
    np.testing.assert_array_equal((draw * 2)[5:].numpy(), (draw * 2).numpy()[5:])


def test_small_tensors_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("flowgraph.passes.sink")
    monkeypatch.setattr(module, "LEAF_BYTES", 1 << 20)
    monkeypatch.setattr(module, "COMPUTED_BYTES", 1 << 20)
    tensor = fg.exp(fg.asarray(X))[1:]
    graph = detached(cone([tensor.node]))
    assert sink(graph).parts == ()
    assert sink(graph).graph.text() == graph.text()


@given(st.data())
def test_derived_sources_are_what_numpy_says(data: st.DataObject) -> None:
    x = np.arange(2 * data.draw(st.integers(1, 12))).reshape(-1, 2)
    source: Any = data.draw(st.sampled_from([x, Held(x), Blocks([x[:1], x[1:1], x[1:]])]))
    wanted, parts = x, []
    for _ in range(data.draw(st.integers(1, 3))):
        if data.draw(st.booleans()):
            bound = st.none() | st.integers(-14, 14)
            part: Any = Slice(0, data.draw(bound), data.draw(bound), data.draw(st.sampled_from([None, 1, 2, -1, -3])))
            wanted = wanted[part.start : part.stop : part.step]
        else:
            part = Pad(0, data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3)))
            wanted = np.pad(wanted, ((part.before, part.behind), (0, 0)))
        parts.append(part)
    found = derive(source, parts)
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(np.asarray(found), wanted)
    if isinstance(found, Derived):
        low = data.draw(st.integers(0, len(wanted)))
        high = data.draw(st.integers(low, len(wanted)))
        joined = np.concatenate([resolve(one) for one in found.pieces(low, high, 0)])
        np.testing.assert_array_equal(joined, wanted[low:high])
        np.testing.assert_array_equal(resolve(found.pieces(0, 1, 1)[0]), wanted[:, :1])


def test_the_rewritten_graph_means_the_same() -> None:
    x, y = fg.asarray(X), fg.asarray(Y)
    tensors = [job(x, y) for job, _ in JOBS.values()]
    run = cone([one.node for one in tensors])
    graph = detached(run)
    values = [leaf.memo for leaf in run.leaves]
    entry = compiled(graph)
    sunk = sink(graph)
    wanted = interpret(graph, values)
    assert isinstance(sunk.graph, Graph)
    feeds = [np.asarray(one) for one in entry.extended(values)]
    for a, b in zip(interpret(sunk.graph, feeds), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_parts_sink_through_a_graph_deeper_than_python_recurses() -> None:
    leaf = make_input(tensor_type((101, 3), np.dtype(np.float32)))
    h = tensor_of(leaf)
    for _ in range(sys.getrecursionlimit()):
        h = fg.tanh(h)
    sunk = sink(Graph((leaf,), ((h[1:] - h[:-1]).node,)))
    assert [part.start for _, (part,) in sunk.parts] == [1, None]


JOB = """
def job(x):
    X = fg.tanh(fg.asarray(x))
    yield fg.sum(fg.square(X[1:] - X[:-1]))
    yield fg.sum(fg.concat([X[-1000:], X[:-1000]]) * X)
    yield fg.sum(fg.concat([X, X * 2])[::7])
    yield fg.sum(fg.square(fg.nn.conv1d(fg.tanh(fg.asarray(x[None])), np.full((3, 16, 1), 0.1, np.float32))))
    yield fg.sum(fg.square(fg.pad(X, [[5, 5], [0, 0]], constant_values=2.0)))
"""


@needs_linux
def test_data_larger_than_the_memory_that_there_may_be(tmp_path: Path) -> None:
    """Differences, a roll, a join, a convolution, edges, of computed rows."""
    x = RNG.standard_normal((800_000, 16), dtype=np.float32)
    found = np.concatenate(results_on_a_file(x, JOB, tmp_path))
    t = np.tanh(x)
    wanted = (
        np.sum(np.diff(t, axis=0) ** 2, dtype=np.float64),
        np.sum(np.roll(t, 1000, axis=0) * t, dtype=np.float64),
        np.sum(np.concatenate([t, t * 2])[::7], dtype=np.float64),
        np.sum((0.1 * sum(t[k : len(t) - 2 + k].sum(axis=1) for k in range(3))) ** 2, dtype=np.float64),
        np.sum(t**2, dtype=np.float64) + 10 * 16 * 4,
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=20)
