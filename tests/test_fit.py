"""Fit: the same numbers however it is run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from learning import Adam, Line, Network, X, Y, by_fit, same_bits

import flowgraph as fg
from flowgraph import eager, schedule


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiles of 8 rows at most. Programs are made anew, for a program keeps the tiles that it was made with."""
    monkeypatch.setattr(schedule, "TILE_ROWS", (4, 8))
    eager.COMPILED.clear()
    eager.BINDINGS.clear()
    yield
    eager.COMPILED.clear()
    eager.BINDINGS.clear()


# Fit: the same numbers however it is run.


def test_the_size_of_windows_has_no_influence() -> None:
    first = Network().fit(steps=17)
    for window in (1, 2, 5, 17, 1000):
        assert Network().fit(steps=17, window=window) == first


def test_several_fits_are_one() -> None:
    whole, parts, opt_whole, opt_parts = Line(), Line(), Adam(0.1), Adam(0.1)
    by_fit(whole, opt_whole, 9)
    for steps in (1, 3, 5):
        by_fit(parts, opt_parts, steps)
    assert same_bits(whole.numbers(), parts.numbers())


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.usefixtures("small_tiles")
def test_executors_have_no_influence(batch_size: int | None) -> None:
    options = {"steps": 6, "batch_size": batch_size, "shards": 3}
    first = Network().fit(**options)
    for other in ({"scheduler": "sync"}, {"scheduler": "threads"}, {"scheduler": "sync", "window": 4}):
        assert Network().fit(**options, **other) == first


@pytest.mark.usefixtures("small_tiles", "processes")
def test_processes_have_no_influence() -> None:
    for batch_size in (None, 7):
        options = {"steps": 3, "batch_size": batch_size, "window": 3}
        assert Network().fit(**options, scheduler="processes") == Network().fit(**options)


@pytest.mark.cluster
@pytest.mark.usefixtures("small_tiles")
def test_a_cluster_has_no_influence(cluster: Any) -> None:
    for batch_size in (None, 7):
        options = {"steps": 5, "batch_size": batch_size, "window": 3}
        assert Network().fit(**options, client=cluster) == Network().fit(**options)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("batch_size", [None, 20])
def test_shards_have_no_influence(batch_size: int | None) -> None:
    first = Network().fit(steps=4, batch_size=batch_size)
    for shards in (1, 2, 5, 61, (40, 0, 21)):
        for window in (1, 3):
            assert Network().fit(steps=4, batch_size=batch_size, shards=shards, window=window) == first


@pytest.mark.usefixtures("small_tiles")
def test_tiles_have_little_influence() -> None:
    in_tiles = Network()
    in_tiles.fit(steps=10)
    eager.COMPILED.clear()
    schedule.TILE_ROWS = (64, 16_384)
    at_once = Network()
    at_once.fit(steps=10)
    np.testing.assert_allclose(in_tiles.w.numpy(), at_once.w.numpy(), rtol=1e-4)
    assert in_tiles.w.numpy().tobytes() != at_once.w.numpy().tobytes()  # so the tiles were used


@pytest.mark.parametrize("batch_size", [None, 13])
def test_the_chunks_of_the_data_have_no_influence(batch_size: int | None) -> None:
    first = Network().fit(steps=7, batch_size=batch_size)
    for cuts in ([], [30], [1, 2, 3], [0, 10, 10, 61]):
        edges = [0, *cuts, 61]
        data = tuple(fg.from_blocks([one[a:b] for a, b in itertools.pairwise(edges)]) for one in (X, Y))
        assert Network().fit(data, steps=7, batch_size=batch_size) == first
    fortran = np.asfortranarray(X), fg.asarray(Y)
    assert Network().fit(fortran, steps=7, batch_size=batch_size) == first


@pytest.mark.usefixtures("small_tiles")
def test_a_parameter_for_each_row() -> None:
    x, y = X[:, 0].copy(), Y[:, 0].copy()
    results = []
    for window in (1, 4, None):
        p = fg.Variable(np.zeros(61, np.float32))
        fg.fit(
            lambda a, b, p=p: fg.reduce_sum(fg.square(p * a - b)),
            (x, y),
            variables=[p],
            optimizer=Adam(0.05),
            steps=9,
            window=window,
        )
        results.append(p.numpy())
    p, opt = fg.Variable(np.zeros(61, np.float32)), Adam(0.05)
    for _ in range(9):
        opt.minimize(lambda: fg.reduce_sum(fg.square(p * x - y)), [p])
    assert same_bits(results[0], results[1])
    assert same_bits(results[0], results[2])
    np.testing.assert_allclose(results[0], p.numpy(), rtol=1e-5)
