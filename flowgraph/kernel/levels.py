"""Levels: the phase in which each node is computed, and the lane whose tasks compute it.

A value that must come from other tasks is known one level later: what was combined or gathered from rows, and what
another lane computed. Rows of the common lane that are cheaper to compute again than to hand over are computed in every
lane that reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowgraph.graph import ITEM, Node, lane_of, made_by, operations, read_operands, value_bytes
from flowgraph.machine import Rates
from flowgraph.partition import BEFORE, COMBINE, GATHER, PORTION, SPREAD, Partitioned

Lane = tuple[tuple[str, int], ...]

RATES = Rates()
"""To weigh computing rows again against storing them."""


def is_whole_leaf(node: Node) -> bool:
    """Whether `node` is a leaf once more, as a whole beside its rows: its value is there, and nothing is gathered."""
    return node.op is GATHER and node.inputs[0].is_leaf


def _storable(node: Node) -> bool:
    """Whether rows of `node` can be written and read back.

    Looks at something, and parts of what is there as a whole, are made again wherever they are needed. Of an op with
    several results each is stored by itself.
    """
    made = made_by(node)
    return made.op.view is None and made.op not in (SPREAD, BEFORE) and (node.op is ITEM or len(node.types) == 1)


class Levels:
    """The level and the lane of every node of a partitioned graph."""

    def __init__(self, parts: Partitioned, needed: Sequence[Node]) -> None:
        self.parts = parts
        self.level: dict[Node, int] = {}
        self.lanes: dict[Node, Lane] = {}
        self._seconds: dict[Node, float] = {}
        self._stored: set[Node] = set()
        self._known: dict[tuple[Node, Lane], int] = {}
        for node in needed:
            operands = read_operands(node)
            lane = self.lanes[node] = self._lane(node, operands)
            self._weigh(node, operands)
            own = max([self._available(one, lane, node) for one in operands], default=0)
            self.level[node] = own + (node.op in (COMBINE, GATHER, PORTION) and not is_whole_leaf(node))

    def worth_storing(self, node: Node) -> bool:
        """Whether writing and reading back the rows of `node` is faster than computing them again from others such."""
        return node in self._stored

    def _weigh(self, node: Node, operands: Sequence[Node]) -> None:
        """Note how long the rows of `node` take to compute from those that are stored, and whether they are.

        Of an op with several results it is all of them or none: an op that is computed again for one gives the others
        as well.
        """
        made = made_by(node)
        if node is not made:
            self._seconds[node] = self._seconds[made]
        elif node.is_leaf or self.parts.mesh(node) is None:
            self._seconds[node] = 0.0
        else:
            self._seconds[node] = operations(node) / RATES.flops + sum(
                [self._seconds[one] for one in operands if one not in self._stored]
            )
        seconds = self._seconds[node]
        if seconds and _storable(node) and seconds > 2 * sum(map(value_bytes, made.types)) / RATES.memory:
            self._stored.add(node)

    def lane(self, node: Node) -> Lane:
        """The lane whose tasks compute `node`, one of those that are needed; leaves are everywhere."""
        return self.lanes[node]

    def _lane(self, node: Node, operands: Sequence[Node]) -> Lane:
        """The lane of a node.

        What was made in no lane is in that of its operands, if they are all in one: the loss behind the last stage of a
        pipeline, the update of a variable. So is the piece of an update, whose operands are in a stage as well.
        """
        if node.is_leaf:
            return ()
        own = lane_of(node)
        near = {lane for one in operands if (lane := self.lanes[one])}
        inside = len(near) == 1 and all(set(own) <= set(one) for one in near)
        return near.pop() if inside else own

    def crosses(self, node: Node, lane: Lane) -> bool:
        """Whether tasks of `lane` are handed the rows of `node` by those of another lane."""
        return not node.is_leaf and self.lane(node) != lane and not self._computed_again(node)

    def _computed_again(self, node: Node) -> bool:
        """Whether other lanes compute the rows of `node` for themselves."""
        return not _storable(node) or (not self.lane(node) and not self.worth_storing(node))

    def _available(self, node: Node, lane: Lane, user: Node) -> int:
        """The level from which on tasks of `lane` can read `node`."""
        if node.is_leaf or self.lane(node) == lane or is_whole_leaf(node) or user.op is PORTION:
            return self.level[node]
        if self.parts.mesh(node) is None:  # whole phases of the common lane come first, and all before loops
            early = not self.lane(node) or self.parts.mesh(user) is not None
            return self.level[node] + (not early)
        if not self._computed_again(node):
            return self.level[node] + 1
        key = (node, lane)
        if key not in self._known:
            self._known[key] = max((self._available(one, lane, node) for one in read_operands(node)), default=0)
        return self._known[key]
