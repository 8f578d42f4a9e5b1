"""Gradients: tapes, `gradient`, `grad`, second derivatives, ties, and what can not be differentiated."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import GradientError, ShapeError, UsageError
from flowgraph.op import OPS, define
from flowgraph.tensor import Tensor

X = np.array([1.0, 2.0, 3.0])


def values(structure: Any) -> Any:
    return fg.tree.map_structure(lambda one: None if one is None else one.tolist(), structure)


# Tapes.


def test_a_tape_watches_what_it_is_told() -> None:
    x, y = fg.constant(3.0), fg.constant(2.0)
    with fg.GradientTape() as tape:
        tape.watch(x)
        z = x * x * y
    assert values(tape.gradient(z, [x, y])) == [12.0, None]


def test_a_tape_watches_structures() -> None:
    params = {"w": fg.constant([1.0, 2.0]), "b": [fg.constant(3.0)]}
    with fg.GradientTape() as tape:
        tape.watch(params)
        loss = fg.sum(params["w"] * params["w"]) + params["b"][0] * 5
    assert values(tape.gradient(loss, params)) == {"w": [2.0, 4.0], "b": [5.0]}


def test_a_tape_watches_trainable_variables_by_itself() -> None:
    v, frozen = fg.Variable(3.0, name="v"), fg.Variable(2.0, trainable=False, name="frozen")
    with fg.GradientTape() as tape:
        y = v * v * frozen
    assert [one.name for one in tape.watched_variables()] == [v.name]
    assert values(tape.gradient(y, {"v": v, "frozen": frozen})) == {"v": 12.0, "frozen": None}


def test_a_tape_leaves_variables_alone_if_asked_to() -> None:
    v, w = fg.Variable(3.0), fg.Variable(2.0)
    with fg.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(w)
        y = v * w
    assert values(tape.gradient(y, [v, w])) == [None, 3.0]
    assert tape.watched_variables() == (w,)


def test_a_variable_that_changes_after_the_recording_keeps_its_gradient() -> None:
    v = fg.Variable(3.0)
    with fg.GradientTape() as tape:
        y = v * v
    v.assign_sub(1.0)
    assert float(tape.gradient(y, v)) == 6


def test_a_variable_that_changes_while_a_tape_records_has_the_sum_of_its_readings() -> None:
    """As in TensorFlow: d/dv of v0 * v0 + v1 * v1, where an assignment is no path for gradients."""
    v = fg.Variable(3.0)
    with fg.GradientTape() as tape:
        y = v * v
        v.assign(v * 10)
        y = y + v * v
    assert float(tape.gradient(y, v)) == 66

    w = fg.Variable(3.0)

    @fg.function
    def traced() -> Any:
        with fg.GradientTape() as tape:
            y = w * w
            w.assign(w * 10)
            y = y + w * w
        return tape.gradient(y, w)

    assert float(traced()) == 66


def test_a_tape_sees_only_what_happens_while_it_records() -> None:
    x = fg.constant(3.0)
    before = x * 2
    with fg.GradientTape() as tape:
        tape.watch(x)
        y = x * before
    after = y * 10
    assert float(tape.gradient(y, x)) == 6

    with fg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    after = y * 10
    assert tape.gradient(after, x) is None


def test_a_tape_does_not_mind_computed_values() -> None:
    """What was printed in between is differentiated all the same."""
    x = fg.constant(3.0)
    with fg.GradientTape() as tape:
        tape.watch(x)
        square = x * x
        assert float(square) == 9
        y = square * x
        assert float(y) == 27
    assert float(tape.gradient(y, x)) == 27


def test_a_tape_answers_once() -> None:
    x = fg.constant(3.0)
    with fg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    tape.gradient(y, x)
    with pytest.raises(GradientError) as raised:
        tape.gradient(y, x)
    assert raised.value.found == "it is not persistent and has been used"
    assert "persistent=True" in raised.value.remedy


def test_a_persistent_tape_answers_many_times() -> None:
    x = fg.constant(3.0)
    with fg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        z = y * x
    assert [float(tape.gradient(one, x)) for one in (y, z, y)] == [6, 27, 6]


def test_a_used_tape_lets_go_of_what_it_recorded() -> None:
    x = fg.constant(X)
    with fg.GradientTape() as tape:
        tape.watch(x)
        y = fg.exp(x)
        node = weakref.ref(y.node)
        z = fg.sum(y)
    float(fg.sum(tape.gradient(z, x)))
    del y, z
    gc.collect()
    assert node() is None


def test_nested_tapes_give_second_derivatives() -> None:
    x = fg.Variable(2.0)
    with fg.GradientTape() as outer:
        with fg.GradientTape() as inner:
            y = x**3
        slope = inner.gradient(y, x)
    assert float(slope) == 12
    assert float(outer.gradient(slope, x)) == 12


def test_a_gradient_taken_while_its_own_tape_records() -> None:
    x = fg.constant(2.0)
    with fg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x**3
        slope = tape.gradient(y, x)
    assert float(tape.gradient(slope, x)) == 12


def test_tapes_side_by_side() -> None:
    x, y = fg.constant(2.0), fg.constant(3.0)
    with fg.GradientTape() as one, fg.GradientTape() as other:
        one.watch(x)
        other.watch(y)
        z = x * y
    assert (float(one.gradient(z, x)), other.gradient(z, x)) == (3, None)


def test_a_tape_ends_with_its_context_even_after_an_error() -> None:
    from flowgraph.context import ACTIVE

    with pytest.raises(ZeroDivisionError), fg.GradientTape():
        raise ZeroDivisionError
    assert ACTIVE.tapes == []


def test_integers_can_not_be_watched() -> None:
    with pytest.raises(GradientError) as raised:
        fg.GradientTape().watch(fg.constant(3))
    assert raised.value.asked == "to watch int32[]"


# What is unconnected, and structures.


def test_unconnected_sources_have_none_or_zero() -> None:
    x, y = fg.constant([1.0, 2.0]), fg.constant([[3.0]])
    z = fg.sum(x)
    assert values(fg.gradient(z, (x, y))) == ([1.0, 1.0], None)
    assert values(fg.gradient(z, (x, y), unconnected_gradients="zero")) == ([1.0, 1.0], [[0.0]])
    with fg.GradientTape() as tape:
        tape.watch((x, y))
        z = fg.sum(x)
    assert values(tape.gradient(z, {"x": x, "y": y}, unconnected_gradients="zero")) == {"x": [1.0, 1.0], "y": [[0.0]]}
    assert values(fg.gradient(z, y, unconnected_gradients=fg.UnconnectedGradients.ZERO)) == [[0.0]]
    assert fg.gradient(z, y, unconnected_gradients=fg.UnconnectedGradients.NONE) is None


def test_a_path_through_integers_or_conditions_carries_no_gradient() -> None:
    x = fg.constant(X)
    assert fg.gradient(fg.sum(fg.cast(fg.cast(x, "int32"), "float32")), x) is None
    assert fg.gradient(fg.sum(fg.cast(x > 1, "float32")), x) is None
    assert fg.gradient(fg.sum(fg.sign(x)), x) is None


def test_unconnected_takes_two_words() -> None:
    x = fg.constant(1.0)
    with pytest.raises(UsageError, match="'none' or 'zero'"):
        fg.gradient(x * x, x, unconnected_gradients="zeros")


def test_several_targets_are_summed() -> None:
    x = fg.constant(3.0)
    assert float(fg.gradient([x * x, {"y": 2 * x}], x)) == 8
    assert float(fg.gradient([x * x, x * x], x)) == 12


def test_a_tensor_is_its_own_gradient() -> None:
    x = fg.constant([3.0, 4.0])
    assert values(fg.gradient(x, x)) == [1, 1]
    y = x * 2
    assert values(fg.gradient(y, [x, y])) == [[2, 2], [1, 1]]


def test_output_gradients_weight_the_target() -> None:
    x = fg.constant(X)
    assert values(fg.gradient(x * x, x, output_gradients=fg.constant([1.0, 0.0, 10.0]))) == [2, 0, 60]
    assert values(fg.gradient([x, x * x], x, output_gradients=[None, np.array([0, 1, 0])])) == [1, 5, 1]


def test_output_gradients_that_do_not_fit() -> None:
    x = fg.constant(X)
    with pytest.raises(ShapeError, match=r"output_gradients of shape \(2,\)"):
        fg.gradient(x * x, x, output_gradients=fg.constant([1.0, 2.0]))
    with pytest.raises(UsageError, match="there are 1 targets"):
        fg.gradient(x * x, x, output_gradients=[x, x])


def test_a_source_in_the_middle() -> None:
    x = fg.constant(3.0)
    h = x * x
    y = h * h
    assert [float(g) for g in fg.gradient(y, [h, x])] == [18, 108]


def test_broadcasting_is_undone() -> None:
    row, column, number = fg.constant(np.ones((1, 4))), fg.constant(np.ones((3, 1))), fg.constant(2.0)
    y = fg.sum((row + column) * number * fg.ones((2, 3, 4), "float64"))
    shapes = [g.shape for g in fg.gradient(y, [row, column, number])]
    assert shapes == [(1, 4), (3, 1), ()]
    assert values(fg.gradient(y, [row, column, number])) == [[[12.0] * 4], [[16.0]] * 3, 48.0]


def test_gradients_have_the_dtype_of_their_source() -> None:
    x, y = fg.constant(X, "float32"), fg.constant(X, "float64")
    assert [g.dtype for g in fg.gradient(fg.sum(fg.cast(x, "float64") * y), [x, y])] == [np.float32, np.float64]


# Evaluated tensors forget.


def forgets(function: Any, match: str = "it was computed already") -> GradientError:
    with pytest.raises(GradientError) as raised:
        function()
    assert match in raised.value.found
    assert "GradientTape" in raised.value.remedy
    assert "grad(f)" in raised.value.remedy
    return raised.value


def test_the_gradient_of_a_computed_tensor_names_the_remedies() -> None:
    x = fg.constant(X)
    y = fg.sum(x * x)
    y.numpy()
    error = forgets(lambda: fg.gradient(y, x))
    assert "a gradient through float64[], made at" in error.asked
    assert "test_reverse.py" in error.asked


def test_a_computed_tensor_in_the_middle_is_not_passed_over() -> None:
    """The part of the gradient that goes through it would be missing."""
    x = fg.constant(X)
    square = x * x
    square.numpy()
    forgets(lambda: fg.gradient(fg.sum(square * 2), x))
    forgets(lambda: fg.gradient(fg.sum(square * x), x))


def test_the_result_of_a_traced_function_is_a_computed_tensor() -> None:
    x = fg.constant(X)
    y = fg.function(lambda x: x * x)(x)
    forgets(lambda: fg.gradient(fg.sum(y), x))
    with fg.GradientTape() as tape:
        tape.watch(x)
        y = fg.function(lambda x: x * x)(x)
    assert values(tape.gradient(fg.sum(x), x)) is None
    w = fg.Variable(2.0)
    assert float(fg.gradient(w * w * fg.sum(y), w)) == 56


def test_computed_tensors_that_can_not_depend_on_the_source_are_constants() -> None:
    data = fg.constant(X)
    scaled = (data - fg.mean(data)) / fg.std(data)
    scaled.numpy()
    w = fg.constant([1.0, 2.0, 3.0], "float64")
    assert np.allclose(fg.gradient(fg.sum(w * scaled), w).numpy(), scaled.numpy())
    later = fg.constant(X)
    shifted = later + 1
    shifted.numpy()
    assert values(fg.gradient(fg.sum(w * shifted), w)) == [2, 3, 4]


def test_a_computed_source_is_a_source() -> None:
    x = fg.constant(X) * 2
    x.numpy()
    assert values(fg.gradient(fg.sum(x * x), x)) == [4, 8, 12]


def test_slices_of_known_data_keep_their_operand() -> None:
    """They are views that need no computing, so they have a value from the start."""
    x = fg.constant(X)
    assert values(fg.gradient(x[0] * 2 + fg.sum(x[1:] ** 2), x)) == [2, 4, 6]
    row = x[2]
    assert float(row) == 3
    assert values(fg.gradient(row * row, [row, x])) == [6, [0, 0, 6]]


# What has no gradient.


@pytest.mark.parametrize("target", [lambda x: fg.cast(x, "int32"), lambda x: x > 1])
def test_integer_targets_are_refused(target: Any) -> None:
    x = fg.constant(X)
    with pytest.raises(GradientError) as raised:
        fg.gradient(target(x), x)
    assert raised.value.found == "only real and complex numbers have one"


def test_integer_sources_are_refused() -> None:
    i = fg.constant([1, 2])
    with pytest.raises(GradientError, match="by a tensor of dtype int32"):
        fg.gradient(fg.sum(fg.cast(i, "float32")), i)


def test_an_op_without_a_rule_is_named_with_its_line() -> None:
    op = define("unknown_slope", "... -> ...", np.sinh, doc="For a test.")
    try:
        x = fg.constant(X)
        with pytest.raises(GradientError) as raised:
            fg.gradient(fg.sum(op(x)), x)
    finally:
        del OPS["unknown_slope"]
    assert "the gradient of unknown_slope, made at" in raised.value.asked
    assert "test_reverse.py" in raised.value.asked
    assert raised.value.found == "the op unknown_slope has no gradient rule"


def test_a_rule_with_too_few_gradients_is_named() -> None:
    op = define("lopsided", "..., ... -> ...", np.add, gradient=lambda g, out, x, y: (g,), doc="For a test.")
    try:
        x = fg.constant(X)
        with pytest.raises(GradientError, match="its rule gives 1 gradients, the op has 2 operands"):
            fg.gradient(fg.sum(op(x, x)), x)
    finally:
        del OPS["lopsided"]


def test_draws_have_no_gradient_but_their_scale_has() -> None:
    scale = fg.constant(2.0)
    drawn = fg.random.normal((4,), stddev=scale, mean=1.0, seed=5)
    slope = fg.gradient(fg.sum(drawn), scale)
    assert np.allclose(float(slope), fg.random.normal((4,), seed=5).numpy().sum())


# grad and value_and_grad.


def test_grad_of_numbers_that_occur_in_the_formula() -> None:
    """The 1.0 of the argument is not the 1.0 of the formula."""
    assert float(fg.grad(lambda x: x * 1.0 + 1.0)(1.0)) == 1
    assert float(fg.grad(lambda x: x * x + 2.0)(2.0)) == 4
    x = fg.asarray(1.0)
    with fg.GradientTape() as tape:
        tape.watch(x)
        y = x * 1.0
    assert float(tape.gradient(y, x)) == 1


def test_grad_of_higher_order() -> None:
    cube = fg.grad(fg.grad(fg.grad(lambda x: x**3)))
    assert float(cube(5.0)) == 6
    assert float(fg.grad(fg.grad(fg.tanh))(0.5)) == pytest.approx(-2 * np.tanh(0.5) / np.cosh(0.5) ** 2)


def test_value_and_grad_of_structures() -> None:
    def loss(params: Any, x: Any) -> Any:
        return fg.sum((x @ params["w"] + params["b"]) ** 2)

    params = {"w": np.array([1.0, -1.0]), "b": 0.5}
    value, slope = fg.value_and_grad(loss)(params, np.array([[1.0, 2.0]]))
    assert float(value) == 0.25
    assert values(slope) == {"w": [-1.0, -2.0], "b": -1.0}


def test_grad_by_several_arguments() -> None:
    f = fg.grad(lambda x, y, scale=1.0: x * y * y * scale, argnums=(0, 1))
    assert values(f(2.0, 3.0, scale=10.0)) == (90.0, 120.0)
    assert float(fg.grad(lambda x, y: x * y, argnums=1)(2.0, 3.0)) == 2


def test_grad_takes_variables_integers_and_lists() -> None:
    assert float(fg.grad(lambda v: v * v)(fg.Variable(3.0))) == 6
    assert float(fg.grad(lambda x: x * x)(3)) == 6
    assert values(fg.grad(lambda xs: xs[0] * xs[1])([2.0, 5.0])) == [5, 2]
    assert values(fg.grad(lambda x: fg.sum(x * x))(np.array([1, 2]))) == [2, 4]


def test_grad_of_an_argument_that_is_not_used_is_zero() -> None:
    assert values(fg.grad(lambda x: fg.constant(1.0))(X)) == [0, 0, 0]


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x * 2, "a tensor of shape (3,)"),
        (lambda x: None, "nothing"),
        (lambda x: [fg.sum(x)], "a list"),
        (lambda x: {"loss": fg.sum(x)}, "a dict"),
    ],
)
def test_value_and_grad_needs_a_scalar(function: Any, found: str) -> None:
    with pytest.raises(GradientError) as raised:
        fg.value_and_grad(function)(X)
    assert raised.value.found == f"it returned {found}, not a scalar"


@pytest.mark.parametrize("argnums", [1, -1, (0, 2)])
def test_argnums_that_are_not_there(argnums: Any) -> None:
    with pytest.raises(UsageError, match="it was called with 1 positional arguments"):
        fg.grad(lambda x: x * x, argnums=argnums)(1.0)


def test_gradients_inside_a_traced_function() -> None:
    w = fg.Variable([1.0, 2.0])

    @fg.function
    def step(x: Any) -> Any:
        with fg.GradientTape() as tape:
            loss = fg.sum((x @ w) ** 2)
        slope = tape.gradient(loss, w)
        w.assign_sub(0.1 * slope)
        return slope

    assert values(step(np.array([[1.0, 1.0]], "float32"))) == [6.0, 6.0]
    assert np.allclose(w.numpy(), [0.4, 1.4])


# Ties: each op's rule, at the points where the derivative jumps.


def slope(function: Any, *xs: Any) -> Any:
    return values(fg.grad(lambda *xs: fg.sum(function(*xs)), argnums=tuple(range(len(xs))))(*map(np.array, xs)))


def test_ties_of_maximum_and_minimum_go_to_the_first() -> None:
    assert slope(fg.maximum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == ([0, 1, 1], [1, 0, 0])
    assert slope(fg.minimum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == ([1, 1, 0], [0, 0, 1])


def test_kinks_at_zero() -> None:
    assert slope(abs, [-2.0, 0.0, 3.0]) == ([-1, 0, 1],)
    assert slope(fg.relu, [-2.0, 0.0, 3.0]) == ([0, 0, 1],)
    assert slope(fg.softplus, [0.0]) == ([0.5],)


def test_equal_extremes_share() -> None:
    x = [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]
    assert slope(lambda x: fg.max(x, axis=1), x) == ([[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]],)
    assert slope(lambda x: fg.min(x, axis=1), x) == ([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]],)
    assert slope(fg.max, x) == ([[0, 0.5, 0.5], [0, 0, 0]],)


def test_powers_at_zero() -> None:
    assert slope(lambda x: x**2, [0.0, 3.0]) == ([0, 6],)
    assert slope(lambda x: x**0, [0.0, 3.0]) == ([0, 0],)
    assert slope(lambda x: x**1, [0.0, 3.0]) == ([1, 1],)
    assert slope(lambda x, y: x**y, [0.0, 2.0], [0.0, 3.0]) == ([0, 12], [0, pytest.approx(8 * np.log(2))])


def test_where_hides_what_is_not_chosen() -> None:
    x = np.array([-1.0, 4.0])
    safe = lambda x: fg.where(x > 0, fg.sqrt(fg.where(x > 0, x, 1)), 0)  # noqa: E731
    assert slope(safe, x) == ([0, 0.25],)


def test_logsumexp_of_nothing_but_minus_infinity() -> None:
    assert slope(fg.logsumexp, [-np.inf, -np.inf]) == ([0, 0],)


def test_every_method_keeps_the_gradient() -> None:
    """Each way of writing an expression: operators, functions, methods, numpy's functions."""
    ways = [
        lambda x: fg.sum(x * x),
        lambda x: (x**2).sum(),
        lambda x: np.sum(np.square(x)),
        lambda x: x @ x,
        lambda x: np.matmul(x, x),
        lambda x: np.sum(np.multiply(x, x)),
        lambda x: sum(one * one for one in x),
        lambda x: fg.mean(np.reshape(x, (3, 1)) ** 2) * 3,
        lambda x: fg.sum(np.transpose(x) * x[::-1][::-1]),
    ]
    for way in ways:
        assert values(fg.grad(way)(X)) == pytest.approx([2, 4, 6])


def test_gradients_are_tensors_that_say_where_they_come_from() -> None:
    x = fg.constant(3.0)
    slope = fg.gradient(x * x, x)
    assert isinstance(slope, Tensor)
    assert slope.node.where is not None
    assert slope.node.where[0].co_filename.endswith("test_reverse.py")
