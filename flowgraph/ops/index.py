"""Indexing: parts of a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import BoundsError, ShapeError, UsageError
from flowgraph.graph import Node
from flowgraph.op import Op, define
from flowgraph.ops.shape import broadcast_like
from flowgraph.types import Shape, Size, affine


def _slice_bounds(part: Any, length: Size) -> tuple[int, int, Size]:
    """(start, step, number of elements) of a slice of an axis of `length`."""
    _, start, stop, step = part
    if step == 0:
        raise UsageError("a slice with step 0", "it would never end", "Give a step other than 0.")
    if isinstance(length, int):
        begin, end, stride = slice(start, stop, step).indices(length)
        return begin, stride, len(range(begin, end, stride))
    if (start, stop, step) == (None, None, -1):
        return -1, -1, length
    begin, stride = start or 0, 1 if step is None else step
    if stride != 1 or begin < 0 or (stop is not None and stop >= 0):
        raise ShapeError(
            f"the slice {start}:{stop}:{step} of an axis of length {length}",
            "how many elements it has is not known until the program runs",
            "Slice such an axis as x[a:] or x[:-b].",
        )
    return begin, 1, affine(length.base, length.times, length.plus - begin + (stop or 0))


def _getitem_attrs(x: Any, /, key: Any) -> dict[str, Any]:
    parts = list(key)
    parts += [("slice", None, None, None)] * (x.ndim - sum(part is not None for part in parts))
    canonical: list[Any] = []
    axis = 0
    for part in parts:
        if part is None:
            canonical.append(None)
            continue
        length = x.shape[axis]
        if isinstance(part, tuple):
            start, step, count = _slice_bounds(part, length)
            whole = start == 0 and step == 1 and count == length
            canonical.append(("slice", None, None, None) if whole else part)
        elif isinstance(length, int) and not -length <= part < length:
            raise BoundsError(
                f"index {part} of an axis of length {length}", "it lies outside", f"Use {-length} to {length - 1}."
            )
        else:
            canonical.append(part)
        axis += 1
    return {"key": tuple(canonical), "shape": _sliced_shape(x.shape, canonical)}


def _sliced_shape(shape: Shape, key: Any) -> Shape:
    result: list[Size] = []
    axis = 0
    for part in key:
        if part is None:
            result.append(1)
            continue
        if isinstance(part, tuple):
            result.append(_slice_bounds(part, shape[axis])[2])
        axis += 1
    return tuple(result)


def _slice_axes(key: Any) -> tuple[str, str]:
    """The factor strings of the sliced tensor and of the slice: whole axes keep their factor, others are intervals."""
    left, right = [], []
    for number, part in enumerate(key):
        if part is None:
            right.append("1")
        elif part == ("slice", None, None, None):
            left.append(f"a{number}")
            right.append(f"a{number}")
        else:
            left.append(f"<i{number}>")
            right += [f"<o{number}>"] if isinstance(part, tuple) else []
    return " ".join(left), " ".join(right)


def numpy_key(key: Any) -> tuple[Any, ...]:
    """`key` as numpy takes it."""
    return tuple(slice(*part[1:]) if isinstance(part, tuple) else part for part in key)


def view_of(node: Node) -> bool:
    """Whether the operand of `node`, a getitem, is a known array; then the node has its value, which costs nothing.

    The node remembers its operand, whose memory it holds.
    """
    array = node.inputs[0].memo
    if not isinstance(array, np.ndarray):
        return False
    node.memo, node.depth = np.asarray(array[numpy_key(node.attr("key"))]), 0
    return True


def _key_text(key: Any) -> str:
    words = []
    for part in key:
        if isinstance(part, tuple):
            words.append(":".join("" if v is None else str(v) for v in part[1:]))
        else:
            words.append(str(part))
    return ", ".join([*words, "..."])  # with the dots a single element is an array too


getitem = define(
    "getitem",
    lambda types, attrs: " -> ".join(_slice_axes(attrs["key"])),
    lambda x, key: np.asarray(x)[numpy_key(key)],
    attrs=lambda x, /, key, shape=None: _getitem_attrs(x, key=key),
    dtype="keep",
    view=lambda types, attrs: f"{{0}}[{_key_text(attrs['key'])}]",
    gradient=lambda g, out, x, key: (scatter_slice(g, x, key=key),),
    flops=0,
    samples=lambda: [
        (((5, 4),), {"key": (("slice", None, None, None), 1)}),
        (((5, 4),), {"key": (("slice", 1, -1, 2),)}),
        (((5, 4),), {"key": (None, 2, ("slice", None, None, -1))}),
    ],
    doc="The elements of x at `key`: integers, slices, None for a new axis.",
)


def _scatter_slice(g: Any, shape: Any, key: Any) -> Any:
    result = np.zeros(shape, g.dtype)
    result[numpy_key(key)] = g
    return result


def _scatter_factors(types: Any, attrs: Any) -> str:
    whole, part = _slice_axes(attrs["key"])
    # The result has the axes of x; an interval of it is bound to x's length through the shape operand.
    return f"{part}, ~ {whole} -> {whole}"


scatter_slice: Op = define(
    "scatter_slice",
    _scatter_factors,
    _scatter_slice,
    attrs=lambda g, like, /, key: {"key": tuple(key)},
    dtype=lambda types, attrs: (tuple(one.dtype for one in types), types[0].dtype),
    gradient=lambda g, out, x, like, key: (getitem(g, key=key), None),
    flops=0,
    samples=lambda: [(((5,), (5, 4)), {"key": (("slice", None, None, None), 1)})],
    doc="Zeros of the shape of another tensor, with x at `key`.",
)


def _set_slice(x: Any, value: Any, key: Any) -> Any:
    result = np.array(x, order="C")
    result[numpy_key(key)] = value
    return result


def _set_factors(types: Any, attrs: Any) -> str:
    whole, part = _slice_axes(attrs["key"])
    return f"{whole}, {part} -> {whole}"


def _set_attrs(x: Any, value: Any, /, key: Any) -> dict[str, Any]:
    attrs = _getitem_attrs(x, key=key)
    if value.shape != attrs["shape"]:
        raise ShapeError(
            f"to set elements of {x} to {value}",
            f"the part that is named has shape {attrs['shape']}",
            "Give a value that broadcasts to it.",
        )
    return {"key": attrs["key"]}


set_slice: Op = define(
    "set_slice",
    _set_factors,
    _set_slice,
    attrs=_set_attrs,
    dtype=lambda types, attrs: ((types[0].dtype, types[0].dtype), types[0].dtype),
    gradient=lambda g, out, x, value, key: (
        lambda: set_slice(g, broadcast_like(convert(np.zeros((), g.dtype)), value), key=key),
        lambda: getitem(g, key=key),
    ),
    flops=0,
    samples=lambda: [
        (((5, 4), (5,)), {"key": (("slice", None, None, None), 1)}),
        (((5, 4), (2, 4)), {"key": (("slice", 1, -1, 2),)}),
        (((5, 4), (1, 4)), {"key": (None, 2, ("slice", None, None, -1))}),
        (((5,), (0,)), {"key": (("slice", 3, 2, None),)}),
        (((5,), ()), {"key": (-1,)}),
    ],
    doc="x with the elements at `key` replaced.",
)
