"""The reverse pass: gradients as more nodes of the same graph.

    x ──▶ f ──▶ y        g_x ◀── rule of f ◀── g_y

Each op's rule gives the gradient of its operands; broadcasting is undone once, here.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from enum import StrEnum
from typing import Any

from flowgraph import tree
from flowgraph.apply import convert, recorded
from flowgraph.context import ACTIVE, Hooks, describe_line
from flowgraph.errors import GradientError, ShapeError, UsageError
from flowgraph.graph import ITEM, Node, make_node, toposort
from flowgraph.leaves import scalar
from flowgraph.op import OPS, kernel_parameters
from flowgraph.ops.differentiate import zeros_of
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import is_float

Records = Iterable[tuple[Node, tuple[Node, ...]]]


class UnconnectedGradients(StrEnum):
    """What the gradient is by a source that no target depends on; its words may be written in its place."""

    NONE = "none"
    ZERO = "zero"


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
    before = ACTIVE.where
    try:
        for node, operands in reversed(path):
            if node in grads:
                _pass_on(node, operands, grads, live)
    finally:
        ACTIVE.where = before  # a rule may ask for gradients itself
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
    for operand, share in zip(operands, _rule(node, operands, grads[node], live), strict=True):
        if operand in live and share is not None:
            given = share() if callable(share) and not isinstance(share, Tensor) else share
            given = _unbroadcast(given, operand)
            grads[operand] = grads[operand] + given if operand in grads else given


def _rule(node: Node, operands: tuple[Node, ...], g: Any, live: set[Node]) -> Sequence[Any]:
    """What the op's gradient rule says: for each operand a tensor, a function that makes one, or None.

    A rule that asks for `live` by name is told of which operands the gradient is wanted.
    """
    rule = node.op.gradient
    if rule is None:
        raise GradientError(
            f"the gradient of {node.op.name}, made at {describe_line(node.where)}",
            f"the op {node.op.name} has no gradient rule",
            f"Give define({node.op.name!r}, ..., gradient=...) a rule, or leave the op out of the differentiated part.",
        )
    names = kernel_parameters(rule) if node.attrs else ()
    attrs = {name: value for name, value in node.attrs if name in names}
    if "live" in names:
        attrs["live"] = tuple([operand in live for operand in operands])
    out: Any = tensor_of(node) if len(node.types) == 1 else _items(node)
    if len(node.types) > 1:
        g = tuple(zeros_of(one) if part is None else part for one, part in zip(out, g, strict=True))
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


def gradient(targets: Any, sources: Any, output_gradients: Any = None, unconnected_gradients: str = "none") -> Any:
    """The gradients of the sum of `targets` with respect to `sources`, in the structure of `sources`.

    Sources that no target depends on have the gradient None, or zeros with `unconnected_gradients="zero"`. The
    gradients are tensors like any other and can be differentiated again. By a complex source z = x + iy a real target L
    has the gradient dL/dx + i dL/dy, as in TensorFlow.

    >>> import flowgraph as fg
    >>> x = fg.constant(3.0)
    >>> float(fg.gradient(x * x, x))
    6.0
    """
    ys = [convert(one) for one in tree.flatten(targets)]
    xs = [[convert(one).node] for one in tree.flatten(sources)]
    nodes = toposort([y.node for y in ys])
    _check_remembered([y.node for y in ys], [x for (x,) in xs], nodes)
    grads = gradient_along([(node, node.inputs) for node in nodes], ys, xs, output_gradients, unconnected_gradients)
    return tree.unflatten(sources, grads)


def gradient_along(
    records: Records,
    ys: Sequence[Tensor],
    xs: Sequence[Sequence[Node]],
    output_gradients: Any,
    unconnected_gradients: str,
    hidden: Container[Node] = (),
) -> list[Tensor | None]:
    """The gradient of `ys` by each of `xs`, along `records`; a source of several nodes has the sum of theirs.

    Nodes that are `hidden` have none: a tape does not watch them.
    """
    if unconnected_gradients not in tuple(UnconnectedGradients):
        raise UsageError(
            f"unconnected_gradients={unconnected_gradients!r}",
            "it says what an unconnected source gets",
            "Give 'none' or 'zero'.",
        )
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
        grads.append(zeros_of(tensor_of(nodes[0])) if total is None and unconnected_gradients == "zero" else total)
    return grads


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


Hooks.gradient = staticmethod(gradient)
