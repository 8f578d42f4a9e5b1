"""The search: every grid of places that the workers have, with every choice of what is cut, by its predicted cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from flowgraph.context import describe_line
from flowgraph.errors import UsageError
from flowgraph.explain.table import size_text
from flowgraph.graph import STAGE, Node, toposort
from flowgraph.machine import Rates
from flowgraph.partition import MESHES, Layouts, choose_rows
from flowgraph.partition.choose import Choice, choose_weights
from flowgraph.partition.cost import Cost, Grid, Work, balanced, predict
from flowgraph.partition.work import Facts, work_of
from flowgraph.planner.subject import Subject, units_of

STAGES = (2, 4, 8, 16)
"""Into how many stages a pipeline is cut where the model names none."""
IN_FLIGHT = (1, 2, 4, 8)
"""Micro-batches for each stage of a pipeline."""


@dataclass(frozen=True)
class Machine:
    """What there is to run on."""

    workers: int
    cores: int
    """Tasks that a worker runs at a time."""
    memory: float | None
    """Bytes of a worker; None: no limit."""
    rates: Rates

    @property
    def places(self) -> int:
        """Tasks that run at a time."""
        return self.workers * self.cores


@dataclass(frozen=True)
class Candidate:
    """A way to run a program, and what it is predicted to cost."""

    grid: Grid
    choice: Choice
    stages: tuple[int, ...]
    """The stage of each unit."""
    work: Work
    cost: Cost

    @property
    def rank(self) -> tuple[float, float, int, float]:
        """The lower the better: seconds, then bytes moved, places and bytes held."""
        return self.cost.seconds, self.cost.bytes, self.grid.places, self.cost.peak


class Search:
    """The candidates for a subject on a machine."""

    def __init__(self, subject: Subject, machine: Machine) -> None:
        self.subject, self.machine = subject, machine
        self.rows = _first(choose_rows(subject.graph))
        self.facts = Facts(subject.graph, self.rows, subject.lengths)
        self.axis = subject.stage_axis()

    @cached_property
    def units(self) -> dict[Node, int]:
        """The unit of each node, from 0."""
        return units_of(self.subject.graph, self.axis)

    @cached_property
    def choices(self) -> list[Choice]:
        """What may be cut."""
        subject = self.subject
        leaves = [
            leaf
            for leaf in subject.graph.inputs
            if leaf.attr("kind") == "variable"
            and (leaf in subject.variables or not subject.variables)
            and not any(self.rows.produced(leaf))
        ]
        if self.machine.places < 2:
            leaves = []
        grid, machine = Grid(model=2), self.machine

        def cost(layouts: Layouts) -> float:
            found = predict(self._work(layouts, (), 1), grid, 2, machine.rates)
            return found.bytes + found.peak

        return choose_weights(subject.graph, leaves, subject.wishes(), lambda leaf: self.facts.of[leaf].bytes, cost)

    def _work(self, layouts: Layouts, stages: tuple[int, ...], count: int) -> Work:
        stage_of = {node: stages[unit] for node, unit in self.units.items()} if count > 1 else None
        return work_of(self.facts, layouts, self.subject.states, stage_of, count)

    def _divisions(self) -> list[tuple[int, ...]]:
        """The stage of each unit, for each number of stages to look into; the model's own stages stay."""
        count = max(self.units.values(), default=0) + 1
        if self.axis is None or count < 2:
            return [()]
        if self.axis == STAGE:
            return [tuple(range(count))]
        weights = [0.0] * count
        for node, unit in self.units.items():
            weights[unit] += self.facts.of[node].flops
        found = [tuple(balanced(weights, stages)) for stages in STAGES if stages <= min(count, self.machine.places)]
        return [(), *dict.fromkeys(one for one in found if len(set(one)) > 1)]

    def candidates(self) -> Iterator[Candidate]:
        """Every candidate, whether it fits or not."""
        divisions = self._divisions()
        for choice in self.choices:
            cut = bool(choice.layouts.choices)
            for division in divisions:
                stages = len(set(division)) or 1
                if stages > self.machine.places:
                    continue
                work = self._work(choice.layouts, division, stages)
                for grid in self._grids(work, cut, stages):
                    yield Candidate(grid, choice, division, work, self._predicted(work, grid))

    def _predicted(self, work: Work, grid: Grid) -> Cost:
        return predict(work, grid, self.machine.workers, self.machine.rates)

    def _grids(self, work: Work, cut: bool, stages: int) -> Iterator[Grid]:
        places = self.machine.places // stages
        stored = any(one.stored.total for one in work.stages)
        for model in counts(places) if cut else [1]:
            if cut and model == 1:
                continue
            for data in counts(places // model):
                if data > max(work.rows, 1):
                    break
                for each in IN_FLIGHT if stages > 1 else (1,):
                    batches = stages * each if stages > 1 else 1
                    if batches > 1 and batches * data > work.rows:
                        break
                    for recompute in (False, True)[: 1 + stored]:
                        yield Grid(data, model, stages, batches, recompute)

    def fits(self, grid: Grid) -> bool:
        """Whether a grid with no cuts but those of the rows, and those that the model wishes, fits a worker."""
        cost = self._predicted(self._work(self.choices[0].layouts, (), 1), grid)
        return self.machine.memory is None or cost.peak <= self.machine.memory

    def best(self) -> tuple[Candidate, list[Candidate]]:
        """The best candidate that fits a worker's memory, and all; raises UsageError where none does."""
        found = sorted(self.candidates(), key=lambda one: one.rank)
        memory = self.machine.memory
        chosen = next((one for one in found if memory is None or one.cost.peak <= memory), None)
        if chosen is None:
            raise self._refusal(min(found, key=lambda one: one.cost.peak))
        return chosen, found

    def _refusal(self, least: Candidate) -> UsageError:
        machine = self.machine
        assert machine.memory is not None
        held = least.work.culprit(least.grid)
        parts = ", ".join(f"{size_text(nbytes)} {name}" for name, nbytes in least.cost.memory.items() if nbytes)
        found = f"the least that any plan holds on one of them is {size_text(least.cost.peak)} ({parts})"
        if held is not None:
            found += f"; the largest value, {size_text(held.on(least.grid))}, is {self._named(held.node)}"
        return UsageError(
            f"a plan for {machine.workers} workers of {size_text(machine.memory)}",
            found,
            "Take more workers, workers with more memory, or a smaller model.",
        )

    def _named(self, node: Node) -> str:
        """A node in words, with the user's line."""
        variable = self.subject.variables.get(node)
        name = variable.name if variable is not None else node.attr("name") if node.is_leaf else None
        what = f"{name!r}" if name else "an input" if node.is_leaf else f"the result of {node.op.name}"
        return f"{what}, {node.type}, of {self._line(node)}"

    def _line(self, node: Node) -> str:
        """The user's line of a node; of a leaf, the line where it is first read."""
        if node.where is None:
            node = next((one for one in toposort(self.subject.graph.outputs) if node in one.inputs and one.where), node)
        return describe_line(node.where)


def _first(found: Layouts) -> Layouts:
    """The cuts of the rows alone: further row factors, those of large weights, may be cut over the model instead."""
    mesh = MESHES[0].name
    leaves = {node: layout for node, layout in found.leaves.items() if any(cut and cut.mesh == mesh for cut in layout)}
    choices = {node: choice for node, choice in found.choices.items() if choice.cut.mesh == mesh}
    return Layouts(leaves, choices, found.bindings)


def counts(most: int) -> list[int]:
    """Numbers of pieces to try for `most` places: all up to eight, beyond that powers of two and what divides `most`.

    >>> counts(12)
    [1, 2, 3, 4, 6, 8, 12]
    """
    if most <= 8:
        return list(range(1, most + 1))
    powers = {1 << bit for bit in range(most.bit_length())}
    divisors = {each for one in range(1, int(most**0.5) + 1) if most % one == 0 for each in (one, most // one)}
    return sorted(powers | divisors)
