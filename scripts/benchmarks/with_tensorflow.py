"""The work in TensorFlow: traced by `tf.function`, or eager where the work is to be so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .data import Data, Results, additions, results

Run = Callable[[], Results]


def _use(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _gradients(loss: Callable[..., Any], data: Data, threads: int) -> Run:
    _use(threads)
    X, y, parameters = tf.constant(data.X), tf.constant(data.y), [tf.Variable(one) for one in data.parameters]

    @tf.function
    def step(X: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(X, y, *parameters)
        return value, tape.gradient(value, parameters)

    def run() -> Results:
        value, gradients = step(X, y)
        return results(float(value), [one.numpy() for one in gradients])

    return run


def _linear_loss(X: Any, y: Any, w: Any, b: Any) -> Any:
    return tf.reduce_mean(tf.square(X @ w + b - y))


def _logistic_loss(X: Any, y: Any, w: Any, b: Any) -> Any:
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=X @ w + b))


def _standardised_loss(X: Any, y: Any, w: Any, b: Any) -> Any:
    return _linear_loss((X - tf.reduce_mean(X, 0)) / tf.math.reduce_std(X, 0), y, w, b)


def _mlp_loss(act: Callable[..., Any], X: Any, y: Any, W1: Any, b1: Any, W2: Any, b2: Any, W3: Any, b3: Any) -> Any:
    return tf.reduce_mean(tf.square(act(act(X @ W1 + b1) @ W2 + b2) @ W3 + b3 - y))


def linear(data: Data, threads: int) -> Run:
    """One call of a tf.function."""
    return _gradients(_linear_loss, data, threads)


def logistic(data: Data, threads: int) -> Run:
    """One call of a tf.function, with TensorFlow's own loss."""
    return _gradients(_logistic_loss, data, threads)


def three_loops(data: Data, threads: int) -> Run:
    """One call of a tf.function."""
    return _gradients(_standardised_loss, data, threads)


def mlp(data: Data, threads: int) -> Run:
    """One call of a tf.function."""
    act = getattr(tf.nn, data.activation)
    return _gradients(lambda *given: _mlp_loss(act, *given), data, threads)


class _Trained:
    """Variables and Adam, which can be set back to where they began."""

    def __init__(self, data: Data, rate: float, threads: int) -> None:
        _use(threads)
        self.data = data
        self.variables = [tf.Variable(one) for one in data.parameters]
        self.optimizer = tf.keras.optimizers.Adam(rate, epsilon=1e-8)
        self.optimizer.build(self.variables)
        self.at_first = [one.numpy() for one in self.optimizer.variables]

    def reset(self) -> None:
        for variable, value in zip(self.variables, self.data.parameters, strict=True):
            variable.assign(value)
        for variable, value in zip(self.optimizer.variables, self.at_first, strict=True):
            variable.assign(value)

    def step(self, loss: Callable[..., Any], *batch: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(*batch, *self.variables)
        self.optimizer.apply_gradients(zip(tape.gradient(value, self.variables), self.variables, strict=True))
        return value

    def results(self, loss: Any) -> Results:
        return results(float(loss), [one.numpy() for one in self.variables])


def minibatch(data: Data, threads: int) -> Run:
    """The whole epoch as one tf.function with a loop in it."""
    trained = _Trained(data, 1e-3, threads)
    X, y = tf.constant(data.X), tf.constant(data.y)

    @tf.function
    def epoch(X: Any, y: Any) -> Any:
        loss = tf.constant(0.0)
        for number in tf.range(data.steps):
            start = number * data.batch
            rows = [tf.slice(one, [start, 0], [data.batch, one.shape[1]]) for one in (X, y)]
            loss = trained.step(lambda *given: _mlp_loss(tf.tanh, *given), *rows)
        return loss

    def run() -> Results:
        trained.reset()
        return trained.results(epoch(X, y))

    return run


def _small(data: Data, threads: int, traced: bool) -> Run:
    trained = _Trained(data, 0.5, threads)
    hours, scores = tf.constant(data.X), tf.constant(data.y)

    def step() -> Any:
        return trained.step(lambda a, b: tf.reduce_mean(tf.square(a + hours * b - scores)))

    step = tf.function(step) if traced else step

    def run() -> Results:
        trained.reset()
        for _ in range(data.steps):
            loss = step()
        return trained.results(loss)

    return run


def small_steps(data: Data, threads: int) -> Run:
    """A loop over calls of a tf.function that makes one step."""
    return _small(data, threads, traced=True)


def small_eager(data: Data, threads: int) -> Run:
    """A loop over eager steps."""
    return _small(data, threads, traced=False)


def small_node(data: Data, threads: int) -> Run:
    """The same additions, which TensorFlow computes at once."""
    _use(threads)
    return additions(data, tf.constant(data.X), tf.constant(data.y))


def small_call(data: Data, threads: int) -> Run:
    """Calls of a tf.function; the value of the last is fetched."""
    _use(threads)
    function = tf.function(lambda x, y: x * y + x)
    x, y = tf.constant(2.0), tf.constant(3.0)

    def run() -> Results:
        for _ in range(data.steps):
            value = function(x, y)
        return results(float(value), [])

    return run
