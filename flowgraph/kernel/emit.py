"""Emission: nodes become lines of numpy. What a user reads in `program.source()` is made here.

A kernel has three parts: lines that run once (`pre`), lines that bind views of buffers whenever the number of rows in a
tile changes (`setup`), and lines that run for every tile (`body`). Buffers are reused as soon as their last reader is
done; an operation writes over an operand that dies with it.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowgraph.graph import ITEM, Node
from flowgraph.kernel import host
from flowgraph.kernel.rows import ones
from flowgraph.kernel.stages import read_operands
from flowgraph.op import COMBINES, Monoid, kernel_parameters
from flowgraph.partition import COMMUNICATION, MESHES, SPREAD, Partitioned, rows_of
from flowgraph.schedule import Schedule
from flowgraph.types import Dim, Size

MESH_NUMBER = {dim.name: number for number, dim in enumerate(MESHES)}
FOREVER = 1 << 60
Line = tuple[str, Node | None]
"""A line of source and the node that it computes."""


_VIEW = re.compile(r"\{(\d+|out)\}(\.(?:ravel|reshape)\((?:[^()]|\(\))*\))")
"""A view of an operand or of the result inside a call template."""


_RESERVED = re.compile(
    "[A-Za-z]{1,2}[0-9]+|x[0-9]+_[0-9]+|(?:acc|state|history)[0-9]+|(?:bool|complex)[0-9]*|"
    "start|rows|leaf_tiles|stack|push|size|low|steps?|starts|one|program|window|(?:loop|whole)_.*|Stack|MERGES|"
    "range|min|float|" + "|".join(keyword.kwlist)
)
"""Names that kernels give to things of their own, or expect to mean what they always mean."""


class Names:
    """The objects that a kernel's source names: functions, constants. Equal programs name them equally."""

    def __init__(self) -> None:
        common: tuple[Any, ...] = (np.empty, np.array, np.copyto, np.broadcast_to, ones, owned, *host.FUNCTIONS)
        self.objects: dict[str, Any] = {one.__name__: one for one in common}
        self._by_id: dict[int, str] = {}

    def function(self, function: Any) -> str:
        """The name of `function`: its own, unless the kernel uses that for something else."""
        if id(function) not in self._by_id:
            base = getattr(function, "__name__", "f")
            base = base if base.isidentifier() and not base.startswith("<") else "f"
            base = f"f_{base}" if _RESERVED.fullmatch(base) else base
            name, number = base, 1
            while name in self.objects and self.objects[name] is not function:
                number += 1
                name = f"{base}_{number}"
            self.objects[name] = function
            self._by_id[id(function)] = name
        return self._by_id[id(function)]

    def value(self, value: Any, letter: str) -> str:
        """A name for a value, numbered in the order of asking."""
        name = f"{letter}{sum(1 for key in self.objects if key[0] == letter and key[1:].isdigit())}"
        self.objects[name] = value
        return name

    def dtype(self, dtype: Any) -> str:
        """The name of a dtype, such as f4."""
        own = np.dtype(dtype)
        # Buffers are b0, b1, ... and constants c0, c1, ..., so bool and complex are not called b1 and c8.
        name = own.name if own.kind in "bc" else own.str.lstrip("<>|=")
        self.objects[name] = own
        return str(name)


