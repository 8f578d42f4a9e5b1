"""What runs along rows that are cut: no row factor is gathered for it, and the bits are those of one shard."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from limited import needs_linux, results_on_a_file

import flowgraph as fg
from flowgraph import schedule
from flowgraph.eager import compiled, cone, detached
from flowgraph.errors import UsageError
from flowgraph.op import OPS

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
X = RNG.uniform(0.8, 1.2, (101, 3))
Job = tuple[Callable[[Any], Any], Callable[[Array], Array]]


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch, fresh_programs: None) -> None:
    module = import_module("flowgraph.passes.sink")
    monkeypatch.setattr(module, "LEAF_BYTES", 1)
    monkeypatch.setattr(module, "COMPUTED_BYTES", 1)
    monkeypatch.setattr(schedule, "TILE_ROWS", (4, 8))


def suffix(x: Array, function: Any = np.cumsum) -> Array:
    return np.asarray(function(x[::-1], axis=0)[::-1])


def gradient_of(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: fg.gradient(fg.sum(fg.square(function(x)) * fg.expand_dims(fg.linspace(0.0, 1.0, 3), 0)), x)


def expected_gradient(x: Array) -> Array:
    return suffix(2 * np.cumsum(x, axis=0) * np.linspace(0, 1, 3))


def expected_of_products(x: Array) -> Array:
    p = np.cumprod(x, axis=0)
    return suffix(2 * p * p * np.linspace(0, 1, 3)) / x


ZERO, ONE = np.zeros((1, 3)), np.ones((1, 3))
JOBS: dict[str, Job] = {
    "sums": (lambda x: fg.cumsum(fg.exp(x)), lambda x: np.cumsum(np.exp(x), axis=0)),
    "exclusive": (lambda x: fg.cumsum(x, exclusive=True), lambda x: np.cumsum(x, axis=0) - x),
    "backwards": (lambda x: fg.cumsum(x, reverse=True), suffix),
    "both": (lambda x: fg.cumsum(x, exclusive=True, reverse=True), lambda x: suffix(x) - x),
    "with a first": (
        lambda x: fg.cumulative_sum(fg.exp(x), axis=0, include_initial=True),
        lambda x: np.concatenate([ZERO, np.cumsum(np.exp(x), axis=0)]),
    ),
    "with a last": (
        lambda x: fg.cumulative_prod(x, axis=0, include_initial=True, reverse=True),
        lambda x: np.concatenate([suffix(x, np.cumprod), ONE]),
    ),
    "products": (fg.cumprod, lambda x: np.cumprod(x, axis=0)),
    "products backwards": (lambda x: fg.cumprod(x, reverse=True), lambda x: suffix(x, np.cumprod)),
    "of all elements": (lambda x: fg.cumsum(fg.reshape(x, (-1,))), np.cumsum),
    "of a signal": (lambda x: fg.cumsum(fg.transpose(x)[None], axis=2), lambda x: np.cumsum(x.T[None], axis=2)),
    "sums of sums": (
        lambda x: fg.cumsum(fg.cumsum(x) / 100, reverse=True),
        lambda x: suffix(np.cumsum(x, axis=0) / 100),
    ),
    "distances from the mean": (
        lambda x: fg.cumsum(x - fg.mean(x, axis=0)),
        lambda x: np.cumsum(x - x.mean(axis=0), axis=0),
    ),
    "a gradient": (gradient_of(fg.cumsum), expected_gradient),
    "a gradient with a first": (
        gradient_of(lambda x: fg.cumulative_sum(x, axis=0, include_initial=True)),
        expected_gradient,
    ),
    "a gradient of products": (gradient_of(fg.cumprod), expected_of_products),
    "a gradient of products with a first": (
        gradient_of(lambda x: fg.cumulative_prod(x, axis=0, include_initial=True)),
        expected_of_products,
    ),
    "a second derivative": (
        lambda x: fg.gradient(fg.sum(fg.square(gradient_of(fg.cumsum)(x))), x),
        lambda x: suffix(np.cumsum(suffix(np.cumsum(x, axis=0) * (2 * np.linspace(0, 1, 3)) ** 2 * 2), axis=0)),
    ),
    "moved on": (lambda x: OPS["shift"](x, axis=0, by=11), lambda x: np.concatenate([np.zeros((11, 3)), x[:-11]])),
    "moved back": (lambda x: OPS["shift"](x, axis=0, by=-9), lambda x: np.concatenate([x[9:], np.zeros((9, 3))])),
}


@pytest.mark.parametrize("name", JOBS)
def test_they_agree_with_numpy_and_no_row_factor_is_gathered(name: str) -> None:
    job, expected = JOBS[name]
    tensor = job(fg.asarray(X))
    entry = compiled(detached(cone([tensor.node])))
    used = {node.op.name for node in entry.program.phases.needed}
    assert "before" in used
    assert "gather" not in used
    np.testing.assert_allclose(tensor.numpy(), expected(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", JOBS)
def test_they_have_the_same_bits_everywhere(name: str) -> None:
    x = X.astype(np.float32)
    job, _ = JOBS[name]
    wanted = job(fg.asarray(x)).numpy()
    sources = (
        *(fg.shard(fg.asarray(x), rows=rows) for rows in (1, 2, 3, (0, 40, 0, 61, 0))),
        fg.from_blocks([x[:13], x[13:14], x[14:]]),
        fg.asarray(np.asfortranarray(x)),
        fg.asarray(da.from_array(x, chunks=(17, 3))),
    )
    for source in sources:
        for scheduler in ("threads", "synchronous"):
            assert job(source).compute(scheduler=scheduler).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("name", ["both", "a gradient of products"])
def test_in_other_processes(name: str, processes: None) -> None:
    job, _ = JOBS[name]
    wanted = job(fg.asarray(X)).numpy()
    assert job(fg.shard(fg.asarray(X), rows=3)).compute(scheduler="processes").tobytes() == wanted.tobytes()


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 8, 9, 17])
def test_few_rows(rows: int) -> None:
    for include_initial in (False, True):
        found = fg.cumulative_sum(fg.asarray(X[:rows]), axis=0, include_initial=include_initial)
        wanted = np.cumsum(X[:rows], axis=0)
        np.testing.assert_allclose(found, np.concatenate([ZERO, wanted]) if include_initial else wanted)


def test_integers_wrap_around_and_special_values_run_on() -> None:
    x = np.full((50, 2), 2**30, np.int32)
    np.testing.assert_array_equal(fg.cumsum(fg.asarray(x)), np.cumsum(x, axis=0, dtype=np.int32))
    y = np.ones(40)
    y[17], y[30] = np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(fg.cumsum(fg.asarray(y)), np.cumsum(y))


def test_a_zero_among_factors_stops_no_gradient() -> None:
    x = X[:40, 0].copy()
    x[13] = 0.0
    found = fg.grad(lambda x: fg.sum(fg.cumprod(x)))(fg.asarray(x))
    whole = np.array([sum(np.prod(np.delete(x[: n + 1], k)) for n in range(k, 40)) for k in range(40)])
    np.testing.assert_allclose(found, whole, rtol=1e-12)


def test_a_first_value_and_exclusive_sums_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="contradict"):
        fg.cumulative_sum(fg.asarray(X), axis=0, include_initial=True, exclusive=True)


JOB = """
def job(x):
    X, scale = fg.asarray(x), 1 / len(x)
    yield fg.sum(fg.square(fg.cumsum(fg.tanh(X)) * scale))
    yield fg.sum(fg.square(fg.cumulative_sum(X, axis=0, include_initial=True, reverse=True) * scale))
    yield fg.sum(fg.cumprod(1 + X * 1e-4))
    yield fg.sum(fg.abs(fg.grad(lambda x: fg.sum(fg.square(fg.cumsum(x) * scale)))(X)))
"""


@needs_linux
def test_data_larger_than_the_memory_that_there_may_be(tmp_path: Path) -> None:
    """Sums, products, and a gradient, whose rows are never there at once."""
    x = RNG.standard_normal((800_000, 16), dtype=np.float32)
    found = np.concatenate(results_on_a_file(x, JOB, tmp_path))
    scale, wanted = 1 / len(x), np.zeros(4)
    for own in x.T:
        column, factors = own.astype(np.float64), 1 + own * np.float32(1e-4)
        sums = np.cumsum(column)
        wanted += (
            np.sum((np.cumsum(np.tanh(column)) * scale) ** 2),
            np.sum((np.cumsum(column[::-1]) * scale) ** 2),
            np.sum(np.cumprod(factors, dtype=np.float64)),
            np.sum(np.abs(2 * scale**2 * np.cumsum(sums[::-1]))),
        )
    np.testing.assert_allclose(found, wanted, rtol=5e-3)
