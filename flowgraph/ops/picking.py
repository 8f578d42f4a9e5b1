"""The ops behind picking and scattering elements by index tensors.

Three ops do all of it. For x of shape (n, k, m), axes (1,) and an index of shape (p, q):

    gather_at    [n, p, q, m]   the elements of x at the index
    scatter_at   [n, k, m]      zeros, with elements added at the index: the gradient of gather_at
    set_at       [n, k, m]      x, with other elements at the index

With several axes there is one index for each, all of one shape. The first `batch` axes belong to x and to the index
alike. The rows of an index may be cut; the axes that are indexed stay whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops.elementwise import where
from flowgraph.ops.shape import broadcast_like, expand_dims, size
from flowgraph.tensor import Tensor
from flowgraph.types import Dim, Shape

INDEX = np.dtype(np.int64)
"""The dtype of positions, as in numpy: tables may have more rows than 32 bits can count."""
WIDE = 1 << 16
"""A table of more rows is summed into once: partial sums for every tile of indices would each be as large as it."""


def block_at(axes: tuple[int, ...], batch: int) -> int:
    """The axis of a gathered result where those of the index begin (after the batch): numpy's rule."""
    return axes[0] if axes == tuple(range(axes[0], axes[0] + len(axes))) else batch


def _parts(x: Any, index: Any, axes: tuple[int, ...], batch: int) -> tuple[list[str], list[str], list[str]]:
    """The factors of x, of the index, and of what is gathered."""
    table = [f"b{k}" if k < batch else f"[x{k}]" if k in axes else f"a{k}" for k in range(x.ndim)]
    picked = [f"b{k}" if k < batch else f"i{k}" for k in range(index.ndim)]
    rest = [name for name in table[batch:] if name[0] != "["]
    at = block_at(axes, batch) - batch
    return table, picked, [*picked[:batch], *rest[:at], *picked[batch:], *rest[at:]]


def _checked_attrs(name: str, x: Any, indices: Any, axes: Any, batch: int) -> dict[str, Any]:
    if not indices or len(indices) != len(axes) or not set(axes) <= set(range(batch, x.ndim)):
        raise UsageError(
            f"{name} along {axes} of {x}", f"there are {len(indices)} indices", "Give one index for each axis."
        )
    for one in indices:
        if one.dtype.kind not in "iu":
            raise DTypeError(f"an index of type {one}", "positions are integers", "Cast it to int32 or int64.")
        if one.shape != indices[0].shape or one.ndim < batch:
            raise ShapeError(
                f"{name} with indices {', '.join(map(str, indices))}", "their shapes differ", "Broadcast them first."
            )
    return {"axes": tuple(axes), "batch": int(batch)}


def _inward(array: Any, axes: tuple[int, ...], batch: int) -> Any:
    """`array` with `axes` moved behind the batch."""
    return np.moveaxis(array, axes, range(batch, batch + len(axes)))


def _grids(indices: Any, batch: int) -> list[Any]:
    """The indices, and before them the positions along the batch axes, in shapes that broadcast."""
    rank = indices[0].ndim
    shape = indices[0].shape
    return [np.arange(shape[k]).reshape(-1, *(1,) * (rank - 1 - k)) for k in range(batch)] + list(indices)


def _gather_at(x: Any, *indices: Any, axes: tuple[int, ...], batch: int) -> Any:
    if batch == 0 and len(axes) == 1:
        return np.take(x, indices[0], axes[0])
    picked = _inward(x, axes, batch)[tuple(_grids(indices, batch))]
    count, at = indices[0].ndim - batch, block_at(axes, batch)
    return np.moveaxis(picked, range(batch, batch + count), range(at, at + count))


def _table_samples() -> Any:
    """Operands of gather_at: a table, its indices, and how they meet."""
    rows = np.array([[1, 0, 1], [3, -1, 0]])
    return [
        ((5, 4), (np.array([1, 0, 1, 4, -2, 1]),), {"axes": (0,)}),
        ((3, 5), (rows,), {"axes": (1,)}),
        ((5,), (rows,), {"axes": (0,)}),
        ((4, 3, 2), (np.array(2),), {"axes": (1,)}),
        ((4, 5, 3), (rows, rows[::-1]), {"axes": (0, 1)}),
        ((4, 2, 5), (rows, rows), {"axes": (0, 2)}),
        ((2, 4, 3), (rows,), {"axes": (1,), "batch": 1}),
        ((2, 3, 4), (rows,), {"axes": (2,), "batch": 2}),
        ((2, 3, 4), (rows,), {"axes": (2,), "batch": 1}),
        ((5, 4), (np.zeros((0, 2), np.int64),), {"axes": (0,)}),
        ((3, 0), (np.zeros((0,), np.int64),), {"axes": (1,)}),
    ]


