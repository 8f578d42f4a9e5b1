"""Elements picked by index tensors: take, gather, embedding_lookup."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import apply, convert
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.ops.elementwise import sqrt, square, where
from flowgraph.ops.picking import INDEX, gather_at
from flowgraph.ops.reduce import sum as sum_of
from flowgraph.ops.shape import broadcast_to
from flowgraph.tensor import Tensor
from flowgraph.types import Dim, Shape, Size, normal_axis, whole

__all__ = [
    "embedding_lookup",
    "gather",
    "gather_nd",
    "take",
    "take_along_axis",
]


def index_tensor(index: Any, length: Size, what: str) -> Tensor:
    """`index` as a tensor of positions along an axis of `length`; what is known of it is checked at once."""
    tensor = convert(index)
    if tensor.size == 0 and tensor.dtype.kind == "f" and not isinstance(index, Tensor):
        tensor = tensor.astype(INDEX)  # an empty list says no dtype
    if tensor.dtype.kind not in "iu":
        raise DTypeError(f"{what} at {tensor.type}", "positions are integers", "Cast the index to int32 or int64.")
    known = tensor.node.memo
    if isinstance(known, np.ndarray) and known.size and isinstance(length, int):
        low, high = int(known.min()), int(known.max())
        if low < -length or high >= length:
            raise ShapeError(
                f"{what} at index {low if low < -length else high}",
                f"the axis has length {length}",
                f"Use {-length} to {length - 1}." if length else "There is nothing to pick.",
            )
    return tensor


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """The elements of x at `indices` along `axis`, which may be left out where x has one axis.

    >>> import flowgraph as fg
    >>> fg.take(fg.constant([[1, 2], [3, 4]]), [1, 1, 0], axis=0).tolist()
    [[3, 4], [3, 4], [1, 2]]
    """
    x = convert(x)
    if axis is None and x.ndim != 1:
        raise UsageError(f"take of {x.type}", "which axis is meant is not said", "Give axis=.")
    at = normal_axis(0 if axis is None else axis, x.ndim)
    index = index_tensor(indices, x.shape[at], f"take of {x.type}")
    return apply(gather_at, (x, index), {"axes": (at,)})  # type: ignore[no-any-return]


def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Tensor:
    """For each line of x along `axis`, its elements at the same line of `indices`; all other axes agree or are 1.

    >>> import flowgraph as fg
    >>> fg.take_along_axis(fg.constant([[1, 2], [3, 4]]), [[1], [0]]).tolist()
    [[2], [3]]
    """
    x = convert(x)
    at = normal_axis(axis, x.ndim)
    index = index_tensor(indices, x.shape[at], f"take_along_axis of {x.type}")
    if index.ndim != x.ndim:
        raise ShapeError(
            f"take_along_axis of {x.type} at {index.type}",
            "they differ in their number of axes",
            "Give an index with the axes of x.",
        )
    last = x.ndim - 1
    order = (*(k for k in range(x.ndim) if k != at), at)
    back = tuple(int(k) for k in np.argsort(order))
    lines, places = (one if at == last else one.transpose(order) for one in (x, index))
    common = common_shape([lines.shape[:-1], places.shape[:-1]])
    lines, places = (
        one if one.shape[:-1] == common else broadcast_to(one, (*common, one.shape[-1])) for one in (lines, places)
    )
    result = gather_at(lines, places, axes=(last,), batch=last)
    return result if at == last else result.transpose(back)  # type: ignore[no-any-return]


def common_shape(shapes: Any) -> Shape:
    """The shape to which `shapes` broadcast; unknown lengths meet themselves and 1.

    >>> common_shape([(3, 1), (4,)])
    (3, 4)
    """
    rank = max(map(len, shapes), default=0)
    result: list[Size] = [1] * rank
    for shape in shapes:
        for at, length in enumerate(shape, rank - len(shape)):
            if result[at] == 1:
                result[at] = length
            elif length not in (1, result[at]):
                raise ShapeError(
                    f"to broadcast shapes {' and '.join(map(str, shapes))}",
                    f"{result[at]} and {length} differ",
                    "Lengths must be equal, or 1.",
                )
    return tuple(result)


def gather(params: Any, indices: Any, axis: int | None = None, batch_dims: int = 0) -> Tensor:
    """The slices of `params` at `indices` along `axis`, as TensorFlow's gather.

    The first `batch_dims` axes belong to both. The default of `axis` is the first one behind them.

    >>> import flowgraph as fg
    >>> fg.gather(fg.constant([[1, 2], [3, 4]]), [1, 0], batch_dims=1).tolist()
    [2, 3]
    """
    params = convert(params)
    given = convert(indices)
    batch_dims = whole(batch_dims, "batch_dims")
    batch = batch_dims + given.ndim if batch_dims < 0 else batch_dims
    at = normal_axis(batch if axis is None else axis, params.ndim)
    if not 0 <= batch <= given.ndim or at < batch:
        raise UsageError(
            f"gather from {params.type} at {given.type} with batch_dims={batch_dims} and axis={axis}",
            "the batch axes come first in both, and axis is none of them",
            "Give a smaller batch_dims.",
        )
    index = index_tensor(indices, params.shape[at], f"gather from {params.type}")
    return gather_at(params, index, axes=(at,), batch=batch)  # type: ignore[no-any-return]


def nd_indices(indices: Any, shape: Shape, batch: int, what: str) -> list[Tensor]:
    """One index tensor for each position of the last axis of `indices`."""
    given = convert(indices)
    depth = given.shape[-1] if given.ndim else 0
    if not given.ndim or isinstance(depth, Dim) or not batch < given.ndim or depth + batch > len(shape):
        raise ShapeError(
            f"{what} with indices {given.type}",
            f"the last axis holds positions along the axes of shape {shape}{f' behind {batch}' if batch else ''}",
            "Give as many positions as there are axes, or fewer.",
        )
    return [index_tensor(given[..., k], shape[batch + k], what) for k in range(depth)]


def gather_nd(params: Any, indices: Any, batch_dims: int = 0) -> Tensor:
    """The slices of `params` whose positions stand along the last axis of `indices`, as TensorFlow's gather_nd.

    >>> import flowgraph as fg
    >>> fg.gather_nd(fg.constant([[1, 2], [3, 4]]), [[0, 1], [1, 0]]).tolist()
    [2, 3]
    """
    params = convert(params)
    parts = nd_indices(indices, params.shape, whole(batch_dims, "batch_dims", 0), f"gather_nd from {params.type}")
    if not parts:  # positions of no axis name the whole
        shape = convert(indices).shape[:-1]
        return broadcast_to(params, (*shape, *params.shape[batch_dims:]))  # type: ignore[no-any-return]
    axes = tuple(range(batch_dims, batch_dims + len(parts)))
    return gather_at(params, *parts, axes=axes, batch=batch_dims)  # type: ignore[no-any-return]


def embedding_lookup(params: Any, ids: Any, max_norm: float | None = None) -> Tensor:
    """The rows of the table `params` at `ids`; with `max_norm`, longer rows are scaled down to that length.

    >>> import flowgraph as fg
    >>> fg.embedding_lookup(fg.constant([[3.0, 4.0], [0.0, 1.0]]), [0, 1], max_norm=1.0).tolist()
    [[0.6, 0.8], [0.0, 1.0]]
    """
    rows = take(params, ids, axis=0)
    if max_norm is None:
        return rows
    own = tuple(range(convert(ids).ndim, rows.ndim))
    squares = sum_of(square(rows), axis=own, keepdims=True)
    long = squares > max_norm * max_norm
    return where(long, rows * (max_norm / sqrt(where(long, squares, 1))), rows)  # type: ignore[no-any-return]
