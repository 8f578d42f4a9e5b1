"""A bound program as a graph of tasks.

shard 0   loop_0 ─┐                    ┌─ loop_1 ─┐
shard 1   loop_0 ─┼─ join ─ whole_1 ──┼─ loop_1 ─┼─ whole_2 ─ ...
shard 2   loop_0 ─┘                    └─ loop_1 ─┘
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from flowgraph.graph import Node, value_bytes
from flowgraph.kernel import Excerpt, Lane, Loop, LoopStage, OneStage, RowArgument, WholeStage, clean, is_whole_leaf
from flowgraph.lower.along import taken_along
from flowgraph.lower.calls import (
    Along,
    Bound,
    assemble_pieces,
    join_stacks,
    pick,
    run_after,
    run_along,
    run_loop,
    run_nothing,
    run_one,
    run_sum,
    run_whole,
    take,
    whole_of,
)
from flowgraph.lower.flow import gates
from flowgraph.lower.single import piece_arguments
from flowgraph.lower.tasks import Result, Tasks
from flowgraph.lower.tree import fan_in, partial_bytes
from flowgraph.sources import SMALL_BYTES, Derived, Held

BESIDE_BYTES = 1 << 18
"""A task takes a result of another out of all that this one returns, if the rest has at most so many bytes.

To send them takes less time than to schedule a task that picks the one result."""
INSIDE_BYTES = 1 << 10
"""Values of at most so many bytes stand in every task that takes them.

