"""Creation, linear algebra and Fourier transforms of the array API standard against `array_api_strict`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from standard import Case, Draw, array, axes_of, axis_of, call, compare, dtypes, numbers, shapes, strict

import flowgraph as fg

# Creation.


def _arange(draw: Draw) -> Case:
    start, stop, step = draw(st.integers(-5, 5)), draw(st.integers(-5, 5)), draw(st.sampled_from([-2, -1, 1, 3]))
    return draw(st.sampled_from([(abs(stop),), (start, stop), (start, stop, step)])), {"dtype": draw(dtypes("if"))}


def _linspace(draw: Draw) -> Case:
    ends = (draw(st.integers(-5, 5)), draw(st.integers(-5, 5)))
    return (*ends, draw(st.integers(0, 6))), {"endpoint": draw(st.booleans()), "dtype": draw(dtypes("fc"))}


def _eye(draw: Draw) -> Case:
    sides = (draw(st.integers(0, 4)), draw(st.none() | st.integers(0, 4)))
    return sides, {"k": draw(st.integers(-5, 5)), "dtype": draw(dtypes("biufc"))}


def _filled(draw: Draw) -> Case:
    return (draw(shapes()),), {"dtype": draw(dtypes("biufc"))}


CREATION: dict[str, Callable[[Draw], Case]] = {
    "arange": _arange,
    "linspace": _linspace,
    "eye": _eye,
    "zeros": _filled,
    "ones": _filled,
    "full": lambda draw: ((draw(shapes()), draw(st.sampled_from([0, 1]))), {"dtype": draw(dtypes("iufc"))}),
    "full_like": lambda draw: ((array(draw, "iufc"), draw(st.sampled_from([0, 1]))), {}),
}


@pytest.mark.parametrize("name", CREATION)
@settings(max_examples=40)
@given(data=st.data())
def test_creation(name: str, data: Any) -> None:
    compare(name, CREATION[name](data.draw))


@settings(max_examples=100)
@given(data=st.data())
def test_dtypes_that_meet(data: Any) -> None:
    """Kinds that the standard leaves open meet here as they do in numpy, or not at all."""
    one, other = (str(data.draw(dtypes("biufc"))) for _ in range(2))
    of = [(getattr(module, one), getattr(module, other)) for module in (fg, strict)]
    assert fg.isdtype(of[0][0], of[0][1]) == strict.isdtype(of[1][0], of[1][1])
    try:
        expected = strict.result_type(*of[1])
    except TypeError:
        return
    assert fg.result_type(*of[0]) == np.dtype(str(expected).rpartition(".")[2])
    assert fg.can_cast(*of[0]) == strict.can_cast(*of[1])


# Linear algebra.


def matrices(draw: Draw, kinds: str = "fc", *, square: bool = False, within: bool = True) -> Any:
    """A batch of well-conditioned matrices."""
    batch = draw(shapes(0, 1)) if within else ()
    m = draw(st.integers(0, 3))
    n = m if square else draw(st.integers(0, 3))
    x = array(draw, kinds, (*batch, m, n), finite=True)
    return x + np.asarray(np.eye(m, n) * 40, x.dtype)


def _square(draw: Draw) -> Case:
    return (matrices(draw, square=draw(st.integers(0, 4)) > 0),), {}


def _symmetric(draw: Draw) -> Case:
    x = matrices(draw, square=True)
    return (x + np.conj(np.swapaxes(x, -1, -2)),), {}


def _power(draw: Draw) -> Case:
    return (matrices(draw, square=True), draw(st.integers(-2, 3))), {}


def _solved(draw: Draw) -> Case:
    x = matrices(draw, square=True)
    kind = x.dtype.kind
    shape = draw(st.sampled_from([x.shape[-1:], (*x.shape[:-1], 2), (x.shape[-1], 1), (x.shape[-1] + 1,)]))
    return (x, array(draw, kind, shape, finite=True)), {}


def _offset(draw: Draw) -> Case:
    return (matrices(draw, "iufc"),), {"offset": draw(st.integers(-4, 4))}


def _pinv(draw: Draw) -> Case:
    x = matrices(draw)
    limits = np.array([0.0, 0.01, 0.1])[numbers(draw, x.shape[:-2], 3)]
    return (x,), {"rtol": draw(st.sampled_from([None, 0.01, limits.astype(x.real.dtype)]))}


def _vector_norm(draw: Draw) -> Case:
    x = array(draw, "fc", finite=True)
    orders = (0, 1, 2, 3, 0.5, -1, np.inf, -np.inf) if x.size else (0, 1, 2)
    return (x,), {"axis": axes_of(draw, x), "keepdims": draw(st.booleans()), "ord": draw(st.sampled_from(orders))}


def _matrix_norm(draw: Draw) -> Case:
    orders = ("fro", "nuc", 1, 2, -1, -2, np.inf, -np.inf)
    x = matrices(draw)
    return (x,), {"keepdims": draw(st.booleans()), "ord": draw(st.sampled_from(orders if x.size else orders[:2]))}


def _cross(draw: Draw) -> Case:
    kind, shape = draw(st.sampled_from("ifc")), list(draw(shapes(0, 2)))
    axis = -draw(st.integers(1, len(shape) + 1))
    shape.insert(len(shape) + 1 + axis, draw(st.sampled_from([3, 3, 3, 2])))
    return (array(draw, kind, tuple(shape), finite=True), array(draw, kind, tuple(shape), finite=True)), {"axis": axis}


def _outer(draw: Draw) -> Case:
    kind = draw(st.sampled_from("iufc"))
    return tuple(array(draw, kind, (draw(st.integers(0, 3)),), finite=True) for _ in range(2)), {}


LINALG: dict[str, Callable[[Draw], Case]] = {
    "cholesky": _symmetric,
    "cross": _cross,
    "det": _square,
    "diagonal": _offset,
    "eigvalsh": _symmetric,
    "inv": _square,
    "matrix_norm": _matrix_norm,
    "matrix_power": _power,
    "outer": _outer,
    "pinv": _pinv,
    "slogdet": _square,
    "solve": _solved,
    "svdvals": lambda draw: ((matrices(draw),), {}),
    "vector_norm": _vector_norm,
}


@pytest.mark.parametrize("name", LINALG)
@settings(max_examples=40)
@given(data=st.data())
def test_linear_algebra(name: str, data: Any) -> None:
    compare(f"linalg.{name}", LINALG[name](data.draw))


@pytest.mark.parametrize("name", ["matrix_rank", "trace"])
@settings(max_examples=40)
@given(data=st.data())
def test_linear_algebra_with_a_dtype_by_default(name: str, data: Any) -> None:
    x = matrices(data.draw)
    assume(x.size)  # the rank of a matrix without elements is 0 here, and refused there
    compare(f"linalg.{name}", ((x,), {}), defaults=True)


@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        ("qr", {"mode": "reduced"}),
        ("qr", {"mode": "complete"}),
        ("svd", {"full_matrices": False}),
        ("svd", {}),
        ("eigh", {}),
    ],
)
@settings(max_examples=40)
@given(data=st.data())
def test_factors_multiply_to_the_matrix(name: str, attrs: dict[str, Any], data: Any) -> None:
    """Factors are not unique, so only their types are those of the reference."""
    case = (_symmetric if name == "eigh" else lambda draw: ((matrices(draw),), {}))(data.draw)
    found, expected = (call(module, f"linalg.{name}", (case[0], attrs)) for module in (fg, strict))
    assert [(one.shape, one.dtype) for one in found] == [(one.shape, one.dtype) for one in expected]
    if name == "qr":
        product = found[0] @ found[1]
    elif name == "eigh":
        product = (found[1] * found[0][..., None, :]) @ np.conj(np.swapaxes(found[1], -1, -2))
    else:
        side = found[1].shape[-1]
        product = (found[0][..., :side] * found[1][..., None, :]) @ found[2][..., :side, :]
    np.testing.assert_allclose(product, case[0][0], rtol=1e-4, atol=1e-3)


# Fourier transforms.


@pytest.mark.parametrize("name", ["fft", "ifft", "irfft", "hfft"])
def test_transforms_of_nothing_are_zeros(name: str) -> None:
    x = fg.zeros((0, 2), dtype="complex64")
    np.testing.assert_array_equal(getattr(fg.fft, name)(x, n=3, axis=0), np.zeros((3, 2)))


def _filled(draw: Draw, kinds: str) -> Any:
    """An array with elements: numpy leaves the results of irfft of nothing uninitialised."""
    return array(draw, kinds, draw(shapes(1, sides=range(1, 4))), finite=True)


def _one_axis(kinds: str) -> Callable[[Draw], Case]:
    def drawn(draw: Draw) -> Case:
        x = _filled(draw, kinds)
        n, norm = draw(st.none() | st.integers(0, 4)), draw(st.sampled_from(["backward", "ortho", "forward"]))
        return (x,), {"axis": axis_of(draw, x), "n": n, "norm": norm}

    return drawn


def _many_axes(kinds: str) -> Callable[[Draw], Case]:
    def drawn(draw: Draw) -> Case:
        x = _filled(draw, kinds)
        axes = draw(st.lists(st.integers(0, x.ndim - 1), min_size=1, max_size=x.ndim, unique=True))
        lengths = draw(st.none() | st.just(tuple(draw(st.integers(1, 4)) for _ in axes)))
        return (x,), {"axes": tuple(axes), "s": lengths, "norm": draw(st.sampled_from(["backward", "ortho"]))}

    return drawn


def _shifted(draw: Draw) -> Case:
    x = array(draw, "fc", least=1)
    return (x,), {"axes": axes_of(draw, x)}


def _frequencies(draw: Draw) -> Case:
    return (draw(st.integers(1, 6)),), {"d": draw(st.sampled_from([1.0, 0.5])), "dtype": draw(dtypes("f"))}


FFT: dict[str, Callable[[Draw], Case]] = {
    "fft": _one_axis("c"),
    "ifft": _one_axis("c"),
    "rfft": _one_axis("f"),
    "irfft": _one_axis("c"),
    "hfft": _one_axis("c"),
    "ihfft": _one_axis("f"),
    "fftn": _many_axes("c"),
    "ifftn": _many_axes("c"),
    "rfftn": _many_axes("f"),
    "irfftn": _many_axes("c"),
    "fftshift": _shifted,
    "ifftshift": _shifted,
    "fftfreq": _frequencies,
    "rfftfreq": _frequencies,
}


@pytest.mark.parametrize("name", FFT)
@settings(max_examples=30)
@given(data=st.data())
def test_transforms(name: str, data: Any) -> None:
    compare(f"fft.{name}", FFT[name](data.draw))
