"""Data parallel training: the rows are cut over the processes of a cluster, and no bit depends on how.

Every process computes loss and gradients of its rows; what they find is added in an order that rows alone decide.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

import flowgraph as fg

ROWS = 60_000


def data() -> tuple[Any, Any]:
    """Rows of eight numbers, and a smooth function of each."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, 8)).astype("float32")
    return x, np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2]


def model() -> tuple[Any, list[Any], Any]:
    """A small network: its loss, its weights, and the optimizer."""
    rng = np.random.default_rng(1)
    w = fg.Variable(rng.standard_normal((8, 32)).astype("float32") * 0.3)
    b = fg.Variable(np.zeros(32, "float32"))
    v = fg.Variable(rng.standard_normal((32, 1)).astype("float32") * 0.2)

    def loss(x: fg.Tensor, y: fg.Tensor) -> fg.Tensor:
        h = fg.tanh(fg.shard(x, rows="data") @ w + b)
        return fg.keras.losses.mse(y, fg.squeeze(h @ v, -1))

    # A sharded optimizer is data parallel too: every process updates its part of the weights.
    return loss, [w, b, v], fg.keras.optimizers.Adam(0.02, shard=2)


def train(x: Any, y: Any, shards: int, **where: Any) -> tuple[Any, list[Any]]:
    """The losses and the weights after six steps; the rows are cut into `shards`."""
    loss, variables, optimizer = model()
    with fg.Mesh(data=shards):
        history = fg.fit(loss, (x, y), variables=variables, optimizer=optimizer, steps=6, window=3, **where)
    return history.losses, [one.numpy() for one in variables]


def explained(x: Any, y: Any) -> fg.Explanation:
    """What a step on two threads costs."""
    loss, variables, optimizer = model()
    with fg.Mesh(data=4):
        return fg.explain_fit(loss, (x, y), variables=variables, optimizer=optimizer, workers=2, scheduler="threads")


if __name__ == "__main__":
    x, y = data()
    losses, weights = train(x, y, 1, scheduler="synchronous")
    print(f"loss on one thread: {losses[0]:.4f} to {losses[-1]:.4f}")
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},  # nobody looks at it here, and it takes a second
            memory_limit=0,
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        for shards in (2, 5):
            found, other = train(x, y, shards, client=client)
            same = np.array_equal(found, losses) and all(map(np.array_equal, other, weights))
            print(f"{shards} shards on {len(client.nthreads())} processes: same bits {same}")
    print(explained(x, y))
