"""Stages: the partitioned graph in phases.

    whole 0 ─▶ loop 0 ─▶ whole 1 ─▶ loop 1 ─▶ ... ─▶ whole n

A whole phase computes what has no rows; a loop walks the rows in tiles. A result that was combined or gathered from
loop k is known from whole phase k + 1 on; a loop that needs an earlier loop's rows computes them again or reads them
back, by an estimate of the time.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from flowgraph.factors import Binding
from flowgraph.graph import Node, value_bytes
from flowgraph.op import shape_only
from flowgraph.partition import COMBINE, COMMUNICATION, GATHER, SPREAD, Partitioned

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


def stages(parts: Partitioned) -> Stages:
    """The phases of a partitioned graph."""
    needed = contract_early(_needed(parts), parts.partial)
    level: dict[Node, int] = {}
    for node in needed:
        own = max((level[one] for one in read_operands(node)), default=0)
        level[node] = own + (node.op in (COMBINE, GATHER))
    last = max(level.values(), default=0)
    whole: list[list[Node]] = [[] for _ in range(last + 1)]
    for node in needed:
        if parts.mesh(node) is None and not node.is_leaf:
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
    inside = set(order)
    done: dict[Node, None] = {}
    waiting = [node for node in order if node in partial]
    missing: list[int] = []  # for each that waits, how many nodes must be computed first
    users: dict[Node, list[int]] = {}  # those that wait for a node, by their numbers
    sources = _sources(order)
    for number, node in enumerate(waiting):
        needs = set().union(*[sources.get(one, ()) for one in read_operands(node)])
        missing.append(len(needs))
        for one in needs:
            users.setdefault(one, []).append(number)
    ready = [number for number, count in enumerate(missing) if not count]

    def emit(wanted: Node) -> None:
        stack = [wanted]
        while stack:
            node = stack[-1]
            before = [one for one in read_operands(node) if one in inside and one not in done]
            if before:
                stack += reversed(before)
                continue
            stack.pop()
            if node not in done:
                done[node] = None
                for number in users.get(node, ()):
                    missing[number] -= 1
                    if not missing[number]:
                        ready.append(number)

    for node in order:
        if node not in done:
            emit(node)
        found, ready[:] = sorted(ready), []
        for number in found:
            if waiting[number] not in done:
                emit(waiting[number])
    return list(done)


def _sources(order: Sequence[Node]) -> dict[Node, frozenset[Node]]:
    """For each node what must be computed before it is known: itself, or what it is a different look at."""
    found: dict[Node, frozenset[Node]] = {}
    for node in order:
        if node.op.view is None:
            found[node] = frozenset((node,))
        else:
            found[node] = frozenset().union(*[found.get(one, ()) for one in read_operands(node)])
    return found


class _Loops:
    """Finds what each loop computes, from the last loop to the first: a later one may ask an earlier one to store."""

    def __init__(self, parts: Partitioned, needed: list[Node], level: dict[Node, int]) -> None:
        self.parts, self.needed, self.level = parts, needed, level
        self.stored: set[Node] = set()
        self.bindings: dict[Node, Binding] = {}

    def run(self, last: int) -> tuple[tuple[Loop, ...], ...]:
        outputs = set(self.parts.graph.outputs)
        gathered = {node.inputs[0] for node in self.needed if node.op is GATHER}
        result = []
        for number in range(last, -1, -1):
            meshes: dict[str, list[Node]] = {}
            for node in self.needed:
                mesh = self.parts.mesh(node)
                if mesh is None or self.level[node] != number or (node.is_leaf and node not in gathered):
                    continue
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
            if node.is_leaf or (earlier and node.op is not SPREAD and self._worth_storing(node)):
                loads.add(node)
                if not node.is_leaf:
                    self.stored.add(node)
                continue
            inside.add(node)
            stack += [one for one in read_operands(node) if self.parts.mesh(one) is not None]
        order = [node for node in self.needed if node in inside]
        return Loop(
            number,
            mesh,
            tuple(order),
            tuple(node for node in self.needed if node in loads),
            tuple(node for node in order if node in self.parts.partial),
            tuple(node for node in targets if node not in self.parts.partial),
        )

    def _worth_storing(self, node: Node) -> bool:
        """Whether writing and reading back the rows of `node` is faster than computing them again."""
        if node.op.view is not None:
            return False
        seconds = 2 * value_bytes(node.type) / BYTES_PER_SECOND
        again = 0.0
        stack, seen = [node], set()
        while stack:
            one = stack.pop()
            if one in seen or one.is_leaf or self.parts.mesh(one) is None:
                continue
            seen.add(one)
            if one.op is not SPREAD:
                again += one.op.flops * one.inferred().binding.points() / FLOPS_PER_SECOND
            stack += read_operands(one)
        return again > seconds
