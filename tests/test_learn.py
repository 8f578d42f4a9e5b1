"""Learning: losses, optimizers, and the fit loop on any executor."""

from __future__ import annotations

import importlib.util
import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import flowgraph as fg
from flowgraph import eager, schedule
from flowgraph.errors import DivergedError, GradientError, ShapeError, UsageError
from flowgraph.train.batches import BLOCK_ROWS, BUFFER_BLOCKS, Batches

Array = np.ndarray[Any, Any]
losses, optimizers = fg.keras.losses, fg.keras.optimizers
SGD, Adam = optimizers.SGD, optimizers.Adam
DTYPES = [np.float32, np.float64]


def tolerance(dtype: Any) -> float:
    return 2e-6 if dtype == np.float32 else 1e-13


def same_bits(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


# Losses.


def numpy_huber(true: Array, pred: Array, delta: float = 1.0) -> Array:
    error = np.abs(pred - true)
    return np.where(error <= delta, error**2 / 2, delta * (error - delta / 2)).mean(axis=-1)


LOSSES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Array]]] = {
    "mse": (losses.mse, losses.MeanSquaredError, lambda true, pred: ((pred - true) ** 2).mean(axis=-1)),
    "mae": (losses.mae, losses.MeanAbsoluteError, lambda true, pred: np.abs(pred - true).mean(axis=-1)),
    "huber": (losses.huber, losses.Huber, numpy_huber),
    "huber 0.3": (
        lambda true, pred: losses.huber(true, pred, 0.3),
        lambda **options: losses.Huber(0.3, **options),
        lambda true, pred: numpy_huber(true, pred, 0.3),
    ),
}
each_loss = pytest.mark.parametrize(("function", "made", "expected"), LOSSES.values(), ids=LOSSES.keys())


def pair(shape: tuple[int, ...], dtype: Any = np.float64) -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    return rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)


