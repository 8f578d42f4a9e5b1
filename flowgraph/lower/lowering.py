"""A bound program as a graph of tasks.

    shard 0   loop_0 ─┐                    ┌─ loop_1 ─┐
    shard 1   loop_0 ─┼─ join ─ whole_1 ──┼─ loop_1 ─┼─ whole_2 ─ ...
    shard 2   loop_0 ─┘                    └─ loop_1 ─┘

A task is named ("flowgraph-<stage>-<run>", step, shard); it holds a kernel and arrays, never a node or a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgraph.graph import Node
from flowgraph.kernel import Loop, LoopStage, OneStage, RowArgument, WholeStage, clean, is_whole_leaf
from flowgraph.lower.calls import (
    Bound,
    assemble,
    assemble_pieces,
    join_stacks,
    pick,
    run_after,
    run_loop,
    run_nothing,
    run_one,
    run_sum,
    run_whole,
    task_name,
)
from flowgraph.lower.flow import gates
from flowgraph.lower.single import piece_arguments
from flowgraph.sources import SMALL_BYTES, Derived, Held

OTHER = "other tasks"
"""The stage of tasks that are none of ours: those of a dask array."""
FAN_IN = 16
"""How many shards' partial results one task joins."""


@dataclass(frozen=True)
class Result:
    """Where the value of an output is found after a run."""

    keys: tuple[Any, ...]
    """The tasks that have it: one, or one for each shard."""
    item: int | None = None
    """Which of the results of the one task it is."""
    axis: int | None = None
    """The axis along which shards are joined."""


