"""x[key] and x[key] = value, with all that numpy takes as a key.

A key of integers, slices, ... and None is one op. Index tensors and masks are picked from what the slices leave, so
that numpy's rules hold: an integer beside an index tensor is one itself, and the axes of the index come first where a
slice stands between two of them.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from flowgraph.apply import convert, recorded, together
from flowgraph.context import Hooks, user_place
from flowgraph.errors import BoundsError, DTypeError, FlowgraphError, ShapeError, UsageError
from flowgraph.graph import Node
from flowgraph.leaves import as_array, scalar
from flowgraph.op import Inferred, infer
from flowgraph.ops.elementwise import where
from flowgraph.ops.gather import common_shape, index_tensor
from flowgraph.ops.index import getitem, numpy_key, set_slice, view_of
from flowgraph.ops.picking import gather_at, set_at
from flowgraph.ops.shape import broadcast_like, broadcast_to, expand_dims, reshape
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import TensorType

WHOLE = ("slice", None, None, None)


class Key(NamedTuple):
    """A key taken apart."""

    slices: tuple[Any, ...]
    """The part of it that is one `getitem`: ints, ("slice", start, stop, step) and None."""
    axes: tuple[int, ...] = ()
    """The axes of what the slices leave that have an index tensor."""
    indices: tuple[Tensor, ...] = ()
    """The index tensors, of one shape."""


def _is_array(part: Any) -> bool:
    """Whether `part` of a key is an index tensor or a mask."""
    if isinstance(part, Tensor):
        return part.ndim > 0 or part.dtype.kind == "b" or part.node.symbolic
    if isinstance(part, list):
        return True
    return (hasattr(part, "__array__") or hasattr(part, "__flowgraph_tensor__")) and np.ndim(part) > 0


def _array_part(part: Any) -> Tensor:
    """A list or an array of a key as a tensor of positions or a mask."""
    if isinstance(part, list) and not part:
        return convert(np.zeros(0, np.int64))
    tensor = convert(as_array(part)) if isinstance(part, list) else convert(part)
    if tensor.dtype.kind not in "biu":
        raise DTypeError(f"x[{tensor.type}]", "positions are integers, masks are booleans", "Cast the index.")
    return tensor


def _place(part: Any) -> int:
    """An index or a bound of a slice as an int."""
    if isinstance(part, bool | np.bool_) or not hasattr(part, "__index__") or np.ndim(part) != 0:
        raise UsageError(
            f"x[{part.type if isinstance(part, Tensor) else repr(part)}]",
            "indices are integers, slices, ..., None, integer tensors and masks",
            "Use `fg.where` for a choice by condition.",
        )
    return int(part.__index__())


def _width(part: Any) -> int:
    """How many axes `part` of a key names."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, Tensor) and part.dtype.kind == "b" else 1


def _parts(key: Any, rank: int) -> list[Any]:
    """The parts of `key`, with ... written out and arrays as tensors."""
    given = key if isinstance(key, tuple) else (key,)
    return _spread([_array_part(part) if _is_array(part) else part for part in given], rank)


