"""The gradient of gamma numbers by their shape parameter, which keeps each number's place in the distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats

import flowgraph as fg
from flowgraph.errors import GradientError
from flowgraph.ops.scipy_kernels import gamma_slope

EXACT = [
    # alpha, x, dx / dalpha, by mpmath 1.3 with 60 digits
    (0.001, 9.82165964406889e-47, 1.0348231948431981e-41),
    (0.001, 11.313671618752236, 927.0420072294115),
    (0.05, 5.8446320572868056e-241, 6.460184483132897e-237),
    (0.05, 0.07631711390918905, 3.51795960477596),
    (0.3, 3.236440226603645e-14, 3.3327271695512737e-12),
    (0.3, 0.8848107733602443, 2.5959876109725544),
    (0.3, 17.583462446593153, 6.187556027968628),
    (1.0, 1.0000000000005e-12, 2.805380545105482e-11),
    (1.0, 0.6931471805599455, 0.9680448304420446),
    (1.0, 20.723265865228342, 3.6545963813746414),
    (2.5, 2.5623217484152705e-05, 0.00011966304834440878),
    (2.5, 2.175730095547763, 0.9959193767730196),
    (9.9, 9.56873604624981, 0.9997834443006903),
    (9.9, 41.54846575905376, 1.913122310061096),
    (10.5, 0.3501128516347867, 0.11865548651228496),
    (10.5, 10.168613781773967, 0.9998082537746484),
    (40.0, 10.102621246886752, 0.4668163950207993),
    (150.0, 149.66679867460903, 0.9999991178077976),
    (1000.0, 1201.4728731116943, 1.09476226437566),
    (1e5, 97791.63586923578, 0.9888776366825414),
    (1e5, 99999.6666668642, 0.9999999999980247),
]


@pytest.mark.parametrize(("alpha", "x", "wanted"), EXACT)
def test_the_slope(alpha: float, x: float, wanted: float) -> None:
    assert float(gamma_slope(np.array(x), np.array(alpha))) == pytest.approx(wanted, rel=1e-10, abs=0)


def drawn(alpha: Any, count: int = 20_000) -> Any:
    return fg.random.gamma([count], alpha, dtype=np.float64, seed=3)


ALPHAS = np.array([0.2, 0.9, 3.0, 50.0])


def test_the_gradient_is_that_of_the_quantile() -> None:
    """Of scipy's quantile function, at the place that each number has in the distribution."""
    x, h = drawn(ALPHAS, 50).numpy(), 1e-5
    slopes = fg.jvp(lambda a: drawn(a, 50), (fg.constant(ALPHAS),), (np.ones(4),))[1].numpy()
    u = scipy.stats.gamma.cdf(x, ALPHAS)
    wanted = (scipy.stats.gamma.ppf(u, ALPHAS + h) - scipy.stats.gamma.ppf(u, ALPHAS - h)) / (2 * h)
    np.testing.assert_allclose(slopes, wanted, rtol=1e-4)


def test_expected_values_have_the_right_gradients() -> None:
    """E x = alpha, E x**2 = alpha + alpha**2, E log x = digamma(alpha)."""
    for f, wanted in (
        (lambda x: x, np.ones(4)),
        (fg.square, 1 + 2 * ALPHAS),
        (fg.log, scipy.special.polygamma(1, ALPHAS)),
    ):
        g = fg.grad(lambda a, f=f: fg.sum(fg.mean(f(drawn(a)), axis=0)))(ALPHAS)
        np.testing.assert_allclose(g.numpy(), wanted, rtol=0.1)


def test_rates_functions_and_single_precision() -> None:
    def f(alpha: Any, beta: Any) -> Any:
        return fg.sum(fg.random.gamma([7], alpha, beta, seed=1))

    single = ALPHAS.astype(np.float32)
    by_alpha, by_beta = fg.grad(f, argnums=(0, 1))(single, np.full(4, 2.0, np.float32))
    assert by_alpha.dtype == np.float32
    traced = fg.function(fg.grad(f, argnums=(0, 1)))(single, np.full(4, 2.0, np.float32))
    np.testing.assert_allclose(traced[0].numpy(), by_alpha.numpy(), rtol=1e-6)
    numbers = fg.random.gamma([7], single, 2.0, seed=1).numpy()
    np.testing.assert_allclose(by_beta.numpy(), -numbers.sum(0) / 2, rtol=1e-5)
    assert float(fg.grad(lambda a: fg.sum(fg.random.gamma([5], a, seed=1)))(2.0)) > 0
    assert fg.grad(lambda a: fg.sum(fg.random.gamma([], a, seed=1)))(single).shape == (4,)
    assert np.isnan(fg.grad(lambda a: fg.sum(fg.random.gamma([2], a)))(-1.0).numpy())
    tiny = fg.grad(lambda a: fg.sum(fg.random.gamma([100], a, seed=1)))(1e-3)
    assert np.isfinite(tiny.numpy())


def test_the_slope_has_a_derivative_by_the_number_alone() -> None:
    from flowgraph.ops.distributions import gamma_slope_op

    x, h = np.array([0.01, 0.5, 2.0, 60.0]), 1e-6
    got = fg.grad(lambda x: fg.sum(gamma_slope_op(x, ALPHAS)))(x).numpy()
    wanted = (gamma_slope(x * (1 + h), ALPHAS) - gamma_slope(x * (1 - h), ALPHAS)) / (2 * h * x)
    np.testing.assert_allclose(got, wanted, rtol=1e-3)
    with pytest.raises(GradientError, match="second derivative of gamma numbers"):
        fg.grad(fg.grad(lambda a: fg.sum(fg.random.gamma([2], a))))(1.0)
