"""Plans: the cost model against formulas by hand, the search against brute force, and plans in force."""

from __future__ import annotations

import itertools
import time
from contextlib import nullcontext
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import UsageError
from flowgraph.graph import Graph, lane_of, make_input
from flowgraph.machine import Rates
from flowgraph.partition import Cut, choose_rows, propagate
from flowgraph.partition.choose import MODEL, seeds_of
from flowgraph.partition.cost import Grid, Work, balanced, predict
from flowgraph.partition.split import splittable, weight_bytes
from flowgraph.partition.work import Facts, work_of
from flowgraph.planner import automatic
from flowgraph.planner.automatic import needed, placed
from flowgraph.planner.search import Machine, Search, counts
from flowgraph.planner.subject import Subject, subject_of
from flowgraph.tensor import tensor_of
from flowgraph.types import tensor_type

RNG = np.random.default_rng(0)
ROWS, WIDTH, HIDDEN = 40_000, 16, 512
X = RNG.standard_normal((ROWS, WIDTH)).astype(np.float32)
Y = X[:, :1] * 2
FLOAT = 4


class Model:
    """Two layers without offsets, whose bytes are easy to count."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.w = fg.Variable(rng.standard_normal((WIDTH, HIDDEN)).astype(np.float32) / 4, name="w")
        self.v = fg.Variable(rng.standard_normal((HIDDEN, 1)).astype(np.float32) / 20, name="v")
        self.variables = [self.w, self.v]

    def loss(self, x: Any, y: Any) -> Any:
        return fg.mean(fg.square(fg.tanh(x @ self.w) @ self.v - y))


def step_of(model: Any, optimizer: Any = None) -> Subject:
    return subject_of(model.loss, (X, Y), optimizer or fg.keras.optimizers.SGD(0.1), model.variables)


def planned(model: Any, **where: Any) -> Any:
    where = {"workers": 4, "cores": 1, "optimizer": fg.keras.optimizers.SGD(0.1)} | where
    return fg.plan(model.loss, X, Y, variables=model.variables, **where)


WEIGHTS = (WIDTH * HIDDEN + HIDDEN) * FLOAT
COUNTER = 8
"""The number of steps, which moves on with the weights ..."""
RATE = 8
"""... and the learning rate, which does not."""
SCALAR = FLOAT


# The cost model against formulas by hand.


@pytest.mark.parametrize("data", [1, 2, 4, 1000])
def test_bytes_of_data_parallel(data: int) -> None:
    """Partial gradients and losses go up the tree, new weights come down: each (D - 1) times."""
    search = Search(step_of(Model()), Machine(data, 1, None, Rates()))
    cost = predict(search._work(search.choices[0].layouts, (), 1), Grid(data=data), data, Rates())
    assert cost.moved["weights"] == (WEIGHTS + COUNTER) * (data - 1)
    assert cost.moved["partials"] == (WEIGHTS + SCALAR) * (data - 1)
    assert cost.moved["all-reduce"] == cost.moved["borders"] == cost.moved["resharding"] == 0
    assert cost.moved["values"] <= 8 * SCALAR * (data - 1)
    assert cost.memory["weights"] == WEIGHTS + COUNTER + RATE
    assert cost.memory["partials"] == 2 * (WEIGHTS + SCALAR)


@pytest.mark.parametrize("model", [2, 4, 100])
def test_bytes_of_tensor_parallel(model: int) -> None:
    """Columns of w and rows of v: the output of the second layer is reduced, and its gradient read by every lane."""
    subject = step_of(Model())
    facts = Facts(subject.graph, choose_rows(subject.graph), subject.lengths)
    w = next(leaf for leaf in subject.graph.inputs if leaf.type.shape == (WIDTH, HIDDEN))
    layouts = propagate(subject.graph, seeds_of({w: 1}, {}), splittable, weight_bytes)
    cost = predict(work_of(facts, layouts, subject.states), Grid(model=model), model, Rates())
    assert cost.moved["all-reduce"] == ROWS * FLOAT * (model - 1)
    assert ROWS * FLOAT * (model - 1) <= cost.moved["values"] <= (ROWS + 8) * FLOAT * (model - 1)
    assert cost.moved["weights"] == COUNTER * (model - 1)
    assert cost.moved["partials"] == 0
    assert cost.moved["resharding"] == 0
    assert cost.memory["weights"] == WEIGHTS / model + COUNTER + RATE
    assert cost.flops < 1.1 * predict(work_of(facts, layouts, subject.states), Grid(), 1, Rates()).flops / model + 3e6


def test_operations_are_those_of_the_products() -> None:
    cost = planned(Model(), workers=1).cost
    products = 2 * ROWS * HIDDEN * (2 * WIDTH + 3)  # x @ w twice over, h @ v, and both gradients of it
    assert products <= cost.flops <= 1.5 * products


def test_one_place_moves_nothing() -> None:
    assert planned(Model(), workers=1).cost.bytes == 0


def test_the_cost_does_not_depend_on_what_is_behind_the_step() -> None:
    """Slots count with their variables: Adam has two more of each."""
    sgd, adam = planned(Model()).cost, planned(Model(), optimizer=fg.keras.optimizers.Adam(0.1)).cost
    assert adam.memory["weights"] - COUNTER - RATE == 3 * (sgd.memory["weights"] - COUNTER - RATE)
    assert adam.moved["partials"] == sgd.moved["partials"]


def test_counts_and_stages() -> None:
    assert counts(1) == [1]
    assert counts(6) == [1, 2, 3, 4, 5, 6]
    assert counts(10) == [1, 2, 4, 5, 8, 10]
    assert counts(0) == []
    assert balanced([], 4) == []
    assert balanced([5, 1, 1, 1, 1, 1], 2) == [0, 1, 1, 1, 1, 1]


# The search.


WORKERS = 8
"""On so many, and on fewer, plans are compared with every plan that there is."""


class Way(NamedTuple):
    """One set of cuts on so many stages, before it is known how many places there are."""

    work: Work
    cut: bool
    stages: int


def every_way(subject: Subject) -> list[Way]:
    """Every set of cuts of the weights, on every number of stages that `WORKERS` may be used for."""
    search = Search(subject, Machine(WORKERS, 1, None, Rates()))
    leaves = list(subject.variables)
    ways = [[None, *range(leaf.type.ndim)] for leaf in leaves]
    found = []
    for axes in itertools.product(*ways):
        wishes = {leaf: axis for leaf, axis in zip(leaves, axes, strict=True) if axis is not None}
        layouts = propagate(subject.graph, seeds_of(wishes, {}), splittable, weight_bytes)
        for division in search._divisions():
            stages = len(set(division)) or 1
            found.append(Way(search._work(layouts, division, stages), bool(wishes), stages))
    return found


def brute_force(ways: list[Way], workers: int) -> list[tuple[float, float]]:
    """The seconds and the peak of every plan: every way, every grid, one by one; the quickest first."""
    found = []
    for work, cut, stages in ways:
        places = workers // stages
        for data, model in itertools.product(range(1, places + 1), range(1, (places if cut else 1) + 1)):
            for each, recompute in itertools.product((1, 2, 4, 8) if stages > 1 else (1,), (False, True)):
                if data * model <= places:
                    grid = Grid(data, model, stages, stages * each if stages > 1 else 1, recompute)
                    cost = predict(work, grid, workers, Rates())
                    found.append((cost.seconds, cost.peak))
    return sorted(found)


@cache
def two_layers() -> tuple[Subject, list[Way]]:
    subject = step_of(Model())
    return subject, every_way(subject)


@pytest.mark.parametrize("memory", [None, 20e6, 9e6, 5e6])
@pytest.mark.parametrize("workers", [1, 2, 4, WORKERS])
def test_the_search_finds_what_brute_force_finds(workers: int, memory: float | None) -> None:
    subject, ways = two_layers()
    machine = Machine(workers, 1, memory, Rates())
    possible = [seconds for seconds, peak in brute_force(ways, workers) if memory is None or peak <= memory]
    if not possible:
        with pytest.raises(UsageError):
            Search(subject, machine).best()
        return
    assert Search(subject, machine).best()[0].cost.seconds == pytest.approx(possible[0])


class Layers:
    """So many layers, of which those between the first and the last have square weights."""

    def __init__(self, count: int, width: int) -> None:
        sizes = [WIDTH, *[width] * (count - 1), 1]
        self.variables = [fg.Variable(np.zeros(shape, np.float32)) for shape in pairwise(sizes)]

    def loss(self, x: Any, y: Any) -> Any:
        h = x
        for one in self.variables[:-1]:
            h = fg.tanh(h @ one)
        return fg.mean(fg.square(h @ self.variables[-1] - y))


@cache
def many_layers(layers: int, width: int) -> tuple[Subject, list[Way]]:
    subject = step_of(Layers(layers, width))
    return subject, every_way(subject)


@pytest.mark.parametrize("workers", [2, 4, WORKERS])
@pytest.mark.parametrize(("layers", "width"), [(2, 256), (3, 128), (3, 1024), (4, 1024)])
def test_few_trials_find_nearly_the_best_of_all_cuts(layers: int, width: int, workers: int) -> None:
    """Whatever the memory: a plan is found wherever there is one, and is within a tenth of the best."""
    subject, ways = many_layers(layers, width)
    every = brute_force(ways, workers)
    least, most = min(peak for _, peak in every), max(peak for _, peak in every)
    for memory in np.geomspace(1.001 * least, most, 8):
        best = next(seconds for seconds, peak in every if peak <= memory)
        found, _ = Search(subject, Machine(workers, 1, float(memory), Rates())).best()
        assert found.cost.seconds <= 1.1 * best


def test_more_memory_never_makes_a_slower_plan() -> None:
    subject, before = step_of(Model()), float("inf")
    for memory in np.geomspace(3e6, 1e9, 12):
        try:
            found, _ = Search(subject, Machine(4, 2, float(memory), Rates())).best()
        except UsageError:
            assert before == float("inf")
            continue
        assert found.cost.peak <= memory
        assert found.cost.seconds <= before
        before = found.cost.seconds
    assert before < float("inf")


class Wide:
    """A model whose weights are what needs memory."""

    def __init__(self) -> None:
        self.w = fg.Variable(np.zeros((1000, 4000), np.float32), name="wide")
        self.variables = [self.w]

    def loss(self, x: Any) -> Any:
        return fg.mean(fg.square(x @ self.w))


def test_a_weight_that_fits_no_worker_is_cut() -> None:
    model, x = Wide(), np.ones((64, 1000), np.float32)
    optimizer = fg.keras.optimizers.Adam(0.1)
    found = fg.plan(model.loss, x, workers=4, cores=1, memory="60 MB", optimizer=optimizer)
    assert found.grid.model == 4
    assert list(found.wishes) == [model.w]
    assert found.cost.peak <= 60e6


def test_where_nothing_fits_the_numbers_and_the_culprit_are_told() -> None:
    model, x = Wide(), np.ones((64, 1000), np.float32)
    with pytest.raises(UsageError) as caught:
        fg.plan(model.loss, x, workers=2, cores=1, memory="1 MB", optimizer=fg.keras.optimizers.Adam(0.1))
    text = str(caught.value)
    assert "2 workers of 1 MB" in text
    assert "MB weights" in text
    assert "float32[1000, 4000]" in text
    assert "test_planner.py" in text


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"workers": True}, {"cores": -1}, {"memory": 0}, {"memory": "much"}, {"memory": "-1 GB"}]
)
def test_a_machine_that_can_not_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        planned(Model(), **wrong)


def test_what_can_not_be_planned() -> None:
    with pytest.raises(UsageError, match="no function"):
        fg.plan(3)
    with pytest.raises(UsageError, match="no optimizer"):
        fg.plan(Model().loss, X, Y, optimizer=3)


def deep(layers: int) -> Graph:
    """A graph of about ten nodes a layer."""
    leaf = make_input(tensor_type((1000, 64), np.float32), "data", "x")
    weights = [make_input(tensor_type((64, 64), np.float32), "variable", f"w{n}") for n in range(layers)]
    h = tensor_of(leaf)
    for one in weights:
        h = fg.tanh(h @ tensor_of(one) + 1.0)
    loss = fg.mean(fg.square(h))
    outputs = [loss, *fg.gradient(loss, [tensor_of(one) for one in weights])]
    return Graph.of([one.node for one in outputs])


@pytest.mark.alone
def test_planning_is_quick_and_does_not_depend_on_the_number_of_workers() -> None:
    graph = deep(20)
    assert 180 <= len(graph.nodes()) <= 320, len(graph.nodes())
    seconds = {}
    for workers in (10, 10_000):
        fg.plan(graph, workers=workers, cores=1)
        taken = []
        for _ in range(12):  # a busy machine takes longer, never less
            began = time.process_time()
            fg.plan(graph, workers=workers, cores=1)
            taken.append(time.process_time() - began)
        seconds[workers] = min(taken)
    assert seconds[10] < 0.1
    assert seconds[10_000] < 0.1 + 2 * seconds[10]


def test_mesh_larger_than_the_data() -> None:
    """There are never more pieces of the rows than rows."""
    found = fg.plan(lambda x: fg.sum(fg.exp(x)), np.ones((3, 5), np.float32), workers=100, cores=1)
    assert found.grid.data <= 3


# Plans in force.


def of_two_pieces(model: Any) -> Any:
    """The plan of the candidate that cuts weights in two, whatever is best."""
    subject, machine = step_of(model), Machine(2, 1, None, Rates())
    _, candidates = Search(subject, machine).best()
    chosen = next(one for one in candidates if one.grid.model == 2)
    return fg.planner.Plan(subject, machine, chosen, candidates)


def test_a_plan_in_force_cuts_what_it_chose() -> None:
    plain, cut = Model(), Model()
    optimizer = fg.keras.optimizers.SGD(0.05)
    data = X[:5000], Y[:5000]
    expected = fg.fit(plain.loss, data, variables=plain.variables, optimizer=optimizer, steps=4).losses
    found = of_two_pieces(cut)
    with found:
        step = fg.train.step.Step(cut.loss, [fg.asarray(one).type for one in data], cut.variables, optimizer)
        assert step.program.split is not None
        history = fg.fit(cut.loss, data, variables=cut.variables, optimizer=fg.keras.optimizers.SGD(0.05), steps=4)
    np.testing.assert_allclose(history.losses, expected, rtol=1e-4)
    for one, other in zip(cut.variables, plain.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-3, atol=1e-4)
    assert cut.w._wish is None


def test_a_plan_in_force_is_traced_anew() -> None:
    model = Model()
    function = fg.function(model.loss)
    before = function.program(X, Y)
    found = of_two_pieces(model)
    with found:
        inside = function.program(X, Y)
    assert before.split is None
    assert inside.split is not None
    assert function.program(X, Y) is before
    found.apply()
    try:
        assert function.program(X, Y) is inside
    finally:
        found.withdraw()
    assert function.program(X, Y) is before


def test_rows_are_cut_as_planned_with_the_same_bits() -> None:
    function = fg.function(Model().loss)
    expected = function(X, Y).numpy()
    found = fg.plan(function, X, Y, workers=3, cores=1, rates=Rates(task=0.0))
    assert found.grid.data == 3
    with found:
        program = function.program(X, Y)
        bound = program.bind(
            [X, Y, *(one.numpy() for one in function.traced((X, Y), {})[0].variables)], {"rows": ROWS}, 1
        )
        assert len(bound.shards["rows"]) == 3
        assert bound.places == 3  # as planned, whoever runs it
        assert np.array_equal(function(X, Y).numpy(), expected)


class Deep:
    """Layers with large activations, and little rows: worth a pipeline."""

    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        self.variables = [
            fg.Variable(rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 4, name=f"d{n}") for n in range(4)
        ]

    def loss(self, x: Any, y: Any) -> Any:
        h = x
        for one in self.variables:
            h = fg.tanh(h @ one)
        return fg.mean(fg.square(h - y))


def test_a_pipeline_is_made_of_the_layers() -> None:
    """The search does not take it here; a plan of that candidate puts each layer in a stage."""
    model, plain = Deep(), Deep()
    subject, machine = step_of(model), Machine(4, 1, None, Rates())
    _, candidates = Search(subject, machine).best()
    piped = [one for one in candidates if one.grid.stages == 4 and one.grid.data == 1 and one.grid.model == 1]
    assert piped
    assert piped[0].cost.moved["borders"] > 0
    found = fg.planner.Plan(subject, machine, piped[0], candidates)
    optimizer = fg.keras.optimizers.SGD
    expected = fg.fit(plain.loss, (X, Y), variables=plain.variables, optimizer=optimizer(0.1), steps=3).losses
    with found:
        step = fg.train.step.Step(model.loss, [fg.asarray(X).type, fg.asarray(Y).type], model.variables, optimizer(0.1))
        lanes = {lane_of(node) for node in step.program.phases.needed}
        history = fg.fit(model.loss, (X, Y), variables=model.variables, optimizer=optimizer(0.1), steps=3)
    assert {(("stage", number),) for number in range(4)} <= lanes
    np.testing.assert_allclose(history.losses, expected, rtol=1e-4)


def test_the_stages_that_a_model_names_stay() -> None:
    class Piped(Model):
        def loss(self, x: Any, y: Any) -> Any:
            with fg.pipeline_stage(0):
                h = fg.tanh(x @ self.w)
            with fg.pipeline_stage(1):
                return fg.mean(fg.square(h @ self.v - y))

    found = planned(Piped())
    assert found.grid.stages == 2
    assert found.grid.batches >= 2


def test_the_wishes_of_a_model_are_in_every_plan() -> None:
    model = Model()
    fg.shard(model.w, axes={1: "model"})
    found = planned(model)
    assert not found.wishes or model.w not in found.wishes
    assert all(one.grid.model > 1 or one.choice.layouts.choices == {} for one in found.candidates)
    with found:
        history = fg.fit(
            model.loss, (X, Y), variables=model.variables, optimizer=fg.keras.optimizers.SGD(0.05), steps=1
        )
    assert np.isfinite(history.losses).all()


def test_rows_that_are_computed_again_have_the_same_bits() -> None:
    """Standardised by the statistics of all rows: a second loop reads what the first has made."""

    def f(x: Any) -> Any:
        h = x
        for _ in range(12):
            h = fg.sin(h @ fg.ones((WIDTH, WIDTH)) * 0.1)
        return fg.sum(fg.square(h - fg.mean(h, axis=0)))

    function = fg.function(f)
    expected = function(X).numpy()
    found = fg.plan(function, X, workers=2, cores=1)
    candidates = found.candidates
    stored = next(one for one in candidates if one.grid == Grid(2))
    again = next(one for one in candidates if one.grid == Grid(2, recompute=True))
    assert stored.cost.memory["stored rows"] > 0 == again.cost.memory["stored rows"]
    assert again.cost.flops > stored.cost.flops
    with found.instead(again):
        program = function.program(X)
        assert np.array_equal(function(X).numpy(), expected)
    assert program.source() != function.program(X).source()


def test_a_program_is_planned_for_lists_too() -> None:
    program = fg.function(lambda x: fg.sum(x * x)).program(np.ones((4, 2), "f4"))
    assert fg.plan(program, [[1.0, 2.0]] * 4, workers=2).rows == fg.plan(program, np.ones((4, 2)), workers=2).rows


def test_only_what_was_put_in_force_last_is_withdrawn() -> None:
    plan = fg.plan(fg.sum, np.ones(4), workers=2)
    for held in (nullcontext(), fg.Mesh(data=2)):
        with held, pytest.raises(UsageError, match="not what was put in force last"):
            plan.withdraw()
    plan.apply().withdraw()
    with pytest.raises(UsageError, match="no Rates"):
        fg.plan(fg.sum, np.ones(4), workers=2, rates=3)  # type: ignore[arg-type]


def test_a_graph_and_a_program_can_be_planned() -> None:
    graph = deep(3)
    found = fg.plan(graph, workers=4, cores=1, memory=5e6)
    assert found.cost.peak <= 5e6
    program = fg.Program(graph)
    assert fg.plan(program, workers=4, cores=1).cost.seconds > 0
    cut = [one for one in found.candidates if one.grid.model == 2]
    plan = found.instead(cut[0])
    feeds = [
        node.memo if node.memo is not None else RNG.standard_normal(node.type.shape).astype(np.float32)
        for node in graph.inputs
    ]
    assert any(node.op.name == "shard" for node in plan.graph)
    for one, other in zip(fg.Program(plan.graph).run(feeds), fg.interpret(graph, feeds), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_a_program_of_unknown_rows_takes_them_from_values() -> None:
    program = fg.function(Model().loss).program(X, Y)
    with pytest.raises(UsageError, match="not known"):
        fg.plan(program, workers=2)
    assert fg.plan(program, X, Y, workers=2, cores=1).cost.flops > 2 * ROWS * WIDTH * HIDDEN / 2


def test_the_table() -> None:
    found = planned(Model(), memory="30 MB")
    lines = repr(found).splitlines()
    assert lines[0] == "plan for 4 workers of 1 cores, 30 MB each"
    assert lines[1].split() == ["data", "model", "stages", "batches", "rows", "seconds", "moved", "held", "flops"]
    assert sum(line.lstrip().startswith("->") for line in lines) == 1
    assert lines[-2].startswith("moved: ")
    assert lines[-1].startswith("held: ")


def test_measured_rates_are_those_of_this_machine() -> None:
    rates = fg.planner.measured_rates()
    assert rates.flops > 1e8
    assert rates.memory > 1e7
    assert rates is fg.planner.measured_rates()


def test_a_large_variable_in_pieces_is_a_source_in_a_fit() -> None:
    model = Wide()
    fg.shard(model.w, axes={1: 4})
    x = np.ones((64, 1000), np.float32)
    history = fg.fit(model.loss, x, variables=[model.w], optimizer=fg.keras.optimizers.SGD(0.1), steps=2)
    assert history.losses.tolist() == [0.0, 0.0]


# Plans that nobody asked for.


def test_a_plan_is_made_where_memory_forbids_to_go_without() -> None:
    model, x = Wide(), [fg.asarray(np.ones((64, 1000), np.float32))]
    optimizer = fg.keras.optimizers.Adam(0.1)
    for memory, cut in ((None, False), (1e9, False), (60e6, True), (1e5, False)):
        found = needed(model.loss, x, [model.w], optimizer, Machine(4, 1, memory, Rates()))
        assert (found is not None) == cut
        assert found is None or found.grid.model > 1


@pytest.mark.cluster
def test_training_on_a_cluster_of_small_workers(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Any] = []

    def remembered(*wanted: Any) -> Any:
        plans.append(placed(*wanted))
        return plans[-1]

    monkeypatch.setattr(automatic, "machine_of", lambda client: Machine(2, 1, 110e6, Rates()))
    monkeypatch.setattr(fg.context.Hooks, "placed", staticmethod(remembered))
    model, x = Wide(), np.ones((64, 1000), np.float32)
    optimizer = fg.keras.optimizers.Adam(0.1)
    fg.fit(model.loss, x, variables=[model.w], optimizer=optimizer, steps=2, client=cluster)
    assert isinstance(plans[0], fg.Plan)
    assert plans[0].grid.model == 2


# Conflicts in propagation.


def test_the_cheapest_reshard_wins_over_the_first_operand() -> None:
    small = make_input(tensor_type((64, 1), np.float32), "variable", "small")
    large = make_input(tensor_type((64, 4096), np.float32), "variable", "large")
    for first, second in ((small, large), (large, small)):
        total = (tensor_of(first) * tensor_of(second)).node
        seeds = {small: (Cut("model"), None), large: (None, Cut("model"))}
        found = propagate(Graph.of([total]), seeds, splittable, weight_bytes)
        assert found.produced(total) == (None, Cut("model"))  # by columns, and the small one is gathered


def test_equal_offers_are_taken_in_order() -> None:
    leaves = [make_input(tensor_type((64, 64), np.float32), "variable", name) for name in "ab"]
    total = (tensor_of(leaves[0]) + tensor_of(leaves[1])).node
    seeds = {leaves[0]: (Cut("model"), None), leaves[1]: (None, Cut("model"))}
    found = propagate(Graph.of([total]), seeds, splittable, weight_bytes)
    assert found.produced(total) == (Cut("model"), None)


def test_a_large_result_is_not_combined_where_an_operand_can_be_gathered() -> None:
    """x by columns offers the contracted factor, w by columns one of the result's."""
    x = make_input(tensor_type((4096, 8), np.float32), "variable", "x")
    w = make_input(tensor_type((8, 512), np.float32), "variable", "w")
    product = (tensor_of(x) @ tensor_of(w)).node
    seeds = {x: (None, Cut("model")), w: (None, Cut("model"))}
    found = propagate(Graph.of([product]), seeds, splittable, weight_bytes)
    assert found.produced(product) == (None, Cut("model"))
    assert not found.contracts(product)


