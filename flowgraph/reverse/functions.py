"""Derivatives of functions: grad, vjp, jvp, hvp, and forward accumulation, all by the reverse pass.

A pullback is linear in its cotangent, so its own reverse pass is the derivative forward: jvp costs no other rules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from flowgraph import tree
from flowgraph.apply import convert, own
from flowgraph.errors import GradientError, ShapeError, UsageError
from flowgraph.graph import make_input
from flowgraph.leaves import as_array
from flowgraph.ops.differentiate import identity, zeros_of
from flowgraph.reverse.tape import GradientTape
from flowgraph.reverse.vectorize import jacobian_rows
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import is_float, tensor_type

Argnums = int | str | tuple[int | str, ...]


def value_and_grad(function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns `(function(...), its gradient)` with respect to the arguments at `argnums`.

    `argnums` are places or names of arguments. These may be nested structures of numbers, arrays, tensors and
    variables; the gradient has their structure. The function must return a scalar, or with `has_aux` a scalar and
    anything else, which comes back untouched: `((value, aux), gradient)`.

    >>> import flowgraph as fg
    >>> value, slope = fg.value_and_grad(lambda x: x * x)(3.0)
    >>> float(value), float(slope)
    (9.0, 6.0)
    """

    def both(*args: Any, **kwargs: Any) -> Any:
        chosen = _Chosen(function, argnums, args, kwargs)
        tape = GradientTape(watch_accessed_variables=False)
        with tape:
            tape.watch(chosen.tensors)
            result = chosen.call(chosen.tensors)
        value, aux = _split(result, has_aux)
        if isinstance(value, list | tuple | dict | None) or getattr(value, "shape", ()) != ():
            found = f"a tensor of shape {value.shape}" if hasattr(value, "shape") else f"a {type(value).__name__}"
            raise GradientError(
                "value_and_grad of a function",
                f"it returned {'nothing' if value is None else found}, not a scalar",
                "Return one number, for instance a mean or a sum.",
            )
        grads = chosen.unpacked(tape.gradient(value, chosen.tensors, unconnected_gradients="zero"))
        return ((value, aux) if has_aux else value), grads

    both.__name__ = f"value_and_grad_{getattr(function, '__name__', 'function')}"
    return both


