"""Element by element: the standard's special values and dtype rules, the operators, and what is refused."""

from __future__ import annotations

import operator
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
import scipy.special

import flowgraph as fg
from flowgraph.errors import DTypeError, FlowgraphError, ShapeError, UsageError
from flowgraph.tensor import Tensor

INF, NAN = np.inf, np.nan
FLOATS = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3e300, INF, -INF, NAN, 0.9, 100.0])
ONE = """abs acos acosh asin asinh atan atanh ceil cos cosh exp expm1 floor isfinite isinf isnan log log10 log1p log2
negative positive reciprocal round sign signbit sin sinh sqrt square tan tanh trunc""".split()
TWO = """add atan2 copysign divide equal floor_divide greater greater_equal hypot less less_equal logaddexp maximum
minimum multiply nextafter not_equal pow remainder subtract""".split()
INTEGERS = "int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ONE)
def test_special_values_of_one_operand(name: str) -> None:
    wanted = np.asarray(getattr(strict, name)(strict.asarray(FLOATS)))
    found = getattr(fg, name)(fg.constant(FLOATS)).numpy()
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-15)
    if wanted.dtype.kind == "f":
        known = ~np.isnan(wanted)
        assert np.array_equal(np.signbit(found)[known], np.signbit(wanted)[known])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", TWO)
def test_special_values_of_two_operands(name: str) -> None:
    floats = FLOATS[np.isfinite(FLOATS)] if name == "floor_divide" else FLOATS  # see the test below
    x, y = floats[:, None], floats
    wanted = np.asarray(getattr(strict, name)(strict.asarray(x), strict.asarray(y)))
    found = getattr(fg, name)(fg.constant(x), fg.constant(y)).numpy()
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-15)