@each_loss
@pytest.mark.parametrize("shape", [(), (5,), (4, 1), (4, 3), (2, 4, 3)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loss_is_the_mean_over_the_last_axis(
    function: Any, made: Any, expected: Any, shape: tuple[int, ...], dtype: Any
) -> None:
    true, pred = pair(shape, dtype)
    value = function(true, pred)
    want = expected(true.reshape(shape or (1,)), pred.reshape(shape or (1,)))
    assert value.dtype == dtype
    assert value.shape == shape[:-1]
    np.testing.assert_allclose(value.numpy(), want, rtol=tolerance(dtype))
    np.testing.assert_allclose(made()(true, pred).numpy(), want.mean(), rtol=tolerance(dtype))


@each_loss
def test_reductions_and_weights(function: Any, made: Any, expected: Any) -> None:
    true, pred = pair((5, 3))
    weights = np.array([0.5, 0.0, 2.0, 1.0, 0.25])
    each = expected(true, pred)
    for given_weights in (weights, weights[:, None], fg.constant(weights), weights.tolist()):
        for reduction, want in {
            "sum_over_batch_size": (each * weights).sum() / 5,
            "mean": (each * weights).sum() / 5,
            "mean_with_sample_weight": (each * weights).sum() / weights.sum(),
            "sum": (each * weights).sum(),
            "none": each * weights,
            None: each * weights,
        }.items():
            got = made(reduction=reduction)(true, pred, sample_weight=given_weights)
            np.testing.assert_allclose(got.numpy(), want, rtol=1e-6)
    np.testing.assert_allclose(made(reduction="sum")(true, pred).numpy(), each.sum(), rtol=1e-12)
    np.testing.assert_allclose(made(reduction="mean_with_sample_weight")(true, pred).numpy(), each.mean(), rtol=1e-12)
    np.testing.assert_allclose(made(reduction="none")(true, pred).numpy(), each, rtol=1e-12)
    np.testing.assert_allclose(made()(true, pred, sample_weight=2.0).numpy(), 2 * each.mean(), rtol=1e-12)


def test_weights_belong_to_samples_from_the_left() -> None:
    true, pred = pair((3, 3, 2))
    weights = np.array([1.0, 2.0, 3.0])
    each = ((pred - true) ** 2).mean(axis=-1)
    got = losses.MeanSquaredError(reduction="none")(true, pred, sample_weight=weights)
    np.testing.assert_allclose(got.numpy(), each * weights[:, None], rtol=1e-12)


@pytest.mark.parametrize("weights", [[1.0, 2.0], [[1.0, 2.0, 3.0, 4.0, 5.0]], np.ones((5, 3, 1))])
def test_weights_that_are_not_one_a_sample_are_refused(weights: Any) -> None:
    true, pred = pair((5, 3))
    with pytest.raises(ShapeError, match="one weight a sample"):
        losses.MeanSquaredError()(true, pred, sample_weight=weights)


def test_a_vector_is_one_sample() -> None:
    true, pred = pair((5,))
    with pytest.raises(ShapeError, match=r"shape \(n, 1\)"):
        losses.MeanSquaredError()(true, pred, sample_weight=np.ones(5))


def test_unknown_reductions_are_refused() -> None:
    with pytest.raises(UsageError, match="sum_over_batch_size"):
        losses.MeanSquaredError(reduction="average")


@each_loss
@pytest.mark.parametrize(
    "shapes", [((5,), (5, 1)), ((5, 1), (5,)), ((5, 1), (1, 5)), ((5,), (4,)), ((3,), (2, 3)), ((2, 3), (2, 4))]
)
def test_shapes_that_would_compare_all_with_all_are_refused(
    function: Any, made: Any, expected: Any, shapes: Any
) -> None:
    true, pred = (np.ones(shape, np.float32) for shape in shapes)
    with pytest.raises(ShapeError, match="reshape one"):
        function(true, pred)
    with pytest.raises(ShapeError):
        made()(true, pred)
    with pytest.raises(ShapeError):
        fg.function(function)(true, pred)


def test_one_value_may_be_compared_with_all() -> None:
    assert float(losses.mse([1.0, 3.0], 1.0)) == 2.0
    assert losses.mse(np.ones((4, 1)), np.zeros((4, 3))).numpy().tolist() == [1.0] * 4
    assert losses.mse(np.ones((1, 3)), np.zeros((4, 3))).numpy().tolist() == [1.0] * 4


def test_the_dtype_of_a_loss_is_that_of_the_prediction() -> None:
    assert losses.mse(np.array([1, 2]), fg.constant([1.0, 2.0], dtype="float64")).dtype == np.float64
    assert losses.mse(np.array([1.0, 2.0]), fg.constant([1.0, 2.0])).dtype == np.float32
    assert losses.mse([1, 2], [2, 4]).dtype == np.float32
    assert float(losses.mse([1, 2], [2, 4])) == 2.5


@each_loss
def test_derivatives_of_losses(function: Any, made: Any, expected: Any) -> None:
    true = np.zeros(1)
    for error in (-2.0, -0.7, -0.1, 0.1, 0.2, 0.7, 2.0):

        def of_error(e: Any) -> Any:
            return function(true, fg.reshape(e, (1,)))

        h = 1e-4
        values = [expected(true, np.array([error + step])) for step in (-h, 0, h)]
        first, second = (values[2] - values[0]) / (2 * h), (values[2] - 2 * values[1] + values[0]) / h**2
        x = np.float64(error) + np.zeros(())
        np.testing.assert_allclose(float(fg.grad(of_error)(x)), first, atol=1e-6)
        np.testing.assert_allclose(float(fg.grad(fg.grad(of_error))(x)), second, atol=1e-4)


def test_huber_needs_a_width() -> None:
    for delta in (0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="delta"):
            losses.huber([1.0], [2.0], delta)


def test_losses_have_keras_names() -> None:
    assert losses.mean_squared_error is losses.mse
    assert losses.mean_absolute_error is losses.mae
    assert repr(losses.MeanSquaredError()) == "MeanSquaredError(reduction='sum_over_batch_size')"
    assert losses.Huber(2.0).delta == 2.0


# Optimizers, step by step, against the formulas of TensorFlow 2.


class NumpySGD:
    def __init__(self, rate: float, momentum: float = 0.0, nesterov: bool = False) -> None:
        self.rate, self.momentum, self.nesterov = rate, momentum, nesterov
        self.slots: dict[int, Array] = {}

    def step(self, number: int, p: Array, g: Array, t: int) -> Array:
        cast = p.dtype.type
        if not self.momentum:
            return p - cast(self.rate) * g
        v = cast(self.momentum) * self.slots.get(number, np.zeros_like(p)) - cast(self.rate) * g
        self.slots[number] = v
        return p + cast(self.momentum) * v - cast(self.rate) * g if self.nesterov else p + v


class NumpyAdam:
    def __init__(self, rate: float, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7) -> None:
        self.rate, self.beta_1, self.beta_2, self.epsilon = rate, beta_1, beta_2, epsilon
        self.slots: dict[int, tuple[Array, Array]] = {}

    def step(self, number: int, p: Array, g: Array, t: int) -> Array:
        cast = p.dtype.type
        m, v = self.slots.get(number, (np.zeros_like(p), np.zeros_like(p)))
        m = m + (g - m) * cast(1 - self.beta_1)
        v = v + (g * g - v) * cast(1 - self.beta_2)
        self.slots[number] = m, v
        rate = self.rate * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return p - m * cast(rate) / (np.sqrt(v) + cast(self.epsilon))


OPTIMIZERS: dict[str, tuple[Callable[[float], Any], Callable[[float], Any]]] = {
    "SGD": (SGD, NumpySGD),
    "momentum": (lambda rate: SGD(rate, momentum=0.9), lambda rate: NumpySGD(rate, 0.9)),
    "Nesterov": (lambda rate: SGD(rate, momentum=0.8, nesterov=True), lambda rate: NumpySGD(rate, 0.8, True)),
    "Adam": (Adam, NumpyAdam),
    "Adam with other numbers": (
        lambda rate: Adam(rate, 0.8, 0.99, 1e-3),
        lambda rate: NumpyAdam(rate, 0.8, 0.99, 1e-3),
    ),
}
each_optimizer = pytest.mark.parametrize(("make", "formula"), OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def gradients_of(step: int, shapes: Any, dtype: Any) -> list[Array]:
    rng = np.random.default_rng(step)
    return [np.asarray(rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3), dtype) for shape in shapes]


@each_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_are_those_of_the_formulas(make: Any, formula: Any, dtype: Any) -> None:
    shapes = ((), (3,), (2, 2))
    variables = [fg.Variable(np.ones(shape, dtype)) for shape in shapes]
    expected = [np.ones(shape, dtype) for shape in shapes]
    opt, reference = make(0.05), formula(0.05)
    for t in range(1, 31):
        grads = gradients_of(t, shapes, dtype)
        if t == 20:
            opt.learning_rate = reference.rate = 0.011
        counter = opt.apply_gradients(zip(grads, variables, strict=True))
        expected = [reference.step(i, p, g, t) for i, (p, g) in enumerate(zip(expected, grads, strict=True))]
        assert int(counter) == t
        for variable, want in zip(variables, expected, strict=True):
            assert variable.dtype == dtype
            np.testing.assert_allclose(variable.numpy(), want, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-9)


def test_adam_s_first_steps_have_the_length_of_the_rate() -> None:
    """The bias correction is in double precision: in float32, 1 - 0.999**1 alone would be off by 5e-5."""
    v = fg.Variable(np.float32(0.0) + np.zeros(4, np.float32))
    opt = Adam(0.125)
    opt.apply_gradients([(np.array([1e-3, 1.0, -50.0, 1e4], np.float32), v)])
    np.testing.assert_allclose(v.numpy()[1:], [-0.125, 0.125, -0.125], rtol=4e-6)
    np.testing.assert_allclose(v.numpy()[0], -0.125 / (1 + 1e-7 / 1e-3 / 0.001**0.5), rtol=4e-6)


def quadratic(v: Any) -> Any:
    return fg.reduce_sum(fg.square(v - np.array([3.0, -1.0])) * np.array([1.0, 4.0]))


def rosenbrock(v: Any) -> Any:
    return fg.square(1.0 - v[0]) + 100.0 * fg.square(v[1] - fg.square(v[0]))


TARGETS: dict[str, tuple[Callable[[Any], Any], list[float], dict[str, tuple[float, int]]]] = {
    "quadratic": (quadratic, [3.0, -1.0], {
        "SGD": (0.1, 200), "momentum": (0.02, 400), "Nesterov": (0.02, 400), "Adam": (0.1, 1000),
        "Adam with other numbers": (0.1, 1000),
    }),
    "rosenbrock": (rosenbrock, [1.0, 1.0], {
        "SGD": (0.001, 30_000), "momentum": (4e-4, 20_000), "Nesterov": (5e-4, 20_000), "Adam": (0.02, 8000),
        "Adam with other numbers": (0.01, 12_000),
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS.keys())
@pytest.mark.parametrize("target", TARGETS.keys())
def test_every_optimizer_reaches_the_minimum(name: str, target: str) -> None:
    function, minimum, settings = TARGETS[target]
    rate, steps = settings[name]
    v = fg.Variable(np.array([-1.2, 1.0]))
    history = fg.fit(lambda: function(v), variables=[v], optimizer=OPTIMIZERS[name][0](rate), steps=steps)
    np.testing.assert_allclose(v.numpy(), minimum, atol=2e-3)
    assert history.losses[-1] < 1e-5 < history.losses[0]


# Optimizers: the ways to take a step.

DATA = np.random.default_rng(0)
X = DATA.standard_normal((61, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.3 + 0.1 * DATA.standard_normal((61, 1))).astype(np.float32)


class Line:
    """A linear model, with a loss that takes data or brings its own."""

    def __init__(self, dtype: Any = np.float64) -> None:
        self.w, self.b = fg.Variable(np.zeros((3, 1), dtype)), fg.Variable(np.zeros(1, dtype))
        self.x, self.y = X.astype(dtype), Y.astype(dtype)

    @property
    def variables(self) -> list[Any]:
        return [self.w, self.b]

    def loss(self, x: Any, y: Any) -> Any:
        return fg.reduce_mean(losses.mse(y, x @ self.w + self.b))

    def own_loss(self) -> Any:
        return self.loss(self.x, self.y)

    def numbers(self) -> Array:
        return np.concatenate([v.numpy().ravel() for v in self.variables])


def by_minimize(line: Line, opt: Any, steps: int) -> None:
    for _ in range(steps):
        opt.minimize(line.own_loss, var_list=line.variables)


def by_minimize_of_a_list_function(line: Line, opt: Any, steps: int) -> None:
    for _ in range(steps):
        opt.minimize(line.own_loss, lambda: line.variables)


def by_tape(line: Line, opt: Any, steps: int) -> None:
    for _ in range(steps):
        with fg.GradientTape() as tape:
            loss = line.own_loss()
        opt.minimize(loss, line.variables, tape=tape)


def by_gradients(line: Line, opt: Any, steps: int) -> None:
    for _ in range(steps):
        with fg.GradientTape() as tape:
            loss = line.own_loss()
        opt.apply_gradients(zip(tape.gradient(loss, line.variables), line.variables, strict=True))


def by_function(line: Line, opt: Any, steps: int) -> None:
    @fg.function
    def train(x: Any, y: Any) -> Any:
        with fg.GradientTape() as tape:
            loss = line.loss(x, y)
        opt.apply_gradients(zip(tape.gradient(loss, line.variables), line.variables, strict=True))
        return loss

    for _ in range(steps):
        train(line.x, line.y)


def by_minimize_in_a_function(line: Line, opt: Any, steps: int) -> None:
    train = fg.function(lambda: opt.minimize(line.own_loss, line.variables).value())
    for _ in range(steps):
        train()


def by_fit(line: Line, opt: Any, steps: int) -> None:
    fg.fit(line.loss, (line.x, line.y), variables=line.variables, optimizer=opt, steps=steps)


def by_fit_without_data(line: Line, opt: Any, steps: int) -> None:
    fg.fit(line.own_loss, variables=line.variables, optimizer=opt, steps=steps)


WAYS = [
    by_minimize, by_minimize_of_a_list_function, by_tape, by_gradients, by_function, by_minimize_in_a_function, by_fit,
    by_fit_without_data,
]  # fmt: skip


@each_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_ways_to_train_agree(make: Any, formula: Any, dtype: Any) -> None:
    results = []
    for way in WAYS:
        line, opt = Line(dtype), make(0.05)
        way(line, opt, 12)
        assert int(opt.iterations) == 12
        results.append(line.numbers())
    for way, got in zip(WAYS, results, strict=True):
        np.testing.assert_allclose(got, results[0], rtol=3e-5 if dtype == np.float32 else 1e-12, err_msg=way.__name__)
    assert same_bits(results[0], results[1])
    assert np.abs(results[0]).max() > 0.1


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_state_goes_on_from_one_way_to_the_next(way: Any) -> None:
    line, opt = Line(), Adam(0.05)
    by_minimize(line, opt, 5)
    way(line, opt, 5)
    by_fit(line, opt, 5)
    opt.learning_rate = 0.01
    way(line, opt, 5)
    expected, reference = Line(), Adam(0.05)
    by_minimize(expected, reference, 15)
    reference.learning_rate = 0.01
    by_minimize(expected, reference, 5)
    np.testing.assert_allclose(line.numbers(), expected.numbers(), rtol=1e-11)
    assert int(opt.iterations) == 20


def test_the_rate_can_be_changed_between_calls_of_a_function() -> None:
    v, opt = fg.Variable(np.zeros(2)), SGD(0.5)
    step = fg.function(lambda: opt.apply_gradients([(np.ones(2), v)]).value())
    for rate, want in ((0.25, -0.25), (1.0, -1.25), (0.125, -1.375)):
        opt.learning_rate = rate
        step()
        assert v.numpy().tolist() == [want, want]
    assert len(step.traces) == 1
    assert opt.learning_rate == 0.125


def test_a_changed_rate_compiles_nothing() -> None:
    line, opt = Line(), Adam(0.1)
    by_minimize(line, opt, 2)
    before = eager.COMPILED.misses, eager.BINDINGS.misses, len(opt._programs)
    for rate in (0.2, 0.3, 1.0):
        opt.learning_rate = rate
        by_minimize(line, opt, 1)
    assert (eager.COMPILED.misses, eager.BINDINGS.misses, len(opt._programs)) == before


def test_schedules() -> None:
    decay = optimizers.schedules.ExponentialDecay(0.5, decay_steps=2, decay_rate=0.25)
    assert [float(decay(step)) for step in (0, 1, 2, 4)] == [0.5, 0.25, 0.125, 0.03125]
    for way in (by_minimize, by_function, by_fit):
        results = []
        for rate in (decay, lambda step: 0.5 * fg.constant(0.5, dtype="float64") ** fg.cast(step, "float64")):
            line, opt = Line(), SGD(rate)
            way(line, opt, 4)
            results.append(line.numbers())
            assert opt.learning_rate is rate
        np.testing.assert_allclose(results[0], results[1], rtol=1e-12)
    by_hand, opt = Line(), SGD(0.5)
    for step in range(4):
        opt.learning_rate = 0.5 * 0.5**step
        by_minimize(by_hand, opt, 1)
    np.testing.assert_allclose(results[0], by_hand.numbers(), rtol=1e-12)


def test_a_schedule_may_read_a_variable() -> None:
    rate = fg.Variable(1.0, dtype="float64", trainable=False)
    v, opt = fg.Variable(0.0), SGD(lambda step: rate.value())
    for value, want in ((1.0, -1.0), (0.5, -1.5), (0.25, -1.75)):
        rate.assign(value)
        opt.apply_gradients([(1.0, v)])
        assert float(v) == want


def test_pairs_without_a_gradient_are_left_out() -> None:
    a, b, opt = fg.Variable(1.0), fg.Variable(1.0), SGD(0.5)
    opt.apply_gradients([(None, a), (1.0, b)])
    assert (float(a), float(b), int(opt.iterations)) == (1.0, 0.5, 1)
    opt.minimize(lambda: a * 2.0, [a, b])
    assert (float(a), float(b)) == (0.0, 0.5)
    with pytest.raises(GradientError, match="no gradient reaches"):
        opt.apply_gradients([(None, a), (None, b)])
    with pytest.raises(GradientError, match=r"variables 'Variable"):
        opt.minimize(lambda: fg.constant(1.0), [a])
    assert int(opt.iterations) == 2


@each_optimizer
def test_a_variable_keeps_its_slots_whichever_others_it_is_trained_with(make: Any, formula: Any) -> None:
    a, b = fg.Variable(np.ones(2)), fg.Variable(np.ones(2))
    opt, reference = make(0.1), formula(0.1)
    want = [np.ones(2), np.ones(2)]
    for t, order in enumerate([(0, 1), (1, 0), (0,), (1,), (0, 1)], 1):
        grads = gradients_of(t, [(2,), (2,)], np.float64)
        opt.apply_gradients([(grads[i], (a, b)[i]) for i in order])
        for i in order:
            want[i] = reference.step(i, want[i], grads[i], t)
    np.testing.assert_allclose(a.numpy(), want[0], rtol=1e-12)
    np.testing.assert_allclose(b.numpy(), want[1], rtol=1e-12)


def test_variables_of_two_dtypes_are_trained_together() -> None:
    a, b = fg.Variable(np.ones(2)), fg.Variable(np.ones((2, 1), np.float32))
    for way in ("minimize", "fit"):
        opt = Adam(0.1)

        def loss() -> Any:
            return fg.reduce_sum(fg.square(a)) + fg.reduce_sum(fg.square(fg.cast(b, "float64")))

        if way == "minimize":
            opt.minimize(loss, [a, b])
        else:
            fg.fit(loss, variables=[a, b], optimizer=opt, steps=1)
    np.testing.assert_allclose(a.numpy(), 0.8, rtol=1e-5)
    np.testing.assert_allclose(b.numpy(), 0.8, rtol=1e-5)
    assert (a.dtype, b.dtype) == (np.float64, np.float32)


def test_a_gradient_must_fit_its_variable() -> None:
    v, opt = fg.Variable([1.0, 2.0]), SGD(0.1)
    with pytest.raises(ShapeError, match="its gradient has shape"):
        opt.apply_gradients([(np.ones(3), v)])
    opt.apply_gradients([(np.ones(2), v)])  # float64 is cast
    np.testing.assert_allclose(v.numpy(), [0.9, 1.9], rtol=1e-6)


def test_what_can_not_be_trained_is_refused() -> None:
    opt, v = SGD(0.1), fg.Variable(1.0)
    for wrong in (fg.Variable(1), fg.constant(1.0), 1.0):
        with pytest.raises(UsageError, match="no variable of real numbers"):
            opt.apply_gradients([(1.0, wrong)])
        with pytest.raises(UsageError, match="no variable of real numbers"):
            fg.fit(lambda: v * v, variables=[wrong], optimizer=opt, steps=1)
    with pytest.raises(UsageError, match="named twice"):
        opt.apply_gradients([(1.0, v), (1.0, v)])
    with pytest.raises(UsageError, match="named twice"):
        fg.fit(lambda: v * v, variables=[v, v], optimizer=opt, steps=1)
    with pytest.raises(UsageError, match="takes the tape"):
        opt.minimize(v * v, [v])


@pytest.mark.parametrize("value", [0, -0.1, float("nan"), float("inf"), "fast", None])
def test_bad_rates_are_refused(value: Any) -> None:
    for make in (SGD, Adam):
        with pytest.raises(UsageError, match="learning_rate"):
            make(value)
    opt = SGD(0.1)
    with pytest.raises(UsageError, match="learning_rate"):
        opt.learning_rate = value
    assert opt.learning_rate == 0.1


@pytest.mark.parametrize("value", [1.0, -0.1, 2, float("nan"), "much", None, True])
def test_bad_fractions_are_refused(value: Any) -> None:
    for make in (lambda v: SGD(0.1, momentum=v), lambda v: Adam(0.1, beta_1=v), lambda v: Adam(0.1, beta_2=v)):
        with pytest.raises(UsageError):
            make(value)
    with pytest.raises(UsageError):
        Adam(0.1, epsilon=0.0)
    for schedule_of in ((0.0, 1, 0.5), (0.1, 0, 0.5), (0.1, 1, -1.0)):
        with pytest.raises(UsageError):
            optimizers.schedules.ExponentialDecay(*schedule_of)


def test_the_state_of_an_optimizer() -> None:
    v, w = fg.Variable([1.0, 2.0], name="learned"), fg.Variable(3.0)
    opt = Adam(0.1, name="MyAdam")
    assert [one.name.split("_")[0] for one in opt.variables] == ["MyAdam/iterations"]
    opt.minimize(lambda: fg.reduce_sum(v * v) + w, [v, w])
    assert [one.shape for one in opt.variables] == [(), (2,), (2,), (), ()]
    assert any("/m/learned" in one.name for one in opt.variables)
    assert not any(one.trainable for one in opt.variables)


def test_an_optimizer_travels_with_its_variables() -> None:
    line, opt = Line(), Adam(0.1)
    by_minimize(line, opt, 3)
    other_line, other = pickle.loads(pickle.dumps((line, opt)))
    for way in (by_minimize, by_fit):
        way(line, opt, 2)
        way(other_line, other, 2)
    np.testing.assert_allclose(line.numbers(), other_line.numbers(), rtol=1e-13)
    assert int(other.iterations) == 7


def test_an_optimizer_of_your_own() -> None:
    class SignDescent(optimizers.Optimizer):
        slot_names = ("last",)

        def __init__(self, rate: float, flips: int) -> None:
            self.flips = flips
            super().__init__(rate, "SignDescent")

        def rule(self, p: Any, g: Any, slots: Any, step: Any) -> Any:
            return p - fg.sign(g) * self.rate(step).astype(p.dtype) * float(self.flips), {"last": g}

    v, opt = fg.Variable([1.0, -1.0]), SignDescent(0.25, 1)
    opt.minimize(lambda: fg.reduce_sum(v * v), [v])
    assert v.numpy().tolist() == [0.75, -0.75]
    opt.flips = 2
    opt.minimize(lambda: fg.reduce_sum(v * v), [v])
    assert v.numpy().tolist() == [0.25, -0.25]
    fg.fit(lambda: fg.reduce_sum(v * v), variables=[v], optimizer=opt, steps=1)
    assert v.numpy().tolist() == [-0.25, 0.25]
    assert opt.variables[1].numpy().tolist() == [0.5, -0.5]


def test_the_loss_is_known_after_a_step() -> None:
    """`minimize` computes the loss in the run that computes the gradients."""
    from flowgraph.program import Program

    calls = []
    original = Program.run
    v, opt = fg.Variable(2.0), SGD(0.1)
    with fg.GradientTape() as tape:
        loss = v * v
    Program.run = lambda *args, **kwargs: (calls.append(1), original(*args, **kwargs))[1]  # type: ignore[method-assign]
    try:
        opt.minimize(loss, [v], tape=tape)
        assert len(calls) == 2
        assert float(loss) == 4.0
        assert len(calls) == 2
    finally:
        Program.run = original  # type: ignore[method-assign]


# The numbers of the article.

ARTICLE = [
    39.094223616, 30.128930221, 29.732165607, 29.052301452, 28.905815545, 28.888535872, 28.886223356, 28.886659233,
    28.884825672, 28.882883962,
]  # fmt: skip


def article() -> Any:
    path = Path(__file__).resolve().parent.parent / "examples" / "tensorflow_article.py"
    spec = importlib.util.spec_from_file_location("article_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 2e-5)])
def test_the_article(dtype: Any, rtol: float) -> None:
    found, intercept, slope = article().train(dtype)
    np.testing.assert_allclose(found, ARTICLE, rtol=rtol)
    np.testing.assert_allclose([float(intercept), float(slope)], [2.4898539525, 9.7748928098], rtol=rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 2e-5)])
def test_the_article_by_fit(dtype: Any, rtol: float) -> None:
    hours, scores, _ = article().load(dtype)
    intercept, slope = fg.Variable(1.0, dtype=dtype), fg.Variable(10.0, dtype=dtype)
    history = fg.fit(
        lambda x, y: losses.mse(y, intercept + x * slope),
        (hours, scores),
        variables=[intercept, slope],
        optimizer=Adam(0.5),
        steps=100,
    )
    np.testing.assert_allclose(history.losses[1::10], ARTICLE, rtol=rtol)
    np.testing.assert_allclose([float(intercept), float(slope)], [2.4898539525, 9.7748928098], rtol=rtol)


# Fit: the same numbers however it is run.


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiles of 8 rows at most. Programs are made anew, for a program keeps the tiles that it was made with."""
    monkeypatch.setattr(schedule, "TILE_ROWS", (4, 8))
    eager.COMPILED.clear()
    eager.BINDINGS.clear()
    yield
    eager.COMPILED.clear()
    eager.BINDINGS.clear()


class Network:
    """A small network, so that a step has several loops, products and kinds of variables."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.w = fg.Variable(rng.standard_normal((3, 4)).astype(np.float32))
        self.b = fg.Variable(np.zeros(4, np.float32))
        self.v = fg.Variable(rng.standard_normal((4, 1)).astype(np.float32))

    def loss(self, x: Any, y: Any, shards: Any = None) -> Any:
        x = x if shards is None else fg.shard(x, rows=shards)
        return fg.reduce_mean(losses.huber(y, fg.tanh(x @ self.w + self.b) @ self.v))

    def fit(self, data: Any = (X, Y), shards: Any = None, **options: Any) -> tuple[Any, ...]:
        """(losses, variables) after a fit, as bytes to compare."""
        history = fg.fit(
            lambda x, y: self.loss(x, y, shards),
            data,
            variables=[self.w, self.b, self.v],
            optimizer=Adam(0.02),
            **options,
        )
        return tuple(one.tobytes() for one in (history.losses, self.w.numpy(), self.b.numpy(), self.v.numpy()))


def test_the_size_of_windows_has_no_influence() -> None:
    first = Network().fit(steps=17)
    for window in (1, 2, 5, 17, 1000):
        assert Network().fit(steps=17, window=window) == first


def test_several_fits_are_one() -> None:
    whole, parts, opt_whole, opt_parts = Line(), Line(), Adam(0.1), Adam(0.1)
    by_fit(whole, opt_whole, 9)
    for steps in (1, 3, 5):
        by_fit(parts, opt_parts, steps)
    assert same_bits(whole.numbers(), parts.numbers())


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.usefixtures("small_tiles")
def test_executors_have_no_influence(batch_size: int | None) -> None:
    options = {"steps": 6, "batch_size": batch_size, "shards": 3}
    first = Network().fit(**options)
    for other in ({"scheduler": "sync"}, {"scheduler": "threads"}, {"scheduler": "sync", "window": 4}):
        assert Network().fit(**options, **other) == first


@pytest.mark.usefixtures("small_tiles")
def test_processes_have_no_influence() -> None:
    for batch_size in (None, 7):
        options = {"steps": 3, "batch_size": batch_size, "window": 3}
        assert Network().fit(**options, scheduler="processes") == Network().fit(**options)


@pytest.mark.cluster
@pytest.mark.usefixtures("small_tiles")
def test_a_cluster_has_no_influence(cluster: Any) -> None:
    for batch_size in (None, 7):
        options = {"steps": 5, "batch_size": batch_size, "window": 3}
        assert Network().fit(**options, client=cluster) == Network().fit(**options)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("batch_size", [None, 20])
def test_shards_have_no_influence(batch_size: int | None) -> None:
    first = Network().fit(steps=4, batch_size=batch_size)
    for shards in (1, 2, 5, 61, (40, 0, 21)):
        for window in (1, 3):
            assert Network().fit(steps=4, batch_size=batch_size, shards=shards, window=window) == first


@pytest.mark.usefixtures("small_tiles")
def test_tiles_have_little_influence() -> None:
    in_tiles = Network()
    in_tiles.fit(steps=10)
    eager.COMPILED.clear()
    schedule.TILE_ROWS = (64, 16_384)
    at_once = Network()
    at_once.fit(steps=10)
    np.testing.assert_allclose(in_tiles.w.numpy(), at_once.w.numpy(), rtol=1e-4)
    assert in_tiles.w.numpy().tobytes() != at_once.w.numpy().tobytes()  # so the tiles were used


@pytest.mark.parametrize("batch_size", [None, 13])
def test_the_chunks_of_the_data_have_no_influence(batch_size: int | None) -> None:
    first = Network().fit(steps=7, batch_size=batch_size)
    for cuts in ([], [30], [1, 2, 3], [0, 10, 10, 61]):
        edges = [0, *cuts, 61]
        data = tuple(fg.from_blocks([one[a:b] for a, b in itertools.pairwise(edges)]) for one in (X, Y))
        assert Network().fit(data, steps=7, batch_size=batch_size) == first
    fortran = np.asfortranarray(X), fg.asarray(Y)
    assert Network().fit(fortran, steps=7, batch_size=batch_size) == first


@pytest.mark.usefixtures("small_tiles")
def test_a_parameter_for_each_row() -> None:
    x, y = X[:, 0].copy(), Y[:, 0].copy()
    results = []
    for window in (1, 4, None):
        p = fg.Variable(np.zeros(61, np.float32))
        fg.fit(
            lambda a, b, p=p: fg.reduce_sum(fg.square(p * a - b)),
            (x, y),
            variables=[p],
            optimizer=Adam(0.05),
            steps=9,
            window=window,
        )
        results.append(p.numpy())
    p, opt = fg.Variable(np.zeros(61, np.float32)), Adam(0.05)
    for _ in range(9):
        opt.minimize(lambda: fg.reduce_sum(fg.square(p * x - y)), [p])
    assert same_bits(results[0], results[1])
    assert same_bits(results[0], results[2])
    np.testing.assert_allclose(results[0], p.numpy(), rtol=1e-5)


# Fit: mini-batches.


def rows_of(batches: Batches, epoch: int) -> list[list[int]]:
    """The rows of each batch of an epoch."""
    result = []
    for buffer in batches.epoch(epoch):
        rows = np.concatenate([np.arange(a, b) for a, b in buffer.intervals])
        assert len(rows) == buffer.rows
        order = buffer.order()
        rows = rows if order is None else rows[order]
        result += [rows[a : a + batches.batch_size].tolist() for a in range(0, len(rows), batches.batch_size)]
    return result


batch_plans = st.builds(
    Batches,
    st.integers(1, 5 * BLOCK_ROWS),
    st.sampled_from([1, 3, 32, 256, 1000, 1024, 3000]),
    st.booleans(),
    st.integers(0, 9),
)


@given(batch_plans, st.integers(0, 3))
def test_an_epoch_has_each_row_once_in_full_batches(batches: Batches, epoch: int) -> None:
    plan = rows_of(batches, epoch)
    assert sorted(row for batch in plan for row in batch) == list(range(batches.rows))
    assert [len(batch) for batch in plan[:-1]] == [batches.batch_size] * (len(plan) - 1)
    assert len(plan) == batches.steps_per_epoch
    assert rows_of(batches, epoch) == plan
    if not batches.shuffle:
        assert [row for batch in plan for row in batch] == list(range(batches.rows))


def test_a_very_long_epoch_has_several_buffers() -> None:
    rows = BLOCK_ROWS * (BUFFER_BLOCKS * 2 + 3) + 17
    batches = Batches(rows, 100, True, 4)
    buffers = list(batches.epoch(0))
    assert len(buffers) == 2
    assert all(buffer.rows % 100 == 0 for buffer in buffers[:-1])
    seen = np.sort(np.concatenate([np.arange(a, b) for buffer in buffers for a, b in buffer.intervals]))
    np.testing.assert_array_equal(seen, np.arange(rows))
    assert len({tuple(buffer.order()[:50]) for buffer in buffers}) == 2  # type: ignore[index]


def test_seeds_and_epochs_change_the_order() -> None:
    plans = [rows_of(Batches(3000, 32, True, seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    for one, other in itertools.combinations(plans, 2):
        assert one != other
    first = [set(plan[0]) for plan in plans]
    assert all(len(one & other) < 16 for one, other in itertools.combinations(first, 2))  # rows of a batch differ too


def test_shuffled_rows_come_from_everywhere() -> None:
    plan = rows_of(Batches(20 * BLOCK_ROWS, 256, True, 0), 0)
    assert all(np.std(batch) > 3000 for batch in plan[:10])


def test_a_fit_sees_the_batches_of_the_plan() -> None:
    rows = np.arange(23.0)
    w = fg.Variable(np.float64(0.0) + np.zeros(()))
    history = fg.fit(
        lambda x: fg.reduce_sum(x) + w * 0.0, rows, variables=[w], optimizer=SGD(0.1), batch_size=5, epochs=3, seed=6
    )
    plan = [batch for epoch in range(3) for batch in rows_of(Batches(23, 5, True, 6), epoch)]
    assert history.losses.tolist() == [float(sum(batch)) for batch in plan]
    assert history.steps == 15


def test_batches_in_order() -> None:
    w = fg.Variable(0.0)
    history = fg.fit(
        lambda x: x[0] + w * 0.0,
        np.arange(7, dtype=np.float32),
        variables=[w],
        optimizer=SGD(0.1),
        batch_size=3,
        epochs=2,
        shuffle=False,
    )
    assert history.losses.tolist() == [0.0, 3.0, 6.0] * 2


def test_an_epoch_is_the_default_and_steps_may_end_inside_one() -> None:
    line = Line()

    def fit(**options: Any) -> int:
        return fg.fit(line.loss, (line.x, line.y), variables=line.variables, optimizer=SGD(0.01), **options).steps

    assert fit() == 1
    assert fit(epochs=3) == 3
    assert fit(batch_size=20) == 4
    assert fit(batch_size=20, epochs=2) == 8
    assert fit(batch_size=20, steps=6) == 6
    assert fit(batch_size=1000) == 1


def test_mini_batches_learn() -> None:
    line = Line(np.float32)
    fg.fit(line.loss, (line.x, line.y), variables=line.variables, optimizer=Adam(0.05), batch_size=16, epochs=60)
    np.testing.assert_allclose(line.numbers(), [1.0, -2.0, 0.5, 0.3], atol=0.1)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "batch_size"), (-1, "batch_size"), (2.5, "batch_size"), (True, "batch_size")]
)
def test_bad_batch_sizes_are_refused(size: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Network().fit(batch_size=size)
    with pytest.raises(UsageError, match="seed"):
        Network().fit(batch_size=5, seed=-1)
    with pytest.raises(UsageError, match="seed"):
        Network().fit(batch_size=5, seed=0.5)


# Fit: random draws.


@pytest.mark.parametrize("options", [{}, {"batch_size": 13}])
def test_draws_in_a_loss_are_new_in_every_step_and_do_not_depend_on_windows(options: Any) -> None:
    def losses_of(window: int) -> Array:
        fg.set_seed(11)
        w = fg.Variable(0.0)
        return fg.fit(
            lambda x, y: fg.reduce_mean(fg.random.normal(x.shape)) + fg.reduce_sum(fg.random.uniform([2])) + w * 0.0,
            (X, Y), variables=[w], optimizer=SGD(0.1), steps=8, window=window, **options,
        ).losses  # fmt: skip

    first = losses_of(1)
    assert len(set(first.tolist())) == 8
    for window in (3, 8):
        assert same_bits(losses_of(window), first)


def test_noise_has_no_memory() -> None:
    w = fg.Variable(np.zeros((), np.float64))
    fg.set_seed(2)
    noise = fg.fit(
        lambda: w * 0 + fg.random.normal((), dtype="float64"), variables=[w], optimizer=SGD(0.1), steps=4000
    ).losses
    assert abs(noise.mean()) < 0.06
    assert abs(noise.std() - 1) < 0.05
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.06
    again = fg.fit(
        lambda: w * 0 + fg.random.normal((), dtype="float64"), variables=[w], optimizer=SGD(0.1), steps=100
    ).losses
    assert not set(noise.tolist()) & set(again.tolist())


# Fit: how it ends.


def growing(rate: float = 1.5) -> tuple[Any, Callable[[], Any], Any]:
    v = fg.Variable(np.ones(2, np.float32))
    return v, lambda: fg.reduce_sum(fg.square(fg.square(v))), SGD(rate)


@pytest.mark.parametrize("window", [1, 3, 100])
def test_divergence_names_the_step_and_undoes_the_window(window: int) -> None:
    v, loss, opt = growing()
    finite = []
    try:
        while True:
            finite.append(float(loss()))
            if not np.isfinite(finite[-1]):
                break
            opt.minimize(loss, [v])
    finally:
        step = len(finite)
    v, loss, opt = growing()
    commits = []
    with pytest.raises(DivergedError, match=f"the loss at step {step} is") as caught:
        fg.fit(
            loss,
            variables=[v],
            optimizer=opt,
            steps=100,
            window=window,
            progress=lambda done, last: commits.append(done),
        )
    assert "as they were before this window" in caught.value.remedy
    whole_windows = (step - 1) // window * window
    assert int(opt.iterations) == whole_windows
    assert commits == list(range(window, whole_windows + 1, window))
    expected, loss, opt = growing()
    for _ in range(whole_windows):
        opt.minimize(loss, [expected])
    np.testing.assert_allclose(v.numpy(), expected.numpy(), rtol=1e-5)


def test_a_variable_that_is_not_finite_ends_the_fit() -> None:
    v = fg.Variable([0.0, 1.0])
    with pytest.raises(DivergedError, match="not finite after step 1"):
        fg.fit(lambda: fg.reduce_sum(fg.sqrt(v)), variables=[v], optimizer=SGD(0.1), steps=1)
    assert v.numpy().tolist() == [0.0, 1.0]


def test_stop_ends_the_fit() -> None:
    seen: list[tuple[int, list[float]]] = []
    line = Line()

    def stop(done: int, window_losses: Array) -> bool:
        seen.append((done, window_losses.tolist()))
        return done >= 6

    history = fg.fit(
        line.loss, (line.x, line.y), variables=line.variables, optimizer=SGD(0.1), steps=50, window=3, stop=stop
    )
    assert history.steps == 6
    assert [done for done, _ in seen] == [3, 6]
    assert [one for _, own in seen for one in own] == history.losses.tolist()
    np.testing.assert_allclose(history.losses[0], (line.y**2).mean(), rtol=1e-12)


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    line, calls = Line(), []
    options: dict[str, Any] = {"variables": line.variables, "optimizer": SGD(0.1), "steps": 7, "window": 3}
    history = fg.fit(line.loss, (line.x, line.y), progress=lambda done, loss: calls.append((done, loss)), **options)
    assert calls == [(3, history.losses[2]), (6, history.losses[5]), (7, history.losses[6])]
    fg.fit(line.loss, (line.x, line.y), progress=True, **options)
    shown = capsys.readouterr()
    assert "7/7" in shown.err
    assert "loss=" in shown.err
    assert shown.out == ""


def test_an_error_in_a_callback_leaves_the_windows_before_it() -> None:
    line, opt = Line(), SGD(0.1)

    def stop(done: int, window_losses: Array) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fg.fit(line.loss, (line.x, line.y), variables=line.variables, optimizer=opt, steps=9, window=2, stop=stop)
    assert int(opt.iterations) == 2
    by_fit(line, opt, 1)


def test_the_history() -> None:
    line = Line()
    history = fg.fit(line.loss, (line.x, line.y), variables=line.variables, optimizer=SGD(0.1), steps=5)
    assert history.steps == len(history.losses) == 5
    assert history.losses.dtype == np.float64
    assert history.seconds > 0
    assert np.all(np.diff(history.losses) < 0)


# Fit: what can not be done.

BAD: dict[str, tuple[dict[str, Any], Any, str]] = {
    "steps and epochs": ({"steps": 1, "epochs": 1}, UsageError, "both say how long"),
    "no steps": ({"steps": 0}, UsageError, "steps=0"),
    "half a step": ({"steps": 1.5}, UsageError, "steps=1.5"),
    "true epochs": ({"epochs": True}, UsageError, "epochs=True"),
    "no window": ({"steps": 1, "window": 0}, UsageError, "window=0"),
    "no variables": ({"variables": []}, UsageError, "the list is empty"),
    "rows that differ": ({"data": (X, Y[:-1])}, ShapeError, "61, 60 rows"),
    "a scalar as data": ({"data": (X, 1.0)}, ShapeError, "a scalar has no rows"),
    "no rows": ({"data": (X[:0], Y[:0])}, ShapeError, "it has no rows"),
    "a scheduler that is none": ({"scheduler": "nowhere"}, UsageError, "nowhere"),
}


@pytest.mark.parametrize(("options", "error", "text"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_refused(options: dict[str, Any], error: Any, text: str) -> None:
    line = Line(np.float32)
    defaults = {"variables": line.variables, "optimizer": SGD(0.1), "data": (line.x, line.y)}
    with pytest.raises(error, match=text):
        fg.fit(line.loss, **(defaults | options))
    assert line.numbers().tolist() == [0.0] * 4


def test_batches_need_data() -> None:
    v = fg.Variable(1.0)
    with pytest.raises(UsageError, match="no data"):
        fg.fit(lambda: v * v, variables=[v], optimizer=SGD(0.1), batch_size=5)


def test_a_loss_must_be_a_real_scalar_of_the_variables() -> None:
    v, unused = fg.Variable([1.0, 2.0]), fg.Variable(1.0)
    options: dict[str, Any] = {"variables": [v], "optimizer": SGD(0.1), "steps": 1}
    for loss in (lambda: v, lambda: fg.cast(fg.reduce_sum(v), "int32"), lambda: 1.0, lambda: None):
        with pytest.raises(ShapeError, match="not a real scalar"):
            fg.fit(loss, **options)
    with pytest.raises(GradientError, match="does not depend on it"):
        fg.fit(lambda: v[0], **(options | {"variables": [v, unused]}))
    with pytest.raises(UsageError, match="a loss that assigns"):
        fg.fit(lambda: fg.reduce_sum(v.assign_add([1.0, 1.0])), **options)
    assert v.numpy().tolist() == [1.0, 2.0]


def test_rows_from_outside_can_not_come_in_batches() -> None:
    line, weights = Line(), np.ones((61, 1))

    def weighted(x: Any, y: Any) -> Any:
        return fg.reduce_mean(weights * fg.square(x @ line.w - y))

    options: dict[str, Any] = {"variables": [line.w], "optimizer": SGD(0.1), "steps": 2}
    fg.fit(weighted, (line.x, line.y), **options)
    with pytest.raises(ShapeError, match="61 rows from outside"):
        fg.fit(weighted, (line.x, line.y), batch_size=10, **options)
    weights = np.ones((60, 1))
    with pytest.raises(ShapeError, match="60 rows from outside"):
        fg.fit(weighted, (line.x, line.y), **options)


def test_variables_that_are_not_trained_are_read() -> None:
    line, scale = Line(), fg.Variable(2.0, dtype="float64", trainable=False)
    fg.fit(lambda x, y: line.loss(x, y) * scale, (line.x, line.y), variables=[line.w], optimizer=SGD(0.05), steps=3)
    other = Line()
    fg.fit(other.loss, (line.x, line.y), variables=[other.w], optimizer=SGD(0.1), steps=3)
    np.testing.assert_allclose(line.w.numpy(), other.w.numpy(), rtol=1e-12)
    assert line.b.numpy().tolist() == [0.0]


def test_tensors_as_data() -> None:
    line, other = Line(), Line()
    fg.fit(line.loss, (fg.constant(line.x) * 2.0, line.y), variables=line.variables, optimizer=SGD(0.1), steps=3)
    fg.fit(other.loss, [other.x * 2.0, other.y], variables=other.variables, optimizer=SGD(0.1), steps=3)
    assert same_bits(line.numbers(), other.numbers())
    only = fg.Variable(0.0)
    history = fg.fit(
        lambda x: fg.reduce_mean(fg.square(x - only)),
        np.full(5, 3.0, np.float32),
        variables=[only],
        optimizer=SGD(0.5),
        steps=2,
    )
    assert history.losses.tolist() == [9.0, 0.0]
