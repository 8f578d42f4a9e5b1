"""States and elements of loops in dicts, named tuples and nested lists: each comes back in the form it went in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import flowgraph as fg
from flowgraph.errors import UsageError


class Pair(NamedTuple):
    left: Any
    right: Any


def start(x: Any) -> Any:
    return {"p": Pair(x, [x * 2, (x,)]), "q": [x]}


def same_form(s: Any) -> Any:
    return {"p": Pair(s["p"].left + 1, [s["p"].right[0] * 2, (s["p"].right[1][0],)]), "q": [s["q"][0] * 3]}


def tuples_for_lists(s: Any) -> Any:
    return {"p": Pair(s["p"].left + 1, (s["p"].right[0] * 2, [s["p"].right[1][0]])), "q": (s["q"][0] * 3,)}


def other_order(s: Any) -> Any:
    new = tuples_for_lists(s)
    return {"q": new["q"], "p": new["p"]}


def values(structure: Any) -> Any:
    return fg.tree.map_structure(lambda one: one.tolist(), structure)


def wanted(left: Any, first: Any, second: Any, q: Any) -> Any:
    return {"p": Pair(left, [first, (second,)]), "q": [q]}


WRAPS = pytest.mark.parametrize("wrap", [lambda f: f, fg.function], ids=["eager", "function"])
STEPS = pytest.mark.parametrize("step", [same_form, tuples_for_lists, other_order])


@WRAPS
@STEPS
def test_states_keep_their_form(wrap: Any, step: Callable[[Any], Any]) -> None:
    x, elements = fg.constant(1.0), fg.constant([1.0, 2.0])
    found = wrap(lambda x: fg.while_loop(lambda s: s["p"].left < 3.0, step, start(x)))(x)
    assert values(found) == wanted(3.0, 8.0, 1.0, 9.0)
    assert list(found) == ["p", "q"]
    bounded = wrap(lambda x: fg.while_loop(lambda s: s["p"].left < 9.0, step, start(x), maximum_iterations=2))(x)
    assert values(bounded) == wanted(3.0, 8.0, 1.0, 9.0)
    last = wrap(lambda x: fg.foldl(lambda s, e: step(s), elements, start(x)))(x)
    assert values(last) == wanted(3.0, 8.0, 1.0, 9.0)
    states = wrap(lambda x: fg.scan(lambda s, e: step(s), elements, start(x)))(x)
    assert values(states) == wanted([2.0, 3.0], [4.0, 8.0], [1.0, 1.0], [3.0, 9.0])
    last, outputs = wrap(lambda x: fg.scan(lambda s, e: (step(s), {"e": [e]}), elements, start(x), outputs=True))(x)
    assert values(last) == wanted(3.0, 8.0, 1.0, 9.0)
    assert values(outputs) == {"e": [[1.0, 2.0]]}


@STEPS
def test_branches_may_differ_as_bodies_may(step: Callable[[Any], Any]) -> None:
    f = fg.function(lambda x: fg.cond(x > 0, lambda: start(x), lambda: step(start(x))))
    assert values(f(fg.constant(1.0))) == wanted(1.0, 2.0, 1.0, 1.0)
    assert values(f(fg.constant(-1.0))) == wanted(0.0, -4.0, -1.0, -3.0)


@STEPS
def test_gradients_find_their_states(step: Callable[[Any], Any]) -> None:
    def f(x: Any) -> Any:
        s = fg.while_loop(lambda s: s["p"].left < 3.0, step, start(x))
        return s["p"].right[0] + 100 * s["q"][0]

    assert float(fg.function(fg.grad(f))(fg.constant(1.0))) == 908.0


@WRAPS
def test_elements_and_what_map_fn_returns(wrap: Any) -> None:
    x = fg.constant([1.0, 2.0])
    f = wrap(lambda x: fg.map_fn(lambda e: Pair(e["a"], [e["b"][0], {"c": e["a"] * 2}]), {"a": x, "b": [x]}))
    assert values(f(x)) == Pair([1.0, 2.0], [[1.0, 2.0], {"c": [2.0, 4.0]}])


@pytest.mark.parametrize(
    "bad",
    [
        lambda s: {"p": s["p"]},
        lambda s: {**s, "r": s["q"]},
        lambda s: {"p": tuple(s["p"]), "q": s["q"]},
        lambda s: {"p": s["p"], "q": s["q"][0]},
        lambda s: {"p": s["p"], "q": [None]},
    ],
)
def test_other_forms_are_refused(bad: Callable[[Any], Any]) -> None:
    for wrap in (lambda f: f, fg.function):
        with pytest.raises(UsageError, match="Let the body return the structure"):
            wrap(lambda x: fg.while_loop(lambda s: s["p"].left < 3.0, bad, start(x)))(fg.constant(1.0))
    with pytest.raises(UsageError, match="the same structure of tensors"):
        fg.function(lambda x: fg.cond(x > 0, lambda: start(x), lambda: bad(start(x))))(fg.constant(1.0))
