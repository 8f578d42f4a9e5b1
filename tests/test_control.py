"""Branches and loops: eagerly and in functions, their gradients, cuts, pickles, and what they refuse."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import walk

import flowgraph as fg
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.graph import ops_used

RNG = np.random.default_rng(0)
STEPS, ROWS, WIDTH, HIDDEN = 5, 6, 3, 4
X = RNG.standard_normal((STEPS, ROWS, WIDTH))
W = 0.3 * RNG.standard_normal((WIDTH, HIDDEN))
U = 0.3 * RNG.standard_normal((HIDDEN, HIDDEN))


def close(got: Any, wanted: Any, rtol: float = 1e-10) -> None:
    for a, b in zip(fg.tree.flatten(got), fg.tree.flatten(wanted), strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=1e-9)


def ops_of(f: Any, *args: Any) -> Any:
    """The operations in the program of a function."""
    return ops_used(fg.function(f).program(*args).graph)


WRAPS = pytest.mark.parametrize("wrap", [lambda f: f, fg.function], ids=["eager", "function"])


# cond


@WRAPS
def test_cond_takes_one_branch(wrap: Any) -> None:
    def f(x: Any, w: Any) -> Any:
        return fg.cond(fg.sum(x) > 0, lambda: {"y": x @ w, "n": (fg.sum(x),)}, lambda: {"y": -x @ w, "n": (x[0],)})

    x = np.array([1.0, 2.0, 3.0])
    close(wrap(f)(x, W), {"y": x @ W, "n": (6.0,)})
    close(wrap(f)(-x, W), {"y": x @ W, "n": (-1.0,)})


def test_only_a_symbolic_cond_is_an_operation() -> None:
    ran: list[str] = []
    assert fg.cond(fg.constant(True), lambda: ran.append("yes") or 1, lambda: ran.append("no")) == 1
    assert fg.cond(False, lambda x: ran.append("yes"), lambda x: x + 1, 4) == 5
    assert ran == ["yes"]
    assert ops_of(lambda x: fg.cond(fg.sum(x) > 0, lambda: x, lambda: -x), X)["cond"] == 1


def test_the_other_branch_is_not_computed() -> None:
    calls: list[int] = []

    def kernel(x: Any) -> Any:
        calls.append(1)
        return x * 2

    noted = fg.define("noted_in_a_branch", "... -> ...", kernel, doc="x doubled, and counted.")
    f = fg.function(lambda x: fg.cond(fg.sum(x) > 0, lambda: noted(x), lambda: x))
    close(f(np.ones(2)), 2 * np.ones(2))
    assert len(calls) == 1
    close(f(-np.ones(2)), -np.ones(2))
    assert len(calls) == 1


@WRAPS
def test_the_gradient_of_cond_is_that_of_the_branch(wrap: Any) -> None:
    def f(x: Any, w: Any) -> Any:
        return fg.sum(fg.square(fg.cond(fg.sum(x) > 0, lambda: x @ w, lambda: 2 * (x @ w))))

    for x in (np.ones(3), -np.ones(3)):
        scale = 1 if x[0] > 0 else 4
        got = wrap(fg.grad(f, argnums=(0, 1)))(x, W)
        close(got, (2 * scale * W @ (x @ W), 2 * scale * np.outer(x, x @ W)))
        close(wrap(lambda x: fg.hvp(lambda x: f(x, W), x, x))(x), 2 * scale * W @ (x @ W))


def test_branches_read_variables_and_have_their_gradients() -> None:
    v, w = fg.Variable(3.0), fg.Variable(2.0)

    @fg.function
    def slopes(x: Any) -> Any:
        with fg.GradientTape() as tape:
            y = fg.cond(x > 0, lambda: v * v * x, lambda: w * x)
        return tape.gradient(y, [v, w], unconnected_gradients="zero")

    close(slopes(fg.constant(2.0)), [12.0, 0.0], 1e-6)
    close(slopes(fg.constant(-2.0)), [0.0, -2.0], 1e-6)


def test_cond_that_can_not_be() -> None:
    def bad(pred: Any, one: Any, other: Any) -> Any:
        return fg.function(lambda x: fg.cond(pred(x), lambda: one(x), lambda: other(x)))(fg.constant([1.0, 2.0]))

    with pytest.raises(DTypeError, match="no single boolean"):
        bad(lambda x: x > 0, lambda x: x, lambda x: x)
    with pytest.raises(DTypeError, match="no single boolean"):
        fg.cond(fg.constant(1), lambda: 1, lambda: 2)
    with pytest.raises(UsageError, match="the same structure"):
        bad(lambda x: x[0] > 0, lambda x: (x, x), lambda x: x)
    with pytest.raises(ShapeError, match="same shapes and dtypes"):
        bad(lambda x: x[0] > 0, lambda x: x, lambda x: x[0])
    with pytest.raises(ShapeError, match="same shapes and dtypes"):
        bad(lambda x: x[0] > 0, lambda x: x, lambda x: fg.cast(x, "int32"))
    with pytest.raises(UsageError, match="no function"):
        fg.cond(True, 1, 2)  # type: ignore[arg-type]
    v = fg.Variable(1.0)
    with pytest.raises(UsageError, match="assigns to a variable"):
        bad(lambda x: x[0] > 0, lambda x: v.assign(x[0]).value(), lambda x: x[0])


# while_loop


def root(a: Any, limit: int | None = 40) -> Any:
    """The square root by Newton's method."""
    return fg.while_loop(lambda x: fg.abs(x * x - a) > 1e-12, lambda x: (x + a / x) / 2, a, maximum_iterations=limit)


