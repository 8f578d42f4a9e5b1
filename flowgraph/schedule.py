"""The schedule: what decides bits. Tile size, merge leaf, the numpy call of each node; fixed by the program alone.

It is made on the whole optimised graph, before anything is cut, so that no later choice about shards, workers or
threads can reach the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from flowgraph.graph import Graph, Node, value_bytes
from flowgraph.op import Call, Monoid

TILE_BYTES = 4 << 20
"""What the tensors of a tile that are alive at the same time may take: they stay in the level-3 cache.

Half as much would stay in level 2, but calls on shorter tiles end sooner, and threads that wait for the interpreter's
lock sleep (measured: 2 MB, up to 12% slower on two threads).
"""
TILE_ROWS = (64, 32_768)
"""The smallest and the largest tile."""
HEAVY_BYTES = 1 << 20
"""Partial results or whole operands of a product from this size on cost more than a small tile's rows ..."""
HEAVY_ROWS = 1024
"""... so that a tile must have at least so many."""
LEAF_BUDGET_BYTES = 64 << 20
"""Above so many bytes of partial results there are at most 64 leaves; below, leaves may be as many as fit in them."""


class Schedule(NamedTuple):
    """What decides bits, for one program."""

    tile: Mapping[str, int]
    """The rows of a tile, for each row factor: a power of two."""
    partial_bytes: Mapping[str, int]
    """The bytes of all partial results of a tile."""
    calls: Mapping[Node, Call | None]
    """The numpy call of each node; None: its kernel is called as it is."""

    def leaf_tiles(self, mesh: str, rows: int) -> int:
        """How many consecutive tiles are added in order before partial results merge in a tree: a power of two."""
        tiles = -(-rows // self.tile[mesh])
        most = max(LEAF_BUDGET_BYTES // max(self.partial_bytes[mesh], 1), 64)
        leaf = 1
        while tiles > most * leaf:
            leaf *= 2
        return leaf


def schedule(
    graph: Graph, meshes: Mapping[Node, str], partial: Mapping[Node, str], lengths: Mapping[str, int] | None = None
) -> Schedule:
    """The schedule of `graph`; `meshes` says over which row factor a node's result is cut, `partial` which are partial.

    `lengths` are the numbers of rows where the types of the graph contain them; unknown ones count as 1 anyway.
    """
    calls = calls_of(graph)
    tile, nbytes = {}, {}
    for mesh in dict.fromkeys([*meshes.values(), *partial.values()]):
        own = [node for node, where in partial.items() if where == mesh]
        nbytes[mesh] = sum(value_bytes(one) for node in own for one in node.types)
        heavy = nbytes[mesh] >= HEAVY_BYTES or _heavy_operand(graph, meshes, mesh) >= HEAVY_BYTES
        known = max((lengths or {}).get(mesh, 1), 1)  # there may be no rows at all
        rows = _nearest_power(TILE_BYTES / max(_row_bytes(graph, meshes, mesh) / known, 1))
        low = HEAVY_ROWS if heavy else TILE_ROWS[0]
        tile[mesh] = min(max(rows, low), TILE_ROWS[1])
    return Schedule(tile, nbytes, calls)


def calls_of(graph: Graph) -> dict[Node, Call | None]:
    """The numpy call of each node of a graph; None: its kernel is called as it is."""
    return {node: _call(node) for node in graph.nodes() if not node.is_leaf}


def _nearest_power(number: float) -> int:
    return 1 << max(round(math.log2(number)), 0)


def _row_bytes(graph: Graph, meshes: Mapping[Node, str], mesh: str) -> int:
    """The most bytes a row that are alive at a time, when nodes are computed in order and die with their last user."""
    order = graph.nodes()
    last: dict[Node, int] = {}
    for position, node in enumerate(order):
        for operand in node.inputs:
            last[operand] = position
    for node in graph.outputs:
        last[node] = len(order)
    alive = peak = 0
    dying: dict[int, int] = {}
    for position, node in enumerate(order):
        if meshes.get(node) == mesh and node.op.view is None:
            width = sum(map(value_bytes, node.types))  # an unknown length counts as 1: the bytes of a row
            alive += width
            end = last.get(node, position)
            dying[end] = dying.get(end, 0) + width
        peak = max(peak, alive)
        alive -= dying.pop(position, 0)
    return peak


def _heavy_operand(graph: Graph, meshes: Mapping[Node, str], mesh: str) -> int:
    """The bytes of the largest whole operand of a product with rows: each tile reads it again."""
    sizes = [0]
    for node in graph.nodes():
        if meshes.get(node) == mesh and node.op.flops >= 2 and node.op.combine is not None:
            sizes += [value_bytes(one.type) for one in node.inputs if meshes.get(one) is None]
    return max(sizes)


def _call(node: Node) -> Call | None:
    """The numpy call that kernels emit for `node`."""
    op = node.op
    if op.view is not None or (isinstance(op.combine, Monoid) and op.call is None):
        return None
    if op.call is not None:
        return op.call(tuple(one.type for one in node.inputs), dict(node.attrs))
    if isinstance(op.kernel, np.ufunc) and not node.attrs:
        operands = ", ".join(f"{{{index}}}" for index in range(len(node.inputs)))
        out = "out={out}" if op.kernel in (np.maximum, np.minimum) else "{out}"  # these two want it by name
        return Call(f"{{f}}({operands}, {out})", {"f": op.kernel}, in_place=True)
    return None
