"""Merging partial results in a tree that rows alone decide.

Leaves lie on a grid over all rows. They merge pairwise like a binary counter over the global leaf index:

    leaf     0   1   2   3   4
             └─┬─┘   └─┬─┘   │
               └───┬───┘     │
                   └────┬────┘

A shard returns the complete subtrees it holds as (level, index, state); merging shards completes the same tree, so the
sum has the same bits however the leaves were dealt out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

State = list[Any]
"""One entry for each merge function: an array, or a monoid's tuple of arrays."""
Subtree = tuple[int, int, State]
"""(level, index, state): the leaves from index * 2**level on, 2**level of them."""
Merges = Sequence[Callable[..., Any]]
"""One merge function for each entry: a ufunc, or a monoid's merge."""


def merged(merges: Merges, left: State, right: State, own_left: bool) -> State:
    """The states `left` and `right` together, in this order; written into `left` if the caller owns its arrays."""
    result = []
    for merge, a, b in zip(merges, left, right, strict=True):
        if isinstance(merge, np.ufunc):
            result.append(merge(a, b, out=a) if own_left else merge(a, b))
        else:
            result.append(merge(a, b))
    return result


def copied(state: State) -> State:
    """`state` in arrays of its own; the tuples of monoids are their own already."""
    return [one if isinstance(one, tuple) else one.copy() for one in state]


class Stack:
    """The subtrees of consecutive leaves, fed tile by tile."""

    def __init__(self, merges: Merges, first_tile: int, leaf_tiles: int) -> None:
        self.merges = merges
        self.leaf_tiles = leaf_tiles
        self.index = first_tile // leaf_tiles
        self.subtrees: list[Subtree] = []
        self._leaf: State = []
        self._inside = 0

    def push(self, state: State) -> None:
        """Add the state of the next tile; its arrays stay the caller's."""
        # What a monoid keeps of two states may be a part of either, so its arrays are copied before it sees them.
        state = [tuple(np.array(part) for part in one) if isinstance(one, tuple) else one for one in state]
        if self.leaf_tiles == 1:
            self._push_leaf(state, owned=False)
            return
        self._leaf = copied(state) if self._inside == 0 else merged(self.merges, self._leaf, state, own_left=True)
        self._inside += 1
        if self._inside == self.leaf_tiles:
            self._push_leaf(self._leaf, owned=True)
            self._inside = 0

    def finish(self) -> list[Subtree]:
        """The subtrees, the last leaf included even where it has fewer tiles (it is then the last of all)."""
        if self._inside:
            self._push_leaf(self._leaf, owned=True)
            self._inside = 0
        return self.subtrees

    def _push_leaf(self, state: State, owned: bool) -> None:
        level, index = 0, self.index
        self.index += 1
        while index % 2 and self.subtrees and self.subtrees[-1][:2] == (level, index - 1):
            left = self.subtrees.pop()[2]
            state, owned = merged(self.merges, left, state, own_left=True), True
            level, index = level + 1, index // 2
        self.subtrees.append((level, index, state if owned else copied(state)))


def join(merges: Merges, stacks: Iterable[Sequence[Subtree]]) -> list[Subtree]:
    """The subtrees of neighbouring shards (in their order) together; no input is written to."""
    result: list[tuple[Subtree, bool]] = []
    for level, index, state in (subtree for stack in stacks for subtree in stack):
        owned = False
        while index % 2 and result and result[-1][0][:2] == (level, index - 1):
            (_, _, left), own_left = result.pop()
            state, owned = merged(merges, left, state, own_left), True
            level, index = level + 1, index // 2
        result.append(((level, index, state), owned))
    return [subtree for subtree, _ in result]


def complete(merges: Merges, stacks: Iterable[Sequence[Subtree]]) -> State:
    """The state of all leaves: what remains of the tree is folded from the right, the smallest subtree first."""
    subtrees = join(merges, stacks)
    state = subtrees[-1][2]
    for _, _, left in reversed(subtrees[:-1]):
        state = merged(merges, left, state, own_left=False)
    return state
