"""The work in JAX: jitted, gradients by `value_and_grad`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .data import FEATURES, Data, Results, results

Run = Callable[[], Results]


def _gradients(loss: Callable[..., Any], data: Data) -> Run:
    step = jax.jit(jax.value_and_grad(loss))
    X, y, parameters = jnp.asarray(data.X), jnp.asarray(data.y), [jnp.asarray(one) for one in data.parameters]

    def run() -> Results:
        value, gradients = step(parameters, X, y)
        return results(float(value), [np.asarray(one) for one in gradients])

    return run


def _linear_loss(parameters: Any, X: Any, y: Any) -> Any:
    w, b = parameters
    return jnp.mean((X @ w + b - y) ** 2)


def _logistic_loss(parameters: Any, X: Any, y: Any) -> Any:
    w, b = parameters
    z = X @ w + b
    return jnp.mean(jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z))))


def _standardised_loss(parameters: Any, X: Any, y: Any) -> Any:
    return _linear_loss(parameters, (X - X.mean(0)) / X.std(0), y)


def _mlp_loss(act: Callable[..., Any], parameters: Any, X: Any, y: Any) -> Any:
    W1, b1, W2, b2, W3, b3 = parameters
    return jnp.mean((act(act(X @ W1 + b1) @ W2 + b2) @ W3 + b3 - y) ** 2)


def linear(data: Data, threads: int) -> Run:
    """One jitted call."""
    return _gradients(_linear_loss, data)


def logistic(data: Data, threads: int) -> Run:
    """One jitted call, the loss in its stable form."""
    return _gradients(_logistic_loss, data)


def three_loops(data: Data, threads: int) -> Run:
    """One jitted call."""
    return _gradients(_standardised_loss, data)


def mlp(data: Data, threads: int) -> Run:
    """One jitted call."""
    act = {"tanh": jnp.tanh, "relu": lambda z: jnp.maximum(z, 0)}[data.activation]
    return _gradients(lambda *given: _mlp_loss(act, *given), data)


def _adam(state: Any, gradients: Any, rate: float) -> Any:
    """The state (parameters, m, v, number of steps) after a step."""
    p, m, v, t = state
    t = t + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
    a = rate * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return jax.tree.map(lambda p, m, v: p - a * m / (jnp.sqrt(v) + 1e-8), p, m, v), m, v, t


def _fresh(data: Data) -> Any:
    parameters = [jnp.asarray(one) for one in data.parameters]
    zeros = [jnp.zeros_like(one) for one in parameters]
    return parameters, zeros, zeros, 0.0


def minibatch(data: Data, threads: int) -> Run:
    """The whole epoch as one jitted scan."""
    X, y, start = jnp.asarray(data.X), jnp.asarray(data.y), _fresh(data)

    def step(state: Any, number: Any) -> Any:
        rows = [jax.lax.dynamic_slice_in_dim(one, number * data.batch, data.batch) for one in (X, y)]
        loss, gradients = jax.value_and_grad(lambda *given: _mlp_loss(jnp.tanh, *given))(state[0], *rows)
        return _adam(state, gradients, 1e-3), loss

    epoch = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(data.steps)))

    def run() -> Results:
        state, losses = epoch(start)
        return results(float(losses[-1]), [np.asarray(one) for one in state[0]])

    return run


def _small_step(data: Data) -> Callable[..., Any]:
    def loss(parameters: Any) -> Any:
        a, b = parameters
        return jnp.mean((a + data.X * b - data.y) ** 2)

    def step(state: Any, _: Any = None) -> Any:
        value, gradients = jax.value_and_grad(loss)(state[0])
        return _adam(state, gradients, 0.5), value

    return step


def small_steps(data: Data, threads: int) -> Run:
    """A loop over calls of a jitted step."""
    step, start = jax.jit(_small_step(data)), _fresh(data)

    def run() -> Results:
        state = start
        for _ in range(data.steps):
            state, loss = step(state)
        return results(float(loss), [np.asarray(one) for one in state[0]])

    return run


def small_steps_scan(data: Data, threads: int) -> Run:
    """All steps as one jitted scan."""
    step, start = _small_step(data), _fresh(data)
    all_steps = jax.jit(lambda state: jax.lax.scan(step, state, length=data.steps))

    def run() -> Results:
        state, losses = all_steps(start)
        return results(float(losses[-1]), [np.asarray(one) for one in state[0]])

    return run


def small_call(data: Data, threads: int) -> Run:
    """Calls of a jitted function; the value of the last is fetched."""
    function = jax.jit(lambda x, y: x * y + x)
    x, y = jnp.float32(2), jnp.float32(3)

    def run() -> Results:
        for _ in range(data.steps):
            value = function(x, y)
        return results(float(value), [])

    return run


def _compile(rows: int) -> Run:
    widths = itertools.count(64)  # each new: nothing of an earlier program can be used again

    def run() -> Results:
        n = next(widths)
        shapes = ((FEATURES, n), (n,), (n, n), (n,), (n, 1), (1,))
        parameters, X, y = jax.tree.map(
            lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
            ([*shapes], (rows, FEATURES), (rows, 1)),
            is_leaf=lambda one: isinstance(one, tuple) and isinstance(one[0], int),
        )
        step = jax.jit(jax.value_and_grad(lambda *given: _mlp_loss(jnp.tanh, *given)))
        step.lower(parameters, X, y).compile()
        return {}

    return run


def compile_tiles(data: Data, threads: int) -> Run:
    """Trace, lower and compile for many rows."""
    return _compile(500_000)


def compile_one(data: Data, threads: int) -> Run:
    """Trace, lower and compile for few rows."""
    return _compile(256)
