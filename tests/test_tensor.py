"""Tensors as Python objects: operators, indexing, conversion, printing, numpy's functions, and what is refused."""

from __future__ import annotations

import copy
import operator
import pickle
import sys
import timeit
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph import collection
from flowgraph.context import describe_line
from flowgraph.errors import DTypeError, FlowgraphError, ShapeError, UsageError
from flowgraph.graph import make_input
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import Dim, tensor_type

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def symbolic(*shape: Any, dtype: Any = np.float32) -> Tensor:
    return tensor_of(make_input(tensor_type(shape, dtype), name="x"))


def refused(call: Any, kind: type[FlowgraphError], asked: str, found: str) -> FlowgraphError:
    """Assert that `call` raises `kind` with all three parts of a message."""
    with pytest.raises(kind) as raised:
        call()
    error = raised.value
    assert asked in error.asked, error.asked
    assert found in error.found, error.found
    assert error.remedy.endswith((".", ")")), error.remedy
    assert str(error) == f"asked: {error.asked}\nfound: {error.found}\nremedy: {error.remedy}"
    return error


# Operators.

BINARY = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
OTHERS: dict[str, Any] = {
    "float": 2.5,
    "int": 2,
    "numpy scalar": np.float64(2.5),
    "0-d array": np.array(2.5),
    "array": np.array([[1.0, 2.0, 3.5]]),
    "integers": np.array([1, 2, 3]),
    "list": [1.0, 2.0, 3.5],
    "nested tuple": ((1.0, 2.0, 3.5), (4.0, 5.0, 6.5)),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("sign", BINARY)
def test_binary_operators_on_either_side(sign: str, other: str) -> None:
    function, value = BINARY[sign], OTHERS[other]
    x = fg.constant(X)
    right, left = function(x, value), function(value, x)
    assert type(right) is type(left) is Tensor
    np.testing.assert_allclose(right.numpy(), function(X, np.asarray(value)), rtol=1e-14)
    np.testing.assert_allclose(left.numpy(), function(np.asarray(value), X), rtol=1e-14)


def test_matrix_products_on_either_side() -> None:
    x = fg.constant(X)
    for result in (x @ X.T, X @ x.T, x @ fg.constant(X.T)):
        assert type(result) is Tensor
        np.testing.assert_allclose(result.numpy(), X @ X.T)
    np.testing.assert_allclose((x @ [1.0, 0.0, 1.0]).numpy(), [4, 10])
    np.testing.assert_allclose(([1.0, 1.0] @ x).numpy(), [5, 7, 9])


def test_unary_operators() -> None:
    x = fg.constant([-1.0, 2.0])
    assert (-x).tolist() == [1, -2]
    assert (+x) is x
    assert abs(x).tolist() == [1, 2]
    assert (~(x > 0)).tolist() == [True, False]


def test_conditions_combine() -> None:
    x = fg.constant([-1.0, 0.5, 2.0])
    assert ((x > 0) & (x < 1)).tolist() == [False, True, False]
    assert ((x < 0) | (x > 1)).tolist() == [True, False, True]
    assert ([True, True, False] & (x > 0)).tolist() == [False, True, False]
    assert (True | (x > 0)).tolist() == [True, True, True]


def test_in_place_operators_make_new_tensors() -> None:
    x = before = fg.constant([1.0])
    x += 1
    x *= 3
    assert (x.tolist(), before.tolist()) == ([6], [1])


def test_variables_have_the_operators_of_tensors() -> None:
    v, x = fg.Variable([1.0, 2.0]), fg.constant([3.0, 4.0])
    assert (v + x).tolist() == (x + v).tolist() == [4, 6]
    assert (2 - v).tolist() == [1, 0]
    assert (np.array([1.0, 1.0], "float32") / v).tolist() == [1, 0.5]
    assert (v @ x).item() == 11
    assert v[1].item() == 2
    assert np.exp(v).dtype == np.float32
    assert ((v > 1) & (v < 3)).tolist() == [False, True]
    assert f"{v[1]:.1f}" == "2.0"


@pytest.mark.parametrize("other", [None, "text", object(), {1}, {"a": 1}, b"1"])
def test_other_things_are_left_to_python(other: Any) -> None:
    x = fg.constant([1.0])
    for function in (operator.sub, operator.truediv, operator.lt, operator.and_):
        with pytest.raises(TypeError, match=r"not supported|unsupported operand"):
            function(x, other)
        with pytest.raises(TypeError, match=r"not supported|unsupported operand"):
            function(other, x)
    assert (x == other) is False
    assert (x != other) is True


def test_another_class_may_take_over() -> None:
    class Money:
        def __radd__(self, other: Any) -> str:
            return "a fortune"

    assert fg.constant([1.0]) + Money() == "a fortune"


def test_shapes_that_do_not_fit_name_the_op() -> None:
    refused(lambda: fg.ones((3,)) + fg.ones((4,)), ShapeError, "add(float32[3], float32[4])", "length 3")
    refused(lambda: fg.ones((2, 3)) @ fg.ones((2, 3)), ShapeError, "matmul(float32[2, 3], float32[2, 3])", "factor k")
    refused(lambda: fg.ones((2, 3)) @ 2, ShapeError, "matmul", "one of them is a scalar")


def test_bits_of_integers_and_booleans() -> None:
    i, condition = fg.constant([1, 2, 7]), fg.constant([True, False, True])
    assert (i & 3).tolist() == [1, 2, 3]
    assert (4 | i).tolist() == [5, 6, 7]
    assert (i ^ 1).tolist() == [0, 3, 6]
    assert (~i).tolist() == [-2, -3, -8]
    assert (condition ^ True).tolist() == [False, True, False]
    assert (np.array([True, True, False]) | condition).tolist() == [True, True, True]
    refused(lambda: fg.constant([1.0]) & True, DTypeError, "a tensor of float32", "no truth values and no bits")
    refused(lambda: ~fg.constant([1.0]), DTypeError, "a tensor of float32", "no truth values and no bits")


def test_python_floats_do_not_become_integers_by_themselves() -> None:
    refused(lambda: fg.constant([1.5], dtype="int32"), DTypeError, "Python floats as int32", "lose their fractions")
    assert fg.cast([1.5], "int32").tolist() == [1]
    assert fg.constant(np.array([1.5]), dtype="int32").tolist() == [1]
    assert fg.Variable(1e300).numpy() == np.inf


# Dtypes.

RESULTS = """
left     right    +        /        <
float32  float64  float64  float64  bool
float32  int64    float32  float32  bool
float64  int32    float64  float64  bool
int32    int64    int64    float32  bool
uint8    int8     int16    float32  bool
bool     int32    int32    float32  bool
bool     float32  float32  float32  bool
int32    float    float32  float32  bool
int8     int      int8     float32  bool
uint8    int      uint8    float32  bool
float16  float    float16  float16  bool
float64  float    float64  float64  bool
float64  bool     float64  float64  bool
int32    bool     int32    float32  bool
bool     int      int32    float32  bool
bool     float    float32  float32  bool
"""


def test_the_dtypes_of_results() -> None:
    python = {"float": 1.5, "int": 1, "bool": True}
    for line in RESULTS.strip().splitlines()[1:]:
        left, right, total, ratio, less = line.split()
        x = fg.constant([1], left)
        y = python[right] if right in python else fg.constant([1], right)
        assert [str(one.dtype) for one in (x + y, x / y, x < y)] == [total, ratio, less], line
        assert [str(one.dtype) for one in (y + x, y / x, y > x)] == [total, ratio, less], line


def test_numpy_scalars_of_double_precision_are_python_floats() -> None:
    x = fg.constant([1.0, 2.0])
    assert (x * np.float64(2.5)).dtype == (np.float64(2.5) * x).dtype == np.float32
    assert (x * np.float32(2.5)).dtype == np.float32
    assert (fg.constant([1, 2]) * np.float64(2.5)).tolist() == [2.5, 5]


@pytest.mark.parametrize(
    ("dtype", "number"), [("uint8", -1), ("uint8", 300), ("int8", 128), ("int32", 2**31), ("int64", 2**63)]
)
def test_a_number_that_the_dtype_can_not_hold(dtype: str, number: int) -> None:
    x = fg.constant([1], dtype)
    refused(lambda: x + number, DTypeError, f"the number {number} as {dtype}", "can not hold it")


def test_minus_zero_is_not_zero() -> None:
    x = fg.constant([1.0])
    assert [(1 / (x * zero)).item() for zero in (0.0, -0.0, 0, -0.0)] == [np.inf, -np.inf, np.inf, -np.inf]


def test_defaults_are_those_of_tensorflow() -> None:
    kinds = [fg.constant(value).dtype for value in (1.0, 1, True, [1.0], [1, 2], [True], [], 2**40, [2**40], [1, 2.5])]
    assert list(map(str, kinds)) == "float32 int32 bool float32 int32 bool float32 int64 int64 float32".split()
    assert fg.constant(np.arange(3)).dtype == np.int64
    assert fg.constant([np.float64(1), np.float64(2)]).dtype == np.float64
    assert fg.constant(np.array([1], ">i2")).dtype == np.dtype(np.int16)
    assert fg.constant([2**63]).dtype == np.uint64


# Indexing.

KEYS = [
    0, -1, (1, 2), (slice(None), 1), slice(1, None), slice(None, None, -1), (slice(None), slice(None, None, 2)),
    (slice(0, 5), slice(-2, None)), (Ellipsis, 0), (0, Ellipsis), Ellipsis, None, (None, 1), (slice(None), None, 2),
    (..., None), (), slice(1, 1), np.int64(1), (np.int32(0), slice(np.int64(1), None)),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing(key: Any) -> None:
    found = fg.constant(X)[key]
    assert found.shape == X[key].shape
    np.testing.assert_array_equal(found.numpy(), X[key])


def test_indexing_by_tensors() -> None:
    x = fg.constant(X)
    one = fg.constant(1)
    assert x[one].tolist() == [4, 5, 6]
    assert x[0, one:].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("key", "kind", "asked", "found"),
    [
        ([0, 2], ShapeError, "index 2", "the axis has length 2"),
        ([0.5], DTypeError, "x[float32[1]]", "positions are integers"),
        (True, UsageError, "x[True]", "indices are integers"),
        (1.0, UsageError, "x[1.0]", "indices are integers"),
        (slice(0, 1.5), UsageError, "x[1.5]", "indices are integers"),
        ("a", UsageError, "x['a']", "indices are integers"),
        (fg.constant([True, False, True]), ShapeError, "a mask of shape (3,)", "they differ"),
        ((0, 0, 0), ShapeError, "3 indices", "the tensor has 2 axes"),
        (2, ShapeError, "index 2 of an axis of length 2", "it lies outside"),
        (-3, ShapeError, "index -3 of an axis of length 2", "it lies outside"),
        ((..., ...), UsageError, "x[..., ...]", "an index holds '...' twice"),
        (slice(None, None, 0), UsageError, "a slice with step 0", "it would never end"),
        (fg.constant(1.0), DTypeError, "a tensor as an index", "its dtype is float32"),
    ],
)
def test_what_is_no_index(key: Any, kind: Any, asked: str, found: str) -> None:
    refused(lambda: fg.constant(X)[key], kind, asked, found)


def test_iteration_and_length() -> None:
    x = fg.constant(X)
    assert len(x) == 2
    assert [row.tolist() for row in x] == X.tolist()
    _, second = x
    assert second.tolist() == [4, 5, 6]
    refused(lambda: len(fg.constant(1.0)), UsageError, "the length of a scalar tensor", "it has no axes")
    refused(lambda: iter(fg.constant(1.0)), UsageError, "the length of a scalar tensor", "it has no axes")
    refused(lambda: len(symbolic(Dim("n"))), UsageError, "len(x)", "the length n is not known yet")


# Conversion.


def test_conversion_to_python_numbers() -> None:
    assert float(fg.constant(2.5)) == 2.5
    assert int(fg.constant([[7]])) == 7
    assert complex(fg.constant(2.5)) == 2.5 + 0j
    assert bool(fg.constant([True]))
    assert fg.constant([3]).item() == 3
    assert [10, 20, 30][fg.constant(1)] == 20
    assert fg.constant(X).tolist() == X.tolist()


def test_one_number_of_many() -> None:
    x = fg.constant([1.0, 2.0])
    for call in (float, int, complex, Tensor.item):
        refused(lambda call=call: call(x), ShapeError, "one number from a tensor of shape (2,)", "it has 2 elements")
    refused(lambda: bool(x > 1), ShapeError, "the truth value of a tensor of shape (2,)", "some may be true")
    refused(lambda: bool(fg.zeros((0,))), ShapeError, "the truth value of a tensor of shape (0,)", "it has 0 elements")
    refused(lambda: operator.index(fg.constant(1.0)), DTypeError, "a tensor as an index", "float32")


def test_the_truth_of_a_symbolic_tensor() -> None:
    error = refused(
        lambda: bool(symbolic() > 0),
        UsageError,
        "the truth value of bool[] while a function is being traced",
        "not known",
    )
    assert "fg.where" in error.remedy
    with pytest.raises(UsageError, match="the truth value of bool"):
        fg.function(lambda x: x if x > 0 else -x)(fg.constant(1.0))


@pytest.mark.parametrize("ask", [float, np.asarray, Tensor.numpy, Tensor.tolist])
def test_the_value_of_a_symbolic_tensor(ask: Any) -> None:
    refused(lambda: ask(symbolic()), UsageError, "the value of a tensor that depends on the input x", "has no value")


def test_conversion_to_arrays() -> None:
    x = fg.constant(X)
    assert np.asarray(x).dtype == np.float64
    assert np.asarray(x, np.float32).dtype == np.float32
    assert np.array(x) is not x.numpy()
    assert not np.shares_memory(np.array(x), x.numpy())
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert np.stack([row for row in x]).tolist() == X.tolist()  # noqa: C416
    np.testing.assert_allclose(x, X)


def test_constant_copies_and_asarray_shares() -> None:
    array = np.ones(3)
    copied, shared = fg.constant(array), fg.asarray(array)
    array[0] = 5
    assert (copied.tolist(), shared.tolist()) == ([1, 1, 1], [5, 1, 1])


def test_constants_of_a_shape() -> None:
    assert fg.constant(3, shape=(2, 2)).tolist() == [[3, 3], [3, 3]]
    assert fg.constant([1, 2, 3, 4], shape=[2, 2]).tolist() == [[1, 2], [3, 4]]
    assert fg.constant(fg.constant([1, 2, 3, 4]), shape=(2, 2), dtype="float64").tolist() == [[1, 2], [3, 4]]
    assert fg.constant(fg.constant(7), shape=(2,)).tolist() == [7, 7]
    refused(lambda: fg.constant([1, 2, 3], shape=(2, 2)), ShapeError, "a constant of shape (2, 2)", "has 3 elements")
    refused(lambda: fg.constant(1, shape=(-1,)), UsageError, "shape (-1,)", "-1 is no length")


@pytest.mark.parametrize(
    ("value", "dtype", "kind", "found"),
    [
        ([[1], [1, 2]], None, ShapeError, "its rows have different lengths"),
        ("text", None, DTypeError, "its elements are <U4, not numbers"),
        ([None], None, DTypeError, "its elements are object, not numbers"),
        (object(), None, DTypeError, "its elements are object, not numbers"),
        (np.array(["2020-01-01"], "M8[D]"), None, DTypeError, "not numbers"),
        ([1, 300], "uint8", DTypeError, "uint8 can not hold them"),
        ([1.0], "text", DTypeError, "tensors hold booleans, integers, real and complex numbers"),
    ],
)
def test_what_is_no_tensor(value: Any, dtype: Any, kind: Any, found: str) -> None:
    refused(lambda: fg.constant(value, dtype), kind, "a tensor" if dtype != "uint8" else "as uint8", found)


def test_lists_of_tensors() -> None:
    assert fg.constant([fg.constant(1.0), fg.constant(2.0)]).tolist() == [1, 2]
    assert fg.constant([fg.constant([1.0], "float64")]).dtype == np.float64


def test_cast_and_astype() -> None:
    x = fg.constant([1.7, -1.7])
    assert x.astype("int32").tolist() == fg.cast(x, int).tolist() == [1, -1]
    assert fg.cast(x, "float32") is x
    assert fg.cast([0, 2], bool).tolist() == [False, True]
    assert fg.cast(1, "float64").dtype == np.float64


def test_pickles_and_copies() -> None:
    x = fg.constant(X) * 2
    for twin in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):
        assert isinstance(twin, Tensor)
        np.testing.assert_array_equal(twin.numpy(), X * 2)
        assert twin.dtype == x.dtype


