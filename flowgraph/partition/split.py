"""Cuts that belong to the program: a tensor cut over a logical axis becomes as many tensors, its work as many nodes.

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
from typing import Any, NamedTuple

import numpy as np

from flowgraph.factors import Axis, Binding
from flowgraph.graph import Graph, Node, Origin, in_lane, make_node
from flowgraph.op import COMBINES, OPS, is_placed
from flowgraph.ops.body import Body
from flowgraph.partition.layout import (
    Choice,
    Layout,
    Layouts,
    bytes_by_rows,
    cut_along,
    legal_factors,
    propagate,
    rows_of,
    trailing,
)  # fmt: skip
from flowgraph.partition.wishes import axes_of, wished_axis
from flowgraph.types import TensorType, tensor_type

Bounds = tuple[tuple[int, int], ...]
"""The (start, stop) of each piece along an axis."""


class Part(NamedTuple):
    """What an input of a split graph holds: a part of an input of the graph before."""

    number: int
    """Which input it is of."""
    slices: tuple[tuple[int, int, int], ...] = ()
    """(axis, start, stop) of each cut, each in the part that the one before left; none for all of it."""

    def of(self, value: Any) -> Any:
        """The part of the value of that input: an array where it is cut, for variables are in somebody's memory."""
        if not self.slices:
            return value
        part = np.asarray(value)
        for axis, start, stop in self.slices:
            part = part[(slice(None),) * axis + (slice(start, stop),)]
        return part


class Join(NamedTuple):
    """How an output of the graph before is made of outputs of a split graph."""

    parts: tuple[int | Join, ...]
    """What it is made of: outputs by their number, or joins of outputs."""
    axis: int = 0
    """The axis along which they are joined."""

    def numbers(self) -> list[int]:
        """The numbers of all outputs that it is made of."""
        return [number for one in self.parts for number in ([one] if isinstance(one, int) else one.numbers())]

    def of(self, values: Sequence[Any]) -> Any:
        """The value of the output before, from those of the split graph's outputs."""
        found = [values[one] if isinstance(one, int) else one.of(values) for one in self.parts]
        return found[0] if len(found) == 1 else np.concatenate(found, self.axis)

    def through(self, inner: Sequence[Join]) -> Join:
        """The same where each output is made of others in its turn."""
        parts = [inner[one] if isinstance(one, int) else one.through(inner) for one in self.parts]
        return (
            parts[0]
            if len(parts) == 1
            else Join(tuple(one.parts[0] if len(one.parts) == 1 else one for one in parts), self.axis)
        )


class Split(NamedTuple):
    """A graph in which logical axes became nodes."""

    graph: Graph
    inputs: tuple[Part, ...]
    """For each input, what it is a part of."""
    outputs: tuple[Join, ...]
    """For each output of the graph before, what it is made of."""


def split(graph: Graph, like: Mapping[int, int] | None = None) -> Split:
    """`graph` with all wishes of its `shard` nodes about axes fulfilled, one logical axis after the other.

    `like` names, for some outputs, an input in whose pieces they are wanted: the new value of a state.
    """
    found = Split(
        graph, tuple(map(Part, range(len(graph.inputs)))), tuple(Join((n,)) for n in range(len(graph.outputs)))
    )
    for mesh, pieces in axes_of(graph).items():
        axes = {node: wished_axis(node, mesh) for node in found.graph.nodes()}
        seeds = {node: cut_along(node.type.ndim, axis, mesh) for node, axis in axes.items() if axis is not None}
        layouts = propagate(found.graph, seeds, splittable, weight_bytes)
        pairs = _pairs(found, like or {})
        found = _then(found, _Splitter(found.graph, mesh, pieces, layouts, pairs).run())
    return found


def _pairs(before: Split, like: Mapping[int, int]) -> dict[int, int]:
    """`like` in terms of the inputs and outputs of a graph that was split already."""
    result: dict[int, int] = {}
    for output, wanted in like.items():
        inputs = [number for number, part in enumerate(before.inputs) if part.number == wanted]
        result.update(zip(before.outputs[output].numbers(), inputs, strict=True))
    return result


def _then(first: Split, second: Split) -> Split:
    """Two splits as one."""
    parts = [first.inputs[one.number] for one in second.inputs]
    inputs = [Part(own.number, (*own.slices, *one.slices)) for own, one in zip(parts, second.inputs, strict=True)]
    return Split(second.graph, tuple(inputs), tuple(join.through(second.outputs) for join in first.outputs))


def weight_bytes(of_type: TensorType, layout: Layout) -> float:
    """The bytes of a tensor that is cut by another axis than rows, which count as many where their number is open."""
    return bytes_by_rows(of_type, (None,) * len(layout))


def splittable(node: Node, binding: Binding) -> frozenset[str]:
    """The factors of `node` along which it may become several nodes.

    Not where the kernel asks for its place in the whole, holds a graph of its own or gives several results: such nodes
    work on the whole. Nor along a factor of length 1, which would stretch to the length of a piece, or one whose length
    is open in an operand, though another operand tells it: rows are cut by another rule.
    """
    if is_placed(node.op) or len(node.types) > 1 or any(isinstance(value, Body) for _, value in node.attrs):
        return frozenset()
    legal = legal_factors(node, binding) - binding.running()
    if not isinstance(node.op.combine, str):
        legal -= binding.contracted()
    for operand, axes in zip(node.inputs, binding.operands, strict=True):
        for length, axis in zip(operand.type.shape, axes, strict=True):
            legal -= frozenset() if isinstance(length, int) else frozenset(axis.factors)
    return frozenset(one for one in legal if isinstance(binding.sizes[one], int) and binding.sizes[one] != 1)


