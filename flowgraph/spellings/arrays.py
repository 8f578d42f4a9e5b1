"""Functions with TensorFlow's arguments where flowgraph's take others: making, arranging and searching tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import UsageError
from flowgraph.ops import (
    create,
    gather as picking,
    linalg,
    matrices,
    rearrange,
    segments,
    sets,
    shape as shapes,
    sorting,
)
from flowgraph.ops.elementwise import where as select
from flowgraph.tensor import Tensor
from flowgraph.types import as_dtype, listed


def convert_to_tensor(value: Any, dtype: Any = None, dtype_hint: Any = None, name: str | None = None) -> Tensor:
    """`value` as a tensor; tensors as they are. A dtype hint is not needed and says nothing.

    >>> import flowgraph as fg
    >>> fg.convert_to_tensor([1, 2]).tolist()
    [1, 2]
    """
    return convert(value) if dtype is None else create.constant(value, dtype) if _plain(value) else cast(value, dtype)


def _plain(value: Any) -> bool:
    return not isinstance(value, Tensor) and not hasattr(value, "__flowgraph_tensor__")


def cast(x: Any, dtype: Any, name: str | None = None) -> Tensor:
    """`x` with elements of `dtype`."""
    return create.cast(x, dtype)


def is_tensor(x: Any) -> bool:
    """Whether `x` is a tensor or a variable of flowgraph.

    >>> import flowgraph as fg
    >>> fg.is_tensor(fg.ones(2)), fg.is_tensor([1.0])
    (True, False)
    """
    return not _plain(x)


def shape(input: Any, out_type: Any = np.int32, name: str | None = None) -> Tensor:
    """The shape of `input`, as a tensor.

    >>> import flowgraph as fg
    >>> fg.shape(fg.ones((2, 3))).tolist()
    [2, 3]
    """
    x = convert(input)
    lengths = [shapes.size(x, axes=(axis,), dtype=as_dtype(out_type)) for axis in range_(x.ndim)]
    return rearrange.stack(lengths) if lengths else create.zeros((0,), out_type)


def size(input: Any, out_type: Any = np.int32, name: str | None = None) -> Tensor:
    """The number of elements of `input`.

    >>> import flowgraph as fg
    >>> int(fg.compat.v2.size(fg.ones((2, 3))))
    6
    """
    return shapes.size(convert(input), dtype=as_dtype(out_type))  # type: ignore[no-any-return]


def rank(input: Any, name: str | None = None) -> Tensor:
    """The number of axes of `input`.

    >>> import flowgraph as fg
    >>> int(fg.rank(fg.ones((2, 3))))
    2
    """
    return create.constant(convert(input).ndim, np.int32)


range_ = range


def range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str | None = None) -> Tensor:
    """The numbers from `start` (0 where only one is given) up to `limit`, without it, in steps of `delta`.

    >>> import flowgraph as fg
    >>> fg.range(3).tolist(), fg.range(start=3, limit=9, delta=3).tolist()
    ([0, 1, 2], [3, 6])
    """
    return create.arange(start, limit, delta, dtype)


def fill(dims: Any, value: Any, name: str | None = None) -> Tensor:
    """A tensor of shape `dims` with `value` everywhere.

    >>> import flowgraph as fg
    >>> fg.fill([2], 7).tolist()
    [7, 7]
    """
    return create.full(dims if _plain(dims) else listed(convert(dims).tolist(), "dims"), value)


def eye(
    num_rows: int, num_columns: int | None = None, batch_shape: Any = None, dtype: Any = np.float32, name: Any = None
) -> Tensor:
    """The identity matrix, or as many of them as `batch_shape` says.

    >>> import flowgraph as fg
    >>> fg.compat.v2.eye(1, num_columns=2, batch_shape=[2]).tolist()
    [[[1.0, 0.0]], [[1.0, 0.0]]]
    """
    matrix = matrices.eye(num_rows, num_columns, dtype=dtype)
    return matrix if batch_shape is None else shapes.broadcast_to(matrix, (*batch_shape, *matrix.shape))


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Tensor:
    """`tensor` backwards along the axes in `axis`.

    >>> import flowgraph as fg
    >>> fg.compat.v2.reverse([1, 2, 3], axis=[0]).tolist()
    [3, 2, 1]
    """
    return rearrange.flip(tensor, axis=axis if isinstance(axis, int) else tuple(axis))


def unstack(value: Any, num: int | None = None, axis: int = 0, name: str | None = None) -> list[Tensor]:
    """The slices of `value` along `axis`, as a list; `num`, where given, is how many there must be.

    >>> import flowgraph as fg
    >>> [one.tolist() for one in fg.compat.v2.unstack([[1, 2], [3, 4]], axis=1)]
    [[1, 3], [2, 4]]
    """
    found = list(rearrange.unstack(convert(value), axis=axis))
    if num is not None and num != len(found):
        raise UsageError(f"unstack with num={num}", f"there are {len(found)} slices", "Leave `num` out.")
    return found


def transpose(
    a: Any, perm: Any = None, conjugate: bool = False, name: str | None = None, *, axes: Any = None
) -> Tensor:
    """`a` with its axes in the order `perm`, by default reversed; complex conjugated if `conjugate`.

    `axes` is flowgraph's word for `perm`.

    >>> import flowgraph as fg
    >>> fg.compat.v2.transpose(a=[[1, 2]], perm=[1, 0]).tolist()
    [[1], [2]]
    """
    found: Tensor = shapes.transpose(a, axes=axes if perm is None else perm, name=name)
    return _conjugate(found) if conjugate else found


def _conjugate(x: Tensor) -> Tensor:
    from flowgraph.ops.complex import conj

    return conj(x) if x.dtype.kind == "c" else x


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """`x` where `condition` is true, else `y`; without both the places where it is true, one row each.

    >>> import flowgraph as fg
    >>> fg.compat.v2.where([False, True]).tolist(), fg.compat.v2.where([False, True], x=1, y=2).tolist()
    ([[1]], [2, 1])
    """
    if x is not None and y is not None:
        return select(condition, x, y, name=name)  # type: ignore[no-any-return]
    if x is not None or y is not None:
        raise UsageError("where with one of x and y", "both are needed for a choice", "Give both or none.")
    places = sets.nonzero(condition)
    return rearrange.stack([create.cast(one, np.int64) for one in places], axis=1)


def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    name: str | None = None,
) -> Tensor:
    """The product of the matrices `a` and `b`, each transposed, or transposed and conjugated, if so asked.

    >>> import flowgraph as fg
    >>> fg.compat.v2.matmul([[1.0, 2.0]], [[3.0, 4.0]], transpose_b=True).tolist()
    [[11.0]]
    """
    for asked in ((transpose_a, adjoint_a), (transpose_b, adjoint_b)):
        if all(asked):
            raise UsageError("matmul of a matrix transposed and adjoint", "it is one or the other", "Ask for one.")
    left = linalg.matrix_transpose(a) if transpose_a else adjoint(a) if adjoint_a else a
    right = linalg.matrix_transpose(b) if transpose_b else adjoint(b) if adjoint_b else b
    return linalg.matmul(left, right, name=name)  # type: ignore[no-any-return]


def matrix_transpose(a: Any, name: str | None = None, conjugate: bool = False) -> Tensor:
    """The transposes of the matrices in the last two axes; complex conjugated if `conjugate`.

    >>> import flowgraph as fg
    >>> fg.compat.v2.linalg.matrix_transpose([[1j]], conjugate=True).tolist()
    [[-1j]]
    """
    return adjoint(a) if conjugate else linalg.matrix_transpose(a)


def adjoint(matrix: Any, name: str | None = None) -> Tensor:
    """The matrices of `matrix`, transposed and complex conjugated.

    >>> import flowgraph as fg
    >>> fg.linalg.adjoint([[1.0, 2.0]]).tolist()
    [[1.0], [2.0]]
    """
    return _conjugate(linalg.matrix_transpose(convert(matrix)))


def argmax(input: Any, axis: Any = 0, output_type: Any = np.int64, name: str | None = None) -> Tensor:
    """The place of the largest element along `axis`, which is the first one by default.

    >>> import flowgraph as fg
    >>> fg.math.argmax([[1, 5], [3, 2]]).tolist()
    [1, 0]
    """
    return create.cast(sorting.argmax(input, axis=0 if axis is None else axis), output_type)


def argmin(input: Any, axis: Any = 0, output_type: Any = np.int64, name: str | None = None) -> Tensor:
    """The place of the smallest element along `axis`, which is the first one by default.

    >>> import flowgraph as fg
    >>> fg.math.argmin([[1, 5], [3, 2]]).tolist()
    [0, 1]
    """
    return create.cast(sorting.argmin(input, axis=0 if axis is None else axis), output_type)


def _descending(direction: str) -> bool:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise UsageError(f"direction={direction!r}", "it is not known", "Say 'ASCENDING' or 'DESCENDING'.")
    return direction == "DESCENDING"


def sort(values: Any, axis: int = -1, direction: str = "ASCENDING", name: str | None = None) -> Tensor:
    """`values` in order along `axis`; `direction` is "ASCENDING" or "DESCENDING".

    >>> import flowgraph as fg
    >>> fg.compat.v2.sort([1, 3, 2], direction="DESCENDING").tolist()
    [3, 2, 1]
    """
    return sorting.sort(values, axis=axis, descending=_descending(direction))  # type: ignore[no-any-return]


def argsort(
    values: Any, axis: int = -1, direction: str = "ASCENDING", stable: bool = False, name: str | None = None
) -> Tensor:
    """The places of the elements of `values` in order along `axis`, as int32; equal ones keep their order.

    >>> import flowgraph as fg
    >>> fg.compat.v2.argsort([1, 3, 2], direction="DESCENDING").tolist()
    [1, 2, 0]
    """
    return create.cast(sorting.argsort(values, axis=axis, descending=_descending(direction)), np.int32)


class Unique(NamedTuple):
    """The unique elements, and for each element its place among them."""

    y: Tensor
    idx: Tensor


class UniqueWithCounts(NamedTuple):
    """The unique elements, for each element its place among them, and how often each occurs."""

    y: Tensor
    idx: Tensor
    count: Tensor  # type: ignore[assignment]


def unique_with_counts(x: Any, out_idx: Any = np.int32, name: str | None = None) -> UniqueWithCounts:
    """The unique elements of `x` in the order in which they first occur, where each went, and how often each occurs.

    >>> import flowgraph as fg
    >>> [one.tolist() for one in fg.unique_with_counts([3, 1, 3])]
    [[3, 1], [0, 1, 0], [2, 1]]
    """
    found = sets.unique_all(x)
    order = sorting.argsort(found.indices)
    places = picking.take(sorting.argsort(order), found.inverse_indices)
    return UniqueWithCounts(
        picking.take(found.values, order),
        create.cast(places, out_idx),
        create.cast(picking.take(found.counts, order), out_idx),
    )


def unique(x: Any, out_idx: Any = np.int32, name: str | None = None) -> Unique:
    """The unique elements of `x` in the order in which they first occur, and where each element went.

    >>> import flowgraph as fg
    >>> [one.tolist() for one in fg.unique([3, 1, 3])]
    [[3, 1], [0, 1, 0]]
    """
    found = unique_with_counts(x, out_idx)
    return Unique(found.y, found.idx)


def searchsorted(
    sorted_sequence: Any, values: Any, side: str = "left", out_type: Any = np.int32, name: str | None = None
) -> Tensor:
    """Where `values` would stand in `sorted_sequence`.

    >>> import flowgraph as fg
    >>> fg.compat.v2.searchsorted([1, 3, 5], values=[2, 9]).tolist()
    [1, 3]
    """
    return create.cast(sorting.searchsorted(sorted_sequence, values, side=side), out_type)


def one_hot(
    indices: Any,
    depth: int,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Tensor:
    """Vectors of length `depth` with `on_value` at `indices` and `off_value` elsewhere, along a new `axis`.

    >>> import flowgraph as fg
    >>> fg.compat.v2.one_hot(indices=[1], depth=3).tolist()
    [[0.0, 1.0, 0.0]]
    """
    return segments.one_hot(indices, depth, on_value, off_value, -1 if axis is None else axis, dtype)


def gather(
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    axis: int | None = None,
    batch_dims: int = 0,
    name: str | None = None,
) -> Tensor:
    """The slices of `params` at `indices` along `axis`. `validate_indices` is TensorFlow's and says nothing.

    >>> import flowgraph as fg
    >>> fg.compat.v2.gather(params=[5, 6, 7], indices=[2, 0], axis=0).tolist()
    [7, 5]
    """
    return picking.gather(params, indices, axis, batch_dims)
