"""Stages: the partitioned graph in phases.

    whole 0 ─▶ loop 0 ─▶ whole 1 ─▶ loop 1 ─▶ ... ─▶ whole n

A whole phase computes what has no rows; a loop walks the rows in tiles. A result that was combined or gathered from
loop k is known from whole phase k + 1 on; a loop that needs an earlier loop's rows computes them again or reads them
back, by an estimate of the time.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from flowgraph.graph import ITEM, Node, value_bytes
from flowgraph.op import shape_only
from flowgraph.partition import BEFORE, COMBINE, COMMUNICATION, GATHER, SPREAD, Partitioned

FLOPS_PER_SECOND = 2e10
BYTES_PER_SECOND = 1e10
"""Rough rates of one core, to weigh computing rows again against storing them. They never reach the numbers."""


@dataclass(frozen=True)
class Loop:
    """One walk over the rows of one mesh axis."""

    level: int
    """Its number; loops over other mesh axes may share it."""
    mesh: str
    """The mesh axis whose rows it walks."""
    nodes: tuple[Node, ...]
    """What it computes in each tile, in order."""
    loads: tuple[Node, ...]
    """The row leaves, and rows stored by earlier loops, that it reads."""
    partials: tuple[Node, ...]
    """Those of `nodes` whose results are accumulated."""
    writes: tuple[Node, ...]
    """Rows that leave the loop: results of the program, rows to be gathered, rows for later loops."""


@dataclass(frozen=True)
class Stages:
    """All phases of a program."""

    whole: tuple[tuple[Node, ...], ...]
    """The nodes of each whole phase, in order."""
    loops: tuple[tuple[Loop, ...], ...]
    """The loops between whole phase k and k + 1."""
    needed: tuple[Node, ...]
    """Every node that is computed at all, in order."""


def read_operands(node: Node) -> list[Node]:
    """The operands whose values `node` reads; an operand that gives only its lengths is none of them."""
    factors = node.op.factors
    if not node.inputs or node.op in COMMUNICATION or (isinstance(factors, str) and "~" not in factors):
        return list(node.inputs)
    skip = shape_only(node.op, tuple([one.types[0] for one in node.inputs]), node.attrs)
    return [one for index, one in enumerate(node.inputs) if index not in skip]


def is_whole_leaf(node: Node) -> bool:
    """Whether `node` is a leaf once more, as a whole beside its rows: its value is there, and nothing is gathered."""
    return node.op is GATHER and node.inputs[0].is_leaf


def stages(parts: Partitioned) -> Stages:
    """The phases of a partitioned graph."""
    needed = contract_early(_needed(parts), parts.partial)
    level: dict[Node, int] = {}
    for node in needed:
        own = max((level[one] for one in read_operands(node)), default=0)
        level[node] = own + (node.op in (COMBINE, GATHER) and not is_whole_leaf(node))
    last = max(level.values(), default=0)
    whole: list[list[Node]] = [[] for _ in range(last + 1)]
    for node in needed:
        if parts.mesh(node) is None and not node.is_leaf and not is_whole_leaf(node):
            whole[level[node]].append(node)
    loops = _Loops(parts, needed, level).run(last)
    return Stages(tuple(map(tuple, whole)), loops, tuple(needed))


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

    def __init__(self, parts: Partitioned, needed: list[Node], level: dict[Node, int]) -> None:
        self.parts, self.needed, self.level = parts, needed, level
        self.place = {node: number for number, node in enumerate(needed)}
        self.stored: set[Node] = set()

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
            meshes: dict[str, list[Node]] = {}
            for node, mesh in cut[number]:
                if node in self.parts.partial or node in outputs or node in gathered or node in self.stored:
                    meshes.setdefault(mesh, []).append(node)
            result.append(tuple(self._loop(number, mesh, targets) for mesh, targets in meshes.items()))
        return tuple(reversed(result))

    def _loop(self, number: int, mesh: str, targets: list[Node]) -> Loop:
        inside: set[Node] = set()
        loads: set[Node] = set()
        stack = list(targets)
        while stack:
            node = stack.pop()
            if node in inside or node in loads:
                continue
            earlier = self.level[node] < number
            if node.is_leaf or (earlier and node.op not in (SPREAD, BEFORE) and self._worth_storing(node)):
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
            tuple(order),
            tuple(sorted(loads, key=self.place.__getitem__)),
            tuple(node for node in order if node in self.parts.partial),
            tuple(node for node in targets if node not in self.parts.partial),
        )

    def _worth_storing(self, node: Node) -> bool:
        """Whether writing and reading back the rows of `node` is faster than computing them again.

        Of an op with several results each is stored by itself, but it is all of them or none: an op that is computed
        again for one gives the others as well.
        """
        made = node.inputs[0] if node.op is ITEM else node
        if made.op.view is not None or (made is node and len(node.types) > 1):
            return False
        seconds = 2 * sum(map(value_bytes, made.types)) / BYTES_PER_SECOND
        again = 0.0
        stack, seen = [made], set()
        while stack:
            one = stack.pop()
            if one in seen or one.is_leaf or self.parts.mesh(one) is None:
                continue
            seen.add(one)
            if one.op not in (SPREAD, BEFORE):
                again += one.op.flops * one.inferred().binding.points() / FLOPS_PER_SECOND
            if again > seconds:
                return True
            stack += read_operands(one)
        return False
