"""Windows that slide over the axes between the first (the batch) and the last (the channels).

    patches      (batch, height, width, channels) -> (batch, i, j, p, q, channels)      the elements of every window
    unpatches    the adjoint: what windows hold is added up where they lie

Convolutions are these two and a matrix product, pools are sums or maxima over p and q. So their gradients, and the
gradients of those, are again made of them; the batch stays cut throughout, and every sum has a fixed order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops.reduce import sum
from flowgraph.ops.shape import expand_dims
from flowgraph.tensor import Tensor
from flowgraph.types import Dim, listed, tensor_type

Array = np.ndarray[Any, Any]

__all__: list[str] = []


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) > 0


def each(value: Any, count: int, what: str) -> tuple[int, ...]:
    """`value`, a number or one for each of `count` axes, as a tuple. TensorFlow's (1, a, b, 1) is understood."""
    given = (value,) * count if isinstance(value, int | np.integer) else listed(value, what)
    if len(given) == count + 2 and given[0] == given[-1] == 1:
        given = given[1:-1]
    if len(given) == 1:
        given *= count
    if len(given) != count or any(not _is_count(one) for one in given):
        raise UsageError(
            f"{what}={value!r} for windows over {count} axes",
            f"it is neither one positive integer nor {count} of them",
            "The batch and the channels have no windows.",
        )
    return tuple(int(one) for one in given)


