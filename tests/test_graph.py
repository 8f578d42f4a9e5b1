"""Nodes, graphs and definitions: what is checked when they are made, how they print, what they mean."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.graph import (
    Graph,
    Node,
    call_kernel,
    interpret,
    make_input,
    make_node,
    ops_used,
    toposort,
    value_bytes,
)
from flowgraph.op import OPS, Op, define, infer, kernel_parameters
from flowgraph.tensor import tensor_of
from flowgraph.types import Dim, tensor_type

F4, F8, I4 = (np.dtype(name) for name in ("float32", "float64", "int32"))


def leaf(*shape: Any, dtype: Any = F8, name: str = "") -> Node:
    return make_input(tensor_type(shape, dtype), name=name)


@contextmanager
def defined(*args: Any, **fields: Any) -> Iterator[Op]:
    before = dict(OPS)
    try:
        yield define(*args, **fields)
    finally:
        OPS.clear()
        OPS.update(before)


# Nodes.


def test_a_node_knows_its_type_attributes_and_operands() -> None:
    x = leaf(5, 4)
    node = make_node(OPS["sum"], (x,), (("axis", 1), ("keepdims", True)))
    assert node.type is tensor_type((5, 1), F8)
    assert node.attrs == (("axes", (1,)), ("keepdims", True))
    assert (node.attr("axes"), node.attr("nothing", 7)) == ((1,), 7)
    assert node.inputs == (x,)
    assert repr(node) == "<sum: float64[5, 1]>"
    assert not node.is_leaf
    assert x.is_leaf


def test_a_node_is_symbolic_if_an_operand_has_no_value() -> None:
    known = make_input(tensor_type((3,), F8), value=np.ones(3))
    assert not make_node(OPS["exp"], (known,)).symbolic
    assert make_node(OPS["add"], (known, leaf(3))).symbolic


def test_depth_counts_the_operations_above_known_values() -> None:
    known = make_input(tensor_type((3,), F8), value=np.ones(3))
    once = make_node(OPS["exp"], (known,))
    twice = make_node(OPS["exp"], (once,))
    assert (known.depth, once.depth, twice.depth) == (0, 0, 1)


def test_a_node_knows_the_oldest_that_it_depends_on() -> None:
    x, y = leaf(3), leaf(3)
    node = make_node(OPS["add"], (y, x))
    assert x.serial < y.serial < node.serial
    assert (x.since, node.since) == (x.serial, x.serial)
    assert not node.forgot
    node.inputs = ()
    assert node.forgot
    assert not x.forgot


def test_value_bytes() -> None:
    assert value_bytes(tensor_type((3, 4), F4)) == 48
    assert value_bytes(tensor_type((Dim("n"), 4), F4)) == 16


# Order.


def test_toposort_puts_operands_first_and_every_node_once() -> None:
    """
    x ── a ── b
     └────────┴── c
    """
    x = leaf(3)
    a = make_node(OPS["exp"], (x,))
    b = make_node(OPS["log"], (a,))
    c = make_node(OPS["add"], (b, x))
    assert toposort([c]) == [x, a, b, c]
    assert toposort([b, c]) == [x, a, b, c]
    assert toposort([c], stop=lambda node: node is b) == [b, x, c]


def test_walks_do_not_recurse() -> None:
    node = leaf(2)
    for _ in range(20_000):
        node = make_node(OPS["negative"], (node,))
    graph = Graph.of([node])
    assert len(graph.nodes()) == 20_001
    assert len(graph.check().text().splitlines()) == 20_002
    assert interpret(graph, [np.ones(2)])[0].tolist() == [1, 1]


# Graphs.


def test_text_names_inputs_numbers_nodes_and_shows_types() -> None:
    x, w, unnamed = leaf(5, 3, name="x"), leaf(3, dtype=F8, name="w"), leaf()
    product = make_node(OPS["matmul"], (x, w))
    total = make_node(OPS["sum"], (product,), (("axis", None),))
    scaled = make_node(OPS["multiply"], (total, unnamed))
    assert Graph.of([scaled, product]).text().splitlines() == [
        "%x: float64[5, 3] = data",
        "%w: float64[3] = data",
        "%2: float64[] = data",
        "%3: float64[5] = matmul(%x, %w)",
        "%4: float64[] = sum(%3, axes=(0,), keepdims=False)",
        "%5: float64[] = multiply(%4, %2)",
        "return %5, %3",
    ]


def test_text_tells_inputs_of_one_name_apart() -> None:
    text = Graph.of([make_node(OPS["add"], (leaf(name="x"), leaf(name="x")))]).text()
    assert text.splitlines()[:3] == ["%x: float64[] = data", "%x.1: float64[] = data", "%2: float64[] = add(%x, %x.1)"]


def test_inputs_are_the_leaves_in_order_of_appearance_unless_given() -> None:
    x, y = leaf(3), leaf(3)
    node = make_node(OPS["subtract"], (y, x))
    assert Graph.of([node]).inputs == (y, x)
    assert Graph.of([node], [x, y]).inputs == (x, y)


def test_graphs_can_be_walked_and_rebuilt() -> None:
    x = leaf(3)
    graph = Graph.of([make_node(OPS["exp"], (make_node(OPS["exp"], (x,)),))])
    assert [node.op.name for node in graph] == ["input", "exp", "exp"]
    assert ops_used(graph) == {"input": 1, "exp": 2}
    slower = graph.rebuild(lambda node, inputs: make_node(OPS["expm1"], inputs))
    assert ops_used(slower) == {"input": 1, "expm1": 2}
    assert slower.inputs == graph.inputs
    assert graph.with_outputs([x]).outputs == (x,)


def wrong_type(node: Node) -> None:
    node.types = (tensor_type((9,), F8),)


def wrong_attrs(node: Node) -> None:
    node.attrs = (("axis", 0), ("keepdims", False))


def wrong_dtype(node: Node) -> None:
    node.inputs = (leaf(5, 4, dtype=np.dtype(bool)),)
    node.types = (tensor_type((4,), I4),)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (wrong_type, "recorded as .* but is"),
        (wrong_attrs, "are not canonical"),
        (wrong_dtype, "takes int32, operand is"),
    ],
)
def test_check_finds_what_a_pass_did_wrong(spoil: Any, message: str) -> None:
    node = make_node(OPS["sum"], (leaf(5, 4),), (("axis", 0),))
    Graph.of([node]).check()
    spoil(node)
    with pytest.raises(AssertionError, match=message):
        Graph.of([node]).check()


def test_check_finds_inputs_that_are_not_listed_or_listed_twice() -> None:
    x, y = leaf(3), leaf(3)
    node = make_node(OPS["add"], (x, y))
    with pytest.raises(AssertionError, match="is a leaf of the graph but not among its inputs"):
        Graph.of([node], [x]).check()
    with pytest.raises(AssertionError, match="an input is listed twice"):
        Graph.of([node], [x, y, x]).check()


# Meaning.


def test_interpret_gives_every_output_in_its_dtype() -> None:
    x = leaf(3, dtype=F4)
    wide = make_node(OPS["astype"], (x,), (("dtype", F8),))
    graph = Graph.of([wide, make_node(OPS["greater"], (x, x)), x])
    results = interpret(graph, [np.arange(3, dtype=F4)])
    assert [one.dtype for one in results] == [F8, np.dtype(bool), F4]
    assert results[0].tolist() == [0, 1, 2]


def test_kernels_are_told_what_they_ask_for() -> None:
    asked = {}

    def kernel(x: Any, *, scale: Any, shape: Any, dtype: Any, at: Any, operand_shapes: Any) -> Any:
        asked.update(scale=scale, shape=shape, dtype=dtype, at=at, operand_shapes=operand_shapes)
        return x * scale

    assert kernel_parameters(kernel) >= {"scale", "shape", "dtype", "at", "operand_shapes"}
    with defined("scaled", "i j -> i j", kernel, attrs=lambda x, /, scale: {"scale": scale}) as op:
        node = make_node(op, (leaf(4, 3),), (("scale", 2),))
        call_kernel(node, [np.ones((4, 3))])
        assert asked == {
            "scale": 2, "shape": (4, 3), "dtype": F8, "at": ((0, 4, 4), (0, 3, 3)), "operand_shapes": ((4, 3),),
        }  # fmt: skip
        call_kernel(node, [np.ones((2, 3))], (2, 3), ((1, 3, 4), (0, 3, 3)))
        assert (asked["shape"], asked["at"]) == ((2, 3), ((1, 3, 4), (0, 3, 3)))


def test_interpret_takes_what_the_inputs_are() -> None:
    x, n = leaf(3, 2, dtype=F4), Dim("n")
    graph = Graph.of([make_node(OPS["exp"], (x,))])
    assert interpret(graph, [[[0, 0]] * 3])[0].dtype == F4
    assert interpret(Graph.of([make_node(OPS["exp"], (leaf(n, 2),))]), [np.zeros((7, 2))])[0].shape == (7, 2)
    with pytest.raises(UsageError, match="it has 1 inputs"):
        interpret(graph, [])
    for shape in ((2, 3), (3,), (3, 2, 1)):
        with pytest.raises(ShapeError, match=r"its input is float32\[3, 2\]"):
            interpret(graph, [np.zeros(shape)])


def test_interpret_is_silent_where_numpy_warns() -> None:
    x = leaf(2)
    assert np.isnan(interpret(Graph.of([make_node(OPS["log"], (x,))]), [np.array([-1.0, 1.0])])[0][0])


# Ops with several results.


def extremes(x: Any) -> Any:
    return np.min(x, -1), np.max(x, -1)


def both(g: Any, out: Any, x: Any) -> Any:
    low, high = (fg.expand_dims(one, -1) for one in out)
    g_low, g_high = (fg.expand_dims(one, -1) for one in g)
    return fg.where(x == low, g_low, 0) + fg.where(x == high, g_high, 0)


def test_an_op_with_several_results() -> None:
    with defined("extremes", "... [k] -> ..., ...", extremes, gradient=both) as op:
        x = np.array([[3.0, 1.0, 2.0], [5.0, 6.0, 4.0]])
        low, high = op(fg.constant(x))
        assert low.tolist() == [1, 4]
        assert high.tolist() == [3, 6]
        assert (high - low).tolist() == [2, 2]

        def f(x: Any) -> Any:
            low, high = op(x)
            return fg.sum(low * 2 + high * high)

        assert fg.grad(f)(x).tolist() == [[6, 2, 0], [0, 12, 2]]
        assert fg.grad(lambda x: fg.sum(op(x)[1]))(x).tolist() == [[1, 0, 0], [0, 1, 0]]
        second = fg.grad(lambda x: fg.sum(fg.grad(f)(x)))
        assert second(x).tolist() == [[2, 0, 0], [0, 2, 0]]
        text = Graph.of([high.node, tensor_of(make_node(OPS["exp"], (leaf(2),))).node]).text()
        assert "float64" in text


# Definitions.

WRONG_DEFINITIONS: dict[str, tuple[dict[str, Any], str]] = {
    "the name": ({"name": "two words"}, "the name is no identifier"),
    "the kernel": ({"kernel": 3}, "the kernel can not be called"),
    "an unknown combine": ({"combine": "concat"}, "combine='concat' is not known"),
    "a mean": ({"combine": "mean"}, "combine='mean' is not known"),
    "an unknown dtype rule": ({"dtype": "widest"}, "dtype='widest' is no dtype rule"),
    "no operands to take a dtype from": ({"factors": "-> i"}, "takes the dtype from operands, and there are none"),
    "a gradient of two operands": ({"gradient": lambda g, out, x, y: None}, "the gradient takes 4 tensors"),
    "a gradient of none": ({"gradient": lambda g, out: None}, "the gradient takes 2 tensors"),
    "the factor string": ({"factors": "i j"}, "there is not exactly one '->'"),
}


@pytest.mark.parametrize("name", WRONG_DEFINITIONS)
def test_a_definition_is_checked_when_it_is_made(name: str) -> None:
    changes, found = WRONG_DEFINITIONS[name]
    fields = {"name": "wrong", "factors": "... -> ...", "kernel": np.exp} | changes
    with pytest.raises(UsageError) as raised:
        define(fields.pop("name"), fields.pop("factors"), fields.pop("kernel"), **fields)
    assert found in raised.value.found
    assert raised.value.remedy
    assert "wrong" not in OPS


def test_the_remedy_for_a_mean_is_a_sum() -> None:
    with pytest.raises(UsageError, match="A mean is a sum divided by a count"):
        define("wrong", "i -> ", np.mean, combine="mean")


def test_an_op_of_the_library_keeps_its_name() -> None:
    with pytest.raises(UsageError, match="flowgraph has an op of that name"):
        define("add", "..., ... -> ...", np.subtract)
    with defined("mine", "... -> ...", np.sin), defined("mine", "... -> ...", np.cos) as op:
        assert OPS["mine"] is op


def test_a_constant_is_the_number_that_its_dtype_holds() -> None:
    nodes = [make_node(OPS["constant"], (), (("dtype", F4), ("value", value))) for value in (1, 1.0, True)]
    assert {repr(node.attr("value")) for node in nodes} == {"1.0"}
    assert make_node(OPS["constant"], (), (("dtype", I4), ("value", 2.0))).attr("value") == 2
    assert make_node(OPS["constant"], (), (("dtype", F4), ("value", 0.1))).attr("value") == float(np.float32(0.1))


def test_a_gradient_may_name_attributes() -> None:
    with defined(
        "scaled", "... -> ...", lambda x, scale: x * scale,
        attrs=lambda x, /, scale=2.0: {"scale": scale}, gradient=lambda g, out, x, scale: g * scale,
    ) as op:  # fmt: skip
        assert float(fg.grad(lambda x: op(x, scale=3.0))(1.0)) == 3
        assert float(fg.grad(op)(1.0)) == 2


def test_an_op_looks_like_a_function() -> None:
    add = OPS["add"]
    assert repr(add) == "<op add>"
    assert add.__name__ == "add"
    assert inspect.getdoc(add) == "x + y.\n\nFactors: ..., ... -> ..."
    assert inspect.getdoc(OPS["sum"]).endswith("Factors: depends on the attributes")
    assert str(inspect.signature(OPS["softmax"])) == "(x, /, axis=-1)"


# What the user gets wrong is found on the user's line, with the op and the types.


def test_attributes_that_an_op_does_not_have() -> None:
    with pytest.raises(UsageError) as raised:
        fg.sum(fg.constant([1.0]), axes_=1)
    assert "axes_" in raised.value.found
    assert raised.value.asked.startswith("sum(float32[1])")
    with pytest.raises(UsageError, match="exp takes no keyword arguments"):
        fg.exp(fg.constant([1.0]), axis=1)


def test_too_many_and_too_few_operands() -> None:
    x = fg.constant([1.0])
    with pytest.raises(UsageError, match="3 operands for the factor string"):
        fg.add(x, x, x)
    with pytest.raises(UsageError, match="it takes at most 3"):
        fg.sum(x, 0, True, 4)
    with pytest.raises(UsageError, match="missing a required argument"):
        fg.sum()


def test_an_attribute_that_can_not_be_hashed() -> None:
    with pytest.raises(UsageError) as raised:
        fg.sum(fg.constant([1.0]), axis={0})
    assert raised.value.found == "unhashable type: 'set'"


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ShapeError) as raised:
        fg.matmul(fg.ones((3, 4)), fg.ones((5, 2)))
    assert raised.value.asked == (
        "matmul(float32[3, 4], float32[5, 2]): an operand of shape (5, 2) in '... i k, ... k j -> ... i j'"
    )
    assert raised.value.found == "factor k has length 4, but axis 0 of this operand has 5"


def test_booleans_have_no_difference() -> None:
    b = fg.constant([True, False])
    for op in (fg.subtract, fg.power):
        with pytest.raises(DTypeError, match=f"{op.name} of booleans"):
            op(b, b)
    for op in (fg.negative, fg.square, fg.sign):
        with pytest.raises(DTypeError, match=f"{op.name} of booleans"):
            op(b)


def test_an_unknown_length_stays_one_through_ops() -> None:
    n = Dim("n")
    x = leaf(n, 3)
    assert infer(OPS["sum"], (x.type,), (("axis", 1),)).types[0].shape == (n,)
    node = make_node(OPS["concat"], (x, x), (("axis", 0),))
    assert str(node.type.shape) == "(2*n, 3)"
    assert str(make_node(OPS["reshape"], (x,), (("shape", (-1,)),)).type.shape) == "(3*n,)"
    assert make_node(OPS["reshape"], (x,), (("shape", (-1, 3)),)).type.shape == (n, 3)
    assert str(make_node(OPS["getitem"], (x,), (("key", (("slice", 1, None, None),)),)).type.shape) == "(n-1, 3)"


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ((0, 3, None), "how many elements it has is not known"),
        ((None, None, 2), "how many elements it has is not known"),
    ],
)
def test_slices_of_an_unknown_length(key: Any, found: str) -> None:
    with pytest.raises(ShapeError, match=found):
        make_node(OPS["getitem"], (leaf(Dim("n")),), (("key", (("slice", *key),)),))


def test_joining_two_unknown_lengths() -> None:
    with pytest.raises(ShapeError, match="more than one of them is unknown"):
        make_node(OPS["concat"], (leaf(Dim("n")), leaf(Dim("m"))), (("axis", 0),))


# Attributes that are equal and not the same.


def kind_of(x: Any, k: Any) -> Any:
    sign = 1 if k != 0 else np.copysign(1, np.real(k))
    return np.full(x.shape, {bool: 1, int: 2, float: 3, complex: 4}[type(k)] * sign, x.dtype)


KINDS = {"1": 2, "1.0": 3, "True": 1, "0": 2, "0.0": 3, "-0.0": -3, "False": 1, "nan": 3, "(1+0j)": 4, "(-0-0j)": -4}


def test_attributes_of_other_types_and_signs_are_others() -> None:
    """In every cache: of types, of programs, of shared nodes, of traces."""
    values = [1, 1.0, True, 0, 0.0, -0.0, False, float("nan"), 1 + 0j, complex(-0.0, -0.0)]
    x = fg.constant(np.zeros(2))
    attrs = lambda x, /, k: {"k": k}  # noqa: E731
    with defined("kind_of", "... -> ...", kind_of, attrs=attrs, doc="What k is.") as op:
        traced = fg.function(lambda x, k: op(x, k=k))
        for _ in range(2):
            assert {repr(k): op(x, k=k).numpy()[0] for k in values} == KINDS
            assert {repr(k): traced(x, k).numpy()[0] for k in values} == KINDS
        together = fg.function(lambda x: [op(x, k=k) for k in values])(x)
        assert [one.numpy()[0] for one in together] == list(KINDS.values())


def test_a_nan_among_attributes_is_found_again() -> None:
    x = fg.constant(np.zeros((2, 2)))
    attrs = lambda x, /, k: {"k": k}  # noqa: E731
    with defined("kind_of", "... -> ...", kind_of, attrs=attrs, doc="What k is.") as op:
        nodes = [op(x, k=float("nan")).node for _ in range(2)]
    assert nodes[0].attrs == nodes[1].attrs
    assert infer(nodes[0].op, (x.type,), nodes[0].attrs) is infer(nodes[1].op, (x.type,), nodes[1].attrs)
