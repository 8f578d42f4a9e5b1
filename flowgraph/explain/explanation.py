"""What a run will cost, stage by stage: tasks, operations, bytes, memory, time. Nothing runs and no data is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowgraph.errors import UsageError
from flowgraph.explain.bound import Lowered, lowered, row_counts
from flowgraph.explain.forms import Forms, joined
from flowgraph.explain.picture import Arrow, Box, dot_text, draw
from flowgraph.explain.simulate import Moment, Outcome, Simulation, order_of, worst
from flowgraph.explain.table import Column, as_html, as_text, count_text, seconds_text, size_text
from flowgraph.explain.work import Cost, Work
from flowgraph.graph import Node, lane_of
from flowgraph.kernel import LoopStage, OneStage
from flowgraph.lower import OTHER
from flowgraph.machine import Rates, bytes_of, measured_rates
from flowgraph.program import Program
from flowgraph.run import Executor, resolve
from flowgraph.sources import has_tasks
from flowgraph.types import is_count
from flowgraph.watch import Span, size_of

USUAL = Rates()


@dataclass(frozen=True)
class StageCost:
    """One line of an explanation."""

    name: str
    """The stage: the name of its kernel, or `input` for values that many tasks take."""
    tasks: int
    """The entries of the task graph: calls of its kernel, and what hands kernel, parts and joins around."""
    shards: int
    """The calls of its kernel."""
    flops: float
    bytes_in: int
    """The bytes on all edges of the task graph that end in the stage."""
    peak: int
    """The most bytes, beside the caller's data, that a process holds while one of its tasks runs."""
    seconds: float
    """What its tasks take, added up; rough."""
    measured_seconds: float | None = None
    """What its tasks took, added up, in the last run that was traced; of a training, in one of its steps."""
    measured_bytes: int | None = None
    """The bytes on its edges in that run."""


@dataclass(frozen=True)
class Explanation:
    """What a run of a program will cost. It prints as a table; a notebook shows it as HTML."""

    stages: tuple[StageCost, ...]
    """One line for each stage, in the order in which they can run."""
    notes: tuple[str, ...]
    """The cuts in force, and where the program would run."""
    peak: int
    """The most bytes that one process holds at a time, beside the caller's data."""
    seconds: float
    """How long the run takes, roughly."""
    edges: Mapping[tuple[Any, Any], int] = field(repr=False)
    """The bytes of each edge of the task graph: (task that gives, task that takes)."""
    arrows: tuple[Arrow, ...] = field(repr=False)
    """What goes from stage to stage."""
    lanes: Mapping[str, str] = field(repr=False)
    """For each stage that has one, its lane."""
    moments: Sequence[Moment] = field(repr=False)
    """The simulated run of which the peak is: each task as it begins and as it ends, in order."""

    @property
    def tasks(self) -> int:
        """The entries of the task graph."""
        return sum(one.tasks for one in self.stages)

    @property
    def flops(self) -> float:
        """The operations of a run."""
        return sum(one.flops for one in self.stages)

    @property
    def bytes(self) -> int:
        """The bytes on all edges of the task graph."""
        return sum(one.bytes_in for one in self.stages)

    def _columns(self) -> list[Column]:
        stages = self.stages
        columns = [
            Column("stage", [one.name for one in stages], "total"),
            Column("tasks", [str(one.tasks) for one in stages], str(self.tasks)),
            Column("flops", [count_text(one.flops) for one in stages], count_text(self.flops)),
            Column("bytes in", [size_text(one.bytes_in) for one in stages], size_text(self.bytes)),
            Column("peak memory", [size_text(one.peak) for one in stages], size_text(self.peak)),
            Column(
                "seconds (rough)",
                [seconds_text(one.seconds) for one in stages],
                seconds_text(sum(one.seconds for one in stages)),
            ),
        ]
        measured = [one for one in stages if one.measured_seconds is not None]
        if measured:
            taken = sum(one.measured_seconds or 0.0 for one in measured)
            moved = sum(one.measured_bytes or 0 for one in measured)
            columns += [
                Column("measured", [seconds_text(one.measured_seconds) for one in stages], seconds_text(taken)),
                Column("measured bytes", [size_text(one.measured_bytes) for one in stages], size_text(moved)),
            ]
        return columns

    def __str__(self) -> str:
        return as_text(self._columns(), self.notes)

    __repr__ = __str__

    def html(self) -> str:
        """The table as HTML."""
        return as_html(self._columns(), self.notes)

    _repr_html_ = html

    def dot(self) -> str:
        """The picture in the language of graphviz: stages, and what goes from one to the other."""
        boxes = [Box(one.name, _counted(one), self.lanes.get(one.name, "")) for one in self.stages]
        return dot_text(boxes, self.arrows)

    def visualize(self, path: Any) -> None:
        """Write the picture to a file: svg, png, pdf, or dot."""
        draw(self.dot(), path)