# Identity.


def test_tensors_hash_by_identity() -> None:
    x, y = fg.constant(1.0), fg.constant(1.0)
    assert len({x, y, x}) == 2
    assert {x: "x"}[x] == "x"


def test_equality_is_elementwise() -> None:
    assert (fg.constant([1, 2]) == [1, 3]).tolist() == [True, False]
    assert (fg.constant([1, 2]) != np.array([1, 3])).tolist() == [False, True]


# Printing.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "<fg.Tensor: shape=(), dtype=float32, numpy=1.5>"),
        (3, "<fg.Tensor: shape=(), dtype=int32, numpy=3>"),
        (True, "<fg.Tensor: shape=(), dtype=bool, numpy=True>"),
        ([1.0, 2.0], "<fg.Tensor: shape=(2,), dtype=float32, numpy=array([1., 2.], dtype=float32)>"),
        (np.array([1.0, 2.0]), "<fg.Tensor: shape=(2,), dtype=float64, numpy=array([1., 2.])>"),
        ([1, 2], "<fg.Tensor: shape=(2,), dtype=int32, numpy=array([1, 2], dtype=int32)>"),
        ([[1.0, 2.0]], "<fg.Tensor: shape=(1, 2), dtype=float32, numpy=array([[1., 2.]], dtype=float32)>"),
        (
            [[1.0, 2.0], [3.0, 4.0]],
            "<fg.Tensor: shape=(2, 2), dtype=float32, numpy=\narray([[1., 2.],\n       [3., 4.]], dtype=float32)>",
        ),
    ],
)
def test_tensors_print_as_in_tensorflow(value: Any, text: str) -> None:
    x = fg.constant(value)
    assert repr(x) == text
    assert str(x) == text


