"""Optimizers: their steps against formulas, and the ways to take one."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from learning import DTYPES, SGD, Adam, Array, Line, by_fit, optimizers, same_bits

import flowgraph as fg
from flowgraph import eager
from flowgraph.errors import GradientError, ShapeError, UsageError

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


class Formula:
    """A step written as a function of the parameters, the gradient, the slots (zeros at first) and the step."""

    def __init__(self, rate: float, update: Callable[..., tuple[Array, ...]], slots: int) -> None:
        self.rate, self.update, self.count = rate, update, slots
        self.slots: dict[int, Sequence[Array]] = {}

    def step(self, number: int, p: Array, g: Array, t: int) -> Array:
        slots = self.slots.get(number, [np.zeros_like(p)] * self.count)
        new, *self.slots[number] = (np.asarray(one, p.dtype) for one in self.update(p, g, slots, t, self.rate))
        return new


def adamw(p: Array, g: Array, slots: Any, t: int, rate: float) -> tuple[Array, ...]:
    m, v = slots
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    corrected = m / (1 - 0.9**t), v / (1 - 0.999**t)
    epsilon = 1e-7 / np.sqrt(1 - 0.999**t)
    return p * (1 - 0.1 * rate) - rate * corrected[0] / (np.sqrt(corrected[1]) + epsilon), m, v


def adamax(p: Array, g: Array, slots: Any, t: int, rate: float) -> tuple[Array, ...]:
    m, u = 0.9 * slots[0] + 0.1 * g, np.maximum(0.999 * slots[1], abs(g))
    return p - rate / (1 - 0.9**t) * m / (u + 1e-7), m, u


def rmsprop(p: Array, g: Array, slots: Any, t: int, rate: float) -> tuple[Array, ...]:
    v = 0.9 * slots[0] + 0.1 * g**2
    return p - rate * g / np.sqrt(v + 1e-7), v


def centered_rmsprop(p: Array, g: Array, slots: Any, t: int, rate: float) -> tuple[Array, ...]:
    v, mean = 0.8 * slots[0] + 0.2 * g**2, 0.8 * slots[1] + 0.2 * g
    momentum = 0.5 * slots[2] + rate * g / np.sqrt(v - mean**2 + 1e-3)
    return p - momentum, v, mean, momentum


def adagrad(p: Array, g: Array, slots: Any, t: int, rate: float) -> tuple[Array, ...]:
    total = slots[0] + g**2
    return p - rate * g / np.sqrt(0.1 + total + 1e-7), total


def adadelta(p: Array, g: Array, slots: Any, t: int, rate: float) -> tuple[Array, ...]:
    v = 0.95 * slots[0] + 0.05 * g**2
    down = g * np.sqrt((slots[1] + 1e-3) / (v + 1e-3))
    return p - rate * down, v, 0.95 * slots[1] + 0.05 * down**2


def lion(p: Array, g: Array, slots: Any, t: int, rate: float) -> tuple[Array, ...]:
    return p - rate * np.sign(0.9 * slots[0] + 0.1 * g), 0.99 * slots[0] + 0.01 * g


OPTIMIZERS: dict[str, tuple[Callable[[float], Any], Callable[[float], Any]]] = {
    "SGD": (SGD, NumpySGD),
    "momentum": (lambda rate: SGD(rate, momentum=0.9), lambda rate: NumpySGD(rate, 0.9)),
    "Nesterov": (lambda rate: SGD(rate, momentum=0.8, nesterov=True), lambda rate: NumpySGD(rate, 0.8, True)),
    "Adam": (Adam, NumpyAdam),
    "Adam with other numbers": (
        lambda rate: Adam(rate, 0.8, 0.99, 1e-3),
        lambda rate: NumpyAdam(rate, 0.8, 0.99, 1e-3),
    ),
    "AdamW": (lambda rate: optimizers.AdamW(rate, 0.1), lambda rate: Formula(rate, adamw, 2)),
    "Adamax": (optimizers.Adamax, lambda rate: Formula(rate, adamax, 2)),
    "RMSprop": (optimizers.RMSprop, lambda rate: Formula(rate, rmsprop, 1)),
    "centered RMSprop": (
        lambda rate: optimizers.RMSprop(rate, 0.8, 0.5, 1e-3, centered=True),
        lambda rate: Formula(rate, centered_rmsprop, 3),
    ),
    "Adagrad": (optimizers.Adagrad, lambda rate: Formula(rate, adagrad, 1)),
    "Adadelta": (
        lambda rate: optimizers.Adadelta(4 * rate, epsilon=1e-3),  # it starts slowly
        lambda rate: Formula(4 * rate, adadelta, 2),
    ),
    "Lion": (optimizers.Lion, lambda rate: Formula(rate, lion, 1)),
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
        "Adam with other numbers": (0.1, 1000), "Adamax": (0.2, 500), "RMSprop": (0.001, 6000), "Adagrad": (1.0, 300),
        "Adadelta": (0.5, 1000),
    }),
    "rosenbrock": (rosenbrock, [1.0, 1.0], {
        "SGD": (0.001, 30_000), "momentum": (4e-4, 20_000), "Nesterov": (5e-4, 20_000), "Adam": (0.02, 8000),
        "Adam with other numbers": (0.01, 12_000),
    }),
}  # fmt: skip


@pytest.mark.parametrize(
    ("target", "name"), [(target, name) for target, (*_, settings) in TARGETS.items() for name in settings]
)
def test_every_optimizer_reaches_the_minimum(name: str, target: str) -> None:
    function, minimum, settings = TARGETS[target]
    rate, steps = settings[name]
    v = fg.Variable(np.array([-1.2, 1.0]))
    history = fg.fit(lambda: function(v), variables=[v], optimizer=OPTIMIZERS[name][0](rate), steps=steps)
    np.testing.assert_allclose(v.numpy(), minimum, atol=2e-3)
    assert history.losses[-1] < 1e-5 < history.losses[0]


# Optimizers: the ways to take a step.


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
            optimizers.RMSprop(0.1, rho=value)
    with pytest.raises(UsageError):
        Adam(0.1, epsilon=0.0)
    with pytest.raises(UsageError):
        optimizers.AdamW(0.1, weight_decay=-0.1)
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
