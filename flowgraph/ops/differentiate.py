"""Operations that compute nothing and say how gradients pass: identity, stop_gradient, custom_gradient."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from flowgraph import tree
from flowgraph.apply import apply, convert
from flowgraph.context import ACTIVE, Hooks
from flowgraph.errors import GradientError, ShapeError
from flowgraph.graph import Node
from flowgraph.leaves import scalar
from flowgraph.op import Op, define
from flowgraph.ops.body import Body, Traced
from flowgraph.ops.shape import broadcast_like, factor_names
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import check_function, is_float, tensor_type

__all__ = [
    "checkpoint",
    "custom_gradient",
    "identity",
    "recompute_grad",
    "stop_gradient",
]

identity = define(
    "identity",
    "... -> ...",
    lambda x: x,
    dtype="keep",
    view=lambda types, attrs: "{0}",
    gradient=lambda g, out, x: (g,),
    flops=0,
    doc="x, as a tensor of its own.",
)
stop_gradient = define(
    "stop_gradient",
    "... -> ...",
    lambda x: x,
    dtype="keep",
    view=lambda types, attrs: "{0}",
    gradient=lambda g, out, x: (None,),
    flops=0,
    samples=lambda: [((tensor_type((5, 4), "int32"),), {}), ((tensor_type((), "uint8"),), {})],
    doc="x, through which no gradient passes.",
)


def _barrier_factors(types: Any, attrs: Any) -> str:
    """Both may be cut along their first axis where that has one length: else the second comes whole."""
    x, other = types
    names, others = factor_names(x.ndim), factor_names(other.ndim, "b")
    if x.ndim and other.ndim and x.shape[0] == other.shape[0] and x.shape[0] != 1:
        others = [names[0], *others[1:]]
    else:
        others = [f"[{name}]" for name in others]
    return f"{' '.join(names)}, {' '.join(others)} -> {' '.join(names)}"


barrier: Op = define(
    "barrier",
    _barrier_factors,
    lambda x, other: x,
    attrs=lambda x, other, /: {},
    dtype=lambda types, attrs: (tuple(one.dtype for one in types), types[0].dtype),
    view=lambda types, attrs: "{0}",
    gradient=lambda g, out, x, other: (g, None),
    flops=0,
    samples=lambda: [(((5, 4), (5, 3)), {}), (((4,), (3, 2)), {}), (((), (3,)), {})],
    doc="x, which is not looked at before the other operand is known.",
)


def _custom_attrs(*types: Any, rule: Body, results: int, of: int) -> dict[str, Any]:
    takes = tuple(types[results + of :]) + tuple(types[:results])
    return {"rule": rule.retyped(takes), "results": results, "of": of}


def _custom_factors(types: Any, attrs: Any) -> str:
    own = [factor_names(one.ndim, f"r{number}a") for number, one in enumerate(types)]
    operands = [("" if n < attrs["results"] else "~ ") + " ".join(names) for n, names in enumerate(own)]
    return f"{', '.join(operands)} -> {', '.join(' '.join(names) for names in own[: attrs['results']])}"


def _custom_dtype(types: Any, attrs: Any) -> Any:
    return tuple(one.dtype for one in types), tuple(one.dtype for one in types[: attrs["results"]])


def _custom_kernel(*values: Any) -> Any:
    return values if len(values) > 1 else values[0]


def _custom_rule(g: Any, out: Any, *operands: Tensor, rule: Body, results: int, of: int) -> Any:
    given = g if results > 1 else (g,)
    grads = rule.splice([*operands[results + of :], *given])
    rest = iter(grads)
    asked = operands[results : results + of]
    shares = [next(rest) if is_float(one.dtype) else None for one in asked]
    return (*[None] * results, *shares, *[None] * (len(operands) - results - of))


_COUNTS = tensor_type((4, 3), "int32")

custom_op = define(
    "custom_gradient",
    _custom_factors,
    _custom_kernel,
    attrs=_custom_attrs,
    dtype=_custom_dtype,
    gradient=_custom_rule,
    flops=0,
    samples=lambda: [((_COUNTS,), {"rule": Traced(lambda g: (), [_COUNTS], "a rule").body, "results": 1, "of": 0})],
    doc="The first operands, with a gradient rule that is a graph.",
)
"""Operands: the `results`, what they are differentiated by (`of` of them), and what the rule reads.

The rule takes what it reads and the gradients of the results.
"""


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with a gradient rule of its own: it returns (value, rule), as in TensorFlow.

    `rule(*upstream)` takes a gradient for each tensor of the value and returns one for each positional tensor argument,
    or None. Where the function reads trainable variables, the rule takes them as `variables=` and returns
    (gradients of the arguments, list of gradients of the variables). The rule is made of operations, so second
    derivatives follow.

    >>> import flowgraph as fg
    >>> @fg.custom_gradient
    ... def clipped(x):
    ...     return fg.identity(x), lambda g: fg.minimum(g, 1.0)
    >>> float(fg.grad(lambda x: clipped(x) * 5)(2.0))
    1.0
    """
    check_function(function, "custom_gradient")

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        tensors = [convert(one) for one in tree.flatten(args)]
        with Watching() as seen:
            value, rule = function(*tree.unflatten(args, list(tensors)), **kwargs)
        outputs = [convert(one) for one in tree.flatten(value)]
        variables = [one for one in seen.variables() if not any(one is given for given in tree.flatten(args))]
        leaves = [one.value() for one in variables]
        takes_variables = "variables" in inspect.signature(rule).parameters
        if variables and not takes_variables:
            raise GradientError(
                f"a custom gradient of {_name(function)}",
                f"it reads the variable {variables[0].name!r}, and its rule has no gradient for it",
                "Pass the variable as an argument, or let the rule take `variables=`.",
            )

        def gradients(*upstream: Tensor) -> list[Tensor]:
            if variables:
                grads, of_variables = rule(*upstream, variables=variables)
            else:
                grads, of_variables = rule(*upstream), []
            given = list(grads) if isinstance(grads, list | tuple) else [grads]
            return _checked([*given, *of_variables], [*tensors, *leaves], _name(function))

        return tree.unflatten(value, attach(outputs, [*tensors, *leaves], gradients, _name(function)))

    return wrapped


