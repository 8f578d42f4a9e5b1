"""Random numbers that depend on a seed and on the position of the element alone, never on how a tensor is cut.

Each element takes a fixed number of 64-bit words of a Philox stream (Salmon et al. 2011) at its place in the whole
tensor. The key is an operand: fixed when a tensor is made eagerly, new for every call of a traced function.
"""

from __future__ import annotations

import math
import os
import threading
from typing import Any

import numpy as np

from flowgraph.apply import apply, convert, freeze
from flowgraph.errors import DTypeError, UsageError
from flowgraph.graph import make_input
from flowgraph.op import define
from flowgraph.ops.shape import checked_shape
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import as_dtype, tensor_type

Array = np.ndarray[Any, Any]
KEY_TYPE = tensor_type((2,), np.uint64)


class _Seed(threading.local):
    """The seed of this thread and how many draws were made since it was set."""

    def __init__(self) -> None:
        self.seed = int.from_bytes(os.urandom(8))
        self.draws = 0


_STATE = _Seed()


def set_seed(seed: int) -> None:
    """Make the draws that follow in this thread repeatable: the n-th draw depends on `seed` and n alone."""
    _STATE.seed, _STATE.draws = int(seed) % 2**64, 0


def next_key(seed: Any = None) -> Array:
    """The key of the next draw, two 64-bit words: (seed, number of the draw).

    With `seed`, a number or a pair of them, it is that of this seed alone; its second word is 2**63 or more.
    """
    if seed is not None:
        first, second = _pair(seed)
        return np.array([first % 2**64, 2**63 + second % 2**63], np.uint64)
    _STATE.draws += 1
    return np.array([_STATE.seed, _STATE.draws], np.uint64)


def _pair(seed: Any) -> tuple[int, int]:
    """A seed as two numbers: one number stands for itself and 0."""
    given = freeze(seed)
    numbers = given if isinstance(given, tuple) else (given, 0)
    if len(numbers) != 2 or any(isinstance(one, bool) or not isinstance(one, int) for one in numbers):
        raise UsageError(f"seed={seed!r}", "it is neither an integer nor two of them", "Give an int, or [int, int].")
    return numbers


def words(key: Array, shape: tuple[int, ...], at: Any, stream: int = 0) -> Array:
    """One 64-bit word for each element of the piece `at` = ((start, stop, total) of each axis) of a tensor.

    An element has a word in each of 2**64 streams: a distribution that needs several takes them from there.
    """
    totals = [total for _, _, total in at]
    split = next((axis for axis, (start, stop, total) in enumerate(at) if stop - start != total), None)
    if split is None or split == 0:
        width = math.prod(totals[1:])
        start = at[0][0] * width if at else 0
        return _stream(key, start, math.prod(shape), stream).reshape(shape)
    # A piece of a later axis is a run of words in every row of the whole.
    start, stop, total = at[split]
    inner = math.prod(totals[split + 1 :])
    count = (stop - start) * inner
    runs = [_stream(key, (row * total + start) * inner, count, stream) for row in range(math.prod(totals[:split]))]
    return np.concatenate(runs).reshape(shape) if runs else np.empty(shape, np.uint64)


