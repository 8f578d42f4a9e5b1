"""What selection by counting means, by sorting and Python's integers."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

CODES = {2: "eH", 4: "fI", 8: "dQ"}


def bits_of(value: float, size: int) -> int:
    """The bits of a float of `size` bytes as an integer in the order of the floats."""
    code = CODES[size]
    (bits,) = struct.unpack(code[1], struct.pack(code[0], math.nan if math.isnan(value) else value + 0.0))
    top = 1 << (8 * size - 1)
    return int(top + bits if bits < top else 2 * top - 1 - bits)


def float_of(bits: int, size: int) -> float:
    code, top = CODES[size], 1 << (8 * size - 1)
    raw = bits - top if bits >= top else 2 * top - 1 - bits
    return float(struct.unpack(code[0], struct.pack(code[1], raw))[0])


def signed(bits: int) -> int:
    return bits - (1 << 64) if bits >= 1 << 63 else bits


def select_digit(x: Any, found: Any, start: int, stop: int) -> Any:
    size, result = x.dtype.itemsize, np.zeros_like(found)
    for m in range(found.shape[1]):
        for c in range(found.shape[2]):
            keys = sorted(bits_of(float(one), size) for one in x[:, c])
            own = [one for one in keys if signed(one >> (8 * size - start)) == found[0, m, c]]
            begins = [one >> (8 * size - stop) for one in own]
            begin = begins[found[1, m, c]]
            result[:, m, c] = signed(begin), found[1, m, c] - begins.index(begin)
    return result


def bucket_middle(bits: Any, known: int, dtype: Any) -> Any:
    size = np.dtype(dtype).itemsize
    rest = 8 * size - known

    def middle(one: int) -> float:
        low = (int(one) % (1 << 64)) << rest
        first, last = float_of(low, size), float_of(low + (1 << rest) - 1, size)
        if first == 0 or first == last:
            return first
        if math.isnan(first):
            return last
        return first if math.isinf(first) else first / 2 + last / 2

    return np.asarray([middle(one) for one in bits.ravel()], dtype).reshape(bits.shape)


ORACLES: dict[str, Callable[..., Any]] = {"select_digit": select_digit, "bucket_middle": bucket_middle}

NOT_PUBLIC = {
    "select_digit": "what quantiles of large tensors are made of",
    "bucket_middle": "the same",
}
