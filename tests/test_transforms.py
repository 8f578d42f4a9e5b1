"""Differentiation on demand: vjp, jvp, jacobian, hessian, hvp, vmap, custom gradients, recomputation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import walk

import flowgraph as fg
from flowgraph.errors import GradientError, ShapeError, UsageError
from flowgraph.graph import Graph, interpret, ops_used
from flowgraph.op import OPS

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4))
W = RNG.standard_normal((4, 2))


def close(got: Any, wanted: Any, rtol: float = 1e-10) -> None:
    left, right = fg.tree.flatten(got), fg.tree.flatten(wanted)
    for a, b in zip(left, right, strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=1e-9)


def numeric_jacobian(f: Any, x: Any, step: float = 1e-6) -> Any:
    """Central differences: shape of the result, then shape of `x`."""
    columns = []
    for place in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[place] = step
        columns.append((np.asarray(f(x + e)) - np.asarray(f(x - e))) / (2 * step))
    out = np.shape(f(x))
    return np.stack(columns, -1).reshape(*out, *x.shape)


# vmap of every operation.


def check_vmap(sample: walk.Sample) -> None:
    dtype = next(one for one in walk.DTYPES if walk.takes(sample, one))
    graph = sample.case(dtype).graph
    draws = [sample.draw(dtype, seed) for seed in range(3)]
    count = len(draws[0])
    keys = {number for number, one in enumerate(draws[0]) if one.dtype == np.uint64}
    for still in (None, *range(count)):
        axes = tuple(None if number == still or number in keys else 0 for number in range(count))
        if all(axis is None for axis in axes):
            continue
        args = [
            np.array(draws[0][n]) if axis is None else np.stack([one[n] for one in draws])
            for n, axis in enumerate(axes)
        ]
        got = fg.vmap(lambda *xs: sample.op(*xs, **sample.attrs), in_axes=axes)(*args)
        each = []
        for number in range(3):
            own = [arg if axis is None else arg[number] for arg, axis in zip(args, axes, strict=True)]
            each.append(interpret(graph, walk.values_of(graph, own)))
        wanted = [np.stack(results) for results in zip(*each, strict=True)]
        for a, b in zip(listed(got), wanted, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a.numpy(), b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", list(OPS))
def test_vmap_of_an_op_is_the_op_on_each_element(name: str) -> None:
    """With each operand in turn the one that has no batch, and with all of them batched."""
    walk.each([one for one in walk.samples(OPS[name]) if one.operands], check_vmap)


def listed(one: Any) -> list[Any]:
    return list(one) if isinstance(one, tuple) else [one]


def test_a_batch_is_no_loop_where_factor_strings_allow_it() -> None:

    def chain(x: Any, w: Any) -> Any:
        y = fg.softmax(fg.tanh(x @ w), axis=-1)
        return fg.concat([y, fg.sum(y, axis=0, keepdims=True)])[1:].reshape((-1,)) * fg.expand_dims(x[0, 0], 0)

    found = fg.vmap(chain, in_axes=(0, None))(fg.constant(np.stack([X, X])), W)
    assert "map_fn" not in ops_used(Graph.of([found.node]))


# vmap.


def test_vmap_of_axes_in_and_out() -> None:
    x = fg.constant(X)
    close(fg.vmap(lambda row: row * 2, in_axes=1, out_axes=1)(x), X * 2)
    close(fg.vmap(lambda row: row * 2, in_axes=-1)(x), (X * 2).T)
    close(fg.vmap(lambda row, w: row @ w, in_axes=(0, None))(x, W), X @ W)
    first, second = fg.vmap(lambda row: (row, fg.sum(row)), out_axes=(1, 0))(x)
    close([first, second], [X.T, X.sum(1)])
    close(fg.vmap(lambda pair: pair["a"] - pair["b"])({"a": X, "b": X * 2}), -X)
    close(fg.vmap(lambda row: fg.constant(3.0))(x), np.full(3, 3.0))


def test_vmap_nests() -> None:
    a, b = RNG.standard_normal((3, 4)), RNG.standard_normal((5, 4))
    inner = fg.vmap(lambda x, y: fg.sum(x * y), in_axes=(None, 0))
    close(fg.vmap(inner, in_axes=(0, None))(a, b), a @ b.T)


def test_vmap_of_grad_and_grad_of_vmap() -> None:
    def loss(w: Any, x: Any) -> Any:
        return fg.sum(fg.square(fg.tanh(x @ w)))

    per_example = fg.vmap(fg.grad(loss), in_axes=(None, 0))(W, X)
    close(per_example, np.stack([fg.grad(loss)(W, row).numpy() for row in X]))
    total = fg.grad(lambda w: fg.sum(fg.vmap(loss, in_axes=(None, 0))(w, X)))(W)
    close(total, per_example.numpy().sum(0))


def test_vmap_in_a_function_and_over_rows_that_are_cut() -> None:
    f = fg.function(fg.vmap(lambda row: fg.sum(row @ W) + fg.max(row)))
    close(f(X), (X @ W).sum(1) + X.max(1))
    big = RNG.standard_normal((1000, 4))
    with walk.tiles(64, 64):
        close(fg.function(fg.vmap(lambda row: fg.sum(row @ W) + fg.max(row)))(big), (big @ W).sum(1) + big.max(1))


def test_vmap_of_loops_and_branches() -> None:
    x = fg.constant(X)
    close(fg.vmap(lambda row: fg.scan(lambda s, e: s + e, row, fg.zeros((), np.float64)))(x), X.cumsum(1))
    close(fg.vmap(lambda row: fg.map_fn(lambda e: e * 2, row))(x), X * 2)
    close(fg.vmap(lambda row: fg.cond(fg.sum(row) > 0, lambda: row, lambda: -row))(x), X * np.sign(X.sum(1))[:, None])
    doubled = fg.vmap(lambda v: fg.while_loop(lambda s: s < 10, lambda s: s * 2, v))(fg.constant([1.0, 3.0, 20.0]))
    close(doubled, np.array([16.0, 12.0, 20.0]))


def test_vmap_keeps_custom_gradients_and_recomputation() -> None:
    @fg.custom_gradient
    def odd(x: Any) -> Any:
        y = fg.exp(x)
        return y, lambda g: g * y * 3

    close(fg.vmap(fg.grad(odd))(np.array([0.0, 1.0])), 3 * np.exp([0.0, 1.0]))
    block = fg.recompute_grad(lambda x: fg.tanh(fg.exp(x)))
    plain = fg.vmap(fg.grad(lambda x: fg.tanh(fg.exp(x))))(np.array([0.1, 0.3]))
    close(fg.vmap(fg.grad(block))(np.array([0.1, 0.3])), plain)


def test_vmap_that_can_not_be() -> None:
    with pytest.raises(ShapeError, match="batch axes have lengths"):
        fg.vmap(lambda x, y: x)(X, W)
    with pytest.raises(ShapeError, match="no argument has an axis"):
        fg.vmap(lambda x: x, in_axes=None)(X)
    with pytest.raises(UsageError, match="positional arguments"):
        fg.vmap(lambda x: x, in_axes=(0, 0))(X)
    with pytest.raises(UsageError, match=r"`fg\.cond`"):
        fg.vmap(lambda x: x if x > 0 else -x)(X[0])
    with pytest.raises(UsageError, match="so many results"):
        fg.vmap(lambda x: x, out_axes=(0, 0))(X)
    with pytest.raises(UsageError, match="is no axis"):
        fg.vmap(lambda x: x, in_axes=("a",))(X)


# vjp, jvp.


def network(x: Any, w: Any) -> Any:
    return fg.tanh(x @ w)


def test_vjp_is_the_transposed_jacobian() -> None:
    out, pullback = fg.vjp(network, X, W)
    close(out, np.tanh(X @ W))
    g = RNG.standard_normal((3, 2))
    by_x = numeric_jacobian(lambda x: np.tanh(x @ W), X)
    by_w = numeric_jacobian(lambda w: np.tanh(X @ w), W)
    for _ in range(2):  # any number of times
        got = pullback(g)
        close(got, (np.tensordot(g, by_x, 2), np.tensordot(g, by_w, 2)), 1e-6)


def test_jvp_is_the_jacobian_times_a_direction() -> None:
    dx, dw = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 2))
    out, tangent = fg.jvp(network, (X, W), (dx, dw))
    h = 1e-6
    wanted = (np.tanh((X + h * dx) @ (W + h * dw)) - np.tanh((X - h * dx) @ (W - h * dw))) / (2 * h)
    close(out, np.tanh(X @ W))
    close(tangent, wanted, 1e-6)
    traced = fg.function(lambda x, w, dx, dw: fg.jvp(network, (x, w), (dx, dw))[1])
    close(traced(X, W, dx, dw), tangent)


def test_jvp_costs_a_small_multiple() -> None:
    """The reverse pass of the pullback leaves a forward pass: what belongs to the pullback alone is not computed."""

    def deep(x: Any) -> Any:
        for _ in range(20):
            x = fg.tanh(x)
        return x

    plain = fg.function(deep).program(X).source().count("tanh(")
    both = fg.function(lambda x: fg.jvp(deep, (x,), (x,))[1]).program(X).source()
    assert both.count("tanh(") == plain
    assert both.count("\n") < 6 * fg.function(deep).program(X).source().count("\n")


def test_structures_and_aux() -> None:
    params = {"w": W, "b": np.zeros(2)}

    def f(p: Any, x: Any) -> Any:
        return fg.sum(fg.square(x @ p["w"] + p["b"])), {"n": x}

    grads, aux = fg.grad(f, has_aux=True)(params, X)
    assert set(grads) == {"w", "b"}
    close(grads["w"], 2 * X.T @ (X @ W))
    (value, aux), again = fg.value_and_grad(f, has_aux=True)(params, X)
    close(value, np.square(X @ W).sum())
    close(again, grads)
    assert list(aux) == ["n"]
    _, pullback, aux = fg.vjp(lambda p: f(p, X), params, has_aux=True)
    close(pullback(1.0)[0], grads)
    _, tangent, aux = fg.jvp(lambda p: f(p, X), (params,), (params,), has_aux=True)
    close(tangent, (np.asarray(grads["w"]) * W).sum())
    close(fg.grad(lambda a, *, scale: a * scale, argnums="scale")(2.0, scale=5.0), 2.0, 1e-6)
    close(fg.grad(lambda a, b: a * b, argnums=("b", 0))(2.0, 5.0), (2.0, 5.0), 1e-6)
    with pytest.raises(UsageError, match="its parameters are a"):
        fg.grad(lambda a: a, argnums="c")(2.0)
    with pytest.raises(UsageError, match="did not return a pair"):
        fg.grad(lambda a: a, has_aux=True)(2.0)


def test_a_gradient_is_by_the_argument_alone() -> None:
    """What a closure holds is another thing, even where it is the same tensor (perturbation confusion)."""
    x = fg.constant(3.0)
    assert float(fg.grad(lambda y: y * x)(x)) == 3.0
    nested = fg.grad(lambda x: x * fg.grad(lambda y: x * y)(x))
    assert float(nested(x)) == 6.0


def test_transforms_of_wrong_arguments() -> None:
    with pytest.raises(UsageError, match="two tuples of one length"):
        fg.jvp(network, (X, W), (X,))
    with pytest.raises(ShapeError, match="it belongs to a tensor of shape"):
        fg.jvp(network, (X, W), (X, X))
    with pytest.raises(ShapeError, match="cotangent of shape"):
        fg.vjp(network, X, W)[1](X)
    with pytest.raises(UsageError, match="the function has 1 results"):
        fg.vjp(network, X, W)[1]([X, X])
    with pytest.raises(GradientError, match="only floats have derivatives"):
        fg.vjp(lambda x: x > 0, X)


# Jacobians and Hessians.


def test_jacobian() -> None:
    by_x, by_w = fg.jacobian(network, argnums=(0, 1))(X, W)
    close(by_x, numeric_jacobian(lambda x: np.tanh(x @ W), X), 1e-6)
    close(by_w, numeric_jacobian(lambda w: np.tanh(X @ w), W), 1e-6)
    found = fg.jacobian(lambda p: {"s": fg.sum(p["x"]), "v": p["x"] * 2})({"x": X[0]})
    close(found["s"]["x"], np.ones(4))
    close(found["v"]["x"], 2 * np.eye(4))
    traced = fg.function(fg.jacobian(network))
    close(traced(X, W), by_x)
    close(fg.jacobian(lambda x: fg.constant([1.0, 2.0]))(X), np.zeros((2, 3, 4)))


def test_hessian_and_hvp() -> None:
    def f(x: Any) -> Any:
        return fg.sum(fg.square(x) * fg.exp(x[0])) + fg.logsumexp(x)

    x, v = X[0], RNG.standard_normal(4)
    hessian = fg.hessian(f)(x)
    close(hessian, numeric_jacobian(lambda one: fg.grad(f)(one).numpy(), x), 1e-5)
    close(fg.hvp(f, x, v), np.asarray(hessian) @ v)
    close(fg.function(lambda x, v: fg.hvp(f, x, v))(x, v), np.asarray(hessian) @ v)
    third = fg.jacobian(fg.hessian(lambda x: fg.sum(x * x * x)))(np.arange(3.0))
    close(np.einsum("iii->i", third.numpy()), np.full(3, 6.0))


def test_a_tape_gives_jacobians() -> None:
    x, w = fg.constant(X), fg.Variable(W)
    with fg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = fg.tanh(x @ w)
    by_x, by_w = tape.jacobian(y, [x, w])
    close(by_x, fg.jacobian(network)(X, W))
    close(by_w, fg.jacobian(network, argnums=1)(X, W))
    other = fg.constant(1.0)
    assert tape.jacobian(y, other) is None
    batched = tape.batch_jacobian(y, x)
    close(batched, np.einsum("bnbm->bnm", np.asarray(by_x)))
    with pytest.raises(ShapeError, match="one batch"):
        tape.batch_jacobian(y, w)


def test_forward_accumulator() -> None:
    v = fg.Variable([1.0, 2.0])
    with fg.ForwardAccumulator(v, fg.constant([1.0, 0.0])) as acc:
        y = fg.sum(v * v)
        z = v * 3
    close([acc.jvp(y), acc.jvp(z)], [2.0, np.array([3.0, 0.0])], 1e-6)
    with pytest.raises(UsageError, match="their numbers differ"):
        fg.ForwardAccumulator([v, v], [v])


# Gradients by hand.


def test_stop_gradient() -> None:
    close(fg.grad(lambda x: x * fg.stop_gradient(x))(3.0), 3.0)
    assert "stop_gradient" not in fg.function(lambda x: fg.stop_gradient(x) + 1).program(X).source()


@fg.custom_gradient
def log1pexp(x: Any) -> Any:
    """The example of TensorFlow's documentation: its plain gradient is nan at 100."""
    e = fg.exp(x)
    return fg.log(1 + e), lambda upstream: upstream * (1 - 1 / (1 + e))


