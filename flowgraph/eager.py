"""Eager evaluation: the value of a tensor when something asks for it, and the cache of programs behind it.

A run keeps the value of every node in its cone that a user still holds. An evaluated node lets go of its operands, so
loops neither compute their past again nor hold it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Container, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowgraph.context import Hooks, describe_line
from flowgraph.errors import RunError, UsageError
from flowgraph.graph import INPUT, Graph, Node, lane_of, structure, value_bytes
from flowgraph.leaves import Shared
from flowgraph.mesh import current_placement
from flowgraph.ops.index import getitem, view_of
from flowgraph.partition import choose_rows, unknown_rows
from flowgraph.passes import Sunk, sink
from flowgraph.program import Program, load, row_lengths
from flowgraph.sources import Part, derive, held_by, in_memory

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


class Compiled(NamedTuple):
    """What runs a graph."""

    program: Program
    graph: Graph
    """The graph as it was given: errors name its lines. The program may have been made for an equal one."""
    rows: Mapping[str, int]
    """The lengths of row factors that only the graph knew."""
    states: Mapping[int, int] | None = None
    """Of which inputs some outputs are the next value."""
    by_parts: bool = True
    """Whether parts of large tensors were taken from the inputs, where there are any."""
    parts: tuple[tuple[int, tuple[Part, ...]], ...] = ()
    """Further inputs of the program: which of the given ones they are parts of, and which part."""
    recompute: bool = False
    """Whether rows are computed again where they could be stored, as the plan in force had it."""

    def run(
        self,
        values: Sequence[Any],
        client: Any = None,
        scheduler: Any = None,
        written: Callable[[], Graph] | None = None,
    ) -> list[Any]:
        """The values of the outputs for the values of the graph's inputs.

        `written` gives the graph that the caller wrote, if it is another, equal one: errors then name its lines.
        """
        try:
            return self.program.run(self.extended(values), client, scheduler, self.rows)
        except RunError as error:
            raise self._named(error, written() if written is not None else self.graph) from error.__cause__

    def run_on(
        self, nodes: Sequence[Node], values: Sequence[Any], client: Any = None, scheduler: Any = None
    ) -> list[Any]:
        """The same for the values of `nodes`, which may leave this process; no result is an array of the caller's."""
        given = set(map(id, values))
        results = map(in_memory, self.run(list(map(held_by, nodes, values)), client, scheduler))
        return [one.copy() if id(one) in given else one for one in results]

    def _named(self, error: RunError, graph: Graph) -> RunError:
        """`error` with the lines of `graph`; to find them it is compiled once more."""
        for kernel in Program(_opened(graph, self.by_parts).graph, self.states, self.recompute).kernels():
            if kernel.source == error.kernel:
                error.asked = f"to compute {kernel.named(error.lines)}"
        return error

    def extended(self, values: Sequence[Any]) -> Sequence[Any]:
        """The values of all inputs of the program."""
        return [*values, *(derive(values[number], parts) for number, parts in self.parts)] if self.parts else values


def compiled(graph: Graph, by_parts: bool = True, states: Mapping[int, int] | None = None) -> Compiled:
    """The program of a graph; one program serves graphs that differ in their number of rows alone.

    `by_parts` says whether parts of large tensors may be taken from the inputs (see `passes.sink`). `states` says of
    which inputs some outputs are the next value: they come in the same pieces.
    """
    opened, recompute = _opened(graph, by_parts), recomputes()
    key = structure(opened.graph), tuple((states or {}).items()), recompute
    program = COMPILED.get(key, lambda: Program(opened.graph, states, recompute))
    return Compiled(program, graph, opened.rows, states, by_parts, opened.parts, recompute)


class _Opened(NamedTuple):
    """A graph whose rows are unknown, made of one that knows them."""

    graph: Graph
    rows: Mapping[str, int]
    """The lengths of row factors that only the graph knew."""
    parts: tuple[tuple[int, tuple[Part, ...]], ...]


