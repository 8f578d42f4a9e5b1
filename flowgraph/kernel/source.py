"""The kinds of kernel: a loop over tiles, a whole phase, and a program of one tile."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flowgraph.graph import Node
from flowgraph.kernel.emit import Block, accumulator_ufunc
from flowgraph.kernel.host import is_host_type
from flowgraph.kernel.kernel import Kernel, Note
from flowgraph.kernel.levels import Lane
from flowgraph.kernel.memory import Line
from flowgraph.kernel.merge import Stack
from flowgraph.kernel.names import MESH_NUMBER, Names, affine_text, tuple_text
from flowgraph.kernel.stages import Loop, Stages, Whole
from flowgraph.op import monoid_of
from flowgraph.partition import GATHER, Partitioned, rows_of
from flowgraph.schedule import Schedule
from flowgraph.types import Dim, static_size


class Accumulators(NamedTuple):
    """How the partial results of a loop lie in its state."""

    merges: tuple[Any, ...]
    """The merge function of each entry of the state."""
    dtypes: tuple[Any, ...]
    """The dtype of each flat entry; None for a monoid's."""
    counts: tuple[str, ...]
    """The number of elements of each flat entry, as text."""
    places: Mapping[Node, tuple[int, str, str]]
    """For each partial node: (entry, start, stop) in the flat array of its entry."""


