"""Elements in another order: stack, split, flip, roll, repeat, tile."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from flowgraph.apply import convert, freeze, together
from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops.gather import common_shape, take
from flowgraph.ops.scanning import along
from flowgraph.ops.shape import broadcast_to, concat, expand_dims, factor_names, reshape, transpose
from flowgraph.tensor import Tensor
from flowgraph.types import Dim, Size, listed, normal_axes, normal_axis, product, whole

__all__ = [
    "broadcast_arrays",
    "flip",
    "moveaxis",
    "permute_dims",
    "repeat",
    "roll",
    "split",
    "stack",
    "tile",
    "unstack",
]

# Joined and taken apart.


def stack(tensors: Any, axis: int = 0) -> Tensor:
    """The tensors of a list, all of one shape, joined along a new `axis`.

    >>> import flowgraph as fg
    >>> fg.stack([fg.constant([1, 2]), fg.constant([3, 4])], axis=1).tolist()
    [[1, 3], [2, 4]]
    """
    if isinstance(tensors, Tensor) or not hasattr(tensors, "__iter__"):
        raise UsageError(f"stack({tensors!r})", "that is no list of tensors", "Give a list: fg.stack([x, y]).")
    parts = together(tensors)
    if not parts:
        raise UsageError("stack of no tensors", "there is nothing to join", "Give at least one tensor.")
    for one in parts[1:]:
        if one.shape != parts[0].shape:
            raise ShapeError(
                f"stack of {parts[0].type} and {one.type}", "their shapes differ", "Give tensors of one shape."
            )
    at = normal_axis(axis, parts[0].ndim + 1)
    return concat([expand_dims(one, at) for one in parts], axis=at)


def _known_length(x: Tensor, axis: int, what: str) -> int:
    length = x.shape[axis]
    if isinstance(length, Dim):
        raise ShapeError(
            f"{what} of {x.type} along axis {axis}", f"its length {length} is not known yet", "Choose another axis."
        )
    return length


def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of `x` along `axis`, each without that axis.

    >>> import flowgraph as fg
    >>> [int(one) for one in fg.unstack(fg.constant([1, 2]))]
    [1, 2]
    """
    x = convert(x)
    at = normal_axis(axis, x.ndim)
    return tuple(x[(*(slice(None),) * at, k)] for k in range(_known_length(x, at, "unstack")))


