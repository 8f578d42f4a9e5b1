"""What a graph does and hands over with a choice of what is cut: one walk, before it is partitioned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowgraph.graph import Graph, Node, made_by, read_operands
from flowgraph.partition.cost import Holder, StageWork, Work
from flowgraph.partition.layout import Layouts
from flowgraph.types import Size, TensorType


def length_of(size: Size, lengths: Mapping[str, int]) -> int:
    """A length; `lengths` are those of row factors that the types leave open, by their names."""
    return size if isinstance(size, int) else size.value(lengths.get(size.base.name, 1))


def bytes_of(of_type: TensorType, lengths: Mapping[str, int]) -> float:
    """The bytes of a value."""
    result = float(of_type.dtype.itemsize)
    for one in of_type.shape:
        result *= length_of(one, lengths)
    return result


@dataclass(frozen=True, slots=True)
class Fact:
    """What there is to know of a node whatever else is cut."""

    bytes: float
    flops: float
    read: tuple[Node, ...]
    """The operands whose values are read."""
    source: bool
    """Whether it is a leaf, or a view of one: it is read where it lies."""
    view: bool
    """Whether it moves nothing."""
    rows: bool
    """Whether it works on rows."""
    cut: bool
    """Whether its result is in rows."""
    contracts: bool
    """Whether it makes one result of all rows."""


class Facts:
    """The facts of a graph whose rows are cut as in `rows`: what all choices have in common."""

    def __init__(self, graph: Graph, rows: Layouts, lengths: Mapping[str, int]) -> None:
        self.graph, self.count = graph, 1
        """The graph, and its number of rows."""
        self.of: dict[Node, Fact] = {}
        for node in dict.fromkeys((*graph.inputs, *graph.nodes())):
            self.of[node] = self._fact(node, rows, lengths)
            for length, cut in zip(node.type.shape, rows.produced(node), strict=True):
                if cut is not None:
                    self.count = max(self.count, length_of(length, lengths) // cut.times)

    def _fact(self, node: Node, rows: Layouts, lengths: Mapping[str, int]) -> Fact:
        nbytes = sum(bytes_of(one, lengths) for one in node.types)
        if node.is_leaf:
            return Fact(nbytes, 0.0, (), True, False, False, any(rows.produced(node)), False)
        view = node.op.view is not None
        flops = 0.0 if view else node.op.flops
        for size in node.inferred().binding.sizes.values() if flops else ():
            flops *= length_of(size, lengths)
        source = node.op.view is not None and bool(node.inputs) and self.of[node.inputs[0]].source
        made = made_by(node)
        works, cut, contracts = made in rows.choices, is_cut(rows, node), rows.contracts(made)
        return Fact(nbytes, flops, tuple(read_operands(node)), source, view, works, cut, contracts)


def is_cut(layouts: Layouts, node: Node) -> bool:
    """Whether the value of `node` is in pieces."""
    node = made_by(node)
    if not node.is_leaf and node not in layouts.choices:
        return False
    return any(layouts.produced(node)) and not layouts.contracts(node)


def work_of(
    facts: Facts, model: Layouts, states: Mapping[int, int], stage_of: Mapping[Node, int] | None = None, stages: int = 1
) -> Work:
    """What a graph does where weights are cut as in `model`; `stage_of` tells the stage of each node.

    `states` says of which inputs some outputs are the next value.
    """
    return _Adder(facts, model, states, stage_of, stages).run()


class _Adder:
    """One walk over the nodes."""

    def __init__(
        self,
        facts: Facts,
        model: Layouts,
        states: Mapping[int, int],
        stage_of: Mapping[Node, int] | None,
        stages: int,
    ) -> None:
        self.graph, self.facts, self.model, self.states = facts.graph, facts.of, model, states
        self.stage_of = stage_of if stage_of is not None else dict.fromkeys(facts.of, 0)
        self.work = Work([StageWork() for _ in range(stages)], rows=facts.count)
        self.cut = {node: is_cut(model, node) for node in facts.of}
        """Whether the value of each node is in pieces of the weights."""
        self.level: dict[Node, int] = {}
        self.moved: set[tuple[str, Node]] = set()
        self.crossed: set[tuple[Node, int]] = set()
        self.stored: set[Node] = set()
        self.made: list[tuple[StageWork, int, float, bool]] = []
        """(stage, loop, operations, whether weights cut it) of each node that makes rows."""

    def run(self) -> Work:
        for node in self.graph.inputs:
            self._leaf(node)
        for node in self.graph.nodes():
            if not node.is_leaf:
                self._node(node)
        kept = {self.graph.outputs[number]: self.graph.inputs[leaf] for number, leaf in self.states.items()}
        for node in dict.fromkeys(self.graph.outputs):
            self._output(node, kept.get(node))
        self.work.levels = max(self.level.values(), default=0) + 1
        self._again()
        return self.work

    def _again(self) -> None:
        """Add up what a later loop would have to compute once more: all that the first of its stage makes."""
        for stage in self.work.stages:
            own = [one for one in self.made if one[0] is stage]
            first = min((level for _, level, _, _ in own), default=0)
            for _, level, flops, model in own if stage.stored.total else ():
                if level == first:
                    stage.again.add(flops, True, model)

    def _stage(self, node: Node) -> StageWork:
        return self.work.stages[self.stage_of[node]]

    def _leaf(self, node: Node) -> None:
        if node.attr("kind") == "variable":
            nbytes, cut = self.facts[node].bytes, self.cut[node]
            self._stage(node).state.add(nbytes, False, cut)
            self._held(node, nbytes, False, cut)

    def _held(self, node: Node, nbytes: float, rows: bool, model: bool) -> None:
        self.work.holders.append(Holder(node, nbytes, rows, model))

    def _node(self, node: Node) -> None:
        fact, model = self.facts[node], node in self.model.choices
        level = 0
        for operand in fact.read:
            level = max(level, self._level_after(operand, node, fact.rows))
        self.level[node] = level
        for operand in fact.read:
            self._hand(operand, node, fact.rows, level)
        if fact.view:
            return
        stage, cut = self._stage(node), self.cut[node]
        stage.flops.add(fact.flops, fact.rows, model)
        stage.written.add(fact.bytes, fact.cut, cut)
        if fact.contracts:
            stage.partial.add(fact.bytes, False, cut)
            self._held(node, fact.bytes, False, cut)
            self.work.combined += fact.bytes
        elif fact.rows:
            stage.row_bytes.add(fact.bytes / max(self.work.rows, 1), False, cut)
            self.made.append((stage, level, fact.flops, model))
        else:
            self._held(node, fact.bytes, False, cut)
        if model and self.model.contracts(node):
            self.work.reduced += fact.bytes

    def _level_after(self, operand: Node, user: Node, rows: bool) -> int:
        """The loop in which `user` can read `operand`: behind a combine or a border it is the next one."""
        fact = self.facts[operand]
        if operand.is_leaf:
            return 0
        passed = self.stage_of[operand] != self.stage_of[user]
        return self.level[operand] + (fact.contracts or passed or (fact.cut and not rows))

    def _once(self, cause: str, node: Node) -> bool:
        if (cause, node) in self.moved:
            return False
        self.moved.add((cause, node))
        return True

    def _hand(self, operand: Node, user: Node, rows: bool, level: int) -> None:
        """Count what `user` needs of `operand`, each way once."""
        fact, model, stage = self.facts[operand], self.cut[operand], self.stage_of[user]
        if not fact.source and self.stage_of[operand] != stage and (operand, stage) not in self.crossed:
            self.crossed.add((operand, stage))
            self.work.borders += fact.bytes
        if fact.cut and not fact.source and rows and level > self.level[operand]:
            self._store(operand, user, fact.bytes, model)
        if fact.cut and not rows and self._once("gather rows", operand):
            self.work.exchanged += 0.0 if fact.source else fact.bytes
            self._stage(user).gathered += fact.bytes
            self._held(operand, fact.bytes, False, model)
        if rows and not fact.cut and not fact.source and self._once("spread", operand):
            self.work.spread += fact.bytes
        self._hand_model(operand, user, fact.bytes, model, fact.source)

    def _store(self, operand: Node, user: Node, nbytes: float, model: bool) -> None:
        """Count rows that wait for the loop of `user`."""
        if operand in self.stored or operand.op.view is not None:
            return
        self.stored.add(operand)
        other = self.stage_of[operand] != self.stage_of[user]
        stage = self._stage(user)
        (stage.received if other else stage.stored).add(nbytes, True, model)
        self._held(operand, nbytes, True, model)

    def _hand_model(self, operand: Node, user: Node, nbytes: float, model: bool, leaf: bool) -> None:
        """What the pieces of cut weights hand one another: they read the same piece, a part, or the whole."""
        choice = self.model.choices.get(user)
        if choice is None:
            if model and self._once("gather", operand):
                self.work.exchanged += nbytes
            return
        indices = [number for number, one in enumerate(user.inputs) if one is operand]
        asked = [any(self.model.required(user, number)) for number in indices]
        if model and not all(asked):
            if self._once("all", operand):
                self.work.copied += nbytes
        elif model:
            same = all(self.model.required(user, n) == self.model.produced(made_by(operand)) for n in indices)
            if not same and self._once("reshard", operand):
                self.work.exchanged += nbytes
        elif not leaf and not all(asked):
            if self._once("copy", operand):
                self.work.copied += nbytes
        elif not leaf and self._once("take", operand):
            self.work.exchanged += nbytes

    def _output(self, node: Node, state: Node | None) -> None:
        fact, model = self.facts[node], self.cut[node]
        if state is not None:
            cut = self.cut[state]
            self._stage(state).updated.add(fact.bytes, False, cut)
            self.work.exchanged += fact.bytes if model != cut and not node.is_leaf else 0.0
        elif model and not node.is_leaf:
            self.work.exchanged += fact.bytes if self._once("gather", node) else 0.0
            self._stage(node).gathered += 0.0 if fact.cut else fact.bytes
