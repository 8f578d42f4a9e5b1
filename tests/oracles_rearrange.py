"""What padding, triangles and diagonals mean, by numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def matrix_diag(x: Any, offset: int = 0, rows: int | None = None, columns: int | None = None) -> Any:
    count = x.shape[-1]
    rows = count + abs(offset) if rows is None else rows
    columns = count + abs(offset) if columns is None else columns
    result = np.zeros((*x.shape[:-1], rows, columns), x.dtype)
    for k in range(count):
        result[..., k + max(-offset, 0), k + max(offset, 0)] = x[..., k]
    return result


ORACLES: dict[str, Callable[..., Any]] = {
    "pad": lambda x, value, paddings: np.pad(x, paddings, constant_values=value),
    "tril": np.tril,
    "triu": np.triu,
    "eye": lambda shape, k, dtype: np.eye(*shape, k, dtype),
    "diagonal": lambda x, offset=0: np.diagonal(x, offset, -2, -1),
    "matrix_diag": matrix_diag,
    "linspace": lambda first, last, shape, endpoint=True: np.linspace(first, last, *shape, endpoint=endpoint),
}

NOT_PUBLIC = {"matrix_diag": "diag"}
