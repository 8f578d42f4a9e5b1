"""Derivatives of products where elements are 0, and of complex products: to third order, against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowgraph as fg

WEIGHTS = np.array([0.3, 1.7, -0.6, 1.1, 0.9])
PRODUCTS = {
    "prod": lambda x: fg.prod(x) * fg.prod(x + 1),
    "reduce_prod": lambda x: fg.sum(fg.reduce_prod(fg.reshape(x[:4], (2, 2)) + 0 * x[4], axis=1) * WEIGHTS[:2]),
    "prod of axes": lambda x: fg.prod(fg.reshape(x[:4], (2, 2)), axis=(0, 1)) + x[4],
    "cumulative_prod": lambda x: fg.sum(fg.cumulative_prod(x) * WEIGHTS),
    "cumprod from behind": lambda x: fg.sum(fg.cumprod(x, exclusive=True, reverse=True) * WEIGHTS),
    "segment_prod": lambda x: fg.sum(fg.segment_prod(x, [0, 0, 0, 2, 2]) * WEIGHTS[:3]),
    "of segments": lambda x: fg.sum(fg.unsorted_segment_prod(x, np.array([1, 0, 1, 1, -1]), 3) * WEIGHTS[:3]),
    "of matrices": lambda x: fg.sum(
        fg.unsorted_segment_prod(fg.stack([fg.stack([x, x[::-1]])] * 2), np.array([[1, 0], [1, -1]]), 2) * WEIGHTS
    ),
}
POINTS = {
    "one zero": [2.0, 0.0, 3.0, 0.5, 4.0],
    "two": [2.0, 0.0, 3.0, 0.0, 4.0],
    "three": [0.0, 0.0, 0.0, 2.0, 4.0],
    "none": [2.0, -1.0, 3.0, 0.5, 4.0],
}


def slopes_are_right(f: Any, x: Any, ways: Any) -> None:
    """Derivatives of order 1, 2, 3 along `ways`, each against differences of the one before."""
    functions = [f]
    for way in ways:
        before = functions[-1]
        functions.append(lambda x, before=before, way=way: fg.sum(fg.real(fg.conj(fg.grad(before)(x)) * way)))
    h = 1e-5
    for before, after, way in zip(functions, functions[1:], ways, strict=False):
        wanted = (float(before(fg.constant(x + h * way))) - float(before(fg.constant(x - h * way)))) / (2 * h)
        assert float(after(fg.constant(x))) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("name", PRODUCTS)
def test_derivatives_at_zeros(name: str, point: str) -> None:
    ways = np.random.default_rng(1).standard_normal((3, 5))
    slopes_are_right(PRODUCTS[name], np.array(POINTS[point]), ways)


@pytest.mark.parametrize("name", PRODUCTS)
def test_derivatives_of_complex_products(name: str) -> None:
    rng = np.random.default_rng(2)
    x, *ways = rng.standard_normal((3, 5)) + 1j * rng.standard_normal((3, 5))
    x[1] = 0
    slopes_are_right(lambda x: fg.real(PRODUCTS[name](x) * (1 + 2j)), x, ways)


def test_segment_products_of_no_rows() -> None:
    x = fg.constant(np.zeros((0, 2)))
    f = fg.grad(lambda x: fg.sum(fg.grad(lambda x: fg.sum(fg.unsorted_segment_prod(x, np.zeros(0, int), 2)))(x)))
    assert f(x).shape == (0, 2)
