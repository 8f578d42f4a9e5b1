"""What tensors and calls ask of deferred graphs, which they do not know."""

from __future__ import annotations

from typing import Any

from flowgraph.context import ACTIVE, Hooks, NoGraphs
from flowgraph.graph import Node
from flowgraph.session.graph_variable import GraphVariable
from flowgraph.session.graphs import Graph
from flowgraph.session.operation import Operation
from flowgraph.session.session import default_session
from flowgraph.tensor import Tensor


class _Graphs:
    """What tensors and calls ask of deferred graphs: the functions behind `Hooks.graphs`."""

    @staticmethod
    def adopt(node: Node) -> None:
        """Record a node that was made outside of any graph, in the graph of its operands."""
        if ACTIVE.traces:
            return
        for one in node.inputs:
            owner = getattr(one, "owner", None)
            if owner is not None:
                with owner.graph.as_default():
                    owner.graph.record(node)
                return

    @staticmethod
    def label(node: Node, name: str) -> None:
        """Name the operation that was just made; in eager mode names say nothing."""
        owner = getattr(node, "owner", None)
        if owner is not None:
            owner.graph.label(owner, name)

    @staticmethod
    def constant(node: Node, name: str | None) -> None:
        """Give the data of a constant to the graph that is being built, if one is."""
        if isinstance(ACTIVE.traces[-1], Graph):
            operation = ACTIVE.traces[-1].adopt(node, "Const")
            if name is not None:
                operation.graph.label(operation, name)

    @staticmethod
    def operation_of(node: Node) -> Operation:
        """The operation of a tensor."""
        owner = getattr(node, "owner", None)
        if owner is None and ACTIVE.traces and isinstance(ACTIVE.traces[-1], Graph) and node.is_leaf:
            return ACTIVE.traces[-1].adopt(node, "Const")  # data that was just used
        return owner if owner is not None else NoGraphs.operation_of(node)  # type: ignore[no-any-return]

    @staticmethod
    def name_of(node: Node) -> str:
        """The name of a tensor."""
        return f"{_Graphs.operation_of(node).name}:{node.attr('index', 0) if node.op.name == 'item' else 0}"

    @staticmethod
    def evaluate(tensor: Tensor, feed_dict: Any, session: Any) -> Any:
        """The value of a tensor in a session."""
        return default_session(session, f"the value of {tensor!r}").run(tensor, feed_dict)

    @staticmethod
    def run(operation: Operation, feed_dict: Any, session: Any) -> None:
        """Run an operation in a session."""
        default_session(session, f"to run {operation!r}").run(operation, feed_dict)

    @staticmethod
    def load(variable: GraphVariable, value: Any, session: Any) -> None:
        """Set the value of a variable in a session."""
        default_session(session, f"to load {variable!r}").load({variable: value})


Hooks.graphs = _Graphs
