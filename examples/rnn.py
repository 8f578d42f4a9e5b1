"""A recurrent network by `fg.scan`: it learns to tell the sum of a sequence from its elements, one at a time.

The loop over time is one operation of the graph. Its body lets the axis of the sequences through, so a data set is cut
over tasks and tiles as with any other model, forward and backward.
"""

from __future__ import annotations

import numpy as np

import flowgraph as fg

SEQUENCES, STEPS, HIDDEN = 2000, 8, 12


def data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of numbers, and the sum of each."""
    x = rng.uniform(-0.5, 0.5, (SEQUENCES, STEPS, 1)).astype("float32")
    return x, x.sum(axis=1)


def network(rng: np.random.Generator) -> list[fg.Variable]:
    """The weights: from the input, from the state, a bias, and to the output."""
    shapes = [(1, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN,), (HIDDEN, 1)]
    return [fg.Variable(0.3 * rng.standard_normal(shape).astype("float32")) for shape in shapes]


def predict(weights: list[fg.Variable], x: fg.Tensor) -> fg.Tensor:
    """The output after the last element of each sequence, in `x` of shape (sequences, steps, 1)."""
    w, u, b, v = weights
    by_time = fg.transpose(fg.asarray(x), (1, 0, 2))
    start = fg.zeros_like(by_time[0] @ w)
    return fg.foldl(lambda h, element: fg.tanh(element @ w + h @ u + b), by_time, start) @ v


def error(weights: list[fg.Variable], x: fg.Tensor, y: fg.Tensor) -> fg.Tensor:
    """The mean squared error."""
    return fg.mean(fg.keras.losses.mse(y, predict(weights, x)))


def by_fit(x: np.ndarray, y: np.ndarray) -> None:
    """Train with `fit`: all steps run without Python."""
    weights = network(np.random.default_rng(1))
    history = fg.fit(
        lambda x, y: error(weights, x, y),
        (x, y),
        variables=weights,
        optimizer=fg.keras.optimizers.Adam(0.02),
        steps=150,
    )
    print(f"fit: loss from {history.losses[0]:.4f} to {history.losses[-1]:.6f}")


def by_minimize(x: np.ndarray, y: np.ndarray) -> None:
    """Train step by step, as with TensorFlow."""
    weights = network(np.random.default_rng(1))
    optimizer = fg.keras.optimizers.Adam(0.02)
    losses = []
    for _ in range(60):
        with fg.GradientTape() as tape:
            loss = error(weights, x, y)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        losses.append(float(loss))
    print(f"step by step: loss from {losses[0]:.4f} to {losses[-1]:.6f}")

    optimizer = fg.keras.optimizers.Adam(0.002)
    for _ in range(20):
        optimizer.minimize(lambda: error(weights, x, y), weights)
    print(f"minimize: loss {float(error(weights, x, y)):.6f}")


if __name__ == "__main__":
    inputs, targets = data(np.random.default_rng(0))
    by_fit(inputs, targets)
    by_minimize(inputs[:256], targets[:256])
