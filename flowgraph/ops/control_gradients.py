"""Gradient rules of the operations that hold bodies. Each is made of such operations, so it has one too.

cond     cond of the gradients of the branches
scan     a scan the other way, over the states that were stored; then `map_sum` for what the body took from outside
map_fn   map_fn for the elements, map_sum for the rest
while    a scan over the greatest number of turns, in which a turn after the last changes nothing; where there is none,
         `while_back`, which goes back through the turns that were taken
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowgraph.apply import apply
from flowgraph.context import Hooks
from flowgraph.graph import Graph
from flowgraph.op import OPS
from flowgraph.ops.body import Body, Traced, joined
from flowgraph.ops.differentiate import is_zero, zeros_of
from flowgraph.ops.shape import concat, reshape
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import is_float, tensor_type


def results_of(made: Any) -> list[Tensor]:
    """The results of a call as a list."""
    return list(made) if isinstance(made, tuple) else [made]


def pullback(
    body: Body, operands: Sequence[Tensor], outputs: Sequence[int], weights: Sequence[Tensor], wanted: Sequence[int]
) -> list[Tensor]:
    """The gradients of some results of `body`, weighted, by the operands at `wanted`."""
    results = body.splice(operands)
    grads: list[Tensor] = Hooks.gradient(
        [results[one] for one in outputs],
        [operands[one] for one in wanted],
        output_gradients=list(weights),
        unconnected_gradients="zero",
    )
    return grads


def floats(tensors: Sequence[Any]) -> list[int]:
    """The places of the tensors that have gradients."""
    return [number for number, one in enumerate(tensors) if is_float(one.dtype)]


def _used(grads: Sequence[Tensor], types: Sequence[Any]) -> list[int]:
    """The results whose gradient is not zero."""
    return [number for number in floats(types) if not is_zero(grads[number])]


def _tuple(g: Any, body: Body) -> list[Tensor]:
    return list(g) if len(body.gives) > 1 else [g]


# cond


def cond_gradient(
    g: Any, out: Any, pred: Tensor, *operands: Tensor, true: Body, false: Body, live: Sequence[bool]
) -> Any:
    """Cond of the gradients of the two branches."""
    given = _tuple(g, true)
    outputs = _used(given, true.gives)
    wanted = [number for number in floats(operands) if live[number + 1]]
    if not outputs or not wanted:
        return (None,) * (len(operands) + 1)
    weights = [given[one] for one in outputs]
    count = len(operands)
    types = [one.type for one in (*operands, *weights)]

    def branch(body: Body) -> Traced:
        return Traced(
            lambda *all: pullback(body, all[:count], outputs, all[count:], wanted), types, "a gradient", hoist=False
        )

    (one, other), captured = joined([branch(true), branch(false)], len(types))
    made = apply(OPS["cond"], (pred, *operands, *weights, *map(tensor_of, captured)), {"true": one, "false": other})
    found = dict(zip(wanted, results_of(made), strict=True))
    return (None, *[found.get(number) for number in range(count)])


# while


def while_gradient(
    g: Any,
    out: Any,
    *operands: Tensor,
    test: Body,
    body: Body,
    states: int,
    limit: int | None,
    keep: Sequence[int],
    live: Sequence[bool],
) -> Any:
    """The gradient of a scan over `limit` turns, of which those after the last hand the states on.

    Without a limit the turns are gone through from the end, see unwinding.py.
    """
    given = [zeros_of(one) for one in operands[:states]]
    for place, one in zip(keep, g if len(keep) > 1 else [g], strict=True):
        given[place] = one
    outputs = _used(given, body.gives)
    wanted = [number for number in floats(operands) if live[number]]
    if not outputs or not wanted:
        return (None,) * len(operands)
    if limit is None:
        found = _unwound(operands, given, wanted, test, body, states)
        return tuple(found.get(number) for number in range(len(operands)))
    still = Body(Graph(body.graph.inputs, body.graph.inputs[:states]))

    def turn(*all: Tensor) -> list[Tensor]:
        (go,) = test.splice(all)
        return results_of(apply(OPS["cond"], (go, *all), {"true": body, "false": still}))

    step = Traced(turn, [one.type for one in operands], "a turn").body
    loop = Traced(
        lambda *all: scan_call(step, all[:states], (), all[states:], length=limit)[0],
        [one.type for one in operands],
        "a loop",
    ).body
    weights = [given[one] for one in outputs]
    count = len(operands)
    back = Traced(
        lambda *all: pullback(loop, all[:count], outputs, all[count:], wanted),
        [one.type for one in (*operands, *weights)],
        "a gradient",
    )
    grads = back.body.splice([*operands, *weights, *map(tensor_of, back.captured)])
    found = dict(zip(wanted, grads, strict=True))
    return tuple(found.get(number) for number in range(count))


def _unwound(
    operands: Sequence[Tensor], given: Sequence[Tensor], wanted: Sequence[int], test: Body, body: Body, states: int
) -> dict[int, Tensor]:
    """The gradients by the operands at `wanted` of a loop that has no limit."""
    carried = floats(body.gives)
    behind = states + len(carried)  # the operands: first states, gradients of the last states, what is outside
    everything = [*operands[:states], *[given[one] for one in carried], *operands[states:]]
    types = [one.type for one in everything]

    def traced(function: Callable[..., Any]) -> Traced:
        """`function` of the operands of the loop's bodies, and of the gradients."""
        own = lambda *all: function([*all[:states], *all[behind:]], all[states:behind])  # noqa: E731
        return Traced(own, types, "a gradient")

    def gradients(by: Sequence[int]) -> Callable[..., list[Tensor]]:
        return lambda taken, weights: pullback(body, taken, carried, weights, by)

    bodies = {
        "test": traced(lambda taken, weights: test.splice(taken)),
        "body": traced(lambda taken, weights: body.splice(taken)),
        "back": traced(gradients(carried)),
    }

    def call(op: str, bodies: dict[str, Traced], **attrs: Any) -> list[Tensor]:
        closed, captured = joined(list(bodies.values()), len(types))
        attrs |= dict(zip(bodies, closed, strict=True)) | {"states": states, "weights": len(carried)}
        return results_of(apply(OPS[op], (*everything, *map(tensor_of, captured)), attrs))

    found: dict[int, Tensor] = {}
    if wanted[0] < states:
        found |= dict(zip(carried, call("while_back", bodies), strict=True))
    outside = [one for one in wanted if one >= states]
    for dtype in dict.fromkeys(operands[one].dtype for one in outside):
        of = [one for one in outside if operands[one].dtype == dtype]
        share = traced(lambda taken, weights, of=of: [flat(gradients(of)(taken, weights))])
        (whole,) = call("while_back_sum", bodies | {"share": share}, of=[one + len(carried) for one in of])
        found |= dict(zip(of, parted(whole, [operands[one] for one in of]), strict=True))
    return found