def _opened(graph: Graph, by_parts: bool) -> _Opened:
    sunk = sink(graph) if by_parts else Sunk(graph, ())
    layouts = choose_rows(sunk.graph)
    rows = row_lengths(sunk.graph, layouts)
    fed = {cut.mesh for node in sunk.graph.inputs for cut in layouts.produced(node) if cut is not None}
    unknown, _ = unknown_rows(sunk.graph, layouts)
    return _Opened(unknown, {mesh: count for mesh, count in rows.items() if mesh not in fed}, sunk.parts)


def recomputes() -> bool:
    """Whether the plan in force has rows computed again where they could be stored."""
    plan = current_placement()
    return plan is not None and plan.recompute


_LOCK = threading.RLock()


def is_known(node: Node, whole: Collection[Node] = ()) -> bool:
    """Whether the value of `node` is known. Elements of a known array are: each index would be a program of its own.

    Parts of what is in `whole` are not.
    """
    if whole and node.op is getitem and _is_part(node, whole):
        return False
    if node.memo is None:
        return node.op is getitem and view_of(node)
    return node.op.name != "constant"


def _is_part(node: Node, whole: Container[Node]) -> bool:
    while node.op is getitem and node.inputs:
        node = node.inputs[0]
    return node in whole


SMALL_BYTES = 1 << 16
"""Of a tensor below all is computed where an element is wanted."""
KEEP_BYTES = 256 << 20
"""Values above are only computed when they are asked for: beside data larger than memory they would not fit."""


class Cone(NamedTuple):
    """What a run of some nodes computes."""

    key: Hashable
    """The structure: equal cones run the same program."""
    fetch: list[Node]
    """The nodes whose values are kept: those asked for, and those that a user still holds."""
    leaves: list[Node]
    """The nodes whose values are known."""
    order: list[Node]
    """All nodes, operands before their users."""


def cone(wanted: Sequence[Node], whole: Collection[Node] = ()) -> Cone:
    """The cone of `wanted`. One walk finds order, leaves and structure: this is the hot path of eager mode.

    Parts of the leaves in `whole` are computed, though they are known as soon as the leaf is.
    """
    number: dict[Node, int] = {}
    parts: list[Hashable] = []
    leaves: list[Node] = []
    order: list[Node] = []
    beside: list[Node] = []
    computed: list[Node] = []

    def known(node: Node) -> None:
        number[node] = len(order)
        order.append(node)
        leaves.append(node)
        parts.append((node.types[0], node.attrs[0][1] if node.is_leaf else "data"))

    stack = list(reversed(wanted))
    while stack:
        node = stack[-1]
        if node in number:
            stack.pop()
            continue
        if is_known(node, whole):
            stack.pop()
            known(node)
            continue
        if node.is_leaf:
            raise _unfed(node)
        waiting: list[Node] = []
        for one in node.inputs:
            if one not in number:
                if waiting or not is_known(one, whole):
                    waiting.append(one)
                else:  # most operands of small graphs
                    known(one)
        if waiting:
            waiting.reverse()
            stack += waiting
            continue
        stack.pop()
        parts.append((node.op, node.attrs, tuple([number[one] for one in node.inputs]), lane_of(node)))
        number[node] = len(order)
        order.append(node)
        computed.append(node)
        if len(node.types) > 1 and node.handle is not None:
            beside += [item for one in node.handle if (item := one()) is not None and is_held(item)]
    for item in beside:  # results of an op that another of its results is asked of: it would be computed again for them
        if item not in number:
            parts.append((item.op, item.attrs, (number[item.inputs[0]],)))
            number[item] = len(order)
            order.append(item)
            computed.append(item)
    fetch = list(dict.fromkeys(wanted))
    asked = set(fetch)
    fetch += [node for node in computed if node not in asked and is_held(node)]
    if len(fetch) > len(asked) and any(value_bytes(leaf.types[0]) > KEEP_BYTES for leaf in leaves):
        fetch = [node for node in fetch if node in asked or value_bytes(node.types[0]) <= KEEP_BYTES]
    return Cone((tuple(parts), tuple([number[node] for node in fetch])), fetch, leaves, order)