Larger ones are a task, so that they travel once to each worker."""


class Lowering(Tasks):
    """Emits the Dask tasks of one run."""

    def __init__(self, bound: Bound, run: str, step: int = 0) -> None:
        super().__init__(run, step)
        self.bound = bound
        self.values: dict[Node, Any] = {}
        """For whole values: what to write in a task's arguments."""
        self.places: dict[Node, Result] = {}
        """For whole values: the task that has them."""
        self.beside: dict[Node, int] = {}
        """For whole values: the bytes of what else the task returns that has them."""
        self.stored: dict[Node, Result] = {}
        """For cut values: the tasks that have each shard's part."""
        self.state_rows: dict[Node, Result] = {}
        """In a later step, for states that lie in pieces: the tasks that have each shard's part."""
        self.changed: set[Node] = set()
        """The inputs whose values are no longer those that were given: states of a later step."""
        self.stacks: dict[Loop, Result] = {}
        """For each loop: the tasks that have its partial results, or what is combined of them as a whole."""
        self.portions: dict[tuple[Loop, Lane], Result] = {}
        """The tasks that have the portions of a lane."""
        self.along: list[tuple[Any, list[Along]]] = []
        """What the shards of the next loop compute for themselves: the arguments of whole phases, and their results."""
        self.homes: dict[Along, Any] = {}
        """For results of these: what to write in the arguments of tasks that come later."""
        self.gates = gates(bound.stages, bound.places)
        self.leaving: dict[LoopStage, int] = {}
        """For the last loop of each stage of a pipeline: how far behind a micro-batch is the next that waits for it."""
        for last, distance in self.gates.values():
            self.leaving[last] = min(distance, self.leaving.get(last, distance))
        self.numbers = {node: number for number, node in enumerate(bound.values)}
        self.sources = {n: Held(one) if isinstance(one, np.ndarray) else one for n, one in bound.values.items()}
        for source in self.sources.values():
            self.graph.update(source.tasks())

    def lower(self) -> list[Result]:
        """Emit all tasks; for each output, where its value will be."""
        self.emit()
        return self.results()

    def results(self) -> list[Result]:
        """For each output, where the tasks of the last step have its value."""
        return [self._result(node, axis) for node, axis in self.bound.outputs]

    def emit(self, along: Collection[Any] = ()) -> None:
        """Emit all tasks of a step but those of the stages `along`, which shards of the next loop take along."""
        for stage in self.bound.stages:
            if isinstance(stage, LoopStage):
                self._loop(stage)
            elif isinstance(stage, OneStage):
                self._one(stage)
            elif stage in along:
                self._take_along(stage)
            else:
                self._whole(stage)

    def _result(self, node: Node, axis: int | None) -> Result:
        if node in self.places:
            return self.places[node]
        if node in self.stored:
            return self.stored[node]._replace(axis=axis)
        return Result((self._own_task(self.value(node), self.numbers[node]),))  # an output that is an input

    def _own_task(self, value: Any, number: int) -> Any:
        """The key of a task that has `value`, an argument of tasks."""
        if isinstance(value, self.spec.TaskRef):
            return value.key
        return self.task(self.key("output", number), whole_of, value)

    def together(self, values: Sequence[Any]) -> Result:
        """Where the values of tasks' arguments are found as one list: one result, of which the caller is told once."""
        return Result((self.task(self.key("history", 0), whole_of, self.spec.List(*map(self._at, values))),))

    def _at(self, value: Any) -> Any:
        """An argument of tasks; of a result that shards took along, where it is since then."""
        return self.homes.get(value, value) if isinstance(value, Along) else value

    def shares(self, meshes: Collection[str]) -> dict[str, int]:
        """For the tasks of loops over `meshes` that read files or arrays: into how many shards each loop is cut.

        Rows of other tasks are where these ran, and lanes have places of their own.
        """
        if any(source.tasks() for source in self.sources.values()):
            return {}
        loops = [one for one in self.bound.stages if isinstance(one, LoopStage) and not one.loop.lane]
        shards = self.bound.shards
        return {self._named(one.kernel.name): len(shards[one.loop.mesh]) for one in loops if one.loop.mesh in meshes}

    def rows_of_outputs(self) -> dict[Any, list[int]]:
        """For each output that lies in pieces, under (keys, item) of its `Result`: the lengths of the pieces."""
        found: dict[Any, list[int]] = {}
        for node, axis in self.bound.outputs:
            if node in self.stored and axis is not None:
                cut = self.bound.cuts[node][axis]
                own = self.stored[node]
                found[own.keys, own.item] = [(b - a) * cut.times for a, b in self.bound.shards[cut.mesh]]
        return found

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
        self.places, self.beside, self.stored, self.state_rows = {}, {}, {}, rows
        self.stacks, self.portions = {}, {}
        self.step += 1

    def _carried(self, state: Node, new: Node) -> Result | None:
        """The pieces of `new`, if they are those of `state` in the next step."""
        pieces = self.stored.get(new, self.state_rows.get(new))
        return pieces if pieces is not None and self.bound.cuts[new] == self.bound.cuts[state] else None

    def _new_state(self, node: Node, number: int) -> Any:
        if node in self.stored:
            return self.spec.TaskRef(self._joined_rows(node, self.stored[node], self.key("state", number)))
        return self.value(node)

    def _joined_rows(self, node: Node, pieces: Result, key: Any) -> Any:
        """The key of a task that joins the pieces of `node`."""
        axis = next(axis for axis, cut in enumerate(self.bound.cuts[node]) if cut is not None)
        return self.single_key(pieces._replace(axis=axis), key)

    def _arguments(self, nodes: Sequence[Node]) -> Any:
        return self.spec.List(*[self.value(node) for node in nodes])

    def value(self, node: Node) -> Any:
        """A whole value as an argument of tasks."""
        node = node.inputs[0] if is_whole_leaf(node) else node
        if node not in self.values:
            if node in self.places:
                self.values[node] = self._computed(node)
            elif node in self.state_rows:
                key = self.key("state-value", self.numbers[node])
                self.values[node] = self.spec.TaskRef(self._joined_rows(node, self.state_rows[node], key))
            else:
                self.values[node] = self._given(node, self.sources[node])
        return self._at(self.values[node])

    def _computed(self, node: Node) -> Any:
        """A whole value that a task of this step computes: picked by a task of its own, or by each that takes it."""
        (key,), item = self.places[node].keys, self.places[node].item
        if self.beside[node] <= BESIDE_BYTES:
            return self.ref(key, item)
        name = f"{self.stage_of(key)}-value"
        return self.spec.TaskRef(self.task(self.key(name, item or 0), pick, self.spec.TaskRef(key), item))

    def _given(self, node: Node, source: Any) -> Any:
        """The whole value of an input."""
        if isinstance(source, Held) and (source.array.nbytes < SMALL_BYTES or not source.shape):
            value = clean(source.array, node.type.dtype)
            return value if value.nbytes <= INSIDE_BYTES else self.shared("input", self.numbers[node], value)
        key = self.lasting("input", self.numbers[node])
        parts = piece_arguments(source.whole())
        return self.spec.TaskRef(self.task(key, assemble_pieces, parts, node.type.dtype))

    def _pieces(self, node: Node, start: int, stop: int, axis: int) -> Any:
        source = self.sources[node]
        # The parts of other sources are rows, and a state of a later step is the result of a task.
        if node in self.changed or (axis and not isinstance(source, Held | Derived)):
            return self.spec.List(self.spec.List(self.value(node), start, stop, axis, source.type.shape))
        return piece_arguments(source.pieces(start, stop, axis))

    def _loop(self, stage: LoopStage) -> None:
        bound, mesh = self.bound, stage.loop.mesh
        how = [(one.axis, one.times, one.dtype) for one in stage.rows]
        name, totals = stage.kernel.name, bound.totals()
        kernel = self.shared(f"{name}-kernel", 0, stage.kernel)
        arguments = self._arguments(stage.arguments)
        calls, self.along = self.along, []
        function: tuple[Any, ...] = (run_loop if stage.loop.writes else run_sum,)
        if calls:
            function = run_along, self.spec.List(*[call for call, _ in calls])
        leaf, keys = bound.leaf_tiles[mesh], []
        group, *_ = self.key(name, 0)
        waited_for = len(bound.shards[mesh]) - self.leaving.get(stage, len(bound.shards[mesh]))
        for shard, (start, stop) in enumerate(bound.shards[mesh]):
            parts = self.listed([self._rows(one, shard, start, stop) for one in stage.rows])
            call = (*function, kernel, start, stop - start, leaf, totals, how, parts, arguments)
            keys.append(self.task((group, self.step, shard), *self._gated(stage, shard), *call))
            if shard < waited_for:  # and all before it: they may overtake one another
                waited = [keys[-1], *([self.key(f"{name}-done", shard - 1)] if shard else [])]
                self.task(self.key(f"{name}-done", shard), run_nothing, *map(self.spec.TaskRef, waited))
        for item, one in enumerate([one for _, results in calls for one in results], 1 + len(stage.loop.writes)):
            self.homes[one] = self.ref(keys[0], item)
        self._place_rows(stage, keys, bool(calls))

    def _place_rows(self, stage: LoopStage, keys: Sequence[Any], several: bool) -> None:
        """Note where the results of a loop are: its partial results, and the rows that leave it.

        `several`: its tasks return more than partial results.
        """
        name, rows = stage.kernel.name, max(stop - start for start, stop in self.bound.shards[stage.loop.mesh])
        partial = partial_bytes(stage)
        sizes = [partial, *(rows * value_bytes(node.type) for node in stage.loop.writes)]

        def one(number: int, what: str) -> Result:
            if sum(sizes) - sizes[number] <= BESIDE_BYTES:
                return Result(tuple(keys), number)
            own = [
                self.task(self.key(f"{name}-{what}", shard), pick, self.spec.TaskRef(key), number)
                for shard, key in enumerate(keys)
            ]
            return Result(tuple(own))

        stacks = Result(tuple(keys))
        if stage.loop.writes or several:
            stacks = one(0, "partial") if stage.loop.partials else Result(())
        for number, node in enumerate(stage.loop.writes, 1):
            self.stored[node] = one(number, f"rows{number}")
        main = self._taken(f"{name}-main", stage.main, stacks)
        self.stacks[stage.loop] = self._joined(name, stage.merges, main, partial)
        for number, (lane, excerpt) in enumerate(stage.excerpts.items()):
            part = f"{name}-portion{number}"
            taken = self._taken(part, excerpt, stacks)
            self.portions[stage.loop, lane] = self._joined(part, excerpt.merges, taken, partial)

    def _taken(self, name: str, excerpt: Excerpt | None, stacks: Result) -> Result:
        """What is combined of each shard's partial results."""
        if excerpt is None or not excerpt.entries:
            return stacks if excerpt is None else Result(())
        shared = self.shared(f"{name}-entries", 0, excerpt)
        refs = [self.ref(key, stacks.item) for key in stacks.keys]
        return Result(tuple([self.task(self.key(name, shard), take, shared, one) for shard, one in enumerate(refs)]))

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
        key = self.task(
            self.key("program", 0), run_one, stage.kernel, totals, order, how, self.listed(parts), arguments, dtypes
        )
        self._place(stage.results, key)

    def _rows(self, how: RowArgument, shard: int, start: int, stop: int) -> Any:
        if how.node in self.stored and not how.node.is_leaf:
            return self._shard_of(self.stored[how.node], shard)
        if how.node in self.state_rows:
            return self._shard_of(self.state_rows[how.node], shard)
        return self._pieces(how.node, start * how.times, stop * how.times, how.axis)

    def _shard_of(self, found: Result, shard: int) -> Any:
        return self.spec.List(self.ref(found.keys[shard], found.item))

    def _joined(self, of: str, merges: Any, stacks: Result, size: int) -> Result:
        """A tree of joins over the shards, until few enough are left for one task."""
        level, most = 0, fan_in(len(stacks.keys), size)
        while len(stacks.keys) > most:
            groups = [stacks._replace(keys=stacks.keys[i : i + most]) for i in range(0, len(stacks.keys), most)]
            name = f"{of}-join{level}"
            stacks = Result(
                tuple(
                    self.task(self.key(name, number), join_stacks, merges, self.refs(group))
                    for number, group in enumerate(groups)
                )
            )
            level += 1
        return stacks

    def _place(self, nodes: Sequence[Node], key: Any) -> None:
        """Note where the results of a task of whole values are."""
        sizes = [sum(map(value_bytes, node.types)) for node in nodes]
        for number, node in enumerate(nodes):
            self.places[node] = Result((key,), number)
            self.beside[node] = sum(sizes) - sizes[number]

    def _portions(self, stage: LoopStage, lane: Lane) -> Any:
        return self.spec.List(stage.excerpts[lane].merges, self.refs(self.portions[stage.loop, lane]))

    def _whole(self, stage: WholeStage) -> None:
        self._place(
            stage.results, self.task(self.key(stage.kernel.name, 0), run_whole, *self._call(stage, stage.kernel))
        )

    def _take_along(self, stage: WholeStage) -> None:
        """Have the tasks of the next loop compute a whole phase."""
        kernel = self.shared(f"{stage.kernel.name}-kernel", 0, stage.kernel)
        results = [Along(self.step, len(self.along), item) for item, _ in enumerate(stage.results)]
        self.along.append((self.spec.List(*self._call(stage, kernel)), results))
        self.values.update(zip(stage.results, results, strict=True))

    def _call(self, stage: WholeStage, kernel: Any) -> tuple[Any, ...]:
        """The arguments of `run_whole`."""
        own = [one for one in stage.loops if one.merges]
        return (
            kernel,
            self.bound.totals(),
            [one.merges for one in own],
            self.spec.List(*[self.refs(self.stacks[one.loop]) for one in own]),
            self.spec.List(*[self.refs(self.stored[node]) for node, _ in stage.gathered]),
            [axis for _, axis in stage.gathered],
            self.spec.List(*[self._portions(one, stage.phase.lane) for one in stage.portions]),
            self._arguments(stage.arguments),
        )


def lower_window(
    bound: Bound, run: str, steps: int, updates: Mapping[Node, Node], traced: Node
) -> tuple[Lowering, list[Any], list[Result]]:
    """`steps` steps as one graph, each on the state of the one before: (tasks, `traced` of each step, new state).

    What is traced are arguments of a task that takes them `together`.
    """
    lowering, between = Lowering(bound, run), taken_along(bound, updates)
    history = []
    for step in range(steps):
        if step:
            lowering.advance(updates)
        lowering.emit(between if step + 1 < steps else ())
        history.append(lowering.value(traced))
    results = dict(zip([node for node, _ in bound.outputs], lowering.results(), strict=True))
    return lowering, history, [results[new] for new in updates.values()]
