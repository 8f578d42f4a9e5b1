"""Models whose costs are predicted and measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import flowgraph as fg

RNG = np.random.default_rng(0)
ROWS = 60_000


def drawn(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape, dtype=np.float32)


X, Y = drawn(ROWS, 32), drawn(ROWS)


def gradients(loss: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
    def f(x: Any, y: Any) -> Any:
        with fg.GradientTape() as tape:
            value = loss(x, y)
        return value, *tape.gradient(value, variables)

    return f


def weights(*shapes: tuple[int, int]) -> list[Any]:
    return [fg.Variable(drawn(*shape)) for shape in shapes]


def mse(y: Any, h: Any) -> Any:
    return fg.keras.losses.mse(y, fg.squeeze(h, -1))


def linear() -> Callable[..., Any]:
    w, b = weights((32, 1), (1, 1))
    return gradients(lambda x, y: mse(y, x @ w + b), [w, b])


def layered(width: int = 64, **axes: Any) -> Callable[..., Any]:
    own = weights((32, width), (width, width), (width, 1))
    if axes:
        fg.shard(own[0], axes={1: "model"})
        fg.shard(own[1], axes={0: "model"})
    return gradients(lambda x, y: mse(y, fg.tanh(fg.tanh(x @ own[0]) @ own[1]) @ own[2]), own)


def tensor_parallel() -> Callable[..., Any]:
    return layered(cut=True)


def pipeline() -> Callable[..., Any]:
    own = weights((32, 32), (32, 32), (32, 1))

    def loss(x: Any, y: Any) -> Any:
        with fg.pipeline_stage(0):
            h = fg.tanh(x @ own[0])
        with fg.pipeline_stage(1):
            h = fg.tanh(h @ own[1])
        with fg.pipeline_stage(2):
            return mse(y, h @ own[2])

    return gradients(loss, own)


MODELS = [linear, layered, tensor_parallel, pipeline]


def named(key: Any) -> Any:
    """A key without the part that differs from run to run."""
    return (key[0].rpartition("-")[0], *key[1:]) if isinstance(key, tuple) else key.rpartition("-")[0]
