"""The gradient of an expression of a dask array: lazy as the array is, and computed chunk by chunk.

A dask array enters an expression as it is. Value and gradient are Dask collections too: nothing has run when they are
made, one `dask.compute` runs both, and each chunk is read once for the two of them.
"""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np

import flowgraph as fg

ROWS, COLUMNS = 200_000, 8
reads: list[int] = []


def noted(block: Any) -> Any:
    """A chunk as it is; notes that it was read."""
    reads.append(len(block))
    return block


def energy(x: fg.Tensor, w: fg.Tensor) -> fg.Tensor:
    """How far a nonlinear model is from 1, over all rows."""
    return fg.mean(fg.square(fg.tanh(x @ w) - 1.0))


if __name__ == "__main__":
    rows = da.random.default_rng(0).standard_normal((ROWS, COLUMNS), chunks=(30_000, COLUMNS)).astype("float32")
    x = rows.map_blocks(noted, dtype="float32", meta=np.empty((0, 0), "float32"))
    w = np.linspace(-1, 1, COLUMNS, dtype="float32")

    value, (by_x, by_w) = fg.value_and_grad(energy, argnums=(0, 1))(x, w)
    print(f"lazy: {dask.is_dask_collection(by_x)}, chunks read so far: {len(reads)}")
    found = dask.compute(value, by_x, by_w)
    print(f"chunks: {rows.numblocks[0]}, read: {len(reads)}, rows read: {sum(reads)}")
    print(f"value {found[0]:.6f}, gradient by x of shape {found[1].shape}, by w of shape {found[2].shape}")

    whole = rows.compute(scheduler="synchronous")
    a = np.tanh(whole @ w)
    slope = (2 / ROWS) * (a - 1) * (1 - a * a)
    print(f"largest distance to the formula: {np.abs(found[1] - slope[:, None] * w).max():.1e}")

    value, (by_x, by_w) = fg.value_and_grad(energy, argnums=(0, 1))(whole, w)
    here = dask.compute(value, by_x, by_w, scheduler="synchronous")
    print("same bits as on one thread:", all(map(np.array_equal, found, here)))
    print(fg.function(fg.value_and_grad(energy, argnums=(0, 1)), scheduler="threads").explain(rows, w, workers=2))
