"""Newton's method by `fg.while_loop`, and how its solution changes with a parameter.

The solution x of f(x, a) = 0 has the derivative dx/da = -f_a / f_x (the implicit function theorem). The gradient goes
through the iterations instead and must find the same number.
"""

from __future__ import annotations

import numpy as np

import flowgraph as fg


def f(x: fg.Tensor, a: fg.Tensor) -> fg.Tensor:
    """An equation without a formula for its solution x."""
    return x - a * fg.square(fg.tanh(x)) - 1.2


@fg.function
def solve(a: fg.Tensor) -> fg.Tensor:
    """The x with f(x, a) = 0, to a tolerance."""

    def step(x: fg.Tensor) -> fg.Tensor:
        value, slope = fg.value_and_grad(f)(x, a)
        return x - value / slope

    start = fg.ones_like(a)
    return fg.while_loop(lambda x: fg.abs(f(x, a)) > 1e-12, step, start, maximum_iterations=50)


@fg.function
def slope(a: fg.Tensor) -> fg.Tensor:
    """dx/da through the iterations."""
    return fg.grad(solve)(a)


if __name__ == "__main__":
    a = fg.constant(0.4, dtype="float64")
    x = solve(a)
    by_x, by_a = fg.grad(f, argnums=(0, 1))(x, a)
    print(f"solution {float(x):.12f}, residual {abs(float(f(x, a))):.1e}")
    print(f"slope through the loop {float(slope(a)):.12f}, implicit {float(-by_a / by_x):.12f}")
    print(f"second derivative {float(fg.grad(fg.grad(solve))(a)):.8f}")
    h = np.float64(1e-4)
    ends = [float(slope(fg.constant(0.4 + sign * h, dtype="float64"))) for sign in (-1, 1)]
    print(f"by differences {(ends[1] - ends[0]) / (2 * h):.8f}")