# scan


def scan_call(
    body: Body,
    init: Sequence[Tensor],
    xs: Sequence[Tensor],
    rest: Sequence[Tensor],
    length: int | None = None,
    reverse: bool = False,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """(last states, stacked results, the states before each turn) of a scan. What is not used is not stored."""
    count = len(init)
    graph = body.graph
    wide = Body(Graph(graph.inputs, (*graph.outputs, *graph.inputs[:count])))
    attrs = {"body": wide, "states": count, "elems": len(xs), "reverse": reverse}
    results = results_of(apply(OPS["scan"], (*init, *xs, *rest), attrs | ({} if xs else {"length": length})))
    return results[:count], results[count : len(results) - count], results[len(results) - count :]


def scan_gradient(
    g: Any,
    out: Any,
    *operands: Tensor,
    body: Body,
    states: int,
    elems: int,
    length: Any,
    reverse: bool,
    keep: Sequence[int],
    live: Sequence[bool],
) -> Any:
    """A scan the other way carries the gradients of the states; outside values get theirs by `map_sum`."""
    g = list(g) if len(keep) > 1 else [g]
    init, xs, rest = operands[:states], operands[states : states + elems], operands[states + elems :]
    weights = {one: g[place] for place, one in enumerate(keep) if is_float(body.gives[one].dtype)}
    stacked = [one for one in weights if one >= states and not is_zero(weights[one])]
    carried = floats(init)
    before = _before(out if len(keep) > 1 else [out], body, states, keep)
    if before is None:
        _, _, before = scan_call(body, init, xs, rest, length, reverse)
    moving = [*before, *xs, *[weights[one] for one in stacked]]
    start = [weights[one] if one in weights else OPS["broadcast_like"](0, init[one]) for one in carried]
    wanted_x = [states + n for n in floats(xs) if live[states + n]]
    wanted_rest = [n for n in floats(rest) if live[states + elems + n]]
    outputs = [*carried, *stacked]

    def split(all: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The operands of the body and the weights of its results, from (carried weights, moving, rest)."""
        own, tail = all[: len(carried)], all[len(carried) + len(moving) :]
        middle = all[len(carried) : len(carried) + len(moving)]
        taken, of_stacked = middle[: states + elems], middle[states + elems :]
        return [*taken, *tail], [*own, *of_stacked]

    def turn(*all: Tensor) -> list[Tensor]:
        taken, factors = split(all)
        return pullback(body, taken, outputs, factors, [*carried, *wanted_x])

    types = [one.type for one in start] + [_element(one) for one in moving] + [one.type for one in rest]
    back = Traced(turn, types, "a gradient")
    tail = [*rest, *map(tensor_of, back.captured)]
    count = moving[0].shape[0] if moving and moving[0].ndim else length
    last, of_x, arriving = scan_call(back.body, start, moving, tail, count, not reverse)

    def of_rest(*all: Tensor) -> list[Tensor]:
        taken, factors = split(all)
        return pullback(body, taken, outputs, factors, [states + elems + n for n in wanted_rest])

    found: dict[int, Any] = dict(zip(carried, last, strict=True))
    found |= dict(zip(wanted_x, of_x, strict=True))
    summed = added(of_rest, [*arriving, *moving], rest, [rest[n] for n in wanted_rest])
    found |= {states + elems + n: one for n, one in zip(wanted_rest, summed, strict=True)}
    return tuple(found.get(number) for number in range(len(operands)))


def _before(out: Sequence[Tensor], body: Body, states: int, keep: Sequence[int]) -> list[Tensor] | None:
    """The states before each turn, where the scan stored them all."""
    found = []
    for leaf in body.graph.inputs[:states]:
        places = [n for n, one in enumerate(keep) if one >= states and body.graph.outputs[one] is leaf]
        if not places:
            return None
        found.append(out[places[-1]])
    return found


def _element(x: Tensor) -> Any:
    return tensor_type(x.shape[1:], x.dtype)


def added(
    function: Callable[..., list[Tensor]], xs: Sequence[Tensor], rest: Sequence[Tensor], like: Sequence[Tensor]
) -> list[Tensor]:
    """The sum over the elements of what `function` gives, tensors of the types of `like`: one loop a dtype.

    They are summed as one vector, for a contraction that is cut has one result.
    """
    result: list[Any] = [None] * len(like)
    types = [_element(one) for one in xs] + [one.type for one in rest]
    for dtype in dict.fromkeys(one.dtype for one in like):
        places = [n for n, one in enumerate(like) if one.dtype == dtype]

        def sums(*all: Tensor, places: list[int] = places) -> Tensor:
            grads = function(*all)
            return flat([grads[n] for n in places])

        traced = Traced(sums, types, "a gradient")
        operands = (*xs, *rest, *map(tensor_of, traced.captured))
        whole = apply(OPS["map_sum"], operands, {"body": traced.body, "elems": len(xs)})
        for n, one in zip(places, parted(whole, [like[n] for n in places]), strict=True):
            result[n] = one
    return result


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Several tensors as one vector; one alone as it is."""
    return tensors[0] if len(tensors) == 1 else concat([reshape(one, (-1,)) for one in tensors])


def parted(whole: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that `flat` put together, in the shapes of `like`."""
    if len(like) == 1:
        return [whole]
    found, start = [], 0
    for one in like:
        stop = start + one.size  # type: ignore[operator]
        found.append(reshape(whole[start:stop], one.shape))
        start = stop
    return found


# map


def map_gradient(g: Any, out: Any, *operands: Tensor, body: Body, elems: int, live: Sequence[bool]) -> Any:
    """map_fn of the gradients by the elements, map_sum of those by the rest."""
    given = _tuple(g, body)
    outputs = _used(given, body.gives)
    return _by_elements(operands, body, elems, live, outputs, [given[one] for one in outputs], True)


def sum_gradient(g: Any, out: Any, *operands: Tensor, body: Body, elems: int, live: Sequence[bool]) -> Any:
    """As `map_gradient`, with the same gradient for every element."""
    given = _tuple(g, body)
    outputs = _used(given, body.gives)
    return _by_elements(operands, body, elems, live, outputs, [given[one] for one in outputs], False)


def _by_elements(
    operands: Sequence[Tensor],
    body: Body,
    elems: int,
    live: Sequence[bool],
    outputs: Sequence[int],
    weights: Sequence[Tensor],
    own: bool,
) -> Any:
    """Gradients by elements and by the rest; each element has weights of its `own`, or all have the same."""
    xs, rest = [*operands[:elems]], [*operands[elems:]]
    wanted = [n for n in floats(operands) if live[n]] if outputs else []
    of_x, of_rest = [n for n in wanted if n < elems], [n for n in wanted if n >= elems]
    moving, fixed = ([*xs, *weights], rest) if own else (xs, [*rest, *weights])

    def gradients(by: Sequence[int]) -> Callable[..., list[Tensor]]:
        def inner(*all: Tensor) -> list[Tensor]:
            if own:
                taken, factors = [*all[:elems], *all[len(moving) :]], all[elems : len(moving)]
            else:
                taken, factors = list(all[: len(operands)]), all[len(operands) :]
            return pullback(body, taken, outputs, factors, by)

        return inner

    found: dict[int, Any] = {}
    if of_x:
        types = [_element(one) for one in moving] + [one.type for one in fixed]
        traced = Traced(gradients(of_x), types, "a gradient")
        made = map_call(traced, moving, fixed)
        found |= dict(zip(of_x, made, strict=True))
    if of_rest:
        summed = added(gradients(of_rest), moving, fixed, [operands[n] for n in of_rest])
        found |= dict(zip(of_rest, summed, strict=True))
    return tuple(found.get(n) for n in range(len(operands)))


def map_call(traced: Traced, xs: Sequence[Tensor], rest: Sequence[Tensor] = ()) -> list[Tensor]:
    """The results of a traced body for each element of `xs`."""
    operands = (*xs, *rest, *map(tensor_of, traced.captured))
    return results_of(apply(OPS["map_fn"], operands, {"body": traced.body, "elems": len(xs)}))
