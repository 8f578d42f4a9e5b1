"""Bodies: graphs inside of graphs. A branch, a turn of a loop, a gradient rule is a Body, an attribute of its op.

    scan(h, xs, w)          operands: states, elements, and what the body takes from outside
      └─ body(h, x, w)      a Graph whose inputs stand for them, in the same order

Bodies are equal where their structure is, so that programs which hold equal ones are one program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from flowgraph import tree
from flowgraph.apply import convert, recorded
from flowgraph.context import ACTIVE, describe_line
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.graph import INPUT, Graph, Node, interpret, make_input, make_node, operand_types, structure, toposort
from flowgraph.op import Types
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import Dim, Shape, Size, affine, product, tensor_type


class Body:
    """A graph as an attribute: hashable, compared by structure. Called with arrays it computes in plain numpy."""

    __slots__ = ("_hash", "graph", "key", "told_apart")

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.key = structure(graph)
        self._hash = hash(self.key)
        self.told_apart = _origin(graph)
        """The user's lines: caches keep equal bodies of other lines apart, so that errors name the right ones."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Body) and (self is other or (self._hash == other._hash and self.key == other.key))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<body: {' '.join(node.op.name for node in self.graph if not node.is_leaf)}>"

    @property
    def takes(self) -> Types:
        """The types of the inputs."""
        return tuple([node.types[0] for node in self.graph.inputs])

    @property
    def gives(self) -> Types:
        """The types of the results."""
        return tuple([node.types[0] for node in self.graph.outputs])

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        """The results on arrays; these may be pieces of what the body was made for."""
        types = tuple([tensor_type(np.shape(a), one.dtype) for a, one in zip(arrays, self.takes, strict=True)])
        return tuple(interpret(self.retyped(types).graph, arrays))

    def with_outputs(self, numbers: Sequence[int]) -> Body:
        """The body that gives only the results at `numbers`, in that order."""
        return Body(self.graph.with_outputs([self.graph.outputs[number] for number in numbers]))

    def retyped(self, types: Types) -> Body:
        """The body for operands of other lengths; raises ShapeError or UsageError where there is none."""
        return self if types == self.takes else _retyped(self, types, self.told_apart)

    def splice(self, operands: Sequence[Tensor]) -> list[Tensor]:
        """The results as nodes of the graph of `operands`, as if the body's expression were written there."""
        new: dict[Node, Node] = {leaf: one.node for leaf, one in zip(self.graph.inputs, operands, strict=True)}
        for node in self.graph:
            if node not in new:
                inputs = tuple([new[one] for one in node.inputs])
                constant = node.op.name == "constant"
                new[node] = node if constant else recorded(Node(node.op, inputs, node.attrs, node.types, node.where))
        return [tensor_of(new[node]) for node in self.graph.outputs]


def _origin(graph: Graph) -> int:
    lines = [(id(node.where[0]), node.where[1]) if node.where else None for node in graph if not node.is_leaf]
    inner = [value.told_apart for node in graph for _, value in node.attrs if isinstance(value, Body)]
    return hash((*lines, *inner))


@lru_cache(maxsize=1024)
def _retyped(body: Body, types: Types, told_apart: int) -> Body:
    new: dict[Node, Node] = {}
    for leaf, one in zip(body.graph.inputs, types, strict=True):
        if one.ndim != leaf.types[0].ndim:
            raise ShapeError(
                f"a body made for {leaf.types[0]} on {one}", "they differ in their axes", "Trace it for this operand."
            )
        if one.dtype != leaf.types[0].dtype:
            raise DTypeError(
                f"a body made for {leaf.types[0]} on {one}", "the dtypes differ", "Cast the operand, or trace it anew."
            )
        new[leaf] = Node(INPUT, (), leaf.attrs, (one,))
    for node in body.graph:
        if node.is_leaf:
            continue
        inputs, attrs = tuple([new[one] for one in node.inputs]), node.attrs
        if all(a.types == b.types for a, b in zip(inputs, node.inputs, strict=True)):
            new[node] = Node(node.op, inputs, attrs, node.types, node.where)
            continue
        if node.attr("shape") is not None:
            attrs = tuple(sorted((dict(attrs) | {"shape": _new_shape(node, inputs)}).items()))
        new[node] = make_node(node.op, inputs, attrs, node.where)
    return Body(Graph(tuple(new[leaf] for leaf in body.graph.inputs), tuple(new[one] for one in body.graph.outputs)))