def test_symbolic_tensors_print_without_a_value() -> None:
    assert repr(symbolic(Dim("n"), 3)) == "<fg.Tensor: shape=(n, 3), dtype=float32, symbolic>"
    assert f"{symbolic(2)}" == "<fg.Tensor: shape=(2,), dtype=float32, symbolic>"


def test_variables_print_as_in_tensorflow() -> None:
    v = fg.Variable([1.0, 2.0], name="printed")
    assert repr(v) == "<fg.Variable 'printed' shape=(2,) dtype=float32, numpy=array([1., 2.], dtype=float32)>"
    v = fg.Variable([[1.0], [2.0]], name="printed_too")
    assert repr(v).endswith("numpy=\narray([[1.],\n       [2.]], dtype=float32)>")


def test_values_are_formatted_as_numpy_formats_them() -> None:
    assert f"{fg.constant(1.23456):.2f}" == "1.23"
    assert f"{fg.constant(7):03d}" == "007"
    assert f"{fg.constant([1.0, 2.0])}" == "[1. 2.]"
    with pytest.raises(TypeError):
        f"{fg.constant([1.0, 2.0]):.2f}"


# What is known without computing.


def test_properties() -> None:
    x = symbolic(4, 3)
    assert (x.shape, x.ndim, x.size, x.dtype) == ((4, 3), 2, 12, np.float32)
    assert x.type is tensor_type((4, 3), np.float32)
    assert symbolic(Dim("n"), 3).size is None
    assert (x.T.shape, x.mT.shape) == ((3, 4), (3, 4))
    assert symbolic(2, 4, 3).mT.shape == (2, 3, 4)
    assert symbolic(2, 4, 3).T.shape == (3, 4, 2)
    refused(lambda: symbolic(3).mT, ShapeError, "x.mT", "x has 1 axes")