FLOOR_DIVIDE = [  # (x, y, x // y) where the standard has another answer than numpy
    *[(INF, 2.0, INF), (INF, -2.0, -INF), (-INF, 2.0, -INF), (-INF, -2.0, INF), (INF, INF, NAN), (INF, -INF, NAN)],
    *[(1.0, -INF, -0.0), (-1.0, INF, -0.0), (1.0, INF, 0.0), (-1.0, -INF, 0.0), (INF, NAN, NAN), (NAN, INF, NAN)],
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floor_division_with_infinities_as_the_standard_has_it(dtype: Any) -> None:
    x, y, wanted = np.array([*FLOOR_DIVIDE, (7.0, -2.0, -4.0)], dtype).T
    assert_bits(fg.floor_divide(x, y), wanted)
    assert_bits(fg.constant(x) // y, wanted)
    assert_bits(np.floor_divide(fg.constant(x), y), wanted)
    assert_bits((fg.constant(x) + 0) // (fg.constant(y) + 0), wanted)  # in memory that is written over
    for one in FLOOR_DIVIDE:
        assert_bits(fg.constant(one[0], dtype) // one[1], np.array(one[2], dtype))


EXPM1 = [  # (z, expm1(z)) of complex numbers; nan stands for a part of which the standard says nothing or nan
    (complex(-0.0, 0.0), complex(0.0, 0.0)),
    (complex(0.0, -0.0), complex(0.0, -0.0)),
    (complex(INF, 0.0), complex(INF, 0.0)),
    (complex(-INF, INF), complex(-1.0, NAN)),
    (complex(INF, INF), complex(INF, NAN)),
    (complex(-INF, NAN), complex(-1.0, NAN)),
    (complex(INF, NAN), complex(INF, NAN)),
    (complex(NAN, 0.0), complex(NAN, 0.0)),
    (complex(-INF, 2.0), complex(-1.0, 0.0)),
    (complex(1.0, INF), complex(NAN, NAN)),
]


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_expm1_of_complex_infinities_as_the_standard_has_it(dtype: Any) -> None:
    z, wanted = np.array(EXPM1, dtype).T
    for found in (fg.expm1(z).numpy(), fg.expm1(fg.constant(z) * 1).numpy()):
        for part, known in ((found.real, wanted.real), (found.imag, wanted.imag)):
            sure = ~np.isnan(known)
            np.testing.assert_array_equal(np.abs(part[sure]), np.abs(known[sure]))
        assert np.isinf(found.real[4]) and np.isnan(found.imag[4])
    small = np.array([1e-9 + 1e-9j, 0.5 - 2j], dtype)
    np.testing.assert_array_equal(fg.expm1(small).numpy(), np.expm1(small))


@pytest.mark.parametrize("real", [INF, -INF])
@pytest.mark.parametrize("imag", [0.5, 2.0, 3.0, -2.0, 0.0, -0.0, INF, NAN])
def test_tanh_of_complex_infinities_as_the_standard_has_it(real: float, imag: float) -> None:
    (found,) = fg.tanh(np.array([complex(real, imag)])).numpy()
    assert (found.real, found.imag) == (np.copysign(1, real), 0)
    assert np.isnan(imag) or np.signbit(found.imag) == np.signbit(imag)


def assert_bits(found: Any, wanted: Any) -> None:
    found = found.numpy()
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)
    known = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(found[known]), np.signbit(wanted[known]))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_stay_integers(dtype: str) -> None:
    data = np.array([0, 1, 2, 7, 100], dtype)
    x = fg.constant(data)
    for name in ("ceil", "floor", "round", "trunc", "abs", "sign", "square", "positive", "conj", "real"):
        result = getattr(fg, name)(x)
        assert result.dtype == dtype, name
        assert result.numpy().tolist() == np.asarray(getattr(np, name)(data)).tolist(), name
    three = fg.constant(np.array(3, dtype))
    for sign in (operator.floordiv, operator.mod, operator.lshift, operator.rshift, operator.pow):
        other = fg.constant(np.array(1, dtype)) if sign is operator.lshift else three
        result = sign(x, other)
        assert result.dtype == dtype
        assert result.numpy().tolist() == sign(data, other.numpy()).tolist()
    for name in ("divide", "atan2", "hypot", "logaddexp", "copysign"):
        assert getattr(fg, name)(x, three).dtype == np.float32
    for name in ("exp", "sin", "reciprocal", "log2", "erf", "gelu", "softsign"):
        assert getattr(fg, name)(x).dtype == np.float32
    assert fg.isnan(x).tolist() == fg.isinf(x).tolist() == fg.signbit(x).tolist() == [False] * 5
    assert fg.clip(x, 1, 50).tolist() == [1, 1, 2, 7, 50]
    assert fg.clip(x, 1, 50).dtype == dtype


def test_negative_integers_are_rounded_down() -> None:
    x = fg.constant([-7, 7, -7, 7])
    y = fg.constant([2, 2, -2, -2])
    assert (x // y).tolist() == [-4, 3, 3, -4]
    assert (x % y).tolist() == [1, 1, -1, -1]
    assert [one.tolist() for one in divmod(x, y)] == [[-4, 3, 3, -4], [1, 1, -1, -1]]
    assert (x >> 1).tolist() == [-4, 3, -4, 3]


def test_mixed_kinds() -> None:
    i, f, u = fg.constant([5]), fg.constant([2.0]), fg.constant(np.array([3], np.uint8))
    assert (i // f).dtype == (f % i).dtype == fg.atan2(i, f).dtype == np.float32
    assert (i // u).dtype == (u << i).dtype == np.int32
    assert fg.hypot(np.ones(1), f).dtype == np.float64
    with pytest.raises(DTypeError, match="no integer dtype holds"):
        fg.constant(np.array([1], np.uint64)) // fg.constant(np.array([1], np.int64))


# Operators.

OPERATORS: dict[str, Any] = {
    "//": (operator.floordiv, operator.ifloordiv),
    "%": (operator.mod, operator.imod),
    "<<": (operator.lshift, operator.ilshift),
    ">>": (operator.rshift, operator.irshift),
    "+": (operator.add, operator.iadd),
    "-": (operator.sub, operator.isub),
    "*": (operator.mul, operator.imul),
    "**": (operator.pow, operator.ipow),
    "&": (operator.and_, operator.iand),
    "|": (operator.or_, operator.ior),
    "^": (operator.xor, operator.ixor),
}


@pytest.mark.parametrize("kind", ["tensor", "variable"])
@pytest.mark.parametrize("sign", OPERATORS)
def test_operators_of_integers(sign: str, kind: str) -> None:
    plain, in_place = OPERATORS[sign]
    data = np.array([1, 6, 3], np.int32)
    x = fg.constant(data) if kind == "tensor" else fg.Variable(data)
    for other in (2, np.array([2, 1, 3], np.int32), fg.constant([2, 1, 3]), [2, 1, 3]):
        value = other.numpy() if isinstance(other, Tensor) else np.asarray(other, np.int32)
        assert plain(x, other).numpy().tolist() == plain(data, value).tolist()
        assert plain(other, x).numpy().tolist() == plain(value, data).tolist()
        changed = in_place(x, other)
        assert type(changed) is Tensor
        assert changed.numpy().tolist() == plain(data, value).tolist()
        assert x.numpy().tolist() == data.tolist(), "the old handle has its value"


def test_division_and_products_in_place() -> None:
    x = old = fg.constant([[1.0, 2.0], [3.0, 4.0]])
    x /= 2
    x @= fg.constant([[0.0, 1.0], [1.0, 0.0]])
    assert x.tolist() == [[1, 0.5], [2, 1.5]]
    assert old.tolist() == [[1, 2], [3, 4]]
    v = fg.Variable([1.0, 2.0])
    v *= 3
    assert isinstance(v, Tensor)
    assert v.tolist() == [3, 6]


def test_in_place_keeps_shape_and_dtype() -> None:
    x = fg.constant([1, 2])
    for change, kind in (
        (lambda: operator.iadd(x, 0.5), DTypeError),
        (lambda: operator.itruediv(x, 2), DTypeError),
        (lambda: operator.iadd(x, [[1], [2]]), ShapeError),
        (lambda: operator.imul(fg.constant(1.0), fg.constant([1.0, 2.0])), ShapeError),
    ):
        with pytest.raises(kind, match="Write x = x"):
            change()
    with pytest.raises(TypeError):
        operator.iadd(x, "text")


def test_divmod_on_either_side() -> None:
    x = fg.constant([5.0, -5.0])
    for found, wanted in (
        (divmod(x, 3), ([1, -2], [2, 1])),
        (divmod(7, x), ([1, -2], [2, -3])),
        (divmod(np.array([7.0, 7.0], np.float32), x), ([1, -2], [2, -3])),
        (divmod(fg.Variable([5.0, -5.0]), 3), ([1, -2], [2, 1])),
        (divmod(7, fg.Variable([5.0, -5.0])), ([1, -2], [2, -3])),
        (np.divmod(x, 3), ([1, -2], [2, 1])),
    ):
        assert tuple(one.tolist() for one in found) == wanted
    for call in (lambda: divmod(x, "3"), lambda: divmod("3", x)):
        with pytest.raises(TypeError):
            call()


def test_python_numbers_take_the_dtype_of_the_tensor() -> None:
    small = fg.constant(np.array([1, 2], np.int8))
    for result in (small + 1, 1 - small, small // 2, small << 1, small % 2, 2**small, small**2):
        assert result.dtype == np.int8
    for result in (small + 0.5, small % 0.5, small // 2.0):
        assert result.dtype == np.float32
    half = fg.constant(np.array([1, 2], np.float16))
    assert (half + 1).dtype == (half * 0.5).dtype == fg.sin(half).dtype == fg.erf(half).dtype == np.float16


@pytest.mark.parametrize("value", [300, -1, 2**40])
def test_python_integers_out_of_range(value: int) -> None:
    x = fg.constant(np.array([1, 2], np.uint8))
    for sign in (operator.add, operator.mul, operator.floordiv, operator.lt, operator.eq, operator.and_):
        for call in (lambda: sign(x, value), lambda: sign(value, x)):  # noqa: B023
            with pytest.raises(DTypeError, match="can not hold it"):
                call()


def test_large_python_floats_are_infinite() -> None:
    assert (fg.constant([1.0]) * 1e300).tolist() == [INF]
    assert (fg.constant(np.array([1.0])) * 1e300).tolist() == [1e300]


def test_negative_powers_of_integers() -> None:
    x = fg.constant([1, 2])
    for call in (
        lambda: x**-1,
        lambda: fg.pow(x, -2),
        lambda: fg.Variable([1, 2]) ** -1,
        lambda: operator.ipow(x, -1),
        lambda: np.power(x, -1),
    ):
        with pytest.raises(DTypeError, match="the result is no integer"):
            call()
    assert (x**-1.0).tolist() == [1, 0.5]
    assert (fg.cast(x, "float32") ** -1).tolist() == [1, 0.5]
    assert (2**x).tolist() == [2, 4]


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda x, b: x << 1, "only integers have places"),
        (lambda x, b: b << b, "only integers have places"),
        (lambda x, b: x & 1, "no truth values and no bits"),
        (lambda x, b: -b, "not defined"),
        (lambda x, b: fg.positive(b), "not defined"),
        (lambda x, b: fg.floor(b), "all operands are bool"),
        (lambda x, b: b // b, "all operands are bool"),
        (lambda x, b: b % b, "all operands are bool"),
        (lambda x, b: fg.clip(b, 0, 1), "all operands are bool"),
    ],
)
def test_refused_dtypes(call: Any, found: str) -> None:
    with pytest.raises(DTypeError) as raised:
        call(fg.constant([1.5]), fg.constant([True]))
    assert found in str(raised.value)


def test_numpys_functions() -> None:
    x = fg.constant([0.3, 0.6])
    for function in (np.arctan, np.sin, np.floor, np.log2, np.isnan, np.cbrt, np.deg2rad):
        result = function(x)
        assert type(result) is Tensor
        np.testing.assert_allclose(result.numpy(), function(x.numpy()), rtol=1e-6)
    for function in (np.hypot, np.arctan2, np.floor_divide, np.remainder, np.logaddexp, np.copysign):
        result = function(np.float32([0.5, 0.7]), x)
        assert type(result) is Tensor
        np.testing.assert_allclose(result.numpy(), function(np.float32([0.5, 0.7]), x.numpy()), rtol=1e-6)


# Clip.


def test_clip() -> None:
    x = fg.constant([-2.0, 0.5, 3.0, NAN])
    np.testing.assert_array_equal(fg.clip(x, 0, 1).numpy(), [0, 0.5, 1, NAN])
    np.testing.assert_array_equal(fg.clip(x, max=1).numpy(), [-2, 0.5, 1, NAN])
    np.testing.assert_array_equal(fg.clip(x, min=fg.constant([0.0, 1, 1, 1])).numpy(), [0, 1, 3, NAN])
    assert fg.clip(x) is x
    assert fg.clip(x, 1, 0).tolist()[:3] == [0, 0, 0], "as numpy: the upper bound has the last word"
    assert fg.clip(fg.ones((2, 3)) * 5, 0.0, fg.constant([1.0, 2.0, 3.0])).tolist() == [[1, 2, 3]] * 2


def test_clip_keeps_the_dtype() -> None:
    small = fg.constant(np.array([-5, 5], np.int8))
    assert fg.clip(small, np.int64(-3), np.array(1000)).dtype == np.int8
    assert fg.clip(small, np.int64(-3), np.array(1000)).tolist() == [-3, 5]
    single = fg.constant([0.25, 0.75])
    assert fg.clip(single, np.float64(0.5), np.array(1.0)).dtype == np.float32
    with pytest.raises(DTypeError):
        fg.clip(fg.constant(np.array([1], np.uint8)), -1, 300)


# Special functions and activations.

POINTS = np.array([-50.0, -8.0, -2.5, -1.0, -1e-3, 0.0, 1e-6, 0.7, 1.0, 3.0, 9.0, 60.0])
FORMULAS: dict[str, Any] = {
    "log_sigmoid": scipy.special.log_expit,
    "silu": lambda x: x * scipy.special.expit(x),
    "swish": lambda x: x * scipy.special.expit(x),
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "i0e": scipy.special.i0e,
    "i1e": scipy.special.i1e,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_accuracy(name: str) -> None:
    """To a few roundings of each element, in either precision: what underflows in a formula must not in ours."""
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 3e-6)):
        found = getattr(fg, name)(fg.constant(POINTS.astype(dtype))).numpy()
        assert found.dtype == dtype
        wanted = FORMULAS[name](POINTS.astype(dtype).astype(np.float64))
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=1e-30 if dtype == np.float64 else 1e-37)


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_of_composed_functions(name: str) -> None:
    x = fg.constant(POINTS[np.abs(POINTS) > 1e-2])
    first = fg.gradient(getattr(fg, name)(x).sum(), x)
    second = fg.gradient(first.sum(), x, unconnected_gradients="zero")
    h = 1e-5

    def slope(at: Any) -> Any:
        at = fg.constant(at)
        return fg.gradient(getattr(fg, name)(at).sum(), at).numpy()

    data = x.numpy()
    wanted = (getattr(fg, name)(data + h).numpy() - getattr(fg, name)(data - h).numpy()) / (2 * h)
    bend = (slope(data + h) - slope(data - h)) / (2 * h)
    np.testing.assert_allclose(slope(data), wanted, rtol=1e-6, atol=1e-7)
    x = fg.constant(data)
    second = fg.gradient(fg.gradient(getattr(fg, name)(x).sum(), x).sum(), x, unconnected_gradients="zero")
    np.testing.assert_allclose(second.numpy(), bend, rtol=1e-6, atol=1e-6)


def test_gelu_by_tanh() -> None:
    x = np.linspace(-6, 6, 41)
    wanted = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(fg.gelu(x, approximate=True).numpy(), wanted, rtol=1e-9, atol=1e-15)


def test_activations_of_nan_and_of_integers() -> None:
    for name in ("relu6", *FORMULAS):
        function = getattr(fg, name)
        assert np.isnan(function(fg.constant([NAN])).numpy()).all(), name
        assert function(fg.constant([1, 2])).dtype == (np.int32 if name == "relu6" else np.float32), name
        assert function([0.5]).shape == (1,), name


def test_logarithms_of_softmax() -> None:
    x = np.array([[1e4, 0.0, -1e4], [1.0, 2.0, 3.0], [-INF, 0.0, 0.0]])
    wanted = scipy.special.log_softmax(x, axis=-1)
    np.testing.assert_allclose(fg.log_softmax(fg.constant(x)).numpy(), wanted)
    tensor = fg.constant(x)
    grad = fg.gradient(fg.log_softmax(tensor)[:, 1].sum(), tensor).numpy()
    np.testing.assert_allclose(grad, np.eye(3)[1] - np.exp(wanted), atol=1e-15)
    with pytest.raises(ShapeError):
        fg.log_softmax(fg.constant(1.0))


def test_polygamma() -> None:
    x = np.array([0.5, 1.0, 7.5])
    for n in (0, 1, 5):
        np.testing.assert_allclose(fg.polygamma(n, x).numpy(), scipy.special.polygamma(n, x))
    for wrong in (-1, 0.5, True):
        with pytest.raises(UsageError, match="no order"):
            fg.polygamma(wrong, x)


def test_shifted_and_scaled_logarithms() -> None:
    assert fg.xlogy([0.0, 0.0, 2.0], [0.0, INF, 0.0]).tolist() == [0, 0, -INF]
    assert np.isnan(fg.xlogy([0.0], [NAN]).numpy()).all()
    assert fg.logaddexp2([1.0, -INF], [1.0, -INF]).tolist() == [2, -INF]
    assert fg.logit([0.0, 0.5, 1.0]).tolist() == [-INF, 0, INF]
    assert fg.sinc([0.0, 1.0, -3.0, 1e6]).tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(fg.sinc([0.5, -2.5]).numpy(), np.sinc([0.5, -2.5]), rtol=1e-6)
    assert fg.squared_difference([1, 5], 3).tolist() == [4, 4]
    assert fg.cbrt([-8.0, 27.0]).tolist() == [-2, 3]


# Dtypes.


def test_result_type() -> None:
    x = fg.constant([1.0])
    assert fg.result_type(fg.int8, fg.int32) == np.int32
    assert fg.result_type(x, fg.int64) == np.float32
    assert fg.result_type(x, np.ones(1), fg.Variable(1)) == np.float64
    assert fg.result_type(fg.int8, 1) == np.int8
    assert fg.result_type(fg.int8, 1.5) == fg.result_type(1, 1.5) == np.float32
    assert fg.result_type(fg.float64, 1j) == np.complex128
    assert fg.result_type(fg.bool, True) == np.bool_
    assert fg.result_type(1, True) == np.int32
    with pytest.raises(UsageError, match="no operands"):
        fg.result_type()
    with pytest.raises(DTypeError):
        fg.result_type(fg.uint64, fg.int8)
    with pytest.raises(DTypeError):
        fg.result_type("text")


@pytest.mark.parametrize("a", [*INTEGERS, "float32", "float64", "complex64", "complex128", "bool"])
@pytest.mark.parametrize("b", [*INTEGERS, "float32", "float64", "complex64", "complex128", "bool"])
def test_promotion_is_the_standards_where_it_has_one(a: str, b: str) -> None:
    try:
        wanted = strict.result_type(getattr(strict, a, strict.bool), getattr(strict, b, strict.bool))
    except TypeError:  # kinds that the standard does not mix
        return
    assert str(fg.result_type(a, b)) == str(wanted).rpartition(".")[2]
    assert fg.can_cast(a, b) == (wanted == getattr(strict, b))


def test_can_cast() -> None:
    assert fg.can_cast(fg.constant([1]), fg.int64)
    assert not fg.can_cast(fg.float32, fg.int32)
    assert not fg.can_cast(fg.uint64, fg.int8)


def test_limits() -> None:
    for dtype in ("float32", "float64", "complex64", "complex128"):
        found, wanted = fg.finfo(dtype), np.finfo(dtype)
        for name in ("bits", "eps", "max", "min", "smallest_normal", "dtype"):
            assert getattr(found, name) == getattr(wanted, name)
        assert type(found.eps) is float
    for dtype in INTEGERS:
        found, wanted = fg.iinfo(fg.constant(np.zeros(1, dtype))), np.iinfo(dtype)
        assert (found.bits, found.max, found.min, found.dtype) == (wanted.bits, wanted.max, wanted.min, dtype)
    for call in (lambda: fg.finfo("int32"), lambda: fg.iinfo("float32")):
        with pytest.raises(DTypeError):
            call()


def test_kinds_of_dtypes() -> None:
    kinds = ["bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric"]
    for dtype in (np.bool_, np.int8, np.uint64, np.float32, np.complex128):
        for kind in (*kinds, dtype, np.int16, ("integral", np.float32)):
            assert fg.isdtype(dtype, kind) == np.isdtype(dtype, kind)
            assert fg.isdtype(np.dtype(dtype), kind) == np.isdtype(dtype, kind)
    with pytest.raises(UsageError, match="no kind of dtypes"):
        fg.isdtype(fg.float32, "floating")


def test_astype() -> None:
    x = fg.constant([1.7, -1.7])
    assert fg.astype(x, fg.int32).tolist() == [1, -1]
    assert fg.astype(x, fg.float32, copy=False) is x
    assert fg.astype(x, fg.float32, device="cpu") is not x
    assert fg.astype([1, 2], "float64").dtype == np.float64
    assert x.astype(fg.float32, copy=False) is x
    same = x.astype(fg.float32)
    x[0] = 5.0
    assert same.tolist() == fg.constant([1.7, -1.7]).tolist()
    with pytest.raises(UsageError, match="there is only 'cpu'"):
        x.astype(fg.float32, device="gpu")
    with pytest.raises(UsageError, match="there is only 'cpu'"):
        fg.astype(x, fg.float32, device="gpu")


def test_constants() -> None:
    assert (fg.e, fg.pi, fg.inf) == (np.e, np.pi, np.inf)
    assert np.isnan(fg.nan)
    assert fg.constant([1.0, 2.0])[fg.newaxis].shape == (1, 2)


@pytest.mark.parametrize("name", ["pow", "floor_divide", "atan2", "clip", "logical_xor", "bitwise_left_shift"])
def test_errors_name_the_function(name: str) -> None:
    with pytest.raises(FlowgraphError) as raised:
        getattr(fg, name)(fg.constant([1, 2]), fg.constant([1, 2, 3]))
    assert "(2,)" in str(raised.value) or "[2]" in str(raised.value)


def test_the_gamma_function_grows_without_bound_between_its_poles() -> None:
    """scipy says -inf of lgamma(-inf); C, TensorFlow and PyTorch say inf."""
    assert fg.lgamma([-np.inf, -1.0, np.inf]).tolist() == [np.inf] * 3
