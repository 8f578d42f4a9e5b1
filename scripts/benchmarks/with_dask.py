"""The work in dask.array, in chunks over its threads; gradients by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import dask.array as da

from .data import Data, Results, results

Run = Callable[[], Results]
CHUNKS = 8


def _arrays(data: Data, threads: int) -> tuple[Any, Any]:
    dask.config.set(scheduler="threads", num_workers=threads)
    rows = -(-len(data.X) // CHUNKS)
    return tuple(da.from_array(one, chunks=(rows, -1), name=False) for one in (data.X, data.y))  # type: ignore[return-value]


def _linear(X: Any, y: Any, w: Any, b: Any) -> Results:
    r = X @ w + b - y
    g = 2 * r / len(X)
    loss, *gradients = dask.compute((r * r).mean(), X.T @ g, g.sum(0))
    return results(loss, gradients)


def linear(data: Data, threads: int) -> Run:
    """One `compute` of loss and gradients."""
    X, y = _arrays(data, threads)
    return lambda: _linear(X, y, *data.parameters)


def logistic(data: Data, threads: int) -> Run:
    """One `compute` of loss and gradients."""
    X, y = _arrays(data, threads)
    w, b = data.parameters

    def run() -> Results:
        z = X @ w + b
        loss = (da.maximum(z, 0) - z * y + da.log1p(da.exp(-abs(z)))).mean()
        g = (1 / (1 + da.exp(-z)) - y) / len(X)
        loss, *gradients = dask.compute(loss, X.T @ g, g.sum(0))
        return results(loss, gradients)

    return run


def three_loops(data: Data, threads: int) -> Run:
    """One `compute` of loss and gradients."""
    X, y = _arrays(data, threads)
    return lambda: _linear((X - X.mean(0)) / X.std(0), y, *data.parameters)