def test_nothing_is_computed_until_it_is_asked_for() -> None:
    x = fg.constant(X)
    y = fg.exp(x) @ x.T
    assert y.node.memo is None
    assert (y.shape, y.dtype) == ((2, 2), np.float64)
    y.numpy()
    assert y.node.memo is not None
    assert y.node.inputs == ()


def test_many_pending_operations_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgraph.context import Hooks

    monkeypatch.setattr(Hooks, "pending_limit", 20)
    x = fg.constant(0.0)
    for _ in range(50):
        x = x + 1
        assert x.node.depth <= 21
    assert float(x) == 50


# The methods that numpy people type.


def test_methods() -> None:
    x = fg.constant(X)
    assert (
        x.reshape(3, 2).tolist()
        == x.reshape((3, 2)).tolist()
        == x.reshape([3, -1]).tolist()
        == X.reshape(3, 2).tolist()
    )
    assert x.reshape(-1).shape == (6,)
    assert x.reshape(np.int64(6)).shape == (6,)
    assert x.transpose().tolist() == x.transpose(1, 0).tolist() == x.transpose((1, 0)).tolist() == X.T.tolist()
    assert x.sum().item() == 21
    assert x.sum(0).tolist() == x.sum(axis=-2).tolist() == [5, 7, 9]
    assert x.sum(axis=1, keepdims=True).shape == (2, 1)
    assert (x.mean().item(), x.max().item(), x.min().item()) == (3.5, 6, 1)
    assert x.mean(axis=1).tolist() == [2, 5]
    assert (x.max(axis=0).tolist(), x.min(axis=1).tolist()) == ([4, 5, 6], [1, 4])


