"""Gradients of factorisations of complex matrices: along any line, to second order, and beside PyTorch's.

By z = x + iy a real loss L has the gradient dL/dx + i dL/dy (ops/complex.py). Vectors are determined up to phases, so
the losses here do not depend on these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import GradientError

la = fg.linalg


def drawn(*shape: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def size(x: Any) -> Any:
    """The squared length, weighted so that every element counts differently."""
    weights = np.cos(np.arange(np.prod(x.shape, dtype=int)).reshape(x.shape))
    return fg.sum(fg.real(x * fg.conj(x)) * weights)


def part(x: Any) -> Any:
    """A real number that depends on all parts of x."""
    weights = np.exp(1j * np.arange(np.prod(x.shape, dtype=int)).reshape(x.shape))
    return fg.sum(fg.real(x * weights))


def hermitian(z: Any) -> Any:
    return z @ fg.conj(z).mT


def by_svd(z: Any) -> Any:
    u, s, vh = la.svd(z, full_matrices=False)
    low_rank = u[..., :, :2] @ vh[..., :2, :]  # each pair of vectors has one phase, and takes it back
    return part(low_rank) + size(u) + size(vh) + fg.sum(s * s * s)


def by_eigh(z: Any) -> Any:
    values, vectors = la.eigh(hermitian(z))
    return part(vectors[..., :, :1] @ fg.conj(vectors[..., :, :1]).mT) + fg.sum(fg.log(values)) + size(vectors)


def by_slogdet(z: Any) -> Any:
    sign, logarithm = la.slogdet(z)
    return part(sign) + fg.sum(logarithm * logarithm)


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "svd square": (by_svd, (3, 3)),
    "svd tall": (by_svd, (4, 2)),
    "svd wide": (by_svd, (2, 4)),
    "svd batch": (by_svd, (2, 3, 2)),
    "svd one": (by_svd, (1, 1)),
    "svd full": (lambda z: fg.sum(la.svd(z).S ** 3), (4, 2)),
    "svdvals": (lambda z: fg.sum(la.svdvals(z) ** 3), (2, 3)),
    "qr square": (lambda z: sum(map(part, la.qr(z))), (3, 3)),
    "qr tall": (lambda z: sum(map(part, la.qr(z))), (4, 2)),
    "qr wide": (lambda z: sum(map(part, la.qr(z))), (2, 4)),
    "qr batch": (lambda z: sum(map(part, la.qr(z))), (2, 3, 2)),
    "qr complete": (lambda z: sum(map(part, la.qr(z, mode="complete"))), (3, 3)),
    "qr complete R": (lambda z: part(la.qr(z, mode="complete").R), (4, 2)),
    "slogdet": (by_slogdet, (3, 3)),
    "slogdet batch": (by_slogdet, (2, 2, 2)),
    "slogdet sign": (lambda z: part(la.slogdet(z).sign), (3, 3)),
    "eigh": (by_eigh, (3, 3)),
    "eigvalsh": (lambda z: fg.sum(la.eigvalsh(hermitian(z)) ** 2), (3, 3)),
    "det": (lambda z: part(la.det(z)), (3, 3)),
    "inv": (lambda z: part(la.inv(z)), (3, 3)),
    "solve": (lambda z: part(la.solve(z, z @ z + 1)), (3, 3)),
    "triangular_solve": (lambda z: part(la.triangular_solve(z, z @ z + 1, adjoint=True)), (3, 3)),
    "cholesky": (lambda z: part(la.cholesky(hermitian(z))), (3, 3)),
    "cholesky upper": (lambda z: part(la.cholesky(hermitian(z), upper=True)), (3, 3)),
    "pinv tall": (lambda z: part(la.pinv(z)), (4, 2)),
    "pinv wide": (lambda z: part(la.pinv(z)), (2, 4)),
    "lstsq": (lambda z: part(la.lstsq(z, fg.square(z))), (4, 2)),
    "lstsq l2": (lambda z: part(la.lstsq(z, fg.square(z), 0.5)), (2, 4)),
    "expm": (lambda z: part(la.expm(z)), (3, 3)),
    "norm": (lambda z: fg.norm(z) ** 3, (3, 2)),
    "norm 3": (lambda z: fg.sum(la.vector_norm(z, axis=0, ord=3)), (3, 2)),
    "norm nuc": (lambda z: la.matrix_norm(z, ord="nuc") ** 2, (3, 2)),
    "norm 2": (lambda z: la.matrix_norm(z, ord=2), (3, 2)),
    "norm 1": (lambda z: la.matrix_norm(z, ord=1), (3, 2)),
    "power": (lambda z: part(la.matrix_power(z, -3)), (3, 3)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_along_a_line(name: str) -> None:
    """The derivative along z + t d is the real part of <gradient, d>, and so is that of the derivative itself."""
    function, shape = FUNCTIONS[name]
    z, d, h = drawn(*shape, seed=1), drawn(*shape, seed=2), 1e-5

    def slope(z: Any) -> Any:
        return fg.sum(fg.real(fg.conj(fg.grad(function)(z)) * d))

    for f in (function, slope):
        wanted = (float(f(fg.constant(z + h * d))) - float(f(fg.constant(z - h * d)))) / (2 * h)
        g = fg.grad(f)(fg.constant(z))
        assert (g.shape, g.dtype) == (z.shape, z.dtype)
        assert np.real(np.vdot(g.numpy(), d)) == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", ["svd tall", "qr wide", "slogdet"])
def test_single_precision_and_functions(name: str) -> None:
    function, shape = FUNCTIONS[name]
    z = drawn(*shape, seed=1)
    wanted = fg.grad(function)(fg.constant(z)).numpy()
    traced = fg.function(fg.grad(function))(fg.constant(z))
    np.testing.assert_allclose(traced.numpy(), wanted, rtol=1e-9, atol=1e-9)
    single = fg.grad(lambda z: fg.cast(function(z), "float32"))(fg.constant(z.astype(np.complex64)))
    assert single.dtype == np.complex64
    np.testing.assert_allclose(single.numpy(), wanted, rtol=1e-3, atol=1e-3)


A = np.array([[1 + 2j, 0.5 - 1j], [2 - 0.5j, -1 + 1j], [0.25 + 0.5j, 1.5]])


def first_pair(z: Any) -> Any:
    u, s, vh = la.svd(z, full_matrices=False)
    return part(u[:, :1] @ vh[:1]) + fg.sum(s**3)


def last_projection(z: Any) -> Any:
    values, v = la.eigh(hermitian(z))
    return part(v[:, 1:] @ fg.conj(v[:, 1:]).mT) + fg.sum(fg.log(values))


# From PyTorch 2.13, whose convention and phases are the same.
TORCH: list[tuple[Callable[[Any], Any], Any, list[complex]]] = [
    (
        first_pair, A,
        [8.862794382953 + 20.278379036148j, 2.996631724225 - 11.846376320972j, 18.887399661628 - 7.553388239178j,
         -11.369052162894 + 6.176129941764j, -1.077879116447 + 5.778126862122j, 10.215032174359 - 1.231999884505j],
    ),
    (
        lambda z: sum(map(part, la.qr(z))), A,
        [-1.036313378 - 0.659335293288j, -0.982557088142 - 0.029818773645j, -0.038463371485 + 0.519532499344j,
         -0.26722037976 + 0.086062893901j, -0.171680323488 - 0.715464362249j, -1.046171513202 + 0.420834225118j],
    ),
    (
        by_slogdet, A[:2],
        [0.957700148041 + 0.312032113494j, 1.431149270172 - 0.328234969163j,
         0.640267082657 + 0.473449122131j, 0.01080190378 + 1.592566278808j],
    ),
    (
        last_projection, A[:2],
        [0.912239113108 + 0.717945214391j, 1.188888411265 - 0.294999091451j,
         0.053845628937 + 0.539805098678j, 0.058375206524 + 0.983013659016j],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("function", "z", "wanted"), TORCH, ids=["svd", "qr", "slogdet", "eigh"])
def test_gradients_are_those_of_torch(function: Callable[[Any], Any], z: Any, wanted: list[complex]) -> None:
    np.testing.assert_allclose(fg.grad(function)(fg.constant(z)).numpy().ravel(), wanted, rtol=1e-10)


def test_gradients_are_finite_where_values_are_equal() -> None:
    z = np.eye(3, dtype=np.complex128)
    assert np.isfinite(fg.grad(lambda z: part(la.svd(z).U))(z).numpy()).all()


def test_what_is_not_determined_has_no_gradient() -> None:
    z = fg.constant(drawn(4, 2))
    with pytest.raises(GradientError, match="full_matrices=False"):
        fg.grad(lambda z: part(la.svd(z).U))(z)
    with pytest.raises(GradientError, match="reduced"):
        fg.grad(lambda z: part(la.qr(z, mode="complete").Q))(z)
