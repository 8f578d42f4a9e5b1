"""Quantiles: by sorting, by counting in a few passes over rows that are cut, and approximate ones in a single pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flowgraph.apply import convert, freeze
from flowgraph.errors import ShapeError, UsageError
from flowgraph.graph import value_bytes
from flowgraph.ops.comparison import equal, less
from flowgraph.ops.differentiate import custom_gradient
from flowgraph.ops.elementwise import where
from flowgraph.ops.gather import take
from flowgraph.ops.reduce import sum as sum_of
from flowgraph.ops.rules import common_float, floats
from flowgraph.ops.scanning import cumulative_sum
from flowgraph.ops.selection import bucket_middle, select_digit, width
from flowgraph.ops.shape import expand_dims, reshape, transpose
from flowgraph.ops.sorting import check_order, sort
from flowgraph.tensor import Tensor
from flowgraph.types import Dim, normal_axes, product

__all__ = [
    "approximate_quantile",
    "median",
    "percentile",
    "quantile",
]

COUNTED_BYTES = 64 << 20
"""Tensors from this size on, whose rows are likely to be cut, are not sorted: that needs all of them in one place."""
DIGIT = 16
"""How many bits a pass of counting finds."""
MANTISSA = 7
"""How many bits of the mantissa approximate quantiles look at, if nothing else is asked for."""

Pick = Callable[[Tensor, Any], Tensor]
"""A function of lines, whose elements stand along the first axis, and of ranks: the elements of these ranks."""


def quantile(x: Any, q: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The numbers below which a share `q` of the elements over `axis` lie, linear between two neighbours.

    Several shares stand along new axes in front. The gradient flows to the two neighbours. Along the rows of a tensor
    of 64 MB and more they are found by counting, in two passes over float32 and four over float64, so that it need not
    fit into memory; the result is the same.

    >>> import flowgraph as fg
    >>> float(fg.quantile(fg.constant([1.0, 2.0, 4.0]), 0.75))
    3.0
    """
    x = convert(x)
    axes = normal_axes(axis, x.ndim)
    rows = next((k for k, length in enumerate(x.shape) if length != 1), None)
    large = rows in axes and value_bytes(x.type) >= COUNTED_BYTES
    return _quantile(x, q, axes, keepdims, _by_counting if large else _by_sorting)


def approximate_quantile(x: Any, q: Any, axis: Any = None, keepdims: bool = False, bits: int | None = None) -> Tensor:
    """`quantile` in a single pass over the data, of which it keeps counts by the leading `bits` of each number.

    The two neighbours between which it lies are each off by no more than 2**-(m + 1) times themselves, where m is the
    number of bits behind sign and exponent: 2**-8 by default (16 bits of float32, 19 of float64). Numbers that begin
    alike are taken as the middle of them, so 0 and infinities are exact. Below the smallest normal number the error is
    that much of it. Of each column up to 2**bits counts are kept, as many as there are beginnings in it. No gradient
    flows: it is None, or zero where that is asked for.

    >>> import flowgraph as fg
    >>> round(float(fg.approximate_quantile(fg.constant([1.0, 2.0, 4.0]), 0.75)), 1)
    3.0
    """
    x = convert(x)
    check_order(x.dtype, "a quantile")
    dtype = common_float(x.dtype)
    exponent = width(dtype) - 1 - np.finfo(dtype).nmant
    known = 1 + exponent + MANTISSA if bits is None else freeze(bits)
    low, high = exponent + 2, min(width(dtype), 32)
    if not isinstance(known, int) or not low <= known <= high:
        raise UsageError(
            f"an approximate quantile of {dtype} with bits={bits}",
            f"sign and exponent take {exponent + 1} of them, and counts by more than 32 are no summary",
            f"Give {low} to {high}, or use quantile, which is exact.",
        )
    axes = normal_axes(axis, x.ndim)
    return _quantile(x, q, axes, keepdims, lambda lines, ranks: _counted(lines, ranks, [known]))


