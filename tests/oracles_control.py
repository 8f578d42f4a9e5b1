"""What branches and loops mean: Python's own, around the plain meaning of their bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowgraph.graph import interpret
from flowgraph.types import tensor_type


def run(body: Any, *operands: Any) -> list[Any]:
    typed = [np.asarray(one, leaf.type.dtype) for one, leaf in zip(operands, body.graph.inputs, strict=True)]
    return interpret(body.retyped(tuple(tensor_type(one.shape, one.dtype) for one in typed)).graph, typed)


def alone(results: list[Any]) -> Any:
    return results[0] if len(results) == 1 else tuple(results)


def cond(pred: Any, *operands: Any, true: Any, false: Any) -> Any:
    return alone(run(true if pred else false, *operands))


def while_loop(*operands: Any, test: Any, body: Any, states: int, limit: Any, keep: Any = None) -> Any:
    state = list(operands[:states])
    for _ in range(limit):
        if run(test, *state, *operands[states:])[0]:
            state = run(body, *state, *operands[states:])
    return alone(state if keep is None else [state[one] for one in keep])


def scan(*operands: Any, body: Any, states: int, elems: int, reverse: bool = False, keep: Any = None) -> Any:
    state, xs, rest = list(operands[:states]), operands[states : states + elems], operands[states + elems :]
    rows = []
    for t in range(len(xs[0]))[:: -1 if reverse else 1]:
        results = run(body, *state, *[x[t] for x in xs], *rest)
        state = results[:states]
        rows.append(results[states:])
    shapes = [(0, *one.type.shape) for one in body.graph.outputs[states:]]
    stacks = [np.array(one[:: -1 if reverse else 1]) for one in zip(*rows, strict=True)] or [*map(np.empty, shapes)]
    results = [*state, *stacks]
    return alone(results if keep is None else [results[one] for one in keep])


def map_fn(*operands: Any, body: Any, elems: int) -> Any:
    rows = [run(body, *one, *operands[elems:]) for one in zip(*operands[:elems], strict=True)]
    if not rows:
        return alone([np.empty((0, *one.type.shape)) for one in body.graph.outputs])
    return alone([np.array(one) for one in zip(*rows, strict=True)])


def map_sum(*operands: Any, body: Any, elems: int) -> Any:
    rows = [run(body, *one, *operands[elems:]) for one in zip(*operands[:elems], strict=True)]
    if not rows:
        return alone([np.zeros(one.type.shape) for one in body.graph.outputs])
    return alone([np.sum(one, axis=0) for one in zip(*rows, strict=True)])


def while_back(*operands: Any, sums: bool = False, test: Any, body: Any, back: Any, states: int, **more: Any) -> Any:
    """By recursion: the gradients before a turn come from those after it."""
    state, weights = operands[:states], list(operands[states : states + more["weights"]])
    rest = operands[states + more["weights"] :]

    def before(state: Any) -> Any:
        everything = (*state, *weights, *rest)
        if not run(test, *everything)[0]:
            return weights, 0.0
        factors, total = before(run(body, *everything))
        share = run(more["share"], *state, *factors, *rest)[0] if sums else 0.0
        return run(back, *state, *factors, *rest), total + share

    found, total = before(state)
    return np.broadcast_to(total, more["share"].graph.outputs[0].type.shape) if sums else alone(found)


ORACLES: dict[str, Callable[..., Any]] = {
    "cond": cond,
    "while_loop": while_loop,
    "while_back": while_back,
    "while_back_sum": lambda *operands, **attrs: while_back(*operands, sums=True, **attrs),
    "scan": scan,
    "map_fn": map_fn,
    "map_sum": map_sum,
}

NOT_PUBLIC = {
    "map_sum": "the gradient of what a loop takes from outside",
    "while_back": "the gradient of a while_loop without a bound",
    "while_back_sum": "the gradient of what such a loop takes from outside",
}
