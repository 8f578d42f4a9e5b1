"""Gradients of loops without a bound: against the same loop with one, against Python's, and cut over a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import walk

import flowgraph as fg
from flowgraph.graph import ops_used

RNG = np.random.default_rng(3)
X = RNG.standard_normal((6, 3))
W = 0.3 * RNG.standard_normal((3, 3))
B = RNG.standard_normal(3)


def loss(x: Any, w: Any, b: Any, count: Any, limit: int | None = None) -> Any:
    """A loop over a float count, a batch of states and a total; `w` and `b` come from outside."""

    def turn(i: Any, s: Any, total: Any) -> Any:
        return i + 1.0, fg.tanh(s @ w + b), total + fg.sum(s * s)

    start = (fg.constant(0.0), x, fg.constant(np.array(0.5)))
    _, s, total = fg.while_loop(lambda i, s, total: i < count, turn, start, maximum_iterations=limit)
    return fg.sum(s * s * s) + total * total


def unrolled(x: Any, w: Any, b: Any, count: int) -> Any:
    s, total = x, fg.constant(np.array(0.5))
    for _ in range(count):
        s, total = fg.tanh(s @ w + b), total + fg.sum(s * s)
    return fg.sum(s * s * s) + total * total


def derivative(f: Any, order: int) -> Any:
    """The derivatives of `f` by its first three arguments, or those of a function of these derivatives."""
    first = fg.grad(f, argnums=(0, 1, 2))
    if order == 1:
        return first
    return derivative(lambda *args: sum(fg.sum(fg.sin(one)) for one in first(*args)), order - 1)


def close(got: Any, wanted: Any) -> None:
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_gradients_are_those_of_the_unrolled_loop(count: int, order: int) -> None:
    wanted = derivative(lambda x, w, b: unrolled(x, w, b, count), order)(X, W, B)
    turns = fg.constant(float(count))
    close(fg.function(derivative(loss, order))(X, W, B, turns), wanted)
    close(derivative(loss, order)(X, W, B, turns), wanted)
    bounded = fg.function(derivative(lambda *args: loss(*args, limit=7), order))
    close(bounded(X, W, B, turns), wanted)


def test_one_program_serves_any_number_of_turns() -> None:
    slopes = fg.function(fg.grad(loss, argnums=(0, 1, 2)))
    for count in (3.0, 0.0, 9.0):
        close(slopes(X, W, B, fg.constant(count)), fg.grad(loss, argnums=(0, 1, 2))(X, W, B, fg.constant(count)))
    assert len(slopes.traces) == 1
    used = ops_used(slopes.program(X, W, B, fg.constant(3.0)).graph)
    assert used["while_back"] == 1
    assert used["while_back_sum"] == 1  # one for each dtype


def test_the_condition_may_depend_on_the_states() -> None:
    def root(a: Any) -> Any:
        return fg.while_loop(lambda x: fg.abs(x * x - a) > 1e-13, lambda x: (x + a / x) / 2, a)

    a = fg.constant(np.array(2.0))
    assert float(fg.function(fg.grad(root))(a)) == pytest.approx(0.5 / np.sqrt(2), rel=1e-9)
    assert float(fg.function(fg.grad(fg.grad(root)))(a)) == pytest.approx(-0.25 * 2**-1.5, rel=1e-6)
    assert float(fg.function(fg.grad(fg.grad(fg.grad(root))))(a)) == pytest.approx(0.375 * 2**-2.5, rel=1e-4)


def test_variables_and_tapes() -> None:
    v, scale = fg.Variable(W), fg.Variable(2.0, dtype="float32")

    @fg.function
    def slopes(x: Any) -> Any:
        with fg.GradientTape() as tape:
            s, _ = fg.while_loop(
                lambda s, n: fg.max(fg.abs(s)) > 0.01, lambda s, n: (s @ v, n * scale), (x, fg.constant(1.0))
            )
            y = fg.sum(s) + fg.cast(_, "float64")
        return tape.gradient(y, [v, scale, x])

    with fg.GradientTape(persistent=True) as tape:
        x = fg.constant(X)
        tape.watch(x)
        s, n = x, fg.constant(1.0)
        while np.abs(s.numpy()).max() > 0.01:
            s, n = s @ v, n * scale
        y = fg.sum(s) + fg.cast(n, "float64")
    got, wanted = slopes(x), tape.gradient(y, [v, scale])
    close(got[:2], wanted)
    assert got[2] is None or got[2].shape == X.shape


def test_loops_in_loops_and_in_branches() -> None:
    def inner(x: Any, c: Any) -> Any:
        return fg.while_loop(lambda s: fg.max(s) < 4.0, lambda s: s * c, x)

    def nested(x: Any, c: Any) -> Any:
        _, s = fg.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, fg.sqrt(inner(s, c))), (0, x))
        return fg.sum(s)

    def branch(x: Any, c: Any) -> Any:
        return fg.sum(fg.cond(fg.sum(x) > 0, lambda: inner(x, c), lambda: x))

    def mapped(x: Any, c: Any) -> Any:
        return fg.sum(fg.map_fn(lambda e: inner(e, c), fg.stack([x, x + 0.5])))

    def scanned(x: Any, c: Any) -> Any:
        return fg.sum(fg.scan(lambda s, e: fg.log(inner(fg.exp(s - e), c)), fg.constant(np.array([1.0, 2.0])), x))

    x, c = fg.constant(np.array([1.0, 1.3])), fg.constant(np.array(1.5))
    for f in (nested, branch, mapped, scanned):
        close(fg.function(fg.grad(f, argnums=(0, 1)))(x, c), _by_differences(f, x.numpy(), c.numpy()))


def _by_differences(f: Any, x: Any, c: Any, h: float = 1e-6) -> Any:
    by_x = [(float(f(x + h * unit, c)) - float(f(x - h * unit, c))) / (2 * h) for unit in np.eye(len(x))]
    by_c = (float(f(x, c + h)) - float(f(x, c - h))) / (2 * h)
    return fg.constant(np.array(by_x)), fg.constant(np.array(by_c))


def test_gradients_of_a_batch_of_loops() -> None:
    def f(x: Any) -> Any:
        return fg.while_loop(lambda s: s < 50.0, lambda s: s * s, x)

    x = np.array([2.0, 3.0, 1.5])
    got = fg.function(fg.vmap(fg.grad(f)))(x)
    np.testing.assert_allclose(got.numpy(), [8 * 2.0**7, 4 * 3.0**3, 16 * 1.5**15])


def test_a_gradient_is_cut_over_the_batch() -> None:
    rows = 200
    data = RNG.standard_normal((rows, 3))

    def f(x: Any, w: Any, b: Any) -> Any:
        _, s = fg.while_loop(lambda i, s: i < 5, lambda i, s: (i + 1, fg.tanh(s @ w + b)), (0, x))
        return fg.mean(fg.square(s))

    wanted = fg.grad(f, argnums=(0, 1, 2))(data, W, B)
    slopes = fg.function(fg.grad(f, argnums=(0, 1, 2)))
    with walk.tiles(16, 16):
        program = slopes.program(data, W, B)
        assert not any(node.op.name == "gather" for node in program.phases.needed)
        results = []
        for shards in (1, 3, (0, 1, 0, 3)):
            program.wishes = dict.fromkeys(program.meshes, shards)
            entry = next(iter(slopes.traces.values()))
            given = [data, W, B, *(node.memo for node in entry.captured)]
            results.append(program.run(given, scheduler="synchronous"))
        for other in results[1:]:
            walk.same(other, results[0], "a loop in shards")
    for got, want in zip(results[0], wanted, strict=True):
        np.testing.assert_allclose(np.asarray(got), want.numpy(), rtol=1e-10, atol=1e-14)


def test_only_what_is_read_is_kept() -> None:
    """Of a loop that is linear in its state, no turn's state is read on the way back."""
    f = fg.function(fg.grad(lambda x: fg.sum(fg.while_loop(lambda s: fg.sum(s) < 9.0, lambda s: s * 2.0, x))))
    np.testing.assert_array_equal(f(np.ones(2)).numpy(), [8.0, 8.0])
    node = next(one for one in f.program(np.ones(2)).graph if one.op.name == "while_back")
    assert node.attr("reads") == ()


def test_complex_states() -> None:
    def f(z: Any) -> Any:
        _, s = fg.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s * s + z), (0, z))
        return fg.real(s * fg.conj(s))

    z = fg.constant(np.array(0.3 + 0.2j))
    close([fg.function(fg.grad(f))(z)], [fg.grad(f)(z)])
