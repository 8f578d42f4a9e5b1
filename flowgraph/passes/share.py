"""share: compute equal things once (common subexpressions)."""

from __future__ import annotations

from typing import Any

from flowgraph.graph import Graph, Node, make_node


def share(graph: Graph) -> Graph:
    """The graph in which nodes with the same op, attributes and operands are one node."""
    seen: dict[Any, Node] = {}

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
        key = (node.op, inputs, node.attrs)
        if key not in seen:
            same = inputs == node.inputs
            seen[key] = node if same else make_node(node.op, inputs, node.attrs, node.where)
        return seen[key]

    return graph.rebuild(rule)
