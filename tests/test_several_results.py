"""Ops with several results inside programs: computed once, whoever reads which of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from walk import tiles

import flowgraph as fg
from flowgraph.eager import compiled, cone, detached
from flowgraph.graph import ops_used
from flowgraph.kernel import LoopStage, levels
from flowgraph.machine import Rates
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
    monkeypatch.setattr(levels, "RATES", Rates(flops=rate))
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


def test_gradients_of_several_outside_values_of_a_loop_are_added_over_cut_elements(processes: None) -> None:
    """Pieces of a map's gradient have several results, each of which is added; the elements are not gathered."""
    x, w, b = (RNG.normal(size=shape).astype(np.float32) for shape in ((50, 3), (3, 2), (2,)))

    def gradients(x: Any) -> Any:
        wanted = [fg.constant(w), fg.constant(b)]
        loss = fg.sum(fg.map_fn(lambda row: fg.tanh(row @ wanted[0] + wanted[1]), x))
        return fg.gradient(loss, wanted)

    g = 1 - np.tanh(x @ w + b).astype(np.float64) ** 2
    with tiles(4, 8):
        whole = gradients(fg.asarray(x))
        graph = compiled(detached(cone([one.node for one in whole]))).program.parts.graph
        assert "map_sum" in ops_used(graph)
        assert "gather" not in ops_used(graph)
        np.testing.assert_allclose(whole[0].numpy(), x.T @ g, rtol=1e-4)
        np.testing.assert_allclose(whole[1].numpy(), g.sum(axis=0), rtol=1e-4)
        for shards in (3, 7, (0, 1, 49, 0)):
            for one, other in zip(gradients(fg.shard(fg.asarray(x), rows=shards)), whole, strict=True):
                assert one.compute(scheduler="processes").tobytes() == other.numpy().tobytes()
