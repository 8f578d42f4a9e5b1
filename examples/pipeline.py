"""A pipeline of four stages and eight micro-batches: one forward, one backward.

Each stage holds the weights of one layer and does its work in tasks of its own. A micro-batch goes forward through all
stages and comes back; while it does, others follow it. Stage s of four lets at most 4 - s of them in at a time.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from dask.callbacks import Callback

import flowgraph as fg

STAGES, BATCHES, ROWS, WIDTH = 4, 8, 65_536, 48


class Model:
    """Four layers, each in a stage of its own."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.weights = [
            fg.Variable((rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype("float32")) for _ in range(STAGES)
        ]

    def loss(self, x: fg.Tensor, y: fg.Tensor) -> fg.Tensor:
        """How far the last layer is from `y`."""
        h = fg.shard(x, rows=BATCHES)
        for number, w in enumerate(self.weights):
            with fg.pipeline_stage(number):
                h = fg.tanh(h @ w)
        with fg.pipeline_stage(STAGES - 1):
            return fg.keras.losses.mse(fg.sum(y, axis=1), fg.sum(h, axis=1))

    def train(self, x: Any, y: Any, steps: int, **where: Any) -> list[Any]:
        """The losses and the weights."""
        optimizer = fg.keras.optimizers.SGD(0.01)
        history = fg.fit(
            self.loss, (x, y), variables=self.weights, optimizer=optimizer, steps=steps, window=steps, **where
        )
        return [history.losses, *(w.numpy() for w in self.weights)]


class Order(Callback):
    """Notes in which order each stage begins its loops over the rows of micro-batches."""

    def __init__(self) -> None:
        super().__init__(pretask=self.note)
        self.begun: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def note(self, key: Any, *_: Any) -> None:
        """A task begins; its key is (name of the stage, step, micro-batch)."""
        name = key[0].split("-")[1]
        if name.startswith("loop_") and "_stage" in name and key[0].count("-") == 2:
            level, stage = name.removeprefix("loop_").split("_stage")
            self.begun[int(stage)].append((int(level), key[2]))

    def line(self, stage: int) -> str:
        """`F0 F1 B0 ...`: forward and backward of each micro-batch. The last stage does both at once."""
        levels = sorted({level for level, _ in self.begun[stage]})
        letters = {level: "FB"[level != levels[0]] if len(levels) > 1 else "FB" for level in levels}
        return " ".join(f"{letters[level]}{batch}" for level, batch in self.begun[stage])


if __name__ == "__main__":
    rng = np.random.default_rng(1)
    x = rng.standard_normal((ROWS, WIDTH)).astype("float32")
    y = np.tanh(x[:, ::-1])
    with Order() as order:
        Model().train(x, y, 1, scheduler="threads")
    for stage in range(STAGES):
        print(f"stage {stage}: {order.line(stage)}")
    found, expected = (Model().train(x, y, 5, scheduler=one) for one in ("threads", "synchronous"))
    print(f"loss {found[0][0]:.4f} to {found[0][-1]:.4f}")
    print("same bits as on one thread:", all(map(np.array_equal, found, expected)))
