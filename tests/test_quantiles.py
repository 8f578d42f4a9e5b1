"""Quantiles by counting: those of sorting, in few passes over rows that are cut; and approximate ones in one pass."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as nps
from limited import needs_linux, results_on_a_file

import flowgraph as fg
from flowgraph import schedule
from flowgraph.eager import compiled, cone, detached
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.graph import ops_used
from flowgraph.ops.selection import from_ordered_bits, ordered_bits

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
X = RNG.standard_normal((101, 3))
SHARES = (0.0, 0.1, 0.5, 0.93, 1.0)


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch, fresh_programs: None) -> None:
    monkeypatch.setattr(import_module("flowgraph.ops.quantiles"), "COUNTED_BYTES", 0)
    monkeypatch.setattr(schedule, "TILE_ROWS", (4, 8))


def by_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("flowgraph.ops.quantiles"), "COUNTED_BYTES", 1 << 60)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, None, (0, 1)], ids=str)
def test_they_are_those_of_numpy_and_no_row_factor_is_gathered(axis: Any, dtype: Any) -> None:
    x = X.astype(dtype).reshape(101, 3, 1)
    found = fg.quantile(fg.asarray(x), SHARES, axis=axis)
    used = ops_used(compiled(detached(cone([found.node]))).program.parts.graph)
    assert used["select_digit"] == np.dtype(dtype).itemsize // 2
    assert not {"gather", "sort"} & set(used)
    wanted = np.quantile(x.astype(np.float64), SHARES, axis=axis)
    tolerance = 2 * np.finfo(dtype).eps
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_have_the_bits_of_sorting_on_any_number_of_shards(monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    x = np.round(X, 1).astype(dtype)  # with ties
    sources = (
        *(fg.shard(fg.asarray(x), rows=rows) for rows in (1, 2, 3, (0, 40, 0, 61, 0))),
        fg.from_blocks([x[:13], x[13:14], x[14:]]),
        fg.asarray(np.asfortranarray(x)),
        fg.asarray(da.from_array(x, chunks=(17, 3))),
    )
    counted = [fg.quantile(fg.exp(one), SHARES, axis=0) for one in sources]
    sketched = [fg.approximate_quantile(fg.exp(one), SHARES, axis=0) for one in sources]
    by_sorting(monkeypatch)
    wanted = fg.quantile(fg.exp(fg.asarray(x)), SHARES, axis=0).numpy()
    for scheduler in ("threads", "synchronous"):
        assert {one.compute(scheduler=scheduler).tobytes() for one in counted} == {wanted.tobytes()}
        assert len({one.compute(scheduler=scheduler).tobytes() for one in sketched}) == 1


def test_in_other_processes(processes: None) -> None:
    x = fg.shard(fg.asarray(X), rows=3)
    for function in (fg.quantile, fg.approximate_quantile):
        wanted = function(fg.asarray(X), SHARES, axis=0).numpy()
        assert function(x, SHARES, axis=0).compute(scheduler="processes").tobytes() == wanted.tobytes()


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 1.0, -1.0, 1e-310, 5e-324, 1e308, -1e308, -3e-39])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_special_values_are_in_the_order_of_numpy(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    with np.errstate(over="ignore"):
        x = data.draw(nps.arrays(np.float64, (data.draw(st.integers(1, 12)), 2), elements=st.sampled_from(SPECIAL)))
        x = x.astype(dtype)
    share = data.draw(st.sampled_from([0, 0.25, 0.5, 1]))
    with np.errstate(invalid="ignore", over="ignore"):
        wanted = fg.where(fg.equal(x, x), x, np.nan).numpy()
        ordered = np.sort(wanted, axis=0)
        low = int(np.floor(share * (len(x) - 1)))
        exact = share * (len(x) - 1) == low
    found = fg.quantile(fg.asarray(x), share, axis=0).numpy()
    if exact:
        np.testing.assert_array_equal(found, np.where(np.isnan(ordered[-1]), np.nan, ordered[low]))
    assert np.isnan(found[np.isnan(x).any(axis=0)]).all()
    import_module("flowgraph.ops.quantiles").COUNTED_BYTES = 1 << 60
    sorted_ones = fg.quantile(fg.asarray(x), share, axis=0).numpy()
    import_module("flowgraph.ops.quantiles").COUNTED_BYTES = 0
    np.testing.assert_array_equal(found, sorted_ones)


@given(nps.arrays(np.float32, 20, elements=st.floats(width=32)))
def test_bits_are_in_the_order_of_the_numbers(x: Array) -> None:
    bits = ordered_bits(x)
    np.testing.assert_array_equal(from_ordered_bits(bits, np.float32), x)
    np.testing.assert_array_equal(x[np.argsort(bits, kind="stable")], np.sort(x))


def test_integers_and_booleans_are_floats() -> None:
    x = RNG.integers(-50, 50, (40, 2))
    np.testing.assert_allclose(fg.median(fg.asarray(x), axis=0), np.median(x, axis=0))
    np.testing.assert_allclose(fg.percentile(fg.asarray(x > 3), 80, axis=0), np.percentile((x > 3) * 1.0, 80, axis=0))


def test_one_row_no_columns_and_other_axes() -> None:
    np.testing.assert_array_equal(fg.quantile(fg.asarray(X[:1]), SHARES, axis=0), np.repeat(X[:1], 5, axis=0))
    assert fg.quantile(fg.asarray(X[:, :0]), SHARES, axis=0).numpy().shape == (5, 0)
    np.testing.assert_allclose(fg.quantile(fg.asarray(X), 0.3, axis=1), np.quantile(X, 0.3, axis=1), rtol=1e-12)
    np.testing.assert_allclose(fg.quantile(fg.asarray(X[None]), 0.3, axis=(0, 1)), np.quantile(X, 0.3, axis=0))
    kept = fg.quantile(fg.asarray(X), SHARES, axis=0, keepdims=True)
    assert kept.shape == (5, 1, 3)


def test_many_shares_and_many_columns() -> None:
    x, q = RNG.standard_normal((50, 200)), np.linspace(0, 1, 101)
    np.testing.assert_allclose(fg.quantile(fg.asarray(x), q, axis=0), np.quantile(x, q, axis=0), atol=1e-15)


def test_the_gradient_is_that_of_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.round(X, 1)  # with ties: the gradient belongs to one of them
    weights = RNG.standard_normal((5, 3))

    def slope(x: Any) -> Any:
        return fg.gradient(fg.sum(fg.square(fg.quantile(x, SHARES, axis=0)) * weights), x)

    whole = slope(fg.asarray(x))
    used = ops_used(compiled(detached(cone([whole.node]))).program.parts.graph)
    assert not {"gather", "sort"} & set(used)
    found, cut = whole.numpy(), slope(fg.shard(fg.asarray(x), rows=3)).numpy()
    v = fg.asarray(x)
    bend = fg.gradient(fg.sum(fg.square(slope(v))), v).numpy()
    by_sorting(monkeypatch)
    np.testing.assert_array_equal(found, slope(fg.asarray(x)).numpy())
    assert cut.tobytes() == found.tobytes()
    np.testing.assert_allclose(bend, fg.gradient(fg.sum(fg.square(slope(v))), v).numpy(), rtol=1e-12)


@pytest.mark.parametrize(("dtype", "bits"), [(np.float16, None), (np.float32, None), (np.float64, None),
                                             (np.float32, 12), (np.float32, 32), (np.float64, 30)])  # fmt: skip
def test_the_error_of_approximate_ones(dtype: Any, bits: int | None) -> None:
    with np.errstate(over="ignore"):
        x = (RNG.standard_normal((401, 2)) * np.exp(RNG.uniform(-5, 5, (401, 2)))).astype(dtype)
    exponent = {np.float16: 5, np.float32: 8, np.float64: 11}[dtype]
    known = 1 + exponent + 7 if bits is None else bits
    q = np.arange(401) / 400  # the elements themselves, with nothing between them
    found = fg.approximate_quantile(fg.asarray(x), q, axis=0, bits=bits).numpy()
    wanted = np.sort(x, axis=0)
    error = np.abs(found.astype(np.float64) - wanted) / np.abs(wanted.astype(np.float64))
    bound = 2.0 ** -(known - exponent)
    if known == 8 * np.dtype(dtype).itemsize:
        assert error.max() == 0
    else:
        assert bound / 4 < error.max() <= bound
    assert bound == 2**-8 or bits is not None


def test_approximate_ones_of_special_values() -> None:
    x = np.array([0.0, -0.0, 0.0, np.inf, -np.inf], np.float32)
    assert fg.approximate_quantile(fg.asarray(x), [0, 0.25, 0.5, 0.75, 1]).tolist() == [-np.inf, 0, 0, 0, np.inf]
    assert np.isnan(float(fg.approximate_quantile(fg.asarray(np.append(x, np.nan)), 0.5)))
    assert np.isnan(float(fg.approximate_quantile(fg.asarray(np.array([np.nan, -np.nan])), 0)))
    largest = np.finfo(np.float32).max
    assert float(fg.approximate_quantile(fg.asarray(np.array([largest])), 0)) == pytest.approx(largest, rel=2**-8)
    assert float(fg.approximate_quantile(fg.asarray(np.arange(11)), 0.5)) == pytest.approx(5, rel=2**-8)
    assert fg.approximate_quantile(fg.asarray(X), SHARES, axis=1, keepdims=True).shape == (5, 101, 1)


def test_what_approximate_ones_refuse() -> None:
    for bits in (8, 33, 2.5):
        with pytest.raises(UsageError, match="bits"):
            fg.approximate_quantile(fg.asarray(X.astype(np.float32)), 0.5, bits=bits)
    with pytest.raises(UsageError, match="from 0 to 1"):
        fg.approximate_quantile(fg.asarray(X), 1.5)
    for function in (fg.quantile, fg.approximate_quantile):
        with pytest.raises(ShapeError, match="at least one"):
            function(fg.asarray(X[:0]), 0.5, axis=0)
        with pytest.raises(DTypeError):
            function(fg.asarray(X.astype(np.complex64)), 0.5, axis=0)


def test_no_gradient_flows_through_approximate_ones() -> None:
    x = fg.asarray(X)
    loss = fg.sum(fg.approximate_quantile(x, 0.5, axis=0))
    with fg.GradientTape() as tape:
        tape.watch(x)
        loss = fg.sum(fg.approximate_quantile(x, 0.5, axis=0))
    assert tape.gradient(loss, x) is None
    assert not np.any(fg.gradient(loss, x, unconnected_gradients="zero").numpy())


JOB = """
def job(x):
    X = fg.asarray(x)
    yield fg.quantile(X, [0.25, 0.999], axis=0)
    yield fg.approximate_quantile(X * 2, [0.25, 0.999], axis=0)
    yield fg.median(X)
"""


@needs_linux
def test_data_larger_than_the_memory_that_there_may_be(tmp_path: Path) -> None:
    """Exact quantiles of each column and of all, and approximate ones."""
    x = RNG.standard_normal((800_000, 16), dtype=np.float32)
    exact, sketched, median = results_on_a_file(x, JOB, tmp_path)
    wanted = np.quantile(x, [0.25, 0.999], axis=0).ravel()
    np.testing.assert_allclose(exact, wanted, rtol=1e-6)
    np.testing.assert_allclose(sketched, 2 * wanted, rtol=2**-8)
    np.testing.assert_allclose(median, np.median(x), rtol=1e-6)