class Emitter:
    """Makes the kernels of one program."""

    def __init__(self, parts: Partitioned, plan: Schedule, phases: Stages) -> None:
        self.parts, self.plan, self.phases = parts, plan, phases
        self.numbers = {
            node: number for number, node in enumerate(dict.fromkeys([*parts.graph.inputs, *phases.needed]))
        }
        self.read = frozenset(phases.needed)
        """The nodes whose values are read or wanted."""
        self.meshes = sorted(self._meshes(), key=MESH_NUMBER.__getitem__)

    def _meshes(self) -> set[str]:
        """The mesh axes of all nodes, and those that a node has in its lengths alone: their rows nobody computes."""
        cut = {mesh for node in self.numbers if (mesh := self.parts.mesh(node)) is not None}
        types = {one for node in self.numbers for near in (node, *node.inputs) for one in near.types}
        named = {length.base.name for one in types for length in one.shape if isinstance(length, Dim)}
        return cut | named.intersection(self.plan.tile)

    def variable(self, node: Node) -> str:
        """The name of a node's array in every kernel."""
        return f"v{self.numbers[node]}"

    def totals(self) -> list[str]:
        """The names of the numbers of rows."""
        return [f"N{MESH_NUMBER[mesh]}" for mesh in self.meshes]

    # A loop over tiles.

    def loop(self, loop: Loop, replicated: Sequence[Node], arguments: Sequence[Node]) -> Kernel:
        """`kernel(start, rows, leaf_tiles, *totals, *row sources, *whole values) -> (subtrees, *rows that leave)`.

        `replicated` are whole nodes that every shard computes for itself; `arguments` are whole values given to it.
        """
        names = Names()
        block = Block(self.parts, self.plan, self.numbers, names, loop.mesh)
        number, tile = MESH_NUMBER[loop.mesh], self.plan.tile[loop.mesh]
        names.objects["Stack"] = Stack
        self.bind_arguments(block, arguments)
        block.run(replicated, pinned=replicated, invariant=replicated)
        places = self.accumulators(loop)
        self._bind_accumulators(block, places, names)
        for node in loop.loads:
            block.text[node] = self.variable(node)
            block.body.append((f"{self.variable(node)} = r{self.numbers[node]}.tile(low, n{number})", node))
        block.run(loop.nodes, pinned=loop.writes)
        for node in loop.writes:
            block.body.append(self._write(block, node))
        block.body.append((f"push([{', '.join(self._state(places, loop.partials, block))}])", None))
        shapes = [self._shard_shape(block, node) for node in loop.writes]
        body = [
            (f"most{number} = min({tile}, rows)", None),
            *block.pre,
            *[
                (f"w{self.numbers[node]} = empty({shape}, {names.dtype(node.type.dtype)})", node)
                for node, shape in zip(loop.writes, shapes, strict=True)
            ],
            (f"stack = Stack(MERGES, start // {tile}, leaf_tiles)", None),
            ("push = stack.push", None),
            ("size = -1", None),
            (
                f"for low in range(0, rows + (not N{number}), {tile}):  # an empty tile if there are no rows",
                None,
            ),
            (f"    at{number} = start + low", None),
            (f"    n{number} = min({tile}, rows - low)", None),
            (f"    if n{number} != size:  # the first tile, and a short last one", None),
            (f"        size = n{number}", None),
            *indented(block.setup, 2),
            *indented(block.body, 1),
            (f"return {tuple_text(['stack.finish()', *(f'w{self.numbers[node]}' for node in loop.writes)])}", None),
        ]
        names.objects["MERGES"] = places.merges
        parameters = [
            "start", "rows", "leaf_tiles", *self.totals(),
            *(f"r{self.numbers[node]}" for node in loop.loads), *(self.variable(node) for node in arguments),
        ]  # fmt: skip
        name = f"loop_{loop.level}" + (f"_{loop.mesh}" if number else "") + lane_text(loop.lane)
        return self.kernel(name, parameters, body, block)

    def accumulators(self, loop: Loop) -> Accumulators:
        """One flat array for all partial results of one merge function and dtype; gradients are slices of it.

        Those that are combined in portions come last, in arrays of their own; in each array known lengths come first.
        """
        apart = loop.apart
        partials = sorted(loop.partials, key=lambda node: (node in apart, static_size(node.type.shape) is None))
        entries: list[tuple[Any, Any]] = []
        known: dict[tuple[Any, ...], int] = {}
        counts: list[_Count] = []
        places: dict[Node, tuple[int, str, str]] = {}
        measure = Block(self.parts, self.plan, self.numbers, Names())
        for node in partials:
            monoid = monoid_of(node.op, len(node.types))
            if monoid is not None:
                entries.append((monoid.merge, None))
                counts.append(_Count())
                places[node] = (len(entries) - 1, "", "")
                continue
            key = (accumulator_ufunc(node), node.type.dtype)
            if (*key, node in apart) not in known:
                known[*key, node in apart] = len(entries)
                entries.append(key)
                counts.append(_Count())
            entry = known[*key, node in apart]
            start = counts[entry].text()
            counts[entry].add(measure.count_text(measure.local_shape(node)))
            places[node] = (entry, start, counts[entry].text())
        return Accumulators(
            tuple(merge for merge, _ in entries),
            tuple(dtype for _, dtype in entries),
            tuple(one.text() for one in counts),
            places,
        )

    def _bind_accumulators(self, block: Block, places: Accumulators, names: Names) -> None:
        for entry, (dtype, count) in enumerate(zip(places.dtypes, places.counts, strict=True)):
            if dtype is not None:
                block.pre.append((f"acc{entry} = empty({count}, {names.dtype(dtype)})", None))
                block.allocated.append((count, dtype.itemsize))
        for node, (entry, start, stop) in places.places.items():
            if places.dtypes[entry] is not None:
                shape = tuple_text(block.local_shape(node))
                block.pre.append((f"{self.variable(node)} = acc{entry}[{start}:{stop}].reshape({shape})", node))
                block.preset[node] = self.variable(node)

    def _state(self, places: Accumulators, partials: Sequence[Node], block: Block) -> list[str]:
        of_entry = {places.places[node][0]: node for node in partials}
        return [
            f"acc{entry}" if dtype is not None else block.text[of_entry[entry]]
            for entry, dtype in enumerate(places.dtypes)
        ]

    def _write(self, block: Block, node: Node) -> Line:
        axis, cut = rows_of(self.parts.layouts[node]) or (0, None)
        assert cut is not None
        number = MESH_NUMBER[cut.mesh]
        low, high = (affine_text(text, cut.times, 0) for text in ("low", f"(low + n{number})"))
        return f"w{self.numbers[node]}[{':, ' * axis}{low}:{high}] = {block.array(node)}", node

    def _shard_shape(self, block: Block, node: Node) -> str:
        axis, cut = rows_of(self.parts.layouts[node]) or (0, None)
        assert cut is not None
        lengths = block.local_shape(node)
        lengths[axis] = affine_text("rows", cut.times, 0)
        return tuple_text(lengths)

    # A whole phase.

    def whole(
        self,
        phase: Whole,
        nodes: Sequence[Node],
        loops: Sequence[Loop],
        portions: Sequence[Node],
        arguments: Sequence[Node],
        results: Sequence[Node],
    ) -> Kernel:
        """`kernel(*totals, *states of the loops before, *gathered arrays, *portions, *whole values) -> results`."""
        names = Names()
        block = Block(self.parts, self.plan, self.numbers, names)
        states: list[str] = []
        self.bind_arguments(block, arguments)
        for position, loop in enumerate(loops):
            if not loop.apart.issuperset(loop.partials):
                states.append(f"state{position}")
                self._open_state(block, loop, f"state{position}")
        gathered = [node.inputs[0] for node in nodes if node.op is GATHER]
        for node in gathered:
            block.text[node] = f"g{self.numbers[node]}"
            block.stable.add(node)
        self.bind_arguments(block, portions)
        block.run(nodes, pinned=results)
        answers = [self._answer(block, node) for node in results]
        body = [*block.pre, *block.body, (f"return {tuple_text(answers)}", None)]
        parameters = [
            *self.totals(), *states, *(f"g{self.numbers[node]}" for node in gathered),
            *(self.variable(node) for node in portions), *(self.variable(node) for node in arguments),
        ]  # fmt: skip
        return self.kernel(f"whole_{phase.level}{lane_text(phase.lane)}", parameters, body, block)

    def _open_state(self, block: Block, loop: Loop, state: str) -> None:
        places = self.accumulators(loop)
        for node, (entry, start, stop) in places.places.items():
            if node in loop.apart:
                continue
            name = self.variable(node)
            if places.dtypes[entry] is None:
                line = f"{name} = {block.finish_monoid(node, f'{state}[{entry}]')}"
            else:
                line = f"{name} = {state}[{entry}][{start}:{stop}].reshape({tuple_text(block.local_shape(node))})"
            block.pre.append((line, node))
            block.text[node] = name
            block.stable.add(node)

    def _answer(self, block: Block, node: Node) -> str:
        """The text of a result: a view is copied, so that no result shares memory with an input or another result."""
        text = block.array(node)
        copies = node.op.view is not None or node.op.name == "constant" or node.is_leaf
        return f"{text}.copy()" if copies else text

    # A program of one tile.

    def one(self, results: Sequence[Node]) -> Kernel:
        """`kernel(*totals, *inputs) -> results`, for data that fits one tile: no loop at all."""
        block = self.block_of_one_tile()
        inputs = self.parts.graph.inputs
        self.bind_arguments(block, [node for node in inputs if self.parts.mesh(node) is None])
        for node in inputs:
            mesh, name = self.parts.mesh(node), self.variable(node)
            if mesh is not None:
                block.text[node] = name
                block.pre.append((f"{name} = {self.parameter(node)}.tile(0, n{MESH_NUMBER[mesh]})", node))
                block.stable.add(node)
        block.run(self.phases.needed, pinned=results)
        answers = [self._answer(block, node) for node in results]
        lines = [*block.pre, *block.body, (f"return {tuple_text(answers)}", None)]
        return self.kernel("program", [*self.totals(), *map(self.parameter, inputs)], lines, block)

    def block_of_one_tile(self) -> Block:
        """A block without lines that has all rows at once."""
        block = Block(self.parts, self.plan, self.numbers, Names())
        for mesh in self.meshes:
            number = MESH_NUMBER[mesh]
            block.pre += [(f"n{number} = N{number}", None), (f"at{number} = 0", None)]
        return block

    def parameter(self, node: Node) -> str:
        """The name under which a kernel of one tile takes an input: its rows, or its value."""
        return f"r{self.numbers[node]}" if self.parts.mesh(node) is not None else self.variable(node)

    # What they have in common.

    def bind_arguments(self, block: Block, arguments: Iterable[Node]) -> None:
        """Let whole values be known by their parameters; a scalar in double precision as a Python number too."""
        for node in arguments:
            block.text[node] = self.variable(node)
            block.stable.add(node)
            if is_host_type(node):
                block.pre.append((f"s{self.numbers[node]} = {self.variable(node)}.item()", node))
                block.numbers_of_host[node] = f"s{self.numbers[node]}"

    def kernel(self, name: str, parameters: Sequence[str], lines: Sequence[Line], block: Block) -> Kernel:
        """The kernel of this name: its text, what it names, and which line computes what."""
        text = [f"def {name}({', '.join(parameters)}):"]
        notes = []
        for line, node in lines:
            text.append(f"    {line}")
            if node is not None:
                notes.append((len(text), Note(node.op.name, node.types[0], node.where)))
        source = "\n".join(text) + "\n"
        used = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", source))
        objects = {key: value for key, value in block.names.objects.items() if key in used}
        return Kernel(name, source, objects, notes, tuple(block.allocated))


def lane_text(lane: Lane) -> str:
    """A lane as a part of names: _stage1_model0; nothing for what all have in common."""
    return "".join(f"_{re.sub(r'[^A-Za-z0-9]', '', name)}{number}" for name, number in lane)


def indented(lines: Iterable[Line], depth: int) -> list[Line]:
    """`lines` so many levels further in."""
    return [("    " * depth + line, node) for line, node in lines]


class _Count:
    """A number of elements as text: a sum of numbers, which are added here, and of what the kernel knows."""

    def __init__(self) -> None:
        self.known = 0
        self.unknown: list[str] = []

    def add(self, count: str) -> None:
        """Add `count`."""
        if count.isdigit():
            self.known += int(count)
        else:
            self.unknown.append(count)

    def text(self) -> str:
        """The sum."""
        return " + ".join([*self.unknown, *([str(self.known)] if self.known or not self.unknown else [])])
