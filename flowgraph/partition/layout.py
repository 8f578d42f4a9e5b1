"""Layouts: which axes of which node are cut, and how that spreads from the data through the factor strings.

A *mesh axis* is a name such as "rows"; cutting a factor over it means that the factor's length is split into
consecutive pieces: over workers, over tasks, over tiles inside a task. One rule, three sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from flowgraph.factors import Axis, Binding
from flowgraph.graph import ITEM, Graph, Node, operand_types
from flowgraph.types import TensorType


class Cut(NamedTuple):
    """How one axis is cut."""

    mesh: str
    """The mesh axis over which it is cut."""
    times: int = 1
    """How many elements of this axis belong to one row of the mesh axis (more than one after a reshape)."""


Layout = tuple[Cut | None, ...]
"""For each axis of a tensor, its cut."""


def cut_along(ndim: int, axis: int | None, mesh: str) -> Layout:
    """The layout of a tensor with `ndim` axes that is cut along one of them; along none if None."""
    return tuple([Cut(mesh) if number == axis else None for number in range(ndim)])


def rows_of(layout: Layout) -> tuple[int, Cut] | None:
    """The axis of `layout` that is cut, and its cut; None where none is."""
    return next(((axis, cut) for axis, cut in enumerate(layout) if cut is not None), None)


class Choice(NamedTuple):
    """The factor of a node that is cut."""

    factor: str
    cut: Cut


class Layouts(NamedTuple):
    """What propagation found: one entry for each node that is cut at all."""

    leaves: Mapping[Node, Layout]
    """How each cut leaf is cut."""
    choices: Mapping[Node, Choice]
    """The cut factor of each node that works on pieces."""
    bindings: Mapping[Node, Binding]
    """The binding of each node that is no leaf."""

    def produced(self, node: Node, result: int = 0) -> Layout:
        """How a result of `node` is cut."""
        if node.is_leaf:
            return self.leaves.get(node, (None,) * node.type.ndim)
        return self._axes(node, self.bindings[node].results[result])

    def required(self, node: Node, operand: int) -> Layout:
        """How `node` wants its operand number `operand` to be cut."""
        return self._axes(node, self.bindings[node].operands[operand])

    def contracts(self, node: Node) -> bool:
        """Whether the cut factor of `node` is in no result, so that pieces must be combined."""
        choice = self.choices.get(node)
        return choice is not None and choice.factor in self.bindings[node].contracted()

    def runs(self, node: Node) -> bool:
        """Whether `node` runs along its cut factor, so that pieces need what those before them hand on."""
        choice = self.choices.get(node)
        return choice is not None and choice.factor in self.bindings[node].running()

    def _axes(self, node: Node, axes: tuple[Axis, ...]) -> Layout:
        choice = self.choices.get(node)
        if choice is None:
            return (None,) * len(axes)
        binding = self.bindings[node]
        return tuple([_cut_of(axis, choice, binding) for axis in axes])


def _cut_of(axis: Axis, choice: Choice, binding: Binding) -> Cut | None:
    factors = axis.factors
    if not factors or factors[0] != choice.factor:
        return None
    if len(factors) == 1:
        return choice.cut
    return Cut(choice.cut.mesh, choice.cut.times * trailing(axis, binding))


def trailing(axis: Axis, binding: Binding) -> int:
    """How many elements of `axis` belong to one element of its leading factor."""
    result = 1
    for factor in axis.factors[1:]:
        size = binding.sizes[factor]
        result *= size if isinstance(size, int) else 0  # an unknown length behind the leading one: not cuttable
    return result


MANY_ROWS = 1 << 20
"""What a cut axis of rows counts as: a choice must not depend on how many rows there are, which may be unknown."""


def bytes_by_rows(of_type: TensorType, layout: Layout) -> float:
    """The bytes of a tensor that is cut by rows, whose number is not looked at."""
    result = float(of_type.dtype.itemsize)
    for length, cut in zip(of_type.shape, layout, strict=True):
        if cut is not None:
            result *= MANY_ROWS * cut.times
        else:
            result *= length if isinstance(length, int) else MANY_ROWS * length.times
    return result


def propagate(
    graph: Graph,
    seeds: Mapping[Node, Layout],
    legal: Callable[[Node, Binding], frozenset[str]] | None = None,
    weigh: Callable[[TensorType, Layout], float] = bytes_by_rows,
) -> Layouts:
    """Spread the cuts of `seeds` (leaves and sources) forward and backward through all nodes until nothing changes.

    A node takes one cut factor. Where its operands offer several, it is the one that moves fewest bytes, as `weigh`
    counts them; of equal ones that of the first operand. Where a factor may not be cut (bracketed, interval, contracted
    without a combine) the node works on the whole, and `insert` puts a gather before it.
    """
    spread = _Spread(graph, seeds, legal_factors if legal is None else legal, weigh)
    spread.forward()
    while spread.backward() and spread.forward():  # until one way has nothing to add to what the other found
        pass
    return Layouts(spread.leaves, spread.choices, spread.bindings)


class _Spread:
    def __init__(
        self,
        graph: Graph,
        seeds: Mapping[Node, Layout],
        legal: Callable[[Node, Binding], frozenset[str]],
        weigh: Callable[[TensorType, Layout], float],
    ) -> None:
        self.weigh = weigh
        self.order = graph.nodes()
        self.bindings = {node: node.inferred().binding for node in self.order if not node.is_leaf}
        self.legal = legal
        self.leaves: dict[Node, Layout] = {}
        self.choices: dict[Node, Choice] = {}
        self.layouts = Layouts(self.leaves, self.choices, self.bindings)
        self.changed = False
        for node, layout in seeds.items():
            if node.is_leaf:
                self.leaves[node] = layout
            else:
                for axis, cut in zip(self.bindings[node].results[0], layout, strict=True):
                    if cut is not None:
                        self._choose(node, axis, cut)

    def forward(self) -> bool:
        """A walk from operands to their users; returns whether anything was decided."""
        self.changed = False
        for node in self.order:
            if not node.is_leaf and node not in self.choices:
                self._forward(node)
        return self.changed

    def backward(self) -> bool:
        """A walk from users to their operands; returns whether anything was decided."""
        self.changed = False
        for node in reversed(self.order):
            if node in self.choices:
                self._backward(node)
        return self.changed

    def _forward(self, node: Node) -> None:
        offered: dict[str, Choice] = {}
        for operand, axes in zip(node.inputs, self.bindings[node].operands, strict=True):
            if operand not in self.choices and operand not in self.leaves:
                continue
            for axis, cut in zip(axes, self.layouts.produced(operand, picked(node)), strict=True):
                choice = None if cut is None else self._choice(node, axis, cut)
                if choice is not None:
                    offered.setdefault(choice.factor, choice)
        if offered:
            found = list(offered.values())
            self._take(node, found[0] if len(found) == 1 else min(found, key=lambda one: self._moved(node, one)))

    def _moved(self, node: Node, choice: Choice) -> float:
        """The bytes that are moved if `node` takes `choice`: operands cut otherwise, and a result to be combined."""
        binding, result = self.bindings[node], 0.0
        for operand, axes in zip(node.inputs, binding.operands, strict=True):
            have = self.layouts.produced(operand, picked(node))
            want = tuple(_cut_of(axis, choice, binding) for axis in axes)
            if any(have) and have != want:
                result += self.weigh(operand_types(node.op, (operand,), node.attrs)[0], have)
        if choice.factor in binding.contracted():
            result += sum(self.weigh(one, (None,) * one.ndim) for one in node.types)
        return result

    def _backward(self, node: Node) -> None:
        for index, operand in enumerate(node.inputs):
            want = self.layouts.required(node, index)
            if not any(want):
                continue
            if operand.is_leaf:
                if operand not in self.leaves:
                    self.leaves[operand] = want
                    self.changed = True
            elif operand not in self.choices:
                for axis, cut in zip(self.bindings[operand].results[picked(node)], want, strict=True):
                    if cut is not None:
                        self._choose(operand, axis, cut)

    def _choose(self, node: Node, axis: Axis, cut: Cut) -> None:
        """Cut the leading factor of `axis` at `node`, if that is legal."""
        choice = self._choice(node, axis, cut)
        if choice is not None:
            self._take(node, choice)

    def _choice(self, node: Node, axis: Axis, cut: Cut) -> Choice | None:
        """What it is for `node` to cut the leading factor of `axis`; None where that is not legal."""
        if axis.kind not in ("free", "running") or not axis.factors:
            return None
        binding = self.bindings[node]
        if axis.factors[0] not in self.legal(node, binding):
            return None
        if len(axis.factors) == 1:
            return Choice(axis.factors[0], cut)
        times = trailing(axis, binding)
        if times == 0 or cut.times % times:
            return None
        return Choice(axis.factors[0], Cut(cut.mesh, cut.times // times))

    def _take(self, node: Node, choice: Choice) -> None:
        self.choices[node] = choice
        self.changed = True


def picked(node: Node) -> int:
    """Which result of its operands `node` reads: the first, but for the op that picks one."""
    return int(node.attr("index")) if node.op is ITEM else 0


def legal_factors(node: Node, binding: Binding) -> frozenset[str]:
    """The factors of `node` that may be cut.

    A contracted one only where the op says how partial results combine, a running one only where it says what pieces
    hand on.
    """
    legal = set(binding.cuttable())
    if node.op.combine is None:
        legal -= binding.contracted()
    if node.op.carry is not None:
        legal |= binding.running()
    return frozenset(legal)
