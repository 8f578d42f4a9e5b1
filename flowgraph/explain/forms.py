"""Forms: what every task of a lowered program will return, worked out from its function and its stage. Nothing runs.

A form stands for an array that a task makes. A task that hands on what it was given returns the same form, so memory
is counted once however many tasks share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from math import prod
from typing import Any, NamedTuple

import numpy as np

from flowgraph.graph import Node, read_operands
from flowgraph.kernel import Excerpt, LoopStage, complete, join
from flowgraph.kernel.names import MESH_NUMBER
from flowgraph.lower import Lowering, call_of, calls
from flowgraph.op import kernel_parameters, monoid_of
from flowgraph.partition import BEFORE, COMBINE, Cut
from flowgraph.program import Program
from flowgraph.sources import DaskRows, Held
from flowgraph.types import Dim, Size
from flowgraph.watch import needs_of, size_of


class Form:
    """An array that a task will make. Compared by identity, as memory is."""

    __slots__ = ("dtype", "held", "sample", "shape")

    def __init__(self, shape: Iterable[int], dtype: Any, held: bool = False, sample: Any = None) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.held = held
        """Whether it is an array that the caller has anyway, where tasks see the caller's memory."""
        self.sample = sample
        """For the state of a monoid: what it is for data of zeros, for the length of a state may depend on states."""

    @property
    def nbytes(self) -> int:
        """The bytes of the array."""
        return prod(self.shape) * int(self.dtype.itemsize)

    def __repr__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


class Lengths:
    """The lengths of arrays, for known numbers of rows."""

    def __init__(self, program: Program, rows: Mapping[str, int]) -> None:
        self.parts, self.rows = program.parts, rows

    def length(self, size: Size) -> int:
        """A whole length; one that only a run finds counts as 1."""
        return size.value(self.rows.get(size.base.name, 1)) if isinstance(size, Dim) else size

    def whole(self, node: Node) -> list[Form]:
        """The forms of the results of `node`, uncut."""
        return [Form(map(self.length, one.shape), one.dtype) for one in node.types]

    def local(self, node: Node, rows: int, plus: bool = True) -> tuple[int, ...]:
        """The shape of a piece of `node` of so many rows. `plus`: with the elements beyond those of its rows."""
        cuts: Sequence[Cut | None] = self.parts.layouts[node]
        if node in self.parts.partial:
            cuts = [None] * len(cuts)
        return tuple([self._piece(size, cut, rows, plus) for size, cut in zip(node.type.shape, cuts, strict=True)])

    def _piece(self, size: Size, cut: Cut | None, rows: int, plus: bool) -> int:
        if cut is None:
            return self.length(size)
        return rows * cut.times + (size.plus if plus and isinstance(size, Dim) else 0)


