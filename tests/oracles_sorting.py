"""What order means, by numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def sort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    result = np.sort(x, axis)
    return np.flip(result, axis) if descending else result


def argsort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    def line(values: Any) -> Any:
        key = [-float(one) if descending else float(one) for one in values]
        return np.asarray(sorted(range(len(key)), key=key.__getitem__), np.int64)

    return np.apply_along_axis(line, axis, x) if x.size else np.zeros(x.shape, np.int64)


def searchsorted(x: Any, values: Any, side: str = "left") -> Any:
    lines = np.broadcast_to(x, (*values.shape, x.shape[-1])) if x.ndim == 1 else x[..., None, :]
    wanted = values[..., None]
    return np.sum(lines < wanted if side == "left" else lines <= wanted, axis=-1)


ORACLES: dict[str, Callable[..., Any]] = {
    "argmax": np.argmax,
    "argmin": np.argmin,
    "sort": sort,
    "argsort": argsort,
    "searchsorted": searchsorted,
}
