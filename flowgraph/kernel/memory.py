"""Memory: which array each result of a kernel lives in. Here it is decided what is written over, and what is copied.

Results live in buffers. A buffer is used again as soon as its last reader is done, and an operation writes over an
operand that dies with it. Liveness is tracked for the array behind a view, never for the view.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flowgraph.graph import Node, read_operands
from flowgraph.kernel import host
from flowgraph.kernel.names import MESH_NUMBER, Names, affine_text, tuple_text
from flowgraph.partition import COMMUNICATION, FLAT, SPREAD, Cut, Partitioned
from flowgraph.schedule import Schedule
from flowgraph.types import Dim, Size

FOREVER = 1 << 60
Line = tuple[str, Node | None]
"""A line of source and the node that it computes."""


class Memory:
    """The lines of a kernel so far, and the arrays they use. `tiled` is the mesh axis walked in tiles, if any.

    There are lines that run once (`pre`), lines that bind views of buffers whenever the number of rows in a tile
    changes (`setup`), and lines that run for every tile (`body`).
    """

    def __init__(
        self, parts: Partitioned, plan: Schedule, numbers: Mapping[Node, int], names: Names, tiled: str | None = None
    ) -> None:
        self.parts, self.plan, self.numbers, self.names = parts, plan, numbers, names
        self.tiled = tiled
        self.pre: list[Line] = []
        self.setup: list[Line] = [] if tiled is not None else self.pre
        self.body: list[Line] = []
        self.text: dict[Node, str] = {}
        """What to write for the array of a node."""
        self.numbers_of_host: dict[Node, str] = {}
        """What to write for the Python number of a scalar in double precision."""
        self.stable: set[Node] = set()
        """Nodes whose array is the same object for every tile: views of buffers, and what is computed before."""
        self.owned: dict[Node, str] = {}
        """The buffer that a node's result lives in."""
        self.root: dict[Node, Node] = {}
        self.last_use: dict[Node, int] = {}
        self.ends: dict[int, list[Node]] = {}
        """For each position, the nodes that are read there for the last time, in the order of their computation."""
        self.free: dict[tuple[str, str], list[str]] = {}
        self.preset: dict[Node, str] = {}
        """Arrays that results must be written into: slices of accumulators, state that a window carries."""
        self.carried: dict[Node, Node] = {}
        """In a window: the state whose array a result should be written into, if nobody reads the state after it."""
        self.joins: dict[Node, list[tuple[Node, int, int, bool]]] = {}
        """Vectors joined of parts: (operand, start, stop, whether the operand is computed in its place)."""
        self.join_views: dict[Node, list[Line]] = {}
        self.hoisted: dict[tuple[int, str], str] = {}
        """The names of views that are bound once: (where they are bound, what they look at)."""
        self.buffers = 0
        self.allocated: list[tuple[str, int]] = []
        """The memory that the kernel takes for itself: (number of elements as text, bytes of each)."""
        self.invariant: set[Node] = set()

    # Sizes.

    def length(self, size: Size) -> str:
        """A whole length as text."""
        if isinstance(size, int):
            return str(size)
        return affine_text(f"N{MESH_NUMBER[size.base.name]}", size.times, size.plus)

    def local_shape(self, node: Node) -> list[str]:
        """The lengths of the piece of `node` that the kernel has at a time."""
        lengths = []
        for size, cut in zip(node.type.shape, self.parts.layouts[node], strict=True):
            lengths.append(self._local(size, None if node in self.parts.partial else cut))
        return lengths

    def result_shapes(self, node: Node) -> str:
        """The local shapes of all results of `node`."""
        rows = next((cut for cut in self.parts.layouts[node] if cut is not None), None)
        binding = node.inferred().binding
        (factor,) = {
            a.factors[0] for a, cut in zip(binding.results[0], self.parts.layouts[node], strict=True) if cut
        } or (None,)
        shapes = []
        for axes, one in zip(binding.results, node.types, strict=True):
            cuts = [rows if rows is not None and a.factors[:1] == (factor,) else None for a in axes]
            shapes.append(tuple_text([self._local(size, cut) for size, cut in zip(one.shape, cuts, strict=True)]))
        return tuple_text(shapes)

    def _local(self, size: Size, cut: Cut | None) -> str:
        """The length of a piece of an axis."""
        if cut is None:
            return self.length(size)
        plus = size.plus if isinstance(size, Dim) else 0
        return affine_text(f"n{MESH_NUMBER[cut.mesh]}", cut.times, plus)

    def shape_text(self, node: Node) -> str:
        """The local shape of `node` as a tuple."""
        return tuple_text(self.local_shape(node))

    def count_text(self, lengths: Iterable[str]) -> str:
        """The number of elements of a shape: numbers are multiplied here, unknowns by the kernel."""
        product, unknown = 1, []
        for length in lengths:
            if length.isdigit():
                product *= int(length)
            else:
                unknown.append(f"({length})" if "+" in length or "-" in length else length)
        if not unknown:
            return str(product)
        return "*".join(unknown + ([str(product)] if product != 1 else []))

    def takes(self, node: Node) -> None:
        """Note that the kernel makes new arrays for the results of `node`, unless only a run finds their lengths."""
        lengths = [size for size in node.type.shape if isinstance(size, Dim)]
        if all(size.base.name in MESH_NUMBER for size in lengths):
            width = sum(one.dtype.itemsize for one in node.types)
            self.allocated.append((self.count_text(self.local_shape(node)), width))

    # Where a line goes.

    def _lines(self, node: Node) -> list[Line]:
        """Where the line that computes `node` goes."""
        return self.pre if node in self.invariant else self.body

    def _binds(self, node: Node) -> list[Line]:
        """Where a line goes that binds an array for `node` to write into or to look through."""
        return self.pre if node in self.invariant else self.setup

    def array(self, node: Node) -> str:
        """The array of `node` as text; a number kept as a Python float is turned into one where it is asked for."""
        if node not in self.text:
            value = self.numbers_of_host[node]
            name = f"v{self.numbers[node]}"
            line = f"{name} = array({value}, {self.names.dtype(node.type.dtype)})"
            (self.pre if node in self.stable else self.body).append((line, node))
            self.text[node] = name
        return self.text[node]

    # What is alive.

    def _liveness(self, nodes: Sequence[Node], pinned: set[Node]) -> None:
        for node in nodes:
            aliased = node.op.view is not None or node.op in COMMUNICATION
            self.root[node] = self.root.get(node.inputs[0], node.inputs[0]) if aliased else node
        for position, node in enumerate(nodes):
            for operand in (*read_operands(node), node):
                root = self.root.get(operand, operand)
                self.last_use[root] = max(self.last_use.get(root, 0), position)
        for node in pinned:
            self.last_use[self.root.get(node, node)] = FOREVER
        self.ends = {}
        for node in nodes:
            if self.root[node] is node:
                self.ends.setdefault(self.last_use[node], []).append(node)

    def _plan_joins(self, nodes: Sequence[Node]) -> None:
        """Let what is only computed to be joined into one vector be written into its place at once."""
        made = set(nodes)
        for node in nodes:
            if node.op.name != "concat" or node.type.ndim != 1 or node in self.invariant or node in self.preset:
                continue
            places, offset = [], 0
            for operand in node.inputs:
                (length,) = operand.type.shape
                if not isinstance(length, int):
                    break
                places.append((operand, offset, offset + length))
                offset += length
            else:
                self.joins[node] = [self._place(node, *place, made) for place in places]
                dtype = self.names.dtype(node.type.dtype)
                self.pre.append((f"v{self.numbers[node]} = empty({offset}, {dtype})", node))
                self.allocated.append((str(offset), node.type.dtype.itemsize))
                self.pre += self.join_views.pop(node, [])

    def _place(self, node: Node, operand: Node, start: int, stop: int, made: set[Node]) -> tuple[Node, int, int, bool]:
        """(operand, start, stop, whether it is computed in place)."""
        source = self.root.get(operand, operand)
        own = self.plan.calls.get(self.parts.origin.get(source, source))
        direct = (
            source in made
            and own is not None
            and "{out}" in own.text
            and source not in self.preset
            and source not in self.invariant
            and source not in self.carried
            and source.op.name != "astype"
            and not host.is_host_type(source)
            and source.type.dtype == node.type.dtype
            and _reshapes_only(operand, source)
        )
        if direct:
            name = f"v{self.numbers[source]}"
            shape = self.shape_text(source)
            self.preset[source] = name
            self.join_views.setdefault(node, []).append(
                (f"{name} = v{self.numbers[node]}[{start}:{stop}].reshape({shape})", source)
            )
        return operand, start, stop, direct

    # Which array a result is written into.

    def _output(self, node: Node, position: int, in_place: bool) -> str:
        """The array that the result of `node` is written into."""
        if node in self.preset:
            self.stable.add(node)
            return self.preset[node]
        state = self.carried.get(node)
        if state is not None and self._state_is_free(node, state, position, in_place):
            self.stable.add(node)
            return self.text[state]
        if in_place:
            donor = self._dying_operand(node, position)
            if donor is not None:
                self.owned[node] = self.owned.pop(donor)
                self.root[node] = node
                if donor in self.stable:
                    self.stable.add(node)
                return self.text[donor]
        return self._fresh(node)

    def _state_is_free(self, node: Node, state: Node, position: int, in_place: bool) -> bool:
        """Whether `node`, the new value of `state`, may be written over the old one."""
        last = self.last_use.get(state, -1)
        reads = [one for one in node.inputs if self.root.get(one, one) is state]
        if last > position or (last == position and not (in_place and all(one is state for one in reads))):
            return False
        return node.type == state.type

    def _dying_operand(self, node: Node, position: int) -> Node | None:
        """An operand of the same shape and dtype whose memory nobody reads after `node`."""
        if node in self.invariant:
            return None
        for operand in node.inputs:
            if (
                operand in self.owned
                and self.root.get(operand, operand) is operand
                and self.last_use[operand] == position
                and all(one is operand for one in node.inputs if self.root.get(one, one) is operand)
                and operand.type.dtype == node.type.dtype
                and operand not in self.invariant
                and self.local_shape(operand) == self.local_shape(node)
            ):
                return operand
        return None

    def _fresh(self, node: Node) -> str:
        lengths = self.local_shape(node)
        count, dtype = self.count_text(lengths), self.names.dtype(node.type.dtype)
        name = f"v{self.numbers[node]}"
        key = (count, dtype)
        if self.free.get(key) and node not in self.invariant:
            buffer = self.free[key].pop()
        else:
            buffer = f"b{self.buffers}"
            self.buffers += 1
            self.pre.append((f"{buffer} = empty({self._capacity(count)}, {dtype})", None))
            self.allocated.append((self._capacity(count), node.type.dtype.itemsize))
        if node not in self.invariant:
            self.owned[node] = buffer
        self.stable.add(node)
        whole = buffer if self._capacity(count) == count else f"{buffer}[:{count}]"
        shape = tuple_text(lengths)
        view = whole if len(lengths) == 1 else f"{whole}.reshape({shape})"
        self._binds(node).append((f"{name} = {view}", node))
        return name

    def _capacity(self, count: str) -> str:
        """The largest value of a count: that of the first tile."""
        number = None if self.tiled is None else MESH_NUMBER[self.tiled]
        return count if number is None else count.replace(f"n{number}", f"most{number}")

    def _release(self, position: int) -> None:
        """Give back the buffers whose last reader has been emitted."""
        for node in self.ends.get(position, ()):
            if node not in self.owned:
                continue
            buffer = self.owned.pop(node)
            lengths = self.local_shape(node)
            self.free.setdefault((self.count_text(lengths), self.names.dtype(node.type.dtype)), []).append(buffer)


def in_c_order(node: Node) -> bool:
    """Whether the array of `node` is sure to be in C order: else a reshape of it is a copy, not a view."""
    while _keeps_order(node):
        node = node.inputs[0]
    return node.op.view is None and node.op is not SPREAD


def _keeps_order(node: Node) -> bool:
    """Whether `node` looks at its operand in a way that is in C order if the operand is."""
    if node.op in COMMUNICATION:
        return node.op is not SPREAD
    if node.op.name == "getitem":  # a run of the first axis, with the whole of all others
        first, *rest = node.attr("key") or (None,)
        run = isinstance(first, int) or (isinstance(first, tuple) and first[3] in (None, 1))
        return run and all(part == ("slice", None, None, None) for part in rest)
    return node.op.name in FLAT


def _reshapes_only(node: Node, source: Node) -> bool:
    """Whether `node` is `source`, looked at in another shape but in the same order."""
    while node is not source:
        if node.op.name not in FLAT and (node.op not in COMMUNICATION or node.op is SPREAD):
            return False
        node = node.inputs[0]
    return True