def test_a_custom_gradient_of_any_order_and_in_functions() -> None:
    assert float(fg.grad(log1pexp)(100.0)) == 1.0
    sigmoid = 1 / (1 + np.exp(-0.5))
    for wrap in (lambda f: f, fg.function):
        close(wrap(fg.grad(log1pexp))(np.array(0.5)), sigmoid)
        close(wrap(fg.grad(fg.grad(log1pexp)))(np.array(0.5)), sigmoid * (1 - sigmoid))
    traced = fg.function(log1pexp)
    close(fg.grad(traced)(np.array(0.5)), sigmoid)


def test_a_custom_gradient_of_several_results_sees_all_of_them() -> None:
    @fg.custom_gradient
    def both(x: Any, y: Any) -> Any:
        return (x * y, x + y), lambda a, b: (fg.maximum(a, b), a * b)

    def f(x: Any, y: Any) -> Any:
        p, s = both(x, y)
        return 2 * p + 5 * s

    close(fg.grad(f, argnums=(0, 1))(1.0, 1.0), (5.0, 10.0))
    with pytest.raises(GradientError, match="returned 1 gradients for 2"):
        fg.custom_gradient(lambda x, y: (x * y, lambda g: g))(1.0, 2.0)
    with pytest.raises(ShapeError, match="argument of float64"):
        fg.custom_gradient(lambda x: (fg.sum(x), lambda g: g))(fg.constant(X))


