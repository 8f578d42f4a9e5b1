"""fold: compute at once what depends on constants alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowgraph.graph import Graph, Node, call_kernel, make_node
from flowgraph.op import OPS
from flowgraph.types import Dim


def fold(graph: Graph) -> Graph:
    """The graph in which scalars made of constants are constants. Draws are never folded: their key is an input."""
    return graph.rebuild(_rule)


def _rule(node: Node, inputs: tuple[Node, ...]) -> Node:
    if node.type.shape == () and node.op.name != "constant" and len(node.types) == 1:
        if node.op.name == "size":
            shape = [inputs[0].type.shape[axis] for axis in node.attr("axes")]
            if not any(isinstance(length, Dim) for length in shape):
                return _constant(np.asarray(math.prod(shape)), node)
        elif node.op.pure and all(one.op.name == "constant" for one in inputs):
            with np.errstate(all="ignore"):
                values = [np.asarray(one.attr("value"), one.type.dtype) for one in inputs]
                (result,) = call_kernel(node, values)
            return _constant(np.asarray(result, node.type.dtype), node)
    return node if inputs == node.inputs else make_node(node.op, inputs, node.attrs, node.where)


def _constant(value: np.ndarray[Any, Any], node: Node) -> Node:
    held = value.astype(node.type.dtype).item()
    return make_node(OPS["constant"], (), (("dtype", node.type.dtype), ("value", held)), node.where)
