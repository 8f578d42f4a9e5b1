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
TRIALS = 6
"""So many cuts are looked into at most: the largest weights count, and what follows from theirs."""


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

    Of the axes of a leaf it is the one by which `cost` is least after the cut has spread through the graph. At the end
    all leaves are cut along their first axes, and along their last: what lies between
    them is then cut everywhere, which needs least memory. `given` are wishes of the model: they are in every choice.
    """
    known: dict[Node, frozenset[str]] = {}

    def legal(node: Node, binding: Binding) -> frozenset[str]:
        if node not in known:
            known[node] = splittable(node, binding)
        return known[node]

    def spread(wishes: Mapping[Node, int]) -> Layouts:
        return propagate(graph, seeds_of(wishes, given), legal, weight_bytes)

    axes = {
        leaf: [n for n, length in enumerate(leaf.type.shape) if isinstance(length, int) and length > 1]
        for leaf in leaves
    }
    best = Choice({}, spread({}))
    found = [best]
    trials = TRIALS
    for leaf in sorted((one for one in leaves if axes[one]), key=lambda one: -bytes_of(one)):
        if any(best.layouts.produced(leaf)):
            continue
        trials -= len(axes[leaf])
        if trials < 0:
            break
        tried = [Choice(wishes, spread(wishes)) for axis in axes[leaf] for wishes in [{**best.wishes, leaf: axis}]]
        best = min(tried, key=lambda one: cost(one.layouts))
        found.append(best)
    alike = [{leaf: own[end] for leaf, own in axes.items() if own} for end in (0, -1)]
    return found + [Choice(wishes, spread(wishes)) for wishes in alike if wishes]
