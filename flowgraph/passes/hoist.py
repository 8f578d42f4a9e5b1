"""hoist: a scalar factor leaves a contraction: sum(s * x) = s * sum(x), and (s * x) @ y = s * (x @ y).

The 1 / count of a mean reaches every row of the reverse pass; this takes it out of the loop over the rows.
"""

from __future__ import annotations

from flowgraph.graph import Graph, Node, make_node, value_bytes
from flowgraph.op import OPS
from flowgraph.types import Dim

_LINEAR = ("sum", "matmul")
"""Contractions that are linear in each operand."""
_VIEWS = ("expand_dims", "squeeze", "reshape", "transpose")
"""What a factor passes through unchanged."""


def hoist(graph: Graph) -> Graph:
    """The graph in which scalars multiply results of contractions, where no one else needs the operands scaled."""
    freed = _freed(graph)
    if not any(map(_factor, freed)):
        return graph
    owed: dict[Node, Node] = {}
    """For nodes of the old graph, the factor that what stands for them in the new one lacks."""

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
        factor = _factor(node) if node in freed else None
        if factor is not None:
            owed[node] = inputs[factor[0]]
            return inputs[factor[1]]
        new = node if inputs == node.inputs else make_node(node.op, inputs, node.attrs, node.where)
        for operand in node.inputs:
            if operand not in owed:
                continue
            if node in freed:
                owed[node] = owed[operand]
            else:
                new = make_node(OPS["multiply"], (owed[operand], new), (), node.where)
        return new

    return graph.rebuild(rule)


def _freed(graph: Graph) -> set[Node]:
    """The products by a scalar that nobody needs scaled before it contracts them, and what lies between."""
    users: dict[Node, list[Node]] = {node: [] for node in graph.nodes()}
    for node in users:
        for operand in node.inputs:
            users[operand].append(node)
    freed: set[Node] = set()
    outputs = set(graph.outputs)
    for node in reversed(users):
        movable = node not in outputs and (_factor(node) or node.op.name in _VIEWS)
        if movable and all((user in freed and user.op.name in _VIEWS) or _shrinks(user, node) for user in users[node]):
            freed.add(node)
    return freed


def _shrinks(user: Node, node: Node) -> bool:
    return user.op.name in _LINEAR and _size(user) < _size(node)


def _factor(node: Node) -> tuple[int, int] | None:
    """Which operands of a product are the scalar and the rest; None for all other nodes."""
    if node.op.name != "multiply" or node.type.dtype.kind != "f":
        return None
    for scalar, rest in ((0, 1), (1, 0)):
        if node.inputs[scalar].type.shape == () and node.inputs[rest].type == node.type:
            return scalar, rest
    return None


def _size(node: Node) -> tuple[int, int]:
    """The size of a result: first how many of its lengths are unknown, and so large, then its bytes."""
    return sum(isinstance(length, Dim) for length in node.type.shape), value_bytes(node.type)
