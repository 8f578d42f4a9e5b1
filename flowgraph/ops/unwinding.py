"""The gradient of a while_loop that has no bound: operations that run the loop again and go back through its turns.

How many turns there are is known to nobody before they are taken, so the states can not be a tensor of the graph. They
are a list inside one operation, which goes through it from the end. There are two such operations:

while_back      the gradients of the first states
while_back_sum  those of what the body takes from outside, added up over the turns

Their own gradients need no further operations. With T(x, v), the derivative of the last states along v, the first is
B(x, w) with <v, B(x, w)> = <w, T(x, v)>: its derivative by w is T, by x that of T weighted by w. And T is what a
while_loop over states and tangents gives, whose gradient is known. So there are derivatives of any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from flowgraph.apply import apply
from flowgraph.context import Hooks
from flowgraph.op import Op, define
from flowgraph.ops.axes import Axes
from flowgraph.ops.body import Body, Traced, joined
from flowgraph.ops.control import alone, described, dtypes_given, while_op
from flowgraph.ops.control_gradients import flat, floats, parted, pullback, results_of
from flowgraph.ops.differentiate import identity, zeros_of
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import tensor_type

# Operands: the first states, the gradients of the last states (of those that are floats), what the bodies take besides.
# All bodies take all operands.


def _back_attrs(
    *types: Any,
    test: Body,
    body: Body,
    back: Body,
    states: int,
    weights: int,
    reads: Any = None,
    shapes: Any = None,
    dtypes: Any = None,
) -> dict[str, Any]:
    bodies = {"test": test.retyped(types), "body": body.retyped(types), "back": back.retyped(types)}
    own = {"states": states, "weights": weights, "reads": _read([back], states)}
    return bodies | own | described(bodies["back"].gives)


def _sum_attrs(*types: Any, share: Body, of: Any, reads: Any = None, **attrs: Any) -> dict[str, Any]:
    share, own = share.retyped(types), _back_attrs(*types, **attrs)
    reads = _read([own["back"], share], own["states"])
    return own | {"share": share, "of": tuple(of), "reads": reads} | described(share.gives)


def _read(bodies: Sequence[Body], states: int) -> tuple[int, ...]:
    """The states that some body reads: no others need to be kept."""
    return tuple([n for n in range(states) if any(one.graph.inputs[n] in one.graph.nodes() for one in bodies)])


def _text(axes: Axes, attrs: Any, results: str) -> str:
    """The factor string of all operands and the results of one body, after the axes of all bodies were tied."""
    bodies = [attrs[name].graph for name in ("test", "body", "back", "share") if name in attrs]
    test, body, back = bodies[:3]
    states = attrs["states"]
    for other in bodies[1:]:
        for one, two in zip(test.inputs, other.inputs, strict=True):
            axes.tie(one, two)
    starts = [*test.inputs[:states], *test.inputs[states : states + attrs["weights"]]]
    for one, two in zip(starts, [*body.outputs, *back.outputs], strict=True):
        axes.tie(one, two)
    return f"{', '.join(map(axes.text, test.inputs))} -> {', '.join(map(axes.text, attrs[results].graph.outputs))}"


def _back_factors(types: Any, attrs: Any) -> str:
    return _text(Axes(attrs["test"], attrs["body"], attrs["back"]), attrs, "back")


def _sum_factors(types: Any, attrs: Any) -> str:
    share = attrs["share"]
    return _text(Axes(attrs["test"], attrs["body"], attrs["back"], share, sums=share), attrs, "share")


def _turns(operands: Sequence[Any], test: Any, body: Any, states: int, reads: Sequence[int]) -> Iterator[Any]:
    """The states before each turn, from the last turn to the first. Those that nobody reads are the first states."""
    start, rest = operands[:states], operands[states:]
    state, before = start, []
    while test(*state, *rest)[0]:
        before.append([state[n] if n in reads else start[n] for n in range(states)])
        state = body(*state, *rest)
    while before:
        yield before.pop()


def unwind(*operands: Any, test: Any, body: Any, back: Any, states: int, weights: int, reads: Any) -> Any:
    """The gradients of the first states."""
    count = states + weights
    factors, rest = operands[states:count], operands[count:]
    for state in _turns(operands, test, body, states, reads):
        factors = back(*state, *factors, *rest)
    return alone([np.asarray(one) for one in factors])


def unwind_sum(
    *operands: Any,
    test: Any,
    body: Any,
    back: Any,
    share: Any,
    states: int,
    weights: int,
    reads: Any,
    result_shapes: Any,
    dtypes: Any,
) -> Any:
    """The sum over the turns of the gradients by what the body takes from outside."""
    count = states + weights
    factors, rest = operands[states:count], operands[count:]
    total = np.zeros(result_shapes[0], dtypes[0])
    for state in _turns(operands, test, body, states, reads):
        np.add(total, share(*state, *factors, *rest)[0], total)
        factors = back(*state, *factors, *rest)
    return total


# Their gradients.


def _back_gradient(
    g: Any, out: Any, *operands: Tensor, test: Body, body: Body, states: int, weights: int, live: Sequence[bool]
) -> Any:
    along = dict(zip(floats(operands[:states]), g if weights > 1 else [g], strict=True))
    return _bent(operands, along, test, body, states, weights, live)


def _sum_gradient(
    g: Any,
    out: Any,
    *operands: Tensor,
    test: Body,
    body: Body,
    states: int,
    weights: int,
    of: Sequence[int],
    live: Sequence[bool],
) -> Any:
    along = dict(zip(of, parted(g, [operands[one] for one in of]), strict=True))
    return _bent(operands, along, test, body, states, weights, live)


def _bent(
    operands: Sequence[Tensor],
    along: dict[int, Tensor],
    test: Body,
    body: Body,
    states: int,
    weights: int,
    live: Sequence[bool],
) -> Any:
    """The gradients of <w, T> by all operands; T is the derivative of the loop in the directions `along`."""
    count, behind = len(operands), states + weights
    wanted = [n for n in floats(operands) if live[n] and not states <= n < behind]
    places, directions = list(along), list(along.values())

    def gradients(*all: Tensor) -> list[Tensor]:
        slopes = _slopes(all[:count], dict(zip(places, all[count:], strict=True)), test, body, states)
        by = [all[n] for n in wanted]
        found = Hooks.gradient(slopes, by, output_gradients=list(all[states:behind]), unconnected_gradients="zero")
        return [*slopes, *found]

    traced = Traced(gradients, [one.type for one in (*operands, *directions)], "a gradient")
    made = traced.body.splice([*operands, *directions, *map(tensor_of, traced.captured)])
    shares = dict(zip([*range(states, behind), *wanted], made, strict=True))
    return tuple(shares.get(n) for n in range(count))


def _slopes(operands: Sequence[Tensor], along: dict[int, Tensor], test: Body, body: Body, states: int) -> list[Tensor]:
    """The derivatives of the last states in the directions `along`: a loop that carries them beside the states."""
    carried, outside = floats(operands[:states]), [n for n in along if n >= states]
    start = [along[n] if n in along else zeros_of(operands[n]) for n in carried]
    everything = [*operands[:states], *start, *operands[states:], *[along[n] for n in outside]]
    types = [one.type for one in everything]
    behind = states + len(carried)

    def taken(all: Sequence[Tensor]) -> list[Tensor]:
        return [*all[:states], *all[behind : behind + len(operands) - states]]

    def turn(*all: Tensor) -> list[Tensor]:
        own, tangents = taken(all), [*all[states:behind], *all[len(types) - len(outside) :]]
        return [*body.splice(own), *_pushed(body, own, carried, [*carried, *outside], tangents)]

    bodies = [Traced(lambda *all: test.splice(taken(all)), types, "a gradient"), Traced(turn, types, "a gradient")]
    (one, other), captured = joined(bodies, len(types))
    attrs = {"test": one, "body": other, "states": behind, "limit": None}
    return results_of(apply(while_op, (*everything, *map(tensor_of, captured)), attrs))[states:]


def _pushed(
    body: Body, operands: Sequence[Tensor], outputs: Sequence[int], places: Sequence[int], tangents: Sequence[Tensor]
) -> list[Tensor]:
    """The derivatives of some results of `body`: the reverse pass of its pullback, which is linear."""
    weights = [identity(zeros_of(operands[one])) for one in outputs]  # a state has the type of its result
    grads = pullback(body, operands, outputs, weights, places)
    found: list[Tensor] = Hooks.gradient(grads, weights, output_gradients=list(tangents), unconnected_gradients="zero")
    return found


# For tests: a loop until a count is 3.


def _sample_turn(i: Any, x: Any, c: Any) -> Any:
    return i + 1, x * c + 0.5 * x * x


def _sample(sums: bool) -> Any:
    x, c, count = tensor_type((5, 4), np.float64), tensor_type((), np.float64), tensor_type((), np.int32)
    types = [count, x, x, c]
    loop = Traced(_sample_turn, [count, x, c], "a sample")

    def gradients(by: int) -> Any:
        return lambda i, x, g, c: pullback(loop.body, [i, x, c], [1], [g], [by])

    functions = {
        "test": lambda i, x, g, c: i < 3,
        "body": lambda i, x, g, c: _sample_turn(i, x, c),
        "back": gradients(1),
    } | ({"share": lambda i, x, g, c: [flat(gradients(2)(i, x, g, c))]} if sums else {})
    traced = [Traced(one, types, "a sample") for one in functions.values()]
    bodies, rest = joined(traced, len(types))
    attrs = dict(zip(functions, bodies, strict=True)) | {"states": 2, "weights": 1} | ({"of": (3,)} if sums else {})
    extra = [node.memo for node in rest]
    rows = [tensor_type((rows, 4), np.float64) for rows in (5, 3, 2)]  # calls of other names
    return [((np.asarray(start, np.int32), x, x, c, *extra), attrs) for x, start in zip(rows, (0, 2, 7), strict=True)]


while_back: Op = define(
    "while_back",
    _back_factors,
    unwind,
    attrs=_back_attrs,
    dtype=dtypes_given,
    gradient=_back_gradient,
    domain=(-1.0, 1.0),
    samples=lambda: _sample(False),
    doc="The gradients by the first states of a loop, from those by the last.",
)
while_back_sum: Op = define(
    "while_back_sum",
    _sum_factors,
    unwind_sum,
    attrs=_sum_attrs,
    dtype=dtypes_given,
    combine="add",
    gradient=_sum_gradient,
    domain=(-1.0, 1.0),
    samples=lambda: _sample(True),
    doc="The gradients by what a loop takes from outside, from those by its last states.",
)
