"""Operations that hold bodies: branches and loops inside a graph. The functions that users call are in `loops`.

cond       one of two bodies
while_loop a body on states, as long as another body says so
scan       a body on states and one element after the other
map_fn     a body on each element by itself; `map_sum` adds up what it gives
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowgraph.errors import DTypeError, ShapeError
from flowgraph.graph import Node
from flowgraph.op import Op, Types, define
from flowgraph.ops import control_gradients as rules
from flowgraph.ops.axes import Axes
from flowgraph.ops.body import Body, Traced, check_states, joined, made_by
from flowgraph.types import Size, tensor_type

Array = np.ndarray[Any, Any]


def described(gives: Sequence[Any]) -> dict[str, Any]:
    """The attributes that say what the results are."""
    return {"shapes": tuple(one.shape for one in gives), "dtypes": tuple(one.dtype for one in gives)}


def dtypes_given(types: Any, attrs: Any) -> Any:
    """The dtype rule: operands as they are, results as the body gives them."""
    return tuple(one.dtype for one in types), attrs["dtypes"]


def alone(results: Sequence[Any]) -> Any:
    """What a kernel returns: a tuple of results, or the one by itself."""
    return results[0] if len(results) == 1 else tuple(results)


# cond


def _cond_attrs(pred: Any, /, *types: Any, true: Body, false: Body, shapes: Any = None, dtypes: Any = None) -> Any:
    if pred.shape != () or pred.dtype.kind != "b":
        raise DTypeError(
            f"cond of {pred}", "the condition is no single boolean", "Reduce it first: fg.all(x > 0), fg.max(x) > 0."
        )
    bodies = true.retyped(types), false.retyped(types)
    if bodies[0].gives != bodies[1].gives:
        one, other = (_made(body.graph.outputs) for body in bodies)
        raise ShapeError(
            "cond of two branches",
            f"one gives {one}, the other {other}",
            "Let both return tensors of the same shapes and dtypes.",
        )
    return {"true": bodies[0], "false": bodies[1]} | described(bodies[0].gives)


def _made(outputs: Sequence[Node]) -> str:
    """The results of a body, and where its lines make them."""
    shown = [f"{node.type}{'' if node.is_leaf else f' by {made_by(node)}'}" for node in outputs]
    return ", ".join(shown) or "nothing"


def _listed(types: Types) -> str:
    return ", ".join(map(str, types)) or "nothing"


def _cond_factors(types: Any, attrs: Any) -> str:
    true, false = attrs["true"].graph, attrs["false"].graph
    axes = Axes(attrs["true"], attrs["false"])
    for one, other in zip((*true.inputs, *true.outputs), (*false.inputs, *false.outputs), strict=True):
        axes.tie(one, other)
    operands = ["", *[axes.text(leaf) for leaf in true.inputs]]
    return f"{', '.join(operands)} -> {', '.join(axes.text(one) for one in true.outputs)}"


def choose(pred: Any, *operands: Any, true: Any, false: Any) -> Any:
    """The results of one of two bodies."""
    return alone((true if pred else false)(*operands))


def _sample_cond() -> Any:
    x = tensor_type((5, 4), np.float64)
    one, other = Traced(lambda x: x * x, [x], "a sample"), Traced(lambda x: x + x, [x], "a sample")
    attrs = {"true": one.body, "false": other.body}
    return [((np.asarray(pred), x), attrs) for pred in (True, False)]


cond_op: Op = define(
    "cond",
    _cond_factors,
    choose,
    attrs=_cond_attrs,
    dtype=dtypes_given,
    gradient=rules.cond_gradient,
    samples=_sample_cond,
    doc="What one of two bodies gives, by a condition.",
)


# while


def _while_attrs(
    *types: Any,
    test: Body,
    body: Body,
    states: int,
    limit: int | None,
    keep: Any = None,
    shapes: Any = None,
    dtypes: Any = None,
) -> Any:
    test, body = test.retyped(types), body.retyped(types)
    if len(test.gives) != 1 or test.gives[0].shape != () or test.gives[0].dtype.kind != "b":
        raise DTypeError(
            "a while_loop", f"its condition gives {_listed(test.gives)}, not one boolean", "Reduce it: fg.max(x) > 0."
        )
    check_states("a while_loop", body.graph.outputs, types[:states])
    kept = tuple(range(states)) if keep is None else tuple(keep)
    own = {"test": test, "body": body, "states": states, "limit": limit, "keep": kept}
    return own | described([body.gives[one] for one in kept])


def _while_factors(types: Any, attrs: Any) -> str:
    test, body = attrs["test"].graph, attrs["body"].graph
    axes = Axes(attrs["test"], attrs["body"])
    for one, other in zip(test.inputs, body.inputs, strict=True):
        axes.tie(one, other)
    for one, other in zip(body.inputs[: attrs["states"]], body.outputs, strict=True):
        axes.tie(one, other)
    operands = [axes.text(leaf) for leaf in body.inputs]
    return f"{', '.join(operands)} -> {', '.join(axes.text(body.outputs[one]) for one in attrs['keep'])}"


def repeat(*operands: Any, test: Any, body: Any, states: int, limit: int | None, keep: Any) -> Any:
    """The states after as many turns as `test` asks for, at most `limit`."""
    state, rest = operands[:states], operands[states:]
    turns = 0
    while (limit is None or turns < limit) and test(*state, *rest)[0]:
        state = body(*state, *rest)
        turns += 1
    return alone([np.asarray(state[one]) for one in keep])


def _sample_while() -> Any:
    x, c = tensor_type((5, 4), np.float64), tensor_type((), np.float64)
    count = tensor_type((), np.int32)
    test = Traced(lambda i, x, c: i < 3, [count, x, c], "a sample")
    body = Traced(lambda i, x, c: (i + 1, x * c), [count, x, c], "a sample")
    (one, other), rest = joined([test, body], 3)
    attrs = {"test": one, "body": other, "states": 2, "limit": 4}
    extra = [node.memo for node in rest]
    rows = [tensor_type((rows, 4), np.float64) for rows in (5, 3, 2)]  # calls of other names
    calls = [((np.asarray(start, np.int32), x, c, *extra), attrs) for x, start in zip(rows, (0, 2, 7), strict=True)]
    return [*calls, (calls[0][0], attrs | {"keep": (1,)})]


while_op: Op = define(
    "while_loop",
    _while_factors,
    repeat,
    attrs=_while_attrs,
    dtype=dtypes_given,
    gradient=rules.while_gradient,
    samples=_sample_while,
    doc="States after a body was applied to them as long as a condition holds.",
)


# scan


def _elements(types: Types, elems: int, what: str) -> tuple[Size, Types]:
    """(the number of elements, the type of one of each)."""
    if any(one.ndim == 0 for one in types[:elems]):
        raise ShapeError(
            f"{what} over {_listed(types[:elems])}", "a scalar has no elements", "Give a tensor with axes."
        )
    lengths = [one.shape[0] for one in types[:elems]]
    if any(length != lengths[0] for length in lengths):
        raise ShapeError(
            f"{what} over {_listed(types[:elems])}",
            "their first axes differ in length",
            "Give tensors with equally many elements.",
        )
    return lengths[0], tuple(tensor_type(one.shape[1:], one.dtype) for one in types[:elems])


def _scan_attrs(
    *types: Any,
    body: Body,
    states: int,
    elems: int,
    length: Any = None,
    reverse: bool = False,
    keep: Any = None,
    shapes: Any = None,
    dtypes: Any = None,
) -> dict[str, Any]:
    count: Size = length
    element: Types = ()
    if elems:
        count, element = _elements(types[states : states + elems], elems, "a scan")
    takes = (*types[:states], *element, *types[states + elems :])
    body = body.retyped(takes)
    check_states("a scan", body.graph.outputs[:states], takes[:states])
    gives = [*body.gives[:states]]
    gives += [tensor_type((count, *one.shape), one.dtype) for one in body.gives[states:]]
    kept = tuple(range(len(gives))) if keep is None else tuple(keep)
    own = {"body": body, "states": states, "elems": elems, "reverse": bool(reverse), "keep": kept}
    return own | {"length": None if elems else count} | described([gives[one] for one in kept])


def _scan_factors(types: Any, attrs: Any) -> str:
    graph, states, elems = attrs["body"].graph, attrs["states"], attrs["elems"]
    axes = Axes(attrs["body"])
    for one, other in zip(graph.inputs[:states], graph.outputs, strict=False):
        axes.tie(one, other)
    operands = [axes.text(leaf) for leaf in graph.inputs[:states]]
    operands += [axes.text("[t]", leaf) for leaf in graph.inputs[states : states + elems]]
    operands += [axes.text(leaf) for leaf in graph.inputs[states + elems :]]
    results = [axes.text(one) for one in graph.outputs[:states]]
    results += [axes.text("[t]", one) for one in graph.outputs[states:]]
    return f"{', '.join(operands)} -> {', '.join(results[one] for one in attrs['keep'])}"


def fold(
    *operands: Any,
    body: Any,
    states: int,
    elems: int,
    length: Any,
    reverse: bool,
    keep: Any,
    result_shapes: Any,
    dtypes: Any,
) -> Any:
    """The last states, and what the body gives besides at every element, stacked."""
    state, xs, rest = operands[:states], operands[states : states + elems], operands[states + elems :]
    count = len(xs[0]) if elems else length
    stacks: list[Any] = []
    for t in reversed(range(count)) if reverse else range(count):
        results = body(*state, *[x[t] for x in xs], *rest)
        state = results[:states]
        if not stacks:
            stacks = [np.empty((count, *np.shape(one)), np.asarray(one).dtype) for one in results[states:]]
        for stack, one in zip(stacks, results[states:], strict=True):
            stack[t] = one
    if not count:
        empty = dict(zip(keep, map(np.empty, result_shapes, dtypes), strict=True))
        return alone([np.asarray(state[one]) if one < states else empty[one] for one in keep])
    return alone([np.asarray(state[one]) if one < states else stacks[one - states] for one in keep])


def _sample_scan() -> Any:
    h, x, w = (tensor_type(shape, np.float64) for shape in ((4, 3), (4, 3), (3, 3)))

    def step(h: Any, x: Any, w: Any) -> Any:
        new = x + 0.5 * (h @ w)
        return new, new * x, h

    traced = Traced(step, [h, x, w], "a sample")
    rest = [node.memo for node in traced.captured]
    attrs: dict[str, Any] = {"body": traced.body, "states": 1, "elems": 1}
    cases: Any = [(5, {}), (1, {}), (0, {}), (4, {"reverse": True}), (3, {"keep": (1, 2)})]
    return [((h, tensor_type((count, 4, 3), np.float64), w, *rest), attrs | more) for count, more in cases]


scan_op: Op = define(
    "scan",
    _scan_factors,
    fold,
    attrs=_scan_attrs,
    dtype=dtypes_given,
    gradient=rules.scan_gradient,
    samples=_sample_scan,
    doc="States after a body was applied to them and to one element after the other, and what it gives besides.",
)


# map


def _map_attrs(*types: Any, body: Body, elems: int, shapes: Any = None, dtypes: Any = None) -> dict[str, Any]:
    count, element = _elements(types, elems, "a map")
    body = body.retyped((*element, *types[elems:]))
    gives = [tensor_type((count, *one.shape), one.dtype) for one in body.gives]
    return {"body": body, "elems": elems} | described(gives)


def _map_operands(axes: Axes, attrs: Any) -> str:
    inputs, elems = attrs["body"].graph.inputs, attrs["elems"]
    operands = [axes.text("t", leaf) for leaf in inputs[:elems]] + [axes.text(leaf) for leaf in inputs[elems:]]
    return ", ".join(operands)


def _map_factors(types: Any, attrs: Any) -> str:
    axes = Axes(attrs["body"])
    return f"{_map_operands(axes, attrs)} -> {', '.join(axes.text('t', one) for one in attrs['body'].graph.outputs)}"


def each(*operands: Any, body: Any, elems: int, result_shapes: Any, dtypes: Any) -> Any:
    """What the body gives for every element, stacked."""
    xs, rest = operands[:elems], operands[elems:]
    count = len(xs[0])
    if not count:
        return alone([np.empty(shape, dtype) for shape, dtype in zip(result_shapes, dtypes, strict=True)])
    stacks: list[Any] = []
    for t in range(count):
        results = body(*[x[t] for x in xs], *rest)
        if not stacks:
            stacks = [np.empty((count, *np.shape(one)), np.asarray(one).dtype) for one in results]
        for stack, one in zip(stacks, results, strict=True):
            stack[t] = one
    return alone(stacks)


def _sample_map() -> Any:
    x, w = tensor_type((4,), np.float64), tensor_type((4, 2), np.float64)
    body = Traced(lambda x, w: (x @ w) * x[0], [x, w], "a sample").body
    two = Traced(lambda x, w: (x * x, x @ w), [x, w], "a sample").body
    calls = [((tensor_type((count, 4), np.float64), w), {"body": body, "elems": 1}) for count in (5, 1, 0)]
    return [*calls, ((tensor_type((3, 4), np.float64), w), {"body": two, "elems": 1})]


map_op: Op = define(
    "map_fn",
    _map_factors,
    each,
    attrs=_map_attrs,
    dtype=dtypes_given,
    gradient=rules.map_gradient,
    samples=_sample_map,
    doc="What a body gives for each element by itself, stacked.",
)


def _sum_attrs(*types: Any, body: Body, elems: int, shapes: Any = None, dtypes: Any = None) -> dict[str, Any]:
    _, element = _elements(types, elems, "a map")
    body = body.retyped((*element, *types[elems:]))
    return {"body": body, "elems": elems} | described(body.gives)


def _sum_factors(types: Any, attrs: Any) -> str:
    axes = Axes(attrs["body"], sums=attrs["body"])
    return f"{_map_operands(axes, attrs)} -> {', '.join(map(axes.text, attrs['body'].graph.outputs))}"


def total(*operands: Any, body: Any, elems: int, result_shapes: Any, dtypes: Any) -> Any:
    """The sum of what the body gives for every element."""
    xs, rest = operands[:elems], operands[elems:]
    sums: Any = [np.zeros(shape, dtype) for shape, dtype in zip(result_shapes, dtypes, strict=True)]
    for t in range(len(xs[0])):
        for whole, one in zip(sums, body(*[x[t] for x in xs], *rest), strict=True):
            np.add(whole, one, whole)
    return alone(sums)


def _sample_sum() -> Any:
    x, y, w = (tensor_type(shape, np.float64) for shape in ((4, 3), (4, 2), (3, 2)))
    body = Traced(lambda x, y, w: x.T @ (y * (x @ w)), [x, y, w], "a sample").body
    attrs = {"body": body, "elems": 2}
    types = [(tensor_type((n, 4, 3), np.float64), tensor_type((n, 4, 2), np.float64), w) for n in (5, 1, 0)]
    two = Traced(lambda x, y, w: (x.T @ y, (y * (x @ w)).sum()), [x, y, w], "a sample").body
    return [*((one, attrs) for one in types), (types[0], {"body": two, "elems": 2})]


sum_op: Op = define(
    "map_sum",
    _sum_factors,
    total,
    attrs=_sum_attrs,
    dtype=dtypes_given,
    combine="add",
    gradient=rules.sum_gradient,
    samples=_sample_sum,
    doc="The sum of what a body gives for each element.",
)
