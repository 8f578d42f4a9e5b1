"""The schedule: tiles, merge leaves and numpy calls follow from the program alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import flowgraph as fg
from flowgraph.program import Program
from flowgraph.schedule import HEAVY_ROWS, LEAF_BUDGET_BYTES, TILE_BYTES, TILE_ROWS, Schedule


def program_of(function: Callable[..., Any], *shapes: tuple[int, ...], dtype: Any = np.float32) -> Program:
    program = fg.function(function).program(*(np.zeros(shape, dtype) for shape in shapes))
    assert isinstance(program, Program)
    return program


def tile_of(function: Callable[..., Any], *shapes: tuple[int, ...], dtype: Any = np.float32) -> int:
    return program_of(function, *shapes, dtype=dtype).plan.tile["rows"]


def network(x: Any, w: Any) -> Any:
    return fg.reduce_mean(fg.square(fg.tanh(x @ w)))


@pytest.mark.parametrize("width", [1, 3, 32, 100, 1000, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_are_powers_of_two_within_limits(width: int, dtype: Any) -> None:
    tile = tile_of(network, (100, width), (width, width), dtype=dtype)
    assert tile & (tile - 1) == 0
    assert TILE_ROWS[0] <= tile <= TILE_ROWS[1]


def test_wide_rows_have_short_tiles() -> None:
    tiles = [tile_of(lambda x, y: fg.exp(x + y) * y, (100, width), (100, width)) for width in (1, 64, 256, 1024, 8192)]
    assert tiles == sorted(tiles, reverse=True)
    assert tiles[0] == TILE_ROWS[1]
    assert tiles[-1] == TILE_ROWS[0]


def test_a_tile_takes_about_the_budget() -> None:
    width = 256
    tile = tile_of(lambda x: fg.exp(fg.tanh(x) + x), (100, width))
    assert TILE_BYTES / 3 <= tile * width * 4 * 2 <= TILE_BYTES * 2


def test_a_large_whole_operand_or_partial_result_asks_for_longer_tiles() -> None:
    assert tile_of(network, (100, 2000), (2000, 600)) >= HEAVY_ROWS
    assert tile_of(lambda x: x.T @ x, (100, 2000)) >= HEAVY_ROWS
    assert tile_of(lambda x: fg.exp(x + x), (100, 2000)) < HEAVY_ROWS


@pytest.mark.parametrize("rows", [2, 63, 1000, 40_000, 10_000_000])
def test_tiles_do_not_depend_on_the_number_of_rows(rows: int) -> None:
    def function(x: Any, w: Any) -> Any:
        return network(x, w) + fg.reduce_sum(fg.random.normal((rows, 7), seed=1))

    x = np.broadcast_to(np.zeros(7, np.float32), (rows, 7))  # no memory for many rows
    plan = fg.function(function).program(x, np.zeros((7, 7), np.float32)).plan
    assert plan.tile["rows"] == tile_of(network, (2, 7), (7, 7))


def test_the_plan_knows_neither_shards_nor_workers() -> None:
    plans = []
    for count in (1, 3, (100, 0, 28)):
        program = program_of(lambda x, w, count=count: network(fg.shard(x, rows=count), w), (128, 7), (7, 7))
        bound = [program.bind([np.zeros((128, 7), "f4"), np.zeros((7, 7), "f4")], {"rows": 128}, n) for n in (1, 64)]
        assert bound[0].leaf_tiles == bound[1].leaf_tiles
        plans.append((program.plan.tile, program.plan.partial_bytes))
    assert plans[0] == plans[1] == plans[2]


@given(st.integers(1, 1 << 40), st.integers(1, 1 << 40), st.sampled_from([64, 1024, 16_384]))
def test_leaves_are_powers_of_two_and_their_results_fit_the_budget(rows: int, nbytes: int, tile: int) -> None:
    leaf = Schedule({"rows": tile}, {"rows": nbytes}, {}).leaf_tiles("rows", rows)
    assert leaf & (leaf - 1) == 0
    leaves = math.ceil(math.ceil(rows / tile) / leaf)
    most = max(LEAF_BUDGET_BYTES // nbytes, 64)
    assert leaves <= most
    assert leaf == 1 or leaves > most // 2 - 1  # and no longer than that takes


def test_little_data_has_a_leaf_for_each_tile() -> None:
    plan = program_of(network, (100, 7), (7, 7)).plan
    assert plan.leaf_tiles("rows", 1_000_000) == 1


CALLS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], str]] = {
    "a ufunc writes into a buffer": (lambda x, y: x + y, ((4, 3), (4, 3)), "{f}({0}, {1}, {out})"),
    "maximum wants out by name": (fg.maximum, ((4, 3), (4, 3)), "{f}({0}, {1}, out={out})"),
    "a product is a matmul": (lambda x, y: x @ y, ((4, 3), (3, 2)), "matmul({0}, {1}, {out})"),
    "an outer product is a plain product": (lambda x, y: x @ y, ((4, 1), (1, 2)), "multiply({0}, {1}, {out})"),
    "a sum over rows is a product with ones": (
        lambda x: x.sum(axis=0),
        ((4, 3),),
        "dot({ones}, {0}.reshape",
    ),
    "a maximum is a reduction": (lambda x: x.max(axis=0), ((4, 3),), "reduce({0}, (0,), None, {out}, False)"),
}


@pytest.mark.parametrize(("function", "shapes", "expected"), CALLS.values(), ids=CALLS.keys())
def test_the_numpy_call_of_a_node_is_chosen_once(function: Any, shapes: Any, expected: str) -> None:
    program = program_of(function, *shapes)
    calls = [call for call in program.plan.calls.values() if call is not None]
    assert len(calls) == 1
    assert calls[0].text.startswith(expected)


def test_sums_of_integers_are_not_sent_through_blas() -> None:
    program = program_of(lambda x: x.sum(axis=0), (4, 3), dtype=np.int32)
    assert [call.text for call in program.plan.calls.values() if call] == ["reduce({0}, (0,), None, {out}, False)"]
