"""Fit: mini-batches, random draws, how it ends, and what can not be done."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from learning import SGD, Adam, Array, Line, Network, X, Y, by_fit, same_bits

import flowgraph as fg
from flowgraph.errors import DivergedError, GradientError, ShapeError, UsageError
from flowgraph.train.batches import BLOCK_ROWS, BUFFER_BLOCKS, Batches

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