@pytest.mark.parametrize(
    ("call", "kind", "asked", "found"),
    [
        (lambda x: x.reshape(4), ShapeError, "float64[2, 3] in shape (4,)", "it has 6 elements, the shape has 4"),
        (
            lambda x: x.reshape(-1, -1),
            ShapeError,
            "in shape (-1, -1)",
            "it has 6 elements, the shape has two lengths -1",
        ),
        (lambda x: x.reshape(4, -1), ShapeError, "in shape (4, -1)", "6 elements do not divide into parts of 4"),
        (lambda x: x.reshape(0, -1), ShapeError, "in shape (0, -1)", "6 elements do not divide into parts of 0"),
        (lambda x: x.reshape(2.0, 3), UsageError, "shape (2.0, 3)", "2.0 is no length"),
        (lambda x: x.reshape(-2, 3), UsageError, "shape (-2, 3)", "-2 is no length"),
        (lambda x: x.reshape(6, order="F"), UsageError, "reshape with order='F'", "row by row"),
        (lambda x: x.transpose(0, 0), UsageError, "axes=(0, 0)", "not every axis is named once"),
        (lambda x: x.transpose(0, 2), ShapeError, "axis 2 of a tensor with 2 axes", "axes go from -2 to 1"),
        (lambda x: x.sum(axis=2), ShapeError, "axis 2 of a tensor with 2 axes", "axes go from -2 to 1"),
        (lambda x: x.sum(axis=0.5), UsageError, "axis=0.5", "an axis is an integer"),
        (lambda x: x.sum(axis=(0, 0)), UsageError, "axis=(0, 0)", "an axis occurs twice"),
        (lambda x: fg.sum(x, out=x), UsageError, "sum(float64[2, 3])", "unexpected keyword argument 'out'"),
        (lambda x: x.sum(out=x), UsageError, "a reduction into `out`", "tensors are never written to"),
        (lambda x: x.astype("text"), DTypeError, "a tensor of dtype 'text'", "tensors hold"),
        (lambda x: fg.squeeze(x, 0), ShapeError, "squeeze axis 0 of float64[2, 3]", "its length is 2, not 1"),
        (lambda x: fg.expand_dims(x, 4), ShapeError, "axis 4 of a tensor with 3 axes", "axes go from"),
        (lambda x: fg.broadcast_to(x, (3,)), ShapeError, "to broadcast shape (2, 3) to (3,)", "fewer axes"),
        (lambda x: fg.broadcast_to(x, (4, 3)), ShapeError, "broadcast_to(float64[2, 3])", "has length 2"),
        (lambda x: fg.concat([x, x.T]), ShapeError, "concat(float64[2, 3], float64[3, 2])", "has length 3"),
        (lambda x: fg.concat([x, x[0]]), ShapeError, "concat", "they differ in their number of axes"),
        (lambda x: fg.concat([]), UsageError, "concat of no tensors", "there is nothing to join"),
        (lambda x: fg.concat(3), UsageError, "concat(3)", "that is no list of tensors"),
        (lambda x: fg.arange(0, 5, 0), UsageError, "arange with step 0", "it would never end"),
        (lambda x: fg.arange("a"), UsageError, "arange(0, 'a', 1)", "not all of these are numbers"),
        (lambda x: fg.shard(x, rows=0), UsageError, "shard(float64[2, 3]): rows=0", "that is no number of shards"),
        (lambda x: fg.shard(1.0, rows=2), UsageError, "shard(float32[]): rows=2", "a scalar has no rows"),
        (
            lambda x: fg.random.uniform((2,), dtype="int32"),
            UsageError,
            "random int32 without maxval",
            "no natural range",
        ),
        (lambda x: fg.random.uniform((2,), 5, 5, "int32"), UsageError, "integers in [5, 5)", "the range is empty"),
        (lambda x: fg.random.uniform((2,), 0, 300, "uint8"), DTypeError, "random uint8 in [0, 300)", "0 to 255"),
        (
            lambda x: fg.random.uniform((2,), dtype=bool),
            DTypeError,
            "random numbers of bool",
            "neither integer nor real",
        ),
        (lambda x: fg.random.normal((2,), dtype=int), DTypeError, "normal numbers of dtype int32", "they are real"),
        (lambda x: fg.random.normal((-2,)), UsageError, "shape (-2,)", "-2 is no length"),
        (lambda x: fg.from_blocks([]), FlowgraphError, "a tensor of blocks", "there are none"),
    ],
)
def test_mistakes_are_named(call: Any, kind: Any, asked: str, found: str) -> None:
    refused(lambda: call(fg.constant(X)), kind, asked, found)