def picked_shape(shape: Any, index: Any, axes: tuple[int, ...], batch: int = 0) -> Shape:
    """The shape of what is gathered."""
    rest = [length for k, length in enumerate(shape) if k >= batch and k not in axes]
    at = block_at(axes, batch) - batch
    return (*index[:batch], *rest[:at], *index[batch:], *rest[at:])


def _gather_factors(types: Any, attrs: Any) -> str:
    table, picked, result = _parts(types[0], types[1], attrs["axes"], attrs["batch"])
    return f"{', '.join([' '.join(table), *[' '.join(picked)] * len(attrs['axes'])])} -> {' '.join(result)}"


gather_at: Op = define(
    "gather_at",
    _gather_factors,
    _gather_at,
    attrs=lambda x, /, *indices, axes, batch=0: _checked_attrs("gather", x, indices, axes, batch),
    dtype=lambda types, attrs: ((types[0].dtype, *[INDEX] * (len(types) - 1)), types[0].dtype),
    gradient=lambda g, out, x, *indices, axes, batch: (
        lambda: scatter_at(g, x, *indices, axes=axes, batch=batch),
        *[None] * len(indices),
    ),
    flops=0,
    samples=lambda: [((shape, *indices), attrs) for shape, indices, attrs in _table_samples()],
    doc="The elements of x at index tensors, one for each of `axes`; the first `batch` axes are common to all.",
)


def flat_positions(indices: Any, shape: tuple[int, ...], axes: tuple[int, ...], batch: int) -> Any:
    """The row of each index in the table of all batch and indexed axes laid flat, and the number of its rows."""
    lengths = [*shape[:batch], *[shape[axis] for axis in axes]]
    places: Any = np.zeros(indices[0].shape, np.int64)
    for grid, length in zip(_grids(indices, batch), lengths, strict=True):
        low, high = grid.min(initial=0), grid.max(initial=-1)
        if low < -length or high >= length:
            raise IndexError(f"index {low if low < -length else high} is out of bounds for an axis of length {length}")
        places = places * length + (np.where(grid < 0, grid + length, grid) if low < 0 else grid)
    return places.reshape(-1), int(np.prod(lengths))


BLOCK = 1 << 20
"""The elements that are added at a time: their places are written out."""