# Wishes that contradict.


def test_wishes_about_rows_that_contradict() -> None:
    x = fg.asarray(X)
    with pytest.raises(UsageError, match=r"rows=3(.|\n)*test_planner.py(.|\n)*rows=2"):
        fg.sum(fg.shard(fg.shard(x, rows=2), rows=3)).numpy()
    with pytest.raises(UsageError, match="rows=3"):
        fg.sum(fg.shard(x, rows=2) + fg.shard(fg.asarray(Y), rows=3)).numpy()
    assert float(fg.sum(fg.shard(fg.shard(x, rows=2), rows=2))) == pytest.approx(float(X.sum()), abs=1)


def test_rows_and_axis_0_of_one_tensor() -> None:
    with pytest.raises(UsageError, match="axis 0 is that of the rows"):
        fg.shard(fg.asarray(X), rows=2, axes={0: 2})
    for wishes in ([{"rows": 2}, {"axes": {0: 2}}], [{"axes": {0: 2}}, {"rows": 2}]):
        x = fg.asarray(X)
        for wish in wishes:
            x = fg.shard(x, **wish)
        with pytest.raises(UsageError, match=r"axis 0(.|\n)*test_planner.py(.|\n)*test_planner.py"):
            fg.sum(x).numpy()


def test_a_cut_inside_a_whole_axis_is_gathered() -> None:
    x = RNG.standard_normal((6, 8)).astype(np.float32)
    found = fg.softmax(fg.shard(fg.asarray(x), axes={1: 3}), axis=1).numpy()
    np.testing.assert_allclose(found, fg.softmax(fg.asarray(x), axis=1).numpy(), rtol=1e-6)


def test_seeds_of_wishes() -> None:
    leaf = make_input(tensor_type((4, 6), np.float32), "variable", "w")
    assert seeds_of({leaf: 1}, {}) == {leaf: (None, Cut(MODEL))}
