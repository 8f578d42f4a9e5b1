"""What a run will cost: tasks and bytes exactly, memory nearly, time roughly; and what it did."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from models import (
    MODELS,
    ROWS,
    X,
    Y,
    layered,
    linear,
    mse,
    named,
    pipeline,
    tensor_parallel,
    weights,
)

import flowgraph as fg
from flowgraph.errors import UsageError
from flowgraph.explain import Explanation, explain
from flowgraph.explain.explanation import homes_of
from flowgraph.explain.picture import Arrow, Box, dot_text
from flowgraph.lower import Lowering, call_of, lowering, new_token, task_name
from flowgraph.run import Executor, resolve
from flowgraph.train.step import Step
from flowgraph.watch import needs_of, size_of


def tall(x: Any, y: Any) -> Any:
    return fg.top_k(fg.matrix_transpose(x), 3000), fg.cumulative_sum(x, axis=0), fg.argmax(x, axis=0)


def spread(x: Any, y: Any) -> Any:
    h = (x - fg.mean(x, axis=0)) / fg.std(x, axis=0)
    return fg.logsumexp(h, axis=0), h + 1, fg.sort(x, axis=0), fg.expand_dims(y, 0) @ h


class Recorder:
    """A `get` that runs tasks in this thread and notes the size of every result."""

    def __init__(self) -> None:
        self.sizes: dict[Any, int] = {}
        self.edges: dict[Any, int] = {}

    def get(self, graph: Any, keys: Any) -> Any:
        from dask.callbacks import Callback
        from dask.local import get_sync

        found = {key: size_of(call_of(task, {})[1]) for key, task in graph.items()}
        with Callback(posttask=lambda key, value, *rest: found.__setitem__(key, size_of(value))):
            results = get_sync(dict(graph), list(keys))
        self.sizes = {named(key): size for key, size in found.items()}
        self.edges = {
            (named(one), named(key)): found[one] for key, task in graph.items() for one in set(needs_of(task))
        }
        return results


@pytest.mark.parametrize("rows", [None, 1, 7, (0, 20_000, 40_000, 0), 40])
@pytest.mark.parametrize("make", [*MODELS, lambda: tall, lambda: spread])
def test_tasks_and_bytes_are_exact(make: Callable[[], Any], rows: Any) -> None:
    own, recorder = make(), Recorder()
    f = fg.function(lambda x, y: own(x if rows is None else fg.shard(x, rows=rows), y), scheduler=recorder.get)
    with fg.Mesh(model=3):
        f(X, Y)
        found = f.explain(X, Y)
    assert found.tasks == len(recorder.sizes)
    assert {(named(one), named(key)): size for (one, key), size in found.edges.items()} == recorder.edges
    assert found.bytes == sum(recorder.edges.values())


@pytest.mark.parametrize(("bytes_beside", "most"), [(-1, 2), (1 << 60, 3)])
@pytest.mark.parametrize("make", [*MODELS, lambda: tall, lambda: spread])
def test_also_where_tasks_pick_and_join(
    make: Callable[[], Any], bytes_beside: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lowering, "BESIDE_BYTES", bytes_beside)
    monkeypatch.setattr(lowering, "INSIDE_BYTES", bytes_beside)
    monkeypatch.setattr(lowering, "fan_in", lambda count, size: most)
    test_tasks_and_bytes_are_exact(make, 7)


@pytest.mark.parametrize("chunk", [10_000, 25_000])
def test_of_the_tasks_of_a_dask_array_its_chunks_are_known(chunk: int) -> None:
    own, recorder = linear(), Recorder()
    f = fg.function(own, scheduler=recorder.get)
    x = da.from_array(X, chunks=(chunk, 32)) + 1
    f(x, Y)
    found = f.explain(x, Y)
    assert found.tasks == len(recorder.sizes)
    ours = {pair: size for pair, size in found.edges.items() if pair[1][0].startswith("flowgraph")}
    expected = {pair: size for pair, size in recorder.edges.items() if pair[1][0].startswith("flowgraph")}
    assert {(named(one), named(key)): size for (one, key), size in ours.items()} == expected


@pytest.mark.parametrize("pieces", [1, 2, 4])
@pytest.mark.parametrize("bytes_beside", [-1, 1 << 60])
def test_a_step_on_state_that_is_cut(pieces: int, bytes_beside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "BESIDE_BYTES", bytes_beside)
    monkeypatch.setattr(lowering, "fan_in", lambda count, size: 3)
    w, v = weights((32, 35), (35, 1))
    step = Step(
        lambda x, y: mse(y, fg.tanh(fg.shard(x, rows=5) @ w) @ v) + fg.sum(fg.square(w)),
        [fg.asarray(X).type, fg.asarray(Y).type],
        [w, v],
        fg.keras.optimizers.Adam(0.01, shard=pieces),
    )
    state, outside = step.inputs()
    values = [X, Y, *state, *outside]
    counts = step.program.row_counts(values, {})
    lowered = Lowering(step.program.bind(values, counts, 2), new_token())
    keys = [key for one in lowered.lower() for key in one.keys]
    recorder = Recorder()
    recorder.get(lowered.graph, keys)
    found = explain(step.program, counts, 2)
    assert found.tasks == len(recorder.sizes)
    assert {(named(one), named(key)): size for (one, key), size in found.edges.items()} == recorder.edges


def test_the_update_of_a_fit_is_part_of_it() -> None:
    w = fg.Variable(np.zeros((32, 1), np.float32))
    adam = fg.keras.optimizers.Adam(0.01)
    found = fg.explain_fit(lambda x, y: mse(y, x @ w), (X, Y), variables=[w], optimizer=adam)
    assert found.stages[-1].name == "whole_1"
    small = fg.explain_fit(lambda x, y: mse(y, x @ w), (X, Y), variables=[w], optimizer=adam, batch_size=8)
    assert small.stages[-1].name == "program"
    assert "called right here" in str(small)
    cut = fg.explain_fit(
        lambda x, y: mse(y, x @ w),
        (fg.shard(fg.asarray(X), rows=3), Y),
        variables=[w],
        optimizer=fg.keras.optimizers.Adam(0.01, shard=2),
    )
    assert {"loop_0": 3, "whole_1_slots1": 1}.items() <= {one.name: one.shards for one in cut.stages}.items()


@pytest.mark.parametrize("shards", [1, 2, 8, 9])
def test_a_step_is_explained_as_it_is_in_a_window(shards: int) -> None:
    """Its tasks are exact, and no more bytes move: where shards compute the update for themselves, and elsewhere."""
    w = fg.Variable(np.zeros((32, 1), np.float32))
    given: dict[str, Any] = {"variables": [w], "optimizer": fg.keras.optimizers.Adam(0.01), "scheduler": "synchronous"}
    data = fg.shard(fg.asarray(X), rows=shards), Y

    def loss(x: Any, y: Any) -> Any:
        return mse(y, x @ w)

    with fg.tracing() as seen:
        fg.fit(loss, data, steps=4, window=4, **given)
    *_, loop, whole = fg.explain_fit(loss, data, **given).stages
    counts = Counter(one.name.removeprefix("flowgraph-") for one in seen.spans)
    assert (loop.name, whole.name) == ("loop_0", "whole_1")
    assert counts["loop-zero"] == 4 * loop.shards == 4 * shards
    assert counts["whole-one"] == (1 if shards <= 8 else 4)
    assert loop.bytes_in / 2 < loop.measured_bytes <= loop.bytes_in
    assert loop.flops > (shards if shards <= 8 else 1) * whole.flops


def test_memory_that_is_not_enough_is_said() -> None:
    f = fg.function(layered())
    assert "does NOT fit into a worker's 1 MB" in str(f.explain(X, Y, memory=1_000_000))
    assert "fits into a worker's 100 GB" in str(f.explain(X, Y, memory=10**11))


def test_no_data_is_needed() -> None:
    program = fg.function(linear()).program(X, Y)
    found = program.explain(rows=10**10, workers=1000)
    assert found.peak < 10**9
    assert found.stages[0].name == "loop_0"
    assert found.stages[0].shards == 2000
    assert found.seconds > 0
    assert found.flops > 1e12


def test_a_program_knows_the_rows_of_its_arguments() -> None:
    f = fg.function(linear())
    program = f.program(X, Y)
    assert program is f.program(X, Y)
    assert program.explain().tasks == f.explain(X, Y).tasks
    assert f.program(X[:5000], Y[:5000]).explain().tasks < program.explain(rows=10**7).tasks


def text_of(found: Explanation) -> list[str]:
    return str(found).splitlines()


def test_the_table() -> None:
    with fg.Mesh(model=2):
        found = fg.function(tensor_parallel()).explain(X, Y, workers=2)
    head, _, *rest = text_of(found)
    assert head.split()[:2] == ["stage", "tasks"]
    assert len(rest) > len(found.stages) + 2
    assert rest[len(found.stages) + 1].startswith("total")
    assert "'model': 2 lanes" in rest
    assert repr(found) == str(found)
    html = found._repr_html_()
    assert html.count("<tr>") == len(found.stages) + 2
    assert "loop_0_model0" in html


def test_pipelines_are_described() -> None:
    text = str(fg.function(pipeline()).explain(X, Y, workers=2))
    assert "a pipeline of 3 stages, 6 micro-batches, one forward, one backward" in text


@pytest.mark.parametrize(
    "change", [{"rows": -1}, {"rows": 1.5}, {"rows": True}, {"rows": 10, "workers": 0}, {"rows": 10, "workers": 1.5}]
)
def test_wrong_numbers(change: dict[str, Any]) -> None:
    program = fg.function(linear()).program(X, Y)
    with pytest.raises(UsageError):
        program.explain(**change)


def test_rows_must_be_known() -> None:
    f = fg.function(linear())
    program = f.traced((X, Y), {})[0].entry.program
    with pytest.raises(UsageError, match="is not known"):
        program.explain()
    assert explain(program, {"rows": 10}).tasks > 0


# Traces.


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
@pytest.mark.usefixtures("processes")
def test_what_ran_stands_beside_what_was_predicted(scheduler: str, tmp_path: Path) -> None:
    f = fg.function(linear(), scheduler=scheduler)
    with fg.tracing() as seen:
        f(X, Y)
    assert {one.name for one in seen.spans} >= {"flowgraph-loop-zero", "flowgraph-whole-one"}
    assert all(one.start <= one.stop for one in seen.spans)
    found = f.explain(X, Y)
    loop, whole = found.stages[-2:]
    assert loop.measured_seconds is not None
    assert loop.measured_seconds > 0
    assert (loop.measured_bytes, whole.measured_bytes) == (loop.bytes_in, whole.bytes_in)
    assert "measured" in text_of(found)[0]
    f.program(X, Y).trace(tmp_path / "run.json")
    events = json.loads((tmp_path / "run.json").read_text())["traceEvents"]
    assert {one["name"] for one in events if one["ph"] == "X"} >= {"loop_0", "whole_1"}
    assert all(one["dur"] >= 0 for one in events if one["ph"] == "X")
    assert f"{len(seen.spans)} tasks" in repr(seen)
    named_lines = [one["args"]["name"] for one in events if one["name"] == "thread_name"]
    assert {one.removeprefix("thread ").isdigit() for one in named_lines} == {True}
    assert max(int(one.removeprefix("thread ")) for one in named_lines) <= len(named_lines)


def test_a_setting_traces_every_run(tmp_path: Path) -> None:
    f = fg.function(lambda x, y: fg.sum(x * 7, axis=0) + fg.sum(y))
    with pytest.raises(UsageError, match="no run of it was traced"):
        f.program(X, Y).trace(tmp_path / "run.json")
    with dask.config.set({"flowgraph.trace": True}):
        f(X[:8], Y[:8])
    assert f.explain(X[:8], Y[:8]).stages[-1].measured_seconds is not None


def test_fits_are_traced(tmp_path: Path) -> None:
    w = fg.Variable(np.zeros((32, 1), np.float32))
    with fg.tracing() as seen:
        for rows in (8, ROWS):
            data = (X[:rows], Y[:rows])
            fg.fit(lambda x, y: mse(y, x @ w), data, variables=[w], optimizer=fg.keras.optimizers.SGD(0.01), steps=2)
    assert {"flowgraph-window", "flowgraph-loop-zero"} <= {one.name for one in seen.spans}
    seen.save(tmp_path / "fit.json")
    assert (tmp_path / "fit.json").stat().st_size > 0


@pytest.mark.parametrize("rows", [8, ROWS])
def test_a_traced_fit_stands_beside_what_was_predicted(rows: int) -> None:
    w = fg.Variable(np.zeros((32, 1), np.float32))
    optimizer = fg.keras.optimizers.SGD(0.01)
    given: dict[str, Any] = {"variables": [w], "optimizer": optimizer, "scheduler": "synchronous"}

    def loss(x: Any, y: Any) -> Any:
        return mse(y, x @ w) * 3

    data = X[:rows], Y[:rows]
    assert all(one.measured_seconds is None for one in fg.explain_fit(loss, data, **given).stages)
    with fg.tracing() as seen:
        fg.fit(loss, data, steps=4, window=4, **given)
    spans = [one for one in seen.spans if one.name != "flowgraph-history"]  # which a window has once, and a step never
    stages = fg.explain_fit(loss, data, **given).stages
    measured = [one.measured_seconds for one in stages]
    assert all(one is not None for one in measured)
    assert sum(filter(None, measured)) == pytest.approx(sum(one.stop - one.start for one in spans) / 4)
    assert sum(one.measured_bytes or 0 for one in stages) == pytest.approx(
        sum(one.bytes_in for one in spans) / 4, abs=4
    )


def test_a_traced_run_has_the_same_bits() -> None:
    f = fg.function(layered())
    plain = [np.asarray(one) for one in f(X, Y)]
    with fg.tracing():
        assert all(map(np.array_equal, map(np.asarray, f(X, Y)), plain))


@pytest.mark.cluster
def test_transfers_are_never_above_the_prediction(cluster: Any) -> None:
    for make in MODELS:
        own = make()
        f = fg.function(lambda x, y, own=own: own(fg.shard(x, rows=4), y), client=cluster)
        with fg.Mesh(model=2):
            before = moved(cluster)
            with fg.tracing() as seen:
                f(X, Y)
            found = f.explain(X, Y)
        assert len(seen.spans) == found.tasks
        assert moved(cluster) - before <= found.bytes
        loop = found.stages[-2]
        assert loop.measured_seconds is not None
        assert loop.measured_seconds > 0


def moved(client: Any) -> int:
    """The bytes that workers have sent one another so far."""

    def received(dask_worker: Any) -> int:
        return sum(one["total"] for one in dask_worker.transfer_incoming_log)

    return sum(client.run(received).values())


# Names and pictures.


def test_dask_groups_tasks_by_stage() -> None:
    from distributed.utils import key_split

    for name in ("loop_0", "loop_0-join0", "whole_12", "loop_3_stage1_model0-rows2", "input", "program"):
        key = task_name(name, "4be19a0c77d2")
        assert key_split((key, 0, 3)) == key.rpartition("-")[0]
    assert len({task_name(f"loop_{number}", "0") for number in range(200)}) == 200


def test_the_picture() -> None:
    with fg.Mesh(model=2):
        found = fg.function(tensor_parallel()).explain(X, Y, workers=2)
    dot = found.dot()
    assert dot.startswith("digraph")
    assert 'subgraph cluster_1 { label="model 0"' in dot
    assert '"loop_0_model0" [label="loop_0_model0\\n' in dot
    assert ' shards"]' in dot
    assert ' task"]' in dot
    assert "->" in dot
    assert "MB" in dot
    assert dot.count("{") == dot.count("}")


def test_arrows_from_all_lanes_to_all_meet_in_a_point() -> None:
    lanes = range(5)
    boxes = [Box(f"{stem}_model{lane}", "1 shard", f"model {lane}") for stem in "ab" for lane in lanes]
    arrows = [Arrow(f"a_model{one}", f"b_model{other}", 1000) for one in lanes for other in lanes]
    dot = dot_text(boxes, arrows)
    assert dot.count("->") == 2 * len(lanes)
    assert dot.count('-> meet_0 [label="5 kB"') == len(lanes)
    assert dot_text(boxes, arrows[:4]).count("meet") == 0


def test_what_has_tasks_of_dask_is_not_called_here() -> None:
    f = fg.function(lambda x: fg.sum(x, axis=0))
    assert "called right here" in str(f.explain(X))
    assert "called right here" not in str(f.explain(da.from_array(X, chunks=(30_000, 32))))


def test_a_worker_has_a_place_for_each_of_its_threads() -> None:
    class Client:
        def nthreads(self) -> dict[str, int]:
            return {"a": 2, "b": 1}

    found = Executor("cluster", lambda graph, keys: None, False, 3, None, Client())
    assert homes_of(found, 3) == [0, 0, 1]
    assert homes_of(found, 7) == [0, 0, 1, 2, 2, 3, 3]
    assert homes_of(resolve(scheduler="threads"), 2) == [0, 0]


def test_where_the_picture_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fg.function(linear()).program(X, Y)
    program.visualize(tmp_path / "x.dot")
    assert (tmp_path / "x.dot").read_text() == program.explain().dot()
    with pytest.raises(UsageError, match="no format"):
        program.visualize(tmp_path / "x.docx")
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(UsageError, match=r"flowgraph\[plots\]"):
        program.visualize(tmp_path / "x.svg")
    monkeypatch.undo()
    pytest.importorskip("graphviz")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="`dot` is not on the path"):
        program.visualize(tmp_path / "x.svg")
