"""What scans mean, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def scan(function: Any, first: int) -> Callable[..., Any]:
    def oracle(
        x: Any, axis: int = 0, include_initial: bool = False, exclusive: bool = False, reverse: bool = False
    ) -> Any:
        def line(values: Any) -> Any:
            values = values[::-1] if reverse else values
            whole = [function(values[:count]) if count else first for count in range(len(values) + 1)]
            kept = whole if include_initial else whole[:-1] if exclusive else whole[1:]
            return np.asarray(kept[::-1] if reverse else kept)

        if x.size == 0:
            return x
        return np.apply_along_axis(line, axis, x)

    return oracle


def recurrence(a: Any, b: Any, axis: int, backward: bool = False) -> Any:
    a, b = np.moveaxis(a, axis, -1), np.moveaxis(b, axis, -1)
    result = np.zeros_like(b)
    count = b.shape[-1]
    for k in range(count):
        for j in range(k + 1):  # b[j] reaches s[k] through the factors between
            if backward:
                result[..., j] += b[..., k] * np.prod(a[..., j + 1 : k + 1], axis=-1, dtype=a.dtype)
            else:
                result[..., k] += b[..., j] * np.prod(a[..., j + 1 : k + 1], axis=-1, dtype=a.dtype)
    return np.moveaxis(result, -1, axis)


def shift(x: Any, axis: int, by: int) -> Any:
    lines = np.moveaxis(x, axis, 0)
    count = len(lines)
    zero = np.zeros_like(lines[0])
    return np.moveaxis(np.stack([lines[k - by] if 0 <= k - by < count else zero for k in range(count)]), 0, axis)


ORACLES: dict[str, Callable[..., Any]] = {
    "cumulative_sum": scan(np.sum, 0),
    "cumulative_prod": scan(np.prod, 1),
    "recurrence": recurrence,
    "shift": shift,
    "prod": np.prod,
    "any": np.any,
    "all": np.all,
}

NOT_PUBLIC = {
    "recurrence": "what the gradient of a running product is made of",
    "shift": "the same",
}
