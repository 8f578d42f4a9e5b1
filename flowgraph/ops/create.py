"""Tensors from data and numbers: `constant` copies, `asarray` shares memory, `full` and `arange` compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowgraph.apply import apply, convert, freeze, own
from flowgraph.context import ACTIVE, Hooks
from flowgraph.errors import ShapeError, UsageError
from flowgraph.graph import make_input
from flowgraph.leaves import as_array, scalar, scalar_array
from flowgraph.op import Op, define
from flowgraph.ops.elementwise import astype
from flowgraph.ops.shape import broadcast_like, broadcast_to, checked_shape, numbers_dtype, reshape
from flowgraph.sources import Blocks
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import DEFAULT_FLOAT, as_dtype, promote, python_dtype, tensor_type

__all__ = [
    "arange",
    "asarray",
    "cast",
    "constant",
    "from_blocks",
    "full",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor with a copy of `value`: a number, a nested list, an array, a pandas column.

    Python floats become float32 and ints int32; numpy data keeps its dtype. With `shape`, a single number fills it and
    other values are laid out in it. `name` is that of the operation in a deferred graph.

    >>> import flowgraph as fg
    >>> fg.constant(3, shape=[1, 2]).tolist()
    [[3, 3]]
    """
    wanted: Any = None if shape is None else checked_shape(freeze(shape))
    if isinstance(value, Tensor):
        tensor = value if dtype is None else cast(value, dtype)
        if wanted is None:
            return tensor
        return broadcast_to(reshape(tensor, ()), wanted) if tensor.size == 1 else reshape(tensor, wanted)  # type: ignore[no-any-return]
    array = np.array(as_array(value, dtype), order="C")
    if wanted is not None:
        if array.size == 1:
            array = np.full(wanted, array.reshape(())[()])
        elif array.size == math.prod(wanted):
            array = array.reshape(wanted)
        else:
            raise ShapeError(
                f"a constant of shape {wanted}",
                f"the value has {array.size} elements",
                "Give one number, or as many as fit.",
            )
    leaf = make_input(tensor_type(array.shape, array.dtype), value=array)
    if ACTIVE.traces:
        Hooks.graphs.constant(leaf, name)
    return tensor_of(leaf)


def asarray(value: Any, dtype: Any = None) -> Tensor:
    """A tensor over `value`, without a copy where that can be done.

    An array that shares its memory with a tensor must not change: a later run that finds it changed raises DataError.

    Takes numpy arrays, pandas columns, nested lists, dask arrays (whose tasks join the graph) and tensors.

    >>> import flowgraph as fg
    >>> fg.asarray([1.5, 2.5]).dtype
    dtype('float32')
    """
    tensor = own(value, None if dtype is None else as_dtype(dtype))
    return tensor if dtype is None else cast(tensor, dtype)


def from_blocks(blocks: Sequence[Any]) -> Tensor:
    """A tensor whose rows lie in several arrays, one after the other, without joining them.

    >>> import numpy as np, flowgraph as fg
    >>> fg.from_blocks([np.zeros((2, 3)), np.ones((1, 3))]).shape
    (3, 3)
    """
    source = Blocks([np.asarray(one) for one in blocks])
    return tensor_of(make_input(source.type, value=source))


def cast(x: Any, dtype: Any) -> Tensor:
    """`x` (a tensor, a variable, an array, a pandas column) with its elements converted to `dtype`.

    >>> import flowgraph as fg
    >>> fg.cast([1.7], "int32").tolist()
    [1]
    """
    tensor, wanted = own(x), as_dtype(dtype)
    return tensor if tensor.dtype == wanted else astype(tensor, dtype=wanted)


def zeros_like(x: Any) -> Tensor:
    """Zeros of the shape and dtype of `x`.

    >>> import flowgraph as fg
    >>> fg.zeros_like([1, 2]).tolist()
    [0, 0]
    """
    tensor = convert(x)
    return broadcast_like(tensor_of(scalar(0, tensor.dtype)), tensor)  # type: ignore[no-any-return]


def ones_like(x: Any) -> Tensor:
    """Ones of the shape and dtype of `x`.

    >>> import flowgraph as fg
    >>> fg.ones_like([1, 2]).tolist()
    [1, 1]
    """
    tensor = convert(x)
    return broadcast_like(tensor_of(scalar(1, tensor.dtype)), tensor)  # type: ignore[no-any-return]


def full(shape: Any, value: Any, dtype: Any = None) -> Tensor:
    """A tensor of `shape` with `value` everywhere.

    >>> import flowgraph as fg
    >>> fg.full((2,), 7).tolist()
    [7, 7]
    """
    value = convert(value)
    return broadcast_to(value if dtype is None else value.astype(dtype), freeze(shape))  # type: ignore[no-any-return]


def ones(shape: Any, dtype: Any = np.float32) -> Tensor:
    """A tensor of `shape` with 1 everywhere.

    >>> import flowgraph as fg
    >>> fg.ones((2, 1)).tolist()
    [[1.0], [1.0]]
    """
    return full(shape, 1, dtype)


def zeros(shape: Any, dtype: Any = np.float32) -> Tensor:
    """A tensor of `shape` with 0 everywhere.

    >>> import flowgraph as fg
    >>> fg.zeros((2,)).tolist()
    [0.0, 0.0]
    """
    return full(shape, 0, dtype)


def _arange(first: Any, step: Any, at: Any) -> Any:
    start, stop, _ = at[0]
    return first + step * np.arange(start, stop).astype(first.dtype)


def _arange_gradient(g: Tensor, out: Tensor, first: Tensor, step: Tensor) -> Any:
    zero, one = (convert(np.asarray(value, g.dtype)) for value in (0, 1))
    return (g, lambda: g * arange_op(zero, one, shape=g.shape))  # the driver sums both to scalars


arange_op: Op = define(
    "arange",
    ", -> i",
    _arange,
    attrs=lambda first, step, /, shape: {"shape": checked_shape(shape)},
    dtype=numbers_dtype,
    gradient=_arange_gradient,
    samples=lambda: [(((), ()), {"shape": (7,)})],
    doc="first, first + step, first + 2 step, ...: as many numbers as `shape` says.",
)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Tensor:
    """The numbers from `start` (0 if only one is given) up to but not including `stop`, in steps of `step`.

    >>> import flowgraph as fg
    >>> fg.arange(1, 7, 2).tolist()
    [1, 3, 5]
    """
    given = [freeze(value) for value in ((0, start, step) if stop is None else (start, stop, step))]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in given):
        raise UsageError(f"arange{tuple(given)}", "not all of these are numbers", "Give integers or floats.")
    first, last, step = given
    if step == 0:
        raise UsageError("arange with step 0", "it would never end", "Give a step other than 0.")
    count = max(math.ceil((last - first) / step), 0)
    if dtype is None:
        result = promote(python_dtype(first), python_dtype(last))
        result = DEFAULT_FLOAT if any(isinstance(value, float) for value in given) else result
    else:
        result = as_dtype(dtype)
    pair = [scalar_array(value, result) for value in (first, step)]
    return apply(arange_op, tuple(map(convert, pair)), {"shape": (count,)})  # type: ignore[no-any-return]