def percentile(x: Any, q: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The numbers below which `q` percent of the elements over `axis` lie: `quantile` with hundredths.

    >>> import flowgraph as fg
    >>> float(fg.percentile(fg.constant([1.0, 2.0, 4.0]), 75))
    3.0
    """
    return quantile(x, _shares(q) / 100, axis=axis, keepdims=keepdims)


def median(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The middle element over `axis`, or the mean of the two middle ones.

    >>> import flowgraph as fg
    >>> float(fg.median(fg.constant([5.0, 1.0, 2.0])))
    2.0
    """
    return quantile(x, 0.5, axis=axis, keepdims=keepdims)


def _shares(q: Any) -> Any:
    try:
        return np.asarray(freeze(q), np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"quantiles at {q!r:.100}", "that is no real number", "Give numbers.") from None


def _quantile(x: Tensor, q: Any, axes: tuple[int, ...], keepdims: bool, pick: Pick) -> Tensor:
    x = floats(x)
    shares = _shares(q)
    if not ((shares >= 0) & (shares <= 1)).all():
        raise UsageError(f"quantile with q={q}", "shares lie from 0 to 1", "Give shares of 1, or use percentile.")
    kept = tuple(k for k in range(x.ndim) if k not in axes)
    lines = transpose(x, axes=(*axes, *kept))
    length = product(tuple(x.shape[k] for k in axes))
    lines = reshape(lines, (length, *(x.shape[k] for k in kept)))
    if isinstance(length, Dim) or not length:
        raise ShapeError(f"a quantile of {x.type}", f"it is taken over {length} elements", "Give at least one element.")
    result = _between(lines, shares.reshape(-1) * (length - 1), length - 1, pick)
    result = reshape(result, (*shares.shape, *(x.shape[k] for k in kept)))
    return expand_dims(result, tuple(shares.ndim + k for k in axes)) if keepdims and axes else result  # type: ignore[no-any-return]


def _between(lines: Tensor, places: Any, last: int, pick: Pick) -> Tensor:
    """The elements at `places` of the order of each line, which may lie between two of them."""
    low, high = np.floor(places).astype(np.int64), np.ceil(places).astype(np.int64)
    ranks = np.unique(np.append([*low, *high], last).astype(np.int64))
    elements = pick(lines, ranks)
    below, above = (take(elements, np.searchsorted(ranks, one), axis=0) for one in (low, high))
    share = np.asarray(places - low, lines.dtype).reshape(-1, *(1,) * (lines.ndim - 1))
    result = where(share == 0, below, below + (above - below) * share)
    end = elements[-1:]
    return where(equal(end, end), result, end)  # type: ignore[no-any-return]  # what is no number stands last


def _by_sorting(lines: Tensor, ranks: Any) -> Tensor:
    return take(sort(lines, axis=0), ranks, axis=0)


def _counted(lines: Tensor, ranks: Any, stops: list[int]) -> Tensor:
    """The elements of `ranks`, by passes that find their bits up to each of `stops`; the middle of those alike."""
    kept = lines.shape[1:]
    table = reshape(lines, (lines.shape[0], math.prod(kept)))  # type: ignore[arg-type]
    wanted = np.broadcast_to(ranks[:, None], (len(ranks), table.shape[1]))
    found = convert(np.stack([np.zeros_like(wanted), wanted]))
    for start, stop in zip([0, *stops], stops, strict=False):
        found = select_digit(table, found, start=start, stop=stop)
    elements = bucket_middle(found[0], known=stops[-1], dtype=lines.dtype)
    return reshape(elements, (len(ranks), *kept))  # type: ignore[no-any-return]


def _by_counting(lines: Tensor, ranks: Any) -> Tensor:
    """The elements of `ranks`, exactly; each has the gradient of the one that sorting would put there."""

    @custom_gradient
    def counted(lines: Tensor) -> Any:
        elements = _counted(lines, ranks, list(range(DIGIT, width(lines.dtype) + 1, DIGIT)))

        def gradient(g: Tensor) -> Tensor:
            """Of equal elements the one whose turn it is, in the order of the rows."""
            own, wanted = expand_dims(lines, 0), expand_dims(elements, 1)
            smaller = sum_of(less(own, wanted).astype(np.int64), axis=1, keepdims=True)
            turn = convert(ranks.reshape(-1, *(1,) * lines.ndim)) - smaller
            same = equal(own, wanted)
            hit = same & equal(cumulative_sum(same.astype(np.int64), axis=1), turn + 1)
            return sum_of(where(hit, expand_dims(g, 1), 0), axis=0)  # type: ignore[no-any-return]

        return elements, gradient

    return counted(lines)  # type: ignore[no-any-return]
