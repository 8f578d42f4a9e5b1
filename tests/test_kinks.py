"""Gradients where a function has a kink, a jump or a pole: TensorFlow's choices, as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowgraph as fg

INF = np.inf

KINKS: list[tuple[str, Callable[..., Any], tuple[float, ...], tuple[float | None, ...]]] = [
    ("abs", fg.abs, (0.0,), (0.0,)),
    ("abs", fg.abs, (-0.0,), (0.0,)),
    ("sign", fg.sign, (0.0,), (None,)),
    ("relu", fg.relu, (0.0,), (0.0,)),
    ("relu", fg.relu, (-1.0,), (0.0,)),
    ("relu6", fg.relu6, (0.0,), (0.0,)),
    ("relu6", fg.relu6, (6.0,), (0.0,)),
    ("relu6", fg.relu6, (5.0,), (1.0,)),
    ("leaky_relu", fg.leaky_relu, (0.0,), (0.2,)),
    ("elu", fg.elu, (0.0,), (1.0,)),
    ("elu with alpha", lambda x: fg.elu(x, 0.5), (0.0,), (1.0,)),
    ("elu", fg.elu, (200.0,), (1.0,)),
    ("elu", fg.elu, (-200.0,), (0.0,)),
    ("selu", fg.selu, (0.0,), (1.0507009873554805,)),
    ("softplus", fg.softplus, (0.0,), (0.5,)),
    ("softplus", fg.softplus, (-200.0,), (float(np.exp(-200.0)),)),
    ("softsign", fg.softsign, (0.0,), (1.0,)),
    ("log_sigmoid", fg.log_sigmoid, (-200.0,), (1.0,)),
    ("silu", fg.silu, (0.0,), (0.5,)),
    ("gelu", fg.gelu, (0.0,), (0.5,)),
    ("gelu", fg.gelu, (-100.0,), (0.0,)),
    ("gelu by tanh", lambda x: fg.gelu(x, approximate=True), (0.0,), (0.5,)),
    ("mish", fg.mish, (0.0,), (0.6,)),
    ("clip inside", lambda x: fg.clip(x, -1, 1), (0.5,), (1.0,)),
    ("clip at the lower bound", lambda x: fg.clip(x, -1, 1), (-1.0,), (1.0,)),
    ("clip at the upper bound", lambda x: fg.clip(x, -1, 1), (1.0,), (1.0,)),
    ("clip outside", lambda x: fg.clip(x, -1, 1), (1.5,), (0.0,)),
    ("clip by a bound", fg.clip, (1.0, 1.0), (1.0, 0.0)),
    ("clip by a bound", fg.clip, (0.0, 1.0), (0.0, 1.0)),
    ("maximum", fg.maximum, (2.0, 2.0), (1.0, 0.0)),
    ("minimum", fg.minimum, (2.0, 2.0), (1.0, 0.0)),
    ("maximum", fg.maximum, (1.0, 2.0), (0.0, 1.0)),
    ("minimum", fg.minimum, (1.0, 2.0), (1.0, 0.0)),
    ("x ** 0", lambda x: x**0, (0.0,), (0.0,)),
    ("x ** 1", lambda x: x**1, (0.0,), (1.0,)),
    ("x ** 2", lambda x: x**2, (0.0,), (0.0,)),
    ("x ** 0.5", lambda x: x**0.5, (0.0,), (INF,)),
    ("power", fg.power, (0.0, 0.0), (0.0, 0.0)),
    ("power", fg.power, (0.0, 2.0), (0.0, 0.0)),
    ("power", fg.power, (-2.0, 2.0), (-4.0, 0.0)),
    ("sqrt", fg.sqrt, (0.0,), (INF,)),
    ("cbrt", fg.cbrt, (0.0,), (INF,)),
    ("log", fg.log, (0.0,), (INF,)),
    ("reciprocal", fg.reciprocal, (0.0,), (-INF,)),
    ("floor", fg.floor, (1.5,), (None,)),
    ("ceil", fg.ceil, (1.5,), (None,)),
    ("round", fg.round, (1.2,), (None,)),
    ("trunc", fg.trunc, (1.5,), (None,)),
    ("floor_divide", fg.floor_divide, (5.0, 2.0), (None, None)),
    ("remainder", fg.remainder, (5.0, 2.0), (1.0, -2.0)),
    ("remainder", fg.remainder, (-5.0, 2.0), (1.0, 3.0)),
    ("copysign", fg.copysign, (0.0, -1.0), (0.0, None)),
    ("copysign", fg.copysign, (2.0, -1.0), (-1.0, None)),
    ("copysign", fg.copysign, (-2.0, -0.0), (1.0, None)),
    ("nextafter", fg.nextafter, (1.0, 2.0), (1.0, None)),
    ("hypot", fg.hypot, (0.0, 0.0), (0.0, 0.0)),
    ("hypot", fg.hypot, (3e200, 4e200), (0.6, 0.8)),
    ("atan2", fg.atan2, (0.0, 0.0), (0.0, 0.0)),
    ("atan2", fg.atan2, (0.0, -1.0), (-1.0, -0.0)),
    ("atan2", fg.atan2, (1e200, 0.0), (0.0, -1e-200)),
    ("asin", fg.asin, (1.0,), (INF,)),
    ("acos", fg.acos, (1.0,), (-INF,)),
    ("acosh", fg.acosh, (1.0,), (INF,)),
    ("atanh", fg.atanh, (1.0,), (INF,)),
    ("asinh", fg.asinh, (1e200,), (1e-200,)),
    ("xlogy", fg.xlogy, (0.0, 0.0), (0.0, 0.0)),
    ("xlogy", fg.xlogy, (0.0, 2.0), (0.0, 0.0)),
    ("xlogy", fg.xlogy, (3.0, 2.0), (float(np.log(2.0)), 1.5)),
    ("logaddexp", fg.logaddexp, (0.0, 0.0), (0.5, 0.5)),
    ("logaddexp", fg.logaddexp, (-INF, -INF), (0.5, 0.5)),
    ("logaddexp", fg.logaddexp, (INF, INF), (0.5, 0.5)),
    ("logaddexp", fg.logaddexp, (-INF, 0.0), (0.0, 1.0)),
    ("logaddexp2", fg.logaddexp2, (1000.0, -1000.0), (1.0, 0.0)),
    ("sinc", fg.sinc, (0.0,), (0.0,)),
    ("i0e", fg.i0e, (0.0,), (0.0,)),
    ("i1e", fg.i1e, (0.0,), (0.5,)),
    ("erfc", fg.erfc, (30.0,), (0.0,)),
    ("where, the side not chosen", lambda x: fg.where(x > 0, fg.sqrt(x), 0.0), (4.0,), (0.25,)),
    ("squared_difference", fg.squared_difference, (2.0, 2.0), (0.0, 0.0)),
]


@pytest.mark.parametrize(("name", "function", "point", "wanted"), KINKS, ids=[f"{k[0]}{k[2]}" for k in KINKS])
def test_gradient_at_a_kink(name: str, function: Any, point: Any, wanted: Any) -> None:
    xs = [fg.asarray(np.array([value])) for value in point]
    grads = fg.gradient(function(*xs), xs)
    for grad, expected in zip(grads, wanted, strict=True):
        if expected is None:
            assert grad is None
        else:
            np.testing.assert_allclose(grad.numpy(), [expected], rtol=1e-12, atol=1e-300)


SECOND: list[tuple[str, Callable[..., Any], float, float]] = [
    ("softplus", fg.softplus, 0.0, 0.25),
    ("tanh", fg.tanh, 0.0, 0.0),
    ("softsign", fg.softsign, 0.0, 0.0),
    ("sinc", fg.sinc, 0.0, -(np.pi**2) / 3),
    ("sinc", fg.sinc, 1e-8, -(np.pi**2) / 3),
    ("i0e", fg.i0e, 1e-12, 1.5),
    ("logaddexp with a constant", lambda x: fg.logaddexp(x, 0.0), 0.0, 0.25),
    ("x ** 2", lambda x: x**2, 0.0, 2.0),
    ("x ** 3", lambda x: x**3, 0.0, 0.0),
    ("x ** 1", lambda x: x**1, 0.0, 0.0),
    ("abs", fg.abs, 0.0, 0.0),
    ("gelu", fg.gelu, 0.0, 2 / np.sqrt(2 * np.pi)),
    ("silu", fg.silu, 0.0, 0.5),
    ("lgamma", fg.lgamma, 1.0, np.pi**2 / 6),
    ("huber loss", lambda x: fg.keras.losses.huber(0.0, x), 0.0, 1.0),
    ("huber loss beyond delta", lambda x: fg.keras.losses.huber(0.0, x), 2.0, 0.0),
]


@pytest.mark.parametrize(("name", "function", "point", "wanted"), SECOND, ids=[f"{k[0]}({k[2]})" for k in SECOND])
def test_second_derivative_at_a_special_point(name: str, function: Any, point: float, wanted: float) -> None:
    x = fg.asarray(np.array(point))
    slope = fg.gradient(function(x), x)
    bend = fg.gradient(slope, x, unconnected_gradients="zero")
    np.testing.assert_allclose(bend.numpy(), wanted, rtol=1e-7, atol=1e-12)


def test_the_slope_of_a_power_changes_with_its_exponent_at_0() -> None:
    """d/dy (y x**(y-1)) is 1 / x at y = 0; where x is 0 or too small to have a reciprocal it is taken for 0."""
    x, y = fg.constant(np.array([2.0, -4.0, 0.0, 1e-310, np.nan])), fg.constant(np.zeros(5))
    slope = fg.gradient(fg.sum(fg.power(x, y)), x)
    assert fg.gradient(fg.sum(slope), y).tolist() == [0.5, -0.25, 0, 0, 0]
    assert fg.grad(lambda x: fg.sum(fg.power(x, y)))(x).tolist() == [0, 0, 0, 0, 0]


def test_the_gradient_of_a_cross_entropy_by_a_label_of_0() -> None:
    labels, logits = fg.constant(np.array([[0.0, 1.0]])), np.array([[0.0, 0.0]])

    def cost(z: Any, x: Any) -> Any:
        return fg.sum(fg.nn.softmax_cross_entropy_with_logits(z, x))

    np.testing.assert_allclose(fg.grad(lambda z: cost(z, logits))(labels).numpy(), [[np.log(2), np.log(2)]])
    impossible = np.array([[-np.inf, 0.0]])
    assert float(cost(labels, impossible)) == 0
    assert fg.grad(lambda x: cost(labels, x))(impossible).tolist() == [[0, 0]]