def _counted(stage: StageCost) -> str:
    """What a stage has several of, in words: shards of a kernel, else tasks."""
    count, what = (stage.shards, "shard") if stage.name.startswith("loop") else (stage.tasks, "task")
    return f"{count} {what}{'s' * (count != 1)}"


def explain(
    program: Program,
    rows: int | Mapping[str, int] | None = None,
    workers: int | None = None,
    memory: float | str | None = None,
    values: Sequence[Any] | None = None,
    client: Any = None,
    scheduler: Any = None,
    updates: Mapping[Node, Node] | None = None,
) -> Explanation:
    """What a run of `program` will cost, as an Explanation.

    `rows` is the number of rows of its data, where the program does not know it (of each mesh axis, where there are
    several); `workers` how many tasks run at a time (as many as where it would run now, if None); `memory` the bytes
    that a worker has (or "4 GB"): the explanation then says whether the run fits. `values` may give sources in place of
    arrays. `updates` gives for each input that is state the output that is its next value, where a run is a step.
    """
    if workers is not None and not is_count(workers, 1):
        raise UsageError(f"to explain a run with workers={workers!r}", "there must be at least one", "Give workers=2.")
    limit = None if memory is None else bytes_of(memory, "to explain a run")
    executor = resolve(client, scheduler)
    places = workers if workers is not None else executor.workers
    found = lowered(program, row_counts(program, rows), places, values, updates)
    return _Explaining(program, found, places, executor).run(limit)


