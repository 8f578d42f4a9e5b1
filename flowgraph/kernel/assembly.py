"""Assembly: the phases of a program as stages, each with its kernel and what it takes and gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from flowgraph.graph import Node, lane_of, operations, read_operands
from flowgraph.kernel.kernel import Kernel
from flowgraph.kernel.levels import Lane
from flowgraph.kernel.source import Emitter
from flowgraph.kernel.stages import Loop, Whole
from flowgraph.partition import COMBINE, GATHER, PORTION, rows_of

REPLICATED_FLOPS = 1e7
"""Whole work before the first loop that every stage does for itself, rather than wait for a task that does it once."""


class RowArgument(NamedTuple):
    """How a loop reads one of its row operands."""

    node: Node
    """The leaf, or the rows that an earlier loop stored."""
    axis: int
    """The axis along which it is cut."""
    times: int
    """Elements of this axis for each row of the mesh."""
    dtype: Any
    """The dtype of its tiles."""
    mesh: str
    """The mesh axis over which it is cut."""


class Excerpt(NamedTuple):
    """What is combined of the partial results of a loop: some entries of its state, or runs of their elements."""

    entries: tuple[tuple[int, int, int | None], ...]
    """(entry, start, stop) of each; to its end where `stop` is None."""
    merges: tuple[Any, ...]
    """How each merges."""

    def of(self, stack: Any) -> Any:
        """The same subtrees of fewer partial results, in arrays of their own."""
        return [(level, index, [_run(state[e], a, b) for e, a, b in self.entries]) for level, index, state in stack]


def _run(value: Any, start: int, stop: int | None) -> Any:
    return value if stop is None else value[start:stop].copy()


@dataclass(frozen=True, eq=False)
class LoopStage:
    """A loop as a task for each shard."""

    kernel: Kernel
    loop: Loop
    rows: tuple[RowArgument, ...]
    """Its row operands."""
    arguments: tuple[Node, ...]
    """The whole values that it is given."""
    merges: tuple[Any, ...]
    """How those of its partial results merge that are combined as a whole."""
    main: Excerpt | None = None
    """Those, where they are not all."""
    excerpts: Mapping[Lane, Excerpt] = field(default_factory=dict)
    """The portions that lanes take, in the order of `loop.portions`."""


@dataclass(frozen=True, eq=False)
class WholeStage:
    """A whole phase as one task."""

    kernel: Kernel
    phase: Whole
    loops: tuple[LoopStage, ...]
    """The loops whose partial results it completes."""
    gathered: tuple[tuple[Node, int], ...]
    """Cut tensors that it needs whole, and the axis along which they are joined."""
    arguments: tuple[Node, ...]
    """The whole values that it is given."""
    results: tuple[Node, ...]
    """What it computes for others."""
    portions: tuple[LoopStage, ...] = ()
    """The loops of whose partial results it takes the portions of its lane."""


@dataclass(frozen=True, eq=False)
class OneStage:
    """A program of one tile as one task."""

    kernel: Kernel
    inputs: tuple[Node, ...]
    """All inputs, in the order in which the kernel takes them."""
    rows: tuple[RowArgument, ...]
    """Those of them that are rows."""
    results: tuple[Node, ...]
    """What it computes."""


Stage = LoopStage | WholeStage | OneStage


def clean(value: Any, dtype: Any) -> Any:
    """A whole value as kernels take it: C order, native, aligned."""
    if type(value) is np.ndarray and value.flags.carray and value.dtype == dtype:
        return value
    return np.require(np.asarray(value, dtype), requirements=["C", "A"])


def row_argument(emitter: Emitter, node: Node) -> RowArgument:
    """How `node`, a cut leaf or stored rows, is read."""
    found = rows_of(emitter.parts.layouts[node])
    assert found is not None
    axis, cut = found
    return RowArgument(node, axis, cut.times, node.type.dtype, cut.mesh)


def one_stage(emitter: Emitter, results: Sequence[Node]) -> OneStage:
    """The program as one task, for data of one tile."""
    inputs = emitter.parts.graph.inputs
    rows = tuple(row_argument(emitter, node) for node in inputs if emitter.parts.mesh(node) is not None)
    return OneStage(emitter.one(results), inputs, rows, tuple(results))


class Assembly:
    """Makes the stages of a program for data of more than one tile."""

    def __init__(self, emitter: Emitter, outputs: Sequence[Node]) -> None:
        self.emitter, self.parts, self.phases = emitter, emitter.parts, emitter.phases
        early = [node for phase in self.phases.whole[0] for node in phase.nodes]
        self.replicated = frozenset(early if sum(map(operations, early)) <= REPLICATED_FLOPS else ())
        """Whole nodes that every stage computes for itself."""
        self.asked = frozenset(outputs)
        phase = {node: one for level in self.phases.whole for one in level for node in one.nodes}
        self.leaving = self.asked.union(
            one for user in self.phases.needed for one in read_operands(user) if phase.get(user) is not phase.get(one)
        )
        """The whole nodes that another stage reads, and the outputs."""
        self.last = self._last()

    def run(self) -> tuple[Stage, ...]:
        """All stages, in an order in which they can run."""
        result: list[Stage] = []
        before: tuple[LoopStage, ...] = ()
        for phases, loops in zip(self.phases.whole, self.phases.loops, strict=True):
            for phase in phases:
                own = tuple(one for one in before if one.loop.lane == phase.lane)
                made = self._whole(phase, own, tuple(one for one in before if phase.lane in one.excerpts))
                if made is not None:
                    result.append(made)
            before = tuple(self._loop(one) for one in loops)
            result += before
        return tuple(result)

    def _loop(self, loop: Loop) -> LoopStage:
        wanted = [one for node in loop.nodes for one in read_operands(node) if self.parts.mesh(one) is None]
        replicated, arguments = self._split(wanted)
        kernel = self.emitter.loop(loop, replicated, arguments)
        rows = tuple(row_argument(self.emitter, node) for node in loop.loads)
        places = self.emitter.accumulators(loop)
        if not loop.portions:
            return LoopStage(kernel, loop, rows, arguments, places.merges)
        merges = places.merges
        kept = sorted({entry for node, (entry, *_) in places.places.items() if node not in loop.apart})
        main = Excerpt(tuple((entry, 0, None) for entry in kept), tuple(merges[entry] for entry in kept))
        found: dict[Lane, list[tuple[int, int, int]]] = {}
        for node in loop.portions:
            entry, first, _ = places.places[node.inputs[0]]
            span = int(first) + node.attr("start"), int(first) + node.attr("stop")
            found.setdefault(lane_of(node), []).append((entry, *span))
        excerpts = {lane: Excerpt(tuple(own), tuple(merges[one[0]] for one in own)) for lane, own in found.items()}
        return LoopStage(kernel, loop, rows, arguments, main.merges, main, excerpts)

    def _whole(
        self, phase: Whole, before: tuple[LoopStage, ...], portioned: tuple[LoopStage, ...]
    ) -> WholeStage | None:
        """A whole phase after the loops `before`; None where nothing is left to do in it."""
        nodes = phase.nodes
        results = self._results(phase)
        if phase is self.last:
            early = (node for one in self.phases.whole[0] for node in one.nodes)
            results += tuple(node for node in early if node in self.replicated and node in self.asked)
        if not results:
            return None
        wanted = self._closure(results, set(nodes) - self.replicated)
        outside = [
            one
            for node in wanted
            for one in read_operands(node)
            if one not in wanted and node.op not in (COMBINE, GATHER, PORTION)
        ]
        replicated, arguments = self._split([*outside, *(node for node in results if node in self.replicated)])
        inside = sorted(wanted.union(replicated), key=self.emitter.numbers.__getitem__)
        loops = tuple(stage.loop for stage in before)
        portions = [node for one in portioned for node in one.loop.portions if lane_of(node) == phase.lane]
        kernel = self.emitter.whole(phase, inside, loops, portions, arguments, results)
        gathered = []
        for node in inside:
            if node.op is GATHER:
                found = rows_of(self.parts.layouts[node.inputs[0]])
                assert found is not None
                gathered.append((node.inputs[0], found[0]))
        return WholeStage(kernel, phase, before, tuple(gathered), arguments, results, portioned)

    def _split(self, wanted: Iterable[Node]) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
        """Of the whole values that a stage reads: those it computes for itself, and those it is given."""
        asked = dict.fromkeys(wanted)
        own = self._closure([node for node in asked if node in self.replicated], self.replicated)
        given = dict.fromkeys(
            one for one in (*asked, *(operand for node in own for operand in read_operands(node))) if one not in own
        )
        order = self.emitter.numbers.__getitem__
        return tuple(sorted(own, key=order)), tuple(sorted(given, key=order))

    def _results(self, phase: Whole) -> tuple[Node, ...]:
        """What only this phase computes for others."""
        return tuple(node for node in phase.nodes if node not in self.replicated and node in self.leaving)

    def _last(self) -> Whole:
        """The phase whose task also returns the outputs that every stage can compute for itself.

        Such as the number of the next step. It is one that has a task anyway, if there is any.
        """
        common = [one for level in self.phases.whole for one in level if not one.lane]
        return next((one for one in reversed(common) if self._results(one)), common[0])

    def _closure(self, nodes: Iterable[Node], inside: Iterable[Node]) -> set[Node]:
        """`nodes` and all that they are computed from within `inside`."""
        allowed = set(inside)
        found: set[Node] = set()
        stack = list(nodes)
        while stack:
            node = stack.pop()
            if node not in found and (node in allowed):
                found.add(node)
                stack += read_operands(node)
        return found
