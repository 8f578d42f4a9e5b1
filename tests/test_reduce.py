"""Reductions, scans and differences: dtypes, empty axes, special values, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import DTypeError, ShapeError, UsageError


@pytest.mark.parametrize("name", ["sum", "prod", "cumulative_sum", "cumulative_prod"])
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("int8", "int32"), ("int16", "int32"), ("int32", "int32"), ("int64", "int64"),
        ("uint8", "uint32"), ("uint32", "uint32"), ("uint64", "uint64"), ("float32", "float32"), ("float64", "float64"),
    ],
)  # fmt: skip
def test_dtypes_of_sums(name: str, given: str, wanted: str) -> None:
    x = fg.constant(np.array([3, 50, 60], given))
    found = getattr(fg, name)(x)
    assert found.dtype == wanted
    last = found if found.ndim == 0 else found[-1]
    assert int(last) == (113 if "sum" in name else 9000)
    assert getattr(fg, name)(x, dtype="float64").dtype == np.float64


def test_of_nothing() -> None:
    x = fg.zeros((3, 0))
    assert fg.prod(x, axis=1).tolist() == [1, 1, 1]
    assert fg.sum(x).tolist() == 0
    assert fg.all(x, axis=1).tolist() == [True] * 3
    assert fg.any(x, axis=1).tolist() == [False] * 3
    assert int(fg.count_nonzero(x)) == 0
    for function in (fg.max, fg.min, fg.argmax, fg.argmin):
        with pytest.raises(ShapeError, match="there is none"):
            function(x, axis=1)
        assert function(x, axis=0).shape == (0,)


def test_truth() -> None:
    x = fg.constant([[0.0, np.nan], [0.0, 0.0]])
    assert fg.any(x, axis=1).tolist() == [True, False]
    assert fg.all(x, axis=1, keepdims=True).tolist() == [[False], [False]]
    assert fg.count_nonzero(x, axis=0).tolist() == [0, 1]
    assert fg.count_nonzero(x).dtype == np.int32
    assert fg.count_nonzero(x, dtype=np.int64).dtype == np.int64
    assert fg.grad(lambda v: (v * fg.any(v)).sum())(2.0).tolist() == 1


def test_correction() -> None:
    x = np.array([[1.0, 2.0, 6.0], [0.0, 4.0, 4.0]])
    for correction in (0, 1, 0.5):
        wanted = np.var(x, axis=1, ddof=correction, keepdims=True)
        found = fg.var(fg.constant(x), axis=1, correction=correction, keepdims=True)
        np.testing.assert_allclose(found.numpy(), wanted)
        np.testing.assert_allclose(
            fg.std(fg.constant(x), axis=1, correction=correction, keepdims=True).numpy(), np.sqrt(wanted)
        )


def test_a_correction_beyond_the_count_gives_inf() -> None:
    """As in numpy; a negative variance would have a root that is nan."""
    x = np.array([1.0, 3.0])
    assert float(fg.var(x, correction=3)) == np.inf
    assert np.isnan(float(fg.var([1.0, 1.0], correction=2)))
    assert fg.grad(lambda v: fg.var(v, correction=3))(x).tolist() == [-np.inf, np.inf]


@pytest.mark.parametrize("x", [[2.0, 3.0, 4.0], [2.0, 0.0, 4.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
def test_products_with_zeros_have_exact_derivatives(x: list[float]) -> None:
    """Of x y z: the gradient is (yz, xz, xy), and the second derivatives are the third element or 0."""
    point = np.array(x)
    others = [np.prod(np.delete(point, k)) for k in range(3)]
    np.testing.assert_array_equal(fg.grad(fg.prod)(point).numpy(), others)
    rows = [fg.grad(lambda v, k=k: fg.grad(fg.prod)(v)[k])(point).numpy() for k in range(3)]
    wanted = [[0.0 if j == k else point[3 - j - k] for j in range(3)] for k in range(3)]
    np.testing.assert_array_equal(rows, wanted)
    slope = fg.grad(lambda v: fg.cumulative_prod(v).sum())(point).numpy()
    a, b, c = point
    np.testing.assert_array_equal(slope, [1 + b + b * c, a + a * c, a * b])


def test_scan_arguments() -> None:
    x = fg.constant([[1, 2], [3, 4]])
    assert fg.cumulative_sum(x, axis=1, include_initial=True).tolist() == [[0, 1, 3], [0, 3, 7]]
    assert fg.cumulative_prod(x, axis=0, include_initial=True).tolist() == [[1, 1], [1, 2], [3, 8]]
    assert fg.cumsum(x, 1, exclusive=True, reverse=True).tolist() == [[2, 0], [4, 0]]
    assert fg.cumulative_sum(fg.zeros((0,)), include_initial=True).tolist() == [0]
    with pytest.raises(UsageError, match="which axis"):
        fg.cumulative_sum(x)
    with pytest.raises(UsageError, match="contradict"):
        fg.cumulative_sum(x, axis=0, include_initial=True, exclusive=True)


def test_diff() -> None:
    x = np.array([[1.0, 4.0, 9.0, 16.0], [0.0, 1.0, 0.0, 1.0]])
    for n in (0, 1, 2, 5):
        np.testing.assert_array_equal(fg.diff(fg.constant(x), n=n).numpy(), np.diff(x, n))
    ends: dict[str, Any] = {"prepend": x[:1], "append": x[1:] * 2}
    np.testing.assert_array_equal(fg.diff(fg.constant(x), axis=0, **ends).numpy(), np.diff(x, axis=0, **ends))
    with pytest.raises(UsageError):
        fg.diff(fg.constant(x), n=-1)
    with pytest.raises(ShapeError):
        fg.diff(fg.constant(x), prepend=[0.0])


def test_in_traced_functions_of_any_length() -> None:
    traced = fg.function(
        lambda x: (fg.argmax(x), fg.argmin(x, axis=0), fg.cumulative_sum(x, axis=0, include_initial=True), fg.prod(x))
    )
    for rows in (4, 7):
        x = np.random.default_rng(rows).normal(size=(rows, 3))
        first, second, third, fourth = traced(fg.constant(x))
        assert int(first) == np.argmax(x)
        assert second.tolist() == np.argmin(x, 0).tolist()
        np.testing.assert_allclose(third.numpy(), np.concatenate([np.zeros((1, 3)), np.cumsum(x, 0)]))
        np.testing.assert_allclose(float(fourth), np.prod(x))


def test_complex_numbers_have_no_order() -> None:
    x = fg.constant(np.array([1 + 1j, 2]))
    for function in (fg.argmax, fg.argmin, fg.sort, fg.argsort):
        with pytest.raises(DTypeError, match="no order"):
            function(x)
    np.testing.assert_array_equal(fg.prod(x).numpy(), 2 + 2j)


def test_diff_counts_before_the_axis_as_in_numpy() -> None:
    x = np.array([[1, 4, 9, 16], [2, 3, 5, 7]])
    assert fg.diff(fg.constant(x), 2).tolist() == np.diff(x, 2).tolist()
    assert fg.diff(fg.constant(x), 1, 0).tolist() == np.diff(x, 1, 0).tolist()