def _new_shape(node: Node, inputs: tuple[Node, ...]) -> Shape:
    """The attribute `shape` of `node` on operands of other lengths: each factor brings its new length along."""
    old = node.inferred().binding
    sizes: dict[str, Size] = {}
    for axes, one in zip(old.operands, operand_types(node.op, inputs, node.attrs), strict=True):
        for axis, length in zip(axes, one.shape, strict=True):
            if axis.factors:
                sizes[axis.factors[0]] = _divided(length, [old.sizes[name] for name in axis.factors[1:]])
    shape: list[Size] = []
    for axis, length in zip(old.results[0], node.type.shape, strict=True):
        if axis.factors and axis.factors[0] in sizes:
            shape.append(product((sizes[axis.factors[0]], *[old.sizes[name] for name in axis.factors[1:]])))
        else:
            shape.append(length)
    return tuple(shape)


def _divided(length: Size, parts: Sequence[Size]) -> Size:
    by = math.prod(one for one in parts if isinstance(one, int))
    if isinstance(length, Dim):
        return affine(length.base, length.times // by, length.plus // by) if by > 1 else length
    return length // max(by, 1)


class Traced:
    """A function as a body, and what it takes from outside: those are inputs of the body behind its own."""

    def __init__(self, function: Callable[..., Any], types: Sequence[Any], what: str, hoist: bool = True) -> None:
        leaves = [make_input(one, "data", f"operand {number}") for number, one in enumerate(types)]
        start = self.start = make_input(tensor_type((), np.float32)).serial
        before = _assigned()
        result = function(*[tensor_of(leaf) for leaf in leaves])
        if _assigned() != before:
            raise UsageError(
                f"to trace {what}", "it assigns to a variable", "Return the new value, and assign it outside."
            )
        self.structure = tree.map_structure(lambda one: one is not None, result)
        """The form of the result: True where a tensor stands, False for None."""
        outputs = [convert(one).node for one in tree.flatten(result) if one is not None]
        self.captured = _captured(outputs, set(leaves), start, hoist)
        """The nodes from outside. With `hoist` all that does not depend on the operands is: it is computed once."""
        self.body = _closed(outputs, [*leaves, *self.captured])

    @property
    def form(self) -> Any:
        """The form of the result as a key."""
        return tree.form(self.structure, lambda one: one)

    def draws(self) -> list[int]:
        """The inputs of the body that are keys of random draws which were made in it and name no seed."""
        own = len(self.body.graph.inputs) - len(self.captured)
        return [
            own + number
            for number, node in enumerate(self.captured)
            if node.is_leaf and node.attr("kind") == "key" and node.serial > self.start and int(node.memo[1]) != _SEEDED
        ]

    def refuse_draws(self) -> None:
        """Raise UsageError where the body draws random numbers: a loop of unknown length has no numbers for turns."""
        if self.draws():
            raise UsageError(
                "random draws in the body of a while_loop",
                "every turn would draw the same numbers",
                "Draw outside, or use scan or map_fn, which draw anew for every element.",
            )

    def vary_draws(self, place: int) -> bool:
        """Let draws differ from turn to turn by the number of the turn, the input at `place`.

        Where there are no draws nobody asks for the number, and the body loses that input.
        """
        graph = self.body.graph
        index, keys = graph.inputs[place], [graph.inputs[number] for number in self.draws()]
        if not keys:
            rest = (*graph.inputs[:place], *graph.inputs[place + 1 :])
            self.body = Body(Graph(rest, graph.outputs))
            return False
        tensor = tensor_of(index)
        step = tensor.astype(np.uint64) * convert(np.array([0, 1 << 32], np.uint64))
        new = {key: (tensor_of(key) + step).node for key in keys}
        moved = graph.rebuild(
            lambda node, inputs: Node(
                node.op, tuple([new.get(one, one) for one in inputs]), node.attrs, node.types, node.where
            )
        )
        extra = [node for node in toposort(moved.outputs) if node.is_leaf and node not in graph.inputs]
        self.body = _closed(moved.outputs, [*graph.inputs, *extra])
        self.captured = [*self.captured, *extra]
        return True

    def rebuilt(self, tensors: Sequence[Tensor]) -> Any:
        """`tensors` in the form of the function's result."""
        rest = iter(tensors)
        return tree.map_structure(lambda one: next(rest) if one else None, self.structure)


def _assigned() -> list[Any]:
    return list(ACTIVE.traces[-1].updates().items()) if ACTIVE.traces else []


def _captured(outputs: Sequence[Node], own: set[Node], start: int, hoist: bool) -> list[Node]:
    def is_outside(node: Node) -> bool:
        if node in own or node.op.name == "constant":
            return False
        return node.memo is not None or node.is_leaf or node.serial < start

    order = toposort(outputs, stop=lambda node: node in own or is_outside(node))
    inside = set(own)
    drawn = {node for node in order if node.is_leaf and node.attr("kind") == "key" and node.serial > start}
    for node in order:
        if not drawn.isdisjoint(node.inputs):  # new numbers in every turn
            inside.add(node)
        if node.op.name == "constant" or (not is_outside(node) and not (hoist and inside.isdisjoint(node.inputs))):
            inside.add(node)
    wanted = {one for node in order if node in inside and node not in own for one in node.inputs} | set(outputs)
    return [node for node in order if node in wanted and node not in inside]


def _closed(outputs: Sequence[Node], leaves: Sequence[Node]) -> Body:
    """The body of `outputs` with stand-ins for `leaves`, which hold no values: what a cache may keep."""
    new: dict[Node, Node] = {}
    for node in leaves:
        kind = "key" if node.is_leaf and node.attr("kind") == "key" else "data"
        new[node] = Node(INPUT, (), (("kind", kind), ("name", "")), node.types)
        new[node].symbolic = True
    for node in toposort(outputs, stop=lambda node: node in new):
        if node not in new:
            constant = node.op.name == "constant"
            inputs = tuple([new[one] for one in node.inputs])
            new[node] = node if constant else Node(node.op, inputs, node.attrs, node.types, node.where)
    return Body(Graph(tuple(new[node] for node in leaves), tuple(new[node] for node in outputs)))


def joined(traced: Sequence[Traced], own: int) -> tuple[list[Body], list[Node]]:
    """Bodies that take the same operands: the first `own` of each, and after them all that any of them captured."""
    captured = list(dict.fromkeys(node for one in traced for node in one.captured))
    bodies = []
    for one in traced:
        leaves = dict(zip(one.captured, one.body.graph.inputs[own:], strict=True))
        extra = [leaves[node] if node in leaves else Node(INPUT, (), _DATA, node.types) for node in captured]
        bodies.append(Body(Graph((*one.body.graph.inputs[:own], *extra), one.body.graph.outputs)))
    return bodies, captured


def made_by(node: Node) -> str:
    """The operation and the line that made a node, for messages."""
    return f"{node.op.name} at {describe_line(node.where)}"


def check_states(what: str, gives: Sequence[Node], takes: Types) -> None:
    """Raise ShapeError or DTypeError where a turn of a loop changes the type of a state."""
    for number, (node, old) in enumerate(zip(gives, takes, strict=True)):
        new = node.type
        if new != old:
            error = ShapeError if new.shape != old.shape else DTypeError
            raise error(
                f"{what} over a state of type {old}",
                f"its body makes it {new} (state {number}), by {made_by(node)}",
                "Let the body keep shapes and dtypes, and start with what it returns (fg.cast, fg.zeros).",
            )


_DATA = (("kind", "data"), ("name", ""))
_SEEDED = 1 << 63
"""The second word of the key of a draw that names its seed, from which on all such keys lie."""
