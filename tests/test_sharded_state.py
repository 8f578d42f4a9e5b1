"""Optimizers whose slots and update are cut while the weights are whole: the same bits, and no task with all of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import dask
import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import UsageError
from flowgraph.graph import Graph, make_input
from flowgraph.kernel import WholeStage
from flowgraph.lower import Lowering, new_token
from flowgraph.partition import narrow
from flowgraph.tensor import tensor_of
from flowgraph.train.step import Step
from flowgraph.types import tensor_type

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
ROWS, WIDTH, HIDDEN = 40_000, 6, 35
X = RNG.standard_normal((ROWS, WIDTH)).astype(np.float32)
Y = RNG.standard_normal(ROWS).astype(np.float32)


class Model:
    """Two layers with a penalty, which puts arithmetic between the gradient of the rows and the update."""

    def __init__(self, axes: Any = None) -> None:
        rng = np.random.default_rng(1)
        self.w = fg.Variable(rng.standard_normal((WIDTH, HIDDEN)).astype(np.float32), name="w")
        self.b = fg.Variable(np.zeros(HIDDEN, np.float32), name="b")
        self.v = fg.Variable(rng.standard_normal((HIDDEN, 1)).astype(np.float32), name="v")
        self.c = fg.Variable(np.float32(0), name="c")
        self.variables = [self.w, self.b, self.v, self.c]
        if axes:
            fg.shard(self.w, axes=axes)

    def loss(self, x: Any, y: Any) -> Any:
        h = fg.tanh(x @ self.w + self.b)
        penalty = 0.01 * fg.sum(fg.square(self.w))
        return fg.keras.losses.mse(y, fg.squeeze(h @ self.v, -1) + self.c) + penalty


class Piped(Model):
    def loss(self, x: Any, y: Any) -> Any:
        with fg.pipeline_stage(0):
            h = fg.tanh(x @ self.w + self.b)
        with fg.pipeline_stage(1):
            return fg.keras.losses.mse(y, fg.squeeze(h @ self.v, -1) + self.c)


def trained(model: Model, optimizer: Any, steps: int = 4, **where: Any) -> list[Array]:
    history = fg.fit(model.loss, (X, Y), variables=model.variables, optimizer=optimizer, steps=steps, **where)
    return [history.losses, *(one.numpy() for one in model.variables)]


def adam(shard: Any) -> Any:
    return fg.keras.optimizers.Adam(0.01, shard=shard)


def same(found: list[Array], expected: list[Array]) -> bool:
    return all(map(np.array_equal, found, expected))


@pytest.fixture(scope="module")
def whole() -> list[Array]:
    return trained(Model(), adam(None))


@pytest.mark.parametrize("pieces", [2, 3, 7, 50])
def test_the_numbers_are_those_of_whole_state(pieces: int, whole: list[Array]) -> None:
    for one, other in zip(trained(Model(), adam(pieces)), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_descent_too(optimizer: dict[str, Any]) -> None:
    expected = trained(Model(), fg.keras.optimizers.SGD(0.01, **optimizer))
    found = trained(Model(), fg.keras.optimizers.SGD(0.01, shard=3, **optimizer))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [Model, Piped, lambda: Model({1: 2})], ids=["whole", "pipeline", "tensor-parallel"])
def test_bits_are_the_same_on_every_executor_and_in_every_window(make: Any) -> None:
    expected = trained(make(), adam(3))
    for where in ({"scheduler": "synchronous"}, {"window": 1}, {"scheduler": "threads", "window": 3}):
        assert same(trained(make(), adam(3), **where), expected)


@pytest.mark.parametrize("rows", [1, 2, 5, (0, 10_000, 30_000, 0)])
def test_bits_are_the_same_however_rows_are_cut(rows: Any) -> None:
    expected = trained(Model(), adam(3))
    model = Model()

    def loss(x: Any, y: Any) -> Any:
        return model.loss(fg.shard(x, rows=rows), y)

    history = fg.fit(loss, (X, Y), variables=model.variables, optimizer=adam(3), steps=4)
    assert same([history.losses, *(one.numpy() for one in model.variables)], expected)


@pytest.mark.cluster
def test_bits_are_the_same_in_processes(cluster: Any) -> None:
    for make in (Model, Piped):
        assert same(trained(make(), adam(3), client=cluster), trained(make(), adam(3)))


def test_batches() -> None:
    expected = trained(Model(), adam(None), batch_size=10_000)
    for one, other in zip(trained(Model(), adam(3), batch_size=10_000), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_axis_of_a_mesh(whole: list[Array]) -> None:
    optimizer = adam("data")
    assert optimizer.pieces == 1
    with fg.Mesh(data=4):
        assert optimizer.pieces == 4
        assert same(trained(Model(), optimizer), trained(Model(), adam(4)))
    assert same(trained(Model(), adam("data")), whole)  # without a mesh nothing is cut


def test_state_goes_on_where_it_was_left_uncut() -> None:
    model, optimizer = Model(), adam("data")
    trained(model, optimizer, 2)
    with fg.Mesh(data=3):
        found = trained(model, optimizer, 2)
    for one, other in zip(found[1:], trained(Model(), adam(None), 4)[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# What lies where.


def step(pieces: int, model: Model | None = None) -> Step:
    model = model or Model()
    return Step(model.loss, [fg.asarray(X).type, fg.asarray(Y).type], model.variables, adam(pieces))


def arrays(value: Any) -> Iterator[Array]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from arrays(one)


def test_no_task_of_the_update_holds_more_than_its_part_of_the_state() -> None:
    pieces = 4
    made = step(pieces)
    state, outside = made.inputs()
    counts = made.program.row_counts([X, Y, *state, *outside], {})
    bound = made.program.bind([X, Y, *state, *outside], counts, 3)
    lowering = Lowering(bound, new_token())
    results = lowering.lower()
    largest: dict[str, int] = {}
    gradient = sum(v.numpy().size for v in made_variables(made))

    def noted(function: Any, name: str) -> Any:
        def call(*args: Any) -> Any:
            found = function(*args)
            for one in (*arrays(list(args)), *arrays(found)):
                largest[name] = max(largest.get(name, 0), one.size)
            return found

        return call

    graph = dict(lowering.graph)
    for key, task in graph.items():
        if isinstance(task, dask.task_spec.Task) and key[0].startswith("flowgraph-whole-one-slots"):
            graph[key] = dask.task_spec.Task(key, noted(task.func, lowering.stage_of(key)), *task.args)
    keys = [key for one in results for key in one.keys]
    dask.get(graph, keys)
    assert len(largest) == pieces
    assert max(largest.values()) <= -(-WIDTH * HIDDEN // pieces) < gradient


def made_variables(made: Step) -> list[fg.Variable]:
    return [v for group in made.groups for v in group.variables]


def test_each_lane_combines_its_portion_of_the_gradient_alone() -> None:
    stages = step(4).program.stages
    (loop,) = [one for one in stages if hasattr(one, "loop")]
    assert len(loop.excerpts) == 4
    spans = sorted(span[1:] for one in loop.excerpts.values() for span in one.entries)
    assert spans[0][0] == 0
    assert all(a[1] == b[0] for a, b in pairwise(spans))  # each element once
    updates = [one for one in stages if isinstance(one, WholeStage) and one.phase.lane]
    assert len(updates) == 4
    assert all(not one.merges for stage in updates for one in stage.loops)


def test_a_portion_is_taken_through_a_graph_deeper_than_python_recurses() -> None:
    leaf = make_input(tensor_type((10,), np.dtype(np.float32)))
    h = tensor_of(leaf)
    for _ in range(sys.getrecursionlimit()):
        h = fg.tanh(h)
    with fg.pipeline_stage(0):
        taken = h[2:5]
    found = narrow(Graph((leaf,), (taken.node,)))
    assert {node.type.shape for node in found if not node.is_leaf} == {(3,)}


def test_a_variable_that_is_cut_keeps_its_cut() -> None:
    groups = step(3, Model({1: 2})).groups
    assert [group.pieces for group in groups] == [1, 3, 3, 1]  # a scalar has nothing to cut


@pytest.mark.parametrize("shard", [0, -1, True, 1.5])
def test_no_number_of_pieces(shard: Any) -> None:
    with pytest.raises(UsageError, match="no number of pieces"):
        adam(shard)


def test_an_axis_that_the_mesh_does_not_have() -> None:
    with fg.Mesh(model=2), pytest.raises(UsageError, match="'data'"):
        trained(Model(), adam("data"))