def _spread(parts: list[Any], rank: int) -> list[Any]:
    """`parts` of a key with ... written out, for a tensor of `rank` axes."""
    named = sum(map(_width, parts))
    if named > rank:
        raise BoundsError(f"{named} indices", f"the tensor has {rank} axes", "Drop the indices that are too many.")
    dots = [at for at, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise UsageError("x[..., ...]", "an index holds '...' twice", "Write ':' for each axis of one of them.")
    fill = [slice(None)] * (rank - named)
    return [*parts[: dots[0]], *fill, *parts[dots[0] + 1 :]] if dots else [*parts, *fill]


def _slice(part: slice) -> tuple[Any, ...]:
    return "slice", *(None if v is None else _place(v) for v in (part.start, part.stop, part.step))


def _plain_key(parts: list[Any]) -> tuple[Any, ...]:
    """The key of `getitem` for parts without arrays."""
    while parts and isinstance(parts[-1], slice) and parts[-1] == slice(None):
        parts.pop()  # axes that are not named are whole
    return tuple(p if p is None else _slice(p) if isinstance(p, slice) else _place(p) for p in parts)


def parse_key(x: Tensor, key: Any) -> Key:
    """`key` of `x` taken apart; masks are computed."""
    rank = x.ndim
    parts = _parts(key, rank)
    if not any(isinstance(part, Tensor) and _is_array(part) for part in parts):
        return Key(_plain_key(parts))
    slices: list[Any] = []
    axes: list[int] = []
    indices: list[Tensor] = []
    axis = 0
    for part in parts:
        if part is None or isinstance(part, slice):
            slices.append(None if part is None else _slice(part))
            axis += part is not None
            continue
        if isinstance(part, Tensor) and part.dtype.kind == "b":
            found = mask_positions(part, x.shape[axis : axis + part.ndim])
        else:
            length = x.shape[axis]
            index = part if isinstance(part, Tensor) and _is_array(part) else np.asarray(_place(part))
            found = [index_tensor(index, length, f"x[...] of {x.type}")]
        new_axis = isinstance(part, Tensor) and part.dtype.kind == "b" and not part.ndim  # x[mask] has none or one x
        for one in found:
            axes.append(len(slices))
            indices.append(one)
            slices.append(None if new_axis else WHOLE)
            axis += not new_axis
    shape = common_shape([one.shape for one in indices])
    spread = tuple(one if one.shape == shape else broadcast_to(one, shape) for one in indices)
    return Key(tuple(slices), tuple(axes), spread)


def mask_positions(mask: Tensor, shape: Any) -> list[Tensor]:
    """The positions along each axis where `mask` is true: how many there are is seen by computing it."""
    if mask.node.symbolic:
        raise UsageError(
            f"the elements of a tensor at a mask ({mask.type}) while a function is being traced",
            "how many they are is not known until the function runs",
            "Use `fg.where(mask, x, 0)`, or pick the elements outside of the function.",
        )
    if not mask.ndim:
        return [convert(np.zeros(int(bool(mask.numpy())), np.int64))]
    # As in numpy a mask of no elements picks none, whatever the other lengths are.
    if any(isinstance(want, int) and have not in (0, want) for have, want in zip(mask.shape, shape, strict=True)):
        raise BoundsError(
            f"a mask of shape {mask.shape} for axes of lengths {tuple(shape)}", "they differ", "Give equal lengths."
        )
    return [convert(one) for one in np.nonzero(mask.numpy())]


def _is_trivial(key: Key) -> bool:
    return all(part == WHOLE for part in key.slices)


_NUMBERS = (int, type(None))  # and no subclass: True is no index


def _written(key: Any) -> tuple[Any, ...] | None:
    """`key` in words that can be hashed, if it is made of Python ints, slices of these, None and ...; else None."""
    words: list[Any] = []
    for part in key if type(key) is tuple else (key,):
        kind = type(part)
        if kind is slice:
            if not (type(part.start) in _NUMBERS and type(part.stop) in _NUMBERS and type(part.step) in _NUMBERS):
                return None
            words.append(("slice", part.start, part.stop, part.step))
        elif kind is int or part is None or part is Ellipsis:
            words.append(part)
        else:
            return None
    return tuple(words)


@lru_cache(maxsize=4096)
def _plain(of_type: TensorType, words: tuple[Any, ...]) -> tuple[Inferred, tuple[Any, ...]]:
    """What getitem says of a tensor of `of_type` and the key of `words`, and that key as numpy takes it."""
    slices = _plain_key(_spread([slice(*one[1:]) if type(one) is tuple else one for one in words], of_type.ndim))
    return infer(getitem, (of_type,), (("key", slices),)), numpy_key(slices)


def _known_part(x: Tensor, words: tuple[Any, ...]) -> Tensor:
    """The part at a plain key of a tensor whose value is known: a view costs nothing, and is data like any other.

    The node remembers its operand, whose memory it holds.
    """
    inferred, numbers = _plain(x.node.types[0], words)
    node = recorded(Node(getitem, (x.node,), inferred.attrs, inferred.types, user_place()))
    node.memo, node.depth = np.asarray(x.node.memo[numbers]), 0
    return Tensor(node)


def subscript(x: Tensor, key: Any) -> Tensor:
    """The value of `x[key]`."""
    if isinstance(x.node.memo, np.ndarray):
        words = _written(key)
        if words is not None:
            with suppress(FlowgraphError):  # which the way below says better
                return _known_part(x, words)
    parsed = parse_key(x, key)
    if parsed.axes and _is_trivial(parsed):
        return gather_at(x, *parsed.indices, axes=parsed.axes)  # type: ignore[no-any-return]
    result: Tensor = getitem(x, key=parsed.slices)
    view_of(result.node)
    return gather_at(result, *parsed.indices, axes=parsed.axes) if parsed.axes else result


_KINDS = "biufc"


def _value_for(x: Tensor, value: Any) -> Tensor:
    """`value` as a tensor of the dtype of `x`; raises DTypeError where its kind of number does not fit."""
    plain = isinstance(value, bool | int | float | complex)
    value = value if plain else together((x, value))[1]
    kind = np.asarray(value).dtype.kind if plain else value.dtype.kind
    own, given = (_KINDS.index(one) for one in (x.dtype.kind, kind))
    if given > own and not (kind == "i" and x.dtype.kind == "u"):
        raise DTypeError(
            f"to set elements of {x.type} to {value if plain else value.type}",
            f"{x.dtype} can not hold such numbers",
            "Cast the tensor, or the value, first.",
        )
    if plain:
        return tensor_of(scalar(value, x.dtype))
    return value if value.dtype == x.dtype else value.astype(x.dtype)  # type: ignore[no-any-return]


def _fitted(value: Tensor, part: Tensor) -> Tensor:
    """`value` in the shape of `part`, which it replaces."""
    while value.ndim > part.ndim and value.shape[0] == 1:
        value = reshape(value, value.shape[1:])
    if value.shape == part.shape:
        return value
    return broadcast_like(value, part)  # type: ignore[no-any-return]


def replaced(x: Tensor, key: Any, value: Any) -> Tensor:
    """`x` with other elements at `key`."""
    new = _value_for(x, value)
    mask = _sole_mask(key)
    if mask is not None and new.ndim <= x.ndim - mask.ndim:
        inner = x.ndim - mask.ndim
        if any(isinstance(b, int) and a != b for a, b in zip(mask.shape, x.shape, strict=False)):
            raise ShapeError(f"a mask of shape {mask.shape} for {x.type}", "the lengths differ", "Give equal lengths.")
        spread = expand_dims(mask, tuple(range(mask.ndim, x.ndim))) if inner else mask
        return where(spread, broadcast_like(new, x), x)  # type: ignore[no-any-return]
    parsed = parse_key(x, key)
    if not parsed.axes:
        return set_slice(x, _fitted(new, getitem(x, key=parsed.slices)), key=parsed.slices)  # type: ignore[no-any-return]
    part: Tensor = x if _is_trivial(parsed) else getitem(x, key=parsed.slices)
    wanted = gather_at(part, *parsed.indices, axes=parsed.axes)
    part = set_at(part, _fitted(new, wanted), *parsed.indices, axes=parsed.axes)
    return part if _is_trivial(parsed) else set_slice(x, part, key=parsed.slices)


def _sole_mask(key: Any) -> Tensor | None:
    """The mask that is all of `key`, if there is one."""
    if isinstance(key, tuple) and len(key) == 1:
        (key,) = key
    if isinstance(key, tuple) or not _is_array(key):
        return None
    part = _array_part(key)
    return part if part.dtype.kind == "b" else None


def assign(x: Tensor, key: Any, value: Any) -> None:
    """Let the handle `x` stand for a tensor with other elements at `key`; its old node stays as it was."""
    new = replaced(x, key, value).node
    old = x.node
    if old.handle is not None and old.handle() is x:
        old.handle = None
    x.node = new
    new.handle = weakref.ref(x)


Hooks.subscript = staticmethod(subscript)
Hooks.assign = staticmethod(assign)
