"""The factor string of an op that holds a body: which axes may be cut follows from the factor strings inside.

An axis of an operand may be cut if every op of the body lets it through: it is free wherever it occurs, is not
contracted, and nothing looks at how long it is.
"""

from __future__ import annotations

from typing import Any

from flowgraph.graph import ITEM, Node
from flowgraph.op import kernel_parameters
from flowgraph.ops.body import Body

Key = tuple[Any, ...]
_LINEAR = frozenset(
    {"transpose", "reshape", "expand_dims", "squeeze", "negative", "getitem", "scatter_slice", "broadcast_to",
     "broadcast_like", "identity", "sum"}
)  # fmt: skip
"""Ops that are linear in their first operand, and do not read another."""


class Axes:
    """Axes of the tensors of some bodies, in classes that are cut together or not at all.

    What the results of the body `sums` are made of may be computed in pieces, for these are added up.
    """

    def __init__(self, *bodies: Body, sums: Body | None = None) -> None:
        self._parent: dict[Key, Key] = {}
        self._whole: set[Key] = set()
        self._names: dict[Key, str] = {}
        self._contracted: dict[Node, list[Key]] = {}
        for body in bodies:
            for leaf in body.graph.inputs:
                self._ones(leaf, 0)
            for node in body.graph:
                if not node.is_leaf:
                    self._node(node)
        self._sums = sums
        self._settled = False

    def tie(self, one: Node, other: Node) -> None:
        """Let the axes of two tensors of one shape be cut alike."""
        for axis in range(one.type.ndim):
            self._union((one, 0, axis), (other, 0, axis))

    def keep_whole(self, key: Key) -> None:
        """Let no axis of this class be cut."""
        self._whole.add(key)

    def _settle(self) -> None:
        """Let no axis be cut that is contracted, but where the results of `sums` may be added up instead."""
        self._settled = True
        addable = () if self._sums is None else self._sums.graph.nodes()
        for node, keys in self._contracted.items():
            for key in keys:
                if node not in addable or self._sums is None or not self._is_summed(self._sums, self._find(key)):
                    self.keep_whole(key)

    def text(self, *parts: Node | str) -> str:
        """The axes of a tensor as a factor string writes them, when all ties are known; words stand as they are."""
        if not self._settled:
            self._settle()
        words = []
        for part in parts:
            if isinstance(part, str):
                words.append(part)
            else:
                words += [self._word((part, 0, axis)) for axis in range(part.type.ndim)]
        return " ".join(words)

    def _word(self, key: Key) -> str:
        root = self._find(key)
        name = self._names.setdefault(root, f"f{len(self._names)}")
        return f"[{name}]" if any(self._find(one) == root for one in self._whole) else name

    def _find(self, key: Key) -> Key:
        while key in self._parent:
            key = self._parent[key]
        return key

    def _union(self, one: Key, other: Key) -> None:
        a, b = self._find(one), self._find(other)
        if a != b:
            self._parent[a] = b

    def _ones(self, node: Node, result: int) -> None:
        """An axis of length 1 may be stretched further on; rows never are."""
        for axis, length in enumerate(node.types[result].shape):
            if length == 1:
                self.keep_whole((node, result, axis))

    def _node(self, node: Node) -> None:
        if node.op is ITEM:
            for number in range(node.type.ndim):
                self._union((node, 0, number), (node.inputs[0], node.attr("index"), number))
            return
        binding = node.inferred().binding
        free, contracted = set(binding.cuttable()), binding.contracted()
        if "at" in kernel_parameters(node.op.kernel):
            free = set()
        sides = [*((one, 0, axes) for one, axes in zip(node.inputs, binding.operands, strict=True))]
        of_operands = {name for _, _, axes in sides for one in axes for name in one.factors}
        sides += [(node, number, axes) for number, axes in enumerate(binding.results)]
        for one, number, axes in sides:
            for place, axis in enumerate(axes):
                if not axis.factors:
                    self.keep_whole((one, number, place))
                    continue
                factor = (node, axis.factors[0])
                self._union((one, number, place), factor)
                if len(axis.factors) > 1 or axis.factors[0] not in free or axis.factors[0] not in of_operands:
                    self.keep_whole(factor)
                if axis.factors[0] in contracted:
                    self._contracted.setdefault(node, []).append(factor)

    def _is_summed(self, body: Body, root: Key) -> bool:
        """Whether pieces of this class may be computed apart and added: its contraction goes straight to the result."""
        given = [(one, 0, axis) for one in body.graph.outputs for axis in range(one.type.ndim)]
        if any(self._find(key) == root for key in given):
            return False
        partial: set[Node] = set()
        for node in body.graph:
            if node.is_leaf:
                continue
            parts = [one in partial for one in node.inputs]
            if any(self._find(key) == root for key in self._contracted.get(node, ())):
                if node.op.combine != "add" or any(parts):
                    return False
                partial.add(node)
            elif any(parts):
                if node.op.name == "broadcast_like" and not parts[0]:
                    continue  # it reads no more than lengths
                if not _is_linear(node, parts):
                    return False
                partial.add(node)
        return all(one in partial for one in body.graph.outputs)


def _is_linear(node: Node, parts: list[bool]) -> bool:
    """Whether the sum of what `node` gives for pieces is what it gives for their sum, in the operands in `parts`."""
    name = node.op.name
    if name in ("add", "subtract", "concat"):
        return all(parts)
    if name in ("multiply", "matmul"):
        return sum(parts) == 1
    if name == "divide":
        return parts == [True, False]
    return name in _LINEAR and parts[0]
