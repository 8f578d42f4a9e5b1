"""Calls: how operands of all kinds become tensors, and a call of an op becomes a node.

A call checks shapes and dtypes at once and computes nothing; a value is computed when something asks for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from functools import cache, reduce
from typing import Any

import numpy as np

from flowgraph.attrs import told_apart
from flowgraph.context import ACTIVE, Hooks, user_place
from flowgraph.errors import DTypeError, FlowgraphError, UsageError
from flowgraph.graph import ITEM, Node, make_input, make_node
from flowgraph.leaves import leaf_of, scalar, scalar_array
from flowgraph.op import OPS, Op, inferred
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import promote, promote_scalar, python_dtype, tensor_type


def convert(value: Any, dtype: np.dtype[Any] | None = None) -> Tensor:
    """`value` as a tensor: tensors and variables as they are, arrays without a copy, Python numbers by the defaults."""
    if isinstance(value, Tensor):
        return value
    leaf = getattr(value, "__flowgraph_tensor__", None)
    if leaf is not None:  # a Variable
        return leaf()  # type: ignore[no-any-return]
    if isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic):
        return tensor_of(scalar(value, dtype if dtype is not None else python_dtype(value)))
    return tensor_of(leaf_of(value, dtype))


def together(values: Iterable[Any]) -> list[Tensor]:
    """`values` as tensors; the Python floats of a list beside float64 are not rounded to float32 first.

    >>> [one.dtype.name for one in together([np.ones(1), [0.1]])]
    ['float64', 'float64']
    """
    given = list(values)
    found = [None if isinstance(one, list | tuple) else convert(one) for one in given]
    known = [one.dtype for one in found if one is not None]
    return [_listed(one, known) if tensor is None else tensor for one, tensor in zip(given, found, strict=True)]


def _listed(value: Any, beside: Iterable[np.dtype[Any]]) -> Tensor:
    """The list `value` as a tensor, of floats in the widest precision `beside` it."""
    tensor = convert(value)
    if tensor.dtype.kind not in "fc":
        return tensor
    wider = reduce(promote, beside, tensor.dtype)
    return tensor if wider == tensor.dtype else convert(value, wider)


def own(value: Any, dtype: np.dtype[Any] | None = None) -> Tensor:
    """`value` as a tensor that is nobody else's: a Python number becomes an input of its own.

    By `convert`, the 1.0 that a gradient is asked for would be the same node as every 1.0 in the formula.
    """
    if isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic):
        array = scalar_array(value, dtype if dtype is not None else python_dtype(value))
        return tensor_of(make_input(tensor_type((), array.dtype), "data", value=array))
    return convert(value, dtype)


def freeze(value: Any) -> Any:
    """`value` in a form that can be hashed and compared: lists as tuples, numpy integers as ints."""
    if isinstance(value, list | tuple):
        return tuple([freeze(one) for one in value])
    if isinstance(value, np.ndarray):
        return freeze(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        return freeze(value.numpy())
    return value


@cache
def _signature(op: Op) -> tuple[int | None, tuple[str, ...]]:
    """The number of operands (None: any number) and the names of the attributes that may follow by position."""
    if op.attrs is None:
        return None, ()
    import inspect

    parameters = inspect.signature(op.attrs).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None, ()
    operands = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    return len(operands), tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)


def apply(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The tensor of `op` called with `args` and `kwargs`; a tuple of tensors where the op has several results.

    Every op takes `name=`, the name of the operation in a deferred graph; elsewhere it says nothing.
    """
    count, names = _signature(op)
    if count is not None and len(args) > count:
        if len(args) - count > len(names):
            raise UsageError(
                f"{op.name} with {len(args)} arguments",
                f"it takes at most {count + len(names)}",
                f"See help({op.name}).",
            )
        kwargs = dict(zip(names, args[count:], strict=False)) | kwargs
        args = args[:count]
    label = kwargs.pop("name", None) if kwargs and "name" not in names else None
    nodes = _operands(op, args)
    given = told_apart(tuple([(name, freeze(value)) for name, value in kwargs.items()])) if kwargs else ()
    where = user_place()
    try:
        known = inferred(op, tuple([node.types[0] for node in nodes]), given)
    except FlowgraphError as error:
        types = ", ".join(str(node.type) for node in nodes)
        error.asked = f"{op.name}({types}): {error.asked}"
        raise error.with_traceback(None) from None
    except TypeError as error:  # an attribute that can not be hashed, iterated over, compared
        types = ", ".join(str(node.type) for node in nodes)
        raise UsageError(f"{op.name}({types}) with {kwargs}", str(error), f"See help({op.name}).") from error
    for index, dtype in known.casts:
        nodes[index] = cast_node(nodes[index], dtype)
    node = Node(op, tuple(nodes), known.attrs, known.types, where, known)
    if ACTIVE.tapes:
        record(node)
    elif node.symbolic:
        Hooks.graphs.adopt(node)
    if label is not None:
        Hooks.graphs.label(node, label)
    if len(node.types) == 1:
        tensor = Tensor(node)
        if node.depth > Hooks.pending_limit and not node.symbolic:
            Hooks.evaluate([node])
        return tensor
    items = [recorded(make_node(ITEM, (node,), (("index", i),), where)) for i in range(len(node.types))]
    node.handle = tuple(map(weakref.ref, items))
    return tuple(map(Tensor, items))


