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
from flowgraph.ops.dtypes import result_type
from flowgraph.ops.elementwise import astype
from flowgraph.ops.shape import broadcast_like, broadcast_to, checked_shape, numbers_dtype, reshape
from flowgraph.tensor import Tensor, check_device, tensor_of
from flowgraph.types import DEFAULT_FLOAT, as_dtype, listed, tensor_type

__all__ = [
    "arange",
    "asarray",
    "cast",
    "constant",
    "empty",
    "empty_like",
    "from_blocks",
    "full",
    "full_like",
    "linspace",
    "meshgrid",
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


def asarray(obj: Any, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over `obj`, without a copy where that can be done; `copy=True` always copies, `copy=False` never.

    An array that shares its memory with a tensor must not change: a later run that finds it changed raises DataError.

    Takes numpy arrays, pandas columns, nested lists, dask arrays (whose tasks join the graph) and tensors.

    >>> import flowgraph as fg
    >>> fg.asarray([1.5, 2.5]).dtype
    dtype('float32')
    """
    check_device(device)
    wanted = None if dtype is None else as_dtype(dtype)
    if copy:
        return astype(obj, wanted or obj.dtype) if isinstance(obj, Tensor) else constant(obj, dtype)
    tensor = own(obj, wanted)
    if copy is False and (not hasattr(obj, "dtype") or obj.dtype != (wanted or tensor.dtype)):
        raise UsageError(
            f"{type(obj).__name__} as a tensor of {wanted or tensor.dtype} with copy=False",
            "it has no such memory to share",
            "Leave copy out.",
        )
    return tensor if wanted is None else cast(tensor, wanted)


def from_blocks(blocks: Sequence[Any]) -> Tensor:
    """A tensor whose rows lie in several arrays, one after the other, without joining them.

    >>> import numpy as np, flowgraph as fg
    >>> fg.from_blocks([np.zeros((2, 3)), np.ones((1, 3))]).shape
    (3, 3)
    """
    from flowgraph.sources import Blocks  # late: few make tensors so

    source = Blocks([np.asarray(one) for one in listed(blocks, "blocks")])
    return tensor_of(make_input(source.type, value=source))


def cast(x: Any, dtype: Any) -> Tensor:
    """`x` (a tensor, a variable, an array, a pandas column) with its elements converted to `dtype`.

    >>> import flowgraph as fg
    >>> fg.cast([1.7], "int32").tolist()
    [1]
    """
    tensor, wanted = own(x), as_dtype(dtype)
    return tensor if tensor.dtype == wanted else astype(tensor, dtype=wanted)


def full_like(x: Any, fill_value: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of the shape of `x`, and of its dtype unless one is given, with `fill_value` everywhere.

    >>> import flowgraph as fg
    >>> fg.full_like([1, 2], 7).tolist()
    [7, 7]
    """
    check_device(device)
    tensor = convert(x)
    wanted = tensor.dtype if dtype is None else as_dtype(dtype)
    plain = isinstance(fill_value, bool | int | float | complex)
    value = tensor_of(scalar(fill_value, wanted)) if plain else cast(fill_value, wanted)
    return broadcast_like(value, tensor)  # type: ignore[no-any-return]


def zeros_like(x: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of the shape and dtype of `x`.

    >>> import flowgraph as fg
    >>> fg.zeros_like([1, 2]).tolist()
    [0, 0]
    """
    return full_like(x, 0, dtype, device)


def ones_like(x: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones of the shape and dtype of `x`.

    >>> import flowgraph as fg
    >>> fg.ones_like([1, 2]).tolist()
    [1, 1]
    """
    return full_like(x, 1, dtype, device)


def empty_like(x: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of the shape and dtype of `x` whose elements do not matter: they are 0.

    >>> import flowgraph as fg
    >>> fg.empty_like([[1, 2]]).shape
    (1, 2)
    """
    return full_like(x, 0, dtype, device)


def full(shape: Any, fill_value: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of `shape` with `fill_value` everywhere.

    >>> import flowgraph as fg
    >>> fg.full((2,), 7).tolist()
    [7, 7]
    """
    check_device(device)
    wanted = None if dtype is None else as_dtype(dtype)
    whole = isinstance(fill_value, float | complex) and wanted is not None and wanted.kind in "biu"
    value = convert(fill_value, None if whole else wanted)
    return broadcast_to(value if dtype is None else value.astype(dtype), freeze(shape))  # type: ignore[no-any-return]


def ones(shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of `shape` with 1 everywhere, float32 unless `dtype` is given.

    >>> import flowgraph as fg
    >>> fg.ones((2, 1)).tolist()
    [[1.0], [1.0]]
    """
    return full(shape, 1, DEFAULT_FLOAT if dtype is None else dtype, device)


def zeros(shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of `shape` with 0 everywhere, float32 unless `dtype` is given.

    >>> import flowgraph as fg
    >>> fg.zeros((2,)).tolist()
    [0.0, 0.0]
    """
    return full(shape, 0, DEFAULT_FLOAT if dtype is None else dtype, device)


def empty(shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of `shape` whose elements do not matter: they are 0.

    >>> import flowgraph as fg
    >>> fg.empty((2, 3)).shape
    (2, 3)
    """
    return zeros(shape, dtype, device)


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


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, device: Any = None) -> Tensor:
    """The numbers from `start` (0 if only one is given) up to but not including `stop`, in steps of `step`.

    >>> import flowgraph as fg
    >>> fg.arange(1, 7, 2).tolist()
    [1, 3, 5]
    """
    check_device(device)
    ends = (0, start, step) if stop is None else (start, stop, step)
    given = [freeze(value) for value in ends]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in given):
        raise UsageError(f"arange{tuple(given)}", "not all of these are numbers", "Give integers or floats.")
    first, last, step = given
    if step == 0:
        raise UsageError("arange with step 0", "it would never end", "Give a step other than 0.")
    count = max(math.ceil((last - first) / step), 0)
    if dtype is None:
        pairs = zip(ends, given, strict=True)
        result = result_type(*(one if isinstance(one, Tensor) else number for one, number in pairs))
    else:
        result = as_dtype(dtype)
    pair = [scalar_array(value, result) for value in (first, step)]
    return apply(arange_op, tuple(map(convert, pair)), {"shape": (count,)})  # type: ignore[no-any-return]


def _linspace(first: Any, last: Any, endpoint: bool, at: Any) -> Any:
    start, stop, total = at[0]
    steps = np.arange(start, stop) / max(total - endpoint, 1)
    result = (first + (last - first) * steps).astype(first.dtype)
    if endpoint and start < stop == total and total > 1:
        result[-1] = last
    return result


def _linspace_gradient(g: Tensor, out: Tensor, first: Tensor, last: Tensor, endpoint: bool) -> Any:
    zero, one = (convert(np.asarray(value, g.dtype)) for value in (0, 1))
    rising = linspace_op(zero, one, shape=g.shape, endpoint=endpoint)
    return (lambda: g * (1 - rising), lambda: g * rising)  # the driver sums both to scalars


linspace_op: Op = define(
    "linspace",
    ", -> i",
    _linspace,
    attrs=lambda first, last, /, shape, endpoint=True: {"shape": checked_shape(shape), "endpoint": bool(endpoint)},
    dtype="float",
    gradient=_linspace_gradient,
    flops=3,
    samples=lambda: [
        (((), ()), {"shape": (7,)}),
        (((), ()), {"shape": (5,), "endpoint": False}),
        (((), ()), {"shape": (1,)}),
        (((), ()), {"shape": (0,)}),
    ],
    doc="As many numbers as `shape` says, evenly spaced from first to last, which is left out if not `endpoint`.",
)


def linspace(start: Any, stop: Any, num: int, dtype: Any = None, device: Any = None, endpoint: bool = True) -> Tensor:
    """`num` numbers, evenly spaced from `start` to `stop`, which is the last one if `endpoint`.

    >>> import flowgraph as fg
    >>> fg.linspace(0, 1, 3).tolist()
    [0.0, 0.5, 1.0]
    """
    check_device(device)
    ends = [convert(one, None if dtype is None else as_dtype(dtype)) for one in (start, stop)]
    if any(one.ndim for one in ends):
        raise ShapeError(f"linspace from {ends[0].type} to {ends[1].type}", "the ends are no scalars", "Give numbers.")
    result: Tensor = apply(linspace_op, tuple(ends), {"shape": (freeze(num),), "endpoint": endpoint})
    return result if dtype is None else cast(result, dtype)


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """The coordinates of a grid, one tensor for each of the vectors `arrays`.

    With `indexing="xy"` the first vector runs along axis 1, as in pictures; with "ij" each runs along its own axis.

    >>> import flowgraph as fg
    >>> [one.tolist() for one in fg.meshgrid([1, 2], [3, 4])]
    [[[1, 2], [1, 2]], [[3, 3], [4, 4]]]
    """
    vectors = [convert(one) for one in arrays]
    if indexing not in ("xy", "ij") or any(one.ndim > 1 for one in vectors):
        raise UsageError(
            f"meshgrid of {', '.join(str(one.type) for one in vectors)} with indexing={indexing!r}",
            "it takes vectors, and 'xy' or 'ij'",
            "Flatten the tensors first.",
        )
    vectors = [reshape(one, (-1,)) if one.ndim == 0 else one for one in vectors]
    count = len(vectors)
    order = [1, 0, *range(2, count)] if indexing == "xy" and count > 1 else list(range(count))
    shape = [vectors[order[axis]].shape[0] for axis in range(count)]
    placed = [
        reshape(one, tuple(one.shape[0] if axis == order[number] else 1 for axis in range(count)))
        for number, one in enumerate(vectors)
    ]
    return [broadcast_to(one, tuple(shape)) for one in placed]
