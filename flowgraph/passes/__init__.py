"""The passes: each maps a graph to a graph of the same meaning with less work in it."""

from __future__ import annotations

from flowgraph.graph import Graph, Node
from flowgraph.ops.body import Body
from flowgraph.passes.bodies import inside, prune
from flowgraph.passes.cull import cull
from flowgraph.passes.fold import fold
from flowgraph.passes.hoist import hoist
from flowgraph.passes.share import share
from flowgraph.passes.simplify import simplify
from flowgraph.passes.sink import Sunk, sink

__all__ = ["Sunk", "cull", "fold", "hoist", "inside", "optimise", "prune", "share", "simplify", "sink"]


def optimise(graph: Graph) -> Graph:
    """`graph` after all passes. Sharing comes first and last: it makes equal nodes one, which lets rules see them.

    Folding comes again after `simplify`, whose rules bring scalars together.
    """
    bodies = any(isinstance(value, Body) for node in graph for _, value in node.attrs)
    checked: set[Node] = set()
    graph.check(checked)
    for one in (cull, *([prune] if bodies else []), share, fold, simplify, hoist, fold, share):
        found = one(graph)
        graph = graph if found is graph else found.check(checked)
    return inside(graph, optimise).check(checked) if bodies else graph
