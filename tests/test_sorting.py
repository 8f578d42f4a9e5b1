"""Order and sets: ties, nan, quantiles beside numpy, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from walk import tiles

import flowgraph as fg
from flowgraph.errors import DTypeError, ShapeError, UsageError

X = np.array([[3.0, 1.0, 3.0, 2.0], [0.0, 5.0, -1.0, 5.0], [2.0, 2.0, 2.0, 2.0]])


def test_equal_elements_keep_their_order() -> None:
    assert fg.argsort(fg.constant(X)).tolist()[0] == [1, 3, 0, 2]
    assert fg.argsort(fg.constant(X), descending=True).tolist()[0] == [0, 2, 3, 1]
    assert fg.argsort(fg.constant(X)).dtype == np.int64
    assert fg.sort(fg.constant(X), axis=0, descending=True).tolist() == np.sort(X, 0)[::-1].tolist()


@pytest.mark.parametrize("rows", [5, 17, 64])
def test_places_over_many_tiles(rows: int) -> None:
    """A tile knows where its best element is; the first of equal ones counts, and nan before all numbers."""
    x = np.random.default_rng(rows).integers(0, 4, (rows, 3)).astype(np.float64)
    with tiles(2, 4):
        for axis in (None, 0, 1):
            assert fg.argmax(fg.constant(x), axis=axis).tolist() == np.argmax(x, axis).tolist()
            assert fg.argmin(fg.constant(x), axis=axis).tolist() == np.argmin(x, axis).tolist()
        x[rows // 2 :: 2, 1] = np.nan
        for axis in (None, 0, 1):
            assert fg.argmax(fg.constant(x), axis=axis).tolist() == np.argmax(x, axis).tolist()
            assert fg.argmin(fg.constant(x), axis=axis).tolist() == np.argmin(x, axis).tolist()


def test_gradient_of_sort() -> None:
    weights = np.arange(4.0)
    slope = fg.grad(lambda x: (fg.sort(x) * weights).sum())(np.array([3.0, 1.0, 4.0, 2.0]))
    assert slope.tolist() == [2, 0, 3, 1]


def test_top_k() -> None:
    found = fg.top_k(fg.constant(X), 2)
    assert found.values.tolist() == [[3, 3], [5, 5], [2, 2]]
    assert found.indices.tolist() == [[0, 2], [1, 3], [0, 1]]
    slope = fg.grad(lambda x: (fg.top_k(x, 2).values * [1.0, 10.0]).sum())(X)
    assert slope.tolist() == [[1, 0, 10, 0], [0, 1, 0, 10], [1, 10, 0, 0]]
    with pytest.raises(UsageError, match="not as many"):
        fg.top_k(fg.constant(X), 5)


def test_searchsorted() -> None:
    line = np.array([5.0, 1.0, 3.0, 3.0])
    order = np.argsort(line)
    for side in ("left", "right"):
        wanted = np.searchsorted(line, X, side, order)  # type: ignore[call-overload]
        found = fg.searchsorted(fg.constant(line), X, side=side, sorter=order)
        assert found.tolist() == wanted.tolist()
    long = np.sort(np.random.default_rng(0).integers(0, 50_000, 70_000))
    wanted = np.random.default_rng(1).integers(-5, 60_000, (5, 7))
    for side in ("left", "right"):
        found = fg.searchsorted(fg.constant(long), wanted, side=side)
        np.testing.assert_array_equal(found.numpy(), np.searchsorted(long, wanted, side))  # type: ignore[call-overload]
    with pytest.raises(DTypeError, match="complex"):
        fg.searchsorted(fg.constant([1j]), [1j])
    with pytest.raises(UsageError, match="side"):
        fg.searchsorted(fg.constant(line), X, side="middle")
    with pytest.raises(ShapeError):
        fg.searchsorted(fg.constant(X), [1.0])


@pytest.mark.parametrize("q", [0, 1, 0.3, 0.5, [0.1, 0.9], [[0.0, 0.25], [0.5, 1.0]]], ids=str)
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)], ids=str)
def test_quantiles_are_those_of_numpy(q: Any, axis: Any) -> None:
    x = np.random.default_rng(0).normal(size=(5, 4, 3))
    for keepdims in (False, True):
        wanted = np.quantile(x, q, axis=axis, keepdims=keepdims)
        found = fg.quantile(fg.constant(x), q, axis=axis, keepdims=keepdims)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
    np.testing.assert_allclose(fg.median(fg.constant(x), axis=axis).numpy(), np.median(x, axis=axis))


def test_quantiles_of_special_values() -> None:
    assert np.isnan(float(fg.median(fg.constant([1.0, np.nan, 2.0]))))
    assert float(fg.median(fg.constant([np.inf, 1.0, np.inf]))) == np.inf
    assert float(fg.percentile(fg.constant([1, 2, 4]), 75)) == 3
    slope = fg.grad(lambda x: fg.quantile(x, 0.75))(np.array([4.0, 1.0, 2.0, 8.0]))
    assert slope.tolist() == [0.75, 0, 0, 0.25]
    with pytest.raises(UsageError, match="from 0 to 1"):
        fg.quantile(fg.constant(X), 75)
    with pytest.raises(ShapeError):
        fg.median(fg.zeros((0,)))


def test_unique_elements() -> None:
    x = np.array([[2.0, 1.0, np.nan], [1.0, np.nan, 2.0]])
    found = fg.unique_all(fg.constant(x))
    wanted = np.unique_all(x)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.numpy(), other)
    assert found._fields == ("values", "indices", "inverse_indices", "counts")
    assert fg.unique_counts(fg.constant(x))._fields == ("values", "counts")
    assert fg.unique_inverse(fg.constant(x)).inverse_indices.shape == x.shape
    assert fg.grad(lambda v: (fg.unique_values(v) * [1.0, 10.0]).sum())(np.array([3.0, 1.0, 3.0])).tolist() == [
        10,
        1,
        0,
    ]
    with pytest.raises(UsageError, match="traced"):
        fg.function(fg.unique_values)(fg.constant(X))


def test_nonzero() -> None:
    for one, other in zip(fg.nonzero(fg.constant(X - 2)), np.nonzero(X - 2), strict=True):
        np.testing.assert_array_equal(one.numpy(), other)
    with pytest.raises(ShapeError):
        fg.nonzero(fg.constant(1.0))