def attach(outputs: list[Tensor], sources: list[Tensor], rule: Callable[..., list[Tensor]], name: str) -> list[Tensor]:
    """`outputs` with `rule` as the only way of their gradients; it gives one for each source that is a float."""
    traced = Traced(rule, [one.type for one in outputs], f"the gradient rule of {name}")
    reads = [tensor_of(node) for node in traced.captured]
    count = len(outputs)
    body = traced.body
    body = Body(type(body.graph)((*body.graph.inputs[count:], *body.graph.inputs[:count]), body.graph.outputs))
    given = apply(custom_op, (*outputs, *sources, *reads), {"rule": body, "results": count, "of": len(sources)})
    return list(given) if count > 1 else [given]


def _checked(grads: list[Any], sources: list[Tensor], name: str) -> list[Tensor]:
    """One gradient for each float source, of its type; zeros for None."""
    if len(grads) != len(sources):
        raise GradientError(
            f"a custom gradient of {name}",
            f"its rule returned {len(grads)} gradients for {len(sources)} arguments",
            "Return one gradient for each positional tensor argument, or None.",
        )
    result = []
    for grad, source in zip(grads, sources, strict=True):
        if not is_float(source.dtype):
            continue
        given = zeros_of(source) if grad is None else convert(grad)
        if given.shape != source.shape:
            raise ShapeError(
                f"a custom gradient of {name}",
                f"its rule returned {given.type} for an argument of {source.type}",
                "Return a gradient of the argument's shape.",
            )
        result.append(given if given.dtype == source.dtype else given.astype(source.dtype))
    return result


def zeros_of(x: Tensor) -> Tensor:
    """Zeros of the shape and dtype of `x`."""
    return broadcast_like(tensor_of(scalar(0, x.dtype)), x) if x.ndim else tensor_of(scalar(0, x.dtype))


def is_zero(x: Tensor) -> bool:
    """Whether `x` is known to be zero: the gradient of a result that nobody used."""
    node = x.node
    while node.op.name in ("broadcast_like", "broadcast_to"):
        node = node.inputs[0]
    return node.op.name == "constant" and node.attr("value") == 0


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "a function")


class Watching:
    """A context that takes note of the trainable variables that are read."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}

    def __enter__(self) -> Watching:
        ACTIVE.tapes.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        ACTIVE.tapes.remove(self)

    def record(self, node: Node) -> None:
        """Nothing: operations are no concern of it."""

    def watch_variable(self, node: Node, variable: Any) -> None:
        """Take note of a variable that is read."""
        self._seen[id(variable)] = variable

    def variables(self) -> list[Any]:
        """The variables that were read."""
        return list(self._seen.values())


def recompute_grad(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, whose inside the reverse pass computes again instead of keeping it (`checkpoint` is the same).

    It costs one more evaluation of the function and saves the memory of all that lies between its arguments and its
    results. Arguments and results are tensors or structures of them; tensors and variables from outside may be used.

    >>> import flowgraph as fg
    >>> block = fg.recompute_grad(lambda x: fg.tanh(fg.tanh(x)))
    >>> round(float(fg.grad(block)(0.5)), 4)
    0.6398
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        tensors = [convert(one) for one in tree.flatten(args)]
        traced = Traced(
            lambda *given: function(*tree.unflatten(args, list(given)), **kwargs),
            [one.type for one in tensors],
            _name(function),
        )
        sources = [*tensors, *[tensor_of(node) for node in traced.captured]]
        outputs = traced.body.splice(sources)
        if not any(is_float(one.dtype) for one in outputs):
            return traced.rebuilt(outputs)

        def gradients(*upstream: Tensor) -> list[Tensor]:
            again = _behind(sources, len(tensors), [g for g in upstream if is_float(g.dtype)])
            found = traced.body.splice(again)
            pairs = [(y, g) for y, g in zip(found, upstream, strict=True) if is_float(y.dtype)]
            wanted = [one for one in again if is_float(one.dtype)]
            grads: list[Tensor] = Hooks.gradient(
                [y for y, _ in pairs], wanted, output_gradients=[g for _, g in pairs], unconnected_gradients="zero"
            )
            return grads

        return traced.rebuilt(attach(outputs, sources, gradients, _name(function)))

    return wrapped


checkpoint = recompute_grad


def _behind(sources: list[Tensor], own: int, upstream: list[Tensor]) -> list[Tensor]:
    """`sources` as nodes of their own, of which the first `own` are not looked at before a gradient is known.

    Those that share their first axis with a gradient wait for it, so that both may be cut; if none does, all wait.
    """
    waits: list[Tensor | None] = []
    for x in sources[:own]:
        alike = [g for g in upstream if x.ndim and g.ndim and x.shape[0] == g.shape[0] and x.shape[0] != 1]
        waits.append(alike[0] if alike else None)
    if not any(one is not None for one in waits):
        waits = [upstream[0]] * own
    result = [identity(x) if g is None else barrier(x, g) for x, g in zip(sources, waits, strict=False)]
    if not own:
        return [barrier(x, upstream[0]) for x in sources]
    return [*result, *[identity(x) for x in sources[own:]]]
