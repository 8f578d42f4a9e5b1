"""Nodes and graphs: the one data structure of the whole road, from the user's expression to the partitioned program."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

from flowgraph.attrs import Attrs
from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Inferred, Op, infer, kernel_parameters
from flowgraph.types import TensorType, tensor_type

_count = itertools.count().__next__
FOREVER = 1 << 62


class Node:
    """One operation applied to the results of other nodes. Frozen, but for two slots that belong to eager evaluation.

    Compared by identity. Make one with `make_node`, which works out its type. `owner` is the operation of a deferred
    graph that the node belongs to; other nodes do not have it.
    """

    owner: Any
    symbolic: bool
    """Whether the value depends on an input that is fed when a program runs."""
    depth: int
    """How many operations lie between this node and the nearest known values."""
    is_leaf: bool
    """Whether the node is an input of the graph."""
    since: int
    """The place of the oldest node that this one depends on in the order in which nodes were made (`serial`)."""

    __slots__ = (
        "__weakref__", "_inferred", "attrs", "depth", "handle", "inputs", "is_leaf", "memo", "op", "owner", "serial",
        "since", "symbolic", "types", "where",
    )  # fmt: skip

    def __init__(
        self,
        op: Op,
        inputs: tuple[Node, ...],
        attrs: Attrs,
        types: tuple[TensorType, ...],
        where: Any = None,
        inferred: Inferred | None = None,
    ) -> None:
        self.op = op
        self.is_leaf = op is INPUT
        self.inputs = inputs
        """The operands. An evaluated eager node lets go of them (see `memo`)."""
        self.attrs = attrs
        """Sorted (name, value) pairs."""
        self.types = types
        """The type of each result."""
        self._inferred = inferred
        self.where = where
        """(code object, offset of the instruction) of the user's call that made the node, or None."""
        self.memo: Any = None
        """The value, where it is known: for leaves, and after a run for nodes that a user holds. Walks stop here."""
        self.handle: Any = None
        """A weak reference to the user's Tensor, or None; of a node with several results, one to the item of each."""
        symbolic, depth, since = False, 0, _count()
        self.serial = since
        for one in inputs:
            if one.since < since:  # noqa: PLR1730  (a call of min takes four times as long)
                since = one.since
            if one.symbolic:
                symbolic = True
            if one.depth >= depth and one.memo is None:
                depth = one.depth + 1
        self.symbolic, self.depth, self.since = symbolic, depth, since

    @property
    def type(self) -> TensorType:
        """The type of the first result, which for almost all ops is the only one."""
        return self.types[0]

    @property
    def forgot(self) -> bool:
        """Whether the node was computed and let go of what it was computed from."""
        return self.since < self.serial and not self.inputs

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute `name`."""
        for key, value in self.attrs:
            if key == name:
                return value
        return default

    def inferred(self) -> Inferred:
        """What the op says of these operands: binding, types, dtypes."""
        if self._inferred is None:
            self._inferred = infer(self.op, operand_types(self.op, self.inputs, self.attrs), self.attrs)
        return self._inferred

    def __repr__(self) -> str:
        return f"<{self.op.name}: {self.type}>"


INPUT = Op(
    "input", "-> ", lambda: None, attrs=None, doc="A value from outside: data, a variable, a scalar.", pure=False
)
"""The op of leaves. Its attributes are `kind` (data, variable, scalar) and `name`."""


ITEM = Op(
    "item",
    "... -> ...",
    lambda results, index: results[index],
    attrs=lambda x, /, index: {"index": index},
    dtype="keep",
    doc="One result of an op that has several.",
    view=lambda types, attrs: f"{{0}}[{attrs['index']}]",
)
"""Picks a result of a node with several; its operand's type is that of the picked result."""


STAGE = "stage"
"""The name of the axis of a lane along which a pipeline has its stages."""


class Origin(NamedTuple):
    """Where a node comes from, and where it is to go: a tuple (code, offset) that has a lane as well.

    Most nodes belong to no lane and have the plain tuple.
    """

    code: CodeType | None
    offset: int
    lane: tuple[tuple[str, int], ...]
    """(axis, number) for each logical axis that the node is a piece of, and ("stage", number) of a pipeline."""


def lane_of(node: Node) -> tuple[tuple[str, int], ...]:
    """The lane of a node; empty for most."""
    where = node.where
    return where[2] if where is not None and len(where) > 2 else ()


def in_lane(where: Any, name: str, number: int) -> Origin:
    """The origin `where`, with a further place in a lane."""
    code, offset, *lanes = where if where is not None else (None, 0)
    return Origin(code, offset, (*(lanes[0] if lanes else ()), (name, number)))


def made_by(node: Node) -> Node:
    """The node that computes `node`: of a picked result the op that has several, else itself."""
    return node.inputs[0] if node.op is ITEM else node


def operand_types(op: Op, inputs: tuple[Node, ...], attrs: Attrs) -> tuple[TensorType, ...]:
    """The types that `op` sees of its operands."""
    if op is ITEM:
        return (inputs[0].types[dict(attrs)["index"]],)
    return tuple([one.types[0] for one in inputs])


