"""The data of each kind of work. All contenders draw the same, from the same seed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

FEATURES = 32
HOURS = """2.5 5.1 3.2 8.5 3.5 1.5 9.2 5.5 8.3 2.7 7.7 5.9 4.5 3.3 1.1 8.9 2.5 1.9 6.1 7.4 2.7 4.8 3.8 6.9 7.8"""
SCORES = """21 47 27 75 30 20 88 60 81 25 85 62 41 42 17 95 30 24 67 69 30 54 35 76 86"""

Array = np.ndarray[Any, Any]
Results = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """What a contender works on."""

    X: Array
    y: Array
    parameters: list[Array] = field(default_factory=list)
    activation: str = ""
    batch: int = 0
    steps: int = 1
    """How many steps one call makes; times are divided by it."""
    count: int = 0
    """How many shards, or workers of a simulated cluster, or rows on disk."""
    format: str = ""
    """Of the rows on disk."""
    folder: Path = Path()
    """Where they are: in the folder of the case, which all its contenders share."""

    def head(self, rows: int) -> Data:
        """The same with the first rows alone; no copy."""
        return replace(self, X=self.X[:rows], y=self.y[:rows])


def results(loss: Any, gradients: Any) -> Results:
    """The loss, if there is one, and the gradients or trained parameters, under names."""
    named = {f"array {number}": one for number, one in enumerate(gradients, 1)}
    return named if loss is None else {"loss": loss, **named}


def additions(data: Data, x: Any, y: Any) -> Callable[[], Results]:
    """A call that adds `y` to `x` again and again, in pieces that are let go of."""

    def run() -> Results:
        for start in range(0, data.steps, 500):
            value = x
            for _ in range(min(500, data.steps - start)):
                value = value + y
        return {}

    return run


def _features(rng: np.random.Generator, rows: int) -> Array:
    return rng.standard_normal((rows, FEATURES), dtype=np.float32)


def linear(rows: int) -> Data:
    """The sum of three features and some noise; the parameters are 0."""
    rng = np.random.default_rng(0)
    X = _features(rng, rows)
    y = X[:, :3].sum(1, keepdims=True) + 0.1 * rng.standard_normal((rows, 1), dtype=np.float32)
    return Data(X, y.astype(np.float32), [np.zeros((FEATURES, 1), np.float32), np.zeros(1, np.float32)])


def logistic(rows: int) -> Data:
    """Ones with a probability that the first feature gives."""
    rng = np.random.default_rng(0)
    X = _features(rng, rows)
    y = (rng.random((rows, 1), dtype=np.float32) < 1 / (1 + np.exp(-X[:, :1]))).astype(np.float32)
    return Data(X, y, [np.full((FEATURES, 1), 0.1, np.float32), np.zeros(1, np.float32)])


def three_loops(rows: int) -> Data:
    """Features of different means and spreads."""
    rng = np.random.default_rng(0)
    X = _features(rng, rows)
    X *= np.linspace(0.5, 4, FEATURES, dtype=np.float32)
    X += np.linspace(-3, 3, FEATURES, dtype=np.float32)
    y = X[:, :3].sum(1, keepdims=True)
    return Data(X, y, [np.full((FEATURES, 1), 0.1, np.float32), np.zeros(1, np.float32)])


def mlp(rows: int, width: int, activation: str) -> Data:
    """A network of two hidden layers for a smooth function of two features."""
    rng = np.random.default_rng(0)
    X = _features(rng, rows)
    y = np.sin(X[:, :1]) + X[:, 1:2]
    parameters: list[Array] = []
    for inputs, outputs in ((FEATURES, width), (width, width), (width, 1)):
        parameters.append(rng.standard_normal((inputs, outputs), dtype=np.float32) / np.float32(inputs**0.5))
        parameters.append(np.zeros(outputs, np.float32))
    return Data(X, y, parameters, activation)


def minibatch(rows: int, batch: int) -> Data:
    """The small network, with rows for whole batches."""
    whole = mlp(rows, 64, "tanh")
    steps = rows // batch
    return replace(whole.head(steps * batch), batch=batch, steps=steps)


def small_steps(steps: int) -> Data:
    """Hours of study and scores of 25 students; the parameters are an intercept and a slope."""
    hours, scores = (np.array(text.split(), np.float32) for text in (HOURS, SCORES))
    return Data(hours, scores, [np.array([1], np.float32), np.array([10], np.float32)], steps=steps)


small_eager = small_call = small_node = small_steps


processes = mlp


def out_of_core(rows: int, format: str) -> Data:
    """Rows that are on disk, and a linear model of the number 1; both are written by the first contender."""
    parameters = [np.full((FEATURES, 1), 0.1, np.float32), np.zeros(1, np.float32)]
    folder = Path(tempfile.gettempdir())
    return Data(
        np.empty((0, FEATURES), np.float32),
        np.ones((), np.float32),
        parameters,
        count=rows,
        format=format,
        folder=folder,
    )


def cluster_step(steps: int) -> Data:
    """A small network on few rows: little work, in two shards of one tile."""
    return replace(mlp(16_384, 16, "tanh"), steps=steps)


cluster_tasks = cluster_bytes = cluster_step


def no_ops(steps: int) -> Data:
    """So many tasks."""
    return replace(mlp(8, 1, "tanh"), steps=steps)


no_ops_chain = no_ops_pairs = no_ops


def lowering(shards: int) -> Data:
    """Rows for so many shards. They are never read, and take no memory."""
    whole = mlp(8, 16, "tanh")
    X, y = (
        np.broadcast_to(np.zeros((1, one.shape[1]), np.float32), (shards << 14, one.shape[1]))
        for one in (whole.X, whole.y)
    )
    return replace(whole, X=X, y=y, count=shards)


planning = lowering


def simulated(workers: int, width: int) -> Data:
    """The parameters of a network of this width."""
    return replace(mlp(8, width, "tanh"), count=workers)


def compile_tiles() -> Data:
    """A few rows: compiling looks at types alone."""
    return mlp(8, 64, "tanh")


compile_one = compile_tiles
