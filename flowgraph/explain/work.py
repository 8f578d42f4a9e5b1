"""Work: how much a task computes, how long that takes, and what memory it needs beside what it is given and returns.

Times are rough: numbers of operations over rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from flowgraph.explain.forms import Call, Forms, evaluated
from flowgraph.graph import Node
from flowgraph.kernel import LoopStage, WholeStage
from flowgraph.kernel.names import MESH_NUMBER
from flowgraph.machine import Rates
from flowgraph.partition import COMMUNICATION
from flowgraph.watch import size_of


@dataclass(frozen=True)
class Cost:
    """What one task does."""

    flops: float = 0.0
    seconds: float = 0.0
    working: int = 0
    """The bytes that it needs beside its operands and its result."""


class Work:
    """The cost of every task of a lowered program."""

    def __init__(self, forms: Forms, rates: Rates) -> None:
        self.forms, self.rates = forms, rates
        self.program, self.bound = forms.program, forms.bound
        self._known: dict[tuple[int, int], tuple[float, float]] = {}

    def of(self, key: Any) -> Cost:
        """The cost of a task."""
        if key not in self.forms.work:
            size = size_of(self.forms.found[key])
            return Cost(seconds=size / self.rates.memory if "-join" in str(key[0]) else 0.0)
        own = self.forms.work[key]
        taken = [self._flops(call.stage, call.rows) for call in own]
        flops, seconds = (sum(one) for one in zip(*taken, strict=True))
        return Cost(flops, seconds, max(map(self._working, own)))

    # Time.

    def _flops(self, stage: Any, rows: int) -> tuple[float, float]:
        known = (id(stage), rows)
        if known not in self._known:
            flops = seconds = 0.0
            nodes = self._nodes(stage)
            for node in nodes:
                count = self._points(node, stage, rows) * node.op.flops
                product = node.op.combine == "add" and node.op.flops >= 2
                flops += count
                seconds += count / (self.rates.flops if product else self.rates.elementwise)
            tiles = -(-rows // self._tile(stage)) if isinstance(stage, LoopStage) else 1
            calls = sum(node.op.view is None and node.op not in COMMUNICATION for node in nodes)
            read = sum(self._row_bytes(one.node, rows) for one in getattr(stage, "rows", ()))
            self._known[known] = flops, seconds + read / self.rates.memory + calls * tiles * self.rates.call
        return self._known[known]

    def _nodes(self, stage: Any) -> Sequence[Node]:
        if isinstance(stage, LoopStage):
            return stage.loop.nodes
        nodes = stage.phase.nodes if isinstance(stage, WholeStage) else self.program.phases.needed
        return [node for node in nodes if not node.is_leaf]

    def _points(self, node: Node, stage: Any, rows: int) -> float:
        """The points of the box of a node's factors: of a shard, where it works on one."""
        if node.op.view is not None or not node.op.flops:
            return 0.0
        mesh = stage.loop.mesh if isinstance(stage, LoopStage) else None
        total = self.bound.rows.get(mesh, 1) if mesh is not None else 1
        result, left = 1.0, rows / max(total, 1) if mesh is not None and self.program.parts.mesh(node) == mesh else 1.0
        for size in node.inferred().binding.sizes.values():
            result *= self.forms.lengths.length(size)
        return result * left

    def _row_bytes(self, node: Node, rows: int) -> int:
        return prod(self.forms.lengths.local(node, rows)) * int(node.type.dtype.itemsize)

    def _tile(self, stage: LoopStage) -> int:
        return int(self.program.plan.tile[stage.loop.mesh])

    # Memory.

    def _working(self, call: Call) -> int:
        stage = call.stage
        names = {f"N{MESH_NUMBER[mesh]}": count for mesh, count in self.bound.rows.items()}
        names |= {f"n{MESH_NUMBER[mesh]}": count for mesh, count in self.bound.rows.items()}
        if isinstance(stage, LoopStage):
            number, first = MESH_NUMBER[stage.loop.mesh], min(self._tile(stage), call.rows)
            names |= {f"n{number}": first, f"most{number}": first, "rows": call.rows}
        taken: int = sum(evaluated(count, names) * width for count, width in stage.kernel.allocated)
        if isinstance(stage, LoopStage):
            return taken + self._stack(stage, call)
        own = size_of(call.results)  # they lie in what the kernel took
        return max(taken - own, 0) + sum(map(size_of, call.completed))

    def _stack(self, stage: LoopStage, call: Call) -> int:
        """The partial results that a loop holds beside those that it returns, at the worst moment."""
        states, rows = self.forms.states[stage.loop], call.rows
        if not states.counts or not rows:
            return 0
        leaf = self.bound.leaf_tiles[stage.loop.mesh]
        one = size_of(states.state(0, min(leaf, -(-rows // self._tile(stage))), min(self._tile(stage), rows)))
        leaves = -(-rows // (self._tile(stage) * leaf))
        returned = len(call.results[0] if isinstance(call.results, tuple) else call.results)
        most = leaves.bit_length()  # as many subtrees as a binary counter has digits
        return one * (max(most - returned, 0) + (leaf > 1 and leaves > 1))
