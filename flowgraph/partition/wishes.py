"""Wishes: what the `shard` nodes of a graph ask for, and where they contradict one another."""

from __future__ import annotations

from typing import Any

from flowgraph.context import describe_line
from flowgraph.errors import UsageError
from flowgraph.graph import Graph, Node, toposort
from flowgraph.ops.shard import axes_given, below_wishes, shard_op


def wishes_of(graph: Graph) -> dict[Node, tuple[Any, Node]]:
    """The cuts of rows by hand: for each leaf under a `shard` node, the wish, and the node that says it.

    Raises UsageError, naming both, where two wishes about one tensor contradict.
    """
    wishes: dict[Node, tuple[Any, Node]] = {}
    said: dict[Node, Node] = {}
    for node in graph.nodes():
        if node.op is not shard_op:
            continue
        tensor, _ = below_wishes(node)
        _check(node, said.setdefault(tensor, node), said, tensor)
        rows = node.attr("rows")
        if rows is not None:
            for leaf in toposort([node]):
                if leaf.is_leaf:
                    wishes.setdefault(leaf, (rows, node))
    return wishes


def axes_of(graph: Graph) -> dict[str, int]:
    """The logical axes over which a graph is to be cut, and the number of pieces of each.

    Raises UsageError where two wishes have other numbers of pieces, or cut a tensor twice over one axis.
    """
    result: dict[str, int] = {}
    said: dict[tuple[Node, str], Node] = {}
    for node in graph.nodes():
        for axis, mesh, pieces in node.attr("axes") if node.op is shard_op else ():
            if result.setdefault(mesh, pieces) != pieces:
                raise UsageError(
                    f"to cut {node.type} over {mesh!r} into {pieces} pieces, as wished at {describe_line(node.where)}",
                    f"another wish of this program has {result[mesh]} pieces for {mesh!r}",
                    "Build all of a program inside one mesh.",
                )
            first = said.setdefault((below_wishes(node)[0], mesh), node)
            if wished_axis(first, mesh) != axis:
                raise contradiction(first, node, f"one axis of {node.type} over {mesh!r}")
    return {mesh: pieces for mesh, pieces in result.items() if pieces > 1}


def wished_axis(node: Node, mesh: str) -> int | None:
    """The axis that a `shard` node wants cut over `mesh`; None where there is none, and for other nodes."""
    axes = node.attr("axes") if node.op is shard_op else ()
    return next((axis for axis, name, _ in axes if name == mesh), None)


def _check(node: Node, first: Node, said: dict[Node, Node], tensor: Node) -> None:
    """Compare a wish with the one before about the same tensor; the last that speaks of rows is kept for the next."""
    rows, before = node.attr("rows"), first.attr("rows")
    if rows is not None and before is not None and rows != before:
        raise contradiction(first, node, "the same rows")
    for one, other in ((node, first), (first, node)):
        if one.attr("rows") is not None and _cuts_rows(other):
            raise contradiction(first, node, "axis 0 as rows and as an axis of the program")
    if rows is not None and before is None:
        said[tensor] = node


def _cuts_rows(node: Node) -> bool:
    return any(axis == 0 and pieces > 1 for axis, _, pieces in node.attr("axes"))


def contradiction(first: Node, second: Node, what: str) -> UsageError:
    """The error of two wishes that can not both be granted."""
    return UsageError(
        f"to cut {what}, as wished at {describe_line(second.where)}: {_said(second)}",
        f"another wish was made at {describe_line(first.where)}: {_said(first)}",
        "Drop one of the two, or make them agree.",
    )


def _said(node: Node) -> str:
    axes = axes_given(node.attr("axes"))
    words = [f"rows={node.attr('rows')}"] if node.attr("rows") is not None else []
    return ", ".join([*words, *([f"axes={axes}"] if axes else [])])
