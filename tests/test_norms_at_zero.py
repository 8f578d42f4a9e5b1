"""Norms at 0 and deviations of equal numbers: the gradient is 0 and the second derivative finite, also in a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowgraph as fg

la = fg.linalg

VECTORS: dict[str, Callable[[Any], Any]] = {
    "norm": fg.norm,
    "norm of columns": lambda x: fg.sum(fg.norm(x, axis=0)),
    "global_norm": lambda x: la.global_norm([x, None, 2 * x]),
    **{f"ord {p}": lambda x, p=p: la.vector_norm(x, ord=p) for p in (0.5, 1, 1.5, 2, 3, -1, -0.5, math.inf)},
    **{f"matrix {p}": lambda x, p=p: la.matrix_norm(x, ord=p) for p in ("fro", 1, -1, math.inf, -math.inf)},
}
OTHERS: dict[str, Callable[[Any], Any]] = {
    "clip_by_norm": lambda x: fg.sum(fg.real(fg.clip_by_norm(x, 2.0))),
    "clip_by_global_norm": lambda x: fg.sum(fg.real(fg.clip_by_global_norm([x, x], 2.0)[0][0])),
    **{f"matrix {p}": lambda x, p=p: la.matrix_norm(x, ord=p) for p in ("nuc", 2, -2)},
}
ZEROS = [np.zeros((2, 2)), np.zeros((3, 2)), np.zeros((2, 2), np.complex128), np.zeros((2, 3), np.complex128)]


def derivatives(f: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
    def slope(x: Any) -> Any:
        return fg.sum(fg.real(fg.conj(fg.grad(f)(x)) * np.arange(1.0, 1.0 + x.shape[0])[:, None]))

    return fg.grad(f)(x).numpy(), fg.grad(slope)(x).numpy()


@pytest.mark.parametrize("zero", ZEROS, ids=str)
@pytest.mark.parametrize("name", VECTORS)
def test_the_gradient_of_a_norm_is_zero(name: str, zero: Any) -> None:
    first, second = derivatives(VECTORS[name], fg.constant(zero))
    np.testing.assert_array_equal(first, zero)
    assert np.isfinite(second).all()


@pytest.mark.parametrize("equal", [np.zeros((2, 2)), np.full((3, 2), 0.5)], ids=str)
@pytest.mark.parametrize("f", [fg.std, lambda x: fg.sum(fg.std(x, axis=0, correction=1))])
def test_the_gradient_of_the_deviation_of_equal_numbers_is_zero(f: Callable[[Any], Any], equal: Any) -> None:
    first, second = derivatives(f, fg.constant(equal))
    np.testing.assert_array_equal(first, np.zeros_like(equal))
    assert np.isfinite(second).all()


@pytest.mark.parametrize("zero", ZEROS, ids=str)
@pytest.mark.parametrize("name", OTHERS)
def test_derivatives_are_finite(name: str, zero: Any) -> None:
    first, second = derivatives(OTHERS[name], fg.constant(zero))
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()
    if name.startswith("clip"):
        np.testing.assert_array_equal(first, np.ones_like(zero))


def test_one_zero_in_a_batch() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    first, second = derivatives(lambda x: fg.sum(fg.norm(x, axis=1)), fg.constant(x))
    np.testing.assert_allclose(first, [[0, 0], [0.6, 0.8]], rtol=1e-12)
    np.testing.assert_allclose(second[0], [0, 0])
    assert np.isfinite(second).all()


def test_clipping_of_complex_numbers_and_by_tensors() -> None:
    z = np.array([3 + 4j, 0j])
    np.testing.assert_allclose(fg.clip_by_norm(z, 1.0), z / 5)
    clipped, length = fg.clip_by_global_norm([z, None, np.array([12.0])], fg.constant(np.array(6.5)))
    assert float(length) == 13.0
    np.testing.assert_allclose(clipped[0], z / 2)
    np.testing.assert_allclose(clipped[2], [6.0])