def _stream(key: Array, start: int, count: int, stream: int) -> Array:
    """`count` words of a stream of `key` from position `start` on; Philox makes four at a time."""
    generator = np.random.Philox(key=key, counter=start // 4 + (stream << 64))
    skip = start % 4
    return generator.random_raw(skip + count)[skip:] if count else np.empty(0, np.uint64)


def _uniform(key: Array, shape: Any, dtype: Any, at: Any) -> Array:
    """Multiples of 2**-bits in [0, 1), as many bits as the dtype holds: the top bits of a word. None rounds up to 1."""
    raw = words(key, shape, at)
    bits = np.finfo(dtype).nmant + 1
    wide = np.result_type(dtype, np.float32)  # 11 bits overflow a float16 before they are scaled
    result: Array = (raw >> np.uint64(64 - bits)).astype(wide) * wide.type(2.0**-bits)
    return result.astype(dtype)


def _normal(key: Array, shape: Any, dtype: Any, at: Any) -> Array:
    """Standard normal numbers by the inverse of the distribution function at the middle of one of 2**53 intervals."""
    raw = words(key, shape, at)
    return inverse_normal(((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53).astype(dtype)


def _integers(key: Array, low: Array, high: Array, shape: Any, dtype: Any, at: Any) -> Array:
    """The numbers low + floor(word * (high - low) / 2**64): multiply-shift, with the 128-bit product in two halves."""
    raw = words(key, shape, at)
    span = np.uint64(int(high) - int(low))
    top, bottom = raw >> np.uint64(32), raw & np.uint64(2**32 - 1)
    span_top, span_bottom = span >> np.uint64(32), span & np.uint64(2**32 - 1)
    middle = top * span_bottom + ((bottom * span_bottom) >> np.uint64(32))
    carry = bottom * span_top + (middle & np.uint64(2**32 - 1))
    result = top * span_top + (middle >> np.uint64(32)) + (carry >> np.uint64(32))
    shifted: Array = result.astype(np.int64) + np.int64(low)
    return shifted.astype(dtype)


# Wichura's algorithm AS 241 (Applied Statistics 37, 1988), PPND16: relative error about 1e-16.
_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125,
     1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077,
     687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_MIDDLE = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip
_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
     0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0),
)  # fmt: skip


def _ratio(x: Array, coefficients: Any) -> Array:
    return np.polyval(coefficients[0], x) / np.polyval(coefficients[1], x)


def inverse_normal(p: Array) -> Array:
    """The number below which a standard normal number falls with probability `p`, for p in (0, 1)."""
    p = np.asarray(p)
    q = np.asarray(p - 0.5)
    out = np.asarray(q * _ratio(0.180625 - q * q, _CENTRE))
    outside = np.abs(q) > 0.425
    if outside.any():
        side = q[outside]
        r = np.sqrt(-np.log(np.minimum(p[outside], 1 - p[outside])))
        tail = np.where(r <= 5, _ratio(r - 1.6, _MIDDLE), _ratio(r - 5, _TAIL))
        out[outside] = np.copysign(tail, side)
    return out


def _shape_attrs(*types: Any, shape: Any, dtype: Any) -> dict[str, Any]:
    return {"shape": checked_shape(shape), "dtype": np.dtype(dtype)}


def _samples(dtype: Any, *bounds: int) -> Any:
    operands = (KEY_TYPE, *(np.asarray(bound, np.int64) for bound in bounds))
    return lambda: [(operands, {"shape": shape, "dtype": np.dtype(dtype)}) for shape in ((5, 4), (7,), (5, 2, 3), ())]


def _drawn(count: int) -> Any:
    return lambda types, attrs: (tuple(one.dtype for one in types), attrs["dtype"])


def _factors(types: Any, attrs: Any) -> str:
    return f"[key]{', ' * (len(types) - 1)} -> {' '.join(f'a{axis}' for axis in range(len(attrs['shape'])))}"


uniform_op = define(
    "random_uniform",
    _factors,
    _uniform,
    attrs=_shape_attrs,
    dtype=_drawn(1),
    flops=5,
    samples=_samples(np.float32),
    doc="Uniform numbers in [0, 1).",
)
normal_op = define(
    "random_normal",
    _factors,
    _normal,
    attrs=_shape_attrs,
    dtype=_drawn(1),
    flops=60,
    samples=_samples(np.float64),
    doc="Standard normal numbers.",
)
integers_op = define(
    "random_integers",
    _factors,
    _integers,
    attrs=_shape_attrs,
    dtype=_drawn(3),
    flops=10,
    samples=_samples(np.int32, -3, 200),
    doc="Uniform integers in [low, high).",
)


def key_of(seed: Any) -> Tensor:
    """The operand that says which numbers are drawn: of `seed`, or of the next draw."""
    return tensor_of(make_input(KEY_TYPE, "key", value=next_key(seed)))


def real_dtype_of(dtype: Any, what: str) -> np.dtype[Any]:
    """`dtype`; raises DTypeError where numbers of it are not real."""
    kind = as_dtype(dtype)
    if kind.kind != "f":
        raise DTypeError(f"{what} of dtype {kind}", "they are real", "Use float32 or float64.")
    return kind


def in_dtype(value: Any, dtype: np.dtype[Any]) -> Tensor:
    """`value` as a tensor of `dtype`; a Python number is not rounded to another one first."""
    return convert(value, dtype).astype(dtype)


def moved(drawn: Tensor, mean: Any, stddev: Any) -> Tensor:
    """Numbers that were `drawn` about 0, with another mean and so many times as wide."""
    return drawn * in_dtype(stddev, drawn.dtype) + in_dtype(mean, drawn.dtype)


def uniform(shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = np.float32, seed: Any = None) -> Tensor:
    """Random numbers of `shape`, uniform in [minval, maxval); integers where `dtype` is one.

    `maxval` is 1 if not given and must be given for integers. With the same `seed`, or after `set_seed`, the same
    numbers come again, however the tensor is cut over tasks.

    >>> import flowgraph as fg
    >>> fg.random.uniform([2, 2], maxval=255, dtype="int32", seed=1).shape
    (2, 2)
    """
    kind = as_dtype(dtype)
    shape = checked_shape(freeze(shape))
    if kind.kind in "iu":
        if maxval is None:
            raise UsageError(f"random {kind} without maxval", "integers have no natural range", "Give maxval.")
        bounds = tuple(convert(np.asarray(value, np.int64)) for value in _integer_range(minval, maxval, kind))
        return apply(integers_op, (key_of(seed), *bounds), {"shape": shape, "dtype": kind})  # type: ignore[no-any-return]
    if kind.kind != "f":
        raise DTypeError(f"random numbers of {kind}", "it is neither integer nor real", "Use a float or int dtype.")
    drawn = apply(uniform_op, (key_of(seed),), {"shape": shape, "dtype": kind})
    top = 1 if maxval is None else maxval
    if isinstance(minval, int | float) and isinstance(top, int | float) and (minval, top) == (0, 1):
        return drawn  # type: ignore[no-any-return]
    low, high = (in_dtype(one, kind) for one in (minval, top))
    return drawn * (high - low) + low  # type: ignore[no-any-return]


def _integer_range(minval: Any, maxval: Any, dtype: np.dtype[Any]) -> tuple[int, int]:
    low, high = int(minval), int(maxval)
    if not low < high:
        raise UsageError(f"integers in [{minval}, {maxval})", "the range is empty", "Give maxval above minval.")
    held = np.iinfo(np.int64 if dtype == np.uint64 else dtype)  # a bound is an int64 itself
    if low < held.min or high - 1 > held.max or high > 2**63 - 1:
        raise DTypeError(
            f"random {dtype} in [{minval}, {maxval})",
            f"integers from {held.min} to {held.max} can be drawn",
            "Give a smaller range, or a dtype that holds it.",
        )
    return low, high


def normal(shape: Any, mean: Any = 0, stddev: Any = 1, dtype: Any = np.float32, seed: Any = None) -> Tensor:
    """Random numbers of `shape` from the normal distribution with `mean` and `stddev`.

    >>> import flowgraph as fg
    >>> bool(fg.random.normal([3], seed=1).numpy().tolist() == fg.random.normal([3], seed=1).numpy().tolist())
    True
    """
    kind = real_dtype_of(dtype, "normal numbers")
    drawn = apply(normal_op, (key_of(seed),), {"shape": checked_shape(freeze(shape)), "dtype": kind})
    return moved(drawn, mean, stddev)
