"""What the largest elements are, by Python's stable sort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def top_k(x: Any, k: int = 1) -> Any:
    lines = x.reshape(-1, x.shape[-1])
    places = np.zeros((len(lines), k), np.int64)
    for number, line in enumerate(lines):
        places[number] = sorted(range(len(line)), key=lambda at: -float(line[at]))[:k]
    places = places.reshape(*x.shape[:-1], k)
    return np.take_along_axis(x, places, -1), places


def put_along_axis(x: Any, places: Any, like: Any) -> Any:
    result = np.zeros(like.shape, x.dtype)
    for at in np.ndindex(x.shape):
        result[(*at[:-1], int(places[at]))] += x[at]
    return result


ORACLES: dict[str, Callable[..., Any]] = {"top_k": top_k, "put_along_axis": put_along_axis}

NOT_PUBLIC = {"put_along_axis": "the gradient of top_k"}
