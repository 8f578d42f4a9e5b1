"""Branches and loops: Python at once where the condition is known, and operations of the graph where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flowgraph import tree
from flowgraph.apply import apply, convert
from flowgraph.context import ACTIVE
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.ops.body import Traced, check_states, joined
from flowgraph.ops.control import cond_op, while_op
from flowgraph.ops.control_gradients import map_call, results_of, scan_call
from flowgraph.ops.shape import concat, expand_dims
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import Dim, check_function, tensor_type, whole

__all__ = [
    "cond",
    "foldl",
    "map_fn",
    "scan",
    "while_loop",
]


def cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any) -> Any:
    """What `true_fn(*operands)` returns where the scalar `pred` is true, else what `false_fn(*operands)` returns.

    Where the value of `pred` is known Python runs the one function. While a `function` is traced both become part of
    the program, which runs one of them; they must return tensors of the same structure, shapes and dtypes.

    >>> import flowgraph as fg
    >>> f = fg.function(lambda x: fg.cond(fg.sum(x) > 0, lambda: x, lambda: -x))
    >>> f(fg.constant([1.0, -3.0])).tolist()
    [-1.0, 3.0]
    """
    for branch in (true_fn, false_fn):
        if not callable(branch):
            raise UsageError("cond", f"a branch is {branch!r}, no function", "Give functions: lambda: x.")
    test = convert(pred)
    if test.shape != () or test.dtype.kind != "b":
        raise DTypeError(
            f"cond of {test.type}", "the condition is no single boolean", "Reduce it first: fg.max(x) > 0."
        )
    if not test.node.symbolic:
        return true_fn(*operands) if bool(test) else false_fn(*operands)
    given: list[Any] = []

    def traced(function: Callable[..., Any]) -> Traced:
        def run() -> Any:
            given.append(function(*operands))
            return _like(given[-1], given[0])

        return Traced(run, [], "a branch of cond", hoist=False)

    one, other = traced(true_fn), traced(false_fn)
    if one.form != other.form:
        raise UsageError(
            "cond of two branches",
            f"one returns {_shown(one)}, the other {_shown(other)}",
            "Let both return the same structure of tensors.",
        )
    (true, false), captured = joined([one, other], 0)
    if not one.body.graph.outputs:
        return one.rebuilt([])
    made = apply(cond_op, (test, *map(tensor_of, captured)), {"true": true, "false": false})
    return one.rebuilt(results_of(made))


def _shown(traced: Traced) -> str:
    types = iter(traced.body.gives)
    return str(tree.map_structure(lambda one: next(types) if one else None, traced.structure))


def while_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, maximum_iterations: int | None = None
) -> Any:
    """`loop_vars` after `body(*loop_vars)` replaced them as long as `cond(*loop_vars)` was true.

    `loop_vars` is a list or tuple of tensors or structures of them; a single tensor is taken for the one variable.
    Where values are known Python runs the loop. While a `function` is traced it becomes one operation. Its gradient
    runs the loop again and keeps the states of every turn; with `maximum_iterations` it is a scan over so many.

    >>> import flowgraph as fg
    >>> half = fg.function(lambda x: fg.while_loop(lambda x: x > 1.0, lambda x: x / 2, x))
    >>> float(half(fg.constant(20.0)))
    0.625
    """
    if maximum_iterations is not None:
        maximum_iterations = whole(maximum_iterations, "maximum_iterations", 0)
    check_function(cond, "the condition of while_loop")
    check_function(body, "the body of while_loop")
    alone = not isinstance(loop_vars, list | tuple)
    state: Any = (loop_vars,) if alone else loop_vars

    def turn(current: Any) -> Any:
        given = body(*current)
        new = (given,) if alone or (len(current) == 1 and not isinstance(given, list | tuple)) else given
        _same_structure("a while_loop", new, state)
        return _like(new, state)

    state = tree.map_structure(convert, state)
    leaves = tree.flatten(state)
    symbolic = bool(ACTIVE.traces) or any(one.node.symbolic for one in leaves)
    if symbolic or convert(cond(*state)).node.symbolic:
        result = _while_in_graph(cond, turn, state, leaves, maximum_iterations)
    else:
        result = _while_here(cond, turn, state, maximum_iterations)
    return result[0] if alone else result


def _while_here(cond: Callable[..., Any], turn: Callable[[Any], Any], state: Any, limit: int | None) -> Any:
    turns = 0
    types = [one.type for one in tree.flatten(state)]
    while (limit is None or turns < limit) and bool(_single(cond(*state))):
        state = tree.map_structure(convert, turn(state))
        check_states("a while_loop", [one.node for one in tree.flatten(state)], tuple(types))
        turns += 1
    return state


def _single(value: Any) -> Tensor:
    test = convert(value)
    if test.shape != () or test.dtype.kind != "b":
        raise DTypeError(
            "a while_loop", f"its condition gives {test.type}, not one boolean", "Reduce it: fg.max(x) > 0."
        )
    return test


def _while_in_graph(
    cond: Callable[..., Any], turn: Callable[[Any], Any], state: Any, leaves: list[Tensor], limit: int | None
) -> Any:
    types = [one.type for one in leaves]
    test = Traced(lambda *all: _single(cond(*tree.unflatten(state, list(all)))), types, "the condition of a while_loop")
    step = Traced(lambda *all: turn(tree.unflatten(state, list(all))), types, "the body of a while_loop")
    step.refuse_draws()
    (one, other), captured = joined([test, step], len(types))
    attrs = {"test": one, "body": other, "states": len(types), "limit": limit}
    made = apply(while_op, (*leaves, *map(tensor_of, captured)), attrs)
    return tree.unflatten(state, results_of(made))


def _form(structure: Any) -> Any:
    """The form of a structure, in which a list is a tuple and the keys of a dict have no order.

    A body may return either, as in TensorFlow. None is told from a tensor.
    """
    if isinstance(structure, Mapping):
        return (dict, frozenset((key, _form(one)) for key, one in structure.items()))
    if isinstance(structure, list | tuple):
        named = type(structure) if hasattr(structure, "_fields") else tuple
        return (named, *[_form(one) for one in structure])
    return structure is not None


def _in_order(new: Any, old: Any) -> list[Any]:
    """The leaves of `new` in the order in which `old`, of the same form, has its own."""
    if isinstance(old, Mapping):
        return [leaf for key, one in old.items() for leaf in _in_order(new[key], one)]
    if isinstance(old, list | tuple):
        return [leaf for one, other in zip(new, old, strict=True) for leaf in _in_order(one, other)]
    return [new]


def _like(new: Any, old: Any) -> Any:
    """`new` in the structure of `old` where their forms agree, and else as it is."""
    return tree.unflatten(old, _in_order(new, old)) if _form(new) == _form(old) else new


def _same_structure(what: str, new: Any, old: Any) -> None:
    if _form(new) != _form(old):
        raise UsageError(
            f"{what} over {tree.map_structure(lambda one: '.', old)}",
            f"its body returns {tree.map_structure(lambda one: '.', new)}",
            "Let the body return the structure that it takes.",
        )


def scan(
    fn: Callable[..., Any], elems: Any, initializer: Any = None, reverse: bool = False, outputs: bool = False
) -> Any:
    """The states that `fn(state, element)` returns for one element of `elems` after the other, stacked.

    `elems` is a tensor or a structure of them, taken apart along the first axis; the first element is the first state
    where there is no `initializer`. With `outputs`, `fn` returns (state, output), and the result is (last state,
    stacked outputs). With `reverse` elements are taken from the last to the first. It is one operation, whose body may
    use tensors and variables from outside; its gradient stores the states.

    >>> import flowgraph as fg
    >>> fg.scan(lambda total, x: total + x, fg.constant([1.0, 2.0, 3.0]), 0.0).tolist()
    [1.0, 3.0, 6.0]
    >>> last, ys = fg.scan(lambda h, x: (h + x, h * x), fg.constant([1.0, 2.0, 3.0]), 0.0, outputs=True)
    >>> float(last), ys.tolist()
    (6.0, [0.0, 2.0, 9.0])
    """
    xs, _ = _elements("a scan", elems)
    if initializer is None and not outputs:
        return _scan_from_first(fn, elems, xs, reverse)
    if initializer is None:
        raise UsageError("a scan with outputs=True", "it has no initializer", "Give the first state.")
    state = tree.map_structure(convert, initializer)
    last, ys = _scanned(fn, elems, xs, state, reverse, outputs)
    return (last, ys) if outputs else ys


def _scanned(fn: Callable[..., Any], elems: Any, xs: list[Tensor], state: Any, reverse: bool, outputs: bool) -> Any:
    """(last state, stacked outputs, or states where there are none)."""
    check_function(fn, "the function of a scan")
    init = tree.flatten(state)
    states = len(init)
    form: list[Any] = []

    def turn(*all: Tensor) -> Any:
        given = fn(tree.unflatten(state, list(all[:states])), tree.unflatten(elems, list(all[states:-1])))
        if outputs and (not isinstance(given, tuple | list) or len(given) != 2):
            raise UsageError(
                "a scan with outputs=True", "its function did not return a pair", "Return (state, output)."
            )
        new, output = given if outputs else (given, given)
        _same_structure("a scan", new, state)
        new = _like(new, state)
        form.append(output if outputs else new)
        return [*tree.flatten(new), *tree.flatten(form[0])]

    types = [one.type for one in init] + [_element(one) for one in xs] + [_INDEX]
    traced = Traced(turn, types, "the body of a scan")
    operands, count = _with_index(traced, xs, states)
    check_states("a scan", traced.body.graph.outputs[:states], tuple(one.type for one in init))
    last, ys, _ = scan_call(traced.body, init, operands, [tensor_of(n) for n in traced.captured], count, reverse)
    return tree.unflatten(state, last), tree.unflatten(form[0], ys)


def _scan_from_first(fn: Callable[..., Any], elems: Any, xs: list[Tensor], reverse: bool) -> Any:
    if not xs or xs[0].shape[0] == 0:
        raise ShapeError("a scan over no elements", "there is no first state", "Give an initializer.")
    first = -1 if reverse else 0
    rest = [one[:-1] if reverse else one[1:] for one in xs]
    state = tree.unflatten(elems, [one[first] for one in xs])
    _, ys = _scanned(fn, elems, rest, state, reverse, False)
    parts = [(expand_dims(a, 0), b) for a, b in zip(tree.flatten(state), tree.flatten(ys), strict=True)]
    return tree.unflatten(state, [concat([b, a] if reverse else [a, b]) for a, b in parts])


_INDEX = tensor_type((), np.int64)


def _with_index(traced: Traced, xs: list[Tensor], states: int) -> tuple[list[Tensor], Any]:
    """The elements, with the number of each where the body draws random numbers, which are new for every element."""
    count = xs[0].shape[0]
    if not traced.vary_draws(states + len(xs)):
        return xs, count
    if isinstance(count, Dim):
        raise UsageError("random draws in a loop", "its number of turns is not known", "Give a length as a number.")
    return [*xs, convert(np.arange(count))], count


def _elements(what: str, elems: Any) -> tuple[list[Tensor], Any]:
    xs = [convert(one) for one in tree.flatten(elems)]
    if not xs:
        raise UsageError(f"{what} over nothing", "there is no tensor in it", "Give a tensor, or a structure of them.")
    if any(not one.ndim for one in xs):
        raise ShapeError(f"{what} over {xs[0].type}", "a scalar has no elements", "Give a tensor with axes.")
    if any(one.shape[0] != xs[0].shape[0] for one in xs):
        raise ShapeError(
            f"{what} over {', '.join(str(one.type) for one in xs)}",
            "their first axes differ in length",
            "Give tensors with equally many elements.",
        )
    return xs, xs[0].shape[0]


def _element(x: Tensor) -> Any:
    return tensor_type(x.shape[1:], x.dtype)


def map_fn(fn: Callable[[Any], Any], elems: Any) -> Any:
    """What `fn(element)` returns for each element of `elems` along the first axis, stacked.

    It is one operation that loops; where the function's operations take one more axis, `vmap` is faster.

    >>> import flowgraph as fg
    >>> fg.map_fn(lambda x: x * x, fg.constant([1.0, 2.0, 3.0])).tolist()
    [1.0, 4.0, 9.0]
    """
    check_function(fn, "the function of map_fn")
    xs, _ = _elements("map_fn", elems)
    types = [_element(one) for one in xs] + [_INDEX]
    traced = Traced(lambda *all: fn(tree.unflatten(elems, list(all[:-1]))), types, "the function of map_fn")
    operands, _ = _with_index(traced, xs, 0)
    return traced.rebuilt(map_call(traced, operands) if traced.body.graph.outputs else [])


def foldl(fn: Callable[..., Any], elems: Any, initializer: Any = None) -> Any:
    """The last state that `fn(state, element)` returns, over the elements of `elems` from the first to the last.

    >>> import flowgraph as fg
    >>> float(fg.foldl(lambda total, x: total * 2 + x, fg.constant([1.0, 0.0, 1.0])))
    5.0
    """
    xs, _ = _elements("a fold", elems)
    if initializer is not None:
        return _scanned(fn, elems, xs, tree.map_structure(convert, initializer), False, False)[0]
    if xs[0].shape[0] == 0:
        raise ShapeError("a fold over no elements", "there is no first state", "Give an initializer.")
    state = tree.unflatten(elems, [one[0] for one in xs])
    return _scanned(fn, elems, [one[1:] for one in xs], state, False, False)[0]
