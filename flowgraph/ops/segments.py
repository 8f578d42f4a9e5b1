"""Elements put at places: scatter_nd, segment sums and their like, boolean_mask, one_hot."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert, freeze
from flowgraph.context import Hooks
from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops.comparison import equal
from flowgraph.ops.complex import conj
from flowgraph.ops.create import arange, asarray, zeros
from flowgraph.ops.differentiate import attach
from flowgraph.ops.elementwise import where
from flowgraph.ops.gather import index_tensor, nd_indices
from flowgraph.ops.picking import INDEX, gather_at, picked_shape, scatter_at, set_at
from flowgraph.ops.segment_scans import products_of_others
from flowgraph.ops.shape import broadcast_to, checked_shape, expand_dims, reshape
from flowgraph.ops.subscript import mask_positions
from flowgraph.tensor import Tensor
from flowgraph.types import DEFAULT_FLOAT, as_dtype, normal_axis, whole

__all__ = [
    "boolean_mask",
    "one_hot",
    "scatter_nd",
    "segment_max",
    "segment_mean",
    "segment_min",
    "segment_prod",
    "segment_sum",
    "tensor_scatter_nd_add",
    "tensor_scatter_nd_update",
    "unsorted_segment_max",
    "unsorted_segment_mean",
    "unsorted_segment_min",
    "unsorted_segment_prod",
    "unsorted_segment_sum",
]


def scatter_nd(indices: Any, updates: Any, shape: Any) -> Tensor:
    """A tensor of `shape` with `updates` added at the positions that stand along the last axis of `indices`.

    >>> import flowgraph as fg
    >>> fg.scatter_nd([[1], [3], [1]], fg.constant([5, 6, 7]), [4]).tolist()
    [0, 12, 0, 6]
    """
    updates = convert(updates)
    wanted = checked_shape(freeze(shape))
    return _added(zeros(wanted, updates.dtype), indices, updates, "scatter_nd")


def _placed(like: Tensor, indices: Any, updates: Tensor, what: str) -> tuple[list[Tensor], tuple[int, ...], Tensor]:
    """One index for each of the axes, and `updates` in the shape of what they name."""
    parts = nd_indices(indices, like.shape, 0, what)
    axes = tuple(range(len(parts)))
    if not parts:
        raise ShapeError(f"{what} with indices of no axis", "they name no place", "Give at least one position.")
    wanted = picked_shape(like.shape, parts[0].shape, axes)
    if updates.ndim > len(wanted):
        raise ShapeError(
            f"{what} with updates {updates.type}", f"the places have shape {wanted}", "Give one update for each."
        )
    return parts, axes, updates if updates.shape == wanted else broadcast_to(updates, wanted)


def _added(like: Tensor, indices: Any, updates: Tensor, what: str) -> Tensor:
    parts, axes, values = _placed(like, indices, updates, what)
    return scatter_at(values, like, *parts, axes=axes)  # type: ignore[no-any-return]


def tensor_scatter_nd_add(tensor: Any, indices: Any, updates: Any) -> Tensor:
    """`tensor` with `updates` added at the positions that stand along the last axis of `indices`.

    >>> import flowgraph as fg
    >>> fg.tensor_scatter_nd_add(fg.constant([1, 1, 1]), [[0], [0]], [5, 6]).tolist()
    [12, 1, 1]
    """
    tensor = convert(tensor)
    return tensor + _added(tensor, indices, asarray(updates, tensor.dtype), "tensor_scatter_nd_add")  # type: ignore[no-any-return]


def tensor_scatter_nd_update(tensor: Any, indices: Any, updates: Any) -> Tensor:
    """`tensor` with `updates` at the positions that stand along the last axis of `indices`; of equal ones the last.

    >>> import flowgraph as fg
    >>> fg.tensor_scatter_nd_update(fg.constant([1, 1, 1]), [[2], [0]], [5, 6]).tolist()
    [6, 1, 5]
    """
    tensor = convert(tensor)
    parts, axes, values = _placed(tensor, indices, asarray(updates, tensor.dtype), "tensor_scatter_nd_update")
    return set_at(tensor, values, *parts, axes=axes)  # type: ignore[no-any-return]


# Segments: rows that belong together.


def _segment_attrs(x: Any, ids: Any, /, num_segments: int, *, shape: Any = None) -> dict[str, Any]:
    if ids.dtype.kind not in "iu" or ids.ndim > x.ndim:
        raise UsageError(
            f"segments of {x} by {ids}",
            "that does not say for each row its segment",
            "Give integers, one for each row.",
        )
    (count,) = checked_shape((num_segments,))
    return {"num_segments": count, "shape": (count, *x.shape[ids.ndim :])}


def _segment_factors(types: Any, attrs: Any) -> str:
    x, ids = types
    names = [f"a{axis}" for axis in range(x.ndim)]
    return f"{' '.join(names)}, {' '.join(names[: ids.ndim])} -> {' '.join(['[s]', *names[ids.ndim :]])}"


def _reduced(ufunc: np.ufunc, first: Any, x: Any, ids: Any, num_segments: int) -> Any:
    """Rows of `first`, and in each segment that has rows what `ufunc` makes of them."""
    rows = x.reshape(ids.size, *x.shape[ids.ndim :])
    places = ids.reshape(-1)
    if places.size and places.max() >= num_segments:
        raise IndexError(f"segment {places.max()} of {num_segments}")
    result = np.full((num_segments, *rows.shape[1:]), first, x.dtype)
    order = np.argsort(places, kind="stable")
    order = order[np.searchsorted(places[order], 0) :]  # rows of negative segments are left out
    if len(order):
        starts = np.flatnonzero(np.diff(places[order], prepend=-1))
        result[places[order][starts]] = ufunc.reduceat(rows[order], starts, 0, x.dtype)
    return result


def _edge(dtype: np.dtype[Any], highest: bool) -> Any:
    """The largest or smallest number of `dtype`."""
    if dtype.kind == "b":
        return highest
    limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return limits.max if highest else limits.min


def _segment_max(x: Any, ids: Any, num_segments: int) -> Any:
    return _reduced(np.maximum, _edge(x.dtype, False), x, ids, num_segments)


def _segment_min(x: Any, ids: Any, num_segments: int) -> Any:
    return _reduced(np.minimum, _edge(x.dtype, True), x, ids, num_segments)


def _segment_prod(x: Any, ids: Any, num_segments: int) -> Any:
    return _reduced(np.multiply, 1, x, ids, num_segments)


def _of_rows(per_segment: Tensor, ids: Tensor) -> Tensor:
    """For each row the entry of its segment, and of the first one for rows that are left out."""
    return gather_at(per_segment, where(ids < 0, 0, ids), axes=(0,))  # type: ignore[no-any-return]


def _kept(ids: Tensor, like: Tensor) -> Tensor:
    """Whether each row belongs to a segment, in a shape that broadcasts to the rows."""
    more = tuple(range(ids.ndim, like.ndim))
    return expand_dims(ids >= 0, more) if more else ids >= 0


def _extreme_gradient(g: Tensor, out: Tensor, x: Tensor, ids: Tensor, num_segments: int) -> Any:
    """Equal extreme elements share the gradient."""
    hit = ((x == _of_rows(out, ids)) & _kept(ids, x)).astype(g.dtype)
    count = unsorted_segment_sum(hit, ids, num_segments)
    return (lambda: hit * _of_rows(g / where(count == 0, 1, count), ids), None)


def _others(x: Tensor, ids: Tensor, num_segments: int) -> Tensor:
    """For each element the product of the others of its segment.

    What is not 0 divided by the element, or whole where the element is the only 0. Derivatives of that are wrong at 0,
    so they are those of running products.
    """
    zero = x == 0
    safe = where(zero, 1, x)
    zeros_of = _of_rows(unsorted_segment_sum(zero.astype(INDEX), ids, num_segments), ids)
    product = _of_rows(unsorted_segment_prod(safe, ids, num_segments), ids)
    others = where(zeros_of == zero.astype(INDEX), product / safe, 0)

    def rule(g: Tensor) -> list[Tensor]:
        found: Tensor = Hooks.gradient(products_of_others(x, ids), x, g)
        return [found]

    return attach([others], [x], rule, "unsorted_segment_prod")[0]


def _prod_gradient(g: Tensor, out: Tensor, x: Tensor, ids: Tensor, num_segments: int) -> Any:
    return (lambda: where(_kept(ids, x), conj(_others(x, ids, num_segments)) * _of_rows(g, ids), 0), None)


def _segment(name: str, kernel: Any, combine: str, gradient: Any, text: str) -> Op:
    ids = np.array([2, 0, 1, -1, 0])
    return define(
        f"unsorted_segment_{name}",
        _segment_factors,
        kernel,
        attrs=_segment_attrs,
        dtype=lambda types, attrs: ((types[0].dtype, INDEX), types[0].dtype),
        combine=combine,
        gradient=gradient,
        domain=(0.5, 2.0),
        samples=lambda: [
            (((5, 3), ids), {"num_segments": 3}),
            (((5,), ids), {"num_segments": 3}),
            (((2, 2, 3), ids[:4].reshape(2, 2)), {"num_segments": 3}),
            (((0, 3), ids[:0]), {"num_segments": 0}),
        ],
        doc=(
            f"The {text} of the rows of each segment: row i belongs to segment ids[i], and to none if that is below 0. "
            "Segments without rows have the number that changes nothing."
        ),
    )


unsorted_segment_max = _segment("max", _segment_max, "maximum", _extreme_gradient, "largest")
unsorted_segment_min = _segment("min", _segment_min, "minimum", _extreme_gradient, "smallest")
unsorted_segment_prod = _segment("prod", _segment_prod, "multiply", _prod_gradient, "product")


def unsorted_segment_sum(data: Any, segment_ids: Any, num_segments: Any) -> Tensor:
    """The sum of the rows of each segment: row i belongs to segment ids[i], and to none if that is negative.

    >>> import flowgraph as fg
    >>> fg.unsorted_segment_sum(fg.constant([1, 2, 3]), [1, -1, 1], 2).tolist()
    [0, 4]
    """
    data = convert(data)
    ids = convert(segment_ids)
    attrs = _segment_attrs(data.type, ids.type, whole(num_segments, "num_segments", 0))
    known = ids.node.memo
    negative = 0 if isinstance(known, np.ndarray) and known.min(initial=0) >= 0 else 1
    if negative:  # what is left out is summed into a row of its own
        ids = where(ids < 0, 0, ids.astype(INDEX) + 1)  # of uint8 255 + 1 would be 0
    else:
        index_tensor(ids, attrs["num_segments"], "unsorted_segment_sum")
    table = zeros((attrs["num_segments"] + negative, *attrs["shape"][1:]), data.dtype)
    result = scatter_at(data, table, ids, axes=(0,))
    return result[1:] if negative else result  # type: ignore[no-any-return]


def unsorted_segment_mean(data: Any, segment_ids: Any, num_segments: Any) -> Tensor:
    """The mean of the rows of each segment, 0 where it has none: row i belongs to segment ids[i].

    >>> import flowgraph as fg
    >>> fg.unsorted_segment_mean(fg.constant([1.0, 2.0, 6.0]), [2, 0, 2], 3).tolist()
    [2.0, 0.0, 3.5]
    """
    data = convert(data)
    data = data if data.dtype.kind in "fc" else data.astype(DEFAULT_FLOAT)
    ids = convert(segment_ids)
    total = unsorted_segment_sum(data, ids, num_segments)
    count = _counts(data, ids, int(num_segments))
    return total / where(count == 0, 1, count).astype(data.dtype)  # type: ignore[no-any-return]


def _counts(data: Tensor, ids: Tensor, num_segments: int) -> Tensor:
    """The number of rows of each segment, in a shape that broadcasts to what is made of them."""
    count = unsorted_segment_sum(broadcast_to(convert(np.ones((), INDEX)), ids.shape), ids, num_segments)
    return reshape(count, (num_segments, *(1,) * (data.ndim - ids.ndim)))  # type: ignore[no-any-return]


def _sorted(ids: Any, what: str) -> tuple[Tensor, int]:
    """Ids that do not decrease, computed to see how many segments there are."""
    ids = convert(ids)
    if ids.node.symbolic:
        raise UsageError(
            f"{what} while a function is being traced",
            "how many segments there are is not known until the function runs",
            f"Use `fg.unsorted_{what}` and say how many.",
        )
    known = ids.numpy()
    if (
        known.ndim != 1
        or known.dtype.kind not in "iu"
        or (known[1:] < known[:-1]).any()
        or known[:1].min(initial=0) < 0
    ):
        raise UsageError(f"{what} by {ids.type}", "the ids are no integers from 0 on that never decrease", "Sort them.")
    return ids, int(known[-1]) + 1 if known.size else 0


def segment_sum(data: Any, segment_ids: Any) -> Tensor:
    """The sum of the rows of each segment; `segment_ids` are sorted, and computed to see how many there are.

    >>> import flowgraph as fg
    >>> fg.segment_sum(fg.constant([1, 2, 3]), [0, 0, 2]).tolist()
    [3, 0, 3]
    """
    return unsorted_segment_sum(data, *_sorted(segment_ids, "segment_sum"))


def segment_mean(data: Any, segment_ids: Any) -> Tensor:
    """The mean of the rows of each segment; `segment_ids` are sorted, and computed to see how many there are.

    >>> import flowgraph as fg
    >>> fg.segment_mean(fg.constant([1.0, 2.0, 3.0]), [0, 0, 2]).tolist()
    [1.5, 0.0, 3.0]
    """
    return unsorted_segment_mean(data, *_sorted(segment_ids, "segment_mean"))


def _filled(op: Op, data: Any, segment_ids: Any, empty: int, what: str) -> Tensor:
    """Segments by `op`, with `empty` where there are no rows."""
    data = convert(data)
    ids, count = _sorted(segment_ids, what)
    return where(_counts(data, ids, count) > 0, op(data, ids, num_segments=count), empty)  # type: ignore[no-any-return]


def segment_max(data: Any, segment_ids: Any) -> Tensor:
    """The largest of the rows of each segment, 0 where it has none; `segment_ids` are sorted, and computed.

    >>> import flowgraph as fg
    >>> fg.segment_max(fg.constant([1, 2, 3]), [0, 0, 2]).tolist()
    [2, 0, 3]
    """
    return _filled(unsorted_segment_max, data, segment_ids, 0, "segment_max")


def segment_min(data: Any, segment_ids: Any) -> Tensor:
    """The smallest of the rows of each segment, 0 where it has none; `segment_ids` are sorted, and computed.

    >>> import flowgraph as fg
    >>> fg.segment_min(fg.constant([1, 2, 3]), [0, 0, 2]).tolist()
    [1, 0, 3]
    """
    return _filled(unsorted_segment_min, data, segment_ids, 0, "segment_min")


def segment_prod(data: Any, segment_ids: Any) -> Tensor:
    """The product of the rows of each segment, 1 where it has none; `segment_ids` are sorted, and computed.

    >>> import flowgraph as fg
    >>> fg.segment_prod(fg.constant([2, 2, 3]), [0, 0, 2]).tolist()
    [4, 1, 3]
    """
    return _filled(unsorted_segment_prod, data, segment_ids, 1, "segment_prod")


# Masks and classes.


def boolean_mask(tensor: Any, mask: Any, axis: int | None = None) -> Tensor:
    """The elements of `tensor` where `mask`, which covers its axes from `axis` (None: the first) on, is true.

    The mask is computed, for the length of the result depends on it.

    >>> import flowgraph as fg
    >>> fg.boolean_mask(fg.constant([1, 2, 3]), [True, False, True]).tolist()
    [1, 3]
    """
    tensor, given = convert(tensor), convert(mask)
    at = normal_axis(0 if axis is None else axis, tensor.ndim)
    if given.dtype.kind != "b" or not given.ndim or at + given.ndim > tensor.ndim:
        raise UsageError(
            f"boolean_mask of {tensor.type} by {given.type} from axis {at}",
            "that is no mask of its axes",
            "Give a boolean tensor of the lengths of these axes.",
        )
    places = mask_positions(given, tensor.shape[at : at + given.ndim])
    return gather_at(tensor, *places, axes=tuple(range(at, at + given.ndim)))  # type: ignore[no-any-return]


def one_hot(
    indices: Any, depth: int, on_value: Any = None, off_value: Any = None, axis: int = -1, dtype: Any = None
) -> Tensor:
    """`on_value` at the place that each index names along a new `axis` of length `depth`, elsewhere `off_value`.

    The dtype is that of the values, float32 if none are given.

    >>> import flowgraph as fg
    >>> fg.one_hot(fg.constant([0, 2]), 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    given = convert(indices)
    if given.dtype.kind not in "iu":
        raise UsageError(f"one_hot of {given.type}", "places are integers", "Cast the indices to int32 or int64.")
    (length,) = checked_shape((freeze(depth),))
    at = normal_axis(axis, given.ndim + 1)
    said = [value for value in (on_value, off_value) if value is not None]
    wanted = as_dtype(dtype) if dtype is not None else convert(said[0]).dtype if said else DEFAULT_FLOAT
    on = asarray(on_value, wanted) if on_value is not None else convert(np.ones((), wanted))
    off = asarray(off_value, wanted) if off_value is not None else convert(np.zeros((), wanted))
    given = given.astype(INDEX)  # small integers could not count up to the length
    places = reshape(arange(length, dtype=INDEX), (length, *(1,) * (given.ndim - at)))
    return where(equal(expand_dims(given, at), places), on, off)  # type: ignore[no-any-return]
