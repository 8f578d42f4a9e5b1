"""The checks of `walk.py` find what they are there to find: each op here has one mistake in its definition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import walk

from flowgraph.op import OPS, Monoid, Op, define


@contextmanager
def defined(name: str, factors: Any, kernel: Any, **fields: Any) -> Iterator[Op]:
    """An op that is in the table for as long as a test runs."""
    op = define(name, factors, kernel, doc="For a test.", **fields)
    try:
        yield op
    finally:
        del OPS[name]


def all_checks(op: Op) -> None:
    for sample in walk.samples(op):
        walk.check_types(sample, np.float64)
        walk.check_types(sample, np.float32)
        walk.check_value(sample, np.float64, op.kernel)
        walk.check_gradient(sample)
        walk.check_cuts(sample)
        walk.check_shards(sample)
        walk.check_unmutated(sample)


def test_right_definitions_pass() -> None:
    with defined("twice", "... -> ...", lambda x: x + x, gradient=lambda g, out, x: g * 2) as op:
        all_checks(op)
    with defined(
        "product",
        "... i k, k j -> ... i j",
        np.matmul,
        combine="add",
        gradient=lambda g, out, x, y: (lambda: g @ y.T, lambda: x.mT @ g),
        samples=lambda: [(((5, 3), (3, 4)), {}), (((5, 3, 4), (4, 2)), {})],
    ) as op:
        all_checks(op)


def test_samples_follow_from_the_factor_string() -> None:
    with defined("twice", "(i j) k -> i j k", lambda x: x) as op:
        assert [sample.operands for sample in walk.samples(op)] == [((15, 4),)]
    with defined("twice", "... [k], k -> ...", lambda x: x) as op:
        assert [sample.operands for sample in walk.samples(op)][:3] == [((5,), (5,)), ((5, 5), (5,)), ((5, 4, 5), (5,))]
    with (
        defined("twice", lambda types, attrs: "i -> i", lambda x: x) as op,
        pytest.raises(AssertionError, match="samples="),
    ):
        walk.samples(op)


WRONG_GRADIENTS: dict[str, Any] = {
    "a factor": lambda g, out, x: g * 2.001 * x,
    "a power": lambda g, out, x: g * 2 * x * x,
    "a sign": lambda g, out, x: (-2 * g * x,),
    "nothing": lambda g, out, x: None,
    "without the gradient that comes in": lambda g, out, x: 2 * x,
}


@pytest.mark.parametrize("name", WRONG_GRADIENTS)
def test_a_wrong_gradient_is_found(name: str) -> None:
    with (
        defined("squared", "... -> ...", lambda x: x * x, gradient=WRONG_GRADIENTS[name]) as op,
        pytest.raises(AssertionError, match="gradient"),
    ):
        walk.check_gradient(walk.samples(op)[2])


def test_a_gradient_that_is_right_once_but_not_twice_is_found() -> None:
    """The value of the derivative is right, but it goes through an op that has none."""
    with (
        defined("detached", "... -> ...", lambda x: x, gradient=lambda g, out, x: None) as detached,
        defined("squared", "... -> ...", lambda x: x * x, gradient=lambda g, out, x: g * 2 * detached(x)) as op,
        pytest.raises(AssertionError, match="second derivative"),
    ):
        walk.check_gradient(walk.samples(op)[2])


def test_a_missing_gradient_is_no_mistake() -> None:
    with defined("squared", "... -> ...", lambda x: x * x) as op:
        assert not walk.check_gradient(walk.samples(op)[2])


WRONG_FACTORS = {
    "a sum that runs on": ("i j -> i j", lambda x: np.cumsum(x, 0), {}),
    "a softmax that may be cut": ("i j -> i j", lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True), {}),
    "a reverse": ("i j -> i j", lambda x: x[::-1], {}),
    "a contraction that is none": ("i k, k j -> i j", lambda x, y: np.tanh(x @ y), {"combine": "add"}),
    "axes exchanged": ("i j -> i j", lambda x: x.T.reshape(x.shape), {}),
}


@pytest.mark.parametrize("name", WRONG_FACTORS)
def test_a_wrong_factor_string_is_found(name: str) -> None:
    factors, kernel, fields = WRONG_FACTORS[name]
    with defined("wrong", factors, kernel, **fields) as op, pytest.raises(AssertionError, match="cut along"):
        for sample in walk.samples(op):
            walk.check_cuts(sample)


@pytest.mark.parametrize("factors", ["i j -> j i", "i j -> i", "i j -> i j 1"])
def test_a_factor_string_of_another_shape_is_found(factors: str) -> None:
    with (
        defined("wrong", factors, lambda x: x + 1.0) as op,
        pytest.raises(AssertionError, match="the kernel returns shape"),
    ):
        walk.check_types(walk.samples(op)[0], np.float64)


def test_a_wrong_combine_is_found() -> None:
    with defined("total", "i j -> j", lambda x: np.sum(x, 0), combine="maximum") as op:
        with pytest.raises(AssertionError, match="cut along"):
            walk.check_cuts(walk.samples(op)[0])
        with pytest.raises(AssertionError, match="in tiles"):
            walk.check_shards(walk.samples(op)[0])


def _mean_partial(x: Any) -> Any:
    return (np.mean(x, 0),)


def _mean_merge(left: Any, right: Any) -> Any:
    return ((left[0] + right[0]) / 2,)


def _mean_finish(state: Any) -> Any:
    return state[0]


def test_a_wrong_monoid_is_found() -> None:
    """The mean of two means is no mean where the pieces differ in length."""
    monoid = Monoid(_mean_partial, _mean_merge, _mean_finish)
    with defined("average", "i j -> j", lambda x: np.mean(x, 0), combine=monoid) as op:
        with pytest.raises(AssertionError, match="cut along"):
            walk.check_cuts(walk.samples(op)[0])
        with pytest.raises(AssertionError, match="in tiles"):
            walk.check_shards(walk.samples(op)[0])


def _doubled_in_place(x: Any) -> Any:
    x *= 2
    return x + 0


def test_a_kernel_that_writes_to_its_operand_is_found() -> None:
    with defined("doubled", "... -> ...", _doubled_in_place) as op:
        with pytest.raises(AssertionError, match="the kernel writes to an operand"):
            walk.check_unmutated(walk.samples(op)[2])
        with pytest.raises(ValueError, match="read-only"):
            walk.check_types(walk.samples(op)[2], np.float64)


WRONG_DTYPES = {
    "too wide": (lambda x: x * np.ones((), np.float64), "promote"),
    "too narrow": (lambda x: x.astype(np.float16), "promote"),
    "no bool": (lambda x: x + 1, "bool"),
    "bool": (lambda x: x > 0, "keep"),
}


@pytest.mark.parametrize("name", WRONG_DTYPES)
def test_a_wrong_dtype_rule_is_found(name: str) -> None:
    kernel, dtype = WRONG_DTYPES[name]
    with defined("wrong", "... -> ...", kernel, dtype=dtype) as op, pytest.raises(AssertionError, match="returns"):
        walk.check_types(walk.samples(op)[2], np.float32)


def test_a_wrong_value_is_found() -> None:
    with defined("almost", "... -> ...", lambda x: np.tanh(x) * (1 + 1e-9)) as op:
        walk.check_value(walk.samples(op)[2], np.float32, np.tanh)
        with pytest.raises(AssertionError, match="interpret almost"):
            walk.check_value(walk.samples(op)[2], np.float64, np.tanh)


def test_a_wrong_call_is_found() -> None:
    """The line that kernels emit is another function than the reference kernel."""
    from flowgraph.op import Call

    call = Call("{f}({0}, {out})", {"f": np.cos})
    with (
        defined("sine", "... -> ...", np.sin, call=lambda types, attrs: call) as op,
        pytest.raises(AssertionError, match="program sine"),
    ):
        walk.check_value(walk.samples(op)[2], np.float64, np.sin)


def test_a_call_that_claims_to_work_in_place_is_found() -> None:
    """It reads its operand after it wrote the result: right as long as nobody gives it the operand's memory."""
    from flowgraph.op import Call

    call = Call("{f}({0}, {out})", {"f": _roll}, in_place=True)
    with (
        defined("rolled", "... [k] -> ... [k]", lambda x: np.roll(x, 1, -1), call=lambda types, attrs: call) as op,
        pytest.raises(AssertionError, match="after an op"),
    ):
        walk.check_in_place(walk.samples(op)[1])


def _roll(x: Any, out: Any) -> None:
    for column in range(x.shape[-1]):
        out[..., column] = x[..., column - 1]


def test_the_table_is_as_it_was() -> None:
    assert not {
        "twice",
        "product",
        "squared",
        "wrong",
        "total",
        "average",
        "doubled",
        "almost",
        "sine",
        "rolled",
    } & set(OPS)