def make_input(of_type: TensorType, kind: str = "data", name: str = "", value: Any = None) -> Node:
    """A leaf of `of_type`. `value` is what it holds, if that is known."""
    node = Node(INPUT, (), (("kind", kind), ("name", name)), (of_type,))
    node.memo = value
    node.symbolic = value is None
    return node


def make_node(op: Op, inputs: tuple[Node, ...], attrs: Attrs = (), where: Any = None) -> Node:
    """The node of `op` on `inputs`, whose dtypes must already be those that the op wants."""
    inferred = infer(op, operand_types(op, inputs, attrs), attrs)
    return Node(op, inputs, inferred.attrs, inferred.types, where, inferred)


def toposort(outputs: Iterable[Node], stop: Callable[[Node], bool] | None = None) -> list[Node]:
    """All nodes that `outputs` depend on, operands before their users.

    Operands of nodes where `stop` holds are left out. The order is that of a depth-first walk from the first output, so
    it depends on the graph alone.
    """
    order: list[Node] = []
    done: set[Node] = set()
    stack = list(outputs)
    stack.reverse()
    while stack:
        node = stack[-1]
        if node not in done:
            inputs = node.inputs
            if inputs and (stop is None or not stop(node)):
                waiting = [one for one in inputs if one not in done]
                if waiting:
                    waiting.reverse()
                    stack += waiting
                    continue
            done.add(node)
            order.append(node)
        stack.pop()
    return order


def settle(
    wanted: Any, known: dict[Any, Any], needs: Callable[[Any], Iterable[Any]], make: Callable[[Any], Any]
) -> Any:
    """`known[wanted]`, made if it is not there, once all is known that it needs. Without recursion: graphs are deep."""
    stack = [wanted]
    while stack:
        one = stack[-1]
        if one not in known:
            missing = next((other for other in needs(one) if other not in known), None)
            if missing is not None:
                stack.append(missing)
                continue
            known[one] = make(one)
        stack.pop()
    return known[wanted]


class Graph:
    """A program, which never changes: what it computes (`outputs`) and from what (`inputs`)."""

    def __init__(self, inputs: tuple[Node, ...], outputs: tuple[Node, ...]) -> None:
        self.inputs = inputs
        """The leaves that the caller feeds, in the order in which values are given."""
        self.outputs = outputs
        """The nodes whose values are wanted."""

    @staticmethod
    def of(outputs: Sequence[Node], inputs: Sequence[Node] | None = None) -> Graph:
        """The graph that computes `outputs`; its inputs are the given ones, else all leaves in order of appearance."""
        if inputs is None:
            inputs = [node for node in toposort(outputs) if node.is_leaf]
        return Graph(tuple(inputs), tuple(outputs))

    def nodes(self) -> tuple[Node, ...]:
        """All nodes, operands before their users."""
        return self._order

    @cached_property
    def _order(self) -> tuple[Node, ...]:
        return tuple(toposort(self.outputs))

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes())

    def with_outputs(self, outputs: Iterable[Node]) -> Graph:
        """The same inputs, other outputs."""
        return Graph(self.inputs, tuple(outputs))

    def rebuild(self, rule: Callable[[Node, tuple[Node, ...]], Node]) -> Graph:
        """The graph in which every node is `rule(node, its new operands)`; the one way in which passes rewrite.

        It is this very graph where the rule changes nothing, so that nobody walks or checks it once more.
        """
        new: dict[Node, Node] = {}
        for node in self.nodes():
            new[node] = node if node.is_leaf else rule(node, tuple([new[one] for one in node.inputs]))
        outputs = tuple([new[node] for node in self.outputs])
        return self if outputs == self.outputs else self.with_outputs(outputs)

    def check(self, checked: set[Node] | None = None) -> Graph:
        """This graph, after every node's type was worked out again and compared: passes are followed by it.

        `checked` has the nodes of which that was done before, for nodes never change; it gets those of this graph.
        Raises AssertionError, for a mistake in a pass is ours and not the user's.
        """
        known, checked = set(self.inputs), set() if checked is None else checked
        assert len(known) == len(self.inputs), "an input is listed twice"
        for node in self.nodes():
            if node.is_leaf:
                assert node in known, f"{node} is a leaf of the graph but not among its inputs"
            elif node not in checked:
                _check_types(node)
                checked.add(node)
        return self

    def text(self) -> str:
        """The graph as lines, one a node, in the order of evaluation."""
        names: dict[Node, str] = {}
        for index, node in enumerate(self.inputs):
            name = f"%{node.attr('name') or index}"
            names[node] = name if name not in names.values() else f"{name}.{index}"
        lines = [f"{names[node]}: {node.type} = {node.attr('kind')}" for node in self.inputs]
        for node in self.nodes():
            if node.is_leaf:
                continue
            names[node] = f"%{len(names)}"
            words = [names[one] for one in node.inputs] + [f"{key}={value}" for key, value in node.attrs]
            lines.append(f"{names[node]}: {', '.join(map(str, node.types))} = {node.op.name}({', '.join(words)})")
        lines.append(f"return {', '.join(names[node] for node in self.outputs)}")
        return "\n".join(lines)


