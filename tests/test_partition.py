"""Partition: which axes are cut, what communication that needs, and where shards begin."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import flowgraph as fg
from flowgraph import eager
from flowgraph.graph import Graph, make_input
from flowgraph.kernel import stages
from flowgraph.partition import GATHER, Layout, Partitioned, choose_rows, cut_rows, insert, known_layouts, unknown_rows
from flowgraph.program import Program
from flowgraph.tensor import tensor_of
from flowgraph.types import Dim, tensor_type

Build = Callable[..., Any]
Shapes = dict[str, tuple[int, ...]]


def graph_of(build: Build, shapes: Shapes) -> Graph:
    """The graph of `build` on leaves of `shapes`; those named w or b are variables, all others data."""
    leaves = {
        name: make_input(tensor_type(shape, np.float32), "variable" if name in "wb" else "data", name)
        for name, shape in shapes.items()
    }
    output = build(*map(tensor_of, leaves.values())).node
    numbers = [node for node in Graph.of([output]).inputs if node not in leaves.values()]
    return Graph.of([output], [*leaves.values(), *numbers])


def layout_text(layout: Layout) -> str:
    return " ".join("." if cut is None else cut.mesh + (f"*{cut.times}" if cut.times > 1 else "") for cut in layout)


def lines(parts: Partitioned) -> list[str]:
    """One line a node: its name, its cut axes, and whether its result is partial."""
    return [
        f"{node.attr('name') or node.op.name}[{layout_text(parts.layouts[node])}]"
        + (f" partial {parts.partial[node]}" if node in parts.partial else "")
        for node in parts.graph.nodes()
        if node.type.ndim or node in parts.partial
    ]


def partitioned(build: Build, shapes: Shapes) -> Partitioned:
    graph = graph_of(build, shapes)
    return insert(graph, choose_rows(graph))


def loops(parts: Partitioned) -> list[list[tuple[str, list[str]]]]:
    """For each level the loops: (mesh axis, the ops it computes)."""
    found = stages(parts).loops
    return [[(loop.mesh, [node.op.name for node in loop.nodes]) for loop in level] for level in found]


GOLDEN: dict[str, tuple[Build, Shapes, str]] = {
    "data is cut by rows, variables are not": (
        lambda x, w, b, y: fg.reduce_sum(fg.tanh(x @ w + b) * y),
        {"x": (100, 3), "w": (3, 1), "b": (), "y": (100, 1)},
        "x[rows .], w[. .], matmul[rows .], add[rows .], tanh[rows .], y[rows .], multiply[rows .], sum[] partial rows",
    ),
    "a contracted cut is combined": (
        lambda x: x.T @ x,
        {"x": (100, 3)},
        "x[rows .], transpose[. rows], matmul[. .] partial rows, combine[. .]",
    ),
    "rows that meet themselves are replicated on one side": (
        lambda x: x @ x.T,
        {"x": (100, 3)},
        "x[rows .], transpose[. rows], gather[. .], matmul[rows .]",
    ),
    "an op over whole rows needs a gather": (
        lambda x: fg.softmax(x, axis=0) * x,
        {"x": (100, 3)},
        "x[rows .], gather[. .], softmax[. .], spread[rows .], multiply[rows .]",
    ),
    "an op inside each row needs none": (
        lambda x: fg.softmax(x, axis=1),
        {"x": (100, 3)},
        "x[rows .], softmax[rows .]",
    ),
    "rows may be columns": (
        lambda w, x, y: w @ x - y,
        {"w": (2, 3), "x": (3, 100), "y": (100,)},
        "w[. .], x[. rows], matmul[. rows], y[rows], subtract[. rows]",
    ),
    "a reshape keeps whole rows together": (
        lambda x: fg.reshape(fg.reshape(x, (-1,)) * fg.reshape(x, (-1,)), (-1, 4)),
        {"x": (100, 4)},
        "x[rows .], reshape[rows*4], reshape[rows*4], multiply[rows*4], reshape[rows .]",
    ),
    "a reshape that splits the rows is whole": (
        lambda x: fg.reshape(x, (50, 2, 4)).sum(axis=1),
        {"x": (100, 4)},
        "x[rows .], gather[. .], reshape[. . .], sum[. .]",
    ),
    "a slice of the rows is whole": (lambda x: x[10:], {"x": (100, 4)}, "x[rows .], gather[. .], getitem[. .]"),
    "a slice of the columns is not": (lambda x: x[:, 1:], {"x": (100, 4)}, "x[rows .], getitem[rows .]"),
    "columns are joined row by row": (
        lambda x: fg.concat([x, x], axis=1),
        {"x": (100, 4)},
        "x[rows .], concat[rows .]",
    ),
    "one gather serves all": (
        lambda x: fg.softmax(x, axis=0) + fg.concat([x[:50], x[50:]], axis=0),
        {"x": (100, 4)},
        "x[rows .], gather[. .], softmax[. .], getitem[. .], getitem[. .], concat[. .], add[. .]",
    ),
    "random numbers are cut like data": (
        lambda w: fg.random.normal((100, 4), seed=0) + w,
        {"w": (4,)},
        "input[.], random_normal[rows .], multiply[rows .], add[rows .], w[.], add[rows .]",
    ),
    "a variable is cut where there is nothing else": (fg.tanh, {"w": (100, 4)}, "w[rows .], tanh[rows .]"),
    "a table that is only looked up is not the data": (
        lambda t, i, w: fg.tanh(fg.gather(t, fg.cast(i, "int64")) @ w),
        {"t": (1000, 4), "i": (100,), "w": (4, 2)},
        "t[. .], i[rows], astype[rows], gather_at[rows .], w[. .], matmul[rows .], tanh[rows .]",
    ),
    "a table that little is done along is not the data": (
        lambda t, i, w: fg.tanh(fg.gather(t * t, fg.cast(i, "int64")) @ w),
        {"t": (1000, 4), "i": (900,), "w": (4, 50)},
        "t[. .], multiply[. .], i[rows], astype[rows], gather_at[rows .], w[. .], matmul[rows .], tanh[rows .]",
    ),
    "a table that much is done along is": (
        lambda t, i: fg.gather(t * t, fg.cast(i, "int64")),
        {"t": (1000, 4), "i": (20,)},
        "t[rows .], multiply[rows .], gather[. .], i[.], astype[.], gather_at[. .]",
    ),
    "one row is not cut": (lambda x: x * 2, {"x": (1, 4)}, "x[. .], multiply[. .]"),
    "a row stretches, rows do not": (
        lambda x, w: x + w,
        {"x": (1, 4), "w": (100, 4)},
        "x[. .], w[rows .], add[rows .]",
    ),
}


@pytest.mark.parametrize(("build", "shapes", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_which_axes_are_cut(build: Build, shapes: Shapes, expected: str) -> None:
    found = [line for line in lines(partitioned(build, shapes)) if not line.startswith("combine[]")]
    assert ", ".join(found) == expected


def test_the_gradient_of_a_cut_product_is_an_all_reduce() -> None:
    def gradient(x: Any, w: Any) -> Any:
        return fg.gradient(fg.reduce_sum(fg.tanh(x @ w)), w)

    parts = partitioned(gradient, {"x": (100, 3), "w": (3, 2)})
    assert lines(parts)[-2:] == ["matmul[. .] partial rows", "combine[. .]"]
    assert len(loops(parts)[0]) == 1  # forward and backward in one walk over the rows


def other_length(x: Any, w: Any, y: Any) -> Any:
    return fg.reduce_sum(x @ w) + fg.reduce_sum(y @ w)


def test_data_of_another_length_gets_a_loop_of_its_own() -> None:
    parts = partitioned(other_length, {"x": (200_000, 3), "w": (3, 1), "y": (100_000, 3)})
    assert loops(parts)[0] == [("rows", ["matmul", "sum"]), ("rows1", ["matmul", "sum"])]


def test_little_data_of_another_length_is_replicated() -> None:
    parts = partitioned(other_length, {"x": (200_000, 3), "w": (3, 1), "y": (1000, 3)})
    assert loops(parts)[0] == [("rows", ["matmul", "sum"])]


def test_the_values_over_two_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgraph import schedule

    monkeypatch.setattr(schedule, "TILE_ROWS", (64, 128))
    monkeypatch.setattr(schedule, "TILE_BYTES", 4096)
    eager.COMPILED.clear()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((90_001, 3)), rng.standard_normal((50_003, 3))
    w = np.ones((3, 1))
    found = [
        float(other_length(fg.shard(fg.asarray(x), rows=n), w, fg.shard(fg.asarray(y), rows=m)))
        for n, m in ((1, 1), (3, 2))
    ]
    eager.COMPILED.clear()
    assert found[0] == found[1]
    np.testing.assert_allclose(found[0], x.sum() + y.sum(), rtol=1e-9)


def test_batch_statistics_open_a_second_loop() -> None:
    def standardised(x: Any, y: Any) -> Any:
        return fg.reduce_sum(fg.square((x - fg.reduce_mean(x, axis=0)) / fg.std(x, axis=0) - y))

    parts = partitioned(standardised, {"x": (100, 3), "y": (100, 1)})
    first, second, last = loops(parts)
    assert first == [("rows", ["sum", "var"])]
    assert second == [("rows", ["subtract", "divide", "subtract", "square", "sum"])]
    assert last == []


def test_a_second_loop_stores_rows_that_are_dear_and_computes_again_those_that_are_cheap() -> None:
    def centred(hidden: Any) -> Any:
        return fg.reduce_sum(fg.square(hidden - fg.reduce_mean(hidden, axis=0)))

    cheap = stages(partitioned(lambda x: centred(x + x), {"x": (1000, 3)})).loops
    assert [len(loop.writes) for level in cheap for loop in level] == [0, 0]
    dear = stages(partitioned(lambda x, w: centred(fg.tanh(x @ w)), {"x": (1000, 512), "w": (512, 4)})).loops
    assert [[node.op.name for node in loop.writes] for level in dear for loop in level] == [["matmul"], []]
    assert [node.op.name for node in dear[1][0].loads] == ["matmul"]  # from which tanh is cheap


# Lengths that are left open.


def test_rows_are_not_in_the_structure() -> None:
    keys = set()
    for rows in (2, 5, 1000):
        graph = graph_of(
            lambda x, w: fg.reduce_mean(fg.reshape(x, (-1,)) * 2) + (x @ w).sum(), {"x": (rows, 4), "w": (4, 1)}
        )
        unknown, leaves = unknown_rows(graph, choose_rows(graph))
        assert isinstance(leaves[graph.inputs[0]].type.shape[0], Dim)
        keys.add(eager.structure(unknown))
    assert len(keys) == 1


def test_cuts_are_found_again_from_the_open_lengths() -> None:
    for build, shapes, _ in GOLDEN.values():
        graph = graph_of(build, shapes)
        layouts = choose_rows(graph)
        unknown, _ = unknown_rows(graph, layouts)
        if unknown is not graph:
            again = known_layouts(unknown)
            pairs = zip(graph.nodes(), unknown.nodes(), strict=True)
            assert all(layouts.produced(old) == again.produced(new) for old, new in pairs)


def test_a_graph_that_needs_the_number_keeps_it() -> None:
    graph = graph_of(lambda x: x[::-2], {"x": (10, 4)})
    assert unknown_rows(graph, choose_rows(graph))[0] is graph
    assert fg.asarray(np.arange(6.0)).sum() == 15
    np.testing.assert_array_equal((fg.asarray(np.arange(6.0)) * 2)[::-1].numpy(), np.arange(6.0)[::-1] * 2)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_one_row_beside_a_variable_of_many(rows: int) -> None:
    variable, row = fg.Variable(np.arange(12.0).reshape(4, 3)), np.arange(3.0)
    data = fg.constant(np.tile(row, (1 if rows == 1 else 4, 1)))
    np.testing.assert_array_equal((variable + data).numpy(), np.arange(12.0).reshape(4, 3) + row)
    wide = fg.constant(np.ones((1, 300_000), np.float32)) + fg.constant(np.ones((rows, 300_000), np.float32))
    assert wide.numpy().shape == (rows, 300_000)


def test_programs_say_which_inputs_are_cut() -> None:
    program = fg.function(lambda x, w: x @ w).program(np.zeros((10, 3)), np.zeros((3, 2)))
    assert isinstance(program, Program)
    assert [cut is not None for cut in program.input_cuts] == [True, False]
    assert program.meshes == ("rows",)


# Shards.


@given(st.integers(0, 5000), st.integers(1, 300), st.integers(1, 40))
def test_even_shards_cover_the_rows_on_the_grid(rows: int, unit: int, count: int) -> None:
    shards = cut_rows(rows, unit, count)
    assert len(shards) == count
    check_shards(shards, rows, unit)
    longest = max(stop - start for start, stop in shards)
    assert longest <= 1.1 * rows / count + 2 * unit


@given(st.integers(1, 5000), st.integers(1, 300), st.lists(st.integers(0, 500), min_size=1, max_size=12).filter(any))
def test_wished_shards_cover_the_rows_on_the_grid(rows: int, unit: int, wish: list[int]) -> None:
    shards = cut_rows(rows, unit, tuple(wish))
    assert len(shards) == len(wish)
    check_shards(shards, rows, unit)
    ends = np.cumsum(wish) / sum(wish) * rows
    assert all(abs(stop - end) <= unit / 2 + 1e-6 for (_, stop), end in zip(shards, ends, strict=True))


def check_shards(shards: tuple[tuple[int, int], ...], rows: int, unit: int) -> None:
    assert shards[0][0] == 0
    assert shards[-1][1] == rows
    for (_, before), (start, stop) in itertools.pairwise(shards):
        assert before == start <= stop
    assert all(start % unit == 0 or start == rows for start, _ in shards)


def test_a_wish_is_kept_where_the_grid_allows_it() -> None:
    assert cut_rows(96, 8, (32, 0, 64)) == ((0, 32), (32, 32), (32, 96))
    assert cut_rows(10, 100, (5, 5)) == ((0, 0), (0, 10))


def test_even_shards_begin_at_round_numbers() -> None:
    starts = [start for start, _ in cut_rows(1_000_000, 1024, 4)]
    assert starts == [0, 256 * 1024, 480 * 1024, 736 * 1024]


def test_nobody_wishes_for_nothing() -> None:
    assert cut_rows(0, 8, 1) == ((0, 0),)
    assert cut_rows(0, 8, (0, 0)) == ((0, 0), (0, 0))


def test_a_node_on_the_whole_takes_the_lengths_of_a_cut_operand() -> None:
    """The classes of the logits are the rows of the data, and an operand that gives its lengths alone is not moved."""
    x = np.random.default_rng(0).normal(size=(40_000, 3))
    labels = np.array([1, 5, 39_999])
    found = fg.nn.sparse_softmax_cross_entropy_with_logits(labels, fg.constant(x).T).numpy()
    np.testing.assert_allclose(found, np.log(np.exp(x).sum(axis=0)) - x[labels, range(3)], rtol=1e-12)


def test_the_whole_of_a_cut_leaf_is_not_gathered() -> None:
    parts = partitioned(lambda x: fg.tanh(x) @ x[:4].T, {"x": (100, 3)})
    assert any(node.op is GATHER for node in parts.graph.nodes())
    found = stages(parts)
    assert len(found.loops) == 1
    assert [node.op.name for node in found.whole[0][0].nodes] == ["getitem", "transpose"]
    assert [node.op.name for node in found.loops[0][0].nodes] == ["tanh", "matmul"]


def test_what_runs_along_its_cut_axis_takes_what_comes_before() -> None:
    parts = partitioned(lambda x: fg.cumsum(fg.tanh(x)), {"x": (1000, 3)})
    assert lines(parts) == [
        "x[rows .]", "tanh[rows .]", "cumulative_sum_carry[. .] partial rows",
        "combine[. .]", "before[rows .]", "cumulative_sum[rows .]",
    ]  # fmt: skip
    assert loops(parts) == [
        [("rows", ["tanh", "cumulative_sum_carry"])],
        [("rows", ["tanh", "before", "cumulative_sum"])],
    ]
