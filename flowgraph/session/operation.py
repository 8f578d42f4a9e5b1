"""Operations of deferred graphs: nodes with a name and a place in the order of effects."""

from __future__ import annotations

from typing import Any

from flowgraph.context import Hooks
from flowgraph.graph import Node
from flowgraph.tensor import Tensor, tensor_of

_SHORT = {"multiply": "mul", "subtract": "sub", "divide": "truediv", "power": "pow", "add": "add", "matmul": "MatMul"}


class Operation:
    """Something that a Session runs: it has a name, operands, results, and other operations that run before it."""

    __slots__ = (
        "__weakref__", "before", "control", "derived", "given", "graph", "items", "kind", "node", "scope", "unranked",
        "variable", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        graph: Any,
        kind: str,
        node: Node | None,
        scope: str,
        control: tuple[Operation, ...],
        before: frozenset[Operation],
    ) -> None:
        self.graph = graph
        """The graph that it belongs to."""
        self.kind = kind
        self.node = node
        """The node that computes its results; None for one that has none."""
        self.scope = scope
        self.control = control
        """The operations that run before it though it takes nothing of them."""
        self.before = before
        """The assignments that run before it, and itself if it is one."""
        self.wanted = self.given = ""
        self.items: dict[int, Node] = {}
        """The nodes of its results by number, where it has several."""
        self.variable: Any = None
        """The variable that it is, or that it assigns."""
        self.derived = False
        """Whether it is part of a gradient."""
        self.unranked = False
        """Whether it is a placeholder that was given no shape."""

    @property
    def name(self) -> str:
        """Its name, which no other operation of its graph has."""
        return self.graph.name_of(self)  # type: ignore[no-any-return]

    @property
    def default_name(self) -> str:
        """The name of an operation that was given none."""
        return _SHORT.get(self.kind, self.type)

    @property
    def type(self) -> str:
        """What it does, in one word."""
        return "".join(word[:1].upper() + word[1:] for word in self.kind.split("_"))

    @property
    def result(self) -> Node:
        """The node of its only result."""
        assert self.node is not None, f"{self.kind} has no result"
        return self.node

    @property
    def outputs(self) -> list[Tensor]:
        """Its results."""
        if self.items:
            return [tensor_of(self.items[index]) for index in sorted(self.items)]
        return [] if self.node is None else [tensor_of(self.node)]

    @property
    def inputs(self) -> list[Tensor]:
        """Its operands."""
        return [] if self.node is None else [tensor_of(one) for one in self.node.inputs]

    @property
    def control_inputs(self) -> list[Operation]:
        """The operations that run before it though it takes nothing of them."""
        return list(self.control)

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run it in `session`, or in the default session."""
        Hooks.graphs.run(self, feed_dict, session)

    def __repr__(self) -> str:
        return f"<fg.Operation {self.name!r} type={self.type}>"