# Numpy's functions.


def test_numpy_functions_give_tensors() -> None:
    x = fg.constant([1.0, 2.0])
    array = np.array([10.0, 20.0], "float32")
    cases = {
        np.add(array, x): [11, 22],
        np.subtract(x, array): [-9, -18],
        np.multiply(2, x): [2, 4],
        np.true_divide(array, x): [10, 10],
        np.power(x, 2): [1, 4],
        np.sqrt(np.square(x)): [1, 2],
        np.maximum(x, 1.5): [1.5, 2],
        np.greater(x, 1): [False, True],
        np.matmul(x, array): 50,
        np.sum(x): 3,
        np.mean(x, axis=0): 1.5,
        np.max(x): 2,
        np.min(x, axis=0, keepdims=True): [1],
        np.sum(x, dtype="float64"): 3,
        np.transpose(x): [1, 2],
        np.reshape(x, (2, 1)): [[1], [2]],
    }
    for result, value in cases.items():
        assert type(result) is Tensor
        assert result.tolist() == value
    assert np.exp(x).dtype == np.float32


def test_numpy_functions_without_an_op() -> None:
    x = fg.constant([1.0, 2.0])
    error = refused(lambda: np.frexp(x), UsageError, "np.frexp on a tensor", "flowgraph has no such operation")
    assert "x.numpy()" in error.remedy
    refused(lambda: np.add.reduce(x), UsageError, "np.add on a tensor", "with method reduce and []")
    refused(lambda: np.add(x, x, out=np.ones(2)), UsageError, "np.add on a tensor", "with method __call__ and ['out']")
    array = np.ones(2)
    with pytest.raises(UsageError):
        array += x


