"""Tensor parallel training of a weight that fits no worker: with its two Adam slots it is cut over the cluster.

The weight has 34 MB; with its slots and a step under way that is more than the 280 MB which a worker may have, and
Dask ends a worker that takes more. Cut into eight pieces, each piece lies on a worker with its slots, its gradient is
computed there and its update too. The pieces belong to the program: one thread computes the same bits with them.
"""

from __future__ import annotations

import logging
from typing import Any

import dask
import numpy as np
from distributed import Client, LocalCluster

import flowgraph as fg
from flowgraph.errors import ClusterError

ROWS, WIDTH, HIDDEN, PIECES, STEPS = 16, 64, 131_072, 8, 2
LIMIT = "280MB"


def job() -> dict[str, Any]:
    """What `fit` is asked for: two layers, whose weights are cut over the axis "model"."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, WIDTH), dtype="float32")
    y = np.tanh(x[:, 0])
    w = fg.Variable(rng.standard_normal((WIDTH, HIDDEN), dtype="float32") / 8)
    v = fg.Variable(rng.standard_normal((HIDDEN, 1), dtype="float32") / HIDDEN**0.5)
    fg.shard(w, axes={1: "model"})
    fg.shard(v, axes={0: "model"})
    return {
        "loss": lambda x, y: fg.keras.losses.mse(y, fg.squeeze(fg.tanh(x @ w) @ v, -1)),
        "data": (x, y),
        "variables": [w, v],
        "optimizer": fg.keras.optimizers.Adam(1e-5),
    }


def train(pieces: int, **where: Any) -> tuple[Any, Any]:
    """The losses and the large weight after a few steps."""
    with fg.Mesh(model=pieces):
        own = job()
        history = fg.fit(**own, steps=STEPS, window=STEPS, **where)
    return history.losses, own["variables"][0].numpy()


def explained() -> fg.Explanation:
    """What a step of two pieces costs on two threads."""
    with fg.Mesh(model=2):
        return fg.explain_fit(**job(), workers=2, scheduler="threads")


SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.memory.target": False,  # no rescue on disk: what does not fit ends the worker
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.memory.monitor-interval": "20ms",  # a step does not take long
}

if __name__ == "__main__":
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},  # nobody looks at it here, and it takes a second
            memory_limit=LIMIT,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        print(f"a weight of {4 * WIDTH * HIDDEN / 1e6:.0f} MB on workers of {LIMIT}")
        try:
            train(1, client=client)
            print("whole: it trained")
        except ClusterError as error:
            print(f"whole: {error.found}")
        client.wait_for_workers(2)
        losses, weight = train(PIECES, client=client)
        print(f"in {PIECES} pieces: loss {losses[0]:.4f} to {losses[-1]:.4f}")
    expected, same = train(PIECES, scheduler="synchronous")
    print("same bits as on one thread:", np.array_equal(losses, expected) and np.array_equal(weight, same))
    print(explained())
