"""Complex numbers: values and gradients of every op that takes them, TensorFlow's convention, and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import walk

import flowgraph as fg
from flowgraph.errors import DTypeError, GradientError
from flowgraph.graph import interpret
from flowgraph.op import OPS
from flowgraph.ops import comparison, complex as complex_parts, elementwise, exponential, rounding, trig
from flowgraph.types import TensorType

Z = np.array([0.5 + 0.25j, -0.75 + 1.0j])
W = np.array([1.0 - 0.5j, 0.25 + 2.0j])
C = np.array([1.0 + 2.0j, -0.5 + 1.5j])

FAMILIES = (comparison, complex_parts, elementwise, exponential, rounding, trig)
OTHERS = ("sum", "matmul", "inner_product", "transpose", "reshape", "expand_dims", "squeeze", "broadcast_to", "concat")
NAMES = [*dict.fromkeys(name for family in FAMILIES for name in family.__all__ if name in OPS), *OTHERS]


def complex_samples(name: str) -> list[walk.Sample]:
    """The calls of an op that take complex operands of any shape."""
    found = []
    for sample in walk.samples(OPS[name]):
        open_shapes = not any(isinstance(one, TensorType | np.ndarray) for one in sample.operands)
        if (open_shapes or name in complex_parts.__all__) and walk.takes(sample, np.complex128):
            found.append(sample)
    return found


TAKE_THEM = [name for name in NAMES if complex_samples(name)]
SMOOTH = [name for name in TAKE_THEM if name not in ("sign", "where", *comparison.__all__)]


def test_what_takes_complex_numbers() -> None:
    names = set(TAKE_THEM)
    assert names >= {
        *("add subtract multiply divide power negative positive abs exp expm1 log log1p sqrt square tanh".split()),
        *("reciprocal rsqrt sign sin cos tan asin acos atan sinh cosh asinh acosh atanh exp2 log2 log10".split()),
        *("equal not_equal isnan isinf isfinite logical_not where round real imag conj angle astype".split()),
    }
    assert not names & {
        *("less less_equal greater greater_equal maximum minimum relu sigmoid softplus floor ceil trunc".split()),
        *("remainder floor_divide copysign nextafter atan2 hypot logaddexp xlogy cbrt signbit sinc deg2rad".split()),
    }


def check_value_and_type(sample: walk.Sample) -> None:
    def oracle(*operands: Any, **attrs: Any) -> Any:
        node = walk.call(sample, walk.types_of(operands)).results[0]
        op = sample.op
        if isinstance(op.kernel, np.ufunc):
            return np.asarray(op.kernel(*operands)).astype(node.type.dtype)
        return interpret(walk.call(sample, walk.types_of(operands)).graph, operands)[0]

    for dtype in (np.complex128, np.complex64):
        walk.check_types(sample, dtype)
        walk.check_value(sample, dtype, oracle)
        walk.check_in_place(sample, dtype)
    walk.check_shards(sample, np.complex64)
    walk.check_cuts(sample, np.complex128)


@pytest.mark.parametrize("name", TAKE_THEM)
def test_value_and_type(name: str) -> None:
    walk.each(complex_samples(name), check_value_and_type)


def loss_of(results: Any, weights: Any) -> fg.Tensor:
    return sum(fg.real(fg.conj(weight) * result).sum() for weight, result in zip(weights, results, strict=True))


def check_gradient(sample: walk.Sample) -> None:
    """In double precision, whichever the sample asks for."""
    operands = [one.shape if getattr(one, "dtype", None) == np.complex64 else one for one in sample.operands]
    sample = walk.Sample(sample.op, tuple(operands), sample.attrs)
    if walk.differentiable(sample.case(np.complex128).call.results[0].type.dtype):
        assert walk.check_gradient(sample, np.complex128)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_by_central_differences(name: str) -> None:
    """dL/dx + i dL/dy of a real loss L of the result, in a random complex direction; and once more of that."""
    walk.each(complex_samples(name), check_gradient)


# The gradient of real(sum(conj(C) * f(Z))), from PyTorch 2.13, whose convention is the same.
ONE: dict[str, Any] = {
    "exp": [2.413266859277 + 2.787032868161j, 0.468613753657 + 0.581572480654j],
    "log": [4j, -0.72 - 1.04j],
    "sqrt": [0.343560749723 + 1.455346690225j, -0.7 + 0.1j],
    "sin": [0.662932558472 + 1.931409097163j, 0.637066564485 + 2.09411372861j],
    "tanh": [0.418914453664 + 1.799362926216j, 1.543669652527 + 0.533274024616j],
    "atan": [0.466843501326 + 1.7824933687j, 0.767123287671 + 0.62100456621j],
    "asin": [1.395085622383 + 1.983797641638j, -0.727501647799 + 0.821008542977j],
    "acosh": [-1.983797641638 + 1.395085622383j, -0.821008542977 - 0.727501647799j],
    "reciprocal": [3.2 - 6.4j, -1.0112 - 0.0384j],
    "square": [2 + 1.5j, 3.75 - 1.25j],
    "abs": [0.894427191 + 0.4472135955j, 0.3 - 0.4j],
    "angle": [-0.8 + 1.6j, 0.32 + 0.24j],
    "conj": [1 - 2j, -0.5 - 1.5j],
    "real": [1, -0.5],
    "imag": [1j, -0.5j],
    "rsqrt": [0.614580152624 - 2.603403304139j, -0.272 + 0.496j],
}
TWO: dict[str, Any] = {
    "multiply": ([2.5j, 2.875 + 1.375j], [1 + 0.75j, 1.875 - 0.625j]),
    "divide": ([1.6 + 1.2j, -0.769230769231 - 0.153846153846j], [-0.96 + 0.28j, 0.409467455621 - 0.262721893491j]),
    "power": (
        [0.903770215006 + 3.01990740979j, -0.002882689982 + 0.032034545471j],
        [-0.60776521319 - 1.002425360656j, 0.037189418088 - 0.024241993951j],
    ),
    "subtract": ([1 + 2j, -0.5 + 1.5j], [-1 - 2j, 0.5 - 1.5j]),
}


@pytest.mark.parametrize("name", ONE)
def test_gradient_of_one_operand(name: str) -> None:
    z = fg.constant(Z)
    grad = fg.gradient(loss_of([getattr(fg, name)(z)], [C]), z)
    np.testing.assert_allclose(grad.numpy(), ONE[name], rtol=1e-9)


@pytest.mark.parametrize("name", TWO)
def test_gradient_of_two_operands(name: str) -> None:
    z, w = fg.constant(Z), fg.constant(W)
    for grad, wanted in zip(fg.gradient(loss_of([getattr(fg, name)(z, w)], [C]), [z, w]), TWO[name], strict=True):
        np.testing.assert_allclose(grad.numpy(), wanted, rtol=1e-9)


def test_gradients_of_matrix_products() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=s) + 1j * rng.normal(size=s) for s in ((3, 4), (4, 2), (3, 2)))
    x, y = fg.constant(a), fg.constant(b)
    gx, gy = fg.gradient(loss_of([x @ y], [c]), [x, y])
    np.testing.assert_allclose(gx.numpy(), c @ b.conj().T)
    np.testing.assert_allclose(gy.numpy(), a.conj().T @ c)


def test_mean_of_squares() -> None:
    z = fg.constant(Z)
    error = fg.mean(fg.squared_difference(z, W))
    assert error.dtype == np.complex128
    np.testing.assert_allclose(fg.gradient(fg.real(error), z).numpy(), Z - W)
    np.testing.assert_allclose(error.numpy(), np.mean(np.abs(Z - W) ** 2), rtol=1e-14)
    np.testing.assert_allclose(fg.mean(z).numpy(), Z.mean())


def test_real_weights_of_complex_numbers_have_real_gradients() -> None:
    w = fg.Variable([2.0, 3.0], dtype="float64")
    with fg.GradientTape() as tape:
        loss = fg.abs(w * Z - 1).sum()
    grad = tape.gradient(loss, w)
    assert grad.dtype == np.float64
    away = np.array([2.0, 3.0]) * Z - 1
    np.testing.assert_allclose(grad.numpy(), (Z.conj() * away / np.abs(away)).real)


def test_a_scalar_broadcast_against_complex_numbers() -> None:
    s = fg.constant(0.5)
    loss = fg.real(s * fg.constant(Z)).sum()
    grad = fg.gradient(loss, s)
    assert (grad.dtype, grad.shape) == (np.float32, ())
    np.testing.assert_allclose(float(grad), Z.real.sum())


def test_steepest_descent_finds_a_complex_number() -> None:
    z = fg.Variable(0j)
    for _ in range(60):
        with fg.GradientTape() as tape:
            loss = fg.abs(z - (1 + 2j)) ** 2
        z.assign_sub(0.25 * tape.gradient(loss, z))
    np.testing.assert_allclose(z.numpy(), 1 + 2j, rtol=1e-6)


def test_dtypes() -> None:
    z = fg.constant([1 + 2j])
    assert z.dtype == np.complex64
    assert {fg.complex64, fg.complex128} == {np.complex64, np.complex128}
    assert (z + 1).dtype == (z * 2.5).dtype == (fg.constant([1.0]) + 1j).dtype == np.complex64
    assert (fg.constant([1]) * 1j).dtype == np.complex64
    assert (fg.asarray(np.ones(2)) * 1j).dtype == np.complex128
    assert fg.abs(z).dtype == fg.real(z).dtype == fg.imag(z).dtype == fg.angle(z).dtype == np.float32
    assert fg.cast(z, "complex128").dtype == np.complex128


def test_a_complex_number_as_a_real_one_is_its_real_part() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z = fg.constant([1.7 + 2j, -1.7 - 2j])
        assert fg.cast(z, "float32").numpy().dtype == np.float32
        np.testing.assert_allclose(fg.cast(z, "float32").numpy(), [1.7, -1.7], rtol=1e-6)
        assert fg.cast(z, "int32").tolist() == [1, -1]
        assert fg.cast(fg.constant([2j, 0j]), "bool").tolist() == [True, False]
        np.testing.assert_allclose(fg.cast(z * 2, "float64").numpy(), [3.4, -3.4], rtol=1e-6)
        assert fg.gradient(fg.cast(z, "float32").sum(), z).tolist() == [1, 1]


def test_real_tensors_are_their_own_conjugates() -> None:
    x = fg.constant([1.0, -2.0])
    assert fg.conj(x) is x
    assert fg.real(x) is x
    assert fg.imag(x).tolist() == [0, 0]
    assert fg.angle(x).tolist() == [0, np.float32(np.pi)]
    assert fg.gradient(fg.angle(x).sum(), x) is None
    assert fg.angle(fg.constant([-1])).dtype == np.float32
    for function in (fg.conj, fg.real, fg.imag):
        with pytest.raises(DTypeError, match="they are no numbers"):
            function(fg.constant([True]))


def test_gradient_of_abs_at_the_origin_is_zero() -> None:
    z = fg.constant([0j, 3 + 4j])
    np.testing.assert_allclose(fg.gradient(fg.abs(z).sum(), z).numpy(), [0, 0.6 + 0.8j], rtol=1e-6)


def test_the_sign_of_a_complex_number() -> None:
    z = fg.constant([3 + 4j, 0j])
    np.testing.assert_allclose(fg.sign(z).numpy(), [0.6 + 0.8j, 0])
    with pytest.raises(GradientError, match="no holomorphic function"):
        fg.gradient(fg.abs(fg.sign(z)).sum(), z)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: z < 1,
        lambda z: z >= z + 1,
        lambda z: fg.maximum(z, z),
        fg.relu,
        fg.floor,
        fg.sigmoid,
        fg.softplus,
        fg.gelu,
        fg.erf,
        lambda z: z % z,
        lambda z: z // 2,
        lambda z: fg.clip(z, 0, 1),
        lambda z: fg.atan2(z, z),
        fg.signbit,
        fg.log_softmax,
    ],
)
def test_refused(function: Any) -> None:
    with pytest.raises(DTypeError) as raised:
        function(fg.constant([1 + 2j]))
    assert "complex" in str(raised.value)
    assert raised.value.remedy.endswith(".")


def test_complex_numbers_are_no_real_ones() -> None:
    for call in (
        lambda: fg.constant([1j], dtype="float32"),
        lambda: fg.asarray(1j, dtype="float32"),
        lambda: fg.constant(np.array([1j]), dtype="float64"),
    ):
        with pytest.raises(DTypeError):
            call()


def test_signs_of_zeros_stay_apart() -> None:
    """1-0j lies on the other side of a branch cut: constants that are equal must not become one."""
    above, below = complex(-1, 0.0), complex(-1, -0.0)
    assert fg.sqrt(fg.constant(np.array([above, below]))).numpy().imag.tolist() == [1, -1]
    assert [fg.sqrt(fg.asarray(one)).numpy().imag for one in (above, below)] == [1, -1]
    both = fg.sqrt(fg.multiply(above, 1)) + 10 * fg.sqrt(fg.multiply(below, 1))
    assert both.numpy().imag == 1 - 10
    folded = fg.sqrt(fg.negative(complex(1, 0.0))) + 10 * fg.sqrt(fg.negative(complex(1, -0.0)))
    assert folded.numpy().imag == -1 + 10


def test_special_values() -> None:
    inf, nan = np.inf, np.nan
    z = fg.constant(np.array([complex(inf, nan), complex(nan, 0), 1 + 1j]))
    assert fg.isinf(z).tolist() == [True, False, False]
    assert fg.isnan(z).tolist() == [True, True, False]
    assert fg.isfinite(z).tolist() == [False, False, True]
    assert fg.round(fg.constant([2.5 - 1.5j])).tolist() == [2 - 2j]


@pytest.mark.parametrize("function", [fg.max, fg.min, fg.softmax, fg.logsumexp, fg.var, fg.std, fg.argmax])
def test_what_needs_an_order_refuses_complex_numbers(function: Any) -> None:
    with pytest.raises(DTypeError, match="complex"):
        function(fg.constant([1 + 2j, 3.0]))


def test_a_number_of_numpy_keeps_its_dtype_where_it_stands_alone() -> None:
    assert fg.grad(lambda x: x * x)(np.float64(2.0)).dtype == np.float64
    assert fg.exp(np.float64(1.0)).dtype == np.float64
    assert (fg.constant([1.0]) * np.float64(2.0)).dtype == np.float32  # beside a tensor it is weak, as Python's are


def test_a_complex_number_of_parts() -> None:
    x, y = fg.constant([1.0, np.inf]), fg.constant([np.inf, 2.0])
    assert fg.complex(x, y).tolist() == [complex(1, np.inf), complex(np.inf, 2)]
    assert fg.complex(1, np.float64(2)).dtype == np.complex128
    slopes = fg.grad(lambda x, y: fg.sum(fg.abs(fg.complex(x, y))), argnums=(0, 1))(3.0, np.array([4.0, 0.0]))
    assert [one.tolist() for one in slopes] == [pytest.approx(1.6), pytest.approx([0.8, 0.0])]
    with pytest.raises(DTypeError, match="complex itself"):
        fg.complex(1j, 2.0)
