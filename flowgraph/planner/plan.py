"""Plan: what the search chose, to look at and to put in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from flowgraph.errors import UsageError
from flowgraph.explain.table import size_text
from flowgraph.graph import STAGE, Graph, Node, make_node
from flowgraph.machine import Rates, bytes_of, processors
from flowgraph.mesh import Placement, current_mesh
from flowgraph.op import OPS
from flowgraph.partition.choose import MODEL
from flowgraph.partition.cost import Cost, Grid
from flowgraph.planner.search import Candidate, Machine, Search
from flowgraph.planner.subject import UNIT, Subject, lane_numbers, subject_of
from flowgraph.run import current_client
from flowgraph.types import is_count

SHOWN = 12
"""So many candidates are printed."""


class Plan(Placement):
    """How a program is to be cut, and what that is predicted to cost; made by `plan`.

    It is a mesh with the axes "data" and "model", and any other name stands for one piece. Inside `with plan:`, or
    after `plan.apply()`, it is in force: rows are cut as it says, and so are the variables that it chose, without an
    edit to the model. Wishes that the model itself makes come first.
    """

    def __init__(self, subject: Subject, machine: Machine, chosen: Candidate, candidates: Sequence[Candidate]) -> None:
        grid = chosen.grid
        super().__init__(data=grid.data * grid.batches, model=grid.model)
        self._subject, self._chosen = subject, chosen
        self.machine = machine
        """What it was made for."""
        self.candidates = tuple(candidates)
        """All that were weighed, the quickest first."""
        self.rows, self.places = grid.data * grid.batches, grid.places
        self.recompute = grid.recompute
        self._wishes = {
            subject.variables[leaf]: axis for leaf, axis in chosen.choice.wishes.items() if subject.variables
        }
        self._stages = _stages(subject, chosen)

    @property
    def grid(self) -> Grid:
        """How often everything is cut."""
        return self._chosen.grid

    @property
    def cost(self) -> Cost:
        """The prediction."""
        return self._chosen.cost

    @property
    def wishes(self) -> Mapping[Any, Mapping[int, str]]:
        """For each variable that is cut on purpose, how: what follows from these is cut with them."""
        return {variable: {axis: MODEL} for variable, axis in self._wishes.items()}

    def wish_of(self, variable: Any) -> dict[int, int | str] | None:
        """How a variable is to be cut."""
        axis = self._wishes.get(variable)
        return None if axis is None or self.grid.model == 1 else {axis: MODEL}

    def lane_of(self, variable: Any) -> tuple[str, int] | None:
        """The stage of a pipeline that begins where a variable is first read."""
        stage = self._stages.get(variable)
        return None if stage is None else (STAGE, stage)

    def __getitem__(self, name: str) -> int:
        return self.axes.get(name, 1)

    def instead(self, candidate: Candidate) -> Plan:
        """The plan of another of the `candidates`, whether it fits or not."""
        return Plan(self._subject, self.machine, candidate, self.candidates)

    def apply(self) -> Plan:
        """Put the plan in force in this thread until `withdraw`; returns it."""
        return self.__enter__()

    def withdraw(self) -> None:
        """End what `apply` began; raises UsageError where that is not in force, or another mesh inside it is."""
        if current_mesh() is not self:
            raise UsageError(
                "to withdraw a plan", "it is not what was put in force last", "Withdraw it once, after what came later."
            )
        self.__exit__()

    @cached_property
    def graph(self) -> Graph:
        """The graph that was planned, with the wishes of the plan in it: what to make a `Program` of."""
        given = self._subject.given
        new = dict(zip(self._subject.graph.inputs, given.inputs, strict=True))
        pieces = self.grid.model
        wished: dict[Node, Node] = {}
        for leaf, axis in self._chosen.choice.wishes.items() if pieces > 1 else ():
            attrs = (("axes", ((axis, MODEL, pieces),)), ("rows", None))
            wished[new[leaf]] = make_node(OPS["shard"], (new[leaf],), attrs, leaf.where)

        def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
            placed = tuple([wished.get(one, one) for one in inputs])
            return node if placed == node.inputs else Node(node.op, placed, node.attrs, node.types, node.where)

        return given.rebuild(rule)

    def __repr__(self) -> str:
        return self.text()

    def text(self) -> str:
        """The plan as a table: the candidates with what they cost, the chosen one marked."""
        machine = self.machine
        limit = "no limit of memory" if machine.memory is None else f"{size_text(machine.memory)} each"
        head = f"plan for {machine.workers} workers of {machine.cores} cores, {limit}"
        rows: list[tuple[str, ...]] = [
            ("", "data", "model", "stages", "batches", "rows", "seconds", "moved", "held", "flops")
        ]
        rows += [self._row(one) for one in self._shown()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        cuts = [f"{variable.name} along axis {axis}" for variable, axis in self._wishes.items()]
        foot = [f"cut over model: {', '.join(cuts)}"] if cuts and self.grid.model > 1 else []
        causes = [f"{name} {size_text(nbytes)}" for name, nbytes in self.cost.moved.items() if nbytes]
        foot += [f"moved: {', '.join(causes) or 'nothing'}"]
        causes = [f"{name} {size_text(nbytes)}" for name, nbytes in self.cost.memory.items() if nbytes]
        foot += [f"held: {', '.join(causes) or 'nothing'}"]
        return "\n".join([head, *(line.rstrip() for line in lines), *foot])

    def _shown(self) -> list[Candidate]:
        """The best candidate for each grid of places, the chosen one among them."""
        found: dict[Any, Candidate] = {}
        for one in [self._chosen, *self.candidates]:
            found.setdefault((one.grid.data, one.grid.model, one.grid.stages), one)
        shown = sorted(found.values(), key=lambda one: one.rank)[:SHOWN]
        return shown if self._chosen in shown else [*shown[: SHOWN - 1], self._chosen]

    def _row(self, one: Candidate) -> tuple[str, ...]:
        limit = self.machine.memory
        mark = "->" if one is self._chosen else "x" if limit is not None and one.cost.peak > limit else ""
        grid, cost = one.grid, one.cost
        numbers = (str(number) for number in (grid.data, grid.model, grid.stages, grid.batches))
        again = "again" if grid.recompute else "stored"
        sizes = size_text(cost.bytes), size_text(cost.peak)
        return (mark, *numbers, again, f"{cost.seconds:.3g}", *sizes, f"{cost.flops:.3g}")


def plan(
    what: Any,
    *args: Any,
    workers: int | None = None,
    memory: int | float | str | None = None,
    cores: int | None = None,
    optimizer: Any = None,
    variables: Sequence[Any] | None = None,
    rates: Rates | None = None,
) -> Plan:
    """The best way to run `what` on so many workers: how often rows, weights and layers are cut, and which weights.

    `what` is a function that is called with `args`, a graph or a Program whose inputs they are. With `optimizer` it is
    a loss, and a training step on `variables` is planned (all trainable ones that the loss reads if None), as
    `fg.fit(what, args, optimizer=...)` takes it. `workers` have `cores` places for tasks each and `memory` bytes (or a
    text such as "2 GiB"); what is not given is taken from the client in force, else from this machine, with no limit
    of memory. `rates` are what a core and the network do in a second: rough figures, or `planner.measured_rates()`.

    Nothing runs: bytes and operations follow from the shapes. No plan is chosen whose predicted peak, of all that is
    held but the data, is above the memory of a worker. Print the plan to see the candidates, and put it in force:

    >>> import numpy as np, flowgraph as fg
    >>> w = fg.Variable(np.zeros((1000, 4000), "f4"))
    >>> loss = lambda x: fg.mean(fg.square(x @ w))
    >>> x = np.ones((64, 1000), "f4")
    >>> found = fg.plan(loss, x, workers=4, cores=1, memory="40 MB", optimizer=fg.keras.optimizers.SGD(0.1))
    >>> found.grid.model > 1
    True
    >>> with found:
    ...     history = fg.fit(loss, x, variables=[w], optimizer=fg.keras.optimizers.SGD(0.1), steps=2)

    Raises UsageError where nothing fits, with the numbers and the node that holds most.
    """
    machine = _machine(workers, memory, cores, Rates() if rates is None else rates)
    subject = subject_of(what, args, optimizer, variables)
    return Plan(subject, machine, *Search(subject, machine).best())


def _stages(subject: Subject, chosen: Candidate) -> dict[Any, int]:
    """The stage that begins with each variable, where the plan makes a pipeline of its own."""
    if len(set(chosen.stages)) < 2 or subject.stage_axis() != UNIT:
        return {}
    place = {number: index for index, number in enumerate(lane_numbers(subject.graph, UNIT))}
    return {one: chosen.stages[place[unit]] for one, unit in subject.units.items() if unit in place}


def _machine(workers: Any, memory: Any, cores: Any, rates: Any) -> Machine:
    """The machine that the caller describes; the rest is that of the client in force, or of this computer."""
    for name, value in (("workers", workers), ("cores", cores)):
        if value is not None and not is_count(value):
            raise UsageError(f"a plan with {name}={value!r}", "it must be a whole number above 0", f"Give {name}=4.")
    if not isinstance(rates, Rates):
        raise UsageError(f"a plan with rates={rates!r:.100}", "they are no Rates", "Give planner.measured_rates().")
    limit = None if memory is None else bytes_of(memory, "a plan")
    client = current_client()
    if client is None:
        return Machine(workers or 1, cores or processors(), limit, rates)
    if workers is None and not client.nthreads():
        raise UsageError("a plan for the client in force", "it has no workers", "Start some, or give workers=4.")
    found = machine_of(client)
    return Machine(workers or found.workers, cores or found.cores, limit or found.memory, rates)


def machine_of(client: Any = None) -> Machine:
    """The machine that the workers of a client are, of the one in force if None."""
    client = current_client() if client is None else client
    threads = list(client.nthreads().values())
    return Machine(max(len(threads), 1), min(threads, default=1), _limit(client), Rates())


def _limit(client: Any) -> float | None:
    """The least memory limit of a client's workers; None where they have none."""
    found = [one.get("memory_limit") for one in client.scheduler_info(n_workers=-1)["workers"].values()]
    return min((float(one) for one in found if one), default=None)
