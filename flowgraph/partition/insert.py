"""Communication where layouts disagree: the partitioned graph is the graph with nodes that stand for it.

Their meaning:

    combine   partial results of a cut contraction become one
    gather    the pieces of a cut tensor become the whole
    spread    every piece takes its part of a whole
    before    every piece takes what enters it from those before it: what they carry, combined
    portion   some elements of partial results become one, for a lane that wants no more of them

Where an op runs along its cut axis, such as a cumulative sum, its pieces need what comes before them:

    x ─┬─ carry ─ combine ─ before ─┐
       └────────────────────────────┴─ cumulative_sum

The combined value has an entry for each tile. Tiles are a matter of the schedule, so the types of these three nodes are
those of the carry of one piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from flowgraph.graph import ITEM, Graph, Node
from flowgraph.op import Op, Types
from flowgraph.partition.layout import Layout, Layouts, picked
from flowgraph.partition.portions import portion, portion_of, unfolded


def _identity(x: object, **attrs: object) -> object:
    return x


def _communication(name: str, doc: str, **fields: Any) -> Op:
    return Op(name, "... -> ...", _identity, dtype="keep", flops=0, doc=doc, **fields)


COMBINE = _communication("combine", "The one result of all partial ones.")
GATHER = _communication("gather", "The whole of a cut tensor.")
SPREAD = _communication("spread", "A whole tensor, of which every piece takes its part.")
BEFORE = _communication(
    "before", "What enters every piece from those before it.", attrs=lambda x, /, backward: {"backward": backward}
)
COMMUNICATION = frozenset({COMBINE, GATHER, SPREAD, BEFORE})


class Partitioned(NamedTuple):
    """A graph with communication nodes, and the layout of every node."""

    graph: Graph
    """The nodes; their types are those of the whole tensors."""
    layouts: dict[Node, Layout]
    """How the result of each node is cut; the result of a contraction is partial until its combine."""
    partial: dict[Node, str]
    """The nodes whose results are partial, and the mesh axis over which they are."""
    origin: dict[Node, Node]
    """For each node, the node of the unpartitioned graph that it stands for."""
    carries: frozenset[Node] = frozenset()
    """The nodes that compute what pieces of a running axis hand on."""
    recompute: bool = False
    """Whether a loop computes rows again that an earlier one of its lane could store for it."""

    def mesh(self, node: Node) -> str | None:
        """The mesh axis over which `node` works piece by piece; None: it works on the whole."""
        if node in self.partial:
            return self.partial[node]
        for cut in self.layouts[node]:
            if cut is not None:
                return cut.mesh
        return None


def insert(graph: Graph, found: Layouts) -> Partitioned:
    """`graph` with communication nodes wherever an operand does not come in the layout that its user wants."""
    return _Inserter(graph, found).run()


class _Inserter:
    def __init__(self, graph: Graph, found: Layouts) -> None:
        self.graph, self.found = graph, found
        self.new: dict[Node, Node] = {}
        self.layouts: dict[Node, Layout] = {}
        self.partial: dict[Node, str] = {}
        self.origin: dict[Node, Node] = {}
        self.made: dict[tuple[Op, Node, Layout], Node] = {}
        self.carries: set[Node] = set()

    def run(self) -> Partitioned:
        for node in self.graph.nodes():
            self._place(node)
        outputs = [self.new[node] for node in self.graph.outputs]
        inputs = tuple(self.graph.inputs)
        for node in inputs:
            if node not in self.layouts:
                self.layouts[node] = self.found.produced(node)
        return Partitioned(
            Graph(inputs, tuple(outputs)), self.layouts, self.partial, self.origin, frozenset(self.carries)
        )

    def _place(self, node: Node) -> None:
        if node.is_leaf:
            self.new[node] = node
            self.layouts[node] = self.found.produced(node)
            return
        if node.op is ITEM:  # it lies as its operand does, which is no tensor and can not be moved
            placed = Node(ITEM, (self.new[node.inputs[0]],), node.attrs, node.types, node.where)
            self.layouts[placed] = self.found.produced(node.inputs[0], picked(node))
            self.origin[placed] = node
            self.new[node] = placed
            return
        taken = self._portion(node)
        if taken is not None:
            self.new[node] = taken
            self.layouts[taken] = (None,)
            self.origin[taken] = node
            return
        # An operand that gives its lengths alone is moved too. Nothing reads what was moved, so it is never computed,
        # but its lengths are those of the piece that the node works on.
        inputs = [
            self._moved(self.new[operand], self.found.required(node, index), node)
            for index, operand in enumerate(node.inputs)
        ]
        if self.found.runs(node):  # it is none of the nodes that the schedule knows: its kernel takes one more operand
            inputs.append(self._before(node, inputs))
            placed = Node(_following(node.op), tuple(inputs), node.attrs, node.types, node.where)
            self.layouts[placed] = self.found.produced(node)
            self.new[node] = placed
            return
        placed = (
            node if tuple(inputs) == node.inputs else Node(node.op, tuple(inputs), node.attrs, node.types, node.where)
        )
        self.layouts[placed] = self.found.produced(node)
        self.origin[placed] = node
        if self.found.contracts(node):
            self.partial[placed] = self.found.choices[node].cut.mesh
            placed = self._communicate(COMBINE, placed, self.layouts[placed])
        self.new[node] = placed

    def _portion(self, node: Node) -> Node | None:
        """A run of what partial results become, as a node that combines no more than this."""
        span = portion_of(node)
        if span is None:
            return None
        source = unfolded(self.new[node.inputs[0]])
        if source.op is not COMBINE:
            return None
        (partial,) = source.inputs
        lengths = all(isinstance(length, int) for length in partial.type.shape)
        if not lengths or partial in self.carries or len(partial.types) > 1 or not isinstance(partial.op.combine, str):
            return None
        return portion(partial, *span, node)

    def _before(self, node: Node, inputs: list[Node]) -> Node:
        """What enters each piece of `node`, whose operands are `inputs`."""
        assert node.op.carry is not None
        carry = Node(_carrying(node.op), tuple(inputs), node.attrs, node.types, node.where)
        self.layouts[carry] = (None,) * node.type.ndim
        self.partial[carry] = self.found.choices[node].cut.mesh
        self.carries.add(carry)
        combined = self._communicate(COMBINE, carry, self.layouts[carry])
        backward = node.op.carry.backward(dict(node.attrs))
        before = Node(BEFORE, (combined,), (("backward", backward),), node.types, node.where)
        self.layouts[before] = self.found.produced(node)
        return before

    def _moved(self, node: Node, want: Layout, user: Node) -> Node:
        """`node` in layout `want`."""
        have = self.layouts[node]
        if have == want:
            return node
        if any(have):
            node = self._communicate(GATHER, node, (None,) * len(have))
        return self._communicate(SPREAD, node, want) if any(want) else node

    def _communicate(self, op: Op, node: Node, layout: Layout) -> Node:
        key = (op, node, layout)
        if key not in self.made:
            made = Node(op, (node,), (), node.types, node.where)
            self.layouts[made] = layout
            self.made[key] = made
        return self.made[key]


@cache
def _carrying(op: Op) -> Op:
    """The op that computes what a piece of a running axis hands on."""
    assert op.carry is not None
    fields = {"attrs": _as_they_are, "dtype": "keep", "combine": op.carry.pieces, "flops": op.flops}
    return Op(f"{op.name}_carry", op.factors, op.kernel, **fields)


@cache
def _following(op: Op) -> Op:
    """`op` with what enters the piece as its last operand."""

    def factors(types: Types, attrs: Mapping[str, Any]) -> str:
        operands, _, result = op.rule(types[:-1], attrs).text.partition("->")
        return f"{operands}, {result} -> {result}"

    return op.with_fields(factors=factors, attrs=_as_they_are, dtype="keep", call=None)


def _as_they_are(*operands: object, **attrs: object) -> Mapping[str, object]:
    return attrs
