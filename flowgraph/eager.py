"""Eager evaluation: the value of a tensor when something asks for it, and the cache of programs behind it.

A run keeps the value of every node in its cone that a user still holds. An evaluated node lets go of its operands, so
loops neither compute their past again nor hold it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgraph.errors import UsageError
from flowgraph.graph import INPUT, Graph, Node, toposort
from flowgraph.partition import choose_rows, unknown_rows
from flowgraph.program import Program
from flowgraph.tensor import Hooks

CACHE_SIZE = 512
"""How many programs are kept."""


class Cache:
    """Programs by their structure, the least recently used dropped first. It holds no arrays."""

    def __init__(self, size: int = CACHE_SIZE) -> None:
        self._entries: OrderedDict[Hashable, Any] = OrderedDict()
        self._size = size
        self._lock = threading.Lock()
        self.misses = 0

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The entry of `key`, made if there is none."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        entry = make()
        with self._lock:
            self.misses += 1
            self._entries[key] = entry
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        return entry

    def clear(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._entries.clear()


COMPILED = Cache()
"""Programs by the structure of a graph whose rows are unknown: what a change of the number of rows does not touch."""
BINDINGS = Cache()
"""Programs by the structure of a graph as it came, with all its lengths: the fast way to the entry above."""


def structure(graph: Graph) -> Hashable:
    """A key that equal graphs have in common: ops, attributes, types and how they hang together."""
    number = {node: index for index, node in enumerate(graph.inputs)}
    parts: list[Hashable] = [(node.types[0], node.attrs[0][1]) for node in graph.inputs]
    for node in graph.nodes():
        if not node.is_leaf:
            parts.append((node.op, node.attrs, tuple([number[one] for one in node.inputs])))
            number[node] = len(number)
    return tuple(parts), tuple([number[node] for node in graph.outputs])


@dataclass(frozen=True)
class Compiled:
    """A program, and the lengths of row factors that only the graph knew."""

    program: Program
    rows: Mapping[str, int]


def compiled(graph: Graph) -> Compiled:
    """The program of a graph; one program serves graphs that differ in their number of rows alone."""
    layouts = choose_rows(graph)
    unknown, _ = unknown_rows(graph, layouts)
    rows: dict[str, int] = {}
    for node in graph.nodes():
        for length, cut in zip(node.type.shape, layouts.produced(node), strict=True):
            if cut is not None and isinstance(length, int):
                rows.setdefault(cut.mesh, length // cut.times)
    inputs = {node for node in graph.inputs if any(layouts.produced(node))}
    fed = {cut.mesh for node in inputs for cut in layouts.produced(node) if cut is not None}
    program = COMPILED.get(structure(unknown), lambda: Program(unknown))
    return Compiled(program, {mesh: count for mesh, count in rows.items() if mesh not in fed})


_LOCK = threading.RLock()


def _known(node: Node) -> bool:
    return node.memo is not None and node.op.name != "constant"


def _empty_leaf(node: Node) -> Node:
    """A leaf in the place of a node whose value is known."""
    kind = node.attrs[0][1] if node.is_leaf else "data"
    return Node(INPUT, (), (("kind", kind), ("name", "")), node.types)


def cone(wanted: Sequence[Node]) -> tuple[list[Node], list[Node], list[Node]]:
    """What a run of `wanted` computes: (nodes to fetch, nodes with known values, all nodes in order)."""
    order = toposort(wanted, stop=_known)
    asked = set(wanted)
    fetch = list(dict.fromkeys(wanted))
    leaves = []
    for node in order:
        if _known(node):
            leaves.append(node)
        elif node.is_leaf:
            raise UsageError(
                f"the value of a tensor that depends on the input {node.attr('name') or node.type}",
                "that input has no value: it belongs to a function that is being traced",
                "Return the tensor from the function, and look at its value outside.",
            )
        elif node not in asked and node.handle is not None and node.handle() is not None and len(node.types) == 1:
            fetch.append(node)
    return fetch, leaves, order


def key_of(fetch: Sequence[Node], order: Sequence[Node]) -> Hashable:
    """The structure of a cone, as `structure` would give it for its graph."""
    number: dict[Node, int] = {}
    parts: list[Hashable] = []
    for node in order:
        if node.memo is not None and node.op.name != "constant":
            parts.append((node.types[0], node.attrs[0][1] if node.is_leaf else "data"))
        else:
            parts.append((node.op, node.attrs, tuple([number[one] for one in node.inputs])))
        number[node] = len(number)
    return tuple(parts), tuple([number[node] for node in fetch])


def detached(fetch: Sequence[Node], leaves: Sequence[Node], order: Sequence[Node]) -> Graph:
    """The graph of a cone, whose leaves hold no values: what a cache may keep."""
    new: dict[Node, Node] = {}
    for node in order:
        if _known(node):
            new[node] = _empty_leaf(node)
        elif all(new[one] is one for one in node.inputs):
            new[node] = Node(node.op, node.inputs, node.attrs, node.types, node.where)
        else:
            new[node] = Node(node.op, tuple([new[one] for one in node.inputs]), node.attrs, node.types, node.where)
    return Graph(tuple(new[node] for node in leaves), tuple(new[node] for node in fetch))


def evaluate(nodes: Sequence[Node], client: Any = None, scheduler: Any = None) -> None:
    """Give each of `nodes` its value, and every node on the way that a user holds."""
    with _LOCK:
        wanted = [node for node in nodes if node.memo is None]
        for node in nodes:
            if node.memo is not None and not isinstance(node.memo, np.ndarray):
                node.memo = np.asarray(node.memo)  # a source, joined into one array
        if not wanted:
            return
        fetch, leaves, order = cone(wanted)
        entry = BINDINGS.get(key_of(fetch, order), lambda: compiled(detached(fetch, leaves, order)))
        values = [node.memo for node in leaves]
    results = entry.program.run(values, client, scheduler, entry.rows)
    with _LOCK:
        for node, value in zip(fetch, results, strict=True):
            keep(node, value)


def keep(node: Node, value: Any) -> None:
    """Note the value of a node, and let go of what it was computed from."""
    node.memo = value
    if node.op.name != "constant":
        node.inputs = ()
        node.depth = 0


Hooks.evaluate = staticmethod(evaluate)
