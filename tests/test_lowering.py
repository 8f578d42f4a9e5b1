"""How many tasks a program becomes, what they carry, and how partial results are joined."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from dask.base import tokenize
from dask.local import get_sync

import flowgraph as fg
from flowgraph import eager, lower, program
from flowgraph.lower import along, lowering
from flowgraph.lower.tree import fan_in, seconds

ROWS = 40_000
X = np.random.default_rng(0).standard_normal((ROWS, 5)).astype("f4")
Y = X[:, :1] - X[:, 1:2]


def fitted(width: int, shards: int, steps: int, rows: int = ROWS, **where: Any) -> Any:
    """The losses and variables of a fit in one window."""
    rng = np.random.default_rng(1)
    variables = [
        fg.Variable(rng.standard_normal((5, width)).astype("f4") / 4),
        fg.Variable(rng.standard_normal((width, 1)).astype("f4") / width),
    ]
    history = fg.fit(
        lambda x, y: fg.mean(fg.square(fg.tanh(fg.shard(x, rows=shards) @ variables[0]) @ variables[1] - y)),
        (X[:rows], Y[:rows]),
        variables=variables,
        optimizer=fg.keras.optimizers.Adam(0.01),
        steps=steps,
        window=steps,
        **where,
    )
    return [history.losses.tobytes(), *(one.numpy().tobytes() for one in variables)]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[dict[Any, Any]]:
    """The graphs of windows, as they are lowered."""
    found: list[dict[Any, Any]] = []
    plain = program.lower_window

    def noted(*given: Any) -> Any:
        result = plain(*given)
        found.append(result[0].graph)
        return result

    monkeypatch.setattr(program, "lower_window", noted)
    return found


def names(graph: dict[Any, Any]) -> Counter[str]:
    return Counter(name.split("-", 1)[1].rpartition("-")[0] for name, *_ in graph)


@pytest.mark.parametrize(("shards", "updates"), [(1, 1), (2, 1), (8, 1), (9, 6)])
def test_a_step_is_a_task_for_each_shard_and_where_there_are_many_one_more(
    graphs: list[Any], shards: int, updates: int
) -> None:
    fitted(8, shards, 6, scheduler="synchronous")
    counts = names(graphs[0])
    assert counts["loop-zero"] == 6 * shards
    assert counts["whole-one"] == updates
    once = counts.total() - 6 * shards - updates  # kernels, inputs that are not small, and the history
    assert once <= 5
    assert len(pickle.dumps(graphs[0])) / 6 < 20_000


def scaled(x: Any, w: Any) -> Any:
    """A loss of which some is computed of the state before its loop."""
    return fg.mean(fg.square(x @ (w / (1 + fg.sum(fg.square(w)))) - 1))


def centred(x: Any, w: Any) -> Any:
    """One of two loops: the second waits for a mean."""
    return fg.mean(fg.square(x @ w - fg.tanh(x - fg.mean(x, axis=0))[:, :1]))


def inverted(x: Any, w: Any) -> Any:
    """So much of the state before the loop that it is a task of its own."""
    large = fg.eye(400) * (1 + fg.sum(fg.square(w)))
    return fg.mean(fg.square(x @ w - fg.linalg.inv(large)[0, 0]))


@pytest.mark.parametrize(
    ("loss", "saved"), [(lambda x, w: fg.mean(fg.square(x @ w - 1)), 1), (scaled, 1), (centred, 0), (inverted, 0)]
)
def test_taken_along_or_by_a_task_of_its_own_the_bits_are_the_same(
    loss: Any, saved: int, graphs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for most in (8, 0):
        monkeypatch.setattr(along, "MOST_SHARDS", most)
        for shards in (1, 3):
            w = fg.Variable(np.full((5, 1), 0.5, "f4"))
            history = fg.fit(
                lambda x, w=w, shards=shards: loss(fg.shard(x, rows=shards), w),
                X,
                variables=[w],
                optimizer=fg.keras.optimizers.Adam(0.01),
                steps=5,
                window=5,
            )
            found.append((history.losses.tobytes(), w.numpy().tobytes()))
    assert len(set(found)) == 1
    wholes = [sum(count for name, count in names(one).items() if re.fullmatch("whole-[a-z]+", name)) for one in graphs]
    assert [after - before for before, after in zip(wholes[:2], wholes[2:], strict=True)] == [4 * saved] * 2


def test_of_a_large_state_only_what_is_asked_for_travels(graphs: list[Any]) -> None:
    expected = fitted(20_000, 2, 3, rows=1000, scheduler="synchronous")
    counts = names(graphs[0])
    # The loss of each step, and but for the last the parameters and slots that the next step takes, one by one.
    assert counts["whole-one-value"] == 3 + 2 * 4
    assert counts["history"] == 1
    assert fitted(20_000, 2, 1, rows=1000, scheduler="synchronous")[0] == expected[0][:8]


def test_picked_by_a_task_or_inside_one_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for beside, inside in ((1 << 60, 1 << 60), (-1, -1), (1 << 18, 1 << 10)):
        monkeypatch.setattr(lowering, "BESIDE_BYTES", beside)
        monkeypatch.setattr(lowering, "INSIDE_BYTES", inside)
        found.append(fitted(8, 3, 4, scheduler="synchronous"))
        x = fg.shard(fg.asarray(X), rows=3)  # rows that leave a loop, beside partial results of it
        centred = x - fg.mean(x, axis=0)
        found[-1] += [np.asarray(one).tobytes() for one in (centred, fg.mean(fg.square(centred)))]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("most", [2, 3, 16, 1000])
def test_no_bit_depends_on_the_fan_in(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    expected = fitted(8, 1, 2, scheduler="synchronous")
    monkeypatch.setattr(lowering, "fan_in", lambda count, size: most)
    assert fitted(8, 5, 2, scheduler="synchronous") == expected


def test_large_results_are_joined_by_few() -> None:
    for count in (3, 100, 10_000):
        chosen = [fan_in(count, 10**power) for power in range(2, 10)]
        assert chosen == sorted(chosen, reverse=True)
        assert all(seconds(count, 10**6, fan_in(count, 10**6)) <= seconds(count, 10**6, most) for most in (2, 8, 64))
    assert fan_in(0, 0) == fan_in(1, 0) == 2


def test_ten_thousand_shards() -> None:
    rows = 10_000 << 14
    x = np.broadcast_to(np.zeros((1, 5), "f4"), (rows, 5))
    value = fg.sum(fg.square(fg.shard(fg.asarray(x), rows=10_000)))
    cone = eager.cone([value.node])
    entry = eager.compiled(eager.detached(cone))
    bound = entry.program.bind([x], entry.program.row_counts([x], entry.rows), 2)
    lowered = lower.Lowering(bound, "0123456789ab")
    lowered.lower()
    assert sum(name.startswith("flowgraph-loop-zero-0") for name, *_ in lowered.graph) == 10_000
    assert len(lowered.graph) < 10_000 * 1.1


def test_an_output_that_is_a_small_input_has_a_task() -> None:
    x, w = fg.asarray(X), fg.asarray(np.float32(3))
    cone = eager.cone([fg.sum(fg.shard(x, rows=2) * w).node, w.node])
    entry = eager.compiled(eager.detached(cone))
    values = [node.memo for node in cone.leaves]
    lowered = lower.Lowering(entry.program.bind(values, entry.program.row_counts(values, entry.rows), 2), "0" * 12)
    found = lowered.lower()[1]
    (value,) = get_sync(lowered.graph, list(found.keys))
    assert (value if found.item is None else value[found.item]) == 3


def test_a_graph_is_named_without_a_look_at_its_tasks() -> None:
    """Dask took a millisecond a task."""

    class Untouchable:
        def __dask_tokenize__(self) -> Any:
            raise AssertionError("it was looked at")

    first, second = (lower.NamedGraph({"x": Untouchable()}, name) for name in ("a", "b"))
    assert tokenize(first) == tokenize(lower.NamedGraph({}, "a")) != tokenize(second)
    again = pickle.loads(pickle.dumps(lower.NamedGraph({"x": 1}, "a")))
    assert (again, again.name) == ({"x": 1}, "a")
