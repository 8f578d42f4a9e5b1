"""How a deferred graph is run for certain fetches and feeds: what is computed, read, drawn and assigned.

    fetches, feeds ─ effects ─ values ─ bind(shapes) ─ Program

A plan holds for as long as its graph does, since operations never change. For each set of lengths of what is fed it
has a Program from the caches of eager mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowgraph.context import describe_line
from flowgraph.eager import BINDINGS, Cache, Compiled, compiled, recomputes
from flowgraph.errors import FlowgraphError, ShapeError, UsageError
from flowgraph.graph import INPUT, Graph, Node, make_node, structure, toposort
from flowgraph.session.graphs import latest
from flowgraph.session.operation import Operation
from flowgraph.state.variable import SEEDED
from flowgraph.types import Dim, Shape, Size, TensorType, tensor_type

SHAPES = 64
"""For how many sets of lengths a plan keeps its program at hand."""


@dataclass(frozen=True)
class Draw:
    """The key of a random draw: it is new in every run."""

    node: Node
    seed: int | None
    """What the keys of successive runs are made of; None: of the seed of the thread."""


@dataclass(frozen=True)
class Meeting:
    """Two lengths that must be equal because an operation takes both for one."""

    left: Size
    right: Size
    node: Node


class Plan:
    """What a run computes for `fetches` (nodes; None for operations alone) when the nodes in `fed` are given."""

    def __init__(self, graph: Any, targets: Sequence[Node | Operation], fed: Sequence[Node]) -> None:
        self.fed = tuple(fed)
        given = set(fed)
        assigned = effects(targets, given)
        self.commits = {variable: _only(variable, found) for variable, found in assigned.items()}
        """The assignment that each variable ends up with."""
        wanted = [one for one in targets if isinstance(one, Node)]
        self.outputs = list(dict.fromkeys([*wanted, *(one.result for one in self.commits.values())]))
        number = {node: index for index, node in enumerate(self.outputs)}
        self.fetches = [number[one] if isinstance(one, Node) else None for one in targets]
        """For each fetch its number among the outputs, None for an operation."""
        self.updates = [(variable, number[one.result]) for variable, one in self.commits.items()]
        """The variables that are assigned, and the numbers of their values among the outputs."""
        self.order = toposort(self.outputs, stop=lambda node: node in given or _is_data(node))
        self.variables: list[Any] = []
        """The variables that are read."""
        self.draws: list[Draw] = []
        self.data: list[Node] = []
        """Leaves whose values the graph itself has."""
        for node in self.order:
            if node not in given and (node.is_leaf or _is_data(node)):
                self._sort(graph, node)
        self.meetings = [one for node in self.order if node not in given for one in _meetings(node)]
        self.open = bool(self.meetings) or any(_has_dim(node) for node in self.order)
        """Whether lengths are left open until a run."""
        self.unranked = [node for node in fed if _owner(node) is not None and node.owner.unranked]
        self.bindings = Cache(SHAPES)

    def _sort(self, graph: Any, node: Node) -> None:
        """Note where the value of a leaf comes from."""
        owner = _owner(node)
        if owner is not None and owner.kind == "VariableV2":
            self.variables.append(owner.variable)
        elif node.memo is None:
            name = f"the placeholder {owner.name!r}" if owner is not None else "an input"
            raise UsageError(
                f"a run that needs {name}, made at {describe_line(node.where)}",
                "it was not fed",
                "Give its value: session.run(..., feed_dict={placeholder: value}).",
            )
        elif node.is_leaf and node.attr("kind") == "key":
            seeded = int(node.memo[1]) == SEEDED
            self.draws.append(Draw(node, int(node.memo[0]) if seeded else graph.draws.get(node)))
        else:
            self.data.append(node)

    def bind(self, types: tuple[TensorType, ...]) -> Compiled:
        """The program for values of these types, in the place of what is fed."""
        return self.bindings.get(types, lambda: self._bound(types))  # type: ignore[no-any-return]

    def _bound(self, types: Sequence[TensorType]) -> Compiled:
        whole = self._reductions(types)
        lengths = self._lengths(types)
        new: dict[Node, Node] = {node: _leaf("data", found) for node, found in zip(self.fed, types, strict=True)}
        for variable in self.variables:
            new[variable.leaf] = _leaf("variable", variable.type)
        for draw in self.draws:
            new[draw.node] = _leaf("key", draw.node.type)
        for node in self.data:
            new[node] = _leaf(node.attr("kind") if node.is_leaf else "data", node.type)
        leaves = tuple(new.values())
        for node in self.order:
            if node not in new:
                inputs = tuple([new[one] for one in node.inputs])
                new[node] = _again(node, inputs, lengths, node in whole)
        for variable, one in self.commits.items():
            if new[one.result].type != variable.type:
                raise ShapeError(
                    f"to assign {new[one.result].type} to the variable {variable.name!r} of {variable.type}, "
                    f"at {describe_line(one.result.where)}",
                    "the shapes differ",
                    "Feed values of which the result has the variable's shape.",
                )
        graph = Graph(leaves, tuple([new[node] for node in self.outputs]))
        found: Compiled = BINDINGS.get((structure(graph), recomputes()), lambda: compiled(graph))
        return found._replace(graph=graph)  # whose lines errors name

    def _lengths(self, types: Sequence[TensorType]) -> dict[Dim, int]:
        """The lengths that were left open; raises ShapeError where what is fed does not agree."""
        lengths: dict[Dim, int] = {}
        for node, found in zip(self.fed, types, strict=True):
            if len(node.type.shape) != len(found.shape):
                continue  # a placeholder without a shape
            for wanted, length in zip(node.type.shape, found.shape, strict=True):
                if isinstance(wanted, Dim) and isinstance(length, int):
                    base, rest = divmod(length - wanted.plus, wanted.times)
                    if rest or lengths.setdefault(wanted.base, base) != base:
                        raise _mismatch(node, length, wanted, lengths)
        for one in self.meetings:
            left, right = _length(one.left, lengths), _length(one.right, lengths)
            if isinstance(left, int) and isinstance(right, int) and left != right:
                raise ShapeError(
                    f"to run {_name(one.node)}, made at {describe_line(one.node.where)}",
                    f"it takes {one.left} and {one.right} for one length, and they are {left} and {right}",
                    "Feed values of lengths that agree.",
                )
        return lengths

    def _reductions(self, types: Sequence[TensorType]) -> set[Node]:
        """The reductions over all axes, however many there are, of what depends on a placeholder without a shape.

        Where such a placeholder is fed with more than a scalar nothing else may follow but what is done element by
        element; raises ShapeError.
        """
        found = dict(zip(self.fed, types, strict=True))
        changed = {node for node in self.unranked if found[node].ndim}
        whole: set[Node] = set()
        for node in self.order if changed else ():
            owner = _owner(node)
            derived = owner is not None and owner.derived
            if not derived and (node in found or changed.isdisjoint(node.inputs)):
                continue
            if derived or not (_is_elementwise(node) or _reduces_all(node)):
                raise ShapeError(
                    f"to run {_name(node)}, made at {describe_line(node.where)}",
                    "a placeholder without a shape is taken for a scalar there",
                    "Give the placeholder its shape, with None for lengths that vary: placeholder(dtype, [None, 3]).",
                )
            (changed if _is_elementwise(node) else whole).add(node)
        return whole


def _is_elementwise(node: Node) -> bool:
    """Whether an op treats all axes alike, whatever their number."""
    factors = node.op.factors
    return isinstance(factors, str) and set(factors.replace("->", ",").replace(" ", "").split(",")) == {"..."}


def _reduces_all(node: Node) -> bool:
    """Whether `node` reduces a scalar, of which all axes are none."""
    reduces = node.op.combine is not None or node.op.name == "size"
    return reduces and node.attr("axes") == () and not node.attr("keepdims") and len(node.inputs) == 1


def effects(targets: Iterable[Node | Operation], fed: set[Node]) -> dict[Any, list[Operation]]:
    """The assignments that belong to a run of `targets`, for each variable."""
    found: dict[Any, list[Operation]] = {}
    stack = [_owner(one) if isinstance(one, Node) else one for one in targets if one not in fed]
    seen: set[Operation] = set()
    while stack:
        one = stack.pop()
        if one is None or one in seen or not one.before or one.node in fed:
            continue
        seen.add(one)
        if one.variable is not None:
            found.setdefault(one.variable, []).append(one)
        stack += one.control
        if one.node is not None:
            stack += [_owner(node) for node in one.node.inputs if node not in fed]
    return found


def _only(variable: Any, found: Sequence[Operation]) -> Operation:
    last = latest(found)
    if len(last) > 1:
        lines = " and ".join(f"{one.name!r} (made at {describe_line(one.result.where)})" for one in last[:2])
        raise UsageError(
            f"a run in which {lines} assign the variable {variable.name!r}",
            "neither runs after the other, so its value would be a matter of chance",
            "Make one of them under `control_dependencies` of the other, or run them one by one.",
        )
    return last[0]


def _owner(node: Node) -> Any:
    return getattr(node, "owner", None)


def _name(node: Node) -> str:
    owner = _owner(node)
    return repr(owner.name) if owner is not None else node.op.name


def _is_data(node: Node) -> bool:
    """Whether the value of a node was computed before the graph took it."""
    return node.memo is not None and not node.is_leaf and _owner(node) is None and node.op.name != "constant"


def _leaf(kind: str, of_type: TensorType) -> Node:
    return Node(INPUT, (), (("kind", kind), ("name", "")), (of_type,))


def _again(node: Node, inputs: tuple[Node, ...], lengths: Mapping[Dim, int], whole: bool) -> Node:
    """`node` on operands whose lengths are known; a reduction of the `whole` operand takes all its axes."""
    attrs = tuple([(name, _known(value, lengths)) for name, value in node.attrs])
    if whole:
        axes = tuple(range(inputs[0].type.ndim))
        attrs = tuple([(name, axes if name == "axes" else value) for name, value in attrs])
    same = all(a.types == b.types for a, b in zip(inputs, node.inputs, strict=True))
    if same and attrs == node.attrs and not _has_dim(node):
        return Node(node.op, inputs, attrs, node.types, node.where)
    try:
        return make_node(node.op, inputs, attrs, node.where)
    except FlowgraphError as error:
        error.asked = f"to run {_name(node)}, made at {describe_line(node.where)}: {error.asked}"
        raise error.with_traceback(None) from None


def _known(value: Any, lengths: Mapping[Dim, int]) -> Any:
    """An attribute with the lengths in it as numbers."""
    if isinstance(value, tuple):
        return tuple([_known(one, lengths) for one in value])
    return _length(value, lengths) if isinstance(value, Dim) else value


def _length(size: Size, lengths: Mapping[Dim, int]) -> Size:
    if isinstance(size, Dim) and size.base in lengths:
        return size.value(lengths[size.base])
    return size


def _has_dim(node: Node) -> bool:
    return any(isinstance(length, Dim) for one in node.types for length in one.shape)


def _meetings(node: Node) -> list[Meeting]:
    """The lengths, one of them open at least, that `node` takes for one."""
    if node.is_leaf or not any(_has_dim(one) for one in node.inputs) or len(node.inputs) < 2:
        return []
    met: dict[str, Size] = {}
    found = []
    shapes: list[Shape] = [one.types[0].shape for one in node.inputs]
    for axes, shape in zip(node.inferred().binding.operands, shapes, strict=True):
        for axis, length in zip(axes, shape, strict=True):
            if len(axis.factors) == 1:
                known = met.setdefault(axis.factors[0], length)
                if known is not length and (isinstance(known, Dim) or isinstance(length, Dim)):
                    found.append(Meeting(known, length, node))
    return found


def _mismatch(node: Node, length: int, wanted: Dim, lengths: Mapping[Dim, int]) -> ShapeError:
    return ShapeError(
        f"to feed {_name(node)} of {node.type} with an axis of length {length}",
        f"the length {wanted} is {_length(wanted, lengths)} in what else is fed",
        "Feed values of lengths that agree.",
    )


def fed_type(node: Node, shape: Shape) -> TensorType:
    """The type of a value of `shape` that is fed for `node`; raises ShapeError where the shapes do not fit."""
    static = node.types[0]
    owner = _owner(node)
    if owner is None or not owner.unranked:
        fits = len(shape) == len(static.shape) and all(
            a == b or isinstance(b, Dim) for a, b in zip(shape, static.shape, strict=True)
        )
        if not fits:
            raise ShapeError(
                f"to feed {_name(node)}, made at {describe_line(node.where)}, with a value of shape {shape}",
                f"its shape is {static.shape}",
                "Feed a value of that shape.",
            )
    return tensor_type(shape, static.dtype)
