"""bodies: what nobody uses of branches and loops is not computed, and the graphs inside go through the passes too."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flowgraph.graph import ITEM, Graph, Node, make_node
from flowgraph.ops.body import Body


def prune(graph: Graph) -> Graph:
    """The graph whose branches, scans and maps have no results that are not used: a stack of states above all."""
    used: dict[Node, list[int]] = {}
    for node in graph.nodes():
        if node.op is ITEM:
            used.setdefault(node.inputs[0], []).append(node.attr("index"))
    place = {node: {old: new for new, old in enumerate(sorted(set(own)))} for node, own in used.items()}

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.op is ITEM and node.inputs[0].op.name in _RULES:
            if len(inputs[0].types) == 1:
                return inputs[0]
            return make_node(ITEM, inputs, (("index", place[node.inputs[0]][node.attr("index")]),), node.where)
        kept = place.get(node)
        if kept is not None and len(kept) < len(node.types) and node.op.name in _RULES:
            attrs = dict(node.attrs) | _RULES[node.op.name](dict(node.attrs), list(kept))
            return make_node(node.op, inputs, tuple(sorted(attrs.items())), node.where)
        return node if inputs == node.inputs else make_node(node.op, inputs, node.attrs, node.where)

    return graph.rebuild(rule)


def _of_cond(attrs: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    return {name: attrs[name].with_outputs(kept) for name in ("true", "false")}


def _of_map(attrs: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    return {"body": attrs["body"].with_outputs(kept)}


def _of_scan(attrs: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    states = attrs["states"]
    wanted = [attrs["keep"][one] for one in kept]
    stacks = sorted({one for one in wanted if one >= states})
    keep = tuple(one if one < states else states + stacks.index(one) for one in wanted)
    return {"body": attrs["body"].with_outputs([*range(states), *stacks]), "keep": keep}


def _of_while(attrs: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    """The turns need all states; a count of the turns that nobody asks for is no result."""
    return {"keep": tuple(attrs["keep"][one] for one in kept)}


_RULES: dict[str, Callable[[dict[str, Any], list[int]], dict[str, Any]]] = {
    "cond": _of_cond,
    "map_fn": _of_map,
    "scan": _of_scan,
    "while_loop": _of_while,
}


def inside(graph: Graph, passes: Callable[[Graph], Graph]) -> Graph:
    """The graph whose bodies went through `passes`."""

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
        if not any(isinstance(value, Body) for _, value in node.attrs):
            return node if inputs == node.inputs else make_node(node.op, inputs, node.attrs, node.where)
        attrs = tuple(
            [
                (name, _better(value, passes, value.told_apart) if isinstance(value, Body) else value)
                for name, value in node.attrs
            ]
        )
        return make_node(node.op, inputs, attrs, node.where)

    return graph.rebuild(rule)


@lru_cache(maxsize=512)
def _better(body: Body, passes: Callable[[Graph], Graph], told_apart: int) -> Body:
    return Body(passes(body.graph))
