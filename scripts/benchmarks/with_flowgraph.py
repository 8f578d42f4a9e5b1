"""The work as a user of flowgraph writes it: numpy data by `fg.asarray`, on threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import flowgraph as fg

from .data import FEATURES, Data, Results, additions, results
from .losses import gradients, linear_loss, logistic_loss, mlp_loss, standardised_loss, tanh_loss
from .with_cluster import (  # noqa: F401  # works of its own, in a file of their own
    cluster_bytes,
    cluster_step,
    cluster_tasks,
    lowering,
    no_ops,
    no_ops_chain,
    no_ops_pairs,
    planning,
    processes,
    simulated,
)
from .with_files import out_of_core  # noqa: F401

Run = Callable[[], Results]


def linear(data: Data, threads: int) -> Run:
    """One call of a traced function."""
    return gradients(linear_loss, data)


def logistic(data: Data, threads: int) -> Run:
    """One call of a traced function."""
    return gradients(logistic_loss, data)


def three_loops(data: Data, threads: int) -> Run:
    """One call of a traced function."""
    return gradients(standardised_loss, data)


def mlp(data: Data, threads: int) -> Run:
    """One call of a traced function."""
    activation = getattr(fg, data.activation)
    return gradients(lambda *given: mlp_loss(activation, *given), data)


def minibatch(data: Data, threads: int) -> Run:
    """A fit of one epoch, from fresh variables."""

    def run() -> Results:
        variables = [fg.Variable(one) for one in data.parameters]
        history = fg.fit(
            lambda X, y: tanh_loss(variables, X, y),
            (data.X, data.y),
            variables=variables,
            optimizer=fg.keras.optimizers.Adam(1e-3, epsilon=1e-8),
            batch_size=data.batch,
            epochs=1,
            shuffle=False,
        )
        return results(history.losses[-1], [one.numpy() for one in variables])

    return run


def small_steps(data: Data, threads: int) -> Run:
    """A fit, from fresh variables."""

    def run() -> Results:
        a, b = (fg.Variable(one) for one in data.parameters)
        history = fg.fit(
            lambda hours, scores: fg.mean(fg.square(a + hours * b - scores)),
            (data.X, data.y),
            variables=[a, b],
            optimizer=fg.keras.optimizers.Adam(0.5, epsilon=1e-8),
            steps=data.steps,
        )
        return results(history.losses[-1], [a.numpy(), b.numpy()])

    return run


def small_eager(data: Data, threads: int) -> Run:
    """`minimize` in a loop, from fresh variables."""
    hours, scores = fg.constant(data.X), fg.constant(data.y)

    def run() -> Results:
        a, b = (fg.Variable(one) for one in data.parameters)
        optimizer = fg.keras.optimizers.Adam(0.5, epsilon=1e-8)

        def loss() -> Any:
            return fg.reduce_mean(fg.square(a + hours * b - scores))

        for _ in range(data.steps):
            optimizer.minimize(loss, var_list=[a, b])
        return results(None, [a.numpy(), b.numpy()])

    return run


def small_call(data: Data, threads: int) -> Run:
    """Calls of a traced function; the value of the last is fetched."""
    function = fg.function(lambda x, y: x * y + x)
    x, y = fg.constant(2.0), fg.constant(3.0)

    def run() -> Results:
        for _ in range(data.steps):
            value = function(x, y)
        return results(value.numpy(), [])

    return run


def small_node(data: Data, threads: int) -> Run:
    """A chain of additions that nobody asks the value of, in pieces that are let go of."""
    return additions(data, fg.constant(data.X), fg.constant(data.y))


def _compile(data: Data, kernels: Callable[[Any], list[Any]]) -> Run:
    widths = itertools.count(64)  # each new: nothing of an earlier program can be used again

    def run() -> Results:
        n = next(widths)
        shapes = ((FEATURES, n), (n,), (n, n), (n,), (n, 1), (1,))
        parameters = tuple(np.zeros(shape, np.float32) for shape in shapes)
        step = fg.function(fg.value_and_grad(tanh_loss))
        for kernel in kernels(step.program(parameters, data.X, data.y)):
            kernel.function()
        return {}

    return run


def compile_tiles(data: Data, threads: int) -> Run:
    """All that a first call on data of many tiles does before it computes."""
    return _compile(data, lambda program: [stage.kernel for stage in program.stages])


def compile_one(data: Data, threads: int) -> Run:
    """All that a first call on data of one tile does before it computes."""
    return _compile(data, lambda program: [program.one])
