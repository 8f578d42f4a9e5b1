"""The road, from a graph to numbers. Read this first.

    graph ─ choose_rows ─ unknown_rows ─ optimise ─ schedule ─ insert ─ stages ─ Emitter ─ lower ─ run

A Program is a pure function from the values of its inputs to the values of its outputs. Eager evaluation, traced
functions, `compute()` and a training step are all a run of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np

from flowgraph.context import Hooks
from flowgraph.errors import ShapeError
from flowgraph.graph import STAGE, Graph, Node, lane_of, value_bytes
from flowgraph.kernel import Assembly, Emitter, Kernel, Rows, Stage, clean, one_stage, stages
from flowgraph.lower import Bound, Lowering, Result, assemble, lower_value, lower_window, new_token, run_here
from flowgraph.mesh import current_placement, places_in_force
from flowgraph.partition import (
    Layouts,
    Split,
    behind,
    choose_rows,
    contradiction,
    cut_rows,
    group_rows,
    insert,
    known_layouts,
    narrow,
    rows_of,
    split,
    wishes_of,
)
from flowgraph.passes import optimise
from flowgraph.run import Executor, preferring, resolve
from flowgraph.schedule import HEAVY_BYTES, schedule
from flowgraph.sources import Streams, has_tasks, owner_of_tasks, pieces, segment
from flowgraph.watch import Span, chrome_of, get_watched, watching

SHARD_TILES = 8
"""A shard has at least so many tiles, if the plan chooses: less work is not worth a task."""
STREAM_SHARDS = 4
"""How many shards of files each worker has: work is even at the end, and few chunks are decoded for two shards."""


class Program:
    """A compiled graph. `run` computes its outputs; `source()` shows the kernels."""

    def __init__(self, graph: Graph, states: Mapping[int, int] | None = None, recompute: bool = False) -> None:
        self.graph = graph
        """As it was given: inputs in the order in which values are fed."""
        self.states = dict(states or {})
        """For each output that is the next value of an input, that input."""
        wishes = wishes_of(graph)
        optimised = optimise(graph)
        self.split: Split | None = None
        """The cuts that are part of the program, where it has any; inputs and outputs are then those of its pieces."""
        if any(node.op.name == "shard" for node in optimised):
            self.split = split(optimised, states)
            optimised = optimise(self.split.graph)
        optimised = narrow(optimised)
        layouts = known_layouts(optimised)
        self.static_rows: dict[str, int] = {}
        """Numbers of rows that the graph itself fixes, where its lengths could not be left open."""
        if not layouts.choices:
            layouts = choose_rows(optimised)
            self.static_rows = row_lengths(optimised, layouts)
        meshes = {n: rows[1].mesh for n in optimised.nodes() if (rows := rows_of(layouts.produced(n))) is not None}
        partial = {n: layouts.choices[n].cut.mesh for n in layouts.choices if layouts.contracts(n)}
        self.plan = schedule(optimised, meshes, partial, self.static_rows)
        self.parts = insert(optimised, layouts)._replace(recompute=recompute)
        self.phases = stages(self.parts)
        self.emitter = Emitter(self.parts, self.plan, self.phases)
        self.meshes = tuple(self.emitter.meshes)
        self.outputs = self.parts.graph.outputs
        self.known_rows: Mapping[str, int] = {}
        """Numbers of rows of the data that it is to run on, where they are known: those of `on`."""
        self.measured: list[Span] = []
        """The tasks of the last run that was traced, shared with the programs that `on` gives."""
        self._on: Program | None = None
        self.wishes: dict[str, Any] = {}
        said: dict[str, Node] = {}
        for leaf, (rows, node) in wishes.items():
            mesh = self.parts.mesh(leaf)
            if mesh is not None and self.wishes.setdefault(mesh, rows) != rows:
                raise contradiction(said[mesh], node, "the same rows")
            if mesh is not None:
                said.setdefault(mesh, node)

    # Kernels, made when they are first needed.

    @cached_property
    def one(self) -> Kernel:
        """The kernel for data of one tile."""
        return self.emitter.one(self.outputs)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages for data of more than one tile."""
        return Assembly(self.emitter, self.outputs).run()

    def source(self) -> str:
        """The numpy source of all kernels, as text."""
        return "\n".join(kernel.source for kernel in self.kernels())

    def kernels(self) -> list[Kernel]:
        """That for data of one tile, then those of the stages."""
        return [self.one, *(stage.kernel for stage in self.stages)] if self.meshes else [self.one]

    # Explaining.

    def on(self, rows: Mapping[str, int]) -> Program:
        """This program, for data of so many rows of each mesh axis: what `explain` tells of it."""
        if self._on is None or self._on.known_rows != rows:
            self._on = copy(self)
            self._on.known_rows = dict(rows)
        return self._on

    def explain(
        self, rows: int | Mapping[str, int] | None = None, workers: int | None = None, memory: float | str | None = None
    ) -> Any:
        """What a run will cost, as a table: tasks, operations, bytes, memory and time of each stage.

        Nothing runs and no data is read. `rows` is the number of rows of the data, where the program does not know it;
        `workers` how many tasks run at a time; `memory` the bytes that a worker has, to hear whether it is enough.
        """
        return Hooks.explain(self, rows, workers, memory)

    def visualize(self, path: Any, rows: int | Mapping[str, int] | None = None, workers: int | None = None) -> None:
        """Write a picture (svg, png, pdf, dot): stages as boxes, shards as counts, bytes on arrows, lanes as frames."""
        self.explain(rows, workers).visualize(path)

    def trace(self, path: Any) -> None:
        """Write the tasks of the last run that was traced as a Chrome trace (JSON)."""
        chrome_of(self.measured, path)

    # Running.

    def run(
        self, values: Sequence[Any], client: Any = None, scheduler: Any = None, rows: Mapping[str, int] | None = None
    ) -> list[Any]:
        """The values of the outputs for the given values of the inputs (arrays or sources).

        `rows` gives the number of rows of mesh axes that no input has. A program of one tile is called right here,
        unless the caller names another place.
        """
        return self.whole_of(self._run(self.parts_of(values), client, scheduler, rows))

    def parts_of(self, values: Sequence[Any]) -> Sequence[Any]:
        """The values of the pieces of all inputs."""
        return values if self.split is None else [part.of(values[part.number]) for part in self.split.inputs]

    def whole_of(self, results: Sequence[Any]) -> list[Any]:
        """The values of the outputs from those of all pieces."""
        return list(results) if self.split is None else [join.of(results) for join in self.split.outputs]

    def _run(self, values: Sequence[Any], client: Any, scheduler: Any, rows: Mapping[str, int] | None) -> list[Any]:
        here = client is None and scheduler is None and not watching()
        if here and not self.meshes and not self.spread and not has_tasks(values):
            return list(self.one(*map(self._whole, self.parts.graph.inputs, values)))
        counts = self.row_counts(values, rows)
        if here and self.is_small(counts) and not has_tasks(values):
            return list(self.one(*counts.values(), *self.feed(values)))
        if client is None and scheduler is None:
            client = owner_of_tasks(values)
        return self._run_tasks(values, counts, resolve(client, scheduler))

    def is_small(self, rows: Mapping[str, int]) -> bool:
        """Whether data of so many rows is one tile, so that a single kernel does everything. Lanes never are."""
        return not self.spread and all(count <= self.plan.tile[mesh] for mesh, count in rows.items())

    @cached_property
    def spread(self) -> bool:
        """Whether parts of the program have places of their own: pieces of logical axes, stages of a pipeline."""
        return any(lane_of(node) for node in self.phases.needed)

    @cached_property
    def pipeline(self) -> int:
        """The number of stages of its pipeline; 0 where it has none."""
        return len({number for node in self.phases.needed for name, number in lane_of(node) if name == STAGE})

    def feed(self, values: Sequence[Any]) -> list[Any]:
        """The arguments of the one-tile kernel: rows as `Rows`, whole values in C order."""
        fed: list[Any] = []
        for node, cut, value in zip(self.parts.graph.inputs, self.input_cuts, values, strict=True):
            if cut is not None:
                axis, how = cut
                whole = isinstance(value, np.ndarray)
                found = [value] if whole else map(segment, pieces(value, 0, value.type.shape[axis], axis))
                fed.append(Rows(list(found), node.types[0].dtype, axis, how.times))
            else:
                fed.append(self._whole(node, value))
        return fed

    def _whole(self, node: Node, value: Any) -> Any:
        """The value of an input that is not cut; None for a source that nothing reads, which may be too large."""
        if node not in self.emitter.read and not isinstance(value, np.ndarray | np.generic):
            return None
        return clean(value, node.types[0].dtype)

    @cached_property
    def input_cuts(self) -> list[Any]:
        """For each input, the (axis, cut) along which it has rows, or None."""
        return [rows_of(self.parts.layouts[node]) for node in self.parts.graph.inputs]

    def row_counts(
        self, values: Sequence[Any], given: Mapping[str, int] | None, of_inputs: bool = True
    ) -> dict[str, int]:
        """The number of rows of each mesh axis; raises ShapeError where inputs disagree (`of_inputs`)."""
        rows = self.static_rows | dict(given if given is not None else {})
        for cut, value in zip(self.input_cuts, values, strict=True):
            if cut is None:
                continue
            axis, how = cut
            count = (value.shape if isinstance(value, np.ndarray) else value.type.shape)[axis] // how.times
            if rows.setdefault(how.mesh, count) != count and of_inputs:
                raise ShapeError(
                    "to run a program on inputs that are cut together",
                    f"one has {rows[how.mesh]} rows, another {count}",
                    "Feed inputs with equally many rows.",
                )
        return {mesh: rows[mesh] for mesh in self.meshes}

    def _run_tasks(self, values: Sequence[Any], rows: Mapping[str, int], executor: Executor) -> list[Any]:
        given = dict(zip(self.parts.graph.inputs, values, strict=True))
        bound = self.bind(values, rows, executor.workers)
        bound = bound._replace(outputs=tuple(one for one in bound.outputs if one[0] not in given))
        rest = iter(self._computed(bound, executor) if bound.outputs else ())
        return [_returned(given[node]) if node in given else next(rest) for node in self.outputs]

    def _computed(self, bound: Bound, executor: Executor) -> list[Any]:
        alone = all(len(shards) == 1 for shards in bound.shards.values()) and bound.stages is not self.small_stages
        if alone and executor.shares_memory and not watching() and not has_tasks(list(bound.values.values())):
            return run_here(bound)
        lowering = Lowering(bound, new_token())
        results = lowering.lower()
        return self._collected(lowering, results, executor)

    def _collected(
        self, lowering: Lowering, results: Sequence[Result], executor: Executor, steps: int = 1
    ) -> list[Any]:
        """The values of `results` by the tasks of `lowering`, which take so many steps."""
        keys = list(dict.fromkeys(key for result in results for key in result.keys))
        values, spans = get_watched(executor, lowering.graph, keys)
        self.note(spans, lowering.stage_of, steps)
        found = dict(zip(keys, values, strict=True))
        return [assemble([found[key] for key in one.keys], one.item, one.axis) for one in results]

    def note(self, spans: Sequence[Span], stage_of: Callable[[Any], str], steps: int) -> None:
        """Keep the spans of a run of so many steps, if it was recorded: `explain` shows what they took."""
        if spans:
            self.measured[:] = [one._replace(stage=stage_of(one.key), steps=steps) for one in spans]

    def run_steps(
        self,
        values: Sequence[Any],
        rows: Mapping[str, int],
        executor: Executor,
        updates: Mapping[Node, Node],
        steps: int,
    ) -> tuple[list[Any], list[Any]]:
        """`steps` steps in one graph, each on the state of the one before: (first output of each, the new state).

        `updates` gives for each input that is state the output that is its next value.
        """
        bound = self.bind(values, rows, executor.workers)
        lowering, history, state = lower_window(bound, new_token(), steps, updates, self.outputs[0])
        worth = {mesh for mesh, count in rows.items() if count >= self._least_rows(mesh) * len(bound.shards[mesh])}
        with preferring(lowering.shares(worth)):
            found, *new = self._collected(lowering, [lowering.together(history), *state], executor, steps)
        return found, new

    def bind(self, values: Sequence[Any], rows: Mapping[str, int], workers: int) -> Bound:
        """The program met with values: shards are chosen here, after everything that decides bits."""
        leaf = {mesh: self.plan.leaf_tiles(mesh, max(count, 1)) for mesh, count in rows.items()}
        chunks = self._chunks(values, workers)
        shards = {mesh: self.shards(mesh, n, leaf[mesh], workers, chunks.get(mesh, ())) for mesh, n in rows.items()}
        inputs = self.parts.graph.inputs
        held = {
            node: clean(value, node.type.dtype) if cut is None and isinstance(value, np.ndarray | np.generic) else value
            for node, cut, value in zip(inputs, self.input_cuts, values, strict=True)
        }
        cuts = [(node, rows_of(self.parts.layouts[node])) for node in self.outputs]
        outputs = tuple((node, None if cut is None else cut[0]) for node, cut in cuts)
        stages = self.small_stages if self.is_small(rows) else self.stages
        if stages is self.small_stages:
            outputs = tuple((node, None) for node in self.outputs)
        places = places_in_force(workers)
        return Bound(stages, self.meshes, rows, shards, leaf, held, outputs, self.parts.layouts, places)

    @cached_property
    def small_stages(self) -> tuple[Stage, ...]:
        """Data of one tile as a single task."""
        return (one_stage(self.emitter, self.outputs),)

    def _chunks(self, values: Sequence[Any], workers: int) -> dict[str, tuple[int, ...]]:
        """The rows of the chunks in which Dask tasks or files give the largest input of each mesh axis."""
        found: dict[str, tuple[int, tuple[int, ...]]] = {}
        for cut, value in zip(self.input_cuts, values, strict=True):
            if cut is None or cut[0] != 0 or isinstance(value, np.ndarray) or not value.chunks:
                continue
            chunks = value.chunks
            if isinstance(value, Streams):  # a shard takes the memory of a tile: a few shards for each worker will do
                wish = workers if self._is_heavy(cut[1].mesh) else STREAM_SHARDS * workers
                chunks = group_rows(chunks, -(-sum(chunks) // wish))
            found[cut[1].mesh] = max(found.get(cut[1].mesh, (-1, ())), (value_bytes(value.type), chunks))
        return {mesh: chunks for mesh, (_, chunks) in found.items()}

    def _is_heavy(self, mesh: str) -> bool:
        """Whether shards are to be few, as each holds a few copies of the partial results."""
        return self.plan.partial_bytes[mesh] >= HEAVY_BYTES

    def _least_rows(self, mesh: str) -> int:
        """The rows of a shard that is worth a task and a place of its own."""
        return self.plan.tile[mesh] * SHARD_TILES

    def shards(
        self, mesh: str, rows: int, leaf: int, workers: int, chunks: Sequence[int] = ()
    ) -> tuple[tuple[int, int], ...]:
        """The (start, stop) rows of each shard of a mesh axis: the user's wish, else enough for the workers.

        Where rows come in at least so many `chunks`, shards follow these: then one shard needs few of them at a time.
        """
        if not rows:
            return ((0, 0),)
        unit = self.plan.tile[mesh] * leaf
        wish, planned = self.wishes.get(mesh), current_placement()
        if wish is None and planned is not None:
            wish = planned.rows
        if wish is None:
            least = self._least_rows(mesh)
            wish = max(min(workers if self._is_heavy(mesh) else 2 * workers, -(-rows // least)), 1)
            if self.pipeline > 1:  # its stages work at the same time if there are micro-batches for all of them
                wish = max(wish, min(2 * self.pipeline, -(-rows // unit)))
            grouped = group_rows(chunks, least)
            enough = wish if self.pipeline > 1 else min(wish, workers)
            wish = behind(grouped, rows, unit) if len(grouped) >= enough else wish
        return cut_rows(rows, unit, wish)


def row_lengths(graph: Graph, layouts: Layouts) -> dict[str, int]:
    """The number of rows of each mesh axis, as far as the lengths in the graph say it."""
    rows: dict[str, int] = {}
    for node in graph.nodes():
        for length, cut in zip(node.type.shape, layouts.produced(node), strict=True):
            if cut is not None and isinstance(length, int):
                rows.setdefault(cut.mesh, length // cut.times)
    return rows


def _returned(value: Any) -> Any:
    """An input as an output: an array of its own, while rows in files or in tasks stay where they are."""
    return value.copy() if isinstance(value, np.ndarray) else value


def load(source: Any, client: Any = None, scheduler: Any = None) -> Any:
    """The whole value of a source as one array."""
    if not has_tasks([source]):
        return np.asarray(source)
    if client is None and scheduler is None:
        client = owner_of_tasks([source])
    key = (f"flowgraph-value-{new_token()}", 0, 0)
    (value,) = resolve(client, scheduler).get(lower_value(source, key), [key])
    return value
