"""Operations that move or repeat elements without computing with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowgraph.apply import apply, freeze, together
from flowgraph.errors import DTypeError, GradientError, ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops import rules
from flowgraph.tensor import Tensor
from flowgraph.types import (
    DEFAULT_INT,
    Dim,
    Shape,
    Size,
    affine,
    as_dtype,
    is_count,
    normal_axes,
    normal_axis,
    product,
)

__all__ = [
    "broadcast_to",
    "concat",
    "expand_dims",
    "reshape",
    "size",
    "squeeze",
    "transpose",
]


def factor_names(count: int, letter: str = "a") -> list[str]:
    """Names for `count` factors: a0, a1, ..."""
    return [f"{letter}{index}" for index in range(count)]


def checked_shape(shape: Any, lowest: int = 0) -> Shape:
    """`shape`, a length or a tuple of them, as a tuple; raises UsageError for what is no length."""
    lengths = shape if isinstance(shape, tuple) else (shape,)
    for length in lengths:
        if isinstance(length, Dim):
            continue
        if not is_count(length, lowest):
            raise UsageError(f"shape {shape}", f"{length!r} is no length", "A shape is a tuple of integers from 0 on.")
    return lengths


# transpose


def _transpose_attrs(x: Any, /, axes: Any = None) -> dict[str, Any]:
    given = axes if isinstance(axes, tuple) or axes is None else (axes,)
    order = tuple(reversed(range(x.ndim))) if given is None else tuple(normal_axis(axis, x.ndim) for axis in given)
    if sorted(order) != list(range(x.ndim)):
        raise UsageError(f"axes={axes} for {x}", "not every axis is named once", "Name each axis exactly once.")
    return {"axes": order}


transpose: Op = define(
    "transpose",
    lambda types, attrs: f"{' '.join(factor_names(types[0].ndim))} -> {' '.join(f'a{axis}' for axis in attrs['axes'])}",
    np.transpose,
    attrs=_transpose_attrs,
    dtype="keep",
    view=lambda types, attrs: "{0}.T" if attrs["axes"] == (1, 0) else f"{{0}}.transpose({attrs['axes']})",
    gradient=lambda g, out, x, axes: (transpose(g, axes=tuple(int(axis) for axis in np.argsort(axes))),),
    flops=0,
    samples=lambda: [(((3, 4),), {}), (((2, 3, 4),), {"axes": (1, 2, 0)})],
    doc="x with its axes in the order `axes` (reversed if None).",
)

# reshape


def _reshape_attrs(x: Any, /, shape: Any, copy: bool | None = None) -> dict[str, Any]:
    lengths = list(checked_shape(freeze(shape), lowest=-1))
    total = product(x.shape)
    if lengths.count(-1) == 1:
        rest = product(tuple(length for length in lengths if isinstance(length, Dim) or length != -1))
        lengths[lengths.index(-1)] = _quotient(total, rest, x, shape)
    if -1 in lengths or product(tuple(lengths)) != total:
        raise ShapeError(
            f"{x} in shape {tuple(shape) if isinstance(shape, tuple | list) else shape}",
            f"it has {total} elements, the shape has {'two lengths -1' if -1 in lengths else product(tuple(lengths))}",
            "Give lengths whose product is the number of elements; one of them may be -1.",
        )
    return {"shape": tuple(lengths)}


def _quotient(total: Size, rest: Size, x: Any, shape: Any) -> Size:
    error = ShapeError(
        f"{x} in shape {shape}",
        f"{total} elements do not divide into parts of {rest}",
        "Give lengths whose product divides the number of elements.",
    )
    if isinstance(rest, Dim):
        if isinstance(total, Dim) and total.base is rest.base and not total.plus and total.times % rest.times == 0:
            return total.times // rest.times
        raise error
    times = total.times if isinstance(total, Dim) else total
    if rest == 0 or times % rest or (isinstance(total, Dim) and total.plus):
        raise error
    return affine(total.base, times // rest) if isinstance(total, Dim) else times // rest


def reshape_factors(source: Shape, target: Shape) -> str:
    """The factor string of a reshape: axes are matched from the left in the smallest groups of equal product.

    >>> reshape_factors((6, 4), (2, 3, 4))
    '(c0 c1) c2 -> c0 c1 c2'
    """
    left: list[str] = []
    right: list[str] = []
    if 0 in source:  # products no longer tell which axes belong together, and there is nothing to cut
        names = [f"[c{axis}]" for axis in range(len(source) + len(target))]
        return f"{' '.join(names[: len(source)])} -> {' '.join(names[len(source) :])}"
    i = j = number = 0
    while i < len(source) or j < len(target):
        i_end, j_end = i + (i < len(source)), j + (j < len(target))
        while product(source[i:i_end]) != product(target[j:j_end]):
            a, b = product(source[i:i_end]), product(target[j:j_end])
            if (j_end < len(target) and _smaller(b, a)) or i_end == len(source):
                j_end += 1
            else:
                i_end += 1
        ones_i = [k for k in range(i, i_end) if source[k] == 1]
        ones_j = [k for k in range(j, j_end) if target[k] == 1]
        real_i = [k for k in range(i, i_end) if k not in ones_i]
        real_j = [k for k in range(j, j_end) if k not in ones_j]
        if len(real_i) <= 1 or len(real_j) <= 1:
            parts = [f"c{number + k}" for k in range(max(len(real_i), len(real_j)))]
            number += len(parts)
            left += _group(range(i, i_end), ones_i, parts, len(real_i))
            right += _group(range(j, j_end), ones_j, parts, len(real_j))
        else:  # the axes do not nest: all stay whole
            for side, count in ((left, i_end - i), (right, j_end - j)):
                side += [f"[c{number + k}]" for k in range(count)]
                number += count
        i, j = i_end, j_end
    return f"{' '.join(left)} -> {' '.join(right)}"


def _smaller(a: Size, b: Size) -> bool:
    """Whether `a` elements are fewer than `b`; an unknown length counts as large."""
    key = [(1, v.times) if isinstance(v, Dim) else (0, v) for v in (a, b)]
    return key[0] < key[1]


def _group(axes: range, ones: list[int], parts: list[str], real: int) -> list[str]:
    if real == len(parts):
        rest = iter(parts)
        return ["1" if axis in ones else next(rest) for axis in axes]
    whole = f"({' '.join(parts)})" if len(parts) > 1 else "".join(parts)
    return ["1" if axis in ones else whole for axis in axes]


reshape: Op = define(
    "reshape",
    lambda types, attrs: reshape_factors(types[0].shape, attrs["shape"]),
    np.reshape,
    attrs=_reshape_attrs,
    dtype="keep",
    view=lambda types, attrs: "{0}.reshape({shape})",
    gradient=lambda g, out, x, shape: (reshape(g, x.shape),),
    flops=0,
    samples=lambda: [(((6, 4),), {"shape": (2, 3, 4)}), (((6, 4),), {"shape": (-1,)}), (((6, 4),), {"shape": (8, 3)})],
    doc="x with the same elements in `shape`; one length may be -1.",
)

# expand_dims and squeeze


def _expand_attrs(x: Any, /, axis: Any = 0) -> dict[str, Any]:
    count = len(axis) if isinstance(axis, tuple) else 1
    return {"axis": normal_axes(axis, x.ndim + count)}


def _expand_factors(types: Any, attrs: Any) -> str:
    rest = iter(factor_names(types[0].ndim))
    result = ["1" if axis in attrs["axis"] else next(rest) for axis in range(types[0].ndim + len(attrs["axis"]))]
    return f"{' '.join(factor_names(types[0].ndim))} -> {' '.join(result)}"


def _expand_view(types: Any, attrs: Any) -> str:
    rank = types[0].ndim + len(attrs["axis"])
    return f"{{0}}[{', '.join('None' if axis in attrs['axis'] else ':' for axis in range(rank))}]"


expand_dims = define(
    "expand_dims",
    _expand_factors,
    np.expand_dims,
    attrs=_expand_attrs,
    dtype="keep",
    view=_expand_view,
    gradient=lambda g, out, x, axis: (squeeze(g, axis),),
    flops=0,
    samples=lambda: [(((3, 4),), {"axis": 1}), (((3, 4),), {"axis": (0, -1)})],
    doc="x with a new axis of length 1 at position `axis` of the result.",
)


def _squeeze_attrs(x: Any, /, axis: Any = None) -> dict[str, Any]:
    axes = tuple(i for i, length in enumerate(x.shape) if length == 1) if axis is None else normal_axes(axis, x.ndim)
    for one in axes:
        if x.shape[one] != 1:
            raise ShapeError(
                f"squeeze axis {one} of {x}", f"its length is {x.shape[one]}, not 1", "Only axes of length 1 go away."
            )
    return {"axis": axes}


def _squeeze_factors(types: Any, attrs: Any) -> str:
    names = ["1" if axis in attrs["axis"] else f"a{axis}" for axis in range(types[0].ndim)]
    return f"{' '.join(names)} -> {' '.join(name for i, name in enumerate(names) if i not in attrs['axis'])}"


def _squeeze_view(types: Any, attrs: Any) -> str:
    key = ", ".join("0" if axis in attrs["axis"] else ":" for axis in range(types[0].ndim))
    return f"{{0}}[{key}, ...]" if key else "{0}"  # without the dots a scalar would come out as no array


squeeze: Op = define(
    "squeeze",
    _squeeze_factors,
    np.squeeze,
    attrs=_squeeze_attrs,
    dtype="keep",
    view=_squeeze_view,
    gradient=lambda g, out, x, axis: (expand_dims(g, axis) if axis else g,),
    flops=0,
    samples=lambda: [(((3, 1, 4),), {}), (((1, 4, 1),), {"axis": -1})],
    doc="x without the axes of length 1 named by `axis` (all of them if None).",
)

# broadcasting


def _stretch_factors(rank: int, source: Shape, target: Shape) -> list[str]:
    offset = len(target) - rank
    if offset < 0:
        raise ShapeError(
            f"to broadcast shape {source} to {target}", "the target has fewer axes", "Give a shape with more axes."
        )
    return [
        "1" if length == 1 and target[axis + offset] != 1 else f"a{axis + offset}" for axis, length in enumerate(source)
    ]


broadcast_to = define(
    "broadcast_to",
    lambda types, attrs: (
        f"{' '.join(_stretch_factors(types[0].ndim, types[0].shape, attrs['shape']))}"
        f" -> {' '.join(factor_names(len(attrs['shape'])))}"
    ),
    np.broadcast_to,
    attrs=lambda x, /, shape: {"shape": checked_shape(freeze(shape))},
    dtype="keep",
    view=lambda types, attrs: "broadcast_to({0}, {shape})",
    gradient=lambda g, out, x, shape: (g,),  # the driver sums it back to the shape of x
    flops=0,
    samples=lambda: [(((4,),), {"shape": (3, 4)}), (((3, 1),), {"shape": (2, 3, 4)})],
    doc="x repeated to `shape` without being copied.",
)
broadcast_like = define(
    "broadcast_like",
    lambda types, attrs: (
        f"{' '.join(_stretch_factors(types[0].ndim, types[0].shape, types[1].shape))},"
        f" ~ {' '.join(factor_names(types[1].ndim))} -> {' '.join(factor_names(types[1].ndim))}"
    ),
    np.broadcast_to,
    dtype=lambda types, attrs: (tuple(one.dtype for one in types), types[0].dtype),
    view=lambda types, attrs: "broadcast_to({0}, {shape})",
    gradient=lambda g, out, x, like: (g, None),
    flops=0,
    samples=lambda: [(((4,), (3, 4)), {}), (((), (3, 4)), {})],
    doc="x repeated to the shape of another tensor, whose values are not read.",
)


def _size_attrs(x: Any, /, axes: Any = None, dtype: Any = DEFAULT_INT) -> dict[str, Any]:
    return {"axes": normal_axes(axes, x.ndim), "dtype": as_dtype(dtype)}


size = define(
    "size",
    lambda types, attrs: f"~ {' '.join(factor_names(types[0].ndim))} ->",
    lambda operand_shapes, axes, dtype: np.asarray(math.prod(operand_shapes[0][axis] for axis in axes), dtype),
    attrs=_size_attrs,
    dtype=lambda types, attrs: ((types[0].dtype,), attrs["dtype"]),
    gradient=lambda g, out, x: (None,),
    flops=0,
    samples=lambda: [(((3, 4),), {}), (((3, 4),), {"axes": (0,)})],
    doc="The number of elements along `axes` (all if None), as a scalar of `dtype`; no element is read.",
)

# concat


def _concat_attrs(*types: Any, axis: int = 0, shape: Any = None) -> dict[str, Any]:
    if not types:
        raise UsageError("concat of no tensors", "there is nothing to join", "Give at least one tensor.")
    at = normal_axis(axis, types[0].ndim)
    for one in types[1:]:
        if one.ndim != types[0].ndim:
            raise ShapeError(
                f"concat of {', '.join(map(str, types))}", "they differ in their number of axes", "Reshape them first."
            )
    return {"axis": at, "shape": _joined([one.shape for one in types], at)}


def _joined(shapes: list[Shape], axis: int) -> Shape:
    plus = sum(shape[axis] if isinstance(shape[axis], int) else shape[axis].plus for shape in shapes)  # type: ignore[union-attr,misc]
    dims = [length for shape in shapes if isinstance(length := shape[axis], Dim)]
    if len({dim.base for dim in dims}) > 1:
        raise ShapeError(
            f"to join axes of lengths {', '.join(str(shape[axis]) for shape in shapes)}",
            "more than one of them is unknown",
            "Give the lengths as numbers.",
        )
    total: Size = affine(dims[0].base, sum(dim.times for dim in dims), plus) if dims else plus
    return (*shapes[0][:axis], total, *shapes[0][axis + 1 :])


def _concat_factors(types: Any, attrs: Any) -> str:
    names = factor_names(types[0].ndim)
    parts = [
        " ".join(f"<o{number}>" if axis == attrs["axis"] else name for axis, name in enumerate(names))
        for number in range(len(types))
    ]
    return f"{', '.join(parts)} -> {' '.join('<o>' if a == attrs['axis'] else n for a, n in enumerate(names))}"


def _common_dtype(types: Any, attrs: Any) -> Any:
    common = rules.common(types)
    return (common,) * len(types), common


def numbers_dtype(types: Any, attrs: Any) -> Any:
    """The dtype rule of ops that promote their operands and take no booleans."""
    casts, common = _common_dtype(types, attrs)
    if common.kind == "b":
        raise DTypeError("arithmetic with booleans", "all operands are bool", "Cast one of them with `fg.cast`.")
    return casts, common


def _concat_gradient(g: Tensor, out: Tensor, *xs: Tensor, axis: int) -> Any:
    grads, start = [], 0
    for x in xs:
        length = x.shape[axis]
        if isinstance(length, Dim):
            raise GradientError(
                f"the gradient of concat along axis {axis}",
                f"the length {length} of that axis is not known yet",
                "Give the lengths as numbers.",
            )
        grads.append(g[(slice(None),) * axis + (slice(start, start + length),)])
        start += length
    return tuple(grads)


concat_op = define(
    "concat",
    _concat_factors,
    lambda *xs, axis: np.concatenate(xs, axis),
    attrs=_concat_attrs,
    dtype=_common_dtype,
    gradient=_concat_gradient,
    flops=0,
    samples=lambda: [(((3, 4), (2, 4)), {"axis": 0}), (((3, 4), (3, 1), (3, 2)), {"axis": -1})],
    doc="Tensors joined along `axis`.",
)


def concat(tensors: Any, axis: int | None = 0) -> Tensor:
    """The tensors of a list joined along `axis`, all other lengths agreeing; with None, flattened and joined.

    >>> import flowgraph as fg
    >>> fg.concat([fg.constant([1, 2]), fg.constant([3])]).tolist()
    [1, 2, 3]
    """
    if not hasattr(tensors, "__iter__"):
        raise UsageError(f"concat({tensors!r})", "that is no list of tensors", "Give a list: fg.concat([x, y]).")
    parts = [one if axis is not None else reshape(one, (-1,)) for one in together(tensors)]
    return apply(concat_op, tuple(parts), {"axis": axis or 0})  # type: ignore[no-any-return]