def is_held(node: Node) -> bool:
    """Whether a user holds the value, still unknown, of `node`."""
    if node.memo is not None or node.handle is None or len(node.types) > 1 or node.op.name == "shard":
        return False  # a wish about cuts is no value of its own
    return node.handle() is not None


def _unfed(node: Node) -> UsageError:
    owner = getattr(node, "owner", None)
    if owner is not None:
        return UsageError(
            f"the value of {owner.name!r}, made at {describe_line(node.where)}",
            "it belongs to a deferred graph, where values are known only inside a run",
            "Run it: `session.run(x)`, or `x.eval()` under `with Session():`.",
        )
    return UsageError(
        f"the value of a tensor that depends on the input {node.attr('name') or node.type}",
        "that input has no value: it belongs to a function that is being traced",
        "Return the tensor from the function, and look at its value outside.",
    )


def detached(run: Cone) -> Graph:
    """The graph of a cone, whose leaves hold no values: what a cache may keep."""
    new: dict[Node, Node] = {}
    leaves = set(run.leaves)
    for node in run.order:
        if node in leaves:
            kind = node.attrs[0][1] if node.is_leaf else "data"
            new[node] = Node(INPUT, (), (("kind", kind), ("name", "")), node.types)
        else:
            new[node] = Node(node.op, tuple([new[one] for one in node.inputs]), node.attrs, node.types, node.where)
    return Graph(tuple(new[node] for node in run.leaves), tuple(new[node] for node in run.fetch))


def evaluate(nodes: Sequence[Node], client: Any = None, scheduler: Any = None) -> None:
    """Give each of `nodes` its value, and every node on the way that a user holds."""
    for node in nodes:
        if node.memo is not None and not isinstance(node.memo, np.ndarray):
            node.memo = load(node.memo, client, scheduler)  # outside the lock: Dask tasks may be anybody's
    with _LOCK:
        wanted = []
        for node in nodes:
            if node.memo is None:
                if node.symbolic:  # its operands are not to be forgotten
                    raise _unfed(node)
                wanted.append(_operand_of_part(node))
        wanted = [node for node in wanted if node.memo is None]
        if wanted:
            own = cone(wanted)
            values = known_values(own)
            entry = BINDINGS.get((own.key, recomputes()), lambda: compiled(detached(own)))
    if wanted:
        commit(own, entry.run(values, client, scheduler, written=lambda: detached(own)))
    for node in nodes:
        if not isinstance(node.memo, np.ndarray) and not _known_part(node):
            node.memo = load(node.memo, client, scheduler)  # what was asked for is an input, under another name


def _operand_of_part(node: Node) -> Node:
    """What to compute for `node`: of elements of a small tensor that is kept anyway, that tensor.

    So one program serves for all its elements.
    """
    if node.op is getitem and is_held(node.inputs[0]) and value_bytes(node.inputs[0].types[0]) <= SMALL_BYTES:
        return node.inputs[0]
    return node


def _known_part(node: Node) -> bool:
    return node.memo is None and node.op is getitem and view_of(node)


def known_values(run: Cone) -> list[Any]:
    """The values of the leaves of `run`; raises DataError where a shared array was changed."""
    for leaf in run.leaves:
        if type(leaf) is Shared:
            leaf.check()
    return [held_by(node, node.memo) for node in run.leaves]


def commit(run: Cone, results: Sequence[Any]) -> None:
    """Note the values that `run` was to compute."""
    with _LOCK:
        for node, value in zip(run.fetch, results, strict=True):
            keep(node, in_memory(value))


def keep(node: Node, value: Any) -> None:
    """Note the value of a node, and let go of what it was computed from."""
    node.memo = value
    if node.op.name != "constant":
        node.inputs = ()
        node.depth = 0


# Last, for another thread may ask at once.
Hooks.evaluate = staticmethod(evaluate)
