"""The reverse pass: gradients as more nodes of the same graph, and what is built on it.

    x ──▶ f ──▶ y        g_x ◀── rule of f ◀── g_y

Each op's rule gives the gradient of its operands; broadcasting is undone once, here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import numpy as np

from flowgraph import tree
from flowgraph.errors import GradientError
from flowgraph.graph import Node, make_input, toposort
from flowgraph.op import OPS, kernel_parameters
from flowgraph.tensor import ACTIVE, Tensor, as_array, convert, describe_line, scalar, tensor_of
from flowgraph.types import is_float, tensor_type

def reverse(
    records: Iterable[tuple[Node, tuple[Node, ...]]], targets: Sequence[Node], sources: Sequence[Node], seeds: Sequence[Tensor]
) -> list[Any]:
    """The gradient of the sum of `targets` (weighted by `seeds`) by each source, None for the unconnected.

    `records` are (node, its operands), operands before their users: a tape's memory, or a walk of the graph.
    """
    live: set[Node] = set(sources)
    path = []
    for node, operands in records:
        if any([one in live for one in operands]) and (is_float(node.types[0].dtype) or len(node.types) > 1):
            live.add(node)
            path.append((node, operands))
    grads: dict[Node, Tensor] = {}
    for target, seed in zip(targets, seeds, strict=True):
        grads[target] = grads[target] + seed if target in grads else seed
    try:
        for node, operands in reversed(path):
            if node in grads:
                _pass_on(node, operands, grads, live)
    finally:
        ACTIVE.where = None
    return [grads[source] if source in live and source in grads else None for source in sources]


def _pass_on(node: Node, operands: tuple[Node, ...], grads: dict[Node, Tensor], live: set[Node]) -> None:
    """Add to the gradients of the operands what comes through `node`."""
    ACTIVE.where = node.where
    for operand, share in zip(operands, _rule(node, operands, grads[node]), strict=True):
        if operand in live and share is not None:
            given = share() if callable(share) and not isinstance(share, Tensor) else share
            given = _unbroadcast(given, operand)
            grads[operand] = grads[operand] + given if operand in grads else given


def _rule(node: Node, operands: tuple[Node, ...], g: Tensor) -> Sequence[Any]:
    """What the op's gradient rule says: for each operand a tensor, a function that makes one, or None."""
    rule = node.op.gradient
    if rule is None:
        raise GradientError(
            f"the gradient of {node.op.name}, made at {describe_line(node.where)}",
            f"the op {node.op.name} has no gradient rule",
            f"Give define({node.op.name!r}, ..., gradient=...) a rule, or leave the op out of the differentiated part.",
        )
    names = kernel_parameters(rule) if node.attrs else ()
    attrs = {name: value for name, value in node.attrs if name in names}
    shares = rule(g, tensor_of(node), *[tensor_of(one) for one in operands], **attrs)
    return (shares,) if isinstance(shares, Tensor) or callable(shares) else shares


def _unbroadcast(share: Tensor, operand: Node) -> Tensor:
    """`share` summed over the axes along which `operand` was stretched."""
    have, want = share.shape, operand.type.shape
    if have != want:
        extra = len(have) - len(want)
        if extra:
            share = OPS["sum"](share, axis=tuple(range(extra)))
        stretched = tuple(i for i, length in enumerate(want) if length == 1 and share.shape[i] != 1)
        if stretched:
            share = OPS["sum"](share, axis=stretched, keepdims=True)
    return share if share.dtype == operand.type.dtype else share.astype(operand.type.dtype)


def _own_inputs(node: Node) -> tuple[Node, ...]:
    return node.inputs


def _seed(target: Tensor, given: Any) -> Tensor:
    if given is not None:
        return convert(given).astype(target.dtype)
    one = tensor_of(scalar(1, target.dtype))
    return OPS["broadcast_like"](one, target) if target.ndim else one


def gradient(targets: Any, sources: Any, output_gradients: Any = None, unconnected: str = "none") -> Any:
    """The gradients of the sum of `targets` with respect to `sources`, in the structure of `sources`.

    Sources that no target depends on have the gradient None, or zeros with `unconnected="zero"`. The gradients are
    tensors like any other and can be differentiated again.

    >>> import flowgraph as fg
    >>> x = fg.constant(3.0)
    >>> float(fg.gradient(x * x, x))
    6.0
    """
    ys = [convert(one) for one in tree.flatten(targets)]
    for y in ys:
        _check_remembered(y)
    records = [(node, node.inputs) for node in toposort([y.node for y in ys])]
    return _gradient(records, ys, sources, output_gradients, unconnected)


def _gradient(
    records: Iterable[tuple[Node, tuple[Node, ...]]],
    ys: Sequence[Tensor],
    sources: Any,
    output_gradients: Any,
    unconnected: str,
    visible: Container[Node] | None = None,
) -> Any:
    """The gradients along `records`; sources that are not `visible` have none."""
    xs = [convert(one) for one in tree.flatten(sources)]
    for tensor in (*ys, *xs):
        if not is_float(tensor.dtype):
            raise GradientError(
                f"a gradient of or by a tensor of dtype {tensor.dtype}",
                "only real and complex numbers have one",
                "Cast it to float32.",
            )
    given = [None] * len(ys) if output_gradients is None else tree.flatten(output_gradients)
    seeds = [_seed(y, g) for y, g in zip(ys, given, strict=True)]
    asked = [x.node for x in xs if visible is None or x.node in visible]
    found = dict(zip(asked, reverse(records, [y.node for y in ys], asked, seeds), strict=True))
    grads = [found.get(x.node) for x in xs]
    if unconnected == "zero":
        grads = [_zeros_like(x) if g is None else g for x, g in zip(xs, grads, strict=True)]
    return tree.unflatten(sources, grads)


