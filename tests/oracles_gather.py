"""What picking and scattering means, one index at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def places(x: Any, indices: Any, axes: tuple[int, ...], batch: int) -> Iterator[tuple[Any, Any]]:
    """For each element of the index: where it points in x, and where that stands in what is gathered."""
    consecutive = axes == tuple(range(axes[0], axes[0] + len(axes)))
    front = axes[0] - batch if consecutive else 0
    for at in np.ndindex(indices[0].shape):
        source: list[Any] = [slice(None)] * x.ndim
        source[:batch] = at[:batch]
        for axis, index in zip(axes, indices, strict=True):
            source[axis] = int(index[at])
        yield tuple(source), (*at[:batch], *[slice(None)] * front, *at[batch:], ...)


def picked_shape(x: Any, indices: Any, axes: tuple[int, ...], batch: int) -> list[int]:
    rest = [length for axis, length in enumerate(x.shape) if axis >= batch and axis not in axes]
    consecutive = axes == tuple(range(axes[0], axes[0] + len(axes)))
    front = axes[0] - batch if consecutive else 0
    own = indices[0].shape
    return [*own[:batch], *rest[:front], *own[batch:], *rest[front:]]


def gather_at(x: Any, *indices: Any, axes: Any, batch: int = 0) -> Any:
    indices = tuple(index.astype(int) for index in indices)
    result = np.zeros(picked_shape(x, indices, axes, batch), x.dtype)
    for source, target in places(x, indices, axes, batch):
        result[target] = x[source]
    return result


def scatter_at(values: Any, like: Any, *indices: Any, axes: Any, batch: int = 0) -> Any:
    result = np.zeros(like.shape, values.dtype)
    for source, target in places(like, indices, axes, batch):
        result[source] += values[target]
    return result


def set_at(x: Any, values: Any, *indices: Any, axes: Any, batch: int = 0) -> Any:
    indices = tuple(index.astype(int) for index in indices)
    result = x.copy()
    for source, target in places(x, indices, axes, batch):
        result[source] = values[target]
    return result


def is_last(*indices: Any, batch: int = 0) -> Any:
    owner: dict[Any, Any] = {}
    for at in np.ndindex(indices[0].shape):
        owner[(*at[:batch], *(int(index[at]) for index in indices))] = at
    result = np.zeros(indices[0].shape, bool)
    for at in owner.values():
        result[at] = True
    return result


ORACLES: dict[str, Callable[..., Any]] = {
    "gather_at": gather_at,
    "scatter_at": scatter_at,
    "set_at": set_at,
    "is_last": is_last,
}

NOT_PUBLIC = {
    "gather_at": "x[indices], take, gather, gather_nd",
    "scatter_at": "the gradient of picking, and scatter_nd",
    "set_at": "x[indices] = y",
    "is_last": "the gradient of setting",
}