def grad(function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of `function` with respect to the arguments at `argnums`; it can be nested.

    With `has_aux` the function returns a scalar and anything else, and this one `(gradient, aux)`.

    >>> import flowgraph as fg
    >>> float(fg.grad(fg.grad(lambda x: x * x * x))(2.0))
    12.0
    """
    both = value_and_grad(function, argnums, has_aux)

    def gradient_of(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return gradient_of


class _Chosen:
    """The arguments of a call by which it is differentiated, as tensors of their own."""

    def __init__(self, function: Callable[..., Any], argnums: Argnums, args: Any, kwargs: Any) -> None:
        self.function, self.args, self.kwargs = function, list(args), dict(kwargs)
        self.alone = not isinstance(argnums, tuple | list)
        wanted = (argnums,) if isinstance(argnums, int | str) else tuple(argnums)
        self.places = [_place(function, one, args, kwargs) for one in wanted]
        self.tensors = tuple(
            tree.map_structure(float_tensor, self.args[one] if isinstance(one, int) else self.kwargs[one])
            for one in self.places
        )

    def call(self, tensors: Any) -> Any:
        """The function with `tensors` in the places of the chosen arguments."""
        args, kwargs = list(self.args), dict(self.kwargs)
        for place, one in zip(self.places, tensors, strict=True):
            if isinstance(place, int):
                args[place] = one
            else:
                kwargs[place] = one
        return self.function(*args, **kwargs)

    def unpacked(self, results: Any) -> Any:
        """What belongs to each chosen argument; alone where one was asked for alone."""
        return results[0] if self.alone else tuple(results)


def _place(function: Callable[..., Any], wanted: int | str, args: Any, kwargs: Any) -> int | str:
    """Where a call has an argument that is asked for by place or by name."""
    if isinstance(wanted, str) and wanted not in kwargs:
        try:
            names = list(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            names = []
        if wanted not in names[: len(args)]:
            raise UsageError(
                f"a gradient by argument {wanted!r} of a function",
                f"it was not given an argument of that name; its parameters are {', '.join(names)}",
                "Name an argument that the call gives.",
            )
        return names.index(wanted)
    if isinstance(wanted, int) and not 0 <= wanted < len(args):
        raise UsageError(
            f"a gradient by argument {wanted} of a function",
            f"it was called with {len(args)} positional arguments",
            "Count from 0, and give these arguments by position, or ask for them by name.",
        )
    return wanted


def _split(result: Any, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise UsageError(
            "a gradient with has_aux=True", "the function did not return a pair", "Return (value, anything else)."
        )
    return result[0], result[1]


def float_tensor(value: Any) -> Tensor:
    """`value` as a tensor of floats that nothing else depends on, so that only its own share is differentiated."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
        return tensor_of(make_input(tensor_type(value.shape, value.dtype), "parameter", value=as_array(value)))
    given = own(value)
    given = given if is_float(given.dtype) else given.astype(np.float32)
    return identity(given) if given is value or not isinstance(value, int | float | complex) else given


def vjp(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`(function(*primals), pullback)`: the pullback takes a cotangent for the result (in its structure).

    It returns a tuple with the product of the cotangent and the Jacobian by each primal, in the primal's structure. It
    can be called any number of times. With `has_aux` the function returns (result, aux), and this `(result, pullback,
    aux)`.

    >>> import flowgraph as fg
    >>> out, pullback = fg.vjp(lambda x, y: x * y, 3.0, 4.0)
    >>> float(out), [float(one) for one in pullback(1.0)]
    (12.0, [4.0, 3.0])
    """
    tensors = tree.map_structure(float_tensor, tuple(primals))
    tape = GradientTape(persistent=True, watch_accessed_variables=False)
    with tape:
        tape.watch(tensors)
        result = function(*tensors)
    out, aux = _split(result, has_aux)
    floats = _floats(out, "vjp")

    def pullback(cotangent: Any) -> Any:
        weights = [
            _fitting(one, like, "a pullback", "cotangent")
            for one, like in zip(tree.flatten(cotangent), floats, strict=True)
        ]
        return tape.gradient(floats, tensors, output_gradients=weights, unconnected_gradients="zero")

    def checked(cotangent: Any) -> Any:
        if len(tree.flatten(cotangent)) != len(floats):
            raise UsageError(
                f"a pullback of {len(tree.flatten(cotangent))} cotangents",
                f"the function has {len(floats)} results",
                "Give one cotangent for each result, in the structure of the result.",
            )
        return pullback(cotangent)

    return (out, checked, aux) if has_aux else (out, checked)


def _floats(out: Any, what: str) -> list[Tensor]:
    results = [convert(one) for one in tree.flatten(out)]
    for one in results:
        if not is_float(one.dtype):
            raise GradientError(
                f"{what} of a function that returns {one.type}", "only floats have derivatives", "Use has_aux for it."
            )
    return results


def _fitting(value: Any, like: Tensor, what: str, word: str) -> Tensor:
    given = convert(value, like.dtype if isinstance(value, int | float) else None)
    if given.shape != like.shape:
        raise ShapeError(
            f"{what} with a {word} of shape {given.shape}",
            f"it belongs to a tensor of shape {like.shape}",
            f"Give a {word} of that shape.",
        )
    return given if given.dtype == like.dtype else given.astype(like.dtype)


def jvp(function: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """`(function(*primals), tangent)`: the derivative of the result in the direction of `tangents`.

    Both are tuples with one entry for each argument. The cost is a small multiple of the function's, whatever the
    number of arguments and results.

    >>> import flowgraph as fg
    >>> out, tangent = fg.jvp(lambda x: x * x, (3.0,), (2.0,))
    >>> float(out), float(tangent)
    (9.0, 12.0)
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list) or len(primals) != len(tangents):
        raise UsageError(
            "jvp", "primals and tangents are not two tuples of one length", "Give (x, y), and a tangent for each."
        )
    tensors = tree.map_structure(float_tensor, tuple(primals))
    tape = GradientTape(persistent=True, watch_accessed_variables=False)
    with tape:
        tape.watch(tensors)
        result = function(*tensors)
    out, aux = _split(result, has_aux)
    found = iter(_pushed(tape, tree.flatten(tensors), tree.flatten(tuple(tangents)), _floats(out, "jvp")))
    tangent = tree.map_structure(lambda one: next(found), out)
    return (out, tangent, aux) if has_aux else (out, tangent)


def _pushed(tape: GradientTape, primals: list[Tensor], tangents: list[Any], outs: list[Tensor]) -> list[Tensor]:
    """The derivatives of `outs` in the direction of `tangents`: the reverse pass of the pullback, which is linear."""
    if len(primals) != len(tangents):
        raise UsageError(
            f"{len(tangents)} tangents", f"there are {len(primals)} primals", "Give a tangent for each primal."
        )
    along = [_fitting(one, x, "jvp", "tangent") for one, x in zip(tangents, primals, strict=True)]
    cotangents = [identity(zeros_of(one)) for one in outs]
    again = GradientTape(watch_accessed_variables=False)
    with again:
        again.watch(cotangents)
        grads = tape.gradient(outs, primals, output_gradients=cotangents, unconnected_gradients="zero")
    return again.gradient(grads, cotangents, output_gradients=along, unconnected_gradients="zero")  # type: ignore[no-any-return]


def hvp(function: Callable[..., Any], x: Any, v: Any) -> Any:
    """The product of the Hessian of `function` (a scalar) at `x` with `v`, both of one structure.

    The Hessian is never formed: the cost is a small multiple of that of the function.

    >>> import flowgraph as fg
    >>> fg.hvp(lambda x: fg.sum(x * x * x), fg.constant([1.0, 2.0]), fg.constant([1.0, 0.0])).tolist()
    [6.0, 0.0]
    """
    _, pullback = vjp(grad(function), x)
    return pullback(v)[0]  # the Hessian is symmetric


def jacobian(function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the Jacobian of `function` with respect to the arguments at `argnums`.

    For each tensor of the result it has the structure of the argument, and tensors whose shape is that of the result
    followed by that of the argument. With `has_aux` the function returns (result, aux), and this one (Jacobian, aux).

    >>> import flowgraph as fg
    >>> fg.jacobian(lambda x: x * x)(fg.constant([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """

    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        chosen = _Chosen(function, argnums, args, kwargs)
        tape = GradientTape(persistent=True, watch_accessed_variables=False)
        with tape:
            tape.watch(chosen.tensors)
            result = chosen.call(chosen.tensors)
        out, aux = _split(result, has_aux)
        _floats(out, "a Jacobian")

        def of(y: Any) -> Any:
            rows = jacobian_rows(
                lambda unit: tape.gradient(y, chosen.tensors, unit, unconnected_gradients="zero"), convert(y)
            )
            return chosen.unpacked(rows)

        found = tree.map_structure(of, out)
        return (found, aux) if has_aux else found

    return jacobian_of


def hessian(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that returns the second derivatives of `function`, which returns a scalar.

    >>> import flowgraph as fg
    >>> fg.hessian(lambda x: fg.sum(x * x * x))(fg.constant([1.0, 2.0])).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """
    return jacobian(grad(function, argnums), argnums)


class ForwardAccumulator:
    """A context in which derivatives in one direction are computed alongside, as in TensorFlow.

    `tangents` gives the direction: a value for each of `primals`, in their structure.

    >>> import flowgraph as fg
    >>> x = fg.constant(3.0)
    >>> with fg.ForwardAccumulator(x, fg.constant(1.0)) as acc:
    ...     y = x * x
    >>> float(acc.jvp(y))
    6.0
    """

    def __init__(self, primals: Any, tangents: Any) -> None:
        self._primals = tree.flatten(primals)
        self._tangents = tree.flatten(tangents)
        self._tape = GradientTape(persistent=True, watch_accessed_variables=False)
        if len(self._primals) != len(self._tangents):
            raise UsageError(
                f"{len(self._tangents)} tangents for {len(self._primals)} primals",
                "their numbers differ",
                "Give a tangent for each primal.",
            )

    def __enter__(self) -> ForwardAccumulator:
        self._tape.__enter__()
        self._tape.watch(self._primals)
        self._tensors = [convert(one) for one in self._primals]
        return self

    def __exit__(self, *error: object) -> None:
        self._tape.__exit__(*error)

    def jvp(self, target: Any) -> Any:
        """The derivative of `target`, computed in the context, in the direction: zeros where it is not connected."""
        outs = _floats(target, "jvp")
        found = iter(_pushed(self._tape, self._tensors, self._tangents, outs))
        return tree.map_structure(lambda one: next(found), target)
