"""Shapes and dtypes: interning, promotion, weak scalars, unknown lengths, axes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.types import (
    Dim,
    affine,
    as_dtype,
    is_float,
    normal_axes,
    normal_axis,
    product,
    promote,
    promote_scalar,
    python_dtype,
    static_size,
    tensor_type,
)

N, M = Dim("n"), Dim("m")


def test_equal_types_are_one_object() -> None:
    one = tensor_type((3, 4), np.float32)
    assert tensor_type([3, 4], "float32") is one
    assert tensor_type((3, 4), np.float64) != one
    assert pickle.loads(pickle.dumps(one)) is one
    assert (one.shape, one.dtype, one.ndim) == ((3, 4), np.dtype(np.float32), 2)


def test_types_print_as_dtype_and_shape() -> None:
    assert repr(tensor_type((3, N), np.float32)) == "float32[3, n]"
    assert repr(tensor_type((), np.int64)) == "int64[]"


def test_types_have_native_byte_order() -> None:
    assert tensor_type((3,), ">f4") is tensor_type((3,), "<f4")
    assert as_dtype(">i8").isnative


def test_dims_are_told_apart_by_identity() -> None:
    assert Dim("n") != N
    assert affine(N, 1) is N
    assert affine(N, 2, -1) is affine(N, 2, -1)
    assert affine(N, 2) != affine(M, 2)


@pytest.mark.parametrize(
    ("dim", "name", "at_5"), [(affine(N, 1, 3), "n+3", 8), (affine(N, 4), "4*n", 20), (affine(N, 2, -1), "2*n-1", 9)]
)
def test_affine_lengths(dim: Dim, name: str, at_5: int) -> None:
    assert repr(dim) == name
    assert dim.value(5) == at_5


def test_numbers_of_elements() -> None:
    assert product((3, 4)) == 12
    assert product(()) == 1
    assert product((3, N, 2)) is affine(N, 6)
    assert product((N, 0)) == 0
    assert product((N, M, 0)) == 0
    assert static_size((3, 4)) == 12
    assert static_size((3, N)) is None


@pytest.mark.parametrize("shape", [(N, M), (N, N), (affine(N, 1, 1), 2)])
def test_a_number_of_elements_that_no_dim_stands_for(shape: Any) -> None:
    with pytest.raises(ShapeError) as raised:
        product(shape)
    assert raised.value.found == "more than one of its lengths is unknown"


# Dtypes.


@pytest.mark.parametrize(
    ("given", "dtype"),
    [(float, "float32"), (int, "int32"), (bool, "bool"), (np.float64, "float64"), ("int8", "int8"), ("<u2", "uint16")],
)
def test_what_a_dtype_may_be_called(given: Any, dtype: str) -> None:
    assert as_dtype(given) == np.dtype(dtype)


@pytest.mark.parametrize("given", [object, "U3", "datetime64[s]", "nonsense", None, 3.5])
def test_what_is_no_dtype(given: Any) -> None:
    with pytest.raises(DTypeError) as raised:
        as_dtype(given)
    assert raised.value.asked == f"a tensor of dtype {given!r}"
    assert raised.value.found == "tensors hold booleans, integers, real and complex numbers"


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (True, "bool"),
        (3, "int32"),
        (2**31 - 1, "int32"),
        (2**31, "int64"),
        (-(2**31), "int32"),
        (-(2**31) - 1, "int64"),
        (1.5, "float32"),
        (np.float64(1.5), "float32"),
        (1j, "complex64"),
    ],
)
def test_python_numbers_have_the_dtypes_of_tensorflow(value: Any, dtype: str) -> None:
    assert python_dtype(value) == np.dtype(dtype)


PROMOTION = """
         bool    int8    int32   int64   uint8   uint32  float16 float32 float64
bool     bool    int8    int32   int64   uint8   uint32  float16 float32 float64
int8     int8    int8    int32   int64   int16   int64   float16 float32 float64
int32    int32   int32   int32   int64   int32   int64   float16 float32 float64
int64    int64   int64   int64   int64   int64   int64   float16 float32 float64
uint8    uint8   int16   int32   int64   uint8   uint32  float16 float32 float64
uint32   uint32  int64   int64   int64   uint32  uint32  float16 float32 float64
float16  float16 float16 float16 float16 float16 float16 float16 float32 float64
float32  float32 float32 float32 float32 float32 float32 float32 float32 float64
float64  float64 float64 float64 float64 float64 float64 float64 float64 float64
"""


def test_promotion() -> None:
    columns, *rows = [line.split() for line in PROMOTION.strip().splitlines()]
    for row, *results in rows:
        for column, result in zip(columns, results, strict=True):
            assert promote(np.dtype(row), np.dtype(column)) == np.dtype(result), (row, column)


def test_no_integer_holds_int64_and_uint64() -> None:
    with pytest.raises(DTypeError) as raised:
        promote(np.dtype(np.int64), np.dtype(np.uint64))
    assert raised.value.asked == "to combine int64 and uint64"
    assert raised.value.found == "no integer dtype holds the values of both"


WEAK = """
         bool    int     float   complex
bool     bool    int32   float32 complex64
int8     int8    int8    float32 complex64
int64    int64   int64   float32 complex64
uint8    uint8   uint8   float32 complex64
float16  float16 float16 float16 complex64
float32  float32 float32 float32 complex64
float64  float64 float64 float64 complex128
complex64 complex64 complex64 complex64 complex64
"""


def test_python_scalars_are_weak() -> None:
    kinds = (bool, int, float, complex)
    for row, *results in [line.split() for line in WEAK.strip().splitlines()[1:]]:
        for kind, result in zip(kinds, results, strict=True):
            assert promote_scalar(kind, np.dtype(row)) == np.dtype(result), (row, kind)


def test_what_has_a_gradient() -> None:
    assert [is_float(np.dtype(one)) for one in ("float16", "complex64", "int32", "bool")] == [True, True, False, False]


# Axes.


def test_axes_count_from_either_end() -> None:
    assert [normal_axis(axis, 3) for axis in (-3, -1, 0, 2)] == [0, 2, 0, 2]
    assert normal_axis(np.int64(1), 2) == 1
    assert normal_axes(None, 3) == (0, 1, 2)
    assert normal_axes((-1, 0), 3) == (0, 2)
    assert normal_axes([1], 3) == (1,)
    assert normal_axes((), 3) == ()


@pytest.mark.parametrize(
    ("axis", "rank", "found"),
    [(2, 2, "axes go from -2 to 1"), (-3, 2, "axes go from -2 to 1"), (0, 0, "the tensor has no axes")],
)
def test_an_axis_that_is_not_there(axis: int, rank: int, found: str) -> None:
    with pytest.raises(ShapeError) as raised:
        normal_axis(axis, rank)
    assert raised.value.found == found


@pytest.mark.parametrize("axis", [1.0, True, "rows", None])
def test_what_is_no_axis(axis: Any) -> None:
    with pytest.raises(UsageError) as raised:
        normal_axis(axis, 2)
    assert raised.value.found == "an axis is an integer"


def test_an_axis_named_twice() -> None:
    with pytest.raises(UsageError, match="an axis occurs twice"):
        normal_axes((1, -1), 2)


def test_a_length_made_of_another_is_the_same_however_many_there_are() -> None:
    rows = Dim("rows")
    made = [affine(rows, 1, -number) for number in range(1, 10_000)]
    assert all(affine(rows, 1, -number) is one for number, one in enumerate(made, 1))