@WRAPS
def test_while_loop(wrap: Any) -> None:
    a = np.array(2.0)
    close(wrap(root)(fg.constant(a)), np.sqrt(2.0))
    counted = wrap(lambda n: fg.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, s + i), (0, 10)))
    assert [int(one) for one in counted(fg.constant(4))] == [4, 16]
    assert [int(one) for one in counted(fg.constant(-1))] == [0, 10]
    bounded = wrap(lambda x: fg.while_loop(lambda x: x < 100, lambda x: x * 2, x, maximum_iterations=3))
    assert float(bounded(fg.constant(1.0))) == 8.0
    nested = wrap(
        lambda x: fg.while_loop(lambda p: p["i"] < 3, lambda p: {"i": p["i"] + 1, "x": p["x"] * 2}, {"i": 0, "x": x})
    )
    assert float(nested(fg.constant(1.0))["x"]) == 8.0


@WRAPS
def test_the_gradient_of_a_while_loop(wrap: Any) -> None:
    a = fg.constant(2.0, dtype="float64")
    close(wrap(fg.grad(root))(a), 0.5 / np.sqrt(2))
    close(wrap(fg.grad(fg.grad(root)))(a), -0.25 * 2**-1.5, 1e-6)


def test_no_turn_beyond_the_last_is_computed_and_none_is_nan() -> None:
    """The bound is far above the turns taken, where the body would divide by zero."""

    def f(x: Any) -> Any:
        return fg.while_loop(lambda s: s > 1.5, lambda s: s - 1 / (s - 1), x, maximum_iterations=500)

    assert float(fg.function(fg.grad(f))(fg.constant(2.0))) == 2.0
    halves = fg.function(fg.grad(lambda x: fg.while_loop(lambda s: s > 1, lambda s: s / 2, x, maximum_iterations=99)))
    close(halves(fg.constant(np.array(20.0))), 1 / 32)


def test_while_loops_that_can_not_be() -> None:
    x = fg.constant([1.0, 2.0])

    def in_function(test: Any, body: Any, start: Any, **more: Any) -> Any:
        return fg.function(lambda x: fg.while_loop(test, body, start(x), **more))(x)

    for run in (in_function, lambda test, body, start: fg.while_loop(test, body, start(x))):
        with pytest.raises(ShapeError, match="its body makes it"):
            run(lambda s: s[0] < 9, lambda s: fg.concat([s, s]), lambda x: x)
        with pytest.raises(DTypeError, match="its body makes it"):
            run(lambda s: s[0] < 9, lambda s: fg.cast(s, "float64"), lambda x: x)
        with pytest.raises(DTypeError, match="not one boolean"):
            run(lambda s: s < 9, lambda s: s, lambda x: x)
        with pytest.raises(UsageError, match="Let the body return the structure"):
            run(lambda s, t: s[0] < 9, lambda s, t: (s, t, t), lambda x: (x, x))
    with pytest.raises(UsageError, match="random draws"):
        in_function(lambda s: s[0] < 9, lambda s: s + fg.random.uniform((2,)), lambda x: x)
    with pytest.raises(UsageError, match="no integer from 0 on"):
        fg.while_loop(lambda s: s < 1, lambda s: s, x, maximum_iterations=-1)


# scan, map_fn, foldl


def states(x: Any, w: Any, u: Any) -> Any:
    start = fg.zeros_like(x[0] @ w)
    return fg.scan(lambda h, e: fg.tanh(e @ w + h @ u), x, start)


def unrolled(x: Any, w: Any, u: Any) -> Any:
    h, all_states = fg.zeros_like(x[0] @ w), []
    for t in range(STEPS):
        h = fg.tanh(x[t] @ w + h @ u)
        all_states.append(fg.expand_dims(h, 0))
    return fg.concat(all_states)


