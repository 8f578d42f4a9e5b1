"""One more axis for every operation: how a graph for one element becomes a graph for a batch of them.

Batched tensors have the new axis first. Where a factor string has `...` the axis joins it; else an op is called with
its axes moved by one, and its factor strings before and after show whether it treats the new axis as one that is only
carried along. What passes neither test runs in a loop over the batch, as `map_fn` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowgraph.apply import apply, recorded
from flowgraph.context import ACTIVE
from flowgraph.errors import FlowgraphError
from flowgraph.factors import ELLIPSIS, Axis, Binding, parse
from flowgraph.graph import ITEM, Graph, Node, make_node
from flowgraph.op import OPS, infer
from flowgraph.ops.body import Body, Traced, joined
from flowgraph.ops.control_gradients import map_call
from flowgraph.ops.shape import broadcast_to, expand_dims, reshape, squeeze, transpose
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import Size, tensor_type

Batched = tuple[Tensor, bool]
"""A tensor, and whether it has the axis of the batch, first."""


def batch(body: Body, operands: Sequence[Batched], size: Size) -> list[Batched]:
    """The results of `body` on operands of which some are batches of `size` elements."""
    known: dict[Node, list[Batched]] = {leaf: [one] for leaf, one in zip(body.graph.inputs, operands, strict=True)}
    before = ACTIVE.where
    try:
        for node in body.graph:
            if node in known:
                continue
            if node.op is ITEM:
                known[node] = [known[node.inputs[0]][node.attr("index")]]
                continue
            ACTIVE.where = node.where  # what a batch is computed by has the line that was written for one element
            ins = [known[one][0] for one in node.inputs]
            if any(batched for _, batched in ins):
                known[node] = _batched_node(node, ins, size)
            else:
                known[node] = [(one, False) for one in _plain(node, [one for one, _ in ins])]
    finally:
        ACTIVE.where = before
    return [known[node][0] for node in body.graph.outputs]


def _plain(node: Node, operands: Sequence[Tensor]) -> list[Tensor]:
    """The results of `node` on other operands of the same types."""
    if node.op.name == "constant":
        return [tensor_of(node)]
    made = recorded(Node(node.op, tuple([one.node for one in operands]), node.attrs, node.types, node.where))
    if len(node.types) == 1:
        return [tensor_of(made)]
    items = [make_node(ITEM, (made,), (("index", n),), node.where) for n in range(len(node.types))]
    return [tensor_of(recorded(one)) for one in items]


def _batched_node(node: Node, ins: Sequence[Batched], size: Size) -> list[Batched]:
    rule = _RULES.get(node.op.name)
    if rule is not None:
        return rule(node, ins, size)
    for way in (_by_ellipsis, _by_factors):
        found = way(node, ins, size)
        if found is not None:
            return [(one, True) for one in found]
    return _by_loop(node, ins, size)


def _list(made: Any) -> list[Tensor]:
    return list(made) if isinstance(made, tuple) else [made]


def _aligned(x: Batched, missing: int) -> Tensor:
    """A batch with `missing` axes of length 1 behind its first, so that it broadcasts as its elements did."""
    tensor, batched = x
    return expand_dims(tensor, tuple(range(1, 1 + missing))) if batched and missing > 0 else tensor


def _full(x: Batched, size: Size) -> Tensor:
    """A batch, of equal elements where there was none."""
    tensor, batched = x
    return tensor if batched else broadcast_to(tensor, (size, *tensor.shape))


def _by_ellipsis(node: Node, ins: Sequence[Batched], size: Size) -> list[Tensor] | None:
    """The new axis as the first of those for which `...` stands."""
    if not isinstance(node.op.factors, str):
        return None
    rule = parse(node.op.factors)
    sides = [*zip(rule.operands, [batched for _, batched in ins], strict=True), *[(one, True) for one in rule.results]]
    if any(batched and axes[:1] != (ELLIPSIS,) for axes, batched in sides):
        return None
    spans = [one.type.ndim - len(axes) + 1 for one, axes in zip(node.inputs, rule.operands, strict=True)]
    widest = max(span for span, axes in zip(spans, rule.operands, strict=True) if ELLIPSIS in axes)
    operands = [_aligned(one, widest - span) for one, span in zip(ins, spans, strict=True)]
    return _list(apply(node.op, tuple(operands), dict(node.attrs)))


def _by_factors(node: Node, ins: Sequence[Batched], size: Size) -> list[Tensor] | None:
    """The op with its axes moved by one, if its factor string says that nothing else has changed."""
    if any(isinstance(value, Body) for _, value in node.attrs):
        return None
    operands = tuple([_full(one, size) for one in ins])
    types = tuple([one.type for one in operands])
    old = node.inferred().binding
    for attrs in (_moved(dict(node.attrs), size), dict(node.attrs)):
        try:
            new = infer(node.op, types, tuple(sorted(attrs.items())))
        except (FlowgraphError, TypeError, ValueError):  # attributes for fewer axes
            continue
        wanted = tuple(tensor_type((size, *one.shape), one.dtype) for one in node.types)
        if new.types == wanted and _carries(old, new.binding):
            return _list(apply(node.op, operands, attrs))
    return None


def _moved(attrs: dict[str, Any], size: Size) -> dict[str, Any]:
    """Attributes that name axes, for tensors with one more in front."""
    moved = dict(attrs)
    for name, value in attrs.items():
        if name in ("axis", "axes") and value is not None:
            moved[name] = tuple(one + 1 for one in value) if isinstance(value, tuple) else value + 1
        elif name == "shape":
            moved[name] = (size, *value)
        elif name == "key":
            moved[name] = (("slice", None, None, None), *value)
        elif name == "shapes":
            moved[name] = None
    return moved


def _carries(old: Binding, new: Binding) -> bool:
    """Whether `new` is `old` with one more factor, which is free and first everywhere."""
    names: dict[str, str] = {}
    sides = [*zip(old.operands, new.operands, strict=True), *zip(old.results, new.results, strict=True)]
    first = {after[0] for _, after in sides if after}
    if len(first) != 1 or any(len(after) != len(before) + 1 for before, after in sides):
        return False
    (carried,) = first
    if carried.kind != "free" or len(carried.factors) != 1 or carried.factors[0] not in new.cuttable():
        return False
    return all(
        _same_axis(a, b, names) and carried.factors[0] not in b.factors
        for before, after in sides
        for a, b in zip(before, after[1:], strict=True)
    ) and len(set(names.values())) == len(names)


def _same_axis(old: Axis, new: Axis, names: dict[str, str]) -> bool:
    if old.kind != new.kind or len(old.factors) != len(new.factors):
        return False
    return all(names.setdefault(a, b) == b for a, b in zip(old.factors, new.factors, strict=True))


def _by_loop(node: Node, ins: Sequence[Batched], size: Size) -> list[Batched]:
    """The op on one element after the other."""
    moving = [one for one, batched in ins if batched]

    def inner(*elements: Tensor) -> list[Tensor]:
        rest = iter(elements)
        return _plain(node, [next(rest) if batched else one for one, batched in ins])

    types = [tensor_type(one.shape[1:], one.dtype) for one in moving]
    traced = Traced(inner, types, node.op.name, hoist=False)
    return [(one, True) for one in map_call(traced, moving)]


# Ops whose operands come in ranks of their own.


def _matmul(node: Node, ins: Sequence[Batched], size: Size) -> list[Batched]:
    (x, x_batched), (y, y_batched) = ins
    rank, other = (one.type.ndim for one in node.inputs)
    op = OPS["matmul"]
    if rank == 1 and not y_batched and other <= 2:
        return [(op(x, y), True)]  # rows of a matrix
    if other == 1 and not x_batched and rank <= 2:
        return [(op(y, x if rank == 1 else x.mT), True)]
    left = expand_dims(x, -2) if rank == 1 else x
    right = expand_dims(y, -1) if other == 1 else y
    widest = max(rank, other, 2)
    made = op(_aligned((left, x_batched), widest - max(rank, 2)), _aligned((right, y_batched), widest - max(other, 2)))
    axes = tuple([-2] * (rank == 1) + [-1] * (other == 1))
    return [(squeeze(made, tuple(made.ndim + one for one in axes)) if axes else made, True)]


def _transpose(node: Node, ins: Sequence[Batched], size: Size) -> list[Batched]:
    return [(transpose(ins[0][0], axes=(0, *[one + 1 for one in node.attr("axes")])), True)]


def _reshape(node: Node, ins: Sequence[Batched], size: Size) -> list[Batched]:
    return [(reshape(ins[0][0], (size, *node.type.shape)), True)]


def _stretch(node: Node, ins: Sequence[Batched], size: Size) -> list[Batched]:
    """broadcast_to and broadcast_like: only the first operand is read."""
    x = ins[0]
    if not x[1] and not node.type.ndim:
        return [x]
    missing = node.type.ndim - node.inputs[0].type.ndim
    if not x[1]:  # only lengths come from the batch
        return [(broadcast_to(x[0], node.type.shape), False)]
    return [(broadcast_to(_aligned(x, missing), (size, *node.type.shape)), True)]


def _size(node: Node, ins: Sequence[Batched], size: Size) -> list[Batched]:
    axes = tuple(one + 1 for one in node.attr("axes"))
    return [(OPS["size"](ins[0][0], axes=axes, dtype=node.type.dtype), False)]


def _barrier(node: Node, ins: Sequence[Batched], size: Size) -> list[Batched]:
    (x, batched), (other, _) = ins
    return [(OPS["barrier"](x, other), batched)]


def _custom(node: Node, ins: Sequence[Batched], size: Size) -> list[Batched]:
    """custom_gradient: its rule becomes a rule for batches."""
    rule, results, of = (node.attr(name) for name in ("rule", "results", "of"))
    operands = [_full(one, size) for one in ins]
    reads = operands[results + of :]

    def batched_rule(*all: Tensor) -> list[Tensor]:
        return [_full(one, size) for one in batch(rule, [(one, True) for one in all], size)]

    types = [one.type for one in (*reads, *operands[:results])]
    traced = Traced(batched_rule, types, "a gradient rule")
    graph = traced.body.graph
    count = len(reads)
    extra = [tensor_of(one) for one in traced.captured]
    ordered = (*graph.inputs[:count], *graph.inputs[count + results :], *graph.inputs[count : count + results])
    attrs = {"rule": Body(Graph(ordered, graph.outputs)), "results": results, "of": of}
    return [(one, True) for one in _list(apply(node.op, (*operands, *extra), attrs))]


# Ops with bodies: the body goes through `batch` as well.


def _inside(body: Body, types: Sequence[Any], flags: Sequence[bool], size: Size) -> Traced:
    """`body` for a batch, whose results all have its axis."""

    def inner(*all: Tensor) -> list[Tensor]:
        return [_full(one, size) for one in batch(body, list(zip(all, flags, strict=True)), size)]

    return Traced(inner, types, "a batched body")


def _swapped(x: Tensor) -> Tensor:
    """`x` with its first two axes exchanged: elements in batches, or batches of elements."""
    return transpose(x, axes=(1, 0, *range(2, x.ndim)))  # type: ignore[no-any-return]


def _loop(node: Node, ins: Sequence[Batched], size: Size) -> list[Batched]:
    """scan, map_fn and map_sum go through their elements once, with batches of states."""
    attrs = dict(node.attrs)
    states, elems = attrs.get("states", 0), attrs["elems"]
    operands, flags = [], []
    for number, one in enumerate(ins):
        tensor, batched = (_full(one, size), True) if number < states else one
        operands.append(_swapped(tensor) if batched and states <= number < states + elems else tensor)
        flags.append(batched)
    types = [
        tensor_type(one.shape[1:], one.dtype) if states <= number < states + elems else one.type
        for number, one in enumerate(operands)
    ]
    traced = _inside(attrs["body"], types, flags, size)
    own = {name: attrs[name] for name in ("states", "elems", "length", "reverse", "keep") if name in attrs}
    made = _list(apply(node.op, (*operands, *map(tensor_of, traced.captured)), own | {"body": traced.body}))
    keep = attrs.get("keep", range(len(made)))
    is_stack = [node.op.name != "map_sum" and one >= states for one in keep]
    return [(_swapped(one) if stack else one, True) for one, stack in zip(made, is_stack, strict=True)]


def _cond(node: Node, ins: Sequence[Batched], size: Size) -> list[Batched]:
    """One condition for the whole batch chooses a branch for it; a batch of conditions is gone through one by one."""
    (pred, batched), *rest = ins
    if batched:
        return _by_loop(node, ins, size)
    types, flags = [one.type for one, _ in rest], [flag for _, flag in rest]
    branches = [_inside(node.attr(name), types, flags, size) for name in ("true", "false")]
    (true, false), captured = joined(branches, len(types))
    operands = (pred, *[one for one, _ in rest], *map(tensor_of, captured))
    return [(one, True) for one in _list(apply(node.op, operands, {"true": true, "false": false}))]


_RULES: dict[str, Callable[[Node, Sequence[Batched], Size], list[Batched]]] = {
    "barrier": _barrier,
    "broadcast_like": _stretch,
    "broadcast_to": _stretch,
    "cond": _cond,
    "custom_gradient": _custom,
    "map_fn": _loop,
    "map_sum": _loop,
    "matmul": _matmul,
    "reshape": _reshape,
    "scan": _loop,
    "size": _size,
    "transpose": _transpose,
}
