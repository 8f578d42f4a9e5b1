"""Stages: the partitioned graph in phases.

    whole 0 ─▶ loop 0 ─▶ whole 1 ─▶ loop 1 ─▶ ... ─▶ whole n

A whole phase computes what has no rows; a loop walks the rows in tiles. A result that was combined or gathered from
loop k is known from whole phase k + 1 on; a loop that needs an earlier loop's rows computes them again or reads them
back, by an estimate of the time.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

from flowgraph.graph import Node, read_operands
from flowgraph.kernel.levels import Lane, Levels, is_whole_leaf
from flowgraph.partition import COMBINE, GATHER, PORTION, Partitioned


class Loop(NamedTuple):
    """One walk over the rows of one mesh axis."""

    level: int
    """Its number; loops over other mesh axes may share it."""
    mesh: str
    """The mesh axis whose rows it walks."""
    lane: Lane
    """The lane that it is of; () for what all have in common."""
    nodes: tuple[Node, ...]
    """What it computes in each tile, in order."""
    loads: tuple[Node, ...]
    """The row leaves, and rows stored by earlier loops, that it reads."""
    partials: tuple[Node, ...]
    """Those of `nodes` whose results are accumulated."""
    writes: tuple[Node, ...]
    """Rows that leave the loop: results of the program, rows to be gathered, rows for later loops."""
    portions: tuple[Node, ...] = ()
    """What lanes take of its partial results, each by itself."""
    apart: frozenset[Node] = frozenset()
    """The partial results that are combined in portions only."""


class Whole(NamedTuple):
    """What one lane computes of whole values between two loops."""

    level: int
    lane: Lane
    nodes: tuple[Node, ...]


class Stages(NamedTuple):
    """All phases of a program."""

    whole: tuple[tuple[Whole, ...], ...]
    """The whole phases of each level: that of the common lane, then those of the others, if there are any."""
    loops: tuple[tuple[Loop, ...], ...]
    """The loops between whole phase k and k + 1."""
    needed: tuple[Node, ...]
    """Every node that is computed at all, in order."""


def stages(parts: Partitioned) -> Stages:
    """The phases of a partitioned graph."""
    needed = contract_early(_needed(parts), parts.partial)
    levels = Levels(parts, needed)
    last = max(levels.level.values(), default=0)
    whole: list[dict[Lane, list[Node]]] = [{(): []} for _ in range(last + 1)]
    for node in needed:
        if parts.mesh(node) is None and not node.is_leaf and not is_whole_leaf(node):
            whole[levels.level[node]].setdefault(levels.lane(node), []).append(node)
    phases = [
        tuple([Whole(level, lane, tuple(nodes)) for lane, nodes in lanes.items()]) for level, lanes in enumerate(whole)
    ]
    return Stages(tuple(phases), _Loops(parts, needed, levels).run(last), tuple(needed))


def _needed(parts: Partitioned) -> list[Node]:
    seen = set(parts.graph.outputs)
    result = []
    for node in reversed(parts.graph.nodes()):
        if node in seen:
            result.append(node)
            seen.update(read_operands(node))
    return result[::-1]


def contract_early(order: Sequence[Node], partial: Container[Node]) -> list[Node]:
    """`order` with each contraction of rows moved to where its operands are known: these may then be written over."""
    return _Contracting(order, [node for node in order if node in partial]).run()


class _Contracting:
    def __init__(self, order: Sequence[Node], contractions: Sequence[Node]) -> None:
        self.order, self.contractions = order, contractions
        self.inside = set(order)
        self.done: dict[Node, None] = {}
        self.missing = list(map(self._sources, contractions))
        """For each contraction, what must be done before it."""
        self.waiting: dict[Node, list[int]] = {}
        """For each node, the contractions that it is missing to."""
        for number, sources in enumerate(self.missing):
            for one in sources:
                self.waiting.setdefault(one, []).append(number)
        self.ready = [number for number, sources in enumerate(self.missing) if not sources]

    def run(self) -> list[Node]:
        """The new order."""
        for node in self.order:
            self._do(node)
            batch, self.ready = sorted(self.ready), []
            for number in batch:
                self._do(self.contractions[number])
        return list(self.done)

    def _sources(self, node: Node) -> set[Node]:
        """What `node` reads, but for different looks at something: then what is looked at."""
        found: set[Node] = set()
        seen: set[Node] = set()
        stack = read_operands(node)
        while stack:
            one = stack.pop()
            if one not in self.inside or one in seen:
                continue
            seen.add(one)
            if one.op.view is not None:
                stack += read_operands(one)
            else:
                found.add(one)
        return found

    def _do(self, node: Node) -> None:
        """Put `node`, and before it what it reads, into the new order."""
        stack = [node]
        while stack:
            one = stack[-1]
            left = (
                [] if one in self.done else [n for n in read_operands(one) if n in self.inside and n not in self.done]
            )
            if left:
                stack += reversed(left)
                continue
            stack.pop()
            if one in self.done:
                continue
            self.done[one] = None
            for number in self.waiting.pop(one, ()):
                self.missing[number].discard(one)
                if not self.missing[number]:
                    self.ready.append(number)


class _Loops:
    """Finds what each loop computes, from the last loop to the first: a later one may ask an earlier one to store."""

    def __init__(self, parts: Partitioned, needed: list[Node], levels: Levels) -> None:
        self.parts, self.needed, self.levels, self.level = parts, needed, levels, levels.level
        self.place = {node: number for number, node in enumerate(needed)}
        self.stored: set[Node] = set()
        self.portions: dict[Node, list[Node]] = {}
        for node in needed:
            if node.op is PORTION:
                self.portions.setdefault(node.inputs[0], []).append(node)
        self.apart = frozenset(self.portions) - {one for node in needed if node.op is COMBINE for one in node.inputs}

    def run(self, last: int) -> tuple[tuple[Loop, ...], ...]:
        outputs = set(self.parts.graph.outputs)
        gathered = {node.inputs[0] for node in self.needed if node.op is GATHER}
        cut: list[list[tuple[Node, str]]] = [[] for _ in range(last + 1)]
        for node in self.needed:
            mesh = self.parts.mesh(node)
            if mesh is not None and not node.is_leaf:
                cut[self.level[node]].append((node, mesh))
        result = []
        for number in range(last, -1, -1):
            walks: dict[tuple[str, Lane], list[Node]] = {}
            for node, mesh in cut[number]:
                if node in self.parts.partial or node in outputs or node in gathered or node in self.stored:
                    walks.setdefault((mesh, self.levels.lane(node)), []).append(node)
            result.append(tuple(self._loop(number, mesh, lane, targets) for (mesh, lane), targets in walks.items()))
        return tuple(reversed(result))

    def _loop(self, number: int, mesh: str, lane: Lane, targets: list[Node]) -> Loop:
        inside: set[Node] = set()
        loads: set[Node] = set()
        stack = list(targets)
        while stack:
            node = stack.pop()
            if node in inside or node in loads:
                continue
            if node.is_leaf or self._is_read(node, number, lane):
                loads.add(node)
                if not node.is_leaf:
                    self.stored.add(node)
                continue
            inside.add(node)
            stack += [one for one in read_operands(node) if self.parts.mesh(one) is not None]
        order = sorted(inside, key=self.place.__getitem__)
        return Loop(
            number,
            mesh,
            lane,
            tuple(order),
            tuple(sorted(loads, key=self.place.__getitem__)),
            tuple(node for node in order if node in self.parts.partial),
            tuple(node for node in targets if node not in self.parts.partial),
            tuple(one for node in order for one in self.portions.get(node, ())),
            self.apart.intersection(order),
        )

    def _is_read(self, node: Node, number: int, lane: Lane) -> bool:
        """Whether a loop reads the rows of `node` that an earlier loop, or one of another lane, has stored."""
        if self.levels.crosses(node, lane):
            return True
        return self.level[node] < number and not self.parts.recompute and self.levels.worth_storing(node)
