"""Losses: values, gradients, reductions, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from learning import DTYPES, Array, losses, tolerance

import flowgraph as fg
from flowgraph.errors import ShapeError, UsageError

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


def test_samples_that_all_weigh_nothing_cost_nothing() -> None:
    loss = fg.keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    assert float(loss([[0.0], [0.0]], [[1.0], [2.0]], sample_weight=[0.0, 0.0])) == 0
    assert float(loss([[0.0], [0.0]], [[1.0], [2.0]], sample_weight=[0.0, 0.5])) == 4


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
