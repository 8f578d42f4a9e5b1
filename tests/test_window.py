"""Windows over shards: several steps as one graph, each on the state of the one before, which may lie in pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph import run, schedule
from flowgraph.graph import Graph, make_input
from flowgraph.lower import lower_window
from flowgraph.partition import MESHES
from flowgraph.program import Program
from flowgraph.tensor import tensor_of
from flowgraph.types import tensor_type

Array = np.ndarray[Any, Any]
ROWS = 150


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch, fresh_programs: None) -> None:
    """Tiles of 16 rows, so that little data has many."""
    monkeypatch.setattr(schedule, "TILE_ROWS", (16, 16))


def in_pieces(x: Any, a: Any, b: Any, c: Any) -> list[Any]:
    """States that are computed in the pieces in which they are read."""
    return [fg.reduce_sum(x * a + b[:, None]) + c, a * x + c, b - fg.reduce_sum(x, axis=1), c / 2]


def exchanged(x: Any, a: Any, b: Any, c: Any) -> list[Any]:
    """States that change places, or stay as they are."""
    return [fg.reduce_sum(x * a) + c, x + a, fg.reduce_sum(a, axis=1), c + 0 * fg.reduce_sum(b)]


def swapped(x: Any, a: Any, b: Any, c: Any) -> list[Any]:
    """A state whose next value is an input, and one that is not read at all."""
    return [fg.reduce_sum(a) + c, x, fg.reduce_sum(a, axis=1) * 2, c]


def whole(x: Any, a: Any, b: Any, c: Any) -> list[Any]:
    """States that are computed on the whole and read in pieces, and the other way round."""
    order = fg.sort(a, axis=0)
    return [fg.reduce_sum(x * a) + c, order / 2, fg.reduce_sum(a * order, axis=1) + b, c + fg.reduce_max(order)]


def transposed(x: Any, a: Any, b: Any, c: Any) -> list[Any]:
    """Pieces of another axis than that of the state."""
    turned = fg.transpose(fg.reshape(fg.transpose(a) * 2, (3, ROWS)))
    return [fg.reduce_sum(x * a) + c, turned + x, fg.reshape(fg.transpose(b[:, None] + x)[0], (-1,)), c * 0.5]


STEPS: Sequence[Callable[..., list[Any]]] = (in_pieces, exchanged, swapped, whole, transposed)


def values() -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(ROWS, 3)), rng.normal(size=(ROWS, 3)), rng.normal(size=ROWS), np.array(0.5)]


def program_of(step: Callable[..., list[Any]]) -> Program:
    rows = MESHES[0]
    shapes: list[Any] = [(rows, 3), (rows, 3), (rows,), ()]
    if step in (whole, transposed):  # shapes that these need are known
        shapes = [(ROWS, 3), (ROWS, 3), (ROWS,), ()]
    leaves = [make_input(tensor_type(one, np.float64), "data") for one in shapes]
    return Program(Graph(tuple(leaves), tuple(one.node for one in step(*map(tensor_of, leaves)))))


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("step", STEPS)
def test_a_window_has_the_bits_of_its_steps(step: Any, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowgraph.program.SHARD_TILES", 1)
    program, given = program_of(step), values()
    updates = dict(zip(program.parts.graph.inputs[1:], program.outputs[1:], strict=True))
    executor = run.resolve(scheduler="sync")._replace(workers=workers)
    counts = program.row_counts(given, None)
    history, state = program.run_steps(given, counts, executor, updates, 4)
    alone, own = [], given
    for _ in range(4):
        traced, *new = program.run(own, scheduler="sync")
        alone.append(traced)
        own = [given[0], *new]
    assert [one.tobytes() for one in history] == [one.tobytes() for one in alone]
    assert [one.tobytes() for one in state] == [one.tobytes() for one in own[1:]]


def test_a_state_in_pieces_stays_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowgraph.program.SHARD_TILES", 1)
    program, given = program_of(in_pieces), values()
    updates = dict(zip(program.parts.graph.inputs[1:], program.outputs[1:], strict=True))
    bound = program.bind(given, program.row_counts(given, None), 2)
    lowering, *_ = lower_window(bound, "0123456789ab", 3, updates, program.outputs[0])
    assert len(bound.shards["rows"]) > 1
    assert not [key for key in lowering.graph if key[0].startswith("flowgraph-state")]


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_fit_of_a_variable_with_a_value_for_each_row(scheduler: str) -> None:
    y = np.random.default_rng(0).normal(size=2000).astype(np.float32)

    def trained(window: int) -> tuple[bytes, bytes]:
        own = fg.Variable(np.zeros(2000, np.float32))
        optimizer = fg.keras.optimizers.Adam(0.1)
        history = fg.fit(
            lambda y: fg.reduce_mean((own - y) ** 2),
            y, variables=[own], optimizer=optimizer, steps=7, window=window, scheduler=scheduler,
        )  # fmt: skip
        return own.numpy().tobytes(), history.losses.tobytes()

    assert trained(1) == trained(3) == trained(7)