@dataclass
class _Value:
    """A tensor of the graph before: as one node, as pieces, or as both."""

    whole: Node | None = None
    axis: int = 0
    bounds: Bounds = ()
    pieces: tuple[Node, ...] = ()


class _Splitter:
    def __init__(self, graph: Graph, mesh: str, count: int, found: Layouts, like: Mapping[int, int]) -> None:
        self.graph, self.mesh, self.count, self.found, self.like = graph, mesh, count, found, like
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
        for number, node in enumerate(self.graph.outputs):
            own, axis = self._output(node, self.like.get(number))
            joins.append(Join(tuple(range(len(outputs), len(outputs) + len(own))), axis))
            outputs += own
        return Split(Graph(tuple(inputs), tuple(outputs)), tuple(parts), tuple(joins))

    def _output(self, node: Node, like: int | None) -> tuple[Sequence[Node], int]:
        """An output, in pieces if it is computed so or a state wants it so."""
        value = self.values[node]
        if like is not None:
            state = self.values[self.graph.inputs[like]]
            if state.pieces:
                return [self._taken(node, state.axis, span, n) for n, span in enumerate(state.bounds)], state.axis
            return [self._whole(node)], 0
        return (value.pieces, value.axis) if value.pieces else ([self._whole(node)], 0)

    def _leaf(self, leaf: Node) -> _Value:
        """A variable comes in pieces, each where its work is; of data every lane takes its part of a tile."""
        found = rows_of(self.found.produced(leaf))
        if found is None or leaf.attr("kind") != "variable" or leaf.type.shape[found[0]] == 1:
            return _Value(leaf)
        axis, cut = found
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
            full = [piece for piece, (start, stop) in zip(pieces, spans, strict=True) if stop > start]
            return _Value(self._combined(node, full or pieces[:1]))
        axis = _axis_of(choice.factor, binding.results[0])
        assert axis is not None
        times = trailing(binding.results[0][axis], binding)
        lengths = [piece.type.shape[axis] for piece in pieces]
        assert lengths == [(b - a) * times for a, b in spans], f"{node} became pieces of {lengths}"
        return _Value(None, axis, tuple((a * times, b * times) for a, b in spans), tuple(pieces))

    def _piece(self, node: Node, choice: Choice, binding: Binding, span: tuple[int, int], number: int) -> Node:
        """`node` on one piece of its cut factor."""
        where = self._lane(node, number)
        operands = []
        for operand, axes in zip(node.inputs, binding.operands, strict=True):
            axis = _axis_of(choice.factor, axes)
            if axis is None:
                operands.append(self._whole(operand))
            else:
                times = trailing(axes[axis], binding)
                operands.append(self._taken(operand, axis, (span[0] * times, span[1] * times), number))
        attrs = node.attrs
        if node.attr("shape") is not None:
            shape = list(node.attr("shape"))
            axis = _axis_of(choice.factor, binding.results[0])
            if axis is not None:
                shape[axis] = (span[1] - span[0]) * trailing(binding.results[0][axis], binding)
            attrs = tuple(sorted((dict(attrs) | {"shape": tuple(shape)}).items()))
        return self._again(node, operands, attrs, where)

    def _again(self, node: Node, operands: Sequence[Node], attrs: Any, where: Any) -> Node:
        if node.op.name == "shard":  # it is heard
            rest = tuple(one for one in node.attr("axes") if one[1] != self.mesh)
            if not rest:
                return operands[0]
            attrs = tuple(sorted((dict(attrs) | {"axes": rest}).items()))
        if tuple(operands) == node.inputs and attrs == node.attrs and where is node.where:
            return node
        return make_node(node.op, tuple(operands), attrs, where)

    def _combined(self, node: Node, partial: Sequence[Node]) -> Node:
        """Partial results as one, neighbours first: a tree that depends on their number alone."""
        assert isinstance(node.op.combine, str)
        op, level = OPS[COMBINES[node.op.combine].__name__], list(partial)  # ops are named as numpy's functions
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
            slices: list[Any] = [("slice", None, None, None)] * whole.type.ndim
            slices[axis] = ("slice", *span, None)
            self.sliced[key] = make_node(OPS["getitem"], (whole,), (("key", tuple(slices)),), self._lane(node, number))
        return self.sliced[key]


def _axis_of(factor: str, axes: Sequence[Axis]) -> int | None:
    """The axis that a cut of `factor` cuts."""
    return next((number for number, one in enumerate(axes) if one.factors[:1] == (factor,)), None)


def even(length: Any, times: int, pieces: int) -> Bounds:
    """`length` in `pieces` as equal as can be, cut on multiples of `times`; the last ones may be empty.

    >>> even(10, 1, 4)
    ((0, 3), (3, 6), (6, 8), (8, 10))
    """
    units = length // times
    sizes = [units // pieces + (number < units % pieces) for number in range(pieces)]
    marks = [mark * times for mark in accumulate(sizes, initial=0)]
    return tuple(pairwise(marks))
