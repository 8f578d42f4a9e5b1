"""Elements of given ranks, found by counting: sorting puts all elements in one place, and counting does not.

A float has an integer in the same order: its bits, of a negative number all turned over. Elements are counted by the
leading bits of theirs, the counts say with which bits the element of a rank begins, and among those that begin so the
next bits are counted: two passes of 16 bits find an element of float32. Counts are integers, so every cut of the rows
gives the same ones, and only those that are not 0 are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.op import Monoid, define
from flowgraph.ops.picking import INDEX
from flowgraph.ops.rules import real_float

Array = np.ndarray[Any, Any]
State = tuple[Array, Array, Array]
UNSIGNED: dict[int, Any] = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def width(dtype: Any) -> int:
    """The number of bits of a float."""
    return 8 * int(np.dtype(dtype).itemsize)


def ordered_bits(x: Array) -> Array:
    """For each float an unsigned integer in the same order; -0.0 is 0.0, and nan is more than inf."""
    own = UNSIGNED[x.dtype.itemsize]
    top = own(1 << (width(x.dtype) - 1))
    bits = np.asarray(x + x.dtype.type(0)).view(own)
    np.copyto(bits, np.array(np.nan, x.dtype).view(own), where=np.isnan(x))
    turned = np.right_shift(bits, own(width(x.dtype) - 1)) * np.invert(top)  # of negative numbers all bits but the sign
    return np.asarray(bits ^ (turned | top))


def from_ordered_bits(bits: Array, dtype: Any) -> Array:
    """The floats of `ordered_bits`."""
    top = bits.dtype.type(1 << (width(dtype) - 1))
    return np.where(bits & top, bits ^ top, ~bits).view(dtype)


def _counted(codes: Array, span: int) -> tuple[Array, Array]:
    """(the codes that occur, in order, how often each of them does); codes are less than `span`."""
    if span <= 4 * codes.size:
        counts = np.bincount(codes, minlength=1)
        places = np.flatnonzero(counts)
        return places, counts[places]
    places, counts = np.unique(codes, return_counts=True)
    return places, counts


def digit_partial(x: Array, found: Array, start: int, stop: int) -> State:
    """How often the bits `start` to `stop` occur in each column of a piece, behind each of the beginnings in `found`.

    Beginnings ascend, for ranks do, and of equal ones the first counts. A code holds the column, the beginning and the
    bits, from the slowest to the fastest.
    """
    bits, size, span = ordered_bits(x), width(x.dtype), 1 << (stop - start)
    digits = ((bits >> bits.dtype.type(size - stop)) & bits.dtype.type(span - 1)).astype(INDEX)
    number, columns = found.shape[1:]
    if start == 0:  # all begin alike
        codes = (digits + np.arange(columns) * (number * span)).reshape(-1)
        return *_counted(codes, columns * number * span), found
    beginnings, own = found[0].astype(bits.dtype), bits >> bits.dtype.type(size - start)
    parts = [np.zeros(0, INDEX)]
    for column in range(columns):
        place = np.searchsorted(beginnings[:, column], own[:, column])
        hit = np.flatnonzero(beginnings[np.minimum(place, number - 1), column] == own[:, column])
        parts.append((column * number + place[hit]) * span + digits[hit, column])
    return *_counted(np.concatenate(parts), columns * number * span), found


def digit_merge(left: State, right: State) -> State:
    """The counts of two pieces together."""
    codes = np.concatenate([left[0], right[0]])
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], np.concatenate([left[1], right[1]])[order]
    first = np.flatnonzero(np.concatenate([np.ones(min(codes.size, 1), bool), codes[1:] != codes[:-1]]))
    return codes[first], np.add.reduceat(counts, first) if first.size else counts, left[2]


def digit_finish(state: State, start: int, stop: int) -> Array:
    """The beginnings with the bits of the elements of the given ranks, and their ranks among those that begin so."""
    places, counts, (beginnings, ranks) = state
    number, columns = beginnings.shape
    fresh = np.ones(beginnings.shape, bool)
    fresh[1:] = beginnings[1:] != beginnings[:-1]
    first = np.maximum.accumulate(np.where(fresh, np.arange(number)[:, None], 0), axis=0)  # of those that begin alike
    codes = (np.arange(columns) * number + first) << (stop - start)
    before = np.concatenate([np.zeros(1, INDEX), np.cumsum(counts, dtype=INDEX)])
    wanted = before[np.searchsorted(places, codes)] + ranks
    at = np.searchsorted(before, wanted, side="right") - 1
    return np.stack([(beginnings << (stop - start)) | (places[at] - codes), wanted - before[at]])


def _digit(x: Array, found: Array, start: int, stop: int) -> Array:
    return digit_finish(digit_partial(x, found, start, stop), start, stop)


def _digit_dtype(types: Any, attrs: Any) -> Any:
    (own,), _ = real_float(types[:1], attrs)
    return (own, INDEX), INDEX


def _digit_samples() -> Any:
    x = np.array([[1.0, -2.0, 0.0], [1.0, 3.0, -0.0], [1.5, -np.inf, 1e-310], [-7.0, 3.0, np.nan], [1.0, 3.0, 8.0]])
    ranks = np.array([[0, 0, 0], [2, 2, 2], [3, 3, 3], [4, 4, 4]])
    first = np.stack([np.zeros_like(ranks), ranks])
    return [
        ((x, first), {"start": 0, "stop": 16}),
        ((x, _digit(x, first, 0, 16)), {"start": 16, "stop": 20}),
        ((x.astype(np.float32), first), {"start": 0, "stop": 32}),
        ((np.zeros((3, 0)), np.zeros((2, 1, 0), INDEX)), {"start": 0, "stop": 16}),
    ]


select_digit = define(
    "select_digit",
    "n c, [pair] [m] c -> [pair] [m] c",
    _digit,
    attrs=lambda x, found, /, start, stop: {"start": start, "stop": stop},
    dtype=_digit_dtype,
    combine=Monoid(digit_partial, digit_merge, digit_finish),
    gradient=lambda g, out, x, found: (None, None),
    flops=30,
    samples=_digit_samples,
    doc="The bits `start` to `stop` of the elements of given ranks in each column, behind those that are known.",
)
"""`found` holds what is known of each element wanted: its leading bits, and its rank among those that begin so. In each
column the elements wanted ascend."""


def _middle(bits: Array, known: int, dtype: Any) -> Array:
    own, rest = UNSIGNED[np.dtype(dtype).itemsize], width(dtype) - known
    low = np.left_shift(bits.astype(own), own(rest))
    first = from_ordered_bits(low, dtype)
    if not rest:
        return first
    last = from_ordered_bits(low | own((1 << rest) - 1), dtype)
    middle = first / 2 + last / 2
    inside = np.where(np.isfinite(middle), middle, np.where(np.isnan(first), last, first))  # inf is with nan, or alone
    return np.where(first == 0, first, inside)


bucket_middle = define(
    "bucket_middle",
    "... -> ...",
    _middle,
    attrs=lambda bits, /, known, dtype: {"known": known, "dtype": np.dtype(dtype)},
    dtype=lambda types, attrs: ((INDEX,), attrs["dtype"]),
    gradient=lambda g, out, bits: (None,),
    flops=10,
    samples=lambda: [
        ((np.array([[0, 0x7FFF, 0x8000], [0xC000, 0xFF80, 0xFFC0]]),), {"known": 16, "dtype": np.float32}),
        ((np.array([0x407FF, 0x7FF80, 0x40000, 0]),), {"known": 19, "dtype": np.float64}),
        ((np.array([-1, 1, 0, -(2**62)]),), {"known": 64, "dtype": np.float64}),
    ],
    doc="The number in the middle of those whose ordered bits begin with the given ones.",
)
