"""Which weights to cut: the choices that a planner weighs, from none to all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flowgraph.factors import Binding
from flowgraph.graph import Graph, Node
from flowgraph.partition.layout import Layout, Layouts, cut_along, propagate
from flowgraph.partition.split import splittable, weight_bytes

MODEL = "model"
"""The axis of the mesh over which a plan cuts weights."""
TRIALS = 8
"""So many cuts are looked into at most: the largest weights count, and what follows from theirs."""
SHARE = 64
"""A weight is worth a cut of its own if it has at least such a part of all bytes."""


@dataclass(frozen=True)
class Choice:
    """Weights that are cut, and what follows from it."""

    wishes: Mapping[Node, int]
    """For each leaf that is cut on purpose, the axis."""
    layouts: Layouts
    """How everything lies then."""


def seeds_of(wishes: Mapping[Node, int], given: Mapping[Node, Layout]) -> dict[Node, Layout]:
    """What the cuts spread from: those of a choice, and those that the model itself wishes."""
    return {**{leaf: cut_along(leaf.type.ndim, axis, MODEL) for leaf, axis in wishes.items()}, **given}


def choose_weights(
    graph: Graph,
    leaves: Sequence[Node],
    given: Mapping[Node, Layout],
    bytes_of: Callable[[Node], float],
    cost: Callable[[Layouts], float],
) -> list[Choice]:
    """Choices of what to cut: nothing, the largest leaf, the largest that this has left whole too, and so on.

    Of the axes of a leaf it is the one by which `cost` is least after the cut has spread through the graph. `given`
    are wishes of the model: they are in every choice.
    """
    known: dict[Node, frozenset[str]] = {}

    def legal(node: Node, binding: Binding) -> frozenset[str]:
        if node not in known:
            known[node] = splittable(node, binding)
        return known[node]

    def spread(wishes: Mapping[Node, int]) -> Layouts:
        return propagate(graph, seeds_of(wishes, given), legal, weight_bytes)

    found = [Choice({}, spread({}))]
    order = sorted(leaves, key=lambda one: -bytes_of(one))
    least = sum(map(bytes_of, leaves)) / SHARE
    trials = TRIALS
    for leaf in order:
        axes = [axis for axis, length in enumerate(leaf.type.shape) if isinstance(length, int) and length > 1]
        if not axes or any(found[-1].layouts.produced(leaf)) or bytes_of(leaf) < least:
            continue
        trials -= len(axes)
        if trials < 0:
            break
        tried = [Choice(wishes, spread(wishes)) for axis in axes for wishes in [{**found[-1].wishes, leaf: axis}]]
        found.append(min(tried, key=lambda one: cost(one.layouts)))
    return found
