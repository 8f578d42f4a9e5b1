"""cull: drop nodes that change nothing."""

from __future__ import annotations

from flowgraph.graph import ITEM, Graph, Node, make_node


def cull(graph: Graph) -> Graph:
    """The graph without identities: wishes about cuts (heard by now), casts and reshapes to what was there before.

    Nodes that no output needs are not in a graph to begin with: it is a walk from its outputs.
    """
    return graph.rebuild(_rule)


_TRANSPARENT = frozenset({"shard", "identity", "stop_gradient", "custom_gradient"})
"""They said their say: about rows before this pass, about gradients before any. Other axes are cut after it."""
_IDENTITIES = frozenset({"astype", "reshape", "broadcast_to", "broadcast_like", "getitem", "expand_dims", "squeeze"})


def _rule(node: Node, inputs: tuple[Node, ...]) -> Node:
    if node.op.name in _TRANSPARENT and len(node.types) == 1 and not node.attr("axes"):
        return inputs[0]
    if node.op is ITEM and inputs[0].op.name == "custom_gradient":
        results: tuple[Node, ...] = inputs[0].inputs
        return results[int(node.attr("index"))]
    same = node.op.name in _IDENTITIES and inputs[0].type == node.type
    if same and (node.op.name != "getitem" or all(part == ("slice", None, None, None) for part in node.attr("key"))):
        return inputs[0]
    return node if inputs == node.inputs else make_node(node.op, inputs, node.attrs, node.where)