def _zeros_like(x: Tensor) -> Tensor:
    return OPS["broadcast_like"](tensor_of(scalar(0, x.dtype)), x)  # type: ignore[no-any-return]


def _check_remembered(y: Tensor) -> None:
    node = y.node
    if node.memo is not None and not node.inputs and not node.is_leaf and node.op.name != "constant":
        raise GradientError(
            f"the gradient of {y.type}, made at {describe_line(node.where)}",
            "it was computed already, and an evaluated tensor forgets what it was made of",
            "Record the computation with GradientTape, or give the function to `grad(f)`.",
        )


def value_and_grad(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that returns `(function(...), its gradient)` with respect to the arguments at `argnums`.

    Arguments may be nested structures of numbers, arrays, tensors and variables; the gradient has their structure.
    The function must return a scalar.

    >>> import flowgraph as fg
    >>> value, slope = fg.value_and_grad(lambda x: x * x)(3.0)
    >>> float(value), float(slope)
    (9.0, 6.0)
    """

    def both(*args: Any, **kwargs: Any) -> Any:
        chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        tensors = [tree.map_structure(_float_tensor, arg) if i in chosen else arg for i, arg in enumerate(args)]
        tape = GradientTape(watch_accessed_variables=False)
        with tape:
            for index in chosen:
                tape.watch(tensors[index])
            value = function(*tensors, **kwargs)
        if value is None or getattr(value, "shape", ()) != ():
            raise GradientError(
                "value_and_grad of a function",
                f"it returned {'nothing' if value is None else f'a tensor of shape {value.shape}'}, not a scalar",
                "Return one number, for instance a mean or a sum.",
            )
        grads = tape.gradient(value, tuple(tensors[index] for index in chosen), unconnected="zero")
        return value, grads[0] if isinstance(argnums, int) else grads

    both.__name__ = f"value_and_grad_{getattr(function, '__name__', 'function')}"
    return both


def _float_tensor(value: Any) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
        return tensor_of(make_input(tensor_type(value.shape, value.dtype), "parameter", value=as_array(value)))
    given = convert(value)
    return given if is_float(given.dtype) else given.astype(np.float32)


def grad(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that returns the gradient of `function` with respect to the arguments at `argnums`; it can be nested.

    >>> import flowgraph as fg
    >>> float(fg.grad(fg.grad(lambda x: x * x * x))(2.0))
    12.0
    """
    both = value_and_grad(function, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


class GradientTape:
    """A context that records operations, so that their gradients can be asked for afterwards.

    Trainable variables are watched by themselves when they are read; other tensors by `watch`. A tape answers once,
    a `persistent` one any number of times. It sees only what is computed while it records.

    >>> import flowgraph as fg
    >>> x = fg.constant(-1.0)
    >>> with fg.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = x * x
    >>> float(tape.gradient(y, x))
    -2.0
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self.persistent = persistent
        self.watch_accessed_variables = watch_accessed_variables
        self._inputs: dict[Node, tuple[Node, ...]] = {}
        self._watched: dict[Node, Any] = {}
        self._used = False

    def __enter__(self) -> GradientTape:
        ACTIVE.tapes.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        ACTIVE.tapes.remove(self)

    def record(self, node: Node) -> None:
        """Remember `node` and its operands; called for every new node while the tape records."""
        self._inputs[node] = node.inputs

    def watch(self, tensors: Any) -> None:
        """Make the tape compute gradients with respect to `tensors` (a tensor, a variable or a structure of them)."""
        for one in tree.flatten(tensors):
            tensor = convert(one)
            if not is_float(tensor.dtype):
                raise GradientError(f"to watch {tensor.type}", "only real and complex numbers have gradients", "Cast it first.")
            self._watched[tensor.node] = tensor

    def watch_variable(self, node: Node, variable: Any) -> None:
        """Called when a trainable variable is read while the tape records."""
        if self.watch_accessed_variables:
            self._watched[node] = variable

    def watched_variables(self) -> tuple[Any, ...]:
        """The variables that were read while the tape recorded."""
        variables = (one for one in self._watched.values() if not isinstance(one, Tensor))
        return tuple({id(one): one for one in variables}.values())

    def gradient(self, target: Any, sources: Any, output_gradients: Any = None, unconnected: str = "none") -> Any:
        """The gradient of `target` with respect to `sources`, in their structure; None for the unconnected.

        Raises GradientError when a tape that is not persistent is asked a second time.
        """
        if self._used and not self.persistent:
            raise GradientError(
                "a second gradient of one GradientTape",
                "it is not persistent and has been used",
                "Make it with GradientTape(persistent=True).",
            )
        self._used = True
        ys = [convert(one) for one in tree.flatten(target)]
        connected = self._connected()
        records = [(node, operands) for node, operands in self._inputs.items() if node in connected]
        if not self.persistent:
            self._inputs = {}  # lets go of everything that was recorded
        return _gradient(records, ys, sources, output_gradients, unconnected, connected)

    def _connected(self) -> set[Node]:
        """The recorded nodes that depend on something watched, and what is watched."""
        live = set(self._watched)
        for node, operands in self._inputs.items():
            if any([one in live for one in operands]):
                live.add(node)
        return live