class Block:
    """Emits a sequence of nodes. `tiled` is the mesh axis whose rows are walked in tiles, if any."""

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
            if cut is None or node in self.parts.partial:
                lengths.append(self.length(size))
            else:
                plus = size.plus if isinstance(size, Dim) else 0
                lengths.append(affine_text(f"n{MESH_NUMBER[cut.mesh]}", cut.times, plus))
        return lengths

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

    # The walk.

    def run(self, nodes: Sequence[Node], pinned: Iterable[Node] = (), invariant: Iterable[Node] = ()) -> None:
        """Emit `nodes` in order. `pinned` results must survive; `invariant` nodes are computed once."""
        self._liveness(nodes, set(pinned))
        self.invariant.update(invariant)
        self._plan_joins(nodes)
        for position, node in enumerate(nodes):
            self._emit(node, position)

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

    def _join(self, node: Node) -> None:
        name = f"v{self.numbers[node]}"
        for operand, start, stop, direct in self.joins[node]:
            if not direct:
                self._lines(node).append((f"{name}[{start}:{stop}] = {self.array(operand)}", node))
        self.text[node] = name
        self.stable.add(node)

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

    def _emit(self, node: Node, position: int) -> None:
        if node.is_leaf or node in self.text or node in self.numbers_of_host:
            return
        if node.op.name == "constant":
            self._constant(node)
        elif host.is_host(node, self.numbers_of_host):
            self._host(node)
        elif node.op is SPREAD:
            self._spread(node)
        elif node.op in COMMUNICATION:
            self.text[node] = self.array(node.inputs[0])
            self._inherit_stability(node)
        elif node.op.name == "size":
            self._size(node)
        elif node.op is ITEM or node.op.view is not None:
            self._view(node)
        elif isinstance(node.op.combine, Monoid) and node in self.parts.partial and self.tiled is not None:
            self._monoid(node)  # in a program of one tile the kernel has all rows at once
        elif node.op.name == "astype" and node.inputs[0] in self.numbers_of_host:
            out = self._fresh(node)
            self._lines(node).append((f"{out}[()] = {self.numbers_of_host[node.inputs[0]]}", node))
            self.text[node] = out
        elif node in self.joins:
            self._join(node)
        elif self.plan.calls.get(self.parts.origin.get(node, node)) is not None:
            self._call(node, position)
        else:
            self._kernel(node)
        self._release(position)

    def _inherit_stability(self, node: Node) -> None:
        if all(one in self.stable for one in read_operands(node)):
            self.stable.add(node)

    def _constant(self, node: Node) -> None:
        if host.is_host_type(node):
            self.numbers_of_host[node] = self.names.value(node.attr("value"), "h")
        value = np.array(node.attr("value"), node.type.dtype)
        value.flags.writeable = False
        self.text[node] = self.names.value(value, "c")
        self.stable.add(node)

    def _host(self, node: Node) -> None:
        operands = [self.numbers_of_host[one] for one in node.inputs]
        text = host.expression(node, operands)
        name = f"s{self.numbers[node]}"
        self._lines(node).append((f"{name} = {text}", node))
        self.numbers_of_host[node] = name
        if node in self.invariant:
            self.stable.add(node)

    def _size(self, node: Node) -> None:
        lengths = [self.length(node.inputs[0].type.shape[axis]) for axis in node.attr("axes")]
        if host.is_host_type(node):
            self.numbers_of_host[node] = f"({self.count_text(lengths)})"
        name = f"v{self.numbers[node]}"
        self.pre.append((f"{name} = array({self.count_text(lengths)}, {self.names.dtype(node.type.dtype)})", node))
        self.text[node] = name
        self.stable.add(node)

    def _spread(self, node: Node) -> None:
        axis, cut = rows_of(self.parts.layouts[node]) or (0, None)
        assert cut is not None
        number, whole = MESH_NUMBER[cut.mesh], self.array(node.inputs[0])
        name = f"v{self.numbers[node]}"
        if self.tiled is None:
            self.text[node] = whole
            self._inherit_stability(node)
            return
        low, high = (affine_text(text, cut.times, 0) for text in (f"at{number}", f"(at{number} + n{number})"))
        self.body.append((f"{name} = {whole}[{':, ' * axis}{low}:{high}]", node))
        self.text[node] = name

    def _view(self, node: Node) -> None:
        source = node.inputs[0]
        types = tuple(one.type for one in node.inputs)
        assert node.op.view is not None
        text = node.op.view(types, dict(node.attrs))
        line = text.replace("{shape}", self.shape_text(node)).replace("{0}", self.array(source))
        name = f"v{self.numbers[node]}"
        where = self._lines(node)
        copies = ".reshape(" in text and not _in_c_order(source)
        if source in self.stable and not copies:
            self.stable.add(node)
            where = self._binds(node)
        where.append((f"{name} = {line}", node))
        self.text[node] = name

    def _monoid(self, node: Node) -> None:
        monoid = node.op.combine
        assert isinstance(monoid, Monoid)
        name = f"m{self.numbers[node]}"
        self.body.append(
            (f"{name} = {self.names.function(monoid.partial)}({self._arguments(node, monoid.partial)})", node)
        )
        self.text[node] = name

    def finish_monoid(self, node: Node, state: str) -> str:
        """The line that turns the merged state of a monoid into its result."""
        monoid = node.op.combine
        assert isinstance(monoid, Monoid)
        attrs = self._keywords(node, monoid.finish)
        call = f"{self.names.function(monoid.finish)}({', '.join([state, *attrs])})"
        return f"array({call}, {self.names.dtype(node.type.dtype)})"

    def _arguments(self, node: Node, function: Any) -> str:
        return ", ".join([*(self.array(one) for one in read_operands(node)), *self._keywords(node, function)])

    def _keywords(self, node: Node, function: Any) -> list[str]:
        """The attributes that `function` asks for by name."""
        wanted = kernel_parameters(function)
        words = [
            f"{k}={self.names.value(v, 'a')}" for k, v in node.attrs if k in wanted and k not in ("shape", "dtype")
        ]
        if "shape" in wanted:
            words.append(f"shape={self.shape_text(node)}")
        if "dtype" in wanted:
            words.append(f"dtype={self.names.dtype(node.type.dtype)}")
        if "at" in wanted:
            words.append(f"at={self._positions(node)}")
        if "operand_shapes" in wanted:
            words.append(f"operand_shapes={tuple_text([tuple_text(self.local_shape(one)) for one in node.inputs])}")
        return words

    def _positions(self, node: Node) -> str:
        parts = []
        for size, cut in zip(node.type.shape, self.parts.layouts[node], strict=True):
            total = self.length(size)
            if cut is None:
                parts.append(f"(0, {total}, {total})")
                continue
            number = MESH_NUMBER[cut.mesh]
            low, high = (affine_text(t, cut.times, 0) for t in (f"at{number}", f"(at{number} + n{number})"))
            parts.append(f"({low}, {high}, {affine_text(f'N{number}', cut.times, 0)})")
        return tuple_text(parts)

    def _kernel(self, node: Node) -> None:
        """An op with no more than its kernel: call it, and bring the result into C order and dtype."""
        call = f"{self.names.function(node.op.kernel)}({self._arguments(node, node.op.kernel)})"
        name = f"v{self.numbers[node]}"
        lines = self._lines(node)
        operands = "".join(f", {self.array(one)}" for one in read_operands(node))
        if len(node.types) > 1:
            line = f"{name} = [owned(one, one.dtype{operands}) for one in {call}]"
        elif node in self.preset:
            lines.append((f"{self.preset[node]}[...] = {call}", node))
            self.text[node] = self.preset[node]
            return
        else:
            line = f"{name} = owned({call}, {self.names.dtype(node.type.dtype)}{operands})"
        lines.append((line, node))
        self.text[node] = name
        if node in self.invariant:
            self.stable.add(node)

    # Calls that write into a buffer.

    def _call(self, node: Node, position: int) -> None:
        call = self.plan.calls[self.parts.origin.get(node, node)]
        assert call is not None
        out = ""
        if "{out}" in call.text:
            out = self._output(node, position, call.in_place)
        fields = {name: self.names.function(function) if callable(function) else self.names.value(function, "c")
                  for name, function in call.use.items()}  # fmt: skip
        if "{ones}" in call.text:
            fields["ones"] = self._ones(node)
        line = self._hoisted(node, call.text, out, fields)
        for index, operand in enumerate(node.inputs):
            if f"{{{index}}}" in line:
                line = line.replace(f"{{{index}}}", self._operand(node, operand))
        for name, text in {**fields, "out": out}.items():
            line = line.replace(f"{{{name}}}", text)
            line = _rename_call(line, name, text)
        if not out:
            out = f"v{self.numbers[node]}"
            line = f"{out} = {line}"
        self._lines(node).append((line, node))
        self.text[node] = out

    def _operand(self, node: Node, operand: Node) -> str:
        return self.array(operand)

    def _hoisted(self, node: Node, text: str, out: str, fields: Mapping[str, str]) -> str:
        """The template with views of stable arrays, such as `{0}.ravel()`, bound once and not for every tile."""

        def bind(match: re.Match[str]) -> str:
            subject, view = match.groups()
            source = node if subject == "out" else node.inputs[int(subject)]
            if source not in self.stable or not _in_c_order(source):
                return match.group()
            view = view.replace("{ones}", fields.get("ones", "")).replace("{out}", out)
            binds, looked = self._binds(node), f"{out if subject == 'out' else self.array(source)}{view}"
            if (id(binds), looked) not in self.hoisted:
                name = self.hoisted[id(binds), looked] = f"x{self.numbers[node]}_{len(binds)}"
                binds.append((f"{name} = {looked}", node))
            return self.hoisted[id(binds), looked]

        return _VIEW.sub(bind, text)

    def _ones(self, node: Node) -> str:
        operand = node.inputs[0]
        lengths = self.local_shape(operand)
        count = self.count_text(lengths[axis] for axis in node.attr("axes"))
        name = f"o{self.numbers[node]}"
        self._binds(node).append((f"{name} = ones({count}, {self.names.dtype(operand.type.dtype)})", node))
        return name

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
        shape = self.local_shape(node)
        for operand in node.inputs:
            root = self.root.get(operand, operand)
            aliases = [one for one in node.inputs if self.root.get(one, one) is root]
            if (
                root is operand
                and operand in self.owned
                and self.last_use[root] == position
                and all(one is operand for one in aliases)
                and operand.type.dtype == node.type.dtype
                and self.local_shape(operand) == shape
                and operand not in self.invariant
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
        if node not in self.invariant:
            self.owned[node] = buffer
        self.stable.add(node)
        whole = buffer if self._capacity(count) == count else f"{buffer}[:{count}]"
        shape = tuple_text(lengths)
        view = whole if len(lengths) == 1 else f"{whole}.reshape({shape})"
        self._binds(node).append((f"{name} = {view}", node))
        return name

    def _capacity(self, count: str) -> str:
        """The largest value of a count: that of a full tile."""
        if self.tiled is None:
            return count
        number = MESH_NUMBER[self.tiled]
        factor = count.partition("*")
        if factor[0] == f"n{number}" and (not factor[1] or factor[2].isdigit()):
            return str(self.plan.tile[self.tiled] * int(factor[2] or 1))
        return count.replace(f"n{number}", str(self.plan.tile[self.tiled])) if f"n{number}" in count else count

    def _release(self, position: int) -> None:
        """Give back the buffers whose last reader has been emitted."""
        for node in [one for one in self.owned if self.last_use.get(one, FOREVER) <= position]:
            buffer = self.owned.pop(node)
            lengths = self.local_shape(node)
            self.free.setdefault((self.count_text(lengths), self.names.dtype(node.type.dtype)), []).append(buffer)


def _in_c_order(node: Node) -> bool:
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
    return node.op.name in ("reshape", "expand_dims", "squeeze")


def _reshapes_only(node: Node, source: Node) -> bool:
    """Whether `node` is `source`, looked at in another shape but in the same order."""
    while node is not source:
        if node.op.name not in ("reshape", "expand_dims", "squeeze") and not (
            node.op in COMMUNICATION and node.op is not SPREAD
        ):
            return False
        node = node.inputs[0]
    return True


def owned(value: Any, dtype: Any, *operands: Any) -> Any:
    """`value` in C order, of `dtype`, in memory of its own: a kernel may hand back an operand, whose buffer goes on."""
    result = np.asarray(value, dtype, order="C")
    return result.copy() if any(np.may_share_memory(result, one) for one in operands) else result


def affine_text(name: str, times: int, plus: int) -> str:
    """`times` x name + `plus`, as short as it can be written."""
    text = name if times == 1 else f"{name}*{times}"
    return f"{text}{plus:+d}" if plus else text


def tuple_text(parts: Sequence[str]) -> str:
    """A tuple display of the given expressions."""
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def _rename_call(line: str, name: str, text: str) -> str:
    """`name(` at the start of a call template becomes the name under which the kernel knows the function."""
    return f"{text}{line[len(name) :]}" if line.startswith(f"{name}(") else line


def accumulator_ufunc(node: Node) -> np.ufunc:
    """The ufunc that merges the partial results of `node`."""
    combine = node.op.combine
    assert isinstance(combine, str)
    return COMBINES[combine]