def record(node: Node) -> None:
    """Tell every recording tape of a new node."""
    for tape in ACTIVE.tapes:
        tape.record(node)


def recorded(node: Node) -> Node:
    """`node`, after tapes were told of it."""
    if ACTIVE.tapes:
        record(node)
    return node


def cast_node(node: Node, dtype: np.dtype[Any]) -> Node:
    """The node of `node`'s values as `dtype`."""
    return recorded(make_node(OPS["astype"], (node,), (("dtype", dtype),), node.where))


_WEAK: frozenset[type] = frozenset({bool, int, float, complex})


def _scalar_dtype(value: Any) -> np.dtype[Any]:
    """The dtype of a number that no tensor stands beside: numpy's keep theirs."""
    return value.dtype if isinstance(value, np.generic) else python_dtype(value)


def _kind(value: Any) -> Any:
    """The type of a Python number; of a subclass, such as np.float64 of float, that one."""
    kind = type(value)
    return kind if kind in _WEAK else next(one for one in (int, float, complex) if isinstance(value, one))


def _operands(op: Op, args: tuple[Any, ...]) -> list[Node]:
    """The nodes of the operands; Python scalars take the dtype of the tensors that they meet."""
    nodes: list[Any] = []
    weak: list[int] = []
    lists: list[int] = []
    for index, value in enumerate(args):
        if type(value) is Tensor:
            nodes.append(value.node)
        elif isinstance(value, bool | int | float | complex):
            weak.append(index)
            nodes.append(None)
        elif isinstance(value, list | tuple):
            lists.append(index)
            nodes.append(None)
        else:
            nodes.append(convert(value).node)
    if lists:
        known = [node.types[0].dtype for node in nodes if node is not None]
        for index in lists:
            nodes[index] = _listed(args[index], known).node
    if not weak:
        return nodes
    common = None
    for node in nodes:
        if node is not None and (len(nodes) < 3 or node.types[0].dtype.kind != "b"):  # a condition has no say
            common = node.types[0].dtype if common is None else promote(common, node.types[0].dtype)
    alone = None if common is not None else reduce(promote, [_scalar_dtype(args[index]) for index in weak])
    for index in weak:
        value = args[index]
        dtype = alone if alone is not None else promote_scalar(_kind(value), common)
        if index in op.structural and dtype.kind in "iu" and value < 0:
            raise DTypeError(
                f"{op.name} of integers with {value}", "the result is no integer", "Cast the integers to a float first."
            )
        nodes[index] = scalar(value, dtype, index in op.structural)
    return nodes


Op.apply = staticmethod(apply)