# Ops whose arguments have several forms.


def test_filled_tensors() -> None:
    assert fg.zeros((2, 0)).shape == (2, 0)
    assert fg.ones(3).tolist() == [1, 1, 1]
    assert fg.ones((), "int32").item() == 1
    assert fg.full((2,), 7).dtype == np.int32
    assert fg.full((2, 2), [1.0, 2.0]).tolist() == [[1, 2], [1, 2]]
    assert (fg.zeros_like([1, 2]).dtype, fg.ones_like(fg.constant(X)).shape) == (np.int32, (2, 3))
    assert fg.zeros_like(symbolic(Dim("n"), 2)).ndim == 2


@pytest.mark.parametrize(
    "arguments", [(5,), (2, 7), (2, 7, 2), (7, 2, -2), (0, 1, 0.1), (1.5,), (3, 3), (5, 2), (0, -3, -1), (np.int64(4),)]
)
def test_arange(arguments: Any) -> None:
    wanted = np.arange(*arguments)
    found = fg.arange(*arguments)
    assert found.dtype == (np.int32 if wanted.dtype.kind == "i" else np.float32)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6, atol=1e-6)


def test_arange_of_other_dtypes() -> None:
    assert fg.arange(3, dtype="float64").dtype == np.float64
    assert fg.arange(2**40, 2**40 + 2).tolist() == [2**40, 2**40 + 1]
    assert fg.arange(fg.constant(3)).tolist() == [0, 1, 2]
    refused(lambda: fg.arange(300, dtype="uint8", step=-1, stop=-1), DTypeError, "the number 300 as uint8", "hold")


def test_reductions_of_nothing() -> None:
    empty = fg.zeros((0, 3))
    assert empty.sum(axis=0).tolist() == [0, 0, 0]
    assert empty.sum().item() == 0
    assert empty.sum(axis=1).shape == (0,)
    assert fg.logsumexp(empty, axis=0).tolist() == [-np.inf] * 3
    assert np.isnan(fg.mean(empty).item())
    assert empty.max(axis=1).shape == (0,)
    refused(empty.max, ShapeError, "the largest element of float32[0, 3]", "there is none")
    refused(lambda: fg.min(empty, axis=0), ShapeError, "the smallest element of float32[0, 3]", "there is none")


def test_sums_of_small_integers_do_not_overflow() -> None:
    assert fg.sum(fg.constant([200, 200], "uint8")).item() == 400
    assert fg.sum(fg.constant([100, 100], "int8")).dtype == np.int32
    assert fg.sum(fg.constant([True, True, False])).item() == 2
    assert fg.sum(fg.constant([1, 2], "int64")).dtype == np.int64
    assert fg.mean(fg.constant([1, 2])).dtype == np.float32


def test_standard_deviations() -> None:
    x = fg.constant(X)
    np.testing.assert_allclose(fg.std(x, axis=0).numpy(), X.std(axis=0))
    np.testing.assert_allclose(fg.std(x, correction=1).numpy(), X.std(ddof=1))
    np.testing.assert_allclose(fg.var(x, axis=1, keepdims=True).numpy(), X.var(axis=1, keepdims=True))


