"""Cuts that belong to the program: a tensor cut over a logical mesh axis becomes as many tensors, its work as many nodes.

Rows are cut over shards after everything that decides bits, and no kernel knows. A weight, or any factor but the rows,
is cut here, before: the graph that comes out is an ordinary one, in which

    h = tanh(x @ w)                 h0 = tanh(x @ w0)   h1 = tanh(x @ w1)        two lanes
    y = h @ v              is       y  = h0 @ v0 + h1 @ v1                       and what they have in common

and whose bits follow from the number of pieces, never from the number of workers that carry them. The nodes of a piece
share a *lane*; the stages of a lane are tasks of their own, and what a lane updates stays with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from flowgraph.context import Origin, in_lane
from flowgraph.factors import Binding
from flowgraph.graph import Graph, Node, make_node
from flowgraph.op import OPS, kernel_parameters
from flowgraph.ops.body import Body
from flowgraph.partition.layout import Choice, Cut, Layout, Layouts, legal_factors, propagate, trailing
from flowgraph.types import tensor_type

Bounds = tuple[tuple[int, int], ...]
"""The (start, stop) of each piece along an axis."""

_COMBINES = {
    "add": "add",
    "multiply": "multiply",
    "maximum": "maximum",
    "minimum": "minimum",
    "and": "logical_and",
    "or": "logical_or",
}
"""For each named way to combine partial results, the op that does it."""


@dataclass(frozen=True)
class Part:
    """What an input of a split graph holds: a part of an input of the graph before."""

    number: int
    """Which input it is of."""
    slices: tuple[tuple[int, int, int], ...] = ()
    """(axis, start, stop) of each cut; none for all of it."""


@dataclass(frozen=True)
class Join:
    """How an output of the graph before is made of outputs of a split graph."""

    numbers: tuple[int, ...]
    """The outputs it is made of."""
    axis: int = 0
    """The axis along which they are joined."""


@dataclass(frozen=True)
class Split:
    """A graph in which one logical axis became nodes."""

    graph: Graph
    inputs: tuple[Part, ...]
    """For each input, what it is a part of."""
    outputs: tuple[Join, ...]
    """For each output of the graph before, what it is made of."""


def split(graph: Graph, mesh: str, pieces: int, seeds: Mapping[Node, Layout]) -> Split:
    """`graph` with the cuts of `seeds` over the axis `mesh`, and all that follows from them, as nodes: `pieces` each."""
    return _Splitter(graph, mesh, pieces, propagate(graph, seeds, splittable)).run()


def splittable(node: Node, binding: Binding) -> frozenset[str]:
    """The factors of `node` along which it may become several nodes.

    Not where the kernel asks for its place in the whole, holds a graph of its own or gives several results: such nodes
    work on the whole.
    """
    asks = kernel_parameters(node.op.kernel) & {"at", "operand_shapes", "result_shapes"}
    if asks or len(node.types) > 1 or any(isinstance(value, Body) for _, value in node.attrs):
        return frozenset()
    legal = legal_factors(node, binding)
    if not isinstance(node.op.combine, str):
        legal -= binding.contracted()
    return frozenset(one for one in legal if isinstance(binding.sizes[one], int))


@dataclass
class _Value:
    """A tensor of the graph before: as one node, as pieces, or as both."""

    whole: Node | None = None
    axis: int = 0
    bounds: Bounds = ()
    pieces: tuple[Node, ...] = ()


class _Splitter:
    def __init__(self, graph: Graph, mesh: str, count: int, found: Layouts) -> None:
        self.graph, self.mesh, self.count, self.found = graph, mesh, count, found
        self.values: dict[Node, _Value] = {}
        self.sliced: dict[tuple[Node, int, tuple[int, int]], Node] = {}

    def run(self) -> Split:
        inputs: list[Node] = []
        parts: list[Part] = []
        for number, leaf in enumerate(self.graph.inputs):
            value = self.values[leaf] = self._leaf(leaf)
            inputs += value.pieces or (leaf,)
            parts += [Part(number, ((value.axis, *span),)) for span in value.bounds] or [Part(number)]
        for node in self.graph.nodes():
            if not node.is_leaf:
                self.values[node] = self._node(node)
        outputs: list[Node] = []
        joins = []
        for node in self.graph.outputs:
            value = self.values[node]
            own = value.pieces or (self._whole(node),)
            joins.append(Join(tuple(range(len(outputs), len(outputs) + len(own))), value.axis))
            outputs += own
        return Split(Graph(tuple(inputs), tuple(outputs)), tuple(parts), tuple(joins))

    def _leaf(self, leaf: Node) -> _Value:
        """A variable comes in pieces, each where its work is; of data every lane takes its part of a tile."""
        layout = self.found.produced(leaf)
        axis = next((axis for axis, cut in enumerate(layout) if cut is not None), None)
        if axis is None or leaf.attr("kind") != "variable":
            return _Value(leaf)
        cut = layout[axis]
        assert cut is not None
        bounds = even(leaf.type.shape[axis], cut.times, self.count)
        return _Value(None, axis, bounds, tuple(self._part(leaf, axis, span, n) for n, span in enumerate(bounds)))

    def _part(self, leaf: Node, axis: int, span: tuple[int, int], number: int) -> Node:
        start, stop = span
        shape = (*leaf.type.shape[:axis], stop - start, *leaf.type.shape[axis + 1 :])
        made = Node(leaf.op, (), leaf.attrs, (tensor_type(shape, leaf.type.dtype),), self._lane(leaf, number))
        made.symbolic = leaf.symbolic
        return made

    def _lane(self, node: Node, number: int) -> Origin:
        return in_lane(node.where, self.mesh, number)

    def _node(self, node: Node) -> _Value:
        choice = self.found.choices.get(node)
        if choice is None:
            return _Value(self._again(node, [self._whole(one) for one in node.inputs], node.attrs, node.where))
        binding = self.found.bindings[node]
        length = binding.sizes[choice.factor]
        spans = even(length, 1, self.count)
        pieces = [self._piece(node, choice, binding, span, number) for number, span in enumerate(spans)]
        if self.found.contracts(node):
            return _Value(
                self._combined(
                    node, [p for p, (start, stop) in zip(pieces, spans, strict=True) if stop > start] or pieces[:1]
                )
            )
        axis = next(n for n, one in enumerate(binding.results[0]) if one.factors[:1] == (choice.factor,))
        times = trailing(binding.results[0][axis], binding)
        return _Value(None, axis, tuple((a * times, b * times) for a, b in spans), tuple(pieces))

    def _piece(self, node: Node, choice: Choice, binding: Binding, span: tuple[int, int], number: int) -> Node:
        """`node` on one piece of its cut factor."""
        where = self._lane(node, number)
        operands = []
        for operand, axes in zip(node.inputs, binding.operands, strict=True):
            axis = next((n for n, one in enumerate(axes) if one.factors[:1] == (choice.factor,)), None)
            if axis is None:
                operands.append(self._whole(operand))
            else:
                times = trailing(axes[axis], binding)
                operands.append(self._taken(operand, axis, (span[0] * times, span[1] * times), number))
        attrs = node.attrs
        if node.attr("shape") is not None:
            shape = list(node.attr("shape"))
            for axis, one in enumerate(binding.results[0]):
                if one.factors[:1] == (choice.factor,):
                    shape[axis] = (span[1] - span[0]) * trailing(one, binding)
            attrs = tuple(sorted((dict(attrs) | {"shape": tuple(shape)}).items()))
        return self._again(node, operands, attrs, where)

    def _again(self, node: Node, operands: Sequence[Node], attrs: Any, where: Any) -> Node:
        if tuple(operands) == node.inputs and attrs == node.attrs and where is node.where:
            return node
        return make_node(node.op, tuple(operands), attrs, where)

    def _combined(self, node: Node, partial: Sequence[Node]) -> Node:
        """Partial results as one, neighbours first: a tree that depends on their number alone."""
        assert isinstance(node.op.combine, str)
        op, level = OPS[_COMBINES[node.op.combine]], list(partial)
        while len(level) > 1:
            pairs = [level[n : n + 2] for n in range(0, len(level), 2)]
            level = [make_node(op, tuple(two), (), node.where) if len(two) == 2 else two[0] for two in pairs]
        return level[0]

    def _whole(self, node: Node) -> Node:
        value = self.values[node]
        if value.whole is None:
            value.whole = make_node(OPS["concat"], value.pieces, (("axis", value.axis),), node.where)
        return value.whole

    def _taken(self, node: Node, axis: int, span: tuple[int, int], number: int) -> Node:
        """The part of a tensor that a lane needs: a piece of it where they are cut alike, else a slice of the whole."""
        value = self.values[node]
        if value.axis == axis and span in value.bounds:
            return value.pieces[value.bounds.index(span)]
        whole = self._whole(node)
        key = (whole, axis, span)
        if key not in self.sliced:
            slices = [("slice", None, None, None)] * whole.type.ndim
            slices[axis] = ("slice", *span, None)
            self.sliced[key] = make_node(OPS["getitem"], (whole,), (("key", tuple(slices)),), self._lane(node, number))
        return self.sliced[key]


def even(length: Any, times: int, pieces: int) -> Bounds:
    """`length` in `pieces` as equal as can be, cut on multiples of `times`; the last ones may be empty.

    >>> even(10, 1, 4)
    ((0, 3), (3, 6), (6, 8), (8, 10))
    """
    units = length // times
    sizes = [units // pieces + (number < units % pieces) for number in range(pieces)]
    marks = [mark * times for mark in accumulate(sizes, initial=0)]
    return tuple(pairwise(marks))


def cut_axis(ndim: int, axis: int, mesh: str) -> Layout:
    """The layout of a tensor of `ndim` axes, one of which is cut."""
    return tuple(Cut(mesh) if number == axis else None for number in range(ndim))
