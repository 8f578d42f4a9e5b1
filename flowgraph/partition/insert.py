"""Communication where layouts disagree: the partitioned graph is the graph with `combine`, `gather`, `spread` nodes.

Their meaning:

    combine   partial results of a cut contraction become one
    gather    the pieces of a cut tensor become the whole
    spread    every piece takes its part of a whole
"""

from __future__ import annotations

from dataclasses import dataclass

from flowgraph.graph import ITEM, Graph, Node
from flowgraph.op import Op
from flowgraph.partition.layout import Cut, Layout, Layouts, picked


def _identity(x: object, **attrs: object) -> object:
    return x


COMBINE = Op("combine", "... -> ...", _identity, dtype="keep", doc="The one result of all partial ones.")
GATHER = Op("gather", "... -> ...", _identity, dtype="keep", doc="The whole of a cut tensor.")
SPREAD = Op("spread", "... -> ...", _identity, dtype="keep", doc="A whole tensor, of which every piece takes its part.")
COMMUNICATION = frozenset({COMBINE, GATHER, SPREAD})


@dataclass(frozen=True)
class Partitioned:
    """A graph with communication nodes, and the layout of every node."""

    graph: Graph
    """The nodes; their types are those of the whole tensors."""
    layouts: dict[Node, Layout]
    """How the result of each node is cut; the result of a contraction is partial until its combine."""
    partial: dict[Node, str]
    """The nodes whose results are partial, and the mesh axis over which they are."""
    origin: dict[Node, Node]
    """For each node, the node of the unpartitioned graph that it stands for."""

    def mesh(self, node: Node) -> str | None:
        """The mesh axis over which `node` works piece by piece; None: it works on the whole."""
        if node in self.partial:
            return self.partial[node]
        return next((cut.mesh for cut in self.layouts[node] if cut is not None), None)


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

    def run(self) -> Partitioned:
        for node in self.graph.nodes():
            self._place(node)
        outputs = [self.new[node] for node in self.graph.outputs]
        inputs = tuple(self.graph.inputs)
        for node in inputs:
            if node not in self.layouts:
                self.layouts[node] = self.found.produced(node)
        return Partitioned(Graph(inputs, tuple(outputs)), self.layouts, self.partial, self.origin)

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
        # An operand that gives its lengths alone is moved too. Nothing reads what was moved, so it is never computed,
        # but its lengths are those of the piece that the node works on.
        inputs = [
            self._moved(self.new[operand], self.found.required(node, index), node)
            for index, operand in enumerate(node.inputs)
        ]
        placed = (
            node if tuple(inputs) == node.inputs else Node(node.op, tuple(inputs), node.attrs, node.types, node.where)
        )
        self.layouts[placed] = self.found.produced(node)
        self.origin[placed] = node
        if self.found.contracts(node):
            self.partial[placed] = self.found.choices[node].cut.mesh
            placed = self._communicate(COMBINE, placed, self.layouts[placed])
        self.new[node] = placed

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


def rows_of(layout: Layout) -> tuple[int, Cut] | None:
    """The axis of `layout` that is cut, and its cut; None where none is."""
    return next(((axis, cut) for axis, cut in enumerate(layout) if cut is not None), None)
