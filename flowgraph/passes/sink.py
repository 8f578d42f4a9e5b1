"""sink: parts of rows are taken where the rows come from, so that no row factor has to be whole for them.

    f(x)[1:]                = f(x[1:])                                    for what works row by row
    concat([f(x), g(y)])    = where(first rows, f(x, zeros), g(zeros, y))
    zeros with g at [1:]    = where(not the first row, f(0, x), 0)        the gradient of a slice
    0, then running sums    = running sums of where(the first row, 0, f(x))

What arrives at a leaf becomes a leaf of its own: a part of its data, with rows of its own number. Differences, shifts
and convolutions along rows, which are made of slices, so read tiles of data from several places, and data that no
memory holds is never gathered. Where rows were computed they are computed again for each part, so all this is done for
large tensors only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from flowgraph.graph import INPUT, Graph, Node, make_node, settle, value_bytes
from flowgraph.op import OPS, kernel_parameters
from flowgraph.sources import Pad, Part, Slice
from flowgraph.types import Size, tensor_type

LEAF_BYTES = 4 << 20
"""Parts of smaller data are taken after it was read."""
COMPUTED_BYTES = 64 << 20
"""Parts of smaller tensors are taken after they were computed: else rows are computed once for each part."""


class Sunk(NamedTuple):
    """A graph whose last inputs are parts of the first ones."""

    graph: Graph
    parts: tuple[tuple[int, tuple[Part, ...]], ...]
    """For each further input: which of the first ones it is a part of, and which part."""


def sink(graph: Graph) -> Sunk:
    """`graph` with the parts of its large tensors taken from its inputs."""
    if not any(node.op.name in _RULES for node in graph.nodes()):
        return Sunk(graph, ())
    return _Sinking(graph).run()


class _Sinking:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.leaves: dict[tuple[int, tuple[Part, ...]], Node] = {}
        self.derived: dict[Node, tuple[int, tuple[Part, ...]]] = {
            node: (number, ()) for number, node in enumerate(graph.inputs)
        }
        self.known: dict[tuple[Node, Part], Node | None] = {}
        """Parts that were asked for, or that are there for the asking."""

    def run(self) -> Sunk:
        graph = self.graph.rebuild(self._rule)
        used = set(graph.nodes())
        kept = {key: leaf for key, leaf in self.leaves.items() if leaf in used}
        return Sunk(Graph((*self.graph.inputs, *kept.values()), graph.outputs), tuple(kept))

    def _rule(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        new = node if inputs == node.inputs else make_node(node.op, inputs, node.attrs, node.where)
        rule = _RULES.get(node.op.name)
        better = rule(self, new) if rule is not None else None
        return new if better is None else better

    # What parts come from.

    def slice(self, node: Node) -> Node | None:
        """A slice of rows, and perhaps of other axes, which stay where they are."""
        (x,) = node.inputs
        axis, key = row_axis(x), node.attr("key")
        few = 4 * value_bytes(node.type) <= value_bytes(x.type)
        if axis is None or value_bytes(x.type) < (LEAF_BYTES if few or x.is_leaf else COMPUTED_BYTES):
            return None
        place = _place_in_key(key, axis)
        if place is None or key[place] == _WHOLE:
            return None
        entry = key[place]
        one = isinstance(entry, int)
        part = Slice(axis, entry, entry + 1 if entry != -1 else None, None) if one else Slice(axis, *entry[1:])
        found = self.part(x, part)
        if found is None:
            return None
        rest = (*key[:place], 0 if one else _WHOLE, *key[place + 1 :])
        if not one and all(other == _WHOLE for other in rest):
            return found
        return make_node(OPS["getitem"], (found,), (("key", rest),), node.where)

    def scatter(self, node: Node) -> Node | None:
        """Zeros with a slice of rows set: the gradient of a slice."""
        g, like = node.inputs
        axis, key = row_axis(like), node.attr("key")
        if axis is None or value_bytes(node.type) < COMPUTED_BYTES or g.type.ndim != node.type.ndim:
            return None
        place = _place_in_key(key, axis)
        if place != axis or any(one != _WHOLE for number, one in enumerate(key) if number != place):
            return None
        _, start, stop, step = key[place]
        length = node.type.shape[axis]
        span = range(*slice(start, stop, step).indices(length)) if isinstance(length, int) else range(0)
        if span.step != 1 or not span:
            return None
        return self._masked([(g, span.start, span.stop)], length, axis, node)

    def concat(self, node: Node) -> Node | None:
        """Tensors one after the other along their rows."""
        axis, length = node.attr("axis"), node.type.shape[node.attr("axis")]
        if value_bytes(node.type) < COMPUTED_BYTES or row_axis(node) != axis or not isinstance(length, int):
            return None
        spans, start = [], 0
        for one in node.inputs:
            count = one.type.shape[axis]
            assert isinstance(count, int)
            if count:
                spans.append((one, start, start + count))
            start += count
        return self._masked(spans, length, axis, node)

    def roll(self, node: Node) -> Node | None:
        """Rows moved around: the last of them, then the others."""
        (x,) = node.inputs
        axis = row_axis(x)
        if axis is None or node.attr("axis") != (axis,) or value_bytes(node.type) < COMPUTED_BYTES:
            return None
        length = node.type.shape[axis]
        if not isinstance(length, int):
            return None
        shift = node.attr("shift")[0] % length
        first = self.part(x, Slice(axis, None, length - shift, None))
        last = self.part(x, Slice(axis, length - shift, None, None))
        if first is None or last is None:
            return None
        return self._masked(
            [(last, 0, shift), (first, shift, length)] if shift else [(first, 0, length)], length, axis, node
        )

    def pad(self, node: Node) -> Node | None:
        """Rows with others of one value around them, and perhaps edges along other axes."""
        x, value = node.inputs
        axis, paddings = row_axis(x), node.attr("paddings")
        if axis is None or paddings[axis] == (0, 0) or value_bytes(node.type) < COMPUTED_BYTES:
            return None
        before, length = paddings[axis][0], node.type.shape[axis]
        inner = x.type.shape[axis]
        if not isinstance(inner, int) or not inner:
            return None
        others = tuple((0, 0) if number == axis else pair for number, pair in enumerate(paddings))
        if any(pair != (0, 0) for pair in others):
            x = make_node(node.op, (x, value), (("paddings", others),), node.where)
        return self._masked([(x, before, before + inner)], length, axis, node, value)

    def initial(self, node: Node) -> Node | None:
        """Running sums or products with the one of nothing in front: those of rows with a neutral one in front."""
        (x,) = node.inputs
        axis, back = node.attr("axis"), node.attr("reverse")
        if not node.attr("include_initial") or row_axis(x) != axis or value_bytes(node.type) < COMPUTED_BYTES:
            return None
        paddings = tuple((int(not back), int(back)) if k == axis else (0, 0) for k in range(x.type.ndim))
        neutral = _new("constant", node, dtype=x.type.dtype, value=int(node.op.name == "cumulative_prod"))
        padded = self.pad(_new("pad", node, x, neutral, paddings=paddings))
        if padded is None:
            return None
        attrs = {"axis": axis, "reverse": back, "exclusive": False, "include_initial": False}
        longer, plain = (_new(node.op.name, node, one, **attrs) for one in (padded, x))
        self.known[longer, Slice(axis, None, -1, None) if back else Slice(axis, 1, None, None)] = plain
        return longer

    def windows(self, node: Node) -> Node | None:
        """Windows over rows, of a batch of one: for each place in a window the rows that stand there, side by side."""
        (x,) = node.inputs
        length = x.type.shape[1]
        if (
            row_axis(x) != 1
            or node.attr("lowest")
            or value_bytes(x.type) < COMPUTED_BYTES
            or not isinstance(length, int)
        ):
            return None
        (size, *window), (step, *steps) = node.attr("window"), node.attr("strides")
        (gap, *gaps), (pad, *pads) = node.attr("dilations"), node.attr("pads")
        count, places = node.type.shape[1], []
        assert isinstance(count, int)
        padded = self.part(x, Pad(1, *pad)) if pad != (0, 0) else x
        if padded is not None and pad != (0, 0):
            padded = self._masked([(x, pad[0], pad[0] + length)], length + sum(pad), 1, padded)
        for place in range(size):
            start = place * gap
            part = padded and self.part(padded, Slice(1, start, start + (count - 1) * step + 1, step))
            if part is None:
                return None
            if window:  # rows are the batch of what is left
                rest = {"window": window, "strides": steps, "dilations": gaps, "pads": pads}
                inner = {name: tuple(own) for name, own in rest.items()} | {"lowest": False}
                flat = _new(node.op.name, node, _new("squeeze", node, part, axis=(0,)), **inner)
                part = _new("expand_dims", node, flat, axis=(0,))
            places.append(_new("expand_dims", node, part, axis=(1 + len(node.attr("window")),)))
        return places[0] if size == 1 else _new("concat", node, *places, axis=1 + len(node.attr("window")))

    def _masked(
        self, spans: list[tuple[Node, int, int]], length: Size, axis: int, like: Node, fill: Node | None = None
    ) -> Node | None:
        """Each of the tensors in its span of the rows, and elsewhere `fill`, else zeros."""
        assert isinstance(length, int)
        padded = [self.part(one, Pad(axis, start, length - stop)) for one, start, stop in spans]
        if any(one is None for one in padded):
            return None
        rows = _counted(length, axis, like)
        result = edge = _zero(like) if fill is None else fill
        for (_, _, stop), one in reversed(list(zip(spans, padded, strict=True))):
            assert one is not None
            if stop == length and result is edge:
                result = one
                continue
            result = _new("where", like, _new("less", like, rows, _number(stop, like)), one, result)
        first = spans[0][1]
        if first:
            result = _new("where", like, _new("less", like, rows, _number(first, like)), edge, result)
        return result

    # Parts sink.

    def part(self, node: Node, part: Part) -> Node | None:
        """`part` of `node`, computed from parts of what it is computed from; None where that can not be."""
        found: Node | None = settle((node, part), self.known, self._needs, lambda key: self._made(*key))
        return found

    def _needs(self, key: tuple[Node, Part]) -> list[tuple[Node, Part]]:
        """The parts of operands that a part is computed from."""
        return [(one, own) for one, own in self._operands(*key) or () if own is not None]

    def _made(self, node: Node, part: Part) -> Node | None:
        return self._leaf(node, part) if node.is_leaf else self._computed(node, part)

    def _leaf(self, node: Node, part: Part) -> Node | None:
        if node.attr("kind") == "key":
            return None
        number, before = self.derived[node]
        key = number, (*before, part)
        if key not in self.leaves:
            leaf = Node(INPUT, (), node.attrs, (_part_type(node, part),))
            self.leaves[key] = leaf
            self.derived[leaf] = key
        return self.leaves[key]

    def _operands(self, node: Node, part: Part) -> list[tuple[Node, Part | None]] | None:
        """The operands that `part` of `node` is computed from, and which part of each: None for the whole of it.

        None where it is computed from none: it is read from a leaf, or can not be had.
        """
        if node.is_leaf or len(node.types) > 1 or "at" in kernel_parameters(node.op.kernel):
            return None
        binding = node.inferred().binding
        axis = binding.results[0][part.axis]
        if axis.kind != "free" or len(axis.factors) != 1 or axis.factors[0] not in binding.cuttable():
            return None
        found: list[tuple[Node, Part | None]] = []
        for operand, axes in zip(node.inputs, binding.operands, strict=True):
            place = next((place for place, one in enumerate(axes) if one.factors == axis.factors), None)
            found.append((operand, None if place is None else _along(part, place)))
        return found

    def _computed(self, node: Node, part: Part) -> Node | None:
        """`part` of `node`, where those of its operands are known."""
        operands = self._operands(node, part)
        if operands is None:
            return self._ranged(node, part) if node.op.name == "arange" and isinstance(part, Slice) else None
        inputs = [one if own is None else self.known.get((one, own)) for one, own in operands]
        if any(one is None for one in inputs):
            return None
        attrs = dict(node.attrs)
        if "shape" in attrs:
            attrs["shape"] = _part_type(node, part).shape
        return make_node(node.op, tuple([one for one in inputs if one is not None]), _attrs(attrs), node.where)

    def _ranged(self, node: Node, part: Slice) -> Node | None:
        """A slice of first, first + step, ... is one as well."""
        length = node.type.shape[0]
        if not isinstance(length, int):
            return None
        span = part.span(length)
        first, step = node.inputs
        start = _new("add", node, first, _new("multiply", node, step, _number(span.start, node, step.type.dtype)))
        stride = _new("multiply", node, step, _number(span.step, node, step.type.dtype))
        return make_node(node.op, (start, stride), (("shape", (len(span),)),), node.where)


_WHOLE = ("slice", None, None, None)
_RULES: dict[str, Callable[[_Sinking, Node], Node | None]] = {
    "getitem": _Sinking.slice,
    "scatter_slice": _Sinking.scatter,
    "concat": _Sinking.concat,
    "roll": _Sinking.roll,
    "pad": _Sinking.pad,
    "window_patches": _Sinking.windows,
    "cumulative_sum": _Sinking.initial,
    "cumulative_prod": _Sinking.initial,
}


def row_axis(node: Node) -> int | None:
    """The axis that is cut if one of `node` is: the first that is longer than 1."""
    return next((axis for axis, length in enumerate(node.type.shape) if length != 1), None)


def _place_in_key(key: Any, axis: int) -> int | None:
    """The place of `axis` of the operand in a key, which may hold None for new axes."""
    count = -1
    for place, entry in enumerate(key):
        count += entry is not None
        if count == axis:
            return place
    return None


def _part_type(node: Node, part: Part) -> Any:
    shape = node.type.shape
    length = shape[part.axis]
    assert isinstance(length, int)
    return tensor_type((*shape[: part.axis], part.length(length), *shape[part.axis + 1 :]), node.type.dtype)


def _along(part: Part, axis: int) -> Part:
    return (
        Slice(axis, part.start, part.stop, part.step)
        if isinstance(part, Slice)
        else Pad(axis, part.before, part.behind)
    )


def _new(name: str, like: Node, *inputs: Node, **attrs: object) -> Node:
    return make_node(OPS[name], inputs, _attrs(attrs), like.where)


def _attrs(attrs: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    return tuple(sorted(attrs.items()))


def _number(value: int, like: Node, dtype: Any = np.int64) -> Node:
    return _new("constant", like, dtype=np.dtype(dtype), value=value)


def _zero(like: Node) -> Node:
    return _new("constant", like, dtype=like.type.dtype, value=0)


def _counted(length: int, axis: int, like: Node) -> Node:
    """The number of each row, so shaped that it broadcasts along `axis`."""
    rows = _new("arange", like, _number(0, like), _number(1, like), shape=(length,))
    behind = like.type.ndim - axis - 1
    return _new("expand_dims", like, rows, axis=tuple(range(1, behind + 1))) if behind else rows