def test_a_custom_gradient_and_variables() -> None:
    v = fg.Variable(3.0)
    with pytest.raises(GradientError, match="let the rule take"):
        fg.custom_gradient(lambda x: (x * v, lambda g: g))(2.0)

    @fg.custom_gradient
    def scaled(x: Any) -> Any:
        def rule(g: Any, variables: Any) -> Any:
            assert variables == [v]
            return g * v, [g * 100]

        return x * v, rule

    with fg.GradientTape() as tape:
        y = scaled(fg.constant(2.0))
    assert float(tape.gradient(y, v)) == 100


def test_a_jacobian_of_integers() -> None:
    with pytest.raises(GradientError, match="only floats have derivatives"):
        fg.jacobian(lambda x: fg.astype(x, dtype="int32"))(X)


# Recomputation.


def chain(count: int, block: int, recompute: bool) -> Any:
    def inside(x: Any) -> Any:
        for _ in range(block):
            x = fg.tanh(fg.exp(x * 0.5))
        return x

    part = fg.recompute_grad(inside) if recompute else inside

    def loss(x: Any) -> Any:
        for _ in range(count // block):
            x = part(x)
        return fg.sum(x)

    return loss


def buffers(f: Any, x: Any) -> int:
    """How many arrays the kernel allocates."""
    return fg.function(f).program(x).one.source.count("= empty(")


def test_recompute_grad_needs_less_memory_and_gives_the_same() -> None:
    x = np.linspace(0, 1, 50)
    plain, again = fg.grad(chain(64, 8, False)), fg.grad(chain(64, 8, True))
    close(again(x), plain(x))
    close(fg.function(again)(x), plain(x))
    assert buffers(again, x) < 0.4 * buffers(plain, x)
    plain, again = fg.grad(chain(12, 4, False)), fg.grad(chain(12, 4, True))
    second = fg.grad(lambda x: fg.sum(fg.square(again(x))))
    close(second(x), fg.grad(lambda x: fg.sum(fg.square(plain(x))))(x))


def test_recompute_grad_lowers_the_peak() -> None:
    import tracemalloc

    x, peaks = np.linspace(0, 1, 100_000), []
    for recompute in (False, True):
        f = fg.function(fg.grad(chain(32, 4, recompute)))
        f(x[:10]), f(x)
        tracemalloc.start()
        f.program(x).one(len(x), *f.program(x).feed([x]))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 0.6 * peaks[0]


def test_recompute_grad_with_variables_and_rows() -> None:
    w = fg.Variable(RNG.standard_normal((4, 4)))

    def loss(block: Any, x: Any) -> Any:
        return fg.mean(fg.square(block(block(x))))

    def inside(x: Any) -> Any:
        return fg.tanh(x @ w)

    big = RNG.standard_normal((500, 4))
    grads = []
    with walk.tiles(32, 32):
        for block in (inside, fg.checkpoint(inside)):
            with fg.GradientTape() as tape:
                value = loss(block, fg.constant(big))
            grads.append(tape.gradient(value, w).numpy())
        f = fg.function(lambda x: loss(fg.checkpoint(inside), x))
        assert any("loop" in stage.kernel.name for stage in f.program(big).stages)
    close(grads[1], grads[0])
