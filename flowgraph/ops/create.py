"""Tensors from data: `constant` copies, `asarray` shares memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowgraph.errors import ShapeError
from flowgraph.graph import make_input
from flowgraph.ops.elementwise import astype
from flowgraph.ops.shape import broadcast_like, broadcast_to, checked_shape, reshape
from flowgraph.sources import Blocks
from flowgraph.tensor import Tensor, as_array, convert, freeze, own, scalar, tensor_of
from flowgraph.types import as_dtype, tensor_type


def constant(value: Any, dtype: Any = None, shape: Any = None) -> Tensor:
    """A tensor with a copy of `value`: a number, a nested list, an array, a pandas column.

    Python floats become float32 and ints int32; numpy data keeps its dtype. With `shape`, a single number fills it and
    other values are laid out in it.

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
    return tensor_of(make_input(tensor_type(array.shape, array.dtype), value=array))


def asarray(value: Any, dtype: Any = None) -> Tensor:
    """A tensor over `value`, without a copy where that can be done: a change of the array would change the tensor.

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