@WRAPS
def test_a_recurrent_network_is_its_unrolled_loop(wrap: Any) -> None:
    close(wrap(states)(X, W, U), unrolled(X, W, U))

    def loss(f: Any) -> Any:
        return lambda *args: fg.sum(fg.square(f(*args)) * 0.5)

    args = X, W, U
    close(wrap(fg.grad(loss(states), argnums=(0, 1, 2)))(*args), fg.grad(loss(unrolled), argnums=(0, 1, 2))(*args))
    along = tuple(RNG.standard_normal(one.shape) for one in args)
    close(wrap(lambda *a: fg.jvp(loss(states), a, along)[1])(*args), fg.jvp(loss(unrolled), args, along)[1])
    v = RNG.standard_normal(U.shape)
    got = wrap(lambda u: fg.hvp(lambda u: loss(states)(X, W, u), u, v))(U)
    close(got, fg.hvp(lambda u: loss(unrolled)(X, W, u), U, v))


def test_an_lstm_has_two_states_and_a_dict_of_elements() -> None:
    def cell(state: Any, element: Any) -> Any:
        h, c = state
        gates = fg.sigmoid(element["x"] @ W + h @ U)
        c = c * gates + fg.tanh(h @ U) * element["m"]
        return (gates * fg.tanh(c), c), fg.sum(c)

    zero = fg.zeros((ROWS, HIDDEN), "float64")
    masks = RNG.standard_normal((STEPS, 1, 1))
    (h, c), sums = fg.scan(cell, {"x": X, "m": masks}, (zero, zero), outputs=True)
    state: Any = (zero, zero)
    each = []
    for t in range(STEPS):
        state, y = cell(state, {"x": X[t], "m": masks[t]})
        each.append(float(y))
    close([h, c, sums], [*state, np.array(each)])


def test_scan_without_a_first_state_and_from_the_end() -> None:
    x = fg.constant([1.0, 2.0, 3.0])
    close(fg.scan(lambda s, e: s * 2 + e, x), np.array([1.0, 4.0, 11.0]))
    close(fg.scan(lambda s, e: s * 2 + e, x, reverse=True), np.array([17.0, 8.0, 3.0]))
    close(fg.scan(lambda s, e: s + e, x, 1.0, reverse=True), np.array([7.0, 6.0, 4.0]))
    close(fg.foldl(lambda s, e: s * 2 + e, x), 11.0)
    close(fg.foldl(lambda s, e: s + e, x, 1.0), 7.0)
    close(fg.scan(lambda s, e: s + e, fg.zeros((0, 2)), fg.ones((2,))), np.zeros((0, 2)))
    close(fg.foldl(lambda s, e: s + e, fg.zeros((0, 2)), fg.ones((2,))), np.ones(2))
    close(fg.map_fn(lambda e: e[0], fg.zeros((0, 2))), np.zeros(0))


def test_the_gradient_by_the_first_state_and_of_counters() -> None:
    def f(x: Any) -> Any:
        last, _ = fg.scan(lambda s, e: ((s[0] * e, s[1] + 1), e), fg.constant([2.0, 3.0]), (x, 0), outputs=True)
        return last[0] * fg.cast(last[1], "float32")

    close(fg.grad(f)(5.0), 12.0)


@WRAPS
def test_map_fn_and_its_gradient(wrap: Any) -> None:
    def f(x: Any, w: Any) -> Any:
        return fg.map_fn(lambda e: fg.tanh(e @ w) * e[0], x)

    x = X[0]
    close(wrap(f)(x, W), np.tanh(x @ W) * x[:, :1])
    g = wrap(fg.grad(lambda x, w: fg.sum(fg.square(f(x, w))), argnums=(0, 1)))(x, W)
    plain = fg.grad(lambda x, w: fg.sum(fg.square(fg.tanh(x @ w) * x[:, :1])), argnums=(0, 1))(x, W)
    close(g, plain)
    close(fg.map_fn(lambda pair: {"s": pair[0] + pair[1]}, (x, x)), {"s": 2 * x})


def test_draws_in_a_loop_differ_from_turn_to_turn() -> None:
    noise = fg.map_fn(lambda e: e + fg.random.normal((3,)), fg.zeros((4,))).numpy()
    assert len(np.unique(noise)) == 12
    f = fg.function(lambda x: fg.scan(lambda s, e: fg.random.uniform(()) + e * 0, x, 0.0))
    one, other = f(fg.zeros((4,))).numpy(), f(fg.zeros((4,))).numpy()
    assert len(np.unique([one, other])) == 8
    same = fg.map_fn(lambda e: e + fg.random.normal((), seed=1), fg.zeros((4,))).numpy()
    assert len(np.unique(same)) == 1


