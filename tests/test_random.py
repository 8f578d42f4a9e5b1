"""Random tensors: distributions by statistical tests with fixed seeds, independence of cuts, seeds, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import walk

import flowgraph as fg
from flowgraph.errors import DTypeError, GradientError, ShapeError, UsageError

COUNT = 20_000

CONTINUOUS = {
    "normal": (lambda seed: fg.random.normal([COUNT], 1, 2, np.float64, seed), scipy.stats.norm(1, 2)),
    "uniform": (lambda seed: fg.random.uniform([COUNT], -1, 3, np.float64, seed), scipy.stats.uniform(-1, 4)),
    "truncated": (
        lambda seed: fg.random.truncated_normal([COUNT], 1, 2, np.float64, seed),
        scipy.stats.truncnorm(-2, 2, 1, 2),
    ),
    "gamma 0.3": (lambda seed: fg.random.gamma([COUNT], 0.3, dtype=np.float64, seed=seed), scipy.stats.gamma(0.3)),
    "gamma 1": (lambda seed: fg.random.gamma([COUNT], 1.0, dtype=np.float64, seed=seed), scipy.stats.gamma(1)),
    "gamma 7, rate 2": (
        lambda seed: fg.random.gamma([COUNT], 7.0, 2.0, np.float64, seed),
        scipy.stats.gamma(7, scale=0.5),
    ),
}


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("seed", [1, 2])
def test_continuous_distributions(name: str, seed: int) -> None:
    draw, wanted = CONTINUOUS[name]
    x = draw(seed).numpy()
    assert scipy.stats.kstest(x, wanted.cdf).pvalue > 1e-3
    assert abs(x.mean() - wanted.mean()) < 4 * wanted.std() / COUNT**0.5
    assert abs(x.var() / wanted.var() - 1) < 0.1


@pytest.mark.parametrize("mean", [0.1, 1.0, 9.9, 10.0, 35.0, 1000.0])
def test_poisson(mean: float) -> None:
    x = fg.random.poisson([COUNT], mean, np.int64, seed=3).numpy()
    wanted = scipy.stats.poisson(mean)
    assert abs(x.mean() - mean) < 4 * (mean / COUNT) ** 0.5
    edges = np.unique(wanted.ppf(np.linspace(0.05, 0.95, 15)))
    observed = np.histogram(x, [-np.inf, *(edges + 0.5), np.inf])[0]
    expected = np.diff([0, *wanted.cdf(edges), 1]) * COUNT
    assert scipy.stats.chisquare(observed[expected > 0], expected[expected > 0]).pvalue > 1e-3


def test_bernoulli_and_categorical() -> None:
    assert abs(fg.random.bernoulli([COUNT], 0.2, seed=1).numpy().mean() - 0.2) < 0.012
    assert fg.random.bernoulli([2], dtype=np.bool_, seed=1).dtype == np.bool_
    p = np.array([[0.1, 0.2, 0.0, 0.7], [0.0, 0.5, 0.5, 0.0]])
    with np.errstate(divide="ignore"):
        x = fg.random.categorical(np.log(p) + 3, COUNT, seed=1).numpy()
    for row, chances in zip(x, p, strict=True):
        found = np.bincount(row, minlength=4)
        assert (found[chances == 0] == 0).all()
        assert scipy.stats.chisquare(found[chances > 0], COUNT * chances[chances > 0]).pvalue > 1e-3


def test_orders() -> None:
    x = np.arange(24).reshape(8, 3)
    y = fg.random.shuffle(x, seed=1).numpy()
    assert sorted(map(tuple, y)) == list(map(tuple, x))
    assert (y != x).any()
    np.testing.assert_array_equal(fg.random.permutation(x, seed=1), y)
    assert sorted(fg.random.permutation(50, seed=2).tolist()) == list(range(50))
    firsts = [int(fg.random.permutation(5, seed=seed)[0]) for seed in range(400)]
    assert scipy.stats.chisquare(np.bincount(firsts, minlength=5)).pvalue > 1e-3
    weights = np.arange(5.0)
    g = fg.grad(lambda x: fg.sum(fg.random.shuffle(x, seed=3) * weights))(np.zeros(5)).numpy()
    assert float(np.sum(g * np.arange(5.0))) == float(
        np.sum(fg.random.shuffle(np.arange(5.0), seed=3).numpy() * weights)
    )


def test_the_parameters_come_last() -> None:
    assert fg.random.gamma([5], [[1.0], [2.0]], [1.0, 2.0, 3.0], seed=1).shape == (5, 2, 3)
    x = fg.random.poisson([1000], [1.0, 50.0], seed=1).numpy()
    assert x.shape == (1000, 2)
    np.testing.assert_allclose(x.mean(0), [1, 50], rtol=0.1)
    assert np.isnan(fg.random.gamma([1], -1.0).numpy()).all()
    assert np.isnan(fg.random.poisson([1], -1.0).numpy()).all()
    assert fg.random.poisson([3], 0.0).tolist() == [0, 0, 0]
    assert (fg.random.gamma([1000], 1e-3, seed=1).numpy() > 0).all()


DRAWS: dict[str, Callable[[Any], Any]] = {
    "uniform": lambda seed: fg.random.uniform([40, 3], seed=seed),
    "gamma": lambda seed: fg.random.gamma([40, 3], 0.5, seed=seed),
    "poisson": lambda seed: fg.random.poisson([40, 3], 12.0, seed=seed),
    "truncated_normal": lambda seed: fg.random.truncated_normal([40, 3], seed=seed),
    "categorical": lambda seed: fg.random.categorical(np.zeros((40, 4)), 3, seed=seed),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_do_not_depend_on_cuts(name: str) -> None:
    drawn = DRAWS[name](5)
    graph = walk.graph_of([(drawn * 1).node], [])
    feeds = walk.values_of(graph, [])
    with walk.tiles(2, 4):
        entry = walk.compiled(graph)
        one = walk.run(entry, feeds, 1)
        walk.same(walk.run(entry, feeds, 7), one, name)
        assert entry.program.meshes
    walk.same([drawn.numpy()], one, name)


@pytest.mark.parametrize("name", DRAWS)
def test_seeds(name: str) -> None:
    def values(seed: Any) -> Any:
        return DRAWS[name](seed).numpy().tolist()

    assert values(5) == values(5) == values([5, 0])
    assert values(5) != values([5, 1]) != values(6)
    fg.random.set_seed(1)
    first, second = values(None), values(None)
    assert first != second
    fg.random.set_seed(1)
    assert values(None) == first


def test_stateless_names() -> None:
    seed = [3, 4]
    for stateless, plain in (
        (fg.random.stateless_uniform([4], seed, 1, 3), fg.random.uniform([4], 1, 3, seed=seed)),
        (fg.random.stateless_normal([4], seed, 1, 3), fg.random.normal([4], 1, 3, seed=seed)),
        (fg.random.stateless_truncated_normal([4], seed), fg.random.truncated_normal([4], seed=seed)),
        (fg.random.stateless_categorical([[0.0, 1.0]], 5, seed), fg.random.categorical([[0.0, 1.0]], 5, seed=seed)),
        (fg.random.stateless_gamma([4, 2], seed, [1.0, 2.0]), fg.random.gamma([4], [1.0, 2.0], seed=seed)),
        (fg.random.stateless_poisson([4], seed, 3.0), fg.random.poisson([4], 3.0, np.int32, seed=seed)),
    ):
        assert stateless.dtype == plain.dtype
        assert stateless.tolist() == plain.tolist()


def test_in_a_function_draws_are_fresh_unless_they_have_a_seed() -> None:
    draw = fg.function(lambda: (fg.random.gamma([4], 2.0), fg.random.gamma([4], 2.0, seed=[1, 2])))
    (a, b), (c, d) = draw(), draw()
    assert a.tolist() != c.tolist()
    assert b.tolist() == d.tolist() == fg.random.gamma([4], 2.0, seed=[1, 2]).tolist()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fg.random.truncated_normal([2], dtype=np.int32), DTypeError, "real"),
        (lambda: fg.random.gamma([2], 1.0, dtype=np.int32), DTypeError, "real"),
        (lambda: fg.random.poisson([2], 1.0, dtype=np.bool_), DTypeError, "counts"),
        (lambda: fg.random.poisson([-2], 1.0), UsageError, "no length"),
        (lambda: fg.random.categorical([0.0, 1.0], 2), ShapeError, "rows of classes"),
        (lambda: fg.random.categorical([[0.0, 1.0]], 2, dtype=np.float32), DTypeError, "integers"),
        (lambda: fg.random.categorical([[0.0, 1.0]], -1), UsageError, "no length"),
        (lambda: fg.random.shuffle(3), ShapeError, "no rows"),
        (lambda: fg.random.permutation(-1), UsageError, "none"),
        (lambda: fg.random.normal([2], seed=0.5), UsageError, "seed"),
        (lambda: fg.random.normal([2], seed=[1, 2, 3]), UsageError, "seed"),
        (lambda: fg.random.stateless_gamma([4, 3], [1, 2], [1.0, 2.0]), ShapeError, "last axes"),
        (lambda: fg.grad(lambda a: fg.sum(fg.random.poisson([2], a)))(1.0), GradientError, "gradient"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_bounds_and_parameters_have_the_precision_of_what_is_drawn() -> None:
    assert fg.random.normal((1,), 0.1, 0.0, "float64").tolist() == [0.1]
    assert fg.random.uniform((1,), 0.1, 0.1, "float64").tolist() == [0.1]