class States:
    """The state of the partial results of one loop."""

    def __init__(self, program: Program, stage: LoopStage, lengths: Lengths, leaf: int) -> None:
        self.lengths, self.leaf = lengths, leaf
        self.places = program.emitter.accumulators(stage.loop)
        self.tile = program.plan.tile[stage.loop.mesh]
        names = {f"N{MESH_NUMBER[mesh]}": count for mesh, count in lengths.rows.items()}
        self.counts = [evaluated(text, names) for text in self.places.counts]
        self.node_of = {place[0]: node for node, place in self.places.places.items()}
        self.merges = [self._merge(entry) for entry in range(len(self.counts))]
        self.main = list(range(len(self.counts))) if stage.main is None else [entry for entry, *_ in stage.main.entries]
        """The entries that are combined as a whole."""
        self._known: dict[tuple[int, int, int], list[Any]] = {}

    def _merge(self, entry: int) -> Any:
        if self.places.dtypes[entry] is not None:
            return lambda left, right: Form(left.shape, left.dtype)
        node = self.node_of[entry]
        monoid = monoid_of(node.op, len(node.types))
        assert monoid is not None
        return lambda left, right: _forms(monoid.merge(_samples(left), _samples(right)))

    def subtrees(self, start: int, rows: int) -> list[Any]:
        """What the loop over a shard returns of its partial results: (level, index, state) of complete subtrees."""
        tiles = -(-rows // self.tile)
        short = rows - (tiles - 1) * self.tile if tiles else 0
        index = start // self.tile // self.leaf
        end = index + -(-tiles // self.leaf)
        result = []
        while index < end:
            level = (end - index).bit_length() - 1
            while index % (1 << level):
                level -= 1
            last = index + (1 << level) == end
            state = self.state(level, (tiles - 1) % self.leaf + 1 if last else self.leaf, short if last else self.tile)
            result.append((level, index >> level, state))
            index += 1 << level
        return result

    def state(self, level: int, tiles: int, short: int) -> list[Any]:
        """The state of 2**`level` leaves; the last has so many tiles, and its last tile `short` rows."""
        sizes = self._sizes(level, tiles, short)
        return [tuple(map(_same, one)) if isinstance(one, tuple) else _same(one) for one in sizes]

    def _sizes(self, level: int, tiles: int, short: int) -> list[Any]:
        key = (level, tiles, short)
        if key not in self._known:
            if level:
                left, right = self._sizes(level - 1, self.leaf, self.tile), self._sizes(level - 1, tiles, short)
                self._known[key] = [m(a, b) for m, a, b in zip(self.merges, left, right, strict=True)]
            else:
                self._known[key] = [self._leaf(entry, tiles, short) for entry in range(len(self.counts))]
        return self._known[key]

    def _leaf(self, entry: int, tiles: int, short: int) -> Any:
        dtype = self.places.dtypes[entry]
        if dtype is not None:
            return Form((self.counts[entry],), dtype)
        if tiles == 1:
            return self._tile(entry, short)
        full = state = self._tile(entry, self.tile)
        for _ in range(tiles - 2):
            new = self.merges[entry](state, full)
            if [one.shape for one in new] == [one.shape for one in state]:
                break
            state = new
        return self.merges[entry](state, self._tile(entry, short))

    def _tile(self, entry: int, rows: int) -> tuple[Form, ...]:
        """The state of a monoid for one tile: what its function makes of zeros."""
        node = self.node_of[entry]
        monoid = monoid_of(node.op, len(node.types))
        assert monoid is not None
        operands = [one for one in read_operands(node) if one.op is not BEFORE]
        shapes = [self.lengths.local(one, rows) for one in operands]
        zeros = [
            np.broadcast_to(np.zeros((), one.type.dtype), shape) for one, shape in zip(operands, shapes, strict=True)
        ]
        keywords = _keywords(node, monoid.partial, [self.lengths.local(one, rows) for one in node.inputs])
        with np.errstate(all="ignore"):
            return _forms(monoid.partial(*zeros, **keywords))

    def finished(self, node: Node, state: Any) -> list[Form]:
        """The results that the merged state of a monoid becomes."""
        monoid = monoid_of(node.op, len(node.types))
        assert monoid is not None
        with np.errstate(all="ignore"):
            found = monoid.finish(_samples(state), **_keywords(node, monoid.finish, []))
        found = found if len(node.types) > 1 else (found,)
        return [Form(np.shape(one), of.dtype) for one, of in zip(found, node.types, strict=True)]


def _keywords(node: Node, function: Any, shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    """The attributes that a function of a monoid asks for by name."""
    wanted = kernel_parameters(function)
    found = {name: value for name, value in node.attrs if name in wanted}
    if "dtype" in wanted:
        found["dtype"] = node.type.dtype
    if "operand_shapes" in wanted:
        found["operand_shapes"] = tuple(shapes)
    if "at" in wanted:
        longest = shapes[0] if shapes else ()
        found["at"] = tuple((0, length, length) for length in longest)
    return found


def _same(form: Form) -> Form:
    return Form(form.shape, form.dtype, False, form.sample)


def _samples(state: Any) -> tuple[Any, ...]:
    return tuple(one.sample for one in state)


def _forms(state: Any) -> tuple[Form, ...]:
    return tuple(Form(np.shape(one), np.asarray(one).dtype, False, one) for one in state)


def evaluated(text: str, names: Mapping[str, int]) -> int:
    """The value of a length as kernels write it, such as n0*32."""
    return int(eval(text, {"__builtins__": {}}, dict(names)))


class Call(NamedTuple):
    """A call of a kernel."""

    stage: Any
    rows: int
    """Those of its shard."""
    results: Any
    completed: Sequence[Any] = ()
    """What a whole phase completes and joins before it computes."""


class Forms:
    """The form of the result of every task of a lowered program."""

    def __init__(self, program: Program, lowering: Lowering) -> None:
        bound = lowering.bound
        self.program, self.lowering, self.bound = program, lowering, bound
        self.lengths = Lengths(program, bound.rows)
        self.stage = {stage.kernel: stage for stage in bound.stages}
        self.states = {
            stage.loop: States(program, stage, self.lengths, bound.leaf_tiles[stage.loop.mesh])
            for stage in bound.stages
            if isinstance(stage, LoopStage)
        }
        self.merges: dict[int, list[Any]] = {}
        """How forms merge, under the identity of how arrays do."""
        for one in bound.stages:
            if isinstance(one, LoopStage):
                of = self.states[one.loop]
                self.merges[id(one.merges)] = [of.merges[entry] for entry in of.main]
                for excerpt in one.excerpts.values():
                    self.merges[id(excerpt.merges)] = [of.merges[entry] for entry, *_ in excerpt.entries]
        self.found: dict[Any, Any] = {}
        """What each task returns, with forms in place of arrays; None where that is not known."""
        self.work: dict[Any, list[Call]] = {}
        """For each task that calls kernels: these calls."""
        self.needs = {key: needs_of(task) for key, task in lowering.graph.items()}
        self.given = [key for key, own in self.needs.items() if not own and call_of(lowering.graph[key], {})[0] is None]
        """Entries of the graph that are values, not calls."""
        self._given()
        for key in TopologicalSorter(self.needs).static_order():
            if key not in self.found:
                self.found[key] = self._result(key, lowering.graph.get(key))

    def sizes(self) -> dict[Any, int]:
        """The bytes of the result of every task."""
        return {key: size_of(value) for key, value in self.found.items()}

    def _given(self) -> None:
        """The results of tasks that are not ours, where we were told what they are; and of inputs as a whole."""
        for node, source in self.lowering.sources.items():
            if isinstance(source, DaskRows):
                rest: Any = source.type.shape[1:]
                for key, length in zip(source.keys, source.lengths, strict=True):
                    self.found[key] = Form((length, *rest) if source.type.shape else (), source.type.dtype)
            key = self.lowering.lasting("input", self.lowering.numbers[node])
            if key in self.lowering.graph:
                shape = tuple(map(self.lengths.length, node.type.shape))
                self.found[key] = Form(shape, node.type.dtype, isinstance(source, Held))

    def _result(self, key: Any, task: Any) -> Any:
        function, found = call_of(task, self.found)
        if function is None:
            return found
        if function is calls.run_after:
            function, found = found[1], found[2:]
        if function is calls.run_along:
            wholes, *found = found
            made: list[Any] = []
            for call in wholes:
                made.append(self._kernel(key, calls.run_whole, calls.with_found(call, made)))
            shard = self._kernel(key, calls.run_loop, found)
            return (*shard, *(one for results in made for one in results))
        if function in (calls.run_loop, calls.run_sum, calls.run_whole, calls.run_one):
            return self._kernel(key, function, found)
        return self._call(function, found)

    def _kernel(self, key: Any, function: Any, args: Sequence[Any]) -> Any:
        """What a task's call of a kernel returns."""
        stage, results = self.stage[args[0]], self._call(function, args)
        rows = args[2] if isinstance(stage, LoopStage) else 0
        completed = self._made_first(args) if function is calls.run_whole else ()
        self.work.setdefault(key, []).append(Call(stage, rows, results, completed))
        return results

    def _made_first(self, args: Sequence[Any]) -> list[Any]:
        """The arrays that a whole phase joins before its kernel runs. A single subtree or piece is used as it is."""
        subtrees = [[one for stack in own for one in stack] for own in [*args[3], *(own for _, own in args[6])]]
        states = [own[0][2] for own in subtrees if len(own) > 1]
        return [*states, *(concatenated(own, axis) for own, axis in zip(args[4], args[5], strict=True) if len(own) > 1)]

    def _call(self, function: Any, args: Sequence[Any]) -> Any:
        """What `function`, one of those that tasks call, makes of forms."""
        if function in (calls.run_loop, calls.run_sum):
            kernel, start, rows = args[:3]
            stage = self.stage[kernel]
            assert isinstance(stage, LoopStage)
            loop = stage.loop
            stack = self.states[loop].subtrees(start, rows)
            if function is calls.run_sum:
                return stack
            written = [Form(self.lengths.local(node, rows, False), node.type.dtype) for node in loop.writes]
            return (stack, *written)
        if function is calls.join_stacks:
            return join(self.merges[id(args[0])], args[1])
        if function is calls.take:
            return [(level, index, _excerpt(args[0], state)) for level, index, state in args[1]]
        if function is calls.pick:
            return args[0][args[1]]
        if function is calls.whole_of:
            return args[0]
        if function is calls.assemble:
            return joined(*args)
        if function in (calls.run_whole, calls.run_one):
            return self._results(self.stage[args[0]], args)
        return None

    def _results(self, stage: Any, args: Sequence[Any]) -> tuple[Any, ...]:
        """The results of a whole phase, or of a program of one tile."""
        states = {}
        for one, stacks in zip([own for own in getattr(stage, "loops", ()) if own.merges], args[3], strict=False):
            states[one.loop] = complete(self.merges[id(one.merges)], stacks)
        found: list[Any] = []
        for node in stage.results:
            forms = self.lengths.whole(node)
            made = node.inputs[0] if node.op is COMBINE else node
            for loop, state in states.items():  # what pieces of a running axis hand on has an entry for each tile
                own = self.states[loop]
                if made in self.program.parts.carries and made in own.places.places:
                    forms = own.finished(made, state[own.main.index(own.places.places[made][0])])
            found.append(forms if len(forms) > 1 else forms[0])
        return tuple(found)


def joined(parts: Sequence[Any], item: int | None, axis: int | None) -> Any:
    """The form of a value from what the tasks that have it return."""
    own = parts if item is None else [one[item] for one in parts]
    return own[0] if len(own) == 1 else concatenated(own, axis or 0)


def _excerpt(excerpt: Excerpt, state: Sequence[Any]) -> list[Any]:
    """What is taken of a state."""
    found = []
    for entry, start, stop in excerpt.entries:
        one = state[entry]
        found.append(one if stop is None else Form((len(range(*slice(start, stop).indices(one.shape[0]))),), one.dtype))
    return found


def concatenated(parts: Sequence[Form], axis: int) -> Form:
    """The form of pieces that are joined along an axis."""
    shape = list(parts[0].shape)
    shape[axis] = sum(one.shape[axis] for one in parts)
    return Form(shape, parts[0].dtype)