def split(value: Any, num_or_size_splits: Any, axis: int = 0) -> list[Tensor]:
    """`value` cut along `axis` into that many equal parts, or into parts of given sizes, of which one may be -1.

    >>> import flowgraph as fg
    >>> [one.tolist() for one in fg.split(fg.constant([1, 2, 3]), [1, -1])]
    [[1], [2, 3]]
    """
    x = convert(value)
    at = normal_axis(axis, x.ndim)
    length = _known_length(x, at, "split")
    asked = freeze(num_or_size_splits)
    if isinstance(asked, tuple):
        asked = tuple(whole(one, "a size of split", -1) for one in asked)
        rest = length - sum(size for size in asked if size != -1)
        sizes = [rest if size == -1 else size for size in asked]
        fits = asked.count(-1) <= 1 and sum(sizes) == length and all(size >= 0 for size in sizes)
    else:
        asked = whole(asked, "num_or_size_splits")
        fits = asked > 0 and length % asked == 0
        sizes = [length // asked] * asked if fits else []
    if not fits:
        raise ShapeError(
            f"split of an axis of length {length} into {asked}", "that does not come out even", "Give other sizes."
        )
    ends = np.cumsum([0, *sizes]).tolist()
    return [x[along(at, slice(start, stop))] for start, stop in itertools.pairwise(ends)]


# The same elements in another order.


def flip(x: Any, axis: Any = None) -> Tensor:
    """`x` with its elements in reverse order along `axis`: an int, a tuple of ints, or None for all axes.

    >>> import flowgraph as fg
    >>> fg.flip(fg.constant([1, 2, 3])).tolist()
    [3, 2, 1]
    """
    given = convert(x)
    axes = normal_axes(axis, given.ndim)
    return given[tuple(slice(None, None, -1) if k in axes else slice(None) for k in range(given.ndim))]


def _roll_attrs(x: Any, /, shift: Any, axis: Any = None) -> dict[str, Any]:
    if axis is None:
        if not isinstance(shift, int):
            raise UsageError(f"roll by {shift}", "which axes are meant is not said", "Give axis=.")
        return {"shift": shift, "axis": None}
    axes = axis if isinstance(axis, tuple) else (axis,)
    shifts = shift if isinstance(shift, tuple) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise UsageError(f"roll by {shift} along {axis}", "there must be a shift for each axis", "Give as many.")
    return {"shift": shifts, "axis": tuple(normal_axis(one, x.ndim) for one in axes)}


def _roll_factors(types: Any, attrs: Any) -> str:
    moved = range(types[0].ndim) if attrs["axis"] is None else attrs["axis"]
    names = [f"[{name}]" if k in moved else name for k, name in enumerate(factor_names(types[0].ndim))]
    return f"{' '.join(names)} -> {' '.join(names)}"


def _back(shift: Any) -> Any:
    return tuple(-one for one in shift) if isinstance(shift, tuple) else -shift


roll: Op = define(
    "roll",
    _roll_factors,
    np.roll,
    attrs=_roll_attrs,
    dtype="keep",
    gradient=lambda g, out, x, shift, axis: (roll(g, shift=_back(shift), axis=axis),),
    flops=0,
    samples=lambda: [
        (((5, 3),), {"shift": 2}),
        (((5, 3),), {"shift": -1, "axis": 0}),
        (((5, 3),), {"shift": (7, 1), "axis": (1, 0)}),
        (((0, 3),), {"shift": 1, "axis": 1}),
        (((),), {"shift": 1}),
    ],
    doc="x with its elements moved by `shift` places along `axis`; what leaves at one end comes in at the other.",
)


def moveaxis(x: Any, source: Any, destination: Any) -> Tensor:
    """`x` with the axes `source` moved to the positions `destination`; the others keep their order.

    >>> import flowgraph as fg
    >>> fg.moveaxis(fg.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = convert(x)
    pairs = [
        [normal_axis(one, x.ndim) for one in (given if isinstance(given, tuple | list) else (given,))]
        for given in (source, destination)
    ]
    if len(pairs[0]) != len(pairs[1]) or any(len(set(one)) != len(one) for one in pairs):
        raise UsageError(f"moveaxis from {source} to {destination}", "the axes do not pair up", "Name each axis once.")
    order = [axis for axis in range(x.ndim) if axis not in pairs[0]]
    for to, axis in sorted(zip(pairs[1], pairs[0], strict=True)):
        order.insert(to, axis)
    return transpose(x, axes=tuple(order))  # type: ignore[no-any-return]


def permute_dims(x: Any, axes: Any) -> Tensor:
    """`x` with its axes in the order `axes`.

    >>> import flowgraph as fg
    >>> fg.permute_dims(fg.zeros((2, 3)), (1, 0)).shape
    (3, 2)
    """
    return transpose(x, axes=listed(axes, "axes"))  # type: ignore[no-any-return]


# The same elements several times.


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """The tensors, each repeated to the shape in which all of them meet.

    >>> import flowgraph as fg
    >>> [one.shape for one in fg.broadcast_arrays([1, 2], [[3], [4], [5]])]
    [(3, 2), (3, 2)]
    """
    tensors = [convert(one) for one in arrays]
    shape = common_shape([one.shape for one in tensors])
    return [one if one.shape == shape else broadcast_to(one, shape) for one in tensors]


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """`x` with each element repeated along `axis`; without one, all elements in a row.

    `repeats` is a number, or one for each element: these are computed, for the length of the result depends on them.

    >>> import flowgraph as fg
    >>> fg.repeat(fg.constant([1, 2]), 2).tolist(), fg.repeat(fg.constant([1, 2]), [0, 2]).tolist()
    ([1, 1, 2, 2], [2, 2])
    """
    x = convert(x)
    x = reshape(x, (-1,)) if axis is None and x.ndim != 1 else x
    at = normal_axis(0 if axis is None else axis, x.ndim)
    if not isinstance(repeats, int):
        counts = convert(repeats)
        if counts.node.symbolic:
            raise UsageError(
                "repeat by a tensor while a function is being traced",
                "the length of the result is not known until the function runs",
                "Repeat outside of the function, or by a number.",
            )
        return _repeated(x, counts.numpy(), at)
    if repeats < 0:
        raise UsageError(f"repeat {repeats} times", "that is no number of times", "Give an integer from 0 on.")
    longest = expand_dims(x, at + 1)
    spread = broadcast_to(longest, (*x.shape[: at + 1], repeats, *x.shape[at + 1 :]))
    return reshape(spread, (*x.shape[:at], product((x.shape[at], repeats)), *x.shape[at + 1 :]))  # type: ignore[no-any-return]


def _repeated(x: Tensor, counts: Any, axis: int) -> Tensor:
    length = _known_length(x, axis, "repeat")
    if counts.dtype.kind not in "iu" or counts.ndim > 1 or counts.size not in (1, length) or counts.min(initial=0) < 0:
        raise UsageError(
            f"repeat {counts.tolist()} times along an axis of length {length}",
            "these are no numbers of times",
            "Give an integer from 0 on, or one for each element.",
        )
    places = np.repeat(np.arange(length), counts.reshape(-1) if counts.size == length else int(counts.reshape(-1)[0]))
    return take(x, places, axis=axis)


def tile(x: Any, repetitions: Any) -> Tensor:
    """`x` laid side by side so many times along each axis; axes of which nothing is said come first.

    >>> import flowgraph as fg
    >>> fg.tile(fg.constant([1, 2]), (2, 2)).tolist()
    [[1, 2, 1, 2], [1, 2, 1, 2]]
    """
    x = convert(x)
    counts = freeze(repetitions)
    counts = counts if isinstance(counts, tuple) else (counts,)
    if any(not isinstance(count, int) or count < 0 for count in counts):
        raise UsageError(f"tile {repetitions} times", "these are no numbers of times", "Give integers from 0 on.")
    rank = max(x.ndim, len(counts))
    counts = (1,) * (rank - len(counts)) + counts
    lengths: tuple[Size, ...] = (1,) * (rank - x.ndim) + x.shape
    if all(count == 1 for count in counts):
        return x if rank == x.ndim else reshape(x, lengths)  # type: ignore[no-any-return]
    apart: list[Size] = []
    wide: list[Size] = []
    for length, count in zip(lengths, counts, strict=True):
        apart += [length] if count == 1 else [1, length]
        wide += [length] if count == 1 else [count, length]
    spread = broadcast_to(reshape(x, tuple(apart)), tuple(wide))
    return reshape(spread, tuple(product(pair) for pair in zip(lengths, counts, strict=True)))  # type: ignore[no-any-return]
