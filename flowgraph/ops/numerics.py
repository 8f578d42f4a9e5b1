"""Stable numerics that numpy lacks or does slowly. Each function takes `out` last, so that kernels need no new memory.

They are sequences of numpy's vectorised calls; every step is elementwise, so a slice of the result is the result of a
slice, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


BLOCK = 1 << 17
"""The elements that a function with intermediate results works on at a time: these stay in the level-2 cache."""

DOT = np.ndarray.dot
"""`np.dot` without its search for operands that want to answer themselves: a quarter of a small call (measured)."""


def _blocks(scratch: int, out: Array, *operands: Array) -> Iterator[tuple[Array, ...]]:
    """`out`, `operands` and so many arrays like `out` to work in, in flat pieces of at most BLOCK elements.

    Scalars stay scalars; arrays that do not lie alike come as they are.
    """
    fits = all(one.ndim == 0 or (one.shape == out.shape and one.flags.c_contiguous) for one in (out, *operands))
    if out.size <= BLOCK or not fits:
        yield out, *operands, *[np.empty_like(out) for _ in range(scratch)]
        return
    flat = [one.reshape(-1) if one.ndim else one for one in (out, *operands)]
    free = [np.empty(BLOCK, out.dtype) for _ in range(scratch)]
    for start in range(0, out.size, BLOCK):
        pieces = [one[start : start + BLOCK] if one.ndim else one for one in flat]
        yield *pieces, *[one[: len(pieces[0])] for one in free]


def sigmoid(x: Array, out: Array | None = None) -> Array:
    """1 / (1 + exp(-x)). An exp that overflows to inf gives the right 0; there is no cancellation on either side."""
    out = np.empty_like(x) if out is None else out  # numpy alone would answer a 0-d array with a number
    np.negative(x, out)
    np.exp(out, out)
    np.add(out, 1, out)
    np.divide(1, out, out)
    return out


def rsqrt(x: Array, out: Array | None = None) -> Array:
    """1 / sqrt(x)."""
    out = np.sqrt(x, np.empty_like(x) if out is None else out)
    return np.reciprocal(out, out)


def xlogy(x: Array, y: Array, out: Array | None = None) -> Array:
    """X * log(y), and 0 where x is 0, unless y is nan."""
    out = np.empty(np.broadcast_shapes(x.shape, y.shape), x.dtype) if out is None else out
    np.multiply(x, np.log(y), out)
    np.copyto(out, 0, where=(x == 0) & ~np.isnan(y))
    return out


def expm1(x: Array, out: Array | None = None) -> Array:
    """E ** x - 1, exact near 0; of complex infinities, nans and -0.0 what the array API standard says of them.

    There numpy multiplies infinity by the zero of sin(0), where `exp` knows better.
    """
    if x.dtype.kind != "c":
        return np.expm1(x, np.empty_like(x) if out is None else out)
    odd = (x == 0) | ~np.isfinite(x)
    edges = np.exp(x) - 1 if odd.any() else None  # first: `out` may be the memory of x
    out = np.expm1(x, np.empty_like(x) if out is None else out)
    if edges is not None:
        np.copyto(out, edges, where=odd)
    return out


def tanh(x: Array, out: Array | None = None) -> Array:
    """The hyperbolic tangent; of a complex x with an infinite real part, 1 + 0j or a mirror of it.

    There numpy gives the zero the sign of sin(2 * imag(x)), as C does.
    """
    far = np.isinf(x.real) if x.dtype.kind == "c" else None
    if far is None or not far.any():
        return np.tanh(x, np.empty_like(x) if out is None else out)
    signs = np.copysign(1, x.real), np.copysign(0, x.imag)  # first: `out` may be the memory of x
    out = np.tanh(x, np.empty_like(x) if out is None else out)
    np.copyto(out.real, signs[0], where=far)
    np.copyto(out.imag, signs[1], where=far)
    return out


def floor_divide(x: Array, y: Array, out: Array | None = None) -> Array:
    """The largest integer not above x / y; of infinities what the array API standard says of them, not nan."""
    out = np.empty(np.broadcast_shapes(x.shape, y.shape), x.dtype) if out is None else out
    odd = np.isinf(x) | np.isinf(y) if x.dtype.kind == "f" else None
    if odd is None or not odd.any():
        return np.floor_divide(x, y, out)
    edges = np.floor(x / y)  # first: `out` may be the memory of an operand
    np.floor_divide(x, y, out)
    np.copyto(out, edges, where=odd)
    return out


def sinc(x: Array, out: Array | None = None) -> Array:
    """sin(pi x) / (pi x), and 1 at 0. The nearest integer is taken off x first, so that it is exactly 0 at others."""
    whole = np.rint(x, np.empty_like(x))
    odd = np.rint(whole / 2) * 2 != whole
    zero, angle = x == 0, np.multiply(x, np.pi, np.empty_like(x))
    np.copyto(angle, 1, where=zero)
    out = np.multiply(np.subtract(x, whole, whole), np.pi, np.empty_like(x) if out is None else out)
    np.sin(out, out)
    np.negative(out, out, where=odd)
    np.divide(out, angle, out)
    np.copyto(out, 1, where=zero)
    return out


def relu6(x: Array, out: Array | None = None) -> Array:
    """min(max(x, 0), 6)."""
    out = np.maximum(x, 0, out=np.empty_like(x) if out is None else out)
    return np.minimum(out, 6, out=out)


def softsign(x: Array, out: Array | None = None) -> Array:
    """X / (1 + |x|)."""
    out = np.abs(x, np.empty_like(x) if out is None else out)
    np.add(out, 1, out)
    return np.divide(x, out, out)


def softplus(x: Array, out: Array | None = None) -> Array:
    """log(1 + exp(x)), as max(x, 0) + log1p(exp(-|x|)).

    numpy's log1p has no vector form on many CPUs (measured: 9 ns an element against 3.5 for this). With w = 1 + t
    rounded, log1p(t) = log(w) + (t - (w - 1)) / w to first order in the rounding error (Kahan's correction); the
    division is left out, for w is near 1 wherever the correction matters.
    """
    out = np.empty_like(x) if out is None else out
    for piece, part, t, w, low in _blocks(3, out, x):
        np.negative(np.abs(part, t), t)
        np.exp(t, t)
        np.add(t, 1, w)
        np.subtract(w, 1, low)
        np.subtract(t, low, low)
        np.log(w, w)
        np.add(w, low, w)
        np.maximum(part, 0, out=piece)
        np.add(piece, w, piece)
    return out


_UNSIGNED: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def select(condition: Array, x: Array, y: Array, out: Array | None = None) -> Array:
    """The elements of x where `condition` holds, else those of y.

    By bit masks, since numpy's `where` branches for every element (measured: 4 against 1 ns). The bits of the chosen
    element come through unchanged, nan and -0.0 included.
    """
    if out is None:
        out = np.empty(np.broadcast_shapes(np.shape(condition), np.shape(x), np.shape(y)), np.asarray(x).dtype)
    bits = _UNSIGNED.get(out.dtype.itemsize)
    if bits is None or out.dtype.kind not in "fiu" or not out.ndim:
        np.copyto(out, np.where(condition, x, y))
        return out
    every = bits(2 ** (8 * out.dtype.itemsize) - 1)
    operands = np.asarray(condition), _bits(x, bits), _bits(y, bits)
    for result, c, a, b, mask, change in _blocks(2, out.view(bits), *operands):
        np.multiply(c, every, mask, dtype=bits)
        if b.ndim == 0 and b == 0:
            np.bitwise_and(a, mask, result)
        else:
            np.bitwise_xor(a, b, change)
            np.bitwise_and(change, mask, change)  # `out`, which may be x or y, is written last
            np.bitwise_xor(change, b, result)
    return out


def _bits(x: Any, bits: Any) -> Array:
    return np.asarray(x).view(bits)


def logsumexp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """log(sum(exp(x))) over `axes`, with the largest element taken out; -inf where all elements are."""
    largest = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(largest), largest, 0).astype(x.dtype)
    total = np.sum(np.exp(x - shift), axis=axes, keepdims=True)
    return logsumexp_finish((largest, total), axes, keepdims)


def logsumexp_partial(x: Array, axes: tuple[int, ...], keepdims: bool) -> tuple[Array, Array]:
    """(largest element, sum of exp(x - largest)) of one piece."""
    largest = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(largest), largest, 0).astype(x.dtype)
    return largest, np.sum(np.exp(x - shift), axis=axes, keepdims=True)


def logsumexp_merge(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
    """The state of two pieces together: both sums are brought to the larger maximum."""
    largest = np.maximum(left[0], right[0])
    total = np.zeros_like(left[1])
    for own, part in (left, right):
        with np.errstate(invalid="ignore"):
            shift = np.where(own == largest, 0, own - largest).astype(part.dtype)
        total += part * np.exp(shift)
    return largest, total


def logsumexp_finish(state: tuple[Array, Array], axes: tuple[int, ...], keepdims: bool) -> Array:
    """The logarithm of the whole sum."""
    largest, total = state
    shift = np.where(np.isfinite(largest), largest, 0).astype(total.dtype)
    result: Array = np.log(total) + shift
    return result if keepdims else np.squeeze(result, axes)


def softmax(x: Array, axis: int, out: Array | None = None) -> Array:
    """exp(x) / sum(exp(x)) along `axis`, with the largest element taken out."""
    out = np.subtract(x, np.max(x, axis=axis, keepdims=True, initial=-np.inf), out)
    np.exp(out, out)
    np.divide(out, np.sum(out, axis=axis, keepdims=True), out)
    return out


def variance_partial(x: Array, axes: tuple[int, ...], keepdims: bool, correction: float) -> tuple[Any, Array, Array]:
    """(count, mean, sum of squared deviations) of one piece, as float64."""
    if (
        axes == (0,)
        and x.ndim == 2
        and x.flags.c_contiguous
        and x.dtype.kind == "f"
        and x.dtype.itemsize > 2
        and x.size
    ):
        return _column_moments(x)
    count = np.float64(np.prod([x.shape[axis] for axis in axes]))
    mean = np.sum(x, axis=axes, keepdims=True, dtype=np.float64) / np.maximum(count, 1)
    deviations = x - mean
    return count, mean, np.sum(deviations * deviations, axis=axes, keepdims=True)


_BLOCK = 128
"""So many rows are added in the precision of the data, by BLAS; their sums in double precision."""


def _column_sums(x: Array) -> Array:
    """The sums of the columns of a matrix, as float64."""
    ones, whole = np.ones(_BLOCK, x.dtype), len(x) // _BLOCK * _BLOCK
    blocks = np.matmul(ones, x[:whole].reshape(-1, _BLOCK, x.shape[1]))
    return np.sum(blocks, axis=0, dtype=np.float64) + np.matmul(ones[: len(x) - whole], x[whole:])  # type: ignore[no-any-return]


def _column_moments(x: Array) -> tuple[Any, Array, Array]:
    """The moments of the columns of a matrix: deviations from a mean that is about right, and what it was off by."""
    count, near = np.float64(len(x)), (_column_sums(x) / len(x)).astype(x.dtype)
    deviations = x - near
    off = _column_sums(deviations)
    squares = _column_sums(np.multiply(deviations, deviations, deviations)) - off * off / count
    return count, (near + off / count)[None], np.maximum(squares, 0)[None]


def variance_merge(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
    """The state of two pieces together (Chan, Golub and LeVeque 1983)."""
    count = left[0] + right[0]
    step = right[1] - left[1]
    share = right[0] / np.maximum(count, 1)
    return count, left[1] + step * share, left[2] + right[2] + step * step * left[0] * share


def variance_finish(state: tuple[Array, ...], axes: tuple[int, ...], keepdims: bool, correction: float) -> Array:
    """The sum of squared deviations over (count - correction): inf or nan where that is not above 0, as in numpy."""
    count, _, squares = state
    result: Array = squares / np.maximum(np.float64(count - correction), 0)
    return result if keepdims else np.squeeze(result, axes)


def variance(x: Array, axes: tuple[int, ...], keepdims: bool, correction: float) -> Array:
    """The variance over `axes`, added up in double precision."""
    return variance_finish(variance_partial(x, axes, keepdims, correction), axes, keepdims, correction).astype(x.dtype)


def log_softmax(x: Array, axis: int, out: Array | None = None) -> Array:
    """X - log(sum(exp(x))) along `axis`, with the largest element taken out first."""
    out = np.subtract(x, np.max(x, axis=axis, keepdims=True, initial=-np.inf), out)
    np.subtract(out, np.log(np.sum(np.exp(out), axis=axis, keepdims=True)), out)
    return out
