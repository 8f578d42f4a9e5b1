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

Array = np.ndarray[Any, Any]
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


def detached(state: State) -> State:
    """`state` with the tuples of monoids copied: what they keep of two states may be a part of either."""
    return [tuple(np.array(part) for part in one) if isinstance(one, tuple) else one for one in state]


def copied(state: State) -> State:
    """`state` in arrays of its own; the tuples of monoids are their own already."""
    return [one if isinstance(one, tuple) else one.copy() for one in state]


BLOCK = 64
"""Small leaves merge so many at a time: level by level, one call for all pairs of a level."""
BLOCK_BYTES = 4096
"""The largest leaf that counts as small: a call costs as much as the arithmetic on so many bytes."""


class Stack:
    """The subtrees of consecutive leaves, fed tile by tile."""

    def __init__(self, merges: Merges, first_tile: int, leaf_tiles: int) -> None:
        self.merges = merges
        self.leaf_tiles = leaf_tiles
        self.index = first_tile // leaf_tiles
        self.subtrees: list[Subtree] = []
        self._leaf: State = []
        self._inside = 0
        self._block: list[Array] = []
        """For each entry, the leaves that wait for the end of their block, one a row."""
        self._waiting = 0

    def push(self, state: State) -> None:
        """Add the state of the next tile; its arrays stay the caller's."""
        if self._block:
            self._wait(state)
        elif self.leaf_tiles > 1:
            state = detached(state)
            self._leaf = copied(state) if self._inside == 0 else merged(self.merges, self._leaf, state, own_left=True)
            self._inside += 1
            if self._inside == self.leaf_tiles:
                self._end_leaf()
        elif not self.subtrees and self._are_small(state):
            self._block = [np.empty((BLOCK, one.size), one.dtype) for one in state]
            self._wait(state)
        else:
            self._add_leaf(detached(state), owned=False)

    def finish(self) -> list[Subtree]:
        """The subtrees, the last leaf included even where it has fewer tiles (it is then the last of all)."""
        if self._inside:
            self._end_leaf()
        self._end_block()
        return self.subtrees

    def _end_leaf(self) -> None:
        self._add_leaf(self._leaf, owned=True)
        self._inside = 0

    def _are_small(self, state: State) -> bool:
        if not all(isinstance(merge, np.ufunc) for merge in self.merges):
            return False
        return all(one.ndim == 1 and one.nbytes <= BLOCK_BYTES for one in state)

    def _wait(self, state: State) -> None:
        slot = (self.index + self._waiting) % BLOCK
        for rows, one in zip(self._block, state, strict=True):
            rows[slot] = one
        self._waiting += 1
        if slot == BLOCK - 1:
            self._end_block()

    def _end_block(self) -> None:
        if self._waiting == BLOCK:
            level, index = BLOCK.bit_length() - 1, self.index // BLOCK
            self._add(level, index, self._fold(), owned=True)
            self.index += BLOCK
        else:
            for slot in range(self.index % BLOCK, self.index % BLOCK + self._waiting):
                self._add_leaf([rows[slot] for rows in self._block], owned=False)
        self._waiting = 0

    def _fold(self) -> State:
        state = []
        for merge, rows in zip(self.merges, self._block, strict=True):
            while len(rows) > 1:
                rows = merge(rows[0::2], rows[1::2])
            state.append(rows[0])
        return state

    def _add_leaf(self, state: State, owned: bool) -> None:
        self._add(0, self.index, state, owned)
        self.index += 1

    def _add(self, level: int, index: int, state: State, owned: bool) -> None:
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
