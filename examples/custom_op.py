"""An operation of your own, in one place: value, gradient, shape and how it may be cut.

Run it with `python examples/custom_op.py`.
"""

import numpy as np

import flowgraph as fg

# swish(x) = x * sigmoid(x). The string says that it works element by element, so it may be cut along any axis; the
# gradient is written in tensors, so it can be differentiated again.
swish = fg.define(
    "swish",
    "... -> ...",
    lambda x: x / (1 + np.exp(-x)),
    gradient=lambda g, out, x: g * (fg.sigmoid(x) * (1 + x - out)),
    flops=12,
    doc="x * sigmoid(x).",
)

# A reduction: `combine` says how the results of two pieces become one, so rows may lie on different workers.
sum_of_squares = fg.define(
    "sum_of_squares",
    "i j ->",
    lambda x: np.asarray(np.sum(x * x)),
    combine="add",
    gradient=lambda g, out, x: g * (2 * x),
    doc="The sum of the squares of a matrix.",
)


def main() -> None:
    """Fit w in y = swish(x w) by gradient descent."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50_000, 3)).astype(np.float32)
    true = np.array([[1.0], [-2.0], [0.5]], np.float32)
    y = swish(x @ true).numpy()

    w = fg.Variable(np.zeros((3, 1), np.float32))
    history = fg.fit(
        lambda x, y: sum_of_squares(swish(x @ w) - y) / fg.size(y, dtype=fg.float32),
        (x, y),
        variables=[w],
        optimizer=fg.keras.optimizers.Adam(0.05),
        steps=200,
    )
    print(f"loss {history.losses[0]:.4f} -> {history.losses[-1]:.2e}")
    print("w =", np.round(w.numpy().ravel(), 3))


if __name__ == "__main__":
    main()
