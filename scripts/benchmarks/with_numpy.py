"""The work in plain numpy: whole arrays, gradients by hand. And how long it takes to read the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .data import Array, Data, Results, results
from .with_files import by_hand as out_of_core  # noqa: F401  # the data are on disk

Run = Callable[[], Results]


def linear_read(data: Data, threads: int) -> Run:
    """Each thread sums its share of X: no contender that reads all of it can be quicker."""
    parts = np.array_split(data.X, threads)
    pool = ThreadPoolExecutor(threads)

    def run() -> Results:
        list(pool.map(lambda part: np.add.reduce(part.reshape(-1)), parts))
        return {}

    return run


logistic_read = three_loops_read = linear_read


def _linear(X: Array, y: Array, w: Array, b: Array) -> Results:
    r = X @ w + b - y
    g = 2 * r / len(X)
    return results(np.mean(r * r), [X.T @ g, g.sum(0)])


def linear(data: Data, threads: int) -> Run:
    """Residuals, then products."""
    return lambda: _linear(data.X, data.y, *data.parameters)


def logistic(data: Data, threads: int) -> Run:
    """The loss in its stable form."""
    X, y = data.X, data.y
    w, b = data.parameters

    def run() -> Results:
        z = X @ w + b
        loss = np.mean(np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z))))
        g = (1 / (1 + np.exp(-z)) - y) / len(X)
        return results(loss, [X.T @ g, g.sum(0)])

    return run


def three_loops(data: Data, threads: int) -> Run:
    """A standardised copy, then as linear."""
    X = data.X

    def run() -> Results:
        return _linear((X - X.mean(0)) / X.std(0), data.y, *data.parameters)

    return run


def _mlp(X: Array, y: Array, parameters: Sequence[Array], activation: str) -> tuple[Any, list[Array]]:
    """The loss of the network and its gradients."""
    W1, b1, W2, b2, W3, b3 = parameters
    if activation == "tanh":
        act, slope = np.tanh, lambda h: 1 - h * h
    else:
        act, slope = lambda z: np.maximum(z, 0), lambda h: h > 0
    h1 = act(X @ W1 + b1)
    h2 = act(h1 @ W2 + b2)
    r = h2 @ W3 + b3 - y
    g3 = 2 * r / len(X)
    g2 = (g3 @ W3.T) * slope(h2)
    g1 = (g2 @ W2.T) * slope(h1)
    return np.mean(r * r), [X.T @ g1, g1.sum(0), h1.T @ g2, g2.sum(0), h2.T @ g3, g3.sum(0)]


def mlp(data: Data, threads: int) -> Run:
    """Forward, then backward."""
    return lambda: results(*_mlp(data.X, data.y, data.parameters, data.activation))


def minibatch(data: Data, threads: int) -> Run:
    """A loop over batches, Adam by hand."""

    def run() -> Results:
        parameters = [one.copy() for one in data.parameters]
        m, v = ([np.zeros_like(one) for one in parameters] for _ in range(2))
        for step in range(data.steps):
            rows = slice(step * data.batch, (step + 1) * data.batch)
            loss, gradients = _mlp(data.X[rows], data.y[rows], parameters, "tanh")
            rate = 1e-3 * (1 - 0.999 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
            for number, g in enumerate(gradients):
                m[number] = 0.9 * m[number] + 0.1 * g
                v[number] = 0.999 * v[number] + 0.001 * g * g
                parameters[number] -= rate * m[number] / (np.sqrt(v[number]) + 1e-8)
        return results(loss, parameters)

    return run


def small_steps(data: Data, threads: int) -> Run:
    """A loop over steps; intercept and slope are one vector."""
    hours, scores = data.X, data.y

    def run() -> Results:
        p = np.concatenate(data.parameters)
        m, v = np.zeros_like(p), np.zeros_like(p)
        for step in range(1, data.steps + 1):
            r = p[0] + hours * p[1] - scores
            g = np.array([2 * r.mean(), 2 * (r * hours).mean()], np.float32)
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g * g
            p = p - 0.5 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-8)
        return results((r * r).mean(), [p[:1], p[1:]])

    return run