def test_random_numbers_by_seed() -> None:
    one, same, other = (fg.random.uniform((3, 2), seed=seed).numpy() for seed in (1, 1, 2))
    assert one.tolist() == same.tolist() != other.tolist()
    fg.random.set_seed(5)
    first = [fg.random.normal((3,)).tolist() for _ in range(2)]
    fg.random.set_seed(5)
    again = [fg.random.normal((3,)).tolist() for _ in range(2)]
    assert first == again
    assert first[0] != first[1]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform_numbers_lie_in_their_interval(dtype: str) -> None:
    drawn = fg.random.uniform((200, 500), dtype=dtype, seed=1).numpy().astype("float64")
    assert 0 <= drawn.min() < 0.01
    assert 0.99 < drawn.max() < 1
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
    drawn = fg.random.uniform((1000,), -2, 6, dtype, seed=1).numpy()
    assert -2 <= drawn.min() < -1.5
    assert 5.5 < drawn.max() <= 6


def test_normal_numbers_have_their_moments() -> None:
    drawn = fg.random.normal((100_000,), mean=3.0, stddev=2.0, dtype="float64", seed=2).numpy()
    assert (drawn.mean(), drawn.std()) == (pytest.approx(3, abs=0.03), pytest.approx(2, abs=0.03))
    assert abs(((drawn - 3) / 2) ** 3).mean() == pytest.approx(np.sqrt(8 / np.pi), rel=0.03)


def test_random_integers_take_every_value() -> None:
    drawn = fg.random.uniform((10_000,), -3, 4, "int8", seed=3).numpy()
    assert drawn.dtype == np.int8
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert abs(counts - 10_000 / 7).max() < 150
    wide = fg.random.uniform((1000,), -(2**63), 2**63 - 1, "int64", seed=3).numpy()
    assert wide.min() < -(2**62) < 2**62 < wide.max()


def test_draws_do_not_depend_on_how_they_are_cut() -> None:
    """Any slice of a large draw is what the whole has there."""
    whole = fg.random.normal((1000, 7), seed=9)
    for rows in (1, 2, 3, (0, 999, 1)):
        assert fg.shard(whole, rows=rows).numpy().tobytes() == whole.numpy().tobytes()


def test_what_lies_outside_is_an_index_error_too() -> None:
    x = fg.constant([1.0, 2.0])
    with pytest.raises(IndexError):
        fg.expand_dims(x, axis=3)
    with pytest.raises(IndexError):
        x[2]
    with pytest.raises(ValueError, match="axis 1"):
        fg.sum(x, axis=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: fg.add(x, [0.1]),
        lambda x: [0.1] - x,
        lambda x: fg.where(x > 0, x, [0.1]),
        lambda x: fg.concat([x, [0.1]])[1:],
        lambda x: fg.stack([[0.1], x])[0],
        lambda x: fg.einsum("i,i->i", fg.ones_like(x), [0.1]),
        lambda x: fg.sqrt(fg.keras.losses.mse([0.1], x)),
    ],
)
def test_a_list_of_floats_has_the_precision_of_what_it_meets(call: Any) -> None:
    """0.1 as a float32 is off in the ninth digit."""
    assert call(fg.constant(np.zeros(1))).numpy() == pytest.approx(0.1, rel=1e-15)
    assert call(fg.constant(np.zeros(1, np.float32))).dtype == np.float32
    assert fg.add(fg.constant([1]), [0.5]).dtype == np.float32


def test_the_line_of_a_tensor_is_that_of_its_call() -> None:
    x, first = fg.constant(X), sys._getframe().f_lineno + 2
    made = (
        x + 1,
        fg.add(
            x,
            2,
        ),
        x[1:],
    )
    found = [describe_line(one.node.where) for one in made]
    assert found == [f"{__file__}:{first + n}" for n in (0, 1, 5)]
    sent = pickle.loads(pickle.dumps(collection._recipe(made[1].node, 1, False)[0]))
    assert describe_line(sent.steps[-1].where) == found[1]


def test_a_node_costs_the_same_in_a_long_function() -> None:
    """Python finds the line of an instruction from the start of its function."""
    x = fg.constant(X)

    def seconds(lines: int) -> float:
        made: dict[str, Any] = {}
        exec("def calls(x):\n" + "    x.node\n" * lines + "    for _ in range(300): x + x\n", made)
        return min(timeit.repeat(lambda: made["calls"](x), number=1, repeat=7))

    assert seconds(20_000) < 2 * seconds(1) + 0.02
