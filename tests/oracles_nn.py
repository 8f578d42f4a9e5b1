"""What the operations of neural networks mean, by loops over windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def windows(x: Any, window: Any, strides: Any, dilations: Any, pads: Any, fill: Any) -> Iterator[tuple[Any, Any]]:
    """(place of the window, its elements: batch, window, channels), one after the other."""
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    spans = [(size - 1) * hole + 1 for size, hole in zip(window, dilations, strict=True)]
    counts = [(n - span) // s + 1 for n, span, s in zip(padded.shape[1:-1], spans, strides, strict=True)]
    for place in np.ndindex(*counts):
        starts = [at * stride for at, stride in zip(place, strides, strict=True)]
        cut = zip(starts, spans, dilations, strict=True)
        yield place, padded[(slice(None), *(slice(start, start + span, hole) for start, span, hole in cut))]


def collected(found: Iterator[tuple[Any, Any]]) -> Any:
    places, values = zip(*found, strict=True)
    counts = tuple(last + 1 for last in places[-1])
    stacked = np.stack(values, axis=1)
    return stacked.reshape(stacked.shape[0], *counts, *stacked.shape[2:])


def patches(x: Any, window: Any, strides: Any, dilations: Any, pads: Any, lowest: bool = False) -> Any:
    return collected(windows(x, window, strides, dilations, pads, least(x) if lowest else 0))


def least(x: Any) -> Any:
    return -np.inf if x.dtype.kind == "f" else False if x.dtype.kind == "b" else np.iinfo(x.dtype).min


def unpatches(g: Any, lengths: Any, window: Any, strides: Any, dilations: Any, pads: Any) -> Any:
    """By the definition of an adjoint, one element of the result after the other."""
    result = np.zeros((g.shape[0], *lengths, g.shape[-1]), g.dtype)
    for place in np.ndindex(*lengths):
        unit = np.zeros((1, *lengths, 1), g.dtype)
        unit[(0, *place, 0)] = 1
        mask = patches(unit, window, strides, dilations, pads)
        axes = tuple(range(1, g.ndim - 1))
        result[(slice(None), *place)] = np.any(g * mask, axes) if g.dtype == bool else np.sum(g * mask, axes, g.dtype)
    return result


def max_pool(x: Any, window: Any, strides: Any, pads: Any) -> Any:
    found = windows(x, window, strides, (1,) * len(window), pads, least(x))
    return collected((place, part.max(tuple(range(1, part.ndim - 1)))) for place, part in found)


def avg_pool(x: Any, window: Any, strides: Any, pads: Any) -> Any:
    found = windows(x.astype(np.float64), window, strides, (1,) * len(window), pads, np.nan)
    return collected((place, np.nanmean(part, tuple(range(1, part.ndim - 1)))) for place, part in found)


def avg_back(g: Any, lengths: Any, window: Any, strides: Any, pads: Any) -> Any:
    result = np.zeros((g.shape[0], *lengths, g.shape[-1]))
    for place in np.ndindex(*lengths):
        unit = np.zeros((1, *lengths, 1))
        unit[(0, *place, 0)] = 1
        result[(slice(None), *place)] = np.sum(g * avg_pool(unit, window, strides, pads), tuple(range(1, g.ndim - 1)))
    return result


ORACLES: dict[str, Callable[..., Any]] = {
    "window_patches": patches,
    "window_unpatches": unpatches,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "avg_pool_adjoint": avg_back,
    "class_matches": lambda labels, like: np.moveaxis([labels == k for k in range(like.shape[-1])], 0, -1),
}

NOT_PUBLIC: dict[str, str] = {
    "window_patches": "convolutions and the gradient of pools",
    "window_unpatches": "transposed convolutions and the gradient of convolutions",
    "avg_pool_adjoint": "the gradient of avg_pool",
    "class_matches": "sparse_softmax_cross_entropy_with_logits",
}
