"""A pipeline of four stages and eight micro-batches: one forward, one backward.

Each stage holds the weights of one layer and does its work in tasks of its own. A micro-batch goes forward through all
stages and comes back; while it does, others follow it. Stage s of four lets at most 4 - s of them in at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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

    def explained(self, x: Any, y: Any) -> fg.Explanation:
        """What a step on two threads costs."""
        optimizer = fg.keras.optimizers.SGD(0.01)
        return fg.explain_fit(
            self.loss, (x, y), variables=self.weights, optimizer=optimizer, workers=2, scheduler="threads"
        )


DIGITS = "zero one two three four five six seven eight nine".split()


def order_of(trace: fg.Trace, stage: int) -> str:
    """`F0 F1 B0 ...`: in which order a stage began its micro-batches, forward and backward.

    The last stage does both at once. Tasks of loops are named flowgraph-loop-<level>-stage-<number>.
    """
    begun: list[tuple[int, int]] = []
    for span in sorted(trace.spans, key=lambda one: one.start):
        _, kind, *words = span.name.split("-")
        if kind == "loop" and len(words) == 3 and words[1:] == ["stage", DIGITS[stage]]:
            begun.append((DIGITS.index(words[0]), span.key[2]))
    levels = sorted({level for level, _ in begun})
    letters = {levels[0]: "F", levels[-1]: "B"} if len(levels) > 1 else {levels[0]: "FB"}
    return " ".join(f"{letters[level]}{batch}" for level, batch in begun)


if __name__ == "__main__":
    rng = np.random.default_rng(1)
    x = rng.standard_normal((ROWS, WIDTH)).astype("float32")
    y = np.tanh(x[:, ::-1])
    with fg.tracing() as trace:
        Model().train(x, y, 1, scheduler="threads")
    for stage in range(STAGES):
        print(f"stage {stage}: {order_of(trace, stage)}")
    found, expected = (Model().train(x, y, 5, scheduler=one) for one in ("threads", "synchronous"))
    print(f"loss {found[0][0]:.4f} to {found[0][-1]:.4f}")
    print("same bits as on one thread:", all(map(np.array_equal, found, expected)))
    print(Model().explained(x, y))
