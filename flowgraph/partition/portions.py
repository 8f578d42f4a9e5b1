"""Portions: what a lane takes of a whole result, taken as early as it can be.

The state of an optimizer may be cut over lanes while its weight is not. Each lane then wants its portion of the
gradient, a run of its elements in C order, and not all of it:

    (s * combine(g) + d * w)[a:b]       is       s * portion(g, a, b) + d * w[a:b]

A portion of a combined result is combined by itself: of all partial results only these elements are sent, and no task
holds the whole. That is what others call a reduce-scatter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowgraph.graph import Graph, Node, lane_of, make_node, settle
from flowgraph.op import OPS, Op, is_placed
from flowgraph.types import static_size, tensor_type

FLAT = ("reshape", "expand_dims", "squeeze")
"""Ops that keep all elements and their order."""
_ELEMENTWISE = ("... -> ...", "..., ... -> ...", "..., ..., ... -> ...")


def _portion(x: Any, start: int, stop: int) -> Any:
    return x.reshape(-1)[start:stop]


PORTION = Op(
    "portion",
    lambda types, attrs: f"{' '.join(f'[i{axis}]' for axis in range(types[0].ndim))} -> [s]",
    _portion,
    attrs=lambda x, /, start, stop, shape: {"shape": shape, "start": start, "stop": stop},
    dtype="keep",
    view=lambda types, attrs: f"{{0}}.reshape(-1)[{attrs['start']}:{attrs['stop']}]",
    doc="A run of the elements of the one result of all partial ones.",
)


def narrow(graph: Graph) -> Graph:
    """`graph` with the portions that lanes take of flat tensors taken before what is computed element by element."""
    if not any(portion_of(node) for node in graph):
        return graph
    return graph.rebuild(_Narrowing().rule)


def portion_of(node: Node) -> tuple[int, int] | None:
    """(start, stop), where `node` is a run of a flat tensor that a lane takes; None for any other node."""
    if node.op.name != "getitem" or not lane_of(node) or node.inputs[0].type.ndim != 1 or node.type.ndim != 1:
        return None
    (entry,) = node.attr("key")
    length = node.inputs[0].type.shape[0]
    if not isinstance(entry, tuple) or entry[0] != "slice" or entry[3] not in (None, 1) or not isinstance(length, int):
        return None
    start, stop, _ = slice(*entry[1:]).indices(length)
    return start, max(start, stop)


_Run = tuple[Node, int, int]
"""A run of the elements of a tensor: the tensor, start, stop."""


class _Narrowing:
    def __init__(self) -> None:
        self.made: dict[Any, dict[_Run, Node]] = {}
        """For each lane, the runs that it takes."""

    def rule(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        """The rule of the pass."""
        new = node if inputs == node.inputs else make_node(node.op, inputs, node.attrs, node.where)
        span = portion_of(new)
        if span is None:
            return new
        made = self.made.setdefault(lane_of(new), {})
        taken: Node = settle((new.inputs[0], *span), made, _needs, lambda run: _taken(run, made, new.where))
        return taken


def _needs(run: _Run) -> list[_Run]:
    """The runs that a run is computed from; none where it is taken of what is there."""
    x, start, stop = unfolded(run[0]), *run[1:]
    if x.op.name == "concat" and x.type.ndim == 1:
        first = 0
        for one in x.inputs:
            count = one.type.shape[0]
            if not isinstance(count, int):
                break
            if first <= start and stop <= first + count and (start < stop or count == 0):
                return [(one, start - first, stop - first)]
            first += count
    return [(one, start, stop) for one in x.inputs if one.type.shape != ()] if _is_elementwise(x) else []


def _taken(run: _Run, made: Mapping[_Run, Node], where: Any) -> Node:
    """A run as a node, where those that it needs are `made`."""
    x, start, stop = unfolded(run[0]), *run[1:]
    needs = _needs(run)
    if needs and x.op.name == "concat":
        return made[needs[0]]
    if needs:
        operands = [one if one.type.shape == () else made[one, start, stop] for one in x.inputs]
        return make_node(x.op, tuple(operands), x.attrs, where)
    if x.type.ndim == 1 and x.type.shape[0] == stop - start:
        return x
    flat = x
    if x.type.ndim != 1:
        flat = make_node(OPS["reshape"], (x,), (("shape", (static_size(x.type.shape),)),), where)
    return make_node(OPS["getitem"], (flat,), (("key", (("slice", start, stop, None),)),), where)


def unfolded(x: Node) -> Node:
    """What `x` looks at, where that has the same elements in the same order."""
    while x.op.name in FLAT:
        x = x.inputs[0]
    return x


def _is_elementwise(node: Node) -> bool:
    """Whether each element of `node` is made of those at its place, and of scalars."""
    if node.op.factors not in _ELEMENTWISE or node.op.name == "shard" or node.type.shape == ():
        return False
    return not is_placed(node.op) and all(one.type.shape in (node.type.shape, ()) for one in node.inputs)


def portion(partial: Node, start: int, stop: int, like: Node) -> Node:
    """The elements from `start` to `stop` of what the partial results of a node become, for the lane of `like`."""
    attrs = (("shape", (stop - start,)), ("start", start), ("stop", stop))
    return Node(PORTION, (partial,), attrs, (tensor_type((stop - start,), partial.type.dtype),), like.where)
