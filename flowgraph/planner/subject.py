"""What a plan is made for: the graph of a function, of a training step or of a program, before it is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import UsageError
from flowgraph.graph import ITEM, STAGE, Graph, Node, lane_of
from flowgraph.mesh import Placement
from flowgraph.partition import Layout, cut_along
from flowgraph.partition.choose import MODEL
from flowgraph.passes import optimise
from flowgraph.program import Program
from flowgraph.state import Function, Traced, Variable
from flowgraph.train.optimizers import Optimizer
from flowgraph.train.step import Step
from flowgraph.types import Dim

UNIT = "unit"
"""The axis of the lanes in which a graph is traced: a unit is what begins where a variable is first read."""


@dataclass(frozen=True)
class Subject:
    """A graph, and what a planner must know besides."""

    graph: Graph
    states: Mapping[int, int]
    """For each output that is the next value of an input, that input."""
    lengths: Mapping[str, int]
    """The lengths that the types leave open."""
    variables: Mapping[Node, Variable]
    """The variable behind each leaf that has one."""
    given: Graph
    """The graph before passes, with the same inputs."""
    units: Mapping[Variable, int]
    """The unit that begins with each variable."""

    def stage_axis(self) -> str | None:
        """The axis of lanes from which stages are made: the model's own, else the units of its variables."""
        axes = {name for node in self.graph for name, _ in lane_of(node)}
        return STAGE if STAGE in axes else UNIT if UNIT in axes else None

    def wishes(self) -> dict[Node, Layout]:
        """What the model itself wishes cut over the axis of weights."""
        found: dict[Node, Layout] = {}
        for node in self.graph:
            for axis, name, _ in node.attr("axes") if node.op.name == "shard" else ():
                if name == MODEL:
                    found[node] = cut_along(node.type.ndim, axis, MODEL)
        return found


class Discovery(Placement):
    """The mesh in which a function is traced for a plan: every name is one piece, every variable begins a unit."""

    def __init__(self, variables: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._among = None if variables is None else frozenset(variables)
        self.units: dict[Any, int] = {}
        """The number of each variable, in the order in which they are read."""

    def __getitem__(self, name: str) -> int:
        return 1

    def lane_of(self, variable: Any) -> tuple[str, int] | None:
        """The unit of a variable: a new one where it is read first."""
        if self._among is not None and variable not in self._among:
            return None
        return UNIT, self.units.setdefault(variable, len(self.units))


def subject_of(what: Any, args: Sequence[Any], optimizer: Any, variables: Any) -> Subject:
    """The subject of a plan; see `plan` for the arguments."""
    if isinstance(what, Program):
        return _optimised(Subject(what.graph, what.states, _lengths(what.graph, args), {}, what.graph, {}))
    if isinstance(what, Graph):
        return _optimised(Subject(what, {}, _lengths(what, args), {}, what, {}))
    if isinstance(what, Function):
        what = what.python_function
    if not callable(what):
        raise UsageError(
            f"a plan of {type(what).__name__}", "it is no function, graph or program", "Give the function to run."
        )
    if optimizer is not None:
        return _of_training(what, args, optimizer, variables)
    with Discovery() as mesh:
        traced = Traced(what, tuple(args), {})
    first = len(traced.arguments)
    numbers = {variable: first + number for number, variable in enumerate(traced.variables)}
    states = {traced.count + number: numbers[variable] for number, variable in enumerate(traced.updates)}
    leaves = {traced.graph.inputs[number]: variable for variable, number in numbers.items()}
    return _optimised(Subject(traced.graph, states, {}, leaves, traced.graph, mesh.units))


def _of_training(loss: Callable[..., Any], data: Sequence[Any], optimizer: Any, variables: Any) -> Subject:
    if not isinstance(optimizer, Optimizer):
        raise UsageError(
            f"a plan with optimizer={optimizer!r}", "it is no optimizer", "Give one of fg.keras.optimizers."
        )
    if variables is None:
        with Discovery():
            traced = Traced(loss, tuple(data), {})
        variables = [one for one in traced.variables if one.trainable]
    types = [convert(one).type for one in data]
    with Discovery(variables) as mesh:
        step = Step(loss, types, list(variables), optimizer)
    leaves, number = {}, len(types)
    for group in step.groups:
        leaves[step.graph.inputs[number]] = group.variables[0]
        number += 1 + len(group.slots)
    leaves |= dict(zip(step.graph.inputs[number + 1 :], step.read, strict=False))
    return _optimised(Subject(step.graph, step.kept, _lengths(step.graph, data), leaves, step.graph, mesh.units))


def _optimised(subject: Subject) -> Subject:
    """The subject after all passes, which keep the inputs in their places."""
    graph = optimise(subject.graph)
    new = dict(zip(subject.graph.inputs, graph.inputs, strict=True))
    return replace(subject, graph=graph, variables={new[leaf]: one for leaf, one in subject.variables.items()})


def _lengths(graph: Graph, args: Sequence[Any]) -> dict[str, int]:
    """The lengths that inputs leave open, from the values that they are to have."""
    found: dict[str, int] = {}
    for node, value in zip(graph.inputs, args, strict=False):
        for length, known in zip(node.type.shape, np.shape(value), strict=False):
            if isinstance(length, Dim) and isinstance(known, int):
                found.setdefault(length.base.name, (known - length.plus) // length.times)
    missing = [
        node for node in graph.inputs if {d.base.name for d in node.type.shape if isinstance(d, Dim)} - set(found)
    ]
    if missing:
        raise UsageError(
            f"a plan for the input {missing[0].type}",
            "how long its axes are is not known",
            "Give the values of the inputs, or arrays of their shapes, after what is to be planned.",
        )
    return found


def lane_numbers(graph: Graph, axis: str | None) -> list[int]:
    """The numbers that lanes have along an axis, in order."""
    return sorted({number for node in graph for name, number in lane_of(node) if name == axis})


def units_of(graph: Graph, axis: str | None) -> dict[Node, int]:
    """The place of each node along an `axis` of lanes, counted from 0; all in one where there is no such axis.

    What is in no lane is where all its operands are, or at the end; a leaf is where it is first read.
    """
    numbers = lane_numbers(graph, axis)
    place = {number: index for index, number in enumerate(numbers)}
    last = max(len(numbers) - 1, 0)
    found: dict[Node, int] = {}
    first: dict[Node, int] = {}
    for node in graph.nodes():
        if node.is_leaf:
            continue
        own = [place[number] for name, number in lane_of(node) if name == axis]
        seen = set(own) or {found[one] for one in node.inputs if one in found}
        reads_only_leaves = not seen
        found[node] = seen.pop() if len(seen) == 1 else 0 if reads_only_leaves else last
        if node.op is ITEM:
            found[node] = found.get(node.inputs[0], found[node])
        if own or not reads_only_leaves:
            for one in node.inputs:
                if one.is_leaf:
                    first[one] = min(first.get(one, last), found[node])
    return found | {leaf: first.get(leaf, last) for leaf in graph.inputs}
