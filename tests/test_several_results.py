"""Ops with several results inside programs: computed once, whoever reads which of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from walk import tiles

import flowgraph as fg
from flowgraph.eager import compiled, cone, detached
from flowgraph.kernel import LoopStage
from flowgraph.op import Op

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3, 3)).astype(np.float32)


def loss(x: Any) -> Any:
    """Deviations from means: both results are wanted by a first loop and by a second one."""
    values, vectors = fg.linalg.eigh(x)
    spread = fg.sum(fg.square(values - fg.mean(values, axis=0)))
    return spread + fg.sum(fg.square(vectors - fg.mean(vectors, axis=0)))


def expected() -> float:
    x = X.astype(np.float64)
    return float(sum(((one - one.mean(0)) ** 2).sum() for one in np.linalg.eigh((x + x.mT) / 2)))


@pytest.mark.parametrize("rate", [1e20, 1.0], ids=["computed again", "stored"])
def test_a_second_loop_reads_all_results_or_computes_them_once(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("flowgraph.kernel.stages"), "FLOPS_PER_SECOND", rate)
    with tiles(4, 8):
        tensor = loss(fg.asarray(X))
        program = compiled(detached(cone([tensor.node]))).program
        calls = [stage.kernel.source.count("_eigh(") for stage in program.stages if isinstance(stage, LoopStage)]
        assert calls == ([1, 1] if rate > 1e10 else [1, 0])
        np.testing.assert_allclose(float(tensor), expected(), rtol=1e-5)
        for shards in (3, 7, (0, 1, 49, 0)):
            cut = loss(fg.shard(fg.asarray(X), rows=shards))
            assert cut.compute(scheduler="synchronous").tobytes() == tensor.numpy().tobytes()


CALLS: list[int] = []


def halves(x: Any) -> Any:
    CALLS.append(len(x))
    whole = np.floor(x)
    return whole, x - whole


split = Op(  # not in the table, where other tests would find it
    "split_at_the_point",
    "... -> ..., ...",
    halves,
    dtype=lambda types, attrs: ((types[0].dtype,), (types[0].dtype,) * 2),
)


def test_results_that_are_held_are_computed_with_the_first_that_is_asked_for() -> None:
    CALLS.clear()
    whole, rest = split(fg.constant([1.5, 2.25]))
    further = rest * 2
    assert whole.tolist() == [1, 2]
    assert rest.tolist() == [0.5, 0.25]
    assert further.tolist() == [1, 0.5]
    assert CALLS == [2]


def test_results_that_nobody_holds_are_let_go() -> None:
    CALLS.clear()
    whole = split(fg.constant([1.5, 2.25]))[0] + 1
    assert whole.tolist() == [2, 3]
    assert CALLS == [2]
