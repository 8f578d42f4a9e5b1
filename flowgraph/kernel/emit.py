"""Emission: nodes become lines of numpy. What a user reads in `program.source()` is made here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowgraph.graph import ITEM, Node, read_operands
from flowgraph.kernel import host
from flowgraph.kernel.bodies import define_body
from flowgraph.kernel.memory import Memory, in_c_order
from flowgraph.kernel.names import MESH_NUMBER, affine_text, tuple_text
from flowgraph.op import COMBINES, kernel_parameters, monoid_of
from flowgraph.ops.body import Body
from flowgraph.partition import BEFORE, COMMUNICATION, SPREAD, rows_of

_VIEW = r"\{(\d+|out)\}(\.(?:ravel|reshape)\((?:[^()]|\(\))*\))"
"""A view of an operand or of the result inside a call template."""


class Block(Memory):
    """Emits a sequence of nodes."""

    # The walk.

    def run(self, nodes: Sequence[Node], pinned: Iterable[Node] = (), invariant: Iterable[Node] = ()) -> None:
        """Emit `nodes` in order. `pinned` results must survive; `invariant` nodes are computed once."""
        self._liveness(nodes, set(pinned))
        self.invariant.update(invariant)
        self._plan_joins(nodes)
        for position, node in enumerate(nodes):
            self._emit(node, position)

    def _join(self, node: Node) -> None:
        name = f"v{self.numbers[node]}"
        for operand, start, stop, direct in self.joins[node]:
            if not direct:
                self._lines(node).append((f"{name}[{start}:{stop}] = {self.array(operand)}", node))
        self.text[node] = name
        self.stable.add(node)

    def _emit(self, node: Node, position: int) -> None:
        if node.is_leaf or node in self.text or node in self.numbers_of_host:
            return
        if node.op.name == "constant":
            self._constant(node)
        elif host.is_host(node, self.numbers_of_host):
            self._host(node)
        elif node.op is SPREAD:
            self._spread(node)
        elif node.op is BEFORE and self.tiled is not None:
            self._before(node)
        elif node in self.parts.carries and self.tiled is None:
            self.text[node] = "None"  # in a program of one tile nothing comes before
        elif node.op in COMMUNICATION:
            self.text[node] = self.array(node.inputs[0])
            self._inherit_stability(node)
        elif node.op.name == "size":
            self._size(node)
        elif node.op is ITEM or node.op.view is not None:
            self._view(node)
        elif node in self.parts.partial and self.tiled is not None and monoid_of(node.op, len(node.types)) is not None:
            self._monoid(node)  # in a program of one tile the kernel has all rows at once
        elif node.op.name == "astype" and node.inputs[0] in self.numbers_of_host and node.type.dtype.kind in "fc":
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

    def _before(self, node: Node) -> None:
        """The entry of the tile before this one, or behind it; none for the first."""
        _, cut = rows_of(self.parts.layouts[node]) or (0, None)
        assert cut is not None
        tile = f"at{MESH_NUMBER[cut.mesh]}//{self.plan.tile[cut.mesh]}"
        span = f"{tile}:{tile}+1" if node.attr("backward") else f"{tile}-1:{tile}"
        name = f"v{self.numbers[node]}"
        self.body.append((f"{name} = {self.array(node.inputs[0])}[{span}]", node))
        self.text[node] = name

    def _view(self, node: Node) -> None:
        source = node.inputs[0]
        types = tuple(one.type for one in node.inputs)
        assert node.op.view is not None
        text = node.op.view(types, dict(node.attrs))
        if "{shape}" in text:
            text = text.replace("{shape}", self.shape_text(node))
        line = text.replace("{0}", self.array(source))
        name = f"v{self.numbers[node]}"
        where = self._lines(node)
        copies = ".reshape(" in text and not in_c_order(source)
        if source in self.stable and not copies:
            self.stable.add(node)
            where = self._binds(node)
        where.append((f"{name} = {line}", node))
        self.text[node] = name

    def _monoid(self, node: Node) -> None:
        monoid = monoid_of(node.op, len(node.types))
        assert monoid is not None
        name = f"m{self.numbers[node]}"
        self.body.append(
            (f"{name} = tuple({self.names.function(monoid.partial)}({self._arguments(node, monoid.partial)}))", node)
        )
        self.text[node] = name

    def finish_monoid(self, node: Node, state: str) -> str:
        """The line that turns the merged state of a monoid into its result, or into the list of its results."""
        monoid = monoid_of(node.op, len(node.types))
        assert monoid is not None
        attrs = self._keywords(node, monoid.finish)
        call = f"{self.names.function(monoid.finish)}({', '.join([state, *attrs])})"
        dtypes = [self.names.dtype(one.dtype) for one in node.types]
        if len(dtypes) > 1:
            return f"[array(one, dtype) for one, dtype in zip({call}, {tuple_text(dtypes)})]"
        return f"array({call}, {dtypes[0]})"

    def _arguments(self, node: Node, function: Any) -> str:
        return ", ".join([*map(self.array, _operands(node)), *self._keywords(node, function)])

    def _keywords(self, node: Node, function: Any) -> list[str]:
        """The attributes that `function` asks for by name."""
        wanted = kernel_parameters(function)
        words = [
            f"{k}={define_body(self, node, v) if isinstance(v, Body) else self.names.value(v, 'a')}"
            for k, v in node.attrs
            if k in wanted and k not in ("shape", "dtype")
        ]
        if "result_shapes" in wanted:
            words.append(f"result_shapes={self.result_shapes(node)}")
        if "shape" in wanted:
            words.append(f"shape={self.shape_text(node)}")
        if "dtype" in wanted:
            words.append(f"dtype={self.names.dtype(node.type.dtype)}")
        if "at" in wanted:
            words.append(f"at={self._positions(node)}")
        if "before" in wanted:
            words += [f"before={self.array(one)}" for one in node.inputs if one.op is BEFORE]
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
        self.takes(node)
        name = f"v{self.numbers[node]}"
        lines = self._lines(node)
        operands = "".join(f", {self.array(one)}" for one in _operands(node))
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
                line = line.replace(f"{{{index}}}", self.array(operand))
        for name, text in {**fields, "out": out}.items():
            line = line.replace(f"{{{name}}}", text)
            line = _rename_call(line, name, text)
        if not out:
            out = f"v{self.numbers[node]}"
            line = f"{out} = {line}"
            self.takes(node)
        self._lines(node).append((line, node))
        self.text[node] = out

    def _hoisted(self, node: Node, text: str, out: str, fields: Mapping[str, str]) -> str:
        """The template with views of stable arrays, such as `{0}.ravel()`, bound once and not for every tile."""
        if "}." not in text:
            return text

        def bind(match: re.Match[str]) -> str:
            subject, view = match.groups()
            source = node if subject == "out" else node.inputs[int(subject)]
            if source not in self.stable or not in_c_order(source):
                return match.group()
            view = view.replace("{ones}", fields.get("ones", "")).replace("{out}", out)
            binds, looked = self._binds(node), f"{out if subject == 'out' else self.array(source)}{view}"
            if (id(binds), looked) not in self.hoisted:
                name = self.hoisted[id(binds), looked] = f"x{self.numbers[node]}_{len(binds)}"
                binds.append((f"{name} = {looked}", node))
            return self.hoisted[id(binds), looked]

        return re.sub(_VIEW, bind, text)

    def _ones(self, node: Node) -> str:
        operand = node.inputs[0]
        lengths = self.local_shape(operand)
        count = self.count_text(lengths[axis] for axis in node.attr("axes"))
        name = f"o{self.numbers[node]}"
        self._binds(node).append((f"{name} = ones({count}, {self.names.dtype(operand.type.dtype)})", node))
        return name


def _operands(node: Node) -> list[Node]:
    """The operands that `node` takes by position."""
    return [one for one in read_operands(node) if one.op is not BEFORE]


def _rename_call(line: str, name: str, text: str) -> str:
    """`name(` at the start of a call template becomes the name under which the kernel knows the function."""
    return f"{text}{line[len(name) :]}" if line.startswith(f"{name}(") else line


def accumulator_ufunc(node: Node) -> np.ufunc:
    """The ufunc that merges the partial results of `node`."""
    combine = node.op.combine
    assert isinstance(combine, str)
    return COMBINES[combine]