def homes_of(executor: Executor, places: int) -> list[int]:
    """The number of the process of each place where a task can run: a worker has one for each of its threads.

    Of more places than there are, the others are those of further workers with as many threads.
    """
    if executor.shares_memory:
        return [0] * places
    threads = [] if executor.client is None else list(executor.client.nthreads().values())
    each = max(threads, default=1)
    threads += [each] * -(-max(places - sum(threads), 0) // each)
    return [number for number, count in enumerate(threads) for _ in range(count)][:places]


class _Explaining:
    def __init__(self, program: Program, found: Lowered, places: int, executor: Executor) -> None:
        self.program, self.places, self.executor = program, places, executor
        self.lowering, self.results, self.steps = found
        self.before = {key for step in range(self.steps - 1) for key in self.lowering.of_step(step)}
        """The tasks of steps before the one that is explained."""
        self.forms = Forms(program, self.lowering)
        self.groups = {key: self.group(key) for key in self.forms.found}
        self.sizes = self.forms.sizes()

    def group(self, key: Any) -> str:
        """The stage that a task belongs to."""
        return self.lowering.stage_of(key)

    def run(self, memory: float | None) -> Explanation:
        graph, forms, groups = self.lowering.graph, self.forms, self.groups
        wanted = {key for one in self.results for key in one.keys}
        needs = {key: forms.needs.get(key, ()) for key in forms.found}
        order = order_of(graph, list(wanted))
        later = len(order)
        priorities = {key: order.get(key, later) for key in needs}
        homes = homes_of(self.executor, self.places)

        def costs_at(rates: Rates) -> dict[Any, Cost]:
            work = Work(forms, rates)
            return {key: work.of(key) for key in forms.found}

        def simulate(costs: Mapping[Any, Cost], rates: Rates = USUAL) -> Outcome:
            run = Simulation(needs, forms.found, costs, groups, wanted, homes, self.executor.shares_memory, rates)
            return run.run(priorities, forms.given, self.executor.client is None)

        # Memory hangs on the order of tasks, and so on rates: those of everywhere, so that it is the same everywhere.
        outcome = worst(simulate, costs_at(USUAL), self.places)
        costs = costs_at(measured_rates())
        seconds = simulate(costs, measured_rates()).seconds / self.steps
        edges = {
            (one, key): self.sizes[one] for key, own in needs.items() if key not in self.before for one in set(own)
        }
        peak = max(outcome.peak, self._collected())
        stages = tuple(self._line(name, costs, edges, outcome) for name in self._names())
        notes = self._notes(seconds, peak, memory)
        arrows, lanes = self._arrows(edges), self._lanes()
        return Explanation(stages, notes, peak, seconds, edges, arrows, lanes, outcome.moments)

    def _lanes(self) -> dict[str, str]:
        found = {}
        for stage in self.lowering.bound.stages:
            if not isinstance(stage, OneStage):
                lane = stage.loop.lane if isinstance(stage, LoopStage) else stage.phase.lane
                found[stage.kernel.name] = ", ".join(f"{axis} {number}" for axis, number in lane)
        return found

    def _collected(self) -> int:
        """What the caller holds when the results have come: their pieces, and those that are joined once more."""
        found = [self.forms.found[key] for one in self.results for key in one.keys]
        whole = [joined([self.forms.found[key] for key in one.keys], one.item, one.axis) for one in self.results]
        return size_of([*found, *whole])

    def _names(self) -> list[str]:
        """The stages, in the order in which they can run; inputs come before them."""
        present = set(self.groups.values())
        order = [OTHER, "input", *(stage.kernel.name for stage in self.lowering.bound.stages)]
        return [name for name in order if name in present] + sorted(present.difference(order))

    def _line(self, name: str, costs: Any, edges: Mapping[Any, int], outcome: Outcome) -> StageCost:
        own = [key for key, group in self.groups.items() if group == name and key not in self.before]
        spans = self._spans(name)
        return StageCost(
            name,
            len(own),
            max(sum(key in self.forms.work for key in own), 1),
            sum(costs[key].flops for key in own),
            sum(size for (_, taker), size in edges.items() if self.groups[taker] == name),
            outcome.peaks.get(name, 0),
            sum(costs[key].seconds for key in own),
            sum((one.stop - one.start) / one.steps for one in spans) if spans else None,
            round(sum(one.bytes_in / one.steps for one in spans)) if spans else None,
        )

    def _spans(self, name: str) -> list[Span]:
        return [one for one in self.program.measured if one.stage == name]

    def _arrows(self, edges: Mapping[tuple[Any, Any], int]) -> tuple[Arrow, ...]:
        moved: dict[tuple[str, str], int] = {}
        for (giver, taker), size in edges.items():
            pair = self.groups[giver], self.groups[taker]
            if pair[0] != pair[1] and not self._only_waits(giver, taker):
                moved[pair] = moved.get(pair, 0) + size
        return tuple(Arrow(*pair, size) for pair, size in moved.items())

    def _only_waits(self, giver: Any, taker: Any) -> bool:
        """Whether a task takes of another only that it is done."""
        return self.forms.found[giver] is None

    def _notes(self, seconds: float, peak: int, memory: float | None) -> tuple[str, ...]:
        program, bound = self.program, self.lowering.bound
        many = f"{self.places} {'place' if self.executor.shares_memory else 'worker'}{'s' * (self.places != 1)}"
        notes = [f"{seconds_text(seconds)} s on {many} ({self.executor.name}), predicted roughly"]
        if self.executor.shares_memory and self._is_called_here():
            notes.append("called right here by default, without a scheduler: no task is made")
        for mesh, shards in bound.shards.items():
            wish = " as wished" if mesh in program.wishes else ""
            notes.append(
                f"{bound.rows[mesh]:,} rows of {mesh!r} in {len(shards)} shard{'s' * (len(shards) != 1)}{wish}"
            )
        axes: dict[str, set[int]] = {}
        for node in program.phases.needed:
            for axis, number in lane_of(node):
                axes.setdefault(axis, set()).add(number)
        notes += [f"{axis!r}: {len(numbers)} lanes" for axis, numbers in axes.items()]
        if program.pipeline > 1:
            batches = max((len(shards) for shards in bound.shards.values()), default=1)
            gates = "one forward, one backward" if self.lowering.gates else "stages work at the same time"
            notes.append(
                f"a pipeline of {program.pipeline} stages, {batches} micro-batch{'es' * (batches != 1)}, {gates}"
            )
        if self.lowering.homes:
            notes.append("as in a window of steps: each shard makes the update for itself, and only the last is a task")
        if memory is not None:
            fits = "fits into" if peak <= memory else "does NOT fit into"
            remedy = "" if peak <= memory else "; `fg.plan` looks for cuts that fit"
            notes.append(f"the peak of {size_text(peak)} {fits} a worker's {size_text(memory)}{remedy}")
        return tuple(notes)

    def _is_called_here(self) -> bool:
        """Whether a call makes no task: its data are one tile, or one shard of what is no step of a fit."""
        bound = self.lowering.bound
        alone = all(len(shards) == 1 for shards in bound.shards.values()) and not self.program.states
        return (alone or self.program.is_small(bound.rows)) and not has_tasks(list(bound.values.values()))
