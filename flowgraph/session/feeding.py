"""What is fed to a run: values checked against the tensors that they stand for, and converted to their dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.context import describe_line
from flowgraph.errors import DTypeError
from flowgraph.graph import Node
from flowgraph.leaves import as_array
from flowgraph.session.default_graph import init_scope
from flowgraph.session.plan import fed_type
from flowgraph.state.function import value_of
from flowgraph.state.variable import Variable
from flowgraph.tensor import Tensor


def fed_value(node: Node, given: Any) -> Any:
    """What is fed for `node`, in its dtype: an array, or rows of Dask tasks or of files as they are."""
    dtype = node.types[0].dtype
    if isinstance(given, Tensor | Variable) or hasattr(given, "__dask_graph__"):
        with init_scope():
            tensor = convert(given)
            if tensor.dtype != dtype:
                _check_cast(node, tensor.dtype)
                tensor = tensor.astype(dtype)
            value = value_of(tensor.node)
        fed_type(node, tensor.shape)
        return value
    array = given
    if type(array) is not np.ndarray or array.dtype != dtype:
        array = as_array(given, None if hasattr(given, "dtype") else _number_dtype(given, dtype))
        if array.dtype != dtype:
            _check_cast(node, array.dtype)
            array = array.astype(dtype)
    if array.shape != node.types[0].shape:
        fed_type(node, array.shape)
    return array


def _number_dtype(given: Any, dtype: np.dtype[Any]) -> Any:
    """The dtype in which Python numbers are read: that of the tensor where it loses nothing but precision."""
    try:
        found = np.asarray(given).dtype
    except ValueError:  # a list whose rows differ in length: `as_array` says so
        return None
    return dtype if np.can_cast(found, dtype, "same_kind") or found.kind + dtype.kind == "iu" else None


def _check_cast(node: Node, found: np.dtype[Any]) -> None:
    """Raise DTypeError where values of `found`, fed for `node`, would lose more than precision."""
    dtype = node.types[0].dtype
    if not np.can_cast(found, dtype, "same_kind"):
        owner = getattr(node, "owner", None)
        name = node.op.name if owner is None else repr(owner.name)
        raise DTypeError(
            f"to feed {name}, made at {describe_line(node.where)}, of {dtype} with {found}",
            "the values would lose more than precision",
            f"Convert them first: values.astype({str(dtype)!r}).",
        )
