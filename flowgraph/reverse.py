"""The reverse pass: gradients as more nodes of the same graph, and what is built on it.

    x ──▶ f ──▶ y        g_x ◀── rule of f ◀── g_y

Each op's rule gives the gradient of its operands; broadcasting is undone once, here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import numpy as np

from flowgraph import tree
from flowgraph.apply import convert, own, recorded
from flowgraph.context import ACTIVE, describe_line
from flowgraph.errors import GradientError, ShapeError, UsageError
from flowgraph.graph import ITEM, Node, make_input, make_node, toposort
from flowgraph.leaves import as_array, scalar
from flowgraph.op import OPS, kernel_parameters
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import is_float, tensor_type

Records = Iterable[tuple[Node, tuple[Node, ...]]]


def reverse(
    records: Records, targets: Sequence[Node], sources: Sequence[Node], seeds: Sequence[Tensor]
) -> list[Tensor | None]:
    """The gradient of the sum of `targets` (weighted by `seeds`) by each source, None for the unconnected.

    `records` are (node, its operands), operands before their users: a tape's memory, or a walk of the graph.
    """
    live: set[Node] = set(sources)
    path = []
    for node, operands in records:
        if not live.isdisjoint(operands) and (is_float(node.types[0].dtype) or len(node.types) > 1):
            live.add(node)
            path.append((node, operands))
    grads: dict[Node, Any] = {}
    for target, seed in zip(targets, seeds, strict=True):
        grads[target] = grads[target] + seed if target in grads else seed
    try:
        for node, operands in reversed(path):
            if node in grads:
                _pass_on(node, operands, grads, live)
    finally:
        ACTIVE.where = None
    return [grads[source] if source in live and source in grads else None for source in sources]


def _pass_on(node: Node, operands: tuple[Node, ...], grads: dict[Node, Any], live: set[Node]) -> None:
    """Add to the gradients of the operands what comes through `node`."""
    ACTIVE.where = node.where
    if node.op is ITEM:  # the gradient of a node with several results: one entry for each, filled by its items
        (whole,) = operands
        parts = grads.setdefault(whole, [None] * len(whole.types))
        index = node.attr("index")
        parts[index] = grads[node] if parts[index] is None else parts[index] + grads[node]
        return
    for operand, share in zip(operands, _rule(node, operands, grads[node]), strict=True):
        if operand in live and share is not None:
            given = share() if callable(share) and not isinstance(share, Tensor) else share
            given = _unbroadcast(given, operand)
            grads[operand] = grads[operand] + given if operand in grads else given


def _rule(node: Node, operands: tuple[Node, ...], g: Any) -> Sequence[Any]:
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
    out: Any = tensor_of(node) if len(node.types) == 1 else _items(node)
    if len(node.types) > 1:
        g = tuple(_zeros_like(one) if part is None else part for one, part in zip(out, g, strict=True))
    shares = rule(g, out, *[tensor_of(one) for one in operands], **attrs)
    if shares is None or isinstance(shares, Tensor) or callable(shares):
        shares = (shares,)  # of an op with one operand
    if len(shares) != len(operands):
        raise GradientError(
            f"the gradient of {node.op.name}, made at {describe_line(node.where)}",
            f"its rule gives {len(shares)} gradients, the op has {len(operands)} operands",
            f"Let the rule of {node.op.name!r} return one tensor, function or None for each operand.",
        )
    return shares  # type: ignore[no-any-return]


def _items(node: Node) -> tuple[Tensor, ...]:
    """The results of a node that has several."""
    count = range(len(node.types))
    return tuple(Tensor(recorded(make_node(ITEM, (node,), (("index", index),), node.where))) for index in count)


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


def _seed(target: Tensor, given: Any) -> Tensor:
    if given is not None:
        seed = convert(given)
        if seed.shape != target.shape:
            raise ShapeError(
                f"the gradient of {target.type} weighted by output_gradients of shape {seed.shape}",
                "the shapes differ",
                "Give one weight for each element of the target.",
            )
        return seed if seed.dtype == target.dtype else seed.astype(target.dtype)
    one = tensor_of(scalar(1, target.dtype))
    return OPS["broadcast_like"](one, target) if target.ndim else one


def gradient(targets: Any, sources: Any, output_gradients: Any = None, unconnected: str = "none") -> Any:
    """The gradients of the sum of `targets` with respect to `sources`, in the structure of `sources`.

    Sources that no target depends on have the gradient None, or zeros with `unconnected="zero"`. The gradients are
    tensors like any other and can be differentiated again. By a complex source z = x + iy a real target L has the
    gradient dL/dx + i dL/dy, as in TensorFlow.

    >>> import flowgraph as fg
    >>> x = fg.constant(3.0)
    >>> float(fg.gradient(x * x, x))
    6.0
    """
    ys = [convert(one) for one in tree.flatten(targets)]
    xs = [[convert(one).node] for one in tree.flatten(sources)]
    nodes = toposort([y.node for y in ys])
    _check_remembered([y.node for y in ys], [x for (x,) in xs], nodes)
    grads = gradient_along([(node, node.inputs) for node in nodes], ys, xs, output_gradients, unconnected)
    return tree.unflatten(sources, grads)


def gradient_along(
    records: Records,
    ys: Sequence[Tensor],
    xs: Sequence[Sequence[Node]],
    output_gradients: Any,
    unconnected: str,
    hidden: Container[Node] = (),
) -> list[Tensor | None]:
    """The gradient of `ys` by each of `xs`, along `records`; a source of several nodes has the sum of theirs.

    Nodes that are `hidden` have none: a tape does not watch them.
    """
    if unconnected not in ("none", "zero"):
        raise UsageError(f"unconnected={unconnected!r}", "it says what an unconnected source gets", "'none' or 'zero'.")
    for tensor in (*ys, *[tensor_of(node) for nodes in xs for node in nodes]):
        if not is_float(tensor.dtype):
            raise GradientError(
                f"a gradient of or by a tensor of dtype {tensor.dtype}",
                "only real and complex numbers have one",
                "Cast it to float32.",
            )
    given = [None] * len(ys) if output_gradients is None else tree.flatten(output_gradients)
    if len(given) != len(ys):
        raise UsageError(
            f"{len(given)} output_gradients", f"there are {len(ys)} targets", "Give one for each target, or None."
        )
    seeds = [_seed(y, g) for y, g in zip(ys, given, strict=True)]
    asked = [node for nodes in xs for node in nodes if node not in hidden]
    found = dict(zip(asked, reverse(records, [y.node for y in ys], asked, seeds), strict=True))
    grads: list[Tensor | None] = []
    for nodes in xs:
        total: Tensor | None = None
        for share in [found[node] for node in nodes if found.get(node) is not None]:
            total = share if total is None else total + share
        grads.append(_zeros_like(tensor_of(nodes[0])) if total is None and unconnected == "zero" else total)
    return grads


def _zeros_like(x: Tensor) -> Tensor:
    return OPS["broadcast_like"](tensor_of(scalar(0, x.dtype)), x)  # type: ignore[no-any-return]


def _check_remembered(targets: Sequence[Node], sources: Sequence[Node], nodes: Sequence[Node]) -> None:
    """Refuse gradients that would lack what went through a computed tensor.

    Whether such a tensor depended on a source is forgotten with its operands. It may have if the source is older than
    the tensor, and no older than all that the tensor was made of.
    """
    for node in nodes:
        if not node.forgot or node in sources:
            continue
        if node in targets or any(node.since <= source.serial < node.serial for source in sources):
            raise GradientError(
                f"a gradient through {node.type}, made at {describe_line(node.where)}",
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
        if any(not 0 <= index < len(args) for index in chosen):
            raise UsageError(
                f"a gradient by argument {argnums} of a function",
                f"it was called with {len(args)} positional arguments",
                "Count from 0, and give these arguments by position.",
            )
        tensors = [tree.map_structure(_float_tensor, arg) if i in chosen else arg for i, arg in enumerate(args)]
        tape = GradientTape(watch_accessed_variables=False)
        with tape:
            for index in chosen:
                tape.watch(tensors[index])
            value = function(*tensors, **kwargs)
        if isinstance(value, list | tuple | dict | None) or getattr(value, "shape", ()) != ():
            found = f"a tensor of shape {value.shape}" if hasattr(value, "shape") else f"a {type(value).__name__}"
            raise GradientError(
                "value_and_grad of a function",
                f"it returned {'nothing' if value is None else found}, not a scalar",
                "Return one number, for instance a mean or a sum.",
            )
        grads = tape.gradient(value, tuple(tensors[index] for index in chosen), unconnected="zero")
        return value, grads[0] if isinstance(argnums, int) else grads

    both.__name__ = f"value_and_grad_{getattr(function, '__name__', 'function')}"
    return both


def _float_tensor(value: Any) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
        return tensor_of(make_input(tensor_type(value.shape, value.dtype), "parameter", value=as_array(value)))
    given = own(value)
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
                raise GradientError(
                    f"to watch {tensor.type}", "only real and complex numbers have gradients", "Cast it first."
                )
            self._watched[tensor.node] = one if hasattr(one, "__flowgraph_tensor__") else tensor

    def watch_variable(self, node: Node, variable: Any) -> None:
        """Called when a trainable variable is read while the tape records."""
        if self.watch_accessed_variables:
            self._watched[node] = variable

    def watched_variables(self) -> tuple[Any, ...]:
        """The variables that the tape watches: the trainable ones that were read while it recorded, and those named."""
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
        versions: dict[int, list[Node]] = {}
        for node, watched in self._watched.items():
            if not isinstance(watched, Tensor):
                versions.setdefault(id(watched), []).append(node)
        xs = [versions[id(one)] if id(one) in versions else [self._node_of(one)] for one in tree.flatten(sources)]
        connected = self._connected()
        # A version of a variable is where its gradient ends, even if an assignment in a traced function computed it.
        ends = {node for nodes in versions.values() for node in nodes}
        records = [(n, operands) for n, operands in self._inputs.items() if n in connected and n not in ends]
        hidden = {node for nodes in xs for node in nodes if node not in connected}
        if not self.persistent:
            self._inputs = {}  # lets go of everything that was recorded
        return tree.unflatten(sources, gradient_along(records, ys, xs, output_gradients, unconnected, hidden))

    def _node_of(self, source: Any) -> Node:
        """The node meant by `source`: of a tensor that was assigned to since, the one that is watched."""
        node = convert(source).node
        if node in self._watched:
            return node
        return next((old for old, handle in reversed(self._watched.items()) if handle is source), node)

    def _connected(self) -> set[Node]:
        """The recorded nodes that depend on something watched, and what is watched."""
        live = set(self._watched)
        for node, operands in self._inputs.items():
            if not live.isdisjoint(operands):
                live.add(node)
        return live

    # For a step that is found again by the structure of its loss.

    def saw_each_once(self, variables: Sequence[Any]) -> bool:
        """Whether the tape watches each of `variables`, all as they are now, and nothing that was a variable's before.

        A variable that is assigned while a tape records has several values, each with a share in its gradient.
        """
        return len(self.watched_variables()) == len(self._watched) and all(
            self._watched.get(one._node) is one for one in variables
        )

    def recorded_all(self, nodes: Iterable[Node], known: Container[Node]) -> bool:
        """Whether the tape saw how each of `nodes` was computed, and nothing watched lies behind those `known`."""
        found = [node for node in nodes if (node in self._inputs) == (node in known) and node.op.name != "constant"]
        return not found or (all(node in known for node in found) and self._connected().isdisjoint(found))