class Lowering:
    """Emits the Dask tasks of one run."""

    def __init__(self, bound: Bound, run: str, step: int = 0) -> None:
        from dask import task_spec  # half of the time that `import flowgraph` may take

        self.spec = task_spec
        self.bound, self.run, self.step = bound, run, step
        self.graph: dict[Any, Any] = {}
        self._stages: dict[str, str] = {}
        self.values: dict[Node, Any] = {}
        """For whole values: what to write in a task's arguments."""
        self.places: dict[Node, tuple[tuple[Any, ...], int]] = {}
        """For whole values: the task that has them, and which of its results they are."""
        self.stored: dict[Node, list[Any]] = {}
        """For cut values: the key of each shard's part."""
        self.state_rows: dict[Node, list[Any]] = {}
        """In a later step, for states that lie in pieces: the key of each shard's part."""
        self.changed: set[Node] = set()
        """The inputs whose values are no longer those that were given: states of a later step."""
        self.stacks: dict[Loop, list[Any]] = {}
        self.gates = gates(bound.stages)
        self.leaving: dict[LoopStage, int] = {}
        """For the last loop of each stage of a pipeline: how far behind a micro-batch is the next that waits for it."""
        for last, distance in self.gates.values():
            self.leaving[last] = min(distance, self.leaving.get(last, distance))
        self.numbers = {node: number for number, node in enumerate(bound.values)}
        self.sources = {n: Held(one) if isinstance(one, np.ndarray) else one for n, one in bound.values.items()}
        for source in self.sources.values():
            self.graph.update(source.tasks())

    def key(self, name: str, shard: int) -> Any:
        """The key of a task."""
        return (self._named(name), self.step, shard)

    def lasting(self, name: str, shard: int) -> Any:
        """The key of a task that all steps share."""
        return (self._named(name), 0, shard)

    def _named(self, name: str) -> str:
        text = task_name(name, self.run)
        self._stages[text] = name.partition("-")[0]
        return text

    def stage_of(self, key: Any) -> str:
        """The stage that a task belongs to: the name of its kernel, `input`, or OTHER for tasks that were there."""
        return self._stages.get(key[0] if isinstance(key, tuple) else key, OTHER)

    def lower(self) -> list[Result]:
        """Emit all tasks; for each output, where its value will be."""
        for stage in self.bound.stages:
            if isinstance(stage, LoopStage):
                self._loop(stage)
            elif isinstance(stage, WholeStage):
                self._whole(stage)
            else:
                self._one(stage)
        return [self._result(node, axis) for node, axis in self.bound.outputs]

    def _result(self, node: Node, axis: int | None) -> Result:
        if node in self.places:
            return Result(*self.places[node])
        if node in self.stored:
            return Result(tuple(self.stored[node]), None, axis)
        return Result((self._value(node).key,))  # an output that is an input

    def advance(self, updates: Mapping[Node, Node]) -> None:
        """Go to the next step: what a step computed for the outputs in `updates` are the values of these inputs.

        What was computed in the pieces in which the next step reads it stays in pieces; all else becomes one value.
        """
        rows = {state: keys for state, new in updates.items() if (keys := self._carried(state, new)) is not None}
        whole = {
            state: self._new_state(new, number)
            for number, (state, new) in enumerate(updates.items())
            if state not in rows
        }
        kept = {node: ref for node, ref in self.values.items() if node.is_leaf and node not in updates}
        self.values = kept | whole
        self.changed.update(updates)
        self.places, self.stored, self.stacks, self.state_rows = {}, {}, {}, rows
        self.step += 1

    def _carried(self, state: Node, new: Node) -> list[Any] | None:
        """The pieces of `new`, if they are those of `state` in the next step."""
        pieces = self.stored.get(new, self.state_rows.get(new))
        return pieces if pieces is not None and self.bound.cuts[new] == self.bound.cuts[state] else None

    def _new_state(self, node: Node, number: int) -> Any:
        if node in self.stored:
            return self.spec.TaskRef(self._joined_rows(node, self.stored[node], self.key("state", number)))
        return self._value(node)

    def _joined_rows(self, node: Node, keys: Sequence[Any], key: Any) -> Any:
        """The key of a task that joins the pieces of `node`."""
        axis = next(axis for axis, cut in enumerate(self.bound.cuts[node]) if cut is not None)
        return self.single_key(Result(tuple(keys), None, axis), key)

    def single_key(self, result: Result, key: Any) -> Any:
        """The key of a task whose result is the value of an output, all in one."""
        return self._task(key, assemble, self._refs(result.keys), result.item, result.axis)

    def _refs(self, keys: Sequence[Any]) -> Any:
        return self.spec.List(*[self.spec.TaskRef(one) for one in keys])

    def _task(self, key: Any, function: Any, *args: Any) -> Any:
        self.graph[key] = self.spec.Task(key, function, *args)
        return key

    def _shared(self, name: str, number: int, value: Any) -> Any:
        """A value that many tasks take, as a task of its own, so that it travels once."""
        key = self.lasting(name, number)
        if key not in self.graph:
            self.graph[key] = self.spec.DataNode(key, value)
        return self.spec.TaskRef(key)

    def _arguments(self, nodes: Sequence[Node]) -> Any:
        return self.spec.List(*[self._value(node) for node in nodes])

    def _value(self, node: Node) -> Any:
        node = node.inputs[0] if is_whole_leaf(node) else node
        if node not in self.values and node in self.places:
            (key,), number = self.places[node]
            picked = self._task(self.key(f"{self.stage_of(key)}-value", number), pick, self.spec.TaskRef(key), number)
            self.values[node] = self.spec.TaskRef(picked)
        elif node in self.state_rows and node not in self.values:
            key = self.key("state-value", self.numbers[node])
            self.values[node] = self.spec.TaskRef(self._joined_rows(node, self.state_rows[node], key))
        elif node not in self.values:
            source = self.sources[node]
            if isinstance(source, Held) and (source.array.nbytes < SMALL_BYTES or not source.shape):
                value = clean(source.array, node.type.dtype)
                self.values[node] = self._shared("input", self.numbers[node], value)
            else:
                key = self.lasting("input", self.numbers[node])
                parts = piece_arguments(source.whole())
                self.values[node] = self.spec.TaskRef(self._task(key, assemble_pieces, parts, node.type.dtype))
        return self.values[node]

    def _pieces(self, node: Node, start: int, stop: int, axis: int) -> Any:
        source = self.sources[node]
        # The parts of other sources are rows, and a state of a later step is the result of a task.
        if node in self.changed or (axis and not isinstance(source, Held | Derived)):
            return self.spec.List(self.spec.List(self._value(node), start, stop, axis, source.type.shape))
        return piece_arguments(source.pieces(start, stop, axis))

    def _loop(self, stage: LoopStage) -> None:
        bound, mesh = self.bound, stage.loop.mesh
        how = [(one.axis, one.times, one.dtype) for one in stage.rows]
        name, totals = stage.kernel.name, bound.totals()
        kernel = self._shared(f"{name}-kernel", 0, stage.kernel)
        arguments = self._arguments(stage.arguments)
        stacks = []
        for shard, (start, stop) in enumerate(bound.shards[mesh]):
            parts = self.spec.List(*[self._rows(one, shard, start, stop) for one in stage.rows])
            function = run_loop if stage.loop.writes else run_sum
            call = (function, kernel, start, stop - start, bound.leaf_tiles[mesh], totals, how, parts, arguments)
            key = self._task(self.key(name, shard), *self._gated(stage, shard), *call)
            if shard + self.leaving.get(stage, len(bound.shards[mesh])) < len(bound.shards[mesh]):
                self._task(self.key(f"{name}-done", shard), run_nothing, self.spec.TaskRef(key))
            if not stage.loop.writes:
                stacks.append(key)
            elif stage.merges:
                stacks.append(self._task(self.key(f"{name}-partial", shard), pick, self.spec.TaskRef(key), 0))
            for number, node in enumerate(stage.loop.writes, 1):
                own = self._task(self.key(f"{name}-rows{number}", shard), pick, self.spec.TaskRef(key), number)
                self.stored.setdefault(node, []).append(own)
        self.stacks[stage.loop] = self._joined(stage, stacks)

    def _gated(self, stage: LoopStage, shard: int) -> tuple[Any, ...]:
        """What to call first, where a micro-batch must wait until another has left the stage of a pipeline."""
        last, distance = self.gates.get(stage, (None, 0))
        if last is None or shard < distance:
            return ()
        return run_after, self.spec.TaskRef(self.key(f"{last.kernel.name}-done", shard - distance))

    def _one(self, stage: OneStage) -> None:
        parts, how = [], []
        for one in stage.rows:
            total = self.bound.rows[one.mesh]
            parts.append(self._pieces(one.node, 0, total * one.times, one.axis))
            how.append((one.axis, one.times, one.dtype))
        order = [any(node is one.node for one in stage.rows) for node in stage.inputs]
        arguments = self._arguments([node for node, cut in zip(stage.inputs, order, strict=True) if not cut])
        dtypes = [node.type.dtype for node, cut in zip(stage.inputs, order, strict=True) if not cut]
        totals = self.bound.totals()
        key = self._task(
            self.key("program", 0), run_one, stage.kernel, totals, order, how, self.spec.List(*parts), arguments, dtypes
        )
        for number, node in enumerate(stage.results):
            self.places[node] = ((key,), number)

    def _rows(self, how: RowArgument, shard: int, start: int, stop: int) -> Any:
        if how.node in self.stored and not how.node.is_leaf:
            return self.spec.List(self.spec.TaskRef(self.stored[how.node][shard]))
        if how.node in self.state_rows:
            return self.spec.List(self.spec.TaskRef(self.state_rows[how.node][shard]))
        return self._pieces(how.node, start * how.times, stop * how.times, how.axis)

    def _joined(self, stage: LoopStage, stacks: list[Any]) -> list[Any]:
        """A tree of joins over the shards, until few enough are left for one task."""
        level = 0
        while len(stacks) > FAN_IN:
            stacks = [
                self._task(
                    self.key(f"{stage.kernel.name}-join{level}", number),
                    join_stacks,
                    stage.merges,
                    self._refs(stacks[first : first + FAN_IN]),
                )
                for number, first in enumerate(range(0, len(stacks), FAN_IN))
            ]
            level += 1
        return stacks

    def _whole(self, stage: WholeStage) -> None:
        own = [one for one in stage.loops if one.merges]
        key = self._task(
            self.key(stage.kernel.name, 0),
            run_whole,
            stage.kernel,
            self.bound.totals(),
            [one.merges for one in own],
            self.spec.List(*[self._refs(self.stacks[one.loop]) for one in own]),
            self.spec.List(*[self._refs(self.stored[node]) for node, _ in stage.gathered]),
            [axis for _, axis in stage.gathered],
            self._arguments(stage.arguments),
        )
        for number, node in enumerate(stage.results):
            self.places[node] = ((key,), number)


def lower_window(
    bound: Bound, run: str, steps: int, updates: Mapping[Node, Node], traced: Node
) -> tuple[dict[Any, Any], list[Result], list[Result]]:
    """`steps` steps as one graph, each on the state of the one before: (graph, `traced` of each step, new state)."""
    lowering = Lowering(bound, run)
    order = [node for node, _ in bound.outputs]
    history = []
    for step in range(steps):
        results = dict(zip(order, lowering.lower(), strict=True))
        history.append(results[traced])
        if step < steps - 1:
            lowering.advance(updates)
    return lowering.graph, history, [results[new] for new in updates.values()]