def pads_of(
    padding: Any,
    lengths: tuple[int, ...],
    window: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """How many elements are added before and behind each axis.

    `padding` is "VALID" (none), "SAME" (so many that the result has length / stride elements, rounded up; an odd one
    comes behind), a number, or for each axis a number or a pair. TensorFlow's pairs of zeros for batch and channels are
    understood.
    """
    if isinstance(padding, str):
        if padding.upper() == "VALID":
            return ((0, 0),) * len(lengths)
        if padding.upper() == "SAME":
            result = []
            for length, size, stride, dilation in zip(lengths, window, strides, dilations, strict=True):
                missing = max((-(-length // stride) - 1) * stride + (size - 1) * dilation + 1 - length, 0)
                result.append((missing // 2, missing - missing // 2))
            return tuple(result)
    elif isinstance(padding, int | np.integer) and padding >= 0:
        return ((int(padding), int(padding)),) * len(lengths)
    elif isinstance(padding, list | tuple):
        pairs = [(one, one) if isinstance(one, int | np.integer) else tuple(one) for one in padding]
        if len(pairs) == len(lengths) + 2 and pairs[0] == pairs[-1] == (0, 0):
            pairs = pairs[1:-1]
        if len(pairs) == len(lengths) and all(len(pair) == 2 and min(pair) >= 0 for pair in pairs):
            return tuple((int(low), int(high)) for low, high in pairs)
    raise UsageError(f"padding={padding!r}", "it is no padding", "'SAME', 'VALID', a number, or a pair for each axis.")


def spatial(x: Any, what: str) -> tuple[int, ...]:
    """The lengths between the first and the last axis of `x`."""
    lengths: tuple[Any, ...] = x.shape[1:-1]
    if x.ndim < 3 or any(isinstance(length, Dim) for length in lengths):
        raise ShapeError(
            f"{what} of {x}",
            "windows slide over axes of known lengths between the first (the batch) and the last (the channels)",
            "Give (batch, width, channels) or (batch, height, width, channels).",
        )
    return lengths


def _counts(lengths: Any, window: Any, strides: Any, dilations: Any, pads: Any) -> tuple[int, ...]:
    """How many windows there are along each axis."""
    result = []
    for length, size, stride, dilation, pad in zip(lengths, window, strides, dilations, pads, strict=True):
        room = length + pad[0] + pad[1] - (size - 1) * dilation - 1
        if room < 0:
            raise ShapeError(
                f"windows of {size} elements, {dilation} apart, over an axis of {length + pad[0] + pad[1]}",
                "they do not fit",
                "Give a smaller window, or padding='SAME'.",
            )
        result.append(room // stride + 1)
    return tuple(result)


def _axes(count: int) -> tuple[str, str, str]:
    """The bracketed factors of the tensor's axes, of the windows' places, of the elements in a window."""
    names = ("a", "i", "p")
    first, second, third = (" ".join(f"[{name}{axis}]" for axis in range(count)) for name in names)
    return first, second, third


# patches and their adjoint


def _patches_attrs(
    x: Any, /, window: Any, strides: Any, dilations: Any, pads: Any, lowest: bool = False, *, shape: Any = None
) -> dict[str, Any]:
    counts = _counts(spatial(x, "windows"), window, strides, dilations, pads)
    shape = (x.shape[0], *counts, *window, x.shape[-1])
    return {
        "window": window,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "lowest": lowest,
        "shape": shape,
    }


def _lowest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "f":
        return -np.inf
    return False if dtype.kind == "b" else np.iinfo(dtype).min


def _padded(x: Array, pads: Any, fill: Any) -> Array:
    if not any(itertools.chain(*pads)):
        return x
    return np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)


def _patches(x: Array, window: Any, strides: Any, dilations: Any, pads: Any, lowest: bool) -> Array:
    counts = _counts(x.shape[1:-1], window, strides, dilations, pads)
    x = _padded(x, pads, _lowest(x.dtype) if lowest else 0)
    inner = x.strides[1:-1]
    steps = [step * stride for step, stride in zip(inner, strides, strict=True)]
    within = [step * dilation for step, dilation in zip(inner, dilations, strict=True)]
    return np.lib.stride_tricks.as_strided(
        x, (x.shape[0], *counts, *window, x.shape[-1]), (x.strides[0], *steps, *within, x.strides[-1]), writeable=False
    )


def _patches_gradient(g: Tensor, out: Tensor, x: Tensor, window: Any, strides: Any, dilations: Any, pads: Any) -> Any:
    return (unpatches(g, lengths=x.shape[1:-1], window=window, strides=strides, dilations=dilations, pads=pads),)


def _slices(
    counts: Any, window: Any, strides: Any, dilations: Any
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """For each place in a window the elements of the padded tensor that stand there, as slices of its inner axes."""
    for place in np.ndindex(*window):
        starts = [at * dilation for at, dilation in zip(place, dilations, strict=True)]
        spans = zip(starts, strides, counts, strict=True)
        yield place, tuple(slice(start, start + (count - 1) * stride + 1, stride) for start, stride, count in spans)


def _unpatches(g: Array, lengths: Any, window: Any, strides: Any, dilations: Any, pads: Any) -> Array:
    rank = len(lengths)
    counts = g.shape[1 : 1 + rank]
    whole = [length + low + high for length, (low, high) in zip(lengths, pads, strict=True)]
    total = np.zeros((g.shape[0], *whole, g.shape[-1]), g.dtype)
    for place, part in _slices(counts, window, strides, dilations):
        here: Any = ((slice(None),) * (1 + rank)) + place
        total[(slice(None), *part)] += g[here]
    return total[(slice(None), *(slice(low, low + n) for n, (low, _) in zip(lengths, pads, strict=True)))]


def _unpatches_attrs(
    g: Any, /, lengths: Any, window: Any, strides: Any, dilations: Any, pads: Any, *, shape: Any = None
) -> dict[str, Any]:
    shape = (g.shape[0], *lengths, g.shape[-1])
    attrs = {"lengths": lengths, "window": window, "strides": strides, "dilations": dilations, "pads": pads}
    return attrs | {"shape": shape}


def _patch_factors(count: int, *, back: bool) -> str:
    axes, places, window = _axes(count)
    pair = (f"n {axes} c", f"n {places} {window} c")
    return " -> ".join(reversed(pair) if back else pair)


def _samples(*extra: Any) -> Any:
    """Calls on tensors with one and two axes for windows: (shape, window, strides, dilations, pads)."""
    return [
        ((5, 6, 2), (3,), (1,), (1,), ((0, 0),)),
        ((5, 7, 1), (2,), (3,), (2,), ((1, 2),)),
        ((3, 5, 4, 2), (2, 3), (1, 2), (1, 1), ((0, 1), (1, 1))),
        ((5, 1, 1, 3), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0))),
        ((0, 4, 4, 1), (2, 2), (2, 2), (1, 1), ((0, 0), (0, 0))),
        *extra,
    ]


def _window_attrs(sample: Any) -> dict[str, Any]:
    return dict(zip(("window", "strides", "dilations", "pads"), sample[1:], strict=True))


def _place_shape(sample: Any) -> tuple[int, ...]:
    shape, window, strides, dilations, pads = sample
    return (shape[0], *_counts(shape[1:-1], window, strides, dilations, pads))


patches: Op = define(
    "window_patches",
    lambda types, attrs: _patch_factors(types[0].ndim - 2, back=False),
    _patches,
    attrs=_patches_attrs,
    dtype="keep",
    gradient=_patches_gradient,
    samples=lambda: [
        *(((one[0],), _window_attrs(one)) for one in _samples()),
        *(
            ((tensor_type((5, 7, 1), kind),), _window_attrs(_samples()[1]) | {"lowest": True})
            for kind in (np.int32, np.bool_)
        ),
    ],
    doc="The elements of every window; beyond the edges stand zeros, or the lowest number with `lowest`.",
)
unpatches: Op = define(
    "window_unpatches",
    lambda types, attrs: _patch_factors(len(attrs["lengths"]), back=True),
    _unpatches,
    attrs=_unpatches_attrs,
    dtype="keep",
    gradient=lambda g, out, x, window, strides, dilations, pads: (
        patches(g, window=window, strides=strides, dilations=dilations, pads=pads),
    ),
    samples=lambda: [
        (((*_place_shape(one), *one[1], one[0][-1]),), _window_attrs(one) | {"lengths": one[0][1:-1]})
        for one in _samples()
    ],
    doc="The elements of windows added up where they lie in a tensor of `lengths`: the adjoint of the patches.",
)

# pools


def _pool_attrs(x: Any, /, window: Any, strides: Any, pads: Any, *, shape: Any = None) -> dict[str, Any]:
    counts = _counts(spatial(x, "a pool"), window, strides, (1,) * len(window), pads)
    return {"window": window, "strides": strides, "pads": pads, "shape": (x.shape[0], *counts, x.shape[-1])}


def _pool_factors(count: int, *, back: bool = False) -> str:
    axes, places, _ = _axes(count)
    pair = (f"n {axes} c", f"n {places} c")
    return " -> ".join(reversed(pair) if back else pair)


def _pool_samples() -> Any:
    return [
        ((one[0],), {name: value for name, value in _window_attrs(one).items() if name != "dilations"})
        for one in _samples()
        if one[3] == (1,) * len(one[3])
    ]


def _max_pool(x: Array, window: Any, strides: Any, pads: Any) -> Array:
    ones = (1,) * len(window)
    counts = _counts(x.shape[1:-1], window, strides, ones, pads)
    x = _padded(x, pads, _lowest(x.dtype))
    result: Array | None = None
    for _, part in _slices(counts, window, strides, ones):
        elements = x[(slice(None), *part)]
        result = elements.copy() if result is None else np.maximum(result, elements, out=result)
    assert result is not None, "a window has an element"
    return result


def _max_pool_gradient(g: Tensor, out: Tensor, x: Tensor, window: Any, strides: Any, pads: Any) -> Any:
    rank = len(window)
    inside = tuple(range(1 + rank, 1 + 2 * rank))
    common = {"window": window, "strides": strides, "dilations": (1,) * rank, "pads": pads}
    hit = (patches(x, lowest=True, **common) == expand_dims(out, inside)).astype(g.dtype)
    share = expand_dims(g / sum(hit, axis=inside), inside)
    return (unpatches(hit * share, lengths=x.shape[1:-1], **common),)


max_pool_op: Op = define(
    "max_pool",
    lambda types, attrs: _pool_factors(len(attrs["window"])),
    _max_pool,
    attrs=_pool_attrs,
    dtype="keep",
    gradient=_max_pool_gradient,
    flops=4,
    samples=_pool_samples,
    doc="The largest element of each window; equal ones share the gradient.",
)


def _sizes(lengths: Any, window: Any, strides: Any, pads: Any) -> Array:
    """How many elements of the tensor each window holds: the padding does not count."""
    counts = _counts(lengths, window, strides, (1,) * len(window), pads)
    result = np.ones((1,) * len(window))
    for axis, (length, size, stride, pad, count) in enumerate(zip(lengths, window, strides, pads, counts, strict=True)):
        starts = np.arange(count) * stride - pad[0]
        held = np.minimum(starts + size, length) - np.maximum(starts, 0)
        result = result * np.maximum(held, 1).reshape([-1 if one == axis else 1 for one in range(len(window))])
    return result[..., None]


def _avg_pool(x: Array, window: Any, strides: Any, pads: Any) -> Array:
    ones = (1,) * len(window)
    sizes = _sizes(x.shape[1:-1], window, strides, pads).astype(x.dtype)
    counts = _counts(x.shape[1:-1], window, strides, ones, pads)
    x = _padded(x, pads, 0)
    total = np.zeros((x.shape[0], *counts, x.shape[-1]), x.dtype)
    for _, part in _slices(counts, window, strides, ones):
        total += x[(slice(None), *part)]
    return total / sizes  # type: ignore[no-any-return]


def _avg_back(g: Array, lengths: Any, window: Any, strides: Any, pads: Any) -> Array:
    share = g / _sizes(lengths, window, strides, pads).astype(g.dtype)
    places = (slice(None),) * (1 + len(window)) + (None,) * len(window)
    shape = (*g.shape[:-1], *window, g.shape[-1])
    return _unpatches(np.broadcast_to(share[places], shape), lengths, window, strides, (1,) * len(window), pads)


def _avg_back_attrs(
    g: Any, /, lengths: Any, window: Any, strides: Any, pads: Any, *, shape: Any = None
) -> dict[str, Any]:
    shape = (g.shape[0], *lengths, g.shape[-1])
    return {"lengths": lengths, "window": window, "strides": strides, "pads": pads, "shape": shape}


avg_pool_op: Op = define(
    "avg_pool",
    lambda types, attrs: _pool_factors(len(attrs["window"])),
    _avg_pool,
    attrs=_pool_attrs,
    dtype="float",
    gradient=lambda g, out, x, window, strides, pads: (
        avg_back(g, lengths=x.shape[1:-1], window=window, strides=strides, pads=pads),
    ),
    flops=4,
    samples=_pool_samples,
    doc="The mean of the elements of each window; the padding does not count.",
)
avg_back: Op = define(
    "avg_pool_adjoint",
    lambda types, attrs: _pool_factors(len(attrs["window"]), back=True),
    _avg_back,
    attrs=_avg_back_attrs,
    dtype="float",
    gradient=lambda g, out, x, window, strides, pads: (avg_pool_op(g, window=window, strides=strides, pads=pads),),
    flops=4,
    samples=lambda: [
        (
            ((*_place_shape(one), one[0][-1]),),
            {"lengths": one[0][1:-1], "window": one[1], "strides": one[2], "pads": one[4]},
        )
        for one in _samples()
        if math.prod(one[3]) == 1
    ],
    doc="Each number shared among the elements of its window: the adjoint of the mean.",
)
