"""Workers that are killed in the middle of parallel fits: no bit changes, and nothing hangs."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

import flowgraph as fg

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
X = RNG.standard_normal((40_000, 6)).astype(np.float32)
Y = RNG.standard_normal(40_000).astype(np.float32)
SECONDS = 240
"""No fit here takes a tenth of it; one that does hangs."""


def fit(kind: str, **options: Any) -> list[Array]:
    """A fit that is tensor-parallel, a pipeline, or has sharded state: losses and weights."""
    rng = np.random.default_rng(1)
    w = fg.Variable(rng.standard_normal((6, 35)).astype(np.float32))
    v = fg.Variable(rng.standard_normal((35, 1)).astype(np.float32))
    if kind == "tensor":
        fg.shard(w, axes={1: 3})

    def loss(x: Any, y: Any) -> Any:
        h = fg.tanh(fg.shard(x, rows=4) @ w)
        return fg.keras.losses.mse(y, fg.squeeze(h @ v, -1))

    def piped(x: Any, y: Any) -> Any:
        with fg.pipeline_stage(0):
            h = fg.tanh(fg.shard(x, rows=4) @ w)
        with fg.pipeline_stage(1):
            return fg.keras.losses.mse(y, fg.squeeze(h @ v, -1))

    optimizer = fg.keras.optimizers.Adam(0.01, shard=3 if kind == "state" else None)
    function = piped if kind == "pipeline" else loss
    history = fg.fit(function, (X, Y), variables=[w, v], optimizer=optimizer, steps=12, window=4, **options)
    return [history.losses, w.numpy(), v.numpy()]


def in_time(function: Any) -> Any:
    """What `function()` returns; shows what all threads do if it takes too long."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        return function()
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["tensor", "pipeline", "state"])
def test_a_killed_worker_changes_no_bit(mortal_cluster: Any, kind: str) -> None:
    expected = fit(kind, scheduler="synchronous")
    pids = list(mortal_cluster.run(os.getpid).values())
    begun, done, killed = threading.Event(), threading.Event(), []

    def kill() -> None:
        begun.wait()
        time.sleep(0.1)
        if not done.is_set():
            os.kill(pids[len(kind) % 3], signal.SIGKILL)
            killed.append(kind)

    killer = threading.Thread(target=kill)
    killer.start()
    found = in_time(lambda: fit(kind, client=mortal_cluster, progress=lambda steps, loss: begun.set()))
    done.set()
    killer.join()
    assert killed
    assert all(map(np.array_equal, found, expected))
