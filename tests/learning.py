"""What the tests of learning share: a line and a network to fit, and comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np

import flowgraph as fg

Array = np.ndarray[Any, Any]
losses, optimizers = fg.keras.losses, fg.keras.optimizers
SGD, Adam = optimizers.SGD, optimizers.Adam
DTYPES = [np.float32, np.float64]


def tolerance(dtype: Any) -> float:
    return 2e-6 if dtype == np.float32 else 1e-13


def same_bits(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


DATA = np.random.default_rng(0)
X = DATA.standard_normal((61, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.3 + 0.1 * DATA.standard_normal((61, 1))).astype(np.float32)


class Line:
    """A linear model, with a loss that takes data or brings its own."""

    def __init__(self, dtype: Any = np.float64) -> None:
        self.w, self.b = fg.Variable(np.zeros((3, 1), dtype)), fg.Variable(np.zeros(1, dtype))
        self.x, self.y = X.astype(dtype), Y.astype(dtype)

    @property
    def variables(self) -> list[Any]:
        return [self.w, self.b]

    def loss(self, x: Any, y: Any) -> Any:
        return fg.reduce_mean(losses.mse(y, x @ self.w + self.b))

    def own_loss(self) -> Any:
        return self.loss(self.x, self.y)

    def numbers(self) -> Array:
        return np.concatenate([v.numpy().ravel() for v in self.variables])


def by_fit(line: Line, opt: Any, steps: int) -> None:
    fg.fit(line.loss, (line.x, line.y), variables=line.variables, optimizer=opt, steps=steps)


class Network:
    """A small network, so that a step has several loops, products and kinds of variables."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.w = fg.Variable(rng.standard_normal((3, 4)).astype(np.float32))
        self.b = fg.Variable(np.zeros(4, np.float32))
        self.v = fg.Variable(rng.standard_normal((4, 1)).astype(np.float32))

    def loss(self, x: Any, y: Any, shards: Any = None) -> Any:
        x = x if shards is None else fg.shard(x, rows=shards)
        return fg.reduce_mean(losses.huber(y, fg.tanh(x @ self.w + self.b) @ self.v))

    def fit(self, data: Any = (X, Y), shards: Any = None, **options: Any) -> tuple[Any, ...]:
        """(losses, variables) after a fit, as bytes to compare."""
        history = fg.fit(
            lambda x, y: self.loss(x, y, shards),
            data,
            variables=[self.w, self.b, self.v],
            optimizer=Adam(0.02),
            **options,
        )
        return tuple(one.tobytes() for one in (history.losses, self.w.numpy(), self.b.numpy(), self.v.numpy()))
