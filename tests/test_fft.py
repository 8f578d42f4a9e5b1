"""Fourier transforms: every function against numpy, adjoints, second derivatives, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import DTypeError, ShapeError, UsageError


def real(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def cplx(*shape: int, seed: int = 0) -> Any:
    return real(*shape, seed=seed) + 1j * real(*shape, seed=seed + 1)


ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
MANY = ("fftn", "ifftn", "rfftn", "irfftn")
TAKES_REAL = ("rfft", "ihfft", "rfftn")


def operand(name: str, *shape: int) -> Any:
    return real(*shape) if name in TAKES_REAL else cplx(*shape)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [None, 1, 3, 4, 7, 8])
@pytest.mark.parametrize("name", ONE)
def test_along_one_axis(name: str, n: int | None, norm: str) -> None:
    x = operand(name, 5, 4)
    for axis in (-1, 0):
        want = getattr(np.fft, name)(x, n=n, axis=axis, norm=norm)
        got = getattr(fg.fft, name)(x, n=n, axis=axis, norm=norm)
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize(("s", "axes"), [(None, None), (None, (0, 2)), ((3, 6), (2, 1)), ((2, 4, 5), (0, 1, 2))])
@pytest.mark.parametrize("name", MANY)
def test_along_several_axes(name: str, s: Any, axes: Any, norm: str) -> None:
    x = operand(name, 3, 5, 4)
    want = getattr(np.fft, name)(x, s=s, axes=axes, norm=norm)
    got = getattr(fg.fft, name)(x, s=s, axes=axes, norm=norm)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", [*ONE, *MANY])
def test_precision_is_kept(name: str) -> None:
    x = operand(name, 3, 4)
    single = np.float32 if name in TAKES_REAL else np.complex64
    got = getattr(fg.fft, name)(x.astype(single))
    assert got.dtype in (np.float32, np.complex64)
    np.testing.assert_allclose(got.numpy(), getattr(np.fft, name)(x), rtol=1e-5, atol=1e-6)


def test_real_numbers_become_complex() -> None:
    assert fg.fft.fft([1, 2]).dtype == np.complex64
    assert fg.fft.rfft([1, 2]).dtype == np.complex64
    assert fg.fft.fft(np.zeros(2)).dtype == np.complex128


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [None, 1, 3, 4, 7, 8])
@pytest.mark.parametrize("name", ONE)
def test_the_gradient_is_the_adjoint(name: str, n: int | None, norm: str) -> None:
    """For a real linear map f and real inner products, <y, f(x)> = <gradient for weights y, x>."""
    transform = getattr(fg.fft, name)
    x = operand(name, 2, 5)
    found = transform(x, n=n, norm=norm).numpy()
    y = cplx(*found.shape, seed=7) if found.dtype.kind == "c" else real(*found.shape, seed=7)
    leaf = fg.constant(x)
    g = fg.gradient(transform(leaf, n=n, norm=norm), leaf, output_gradients=y)
    assert g.dtype == x.dtype
    assert np.real(np.vdot(g.numpy(), x)) == pytest.approx(np.real(np.vdot(y, found)), rel=1e-11)


@pytest.mark.parametrize("name", MANY)
def test_the_gradient_over_several_axes_is_the_adjoint(name: str) -> None:
    transform = getattr(fg.fft, name)
    x = operand(name, 3, 5, 4)
    for options in (
        {},
        {"axes": (2, 0)},
        {"s": (4, 3), "axes": (0, 1)},
        {"s": (2, 6, 7), "axes": (0, 1, 2), "norm": "ortho"},
    ):
        found = transform(x, **options).numpy()
        y = cplx(*found.shape, seed=7) if found.dtype.kind == "c" else real(*found.shape, seed=7)
        leaf = fg.constant(x)
        g = fg.gradient(transform(leaf, **options), leaf, output_gradients=y).numpy()
        for probe in (x, operand(name, 5, 4, 3).transpose(2, 0, 1)):
            want = np.real(np.vdot(y, getattr(np.fft, name)(probe, **options)))
            assert np.real(np.vdot(g, probe)) == pytest.approx(want, rel=1e-11)


def test_second_derivatives_through_there_and_back() -> None:
    x, along, h = real(3, 6), real(3, 6, seed=4), 1e-5

    def value(x: Any) -> Any:
        return fg.sum(fg.exp(fg.fft.irfft(fg.fft.rfft(x, n=8), n=5, norm="ortho")))

    def slope(x: Any) -> Any:
        return fg.sum(fg.grad(value)(x) * along)

    for f in (value, slope):
        want = (float(f(x + h * along)) - float(f(x - h * along))) / (2 * h)
        assert float(fg.sum(fg.grad(f)(x) * along)) == pytest.approx(want, rel=1e-7)


def test_the_gradient_by_real_numbers_of_a_complex_transform_is_real() -> None:
    x, along, h = real(3, 6), real(3, 6, seed=4), 1e-6

    def value(x: Any) -> Any:
        return fg.sum(fg.square(fg.abs(fg.fft.fft(x, n=8) + 1)))

    g = fg.grad(value)(x)
    assert g.dtype == np.float64
    want = (float(value(x + h * along)) - float(value(x - h * along))) / (2 * h)
    assert float(fg.sum(g * along)) == pytest.approx(want, rel=1e-7)


@pytest.mark.parametrize("n", [1, 4, 5])
def test_frequencies(n: int) -> None:
    for name in ("fftfreq", "rfftfreq"):
        got = getattr(fg.fft, name)(n, d=0.5, dtype=np.float64)
        np.testing.assert_allclose(got, getattr(np.fft, name)(n, 0.5))
        assert getattr(fg.fft, name)(n).dtype == np.float32


@pytest.mark.parametrize("shape", [(4,), (5,), (3, 4), (1, 0)])
@pytest.mark.parametrize("axes", [None, 0, (-1,)])
def test_shifts(shape: tuple[int, ...], axes: Any) -> None:
    x = real(*shape)
    for name in ("fftshift", "ifftshift"):
        np.testing.assert_array_equal(getattr(fg.fft, name)(x, axes=axes), getattr(np.fft, name)(x, axes))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fg.fft.fft(real(4), norm="both"), UsageError, "there are three"),
        (lambda: fg.fft.fft(real(4), n=0), ShapeError, "length 0"),
        (lambda: fg.fft.fft(real(4), n=2.5), UsageError, "no integer"),
        (lambda: fg.fft.fft(real(4), axis=1), ShapeError, "axis 1"),
        (lambda: fg.fft.fft(real(0)), ShapeError, "length 0"),
        (lambda: fg.fft.irfft(cplx(1)), ShapeError, "length 0"),
        (lambda: fg.fft.rfft(cplx(4)), DTypeError, "complex"),
        (lambda: fg.fft.fftn(real(4, 4), axes=(0, 0)), UsageError, "twice"),
        (lambda: fg.fft.fftn(real(4, 4), s=(1, 2, 3), axes=(0, 1)), UsageError, "number"),
        (lambda: fg.fft.fftfreq(0), UsageError, "samples"),
        (lambda: fg.fft.fftfreq(4, dtype=np.int32), DTypeError, "real"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