def _check_types(node: Node) -> None:
    operands = operand_types(node.op, node.inputs, node.attrs)
    inferred = infer(node.op, operands, node.attrs)
    assert inferred.types == node.types, f"{node}: recorded as {node.types}, but is {inferred.types}"
    assert inferred.attrs == node.attrs, f"{node}: attributes {node.attrs} are not canonical"
    for number, dtype in inferred.casts:
        raise AssertionError(f"{node}: takes {dtype}, operand is {operands[number]}")


def structure(graph: Graph) -> Hashable:
    """A key that equal graphs have in common: ops, attributes, types and how they hang together."""
    number = {node: index for index, node in enumerate(graph.inputs)}
    parts: list[Hashable] = [(node.types[0], node.attrs[0][1]) for node in graph.inputs]
    for node in graph.nodes():
        if not node.is_leaf:
            parts.append((node.op, node.attrs, tuple([number[one] for one in node.inputs]), lane_of(node)))
            number[node] = len(number)
    return tuple(parts), tuple([number[node] for node in graph.outputs])


def call_kernel(
    node: Node, operands: Sequence[Any], shape: tuple[int, ...] | None = None, at: Any = None
) -> tuple[Any, ...]:
    """The results of `node` on arrays: the plain meaning of an op.

    `shape` is that of the result where it is a piece of the whole; `at` is (start, stop, total) of each of its axes.
    """
    op = node.op
    wanted = kernel_parameters(op.kernel)
    keywords = {name: value for name, value in node.attrs if name in wanted}
    if "shape" in wanted:
        keywords["shape"] = shape if shape is not None else node.type.shape
    if "dtype" in wanted and "dtype" not in keywords:
        keywords["dtype"] = node.type.dtype
    if "at" in wanted:
        whole = tuple((0, length, length) for length in (shape if shape is not None else node.type.shape))
        keywords["at"] = at if at is not None else whole
    if "result_shapes" in wanted:
        given = tuple([tensor_type(np.shape(a), one.type.dtype) for a, one in zip(operands, node.inputs, strict=True)])
        keywords["result_shapes"] = tuple([one.shape for one in infer(op, given, node.attrs).types])
    if "operand_shapes" in wanted:
        keywords["operand_shapes"] = tuple(np.shape(one) for one in operands)
    skip = node.inferred().unread
    result = op.kernel(*[one for index, one in enumerate(operands) if index not in skip], **keywords)
    return tuple(result) if len(node.types) > 1 else (result,)


def read_operands(node: Node) -> list[Node]:
    """The operands whose values `node` reads; an operand that gives only its lengths is none of them."""
    factors = node.op.factors
    if not node.inputs or (isinstance(factors, str) and "~" not in factors):
        return list(node.inputs)
    skip = node.inferred().unread
    return [one for index, one in enumerate(node.inputs) if index not in skip]


def interpret(graph: Graph, feeds: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """The values of the graph's outputs, node by node in plain numpy: what everything faster is tested against.

    `feeds` are the values of `graph.inputs`, in their order. Raises UsageError or ShapeError for others.
    """
    if len(feeds) != len(graph.inputs):
        raise UsageError(
            f"to interpret a graph with {len(feeds)} values",
            f"it has {len(graph.inputs)} inputs",
            "Give one value for each of `graph.inputs`.",
        )
    values: dict[Node, Any] = {}
    for node, value in zip(graph.inputs, feeds, strict=True):
        values[node] = np.asarray(value, node.type.dtype)
        known = zip(values[node].shape, node.type.shape, strict=False)
        if values[node].ndim != node.type.ndim or any(isinstance(want, int) and have != want for have, want in known):
            raise ShapeError(
                f"to interpret a graph with a value of shape {values[node].shape}",
                f"its input is {node.type}",
                "Give values in the order of `graph.inputs`.",
            )
    with np.errstate(all="ignore"):
        for node in graph.nodes():
            if not node.is_leaf:
                results = call_kernel(node, [values[one] for one in node.inputs])
                values[node] = np.asarray(results[0], node.type.dtype) if len(results) == 1 else results
    return [values[node] for node in graph.outputs]


def operations(node: Node) -> float:
    """The floating-point operations that `node` takes, none for a view; unknown lengths count as 1."""
    return 0.0 if node.op.view is not None else node.op.flops * node.inferred().binding.points()


def value_bytes(of_type: TensorType) -> int:
    """The bytes of a value of `of_type`; unknown lengths count as 1."""
    result: int = of_type.dtype.itemsize
    for length in of_type.shape:
        if isinstance(length, int):
            result *= length
    return result


def ops_used(graph: Graph) -> Mapping[str, int]:
    """How often each op occurs, for tests and for `explain`."""
    counts: dict[str, int] = {}
    for node in graph:
        counts[node.op.name] = counts.get(node.op.name, 0) + 1
    return counts
