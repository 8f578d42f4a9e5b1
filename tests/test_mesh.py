"""Cuts that belong to the program: meshes, wishes about axes, lanes and pipelines."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import dask
import numpy as np
import pytest
import walk
from hypothesis import given, settings, strategies as st

import flowgraph as fg
from flowgraph import eager
from flowgraph.errors import ShapeError, UsageError
from flowgraph.graph import Graph, interpret, lane_of, make_input, toposort
from flowgraph.lower import Lowering
from flowgraph.partition import split
from flowgraph.passes import optimise
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import tensor_type

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
ROWS, WIDTH, HIDDEN = 40_000, 6, 35
X = RNG.standard_normal((ROWS, WIDTH)).astype(np.float32)
Y = RNG.standard_normal(ROWS).astype(np.float32)


class Model:
    """Two layers, whose weights may be cut, or lie in two stages of a pipeline."""

    def __init__(self, **wishes: Any) -> None:
        rng = np.random.default_rng(1)
        self.w = fg.Variable(rng.standard_normal((WIDTH, HIDDEN)).astype(np.float32), name="w")
        self.b = fg.Variable(np.zeros(HIDDEN, np.float32), name="b")
        self.v = fg.Variable(rng.standard_normal((HIDDEN, 1)).astype(np.float32), name="v")
        self.variables = [self.w, self.b, self.v]
        for name, axes in wishes.items():
            fg.shard(getattr(self, name), axes=axes)

    def loss(self, x: Any, y: Any) -> Tensor:
        h = fg.tanh(x @ self.w + self.b)
        return fg.keras.losses.mse(y, fg.squeeze(h @ self.v, -1))  # type: ignore[no-any-return]

    def gradients(self, **where: Any) -> Any:
        def f(x: Any, y: Any) -> Any:
            with fg.GradientTape() as tape:
                value = self.loss(x, y)
            return value, *tape.gradient(value, self.variables)

        return fg.function(f, **where)


class Piped(Model):
    def loss(self, x: Any, y: Any) -> Tensor:
        with fg.pipeline_stage(0):
            h = fg.tanh(x @ self.w)
        with fg.pipeline_stage(1):
            h = fg.sin(h + self.b)
        with fg.pipeline_stage(2):
            return fg.keras.losses.mse(y, fg.squeeze(h @ self.v, -1))  # type: ignore[no-any-return]


def values(found: Sequence[Any]) -> list[Array]:
    return [np.asarray(one) for one in found]


WISHES: dict[str, dict[str, Any]] = {
    "columns": {"w": {1: "model"}},
    "rows": {"w": {0: "model"}},
    "the second layer": {"v": {0: "model"}},
    "by a number": {"w": {1: 3}},
    "both axes": {"w": {0: "model", 1: "other"}},
    "one axis twice": {"w": {1: "model"}, "v": {0: "other"}},
}


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("pieces", [1, 2, 7, 50])
def test_a_cut_program_computes_the_same(wish: str, pieces: int) -> None:
    plain, cut = Model(), Model(**WISHES[wish])
    expected = values(plain.gradients()(X, Y))
    with fg.Mesh(model=pieces, other=2):
        found = values(cut.gradients()(X, Y))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [Model(w={1: "model"}), Model(w={0: "model"}), Piped(), Piped(w={1: "model"})])
def test_bits_follow_the_program_alone(model: Model) -> None:
    with fg.Mesh(model=3):
        expected = values(model.gradients()(X, Y))
        for rows in (1, 2, 7, (0, 10_000, 30_000, 0)):
            for scheduler in ("threads", "synchronous"):
                found = values(model.gradients(scheduler=scheduler)(fg.shard(fg.asarray(X), rows=rows), Y))
                assert all(map(np.array_equal, found, expected))


@pytest.mark.cluster
def test_bits_are_the_same_in_processes(cluster: Any) -> None:
    for model in (Model(w={1: "model"}), Piped(), Piped(w={1: "model"})):
        with fg.Mesh(model=2):
            expected = values(model.gradients()(X, Y))
            found = values(model.gradients(client=cluster)(fg.shard(fg.asarray(X), rows=4), Y))
        assert all(map(np.array_equal, found, expected))


def trained(model: Model, steps: int, **where: Any) -> tuple[Array, list[Array]]:
    history = fg.fit(
        model.loss, (X, Y), variables=model.variables, optimizer=fg.keras.optimizers.Adam(0.01), steps=steps, **where
    )
    return history.losses, [one.numpy() for one in model.variables]


class Unpiped(Model):
    def loss(self, x: Any, y: Any) -> Tensor:
        h = fg.sin(fg.tanh(x @ self.w) + self.b)
        return fg.keras.losses.mse(y, fg.squeeze(h @ self.v, -1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("plain_model", "make"),
    [(Model, lambda: Model(w={1: "model"})), (Unpiped, Piped), (Unpiped, lambda: Piped(w={1: "model"}))],
)
def test_training_keeps_pieces_in_their_lanes(plain_model: Callable[[], Model], make: Callable[[], Model]) -> None:
    plain, plain_variables = trained(plain_model(), 6)
    with fg.Mesh(model=3):
        losses, variables = trained(make(), 6)
        again, same = trained(make(), 6, scheduler="synchronous", window=2)
    np.testing.assert_allclose(losses, plain, rtol=1e-4)
    for one, other in zip(variables, plain_variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert np.array_equal(losses, again)
    assert all(map(np.array_equal, variables, same))


def test_the_weights_of_a_lane_are_in_no_task_of_another() -> None:
    model = Model(w={1: "model"})
    with fg.Mesh(model=2):
        program = model.gradients().program(X, Y)
    loops = [one for one in program.stages if hasattr(one, "loop")]
    assert {one.loop.lane for one in loops} == {(), (("model", 0),), (("model", 1),)}
    sizes = [max((int(np.prod(node.type.shape)) for node in one.arguments), default=0) for one in program.stages]
    assert max(sizes) < WIDTH * HIDDEN


def test_a_mesh_changes_what_a_function_does() -> None:
    function = Model(w={1: "model"}).gradients()
    plain = function.program(X, Y)
    with fg.Mesh(model=2):
        cut = function.program(X, Y)
    assert plain.split is None
    assert cut.split is not None
    assert function.program(X, Y) is plain


# Random programs.


@st.composite
def programs(draw: Any) -> tuple[Graph, list[Array]]:
    """A graph of matrices of 5 x 7, some of which are to be cut, and values for its leaves."""
    leaves = [make_input(tensor_type((5, 7), np.float64), kind, f"x{n}") for n, kind in enumerate(("variable", "data"))]
    for one in leaves:
        one.symbolic = True
    known = [tensor_of(one) for one in leaves]
    unary = [fg.tanh, fg.square, lambda x: fg.softmax(x, axis=1), lambda x: x - fg.mean(x, axis=0, keepdims=True)]
    unary += [lambda x: fg.cumulative_sum(x, axis=1), lambda x: x[:, ::-1], lambda x: x / fg.max(fg.abs(x))]
    binary = [fg.add, fg.multiply, lambda x, y: fg.tanh(x @ fg.matrix_transpose(y)) @ x, fg.maximum]
    for _ in range(draw(st.integers(1, 8))):
        x = known[draw(st.integers(0, len(known) - 1))]
        if draw(st.booleans()):
            made = draw(st.sampled_from(unary))(x)
        else:
            made = draw(st.sampled_from(binary))(x, known[draw(st.integers(0, len(known) - 1))])
        if draw(st.booleans()):
            axis, mesh = draw(st.sampled_from([(0, "a"), (1, "a"), (1, "b")]))
            made = fg.ops.shard.shard_op(made, axes=((axis, mesh, {"a": 2, "b": 3}[mesh]),))
        known.append(made)
    total = fg.sum(known[-1] * known[-1])
    slopes = [one for one in fg.gradient(total, known[:2]) if one is not None]
    outputs = [total.node, known[-1].node, *(one.node for one in slopes)]
    inputs = [*leaves, *(one for one in toposort(outputs) if one.is_leaf and one not in leaves)]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    feeds = [rng.uniform(-1, 1, (5, 7)), rng.uniform(-1, 1, (5, 7)), *(one.memo for one in inputs[2:])]
    return Graph(tuple(inputs), tuple(outputs)), feeds


@settings(max_examples=60)
@given(programs())
def test_random_programs_mean_the_same_when_they_are_cut(program: tuple[Graph, list[Array]]) -> None:
    graph, feeds = program
    expected = interpret(graph, feeds)
    optimised = optimise(graph)
    found = split(optimised)
    parts = [part.of(feeds[part.number]) for part in found.inputs]
    assert not any(node.op.name == "shard" and node.attr("axes") for node in found.graph)
    for cut in (found.graph.check(), optimise(found.graph)):
        results = interpret(cut, parts)
        for join, want in zip(found.outputs, expected, strict=True):
            np.testing.assert_allclose(join.of(results), want, rtol=1e-9, atol=1e-9)


# Wrong wishes.


def test_an_axis_whose_name_is_a_number_of_pieces() -> None:
    with pytest.raises(UsageError, match="'2'"):
        fg.Mesh(**{"2": 3})


def test_a_name_that_the_mesh_does_not_have() -> None:
    with fg.Mesh(data=2), pytest.raises(UsageError, match="'model'"):
        fg.shard(fg.ones((4, 4)), axes={1: "model"})


@pytest.mark.parametrize("axes", [{"data": 0}, {"data": -1}, {"data": True}, {"data": 2.0}])
def test_a_mesh_without_pieces(axes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="at least one piece"):
        fg.Mesh(**axes)


def test_an_axis_that_the_tensor_does_not_have() -> None:
    with pytest.raises(ShapeError, match="2 axes") as caught:
        fg.shard(fg.ones((4, 4)), axes={2: 2})
    assert caught.value.asked == "shard(float32[4, 4]): axes={2: 2}"
    with pytest.raises(ShapeError):
        fg.shard(fg.Variable(1.0), axes={0: 2})


def test_wishes_that_contradict_are_both_named() -> None:
    x = fg.shard(fg.ones((4, 4)), axes={0: 2})
    with pytest.raises(UsageError, match=r"test_mesh.py.*\n.*test_mesh.py"):
        fg.shard(x, axes={1: 2}).numpy()


def test_wishes_with_other_numbers_of_pieces() -> None:
    with fg.Mesh(model=2):
        x = fg.shard(fg.ones((4, 4)), axes={0: "model"})
    with fg.Mesh(model=3):
        y = fg.shard(fg.ones((4, 4)), axes={0: "model"})
    with pytest.raises(UsageError, match="has 2 pieces for 'model'"):
        (x + y).numpy()


def test_no_stage_below_the_first() -> None:
    with pytest.raises(UsageError, match="counted from 0"), fg.pipeline_stage(-1):
        pass


def test_lanes_survive_the_passes() -> None:
    with fg.Mesh(model=2):
        program = Piped(w={1: "model"}).gradients().program(X, Y)
    lanes = {lane_of(node) for node in program.phases.needed}
    assert {(), (("stage", 0),), (("stage", 2),), (("stage", 0), ("model", 1))} <= lanes


# The flow of micro-batches.


def lowered(program: Any, values: Sequence[Any], workers: int) -> Any:
    """The tasks of a run, and what each depends on."""
    parts = program.parts_of(values)
    bound = program.bind(parts, program.row_counts(parts, None), workers)
    lowering = Lowering(bound, "run")
    lowering.lower()
    return {key: task.dependencies for key, task in lowering.graph.items()}


def reached(graph: Any, key: Any) -> set[Any]:
    """All that a task waits for."""
    found: set[Any] = set()
    stack = [key]
    while stack:
        for one in graph[stack.pop()]:
            if one not in found:
                found.add(one)
                stack.append(one)
    return found


@pytest.mark.parametrize(("workers", "data"), [(1, 1), (3, 1), (5, 1), (6, 2), (8, 2)])
def test_a_micro_batch_enters_a_stage_when_an_earlier_one_has_left_it(workers: int, data: int) -> None:
    """So many are under way as there are stages to come, for each of the `data` pipelines that there are places for."""
    model = Piped()
    gradients = model.gradients()
    x = fg.shard(fg.asarray(X), rows=8)
    with walk.tiles(1024, 1024):
        traced, tensors, _ = gradients.traced((x, Y), {})
    program = traced.entry.program
    assert len(tensors) == 2
    graph = lowered(program, [X, Y, *(one.numpy() for one in model.variables)], workers)
    loops = dict.fromkeys(key[0] for key in graph if re.fullmatch(r"flowgraph-loop-\w+-stage-\w+-\w+", key[0]))
    stages = [[one for one in loops if f"-stage-{number}-" in one] for number in ("zero", "one", "two")]
    assert [len(own) for own in stages] == [2, 2, 1]  # the last goes forward and back at once
    for number in (0, 1):
        forward, backward = stages[number]
        for batch in range(8):
            before = reached(graph, (forward, 0, batch))
            waited = [other for other in range(8) if (backward, 0, other) in before]
            assert waited == list(range(batch - (3 - number) * data + 1)), (number, batch)


def test_rows_that_wait_for_all_rows_have_no_gates() -> None:
    """The mean of the batch is needed on the way: every micro-batch must go forward before any comes back."""

    class Normed(Piped):
        def loss(self, x: Any, y: Any) -> Tensor:
            with fg.pipeline_stage(0):
                h = fg.tanh(x @ self.w + self.b)
                h = h - fg.mean(h, axis=0)
            with fg.pipeline_stage(1):
                return fg.keras.losses.mse(y, fg.squeeze(h @ self.v, -1))  # type: ignore[no-any-return]

    model = Normed()
    expected = values(model.gradients(scheduler="synchronous")(X, Y))
    found = values(model.gradients()(fg.shard(fg.asarray(X), rows=8), Y))
    assert all(map(np.array_equal, found, expected))


def test_wishes_about_arguments_and_data_are_heard() -> None:
    x = fg.shard(fg.asarray(X), rows=(10_000, 0, 30_000))
    function = fg.function(lambda x: fg.sum(fg.tanh(x), axis=0))
    with walk.tiles(1000, 1000):
        assert list(function.program(x).wishes.values()) == [(10_000, 0, 30_000)]
        assert function.program(X).wishes == {}
        w = fg.Variable(np.zeros(WIDTH, np.float32))
        names: set[str] = set()

        def spy(graph: Any, keys: Any) -> Any:
            names.update(key for key in graph if re.fullmatch(r"flowgraph-loop-zero-\w{12}", key[0]))
            return dask.get(graph, keys)

        optimizer = fg.keras.optimizers.SGD(0.1)
        fg.fit(lambda x: fg.mean(fg.square(x @ w - 1)), x, variables=[w], optimizer=optimizer, scheduler=spy)
    assert len(names) == 3


def test_a_gradient_by_a_tensor_with_wishes() -> None:
    function = fg.function(lambda x: fg.sum(x * x))
    x = fg.shard(fg.constant([1.0, 2.0]), rows=2)
    with fg.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    assert tape.gradient(y, x).tolist() == [2.0, 4.0]


def test_the_value_of_a_variable_with_a_wish_is_its_own() -> None:
    """And of one that is large, and so travels by a file."""
    w = fg.Variable(np.arange(400_000, dtype=np.float32).reshape(20, -1))
    before = eager.COMPILED.misses
    with fg.Mesh(model=3):
        fg.shard(w, axes={1: "model"})
        assert np.array_equal(np.asarray(w), w.numpy())
        assert np.shares_memory(w.numpy(), w.numpy())
        assert eager.COMPILED.misses == before
        assert float(fg.sum(w * 2)) == pytest.approx(400_000 * 399_999, rel=1e-6)
