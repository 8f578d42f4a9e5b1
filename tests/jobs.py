"""Jobs that the tests of running share: a linear regression, a small MLP, rows beside their whole; as bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import flowgraph as fg

ROWS, COLUMNS = 203, 5

RNG = np.random.default_rng(7)
X = RNG.normal(size=(ROWS, COLUMNS)).astype(np.float32)
Y = (X @ np.arange(COLUMNS, dtype=np.float32)).reshape(-1, 1)
W = RNG.normal(size=(COLUMNS, 1)).astype(np.float32)
HIDDEN = RNG.normal(size=(COLUMNS, 8)).astype(np.float32)
OUT = RNG.normal(size=(8, 1)).astype(np.float32)

Graph = tuple[fg.Tensor, ...]


def linear(x: Any, y: Any = Y) -> Graph:
    """The loss of a linear regression and its gradients."""
    w, b = fg.constant(W), fg.constant(np.float32(0.5))
    loss = fg.mean(fg.square(fg.asarray(x) @ w + b - fg.asarray(y)))
    return loss, *fg.gradient(loss, [w, b])


def mlp(x: Any, y: Any = Y) -> Graph:
    """The loss of a network with one hidden layer and its gradients."""
    first, second = fg.constant(HIDDEN), fg.constant(OUT)
    loss = fg.mean(fg.square(fg.tanh(fg.asarray(x) @ first) @ second - fg.asarray(y)))
    return loss, *fg.gradient(loss, [first, second])


def ranks(x: Any, y: Any = Y) -> Graph:
    """Rows beside the whole that they are rows of."""
    x = fg.asarray(x)
    ordered = fg.sort(x, axis=0)
    return fg.sum(fg.square(x - fg.asarray(y)), axis=0), fg.tanh(x) @ x[5:9].mT, ordered * ordered[-1]


JOBS: dict[str, Callable[..., Graph]] = {"linear": linear, "mlp": mlp, "ranks": ranks}


def bits(tensors: Graph, client: Any = None, scheduler: Any = None) -> list[bytes]:
    """The values of tensors as bytes, from one run."""
    fg.collection.evaluate([one.node for one in tensors], client, scheduler)
    return [one.numpy().tobytes() for one in tensors]


def uneven(rows: int, shards: int) -> tuple[int, ...]:
    """`rows` in shards of very different lengths, some of them empty."""
    edges = sorted(np.random.default_rng(shards).integers(0, rows + 1, shards - 1).tolist())
    return tuple(b - a for a, b in zip([0, *edges], [*edges, rows], strict=True))


def misaligned() -> np.ndarray[Any, Any]:
    """X at an odd address."""
    memory = np.empty(X.nbytes + 1, np.uint8)[1:]
    found = memory.view(X.dtype).reshape(X.shape)
    found[...] = X
    assert not found.flags.aligned
    return found


LAYOUTS: dict[str, Callable[[], Any]] = {
    "C order": X.copy,
    "F order": lambda: np.asfortranarray(X),
    "strided": lambda: np.repeat(X, 2, axis=0)[::2],
    "reversed": lambda: X[::-1].copy()[::-1],
    "misaligned": misaligned,
    "byte-swapped": lambda: X.astype(">f4"),
    "read-only": lambda: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
    "blocks": lambda: fg.from_blocks([X[:1], X[1:90], np.asfortranarray(X[90:170]), X[170:].astype(">f4")]),
}
"""The rows of X in memory in many ways."""