def test_loops_that_can_not_be() -> None:
    x = fg.constant(X)
    with pytest.raises(ShapeError, match="its body makes it"):
        fg.scan(lambda h, e: e, x, fg.zeros((2,), "float64"))
    with pytest.raises(DTypeError, match="its body makes it"):
        fg.scan(lambda h, e: h + e, x, fg.zeros((ROWS, WIDTH)))
    with pytest.raises(UsageError, match="Let the body return the structure"):
        fg.scan(lambda h, e: (h, h), x, x[0])
    with pytest.raises(UsageError, match="did not return a pair"):
        fg.scan(lambda h, e: h, x, x[0], outputs=True)
    with pytest.raises(UsageError, match="no initializer"):
        fg.scan(lambda h, e: (h, h), x, outputs=True)
    with pytest.raises(ShapeError, match="differ in length"):
        fg.map_fn(lambda pair: pair[0], (x, x[1:]))
    with pytest.raises(ShapeError, match="a scalar has no elements"):
        fg.map_fn(lambda e: e, 3.0)
    with pytest.raises(ShapeError, match="no first state"):
        fg.foldl(lambda s, e: s, fg.zeros((0, 2)))
    with pytest.raises(UsageError, match="there is no tensor"):
        fg.map_fn(lambda e: e, [])


# Programs.


def test_equal_loops_are_one_program() -> None:
    from flowgraph import eager

    misses = []
    for factor in (0.3, 0.4, 0.7):  # all on one line: bodies remember it, for errors inside
        fg.scan(lambda s, e, factor=factor: s * factor + e, fg.constant([5.0, 2.0]), 0.0).numpy()
        misses.append(eager.COMPILED.misses)
    assert misses[0] == misses[2]


def test_what_nobody_uses_is_not_stored() -> None:
    x = fg.constant(X)
    source = fg.function(lambda x: fg.foldl(lambda h, e: fg.tanh(h + e), x, x[0])).program(x).source()
    assert f"({STEPS}, " not in source.replace("result_shapes=", "")


def test_rows_are_cut_through_the_body_of_a_loop() -> None:
    rows = 200
    data = RNG.standard_normal((rows, STEPS, WIDTH))
    w, u = fg.Variable(W), fg.Variable(U)

    @fg.function
    def slopes(x: Any) -> Any:
        with fg.GradientTape() as tape:
            h = states(fg.transpose(x, (1, 0, 2)), w, u)
            value = fg.mean(fg.square(h))
        return value, tape.gradient(value, [w, u])

    plain = slopes(data)
    with walk.tiles(16, 16):
        slopes.traces.clear()
        program = slopes.program(data)
        names = [stage.kernel.name for stage in program.stages]
        assert names == ["loop_0", "whole_1"]  # forward, backward and the sums over rows in one walk
        results = []
        for shards in (1, 3, (0, 1, 0, 3)):
            program.wishes = dict.fromkeys(program.meshes, shards)
            entry = next(iter(slopes.traces.values()))
            given = [data, W, U, *(node.memo for node in entry.captured)]
            results.append(program.run(given, scheduler="synchronous"))
        for other in results[1:]:
            walk.same(other, results[0], "an RNN in shards")
        close(list(results[0]), fg.tree.flatten(plain))


def test_what_a_body_adds_up_over_rows_is_not_cut() -> None:
    data = RNG.standard_normal((200, 3))

    def f(x: Any) -> Any:
        return fg.while_loop(lambda s: fg.max(fg.abs(s)) > 0.1, lambda s: s * 0.5 - fg.mean(s, axis=0) * 0.1, x)

    wanted = data
    while np.abs(wanted).max() > 0.1:
        wanted = wanted * 0.5 - wanted.mean(0) * 0.1
    with walk.tiles(16, 16):
        close(fg.function(f)(data), wanted)


def test_kernels_with_bodies_pickle() -> None:
    program = fg.function(fg.grad(lambda w: fg.sum(states(X, w, U)))).program(W)
    kernel = pickle.loads(pickle.dumps(program.one))
    assert "def body0(" in kernel.source


def test_loops_nest() -> None:
    def outer(x: Any) -> Any:
        return fg.map_fn(
            lambda row: fg.foldl(lambda s, e: fg.cond(e > 0, lambda: s + e, lambda: s), row, fg.zeros((), "float64")),
            x,
        )

    close(outer(fg.constant(X[0])), np.maximum(X[0], 0).sum(1))
    close(
        fg.function(fg.grad(lambda x: fg.sum(fg.square(outer(x)))))(X[0]),
        2 * np.maximum(X[0], 0).sum(1)[:, None] * (X[0] > 0),
    )


@pytest.mark.parametrize("traced", [False, True])
def test_a_body_may_return_a_tuple_for_a_list(traced: bool) -> None:
    def double(n: Any) -> Any:
        return fg.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, a * 2.0), [0, 1.0])

    found = (fg.function(double) if traced else double)(fg.constant(5))
    assert isinstance(found, list)
    assert [one.item() for one in found] == [5, 32.0]