def sum_rows(positions: Any, rows: Any, count: int) -> Any:
    """`count` rows: the sum of the given rows of each position, added one after the other.

    Element by element, for `np.add.at` is quick for vectors alone (measured: 2 to 4 times faster than by rows, or
    than sorting and `np.add.reduceat`).
    """
    width = int(np.prod(rows.shape[1:]))
    result = np.zeros(count * width, rows.dtype)
    flat, columns = rows.reshape(len(positions), width), np.arange(width)
    step = max(BLOCK // max(width, 1), 1)
    for low in range(0, len(positions), step):
        places = positions[low : low + step, None] * width + columns
        np.add.at(result, places.reshape(-1), flat[low : low + step].reshape(-1))
    return result.reshape(count, *rows.shape[1:])


def _scatter_at(values: Any, *indices: Any, axes: tuple[int, ...], batch: int, shape: tuple[int, ...]) -> Any:
    count, at = indices[0].ndim - batch, block_at(axes, batch)
    moved = np.moveaxis(values, range(at, at + count), range(batch, batch + count))
    positions, rows = flat_positions(indices, shape, axes, batch)
    rest = moved.shape[batch + count :]
    flat = moved.reshape(len(positions), *([int(np.prod(rest))] if rest else []))
    lengths = [*shape[:batch], *[shape[axis] for axis in axes]]
    result = sum_rows(positions, flat, rows).reshape(*lengths, *rest)
    return np.moveaxis(result, range(batch, batch + len(axes)), axes)


def _scatter_factors(types: Any, attrs: Any) -> str:
    _, x, *indices = types
    table, picked, result = _parts(x, indices[0], attrs["axes"], attrs["batch"])
    lengths = [x.shape[axis] for axis in attrs["axes"]]
    if any(isinstance(length, Dim) for length in lengths) or np.prod(lengths) > WIDE:
        bracket = [f"[{name}]" if name[0] == "i" else name for name in picked]
        result = [f"[{name}]" if name[0] == "i" else name for name in result]
        picked = bracket
    operands = [" ".join(result), f"~ {' '.join(table)}", *[" ".join(picked)] * len(indices)]
    return f"{', '.join(operands)} -> {' '.join(table)}"


def _scatter_samples() -> Any:
    return [
        ((picked_shape(shape, indices[0].shape, attrs["axes"], attrs.get("batch", 0)), shape, *indices), attrs)
        for shape, indices, attrs in _table_samples()
    ]


scatter_at: Op = define(
    "scatter_at",
    _scatter_factors,
    _scatter_at,
    attrs=lambda values, like, /, *indices, axes, batch=0: _checked_attrs("scatter", like, indices, axes, batch),
    dtype=lambda types, attrs: (
        (types[0].dtype, types[1].dtype, *[INDEX] * (len(types) - 2)),
        types[0].dtype,
    ),
    combine="add",
    gradient=lambda g, out, values, like, *indices, axes, batch: (
        gather_at(g, *indices, axes=axes, batch=batch),
        *[None] * (1 + len(indices)),
    ),
    samples=_scatter_samples,
    doc="Zeros of the shape of another tensor, with x added at index tensors: where indices repeat, the sum.",
)


def _set_at(x: Any, values: Any, *indices: Any, axes: tuple[int, ...], batch: int) -> Any:
    result = np.array(x, order="C")
    count, at = indices[0].ndim - batch, block_at(axes, batch)
    moved = np.moveaxis(values, range(at, at + count), range(batch, batch + count))
    _inward(result, axes, batch)[tuple(_grids(indices, batch))] = moved
    return result


def _set_factors(types: Any, attrs: Any) -> str:
    x, _, *indices = types
    table, picked, result = _parts(x, indices[0], attrs["axes"], attrs["batch"])
    picked = [f"[{name}]" if name[0] == "i" else name for name in picked]
    result = [f"[{name}]" if name[0] == "i" else name for name in result]
    operands = [" ".join(table), " ".join(result), *[" ".join(picked)] * len(indices)]
    return f"{', '.join(operands)} -> {' '.join(table)}"


def _set_gradient(
    g: Tensor, out: Tensor, x: Tensor, values: Tensor, *indices: Tensor, axes: tuple[int, ...], batch: int
) -> Any:
    def of_values() -> Tensor:
        lengths = [size(x, axes=(axis,), dtype=INDEX) for axis in axes]
        forward = [where(index < 0, index + n, index) for index, n in zip(indices, lengths, strict=True)]
        last, at = is_last(*forward, batch=batch), block_at(axes, batch)
        last = expand_dims(last, tuple(range(batch, at))) if at > batch else last
        after = values.ndim - last.ndim
        last = expand_dims(last, tuple(range(last.ndim, last.ndim + after))) if after else last
        return where(last, gather_at(g, *indices, axes=axes, batch=batch), 0)  # type: ignore[no-any-return]

    def kept() -> Tensor:
        zeros = broadcast_like(convert(np.zeros((), g.dtype)), values)
        return set_at(g, zeros, *indices, axes=axes, batch=batch)  # type: ignore[no-any-return]

    return (kept, of_values, *[None] * len(indices))


set_at: Op = define(
    "set_at",
    _set_factors,
    _set_at,
    attrs=lambda x, values, /, *indices, axes, batch=0: _checked_attrs("setting", x, indices, axes, batch),
    dtype=lambda types, attrs: ((types[0].dtype, types[0].dtype, *[INDEX] * (len(types) - 2)), types[0].dtype),
    gradient=_set_gradient,
    flops=0,
    samples=lambda: [((like, values, *indices), attrs) for (values, like, *indices), attrs in _scatter_samples()],
    doc="x with other elements at index tensors: where indices repeat, the last.",
)


def _is_last(*indices: Any, batch: int) -> Any:
    lengths = [1 + int(one.max(initial=0)) for one in _grids(indices, batch)]
    shape = tuple(lengths)
    positions, _ = flat_positions(indices, shape, tuple(range(batch, len(shape))), batch)
    result = np.zeros(positions.shape, np.bool_)
    _, first = np.unique(positions[::-1], return_index=True)
    result[len(positions) - 1 - first] = True
    return result.reshape(indices[0].shape)


def _is_last_factors(types: Any, attrs: Any) -> str:
    picked = " ".join(f"b{k}" if k < attrs["batch"] else f"[i{k}]" for k in range(types[0].ndim))
    return f"{', '.join([picked] * len(types))} -> {picked}"


is_last: Op = define(
    "is_last",
    _is_last_factors,
    _is_last,
    attrs=lambda *indices, batch=0: {"batch": int(batch)},
    dtype=lambda types, attrs: ((INDEX,) * len(types), np.dtype(np.bool_)),
    gradient=lambda g, out, *indices: (None,) * len(indices),
    samples=lambda: [
        ((np.array([1, 0, 1, 2]),), {}),
        ((np.array([[1, 0, 1], [1, 1, 1]]),), {"batch": 1}),
        ((np.array([1, 0, 1, 1]), np.array([2, 2, 2, 0])), {}),
        ((np.array(3),), {}),
        ((np.zeros((0, 2), np.int64),), {}),
    ],
    doc="Whether no later element of index tensors, which count from the front, names the same position.",
)
