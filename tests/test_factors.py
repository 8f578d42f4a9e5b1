"""The notation of factor strings: what it means, and one test for each mistake that can be made in it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import flowgraph as fg
from flowgraph.errors import ShapeError, UsageError
from flowgraph.factors import ELLIPSIS, Axis, bind, parse
from flowgraph.ops.shape import reshape_factors
from flowgraph.types import Dim, affine

N, M = Dim("n"), Dim("m")


# Parsing.


def test_every_kind_of_axis() -> None:
    rule = parse("... i [k] <t> {r} (a b) 1 -> i")
    whole, interval, running = Axis(("k",), "whole"), Axis(("t",), "interval"), Axis(("r",), "running")
    assert rule.operands == ((ELLIPSIS, Axis(("i",)), whole, interval, running, Axis(("a", "b")), Axis(())),)
    assert rule.results == ((Axis(("i",)),),)


def test_blanks_do_not_matter() -> None:
    assert parse("...i(a b),k->i").operands == parse(" ... i  ( a  b ) , k  ->  i ").operands


def test_operands_without_axes() -> None:
    assert parse("->").operands == ()
    assert parse(", -> i").operands == ((), ())
    assert parse("i ->").results == ((),)


def test_several_results() -> None:
    assert parse("i j -> i, j").results == ((Axis(("i",)),), (Axis(("j",)),))


def test_operands_read_for_their_lengths_alone() -> None:
    rule = parse("i, ~ i j -> i j")
    assert rule.sizes_only == {1}
    assert rule.operands[1] == (Axis(("i",)), Axis(("j",)))


MISTAKES = {
    "i j": "not exactly one '->'",
    "i -> j -> k": "not exactly one '->'",
    "i -> ~ i": "a result is marked with '~'",
    "i -> ... i": "'...' stands in a result and in no operand",
    "... ... -> i": "an operand holds '...' twice",
    "[i j] -> i": "'[' does not enclose exactly one factor",
    "[i -> i": "'[' does not enclose exactly one factor",
    "[ -> i": "'[' does not enclose exactly one factor",
    "[1] -> 1": "'[' does not enclose exactly one factor",
    "[...] -> 1": "'[' does not enclose exactly one factor",
    "[<i>] -> i": "'[' does not enclose exactly one factor",
    "<i -> i": "'<' does not enclose exactly one factor",
    "(i j -> i j": "a '(' is not closed",
    "() -> i": "a '(' is not closed",
    "(i 1) -> i": "a '(' is not closed or encloses something else than factors",
    "i) -> i": "')' is no factor",
    "i 2 -> i": "'2' is no factor",
    "i * j -> i": "'*' is no factor",
    "i ~ j -> i": "'~' is no factor",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_and_the_string_quoted(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert MISTAKES[text] in raised.value.found
    assert repr(text) in raised.value.asked
    assert raised.value.remedy


# Binding.

BOUND: list[tuple[str, list[Any], Any, dict[str, Any]]] = [
    ("... -> ...", [(5, 4)], (5, 4), {".0": 5, ".1": 4}),
    ("... -> ...", [()], (), {}),
    ("..., ... -> ...", [(5, 4), (4,)], (5, 4), {".0": 5, ".1": 4}),
    ("..., ... -> ...", [(5, 1), (1, 4)], (5, 4), {".0": 5, ".1": 4}),
    ("..., ... -> ...", [(1,), (1,)], (1,), {".0": 1}),
    ("..., ... -> ...", [(0,), (1,)], (0,), {".0": 0}),
    ("... i k, ... k j -> ... i j", [(2, 1, 3, 4), (5, 4, 6)], (2, 5, 3, 6), {"i": 3, "k": 4, "j": 6}),
    ("(i j) k -> i (j k)", [(6, 4)], None, {}),
    ("i k, k -> i 1", [(3, 4), (4,)], (3, 1), {"i": 3, "k": 4}),
    ("i, ~ i j -> i j", [(3,), (3, 7)], (3, 7), {"j": 7}),
    ("i j -> i, j", [(3, 7)], (3,), {}),
    ("... -> ...", [(N, 3)], (N, 3), {".0": N}),
    ("..., ... -> ...", [(N, 3), (N, 1)], (N, 3), {".0": N}),
    ("i k, k -> i", [(N, M), (M,)], (N,), {"i": N, "k": M}),
    ("i k, k -> i", [(N, M), (4,)], (N,), {"i": N, "k": 4}),
    ("..., ... -> ...", [(N,), (4,)], (4,), {".0": 4}),
    ("..., ... -> ...", [(4,), (N,)], (4,), {".0": 4}),
    ("..., ... -> ...", [(N,), (1,)], (N,), {".0": N}),
]


@pytest.mark.parametrize(("text", "shapes", "shape", "sizes"), BOUND, ids=str)
def test_binding(text: str, shapes: Any, shape: Any, sizes: dict[str, Any]) -> None:
    if shape is None:  # two unknown factors in one axis: nothing says how long each is
        with pytest.raises(UsageError, match="the length of factor i follows from no operand and no attribute"):
            bind(parse(text), shapes)
        return
    binding = bind(parse(text), shapes)
    assert binding.shapes[0] == shape
    assert {name: binding.sizes[name] for name in sizes} == sizes


def test_the_shape_of_the_result_may_be_wanted() -> None:
    binding = bind(parse("(i j) k -> i (j k)"), [(6, 4)], (2, 12))
    assert binding.sizes == {"i": 2, "j": 3, "k": 4}
    assert bind(parse("-> a b"), [], (3, 4)).shapes == ((3, 4),)
    assert bind(parse("-> 1 1"), [()]).shapes == ((1, 1),)


def test_contracted_factors() -> None:
    assert bind(parse("... i k, ... k j -> ... i j"), [(2, 3), (3, 4)]).contracted() == {"k"}
    assert bind(parse("i j -> "), [(2, 3)]).contracted() == {"i", "j"}


CUTTABLE = {
    "... i k, ... k j -> ... i j": ([(5, 2, 3), (3, 4)], (".0", "i", "k", "j")),
    "... [k] -> ... [k]": ([(5, 3)], (".0",)),
    "<i> j -> <i> j": ([(5, 3)], ("j",)),
    "{i} j -> {i} j": ([(5, 3)], ("j",)),
    "(i j) -> i j": ([(6,)], ("i",)),
    "i i -> i": ([(3, 3)], ()),
    "i k, j k -> i j": ([(3, 4), (5, 4)], ("i", "k", "j")),
    "i [k], k -> i": ([(3, 4), (4,)], ("i",)),
    "1 j -> j": ([(1, 3)], ("j",)),
}


@pytest.mark.parametrize("text", CUTTABLE)
def test_what_may_be_cut(text: str) -> None:
    shapes, factors = CUTTABLE[text]
    wanted = (2, 3) if "(" in text else None
    assert bind(parse(text), shapes, wanted).cuttable() == factors


def test_an_axis_of_length_1_that_stretches_belongs_to_no_factor() -> None:
    binding = bind(parse("..., ... -> ..."), [(5, 1), (5, 4)])
    assert binding.operands[0] == (Axis((".0",)), Axis(()))


def test_the_size_of_the_work() -> None:
    assert bind(parse("i k, k j -> i j"), [(2, 3), (3, 4)]).points() == 24
    assert bind(parse("i k, k j -> i j"), [(N, 3), (3, 4)]).points() == 12


def test_the_wrong_number_of_operands() -> None:
    with pytest.raises(UsageError) as raised:
        bind(parse("i, i -> i"), [(3,)])
    assert raised.value.asked == "1 operands for the factor string 'i, i -> i'"
    assert raised.value.found == "it takes 2"


@pytest.mark.parametrize(
    ("text", "shape", "found"), [("i j -> i", (3,), "gives it 2 axes"), ("... i j -> i", (3,), "2 axes or more")]
)
def test_the_wrong_number_of_axes(text: str, shape: Any, found: str) -> None:
    with pytest.raises(ShapeError) as raised:
        bind(parse(text), [shape])
    assert found in raised.value.found
    assert raised.value.asked == f"an operand of 1 axes for the factor string {text!r}"


def test_a_factor_of_two_lengths() -> None:
    with pytest.raises(ShapeError) as raised:
        bind(parse("i k, k -> i"), [(3, 4), (5,)])
    assert raised.value.asked == "an operand of shape (5,) in 'i k, k -> i'"
    assert raised.value.found == "factor k has length 4, but axis 0 of this operand has 5"


def test_axes_that_do_not_broadcast() -> None:
    with pytest.raises(ShapeError, match=r"axes aligned at \.0 has length 3, but axis 0 of this operand has 4"):
        bind(parse("..., ... -> ..."), [(3,), (4,)])


def test_an_axis_that_must_have_length_1() -> None:
    with pytest.raises(ShapeError, match="factor 1 has length 1, but axis 0 of this operand has 2"):
        bind(parse("1 j -> j"), [(2, 3)])


def test_a_length_that_follows_from_nothing() -> None:
    with pytest.raises(UsageError, match="the length of factor j follows from no operand and no attribute"):
        bind(parse("i -> i j"), [(3,)])


def test_a_result_of_another_shape_than_wanted() -> None:
    with pytest.raises(ShapeError, match="factor i has length 3, but axis 0 of this operand has 4"):
        bind(parse("i -> i j"), [(3,)], (4, 5))


@given(
    st.lists(st.integers(0, 4), max_size=4).map(tuple),
    st.lists(st.sampled_from([0, 1, -1]), max_size=4),
    st.lists(st.integers(1, 3), max_size=2).map(tuple),
)
def test_ellipses_broadcast_as_in_numpy(shape: Any, changes: Any, front: Any) -> None:
    other = front + tuple(1 if change == 1 else length for length, change in zip(shape, changes, strict=False))
    try:
        wanted = np.broadcast_shapes(shape, other)
    except ValueError:
        with pytest.raises(ShapeError):
            bind(parse("..., ... -> ..."), [shape, other])
    else:
        assert bind(parse("..., ... -> ..."), [shape, other]).shapes == (wanted,)


# The factors of a reshape.

RESHAPES: list[tuple[str, Any, Any]] = [
    ("c0 c1 -> c0 c1", (3, 4), (3, 4)),
    ("(c0 c1) c2 -> c0 c1 c2", (6, 4), (2, 3, 4)),
    ("c0 c1 c2 -> (c0 c1) c2", (2, 3, 4), (6, 4)),
    ("c0 c1 -> (c0 c1)", (3, 4), (12,)),
    ("[c0] [c1] -> [c2] [c3]", (6, 4), (8, 3)),
    ("c0 c1 1 -> c0 1 c1", (3, 4, 1), (3, 1, 4)),
    ("1 -> ", (1,), ()),
    (" -> 1 1", (), (1, 1)),
    ("[c0] [c1] -> [c2]", (0, 4), (0,)),
    ("c0 (c1 c2) -> c0 c1 c2", (N, 6), (N, 2, 3)),
    ("c0 c1 -> (c0 c1)", (N, 3), (affine(N, 3),)),
    ("(c0 c1) -> c0 c1", (affine(N, 3),), (N, 3)),
    ("c0 -> c0 1", (N,), (N, 1)),
    ("1 c0 -> c0", (1, N), (N,)),
    ("[c0] [c1] -> [c2] [c3]", (N, 6), (affine(N, 2), 3)),
]


@pytest.mark.parametrize(("text", "source", "target"), RESHAPES, ids=str)
def test_reshape_factors(text: str, source: Any, target: Any) -> None:
    assert reshape_factors(source, target) == text
    assert bind(parse(text), [source], target).shapes == (target,)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_reshape_factors_bind_to_both_shapes(lengths: list[int], random: Any) -> None:
    def grouped() -> tuple[int, ...]:
        parts = [[length] for length in lengths]
        for at in range(len(parts) - 1, 0, -1):
            if random.random() < 0.4:
                parts[at - 1] += parts.pop(at)
        shape = [math.prod(part) for part in parts]
        if random.random() < 0.3:
            shape.insert(random.randrange(len(shape) + 1), 1)
        return tuple(shape)

    source, target = grouped(), grouped()
    binding = bind(parse(reshape_factors(source, target)), [source], target)
    assert binding.shapes == (target,)
    assert set(binding.cuttable()) <= set(binding.sizes)


def test_a_cut_of_a_reshape_follows_the_leading_factor() -> None:
    x = fg.constant(np.arange(24.0).reshape(6, 4))
    node = x.reshape(2, 3, 4).node
    assert node.inferred().binding.cuttable() == ("c0", "c2")
