"""The old values of variables that tensors wait to be computed from: above a limit these are computed at once."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import suppress

from flowgraph.context import Hooks
from flowgraph.eager import evaluate, is_held, is_known
from flowgraph.errors import FlowgraphError
from flowgraph.graph import Node, toposort

PINNED_BYTES = 64 << 20
"""Above so many bytes of old values of variables that tensors wait to be computed from, these are computed at once."""
SMALL_BYTES = 1 << 16
"""Values below are not counted: as many as matter can not wait, for a chain of tensors is computed before that."""


class Pinned:
    """The old values of variables that something still refers to."""

    def __init__(self) -> None:
        self._leaves: list[tuple[weakref.ref[Node], int]] = []
        self._bytes = 0
        self._lock = threading.Lock()

    def replaced(self, leaf: weakref.ref[Node], nbytes: int) -> None:
        """Note that a variable has let go of `leaf`, its old value of `nbytes` bytes."""
        if nbytes < SMALL_BYTES or leaf() is None:
            return
        with self._lock:
            self._leaves.append((leaf, nbytes))
            self._bytes += nbytes
            if self._bytes <= PINNED_BYTES:
                return
            self._leaves = [one for one in self._leaves if one[0]() is not None]
            self._bytes = sum(nbytes for _, nbytes in self._leaves)
            if self._bytes <= PINNED_BYTES:
                return
            found = {node for one, _ in self._leaves if (node := one()) is not None}
            # What is alive after this is held by a user or a tape, and is not counted again.
            self._leaves, self._bytes = [], 0
        _evaluate_all_above(found)


def _evaluate_all_above(leaves: set[Node]) -> None:
    """Evaluate every tensor that a user holds and that waits for one of `leaves`.

    Nodes do not know who uses them, so all objects of the process are looked through: a matter of milliseconds, and
    seldom.
    """
    held = [one for one in gc.get_objects() if type(one) is Node and not one.symbolic and is_held(one)]
    waiting = set(leaves)
    for node in toposort(held, stop=is_known):
        if node not in leaves and not waiting.isdisjoint(node.inputs):
            waiting.add(node)
    for node in sorted(waiting.intersection(held), key=lambda node: -node.depth):
        if node.memo is None:  # not computed on the way to a deeper one
            with suppress(FlowgraphError):  # it is the error of who asks for that tensor
                evaluate([node])


PINNED = Pinned()

# Last, for another thread may ask at once.
Hooks.replaced = PINNED.replaced
