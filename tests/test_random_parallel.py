"""Random programs on random layouts: one program has the same bits wherever and however it runs.

A graph drawn here has rows, weights that may be cut over two logical axes, lanes of a pipeline and sums over rows. What
is computed plainly, without and with passes and cuts agrees to a tolerance; one optimised program agrees with itself to
the bit for every cut of the rows and on every scheduler.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import flowgraph as fg
from flowgraph import schedule
from flowgraph.eager import compiled
from flowgraph.graph import Graph, interpret, make_input, toposort
from flowgraph.partition import split
from flowgraph.passes import optimise
from flowgraph.program import Program
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import tensor_type

Array = np.ndarray[Any, Any]
WIDTH, PIECES = 5, {"a": 2, "b": 3}


@dataclass
class Case:
    """A graph, values of its inputs, and how its rows are to be cut."""

    graph: Graph
    feeds: list[Any]
    cuts: list[Any]


def _row_wise(draw: Any, known: list[Tensor], weights: list[Tensor]) -> Tensor:
    x = draw(st.sampled_from(known))
    y = draw(st.sampled_from(known))
    w = draw(st.sampled_from(weights))
    kinds = {
        "tanh": lambda: fg.tanh(x),
        "matmul": lambda: fg.tanh(x @ w),
        "add": lambda: x + y,
        "multiply": lambda: x * y,
        "maximum": lambda: fg.maximum(x, y),
        "softmax": lambda: fg.softmax(x, axis=1),
        "centred": lambda: x - fg.mean(x, axis=0, keepdims=True),
        "scaled": lambda: x / (1 + fg.max(fg.abs(x), axis=1, keepdims=True)),
        "flip": lambda: x[:, ::-1],
        "columns": lambda: fg.cumulative_sum(x, axis=1) / WIDTH,
        "rows": lambda: fg.cumulative_sum(x, axis=0) / 8,
        "gram": lambda: fg.tanh(x @ (fg.matrix_transpose(x) @ y) / 16),
        "weight": lambda: x * fg.sum(w, axis=0),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]()


@st.composite
def cases(draw: Any) -> Case:
    """Programs of up to eight steps on a matrix of rows and two square weights, with their gradients."""
    count = draw(st.sampled_from([0, 1, 3, 8, 17, 64, 101]))
    dtype = np.dtype(draw(st.sampled_from(["f4", "f8"])))
    leaves = [make_input(tensor_type((count, WIDTH), dtype), "data", "x")]
    leaves += [make_input(tensor_type((WIDTH, WIDTH), dtype), "variable", f"w{n}") for n in range(2)]
    for one in leaves:
        one.symbolic = True
    x, *weights = map(tensor_of, leaves)
    for number in range(2):
        axes = draw(st.sampled_from([(), ((0, "a", 2),), ((1, "a", 2),), ((0, "b", 3),), ((0, "a", 2), (1, "b", 3))]))
        if axes:
            weights[number] = fg.ops.shard.shard_op(weights[number], axes=axes)
    known = [x]
    stages = draw(st.booleans())
    for number in range(draw(st.integers(1, 6))):
        if stages:
            with fg.pipeline_stage(number // 2):
                made = _row_wise(draw, known, weights)
        else:
            made = _row_wise(draw, known, weights)
        if not stages and draw(st.integers(0, 3)) == 0:
            made = fg.ops.shard.shard_op(made, axes=((1, "a", 2),))
        known.append(made)
    total = fg.sum(fg.square(known[-1]))
    slopes = [one for one in fg.gradient(total, [x, *map(tensor_of, leaves[1:])]) if one is not None]
    outputs = [total.node, known[-1].node, *(one.node for one in slopes)]
    inputs = [*leaves, *(one for one in toposort(outputs) if one.is_leaf and one not in leaves)]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    values = [rng.uniform(-1, 1, shape).astype(dtype) for shape in ((count, WIDTH), *[(WIDTH, WIDTH)] * 2)]
    feeds = [*values, *(one.memo for one in inputs[3:])]
    cuts = draw(st.lists(st.one_of(st.integers(1, 16), uneven(count)), min_size=2, max_size=3))
    return Case(Graph(tuple(inputs), tuple(outputs)), feeds, cuts)


def uneven(count: int) -> Any:
    """Lengths of shards that add up to `count`; some are empty."""
    marks = st.lists(st.integers(0, count), min_size=1, max_size=5)
    return marks.map(lambda some: tuple(int(n) for n in np.diff([0, *sorted(some), count])))


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "TILE_ROWS", (4, 8))


class Runs:
    """One optimised program, and how it is run."""

    def __init__(self, case: Case) -> None:
        self.case, self.feeds = case, case.feeds
        self.entry = compiled(case.graph, False)
        self.program = Program(self.entry.graph)

    def run(self, cut: Any, **where: Any) -> list[Array]:
        """The outputs, the rows of all axes cut as `cut` says."""
        self.program.wishes = dict.fromkeys(self.program.meshes, cut)
        return [np.asarray(one) for one in self.program.run(self.feeds, rows=self.entry.rows, **where)]


def check_meaning(runs: Runs) -> None:
    case = runs.case
    expected = interpret(case.graph, case.feeds)
    tolerance = 1e-3 if case.feeds[0].dtype == np.float32 else 1e-9
    optimised = optimise(case.graph)
    cut = split(optimised)
    parts = [part.of(case.feeds[part.number]) for part in cut.inputs]
    pieces = interpret(optimise(cut.graph), parts)
    for found in (interpret(optimised, case.feeds), [join.of(pieces) for join in cut.outputs]):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    for one, other in zip(runs.run(1), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def check_bits(runs: Runs, *places: dict[str, Any]) -> None:
    expected = runs.run(1, scheduler="synchronous")
    for cut in runs.case.cuts:
        for place in places:
            for one, other in zip(runs.run(cut, **place), expected, strict=True):
                assert one.tobytes() == other.tobytes(), f"{cut} {place}"


RELAXED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=200, suppress_health_check=RELAXED)
@given(cases())
def test_random_programs_on_threads(case: Case) -> None:
    runs = Runs(case)
    check_meaning(runs)
    check_bits(runs, {"scheduler": "threads"}, {"scheduler": "synchronous"})


def test_an_axis_is_not_cut_whose_length_is_open_where_it_is_read() -> None:
    """Of no rows and five columns it is the columns that are opened, and they meet the five columns of a cut weight."""
    x = make_input(tensor_type((0, WIDTH), np.float32), "data", "x")
    w = make_input(tensor_type((WIDTH, WIDTH), np.float32), "variable", "w")
    x.symbolic = w.symbolic = True
    h = fg.tanh(tensor_of(x) @ fg.ops.shard.shard_op(tensor_of(w), axes=((1, "a", 2),))) * tensor_of(x)
    feeds = [np.zeros((0, WIDTH), np.float32), np.ones((WIDTH, WIDTH), np.float32)]
    check_meaning(Runs(Case(Graph((x, w), (h.node,)), feeds, [1])))


def test_lanes_without_rows() -> None:
    x = make_input(tensor_type((0, WIDTH), np.float32), "data", "x")
    x.symbolic = True
    with fg.pipeline_stage(0):
        h = fg.tanh(tensor_of(x))
    graph = Graph((x,), (fg.sum(h).node, h.node))
    check_bits(Runs(Case(graph, [np.zeros((0, WIDTH), np.float32)], [1, 3, (0, 0)])), {"scheduler": "threads"})


@pytest.mark.cluster
# The client's thread draws waiting times meanwhile, which Hypothesis takes for draws of the test.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@settings(max_examples=20, suppress_health_check=RELAXED)
@given(case=cases())
def test_random_programs_on_a_cluster(cluster: Any, case: Case) -> None:
    case.cuts = case.cuts[:1]  # runs there are slow; threads see all layouts
    check_bits(Runs(case), {"client": cluster})


@settings(max_examples=3, suppress_health_check=RELAXED)
@given(case=cases())
def test_random_programs_in_processes(processes: None, case: Case) -> None:
    check_bits(Runs(case), {"scheduler": "processes"})
