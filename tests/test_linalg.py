"""Linear algebra beyond the walk: norms, compositions, einsum in full, errors, complex numbers, a BLAS loaded late."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import walk

import flowgraph as fg
from flowgraph.errors import DTypeError, GradientError, RunError, ShapeError, UsageError
from flowgraph.graph import make_input
from flowgraph.tensor import tensor_of
from flowgraph.types import tensor_type

la = fg.linalg


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def slope_is_right(function: Callable[[Any], Any], x: Any, rtol: float = 1e-6) -> None:
    """First and second derivative of a sum of squares of `function` along a line, against central differences."""
    along, h = numbers(*x.shape, seed=5), 1e-5

    def value(x: Any) -> Any:
        return fg.sum(fg.square(function(x)) + function(x))

    def slope(x: Any) -> Any:
        return fg.sum(fg.grad(value)(x) * along)

    for f in (value, slope):
        want = (float(f(x + h * along)) - float(f(x - h * along))) / (2 * h)
        got = float(fg.sum(fg.grad(f)(x) * along))
        assert got == pytest.approx(want, rel=rtol, abs=1e-6)


ORDS = (2, 1, 0, -1, -2, 3, 0.5, -0.5, math.inf, -math.inf)


@pytest.mark.parametrize("ord", ORDS)
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_vector_norm(ord: float, axis: int | None) -> None:
    x = numbers(4, 3)
    x[1, 2] = 0
    with np.errstate(divide="ignore"):
        want = np.linalg.vector_norm(x, axis=axis, ord=ord)
        kept = np.linalg.vector_norm(x, axis=axis, ord=ord, keepdims=True)
    np.testing.assert_allclose(la.vector_norm(x, axis=axis, ord=ord), want, rtol=1e-12)
    np.testing.assert_allclose(la.vector_norm(x, axis=axis, ord=ord, keepdims=True), kept, rtol=1e-12)


@pytest.mark.parametrize("ord", [one for one in ORDS if one != 0])
def test_gradient_of_vector_norm(ord: float) -> None:
    slope_is_right(lambda x: la.vector_norm(x, axis=1, ord=ord), numbers(4, 3) + 2)


@pytest.mark.parametrize("ord", [2, 1, 3, math.inf, 0])
def test_the_gradient_of_a_norm_at_0_is_0(ord: float) -> None:
    assert fg.grad(lambda x: la.vector_norm(x, ord=ord) * 1.0)(np.zeros(3)).tolist() == [0, 0, 0]


def test_vector_norm_over_several_axes() -> None:
    x = numbers(2, 3, 4)
    np.testing.assert_allclose(la.vector_norm(x, axis=(0, 2)), np.sqrt((x * x).sum((0, 2))), rtol=1e-12)
    assert la.vector_norm([3, 4]).dtype == np.float32


@pytest.mark.parametrize("ord", ["fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf])
def test_matrix_norm(ord: Any) -> None:
    x = numbers(5, 3, 4)
    np.testing.assert_allclose(la.matrix_norm(x, ord=ord), np.linalg.matrix_norm(x, ord=ord), rtol=1e-12)
    want = np.linalg.matrix_norm(x, ord=ord, keepdims=True)
    np.testing.assert_allclose(la.matrix_norm(x, ord=ord, keepdims=True), want, rtol=1e-12)
    slope_is_right(lambda x: la.matrix_norm(x, ord=ord), x)


def test_norm_as_tensorflow_has_it() -> None:
    x = numbers(2, 3, 4)
    np.testing.assert_allclose(fg.norm(x), np.linalg.norm(x), rtol=1e-12)
    np.testing.assert_allclose(fg.norm(x, axis=1, ord=1), np.abs(x).sum(1), rtol=1e-12)
    np.testing.assert_allclose(fg.norm(x, axis=[0, 2]), np.linalg.norm(x, axis=(0, 2)), rtol=1e-12)
    for ord in (1, 2, math.inf):
        want = np.linalg.norm(x, ord, axis=(2, 0), keepdims=True)
        np.testing.assert_allclose(fg.norm(x, ord, axis=(2, 0), keepdims=True), want, rtol=1e-12)


def test_matrix_rank() -> None:
    x = np.stack([np.eye(3), np.diag([1.0, 1e-3, 0.0]), np.zeros((3, 3))])
    assert la.matrix_rank(x).tolist() == [3, 2, 0]
    assert la.matrix_rank(x, rtol=1e-2).tolist() == [3, 1, 0]
    assert la.matrix_rank(np.zeros((2, 3, 0))).tolist() == [0, 0]


@pytest.mark.parametrize("n", [0, 1, 2, 5, -1, -3])
def test_matrix_power(n: int) -> None:
    x = numbers(2, 3, 3) + 2 * np.eye(3)
    np.testing.assert_allclose(la.matrix_power(x, n), np.linalg.matrix_power(x, n), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("a", "b"), [((2, 3), (4, 5)), ((3,), (2, 2)), ((2, 1, 3), (2,)), ((), (2,))])
def test_kron(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = numbers(*a), numbers(*b, seed=1)
    np.testing.assert_allclose(la.kron(x, y), np.kron(x, y), rtol=1e-12)


def test_cross_along_any_axis() -> None:
    x, y = numbers(4, 3, 2), numbers(3, 2, seed=1)
    np.testing.assert_allclose(la.cross(x, y, axis=-2), np.cross(x, np.broadcast_to(y, x.shape), axis=-2), rtol=1e-12)
    np.testing.assert_allclose(la.cross(x, x[::-1], axis=1), np.cross(x, x[::-1], axis=1), rtol=1e-12)


def test_small_products() -> None:
    x, y = numbers(3), numbers(3, seed=1)
    np.testing.assert_allclose(la.outer(x, y), np.outer(x, y))
    a, b = numbers(2, 4, 3), numbers(5, 3, seed=1)
    np.testing.assert_allclose(la.inner(a, b), np.inner(a, b), rtol=1e-12)
    np.testing.assert_allclose(la.trace(a, offset=-1), np.trace(a, -1, 1, 2))
    assert la.trace(np.ones((2, 2), np.int8), dtype=np.float64).dtype == np.float64
    np.testing.assert_allclose(la.diag([1.0, 2.0], k=-1), np.diag([1.0, 2.0], -1))
    assert fg.vecdot(np.ones((2, 3), np.int8), np.ones(3, np.int8)).dtype == np.int8
    np.testing.assert_allclose(fg.vecdot(a, numbers(4, 1, seed=2), axis=-2), (a * numbers(4, 1, seed=2)).sum(1))


@pytest.mark.parametrize("axes", [0, 1, 2, (0, 1), ([0, 2], [2, 0]), ([-1], [-3])])
def test_tensordot(axes: Any) -> None:
    x, y = numbers(3, 3, 3), numbers(3, 3, 3, seed=1)
    np.testing.assert_allclose(fg.tensordot(x, y, axes=axes), np.tensordot(x, y, axes), rtol=1e-12)


def test_least_squares() -> None:
    a, b = numbers(6, 3), numbers(6, 2, seed=1)
    np.testing.assert_allclose(la.lstsq(a, b), np.linalg.lstsq(a, b)[0], rtol=1e-9)
    np.testing.assert_allclose(la.lstsq(a.T, b[:3]), np.linalg.lstsq(a.T, b[:3])[0], rtol=1e-9)
    want = np.linalg.solve(a.T @ a + 0.5 * np.eye(3), a.T @ b)
    np.testing.assert_allclose(la.lstsq(a, b, 0.5), want, rtol=1e-9)
    slope_is_right(lambda a: la.lstsq(a, b), a, rtol=1e-5)
    slope_is_right(lambda a: la.lstsq(a, b, 0.5), a, rtol=1e-5)


def test_results_have_names() -> None:
    x = la.matmul(numbers(3, 3), numbers(3, 3).T) + 3 * np.eye(3)
    assert la.eigh(x)._fields == ("eigenvalues", "eigenvectors")
    assert la.qr(x)._fields == ("Q", "R")
    assert la.svd(x)._fields == ("U", "S", "Vh")
    assert la.slogdet(x)._fields == ("sign", "logabsdet")
    u, s, vh = la.svd(numbers(4, 2))
    assert (u.shape, s.shape, vh.shape) == ((4, 4), (2,), (2, 2))
    q, r = la.qr(numbers(4, 2), mode="complete")
    assert (q.shape, r.shape) == ((4, 4), (4, 2))


def test_gradients_are_symmetric_and_finite_where_values_are_equal() -> None:
    g = fg.grad(lambda x: la.eigvalsh(x)[0])(np.diag([1.0, 2.0]) + 0.1).numpy()
    np.testing.assert_allclose(g, g.T)
    assert np.isfinite(fg.grad(lambda x: fg.sum(la.eigh(x).eigenvectors))(np.eye(3)).numpy()).all()
    assert np.isfinite(fg.grad(lambda x: fg.sum(la.svd(x).U))(np.eye(3)).numpy()).all()


def test_the_determinant_of_a_singular_matrix_has_a_gradient() -> None:
    g = fg.grad(la.det)(np.diag([2.0, 3.0, 0.0]))
    np.testing.assert_allclose(g, np.diag([0.0, 0.0, 6.0]), atol=1e-15)


def test_complex_values() -> None:
    z = numbers(2, 3, 3) + 1j * numbers(2, 3, 3, seed=1) + 3 * np.eye(3)
    h = z @ np.conj(np.swapaxes(z, -1, -2))
    for got, want in (
        (la.inv(z), np.linalg.inv(z)), (la.det(z), np.linalg.det(z)), (la.cholesky(h), np.linalg.cholesky(h)),
        (la.eigvalsh(h), np.linalg.eigvalsh(h)), (la.svdvals(z), np.linalg.svdvals(z)), (la.pinv(z), np.linalg.pinv(z)),
        (la.eigh(h).eigenvalues, np.linalg.eigvalsh(h)), (la.solve(z, h), np.linalg.solve(z, h)),
        (la.triangular_solve(z, h, adjoint=True), np.linalg.solve(np.conj(np.swapaxes(np.tril(z), -1, -2)), h)),
        (la.svd(z).S, np.linalg.svdvals(z)), (la.slogdet(z).sign, np.linalg.slogdet(z)[0]),
        (la.slogdet(z).logabsdet, np.linalg.slogdet(z)[1]),
        (fg.einsum("nij,nkj->ink", z, h), np.einsum("nij,nkj->ink", z, h)),
    ):  # fmt: skip
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-10, atol=1e-12)
    q, r = la.qr(z)
    np.testing.assert_allclose((q @ r).numpy(), z, rtol=1e-10)


@pytest.mark.parametrize(
    "function",
    [la.inv, la.det, la.cholesky, la.eigvalsh, la.svdvals, la.pinv, lambda z: la.solve(z, z + 1), lambda z: z @ z],
)
def test_complex_gradients(function: Callable[[Any], Any]) -> None:
    """Along any line z + t d the derivative of a real function is the real part of <gradient, d>."""
    z = numbers(3, 3) + 1j * numbers(3, 3, seed=1)
    z = z @ np.conj(z.T) + np.diag([3.0, 5.0, 7.0])
    d = numbers(3, 3, seed=2) + 1j * numbers(3, 3, seed=3)
    d, h = d + np.conj(d.T), 1e-6

    def value(z: Any) -> Any:
        return fg.sum(fg.square(fg.abs(function(fg.asarray(z)) + 1)))

    x = fg.constant(z)
    g = fg.gradient(value(x), x).numpy()
    want = (float(value(z + h * d)) - float(value(z - h * d))) / (2 * h)
    assert np.real(np.vdot(g, d)) == pytest.approx(want, rel=1e-5)


EQUATIONS = {
    "ij,jk->ik": ((2, 3), (3, 4)), "ii->i": ((3, 3),), "ii": ((3, 3),), "ij->ji": ((2, 3),), "i,i": ((3,), (3,)),
    "...ij,...jk->...ik": ((5, 1, 2, 3), (4, 3, 2)), "ij...,jk...->ik...": ((2, 3, 5), (3, 4, 5)),
    "abc,cd,def->abef": ((2, 3, 4), (4, 5), (5, 6, 2)), "iij,jk->ik": ((3, 3, 2), (2, 4)), "ij,kl->": ((2, 3), (4, 5)),
    "b...,b->b...": ((2, 3, 4), (2,)), "iijj->ij": ((2, 2, 3, 3),), "...i->...": ((2, 3),),
    "ba,cb,dc": ((2, 3), (4, 2), (5, 4)), "i...j,j->...i": ((2, 3, 4, 5), (5,)), "i,ij,j->": ((3,), (3, 4), (4,)),
    "ij,ij,ij->ij": ((2, 3), (2, 3), (2, 3)), "nij,njk->nki": ((5, 2, 3), (5, 3, 4)), "i,j->ij": ((3,), (4,)),
    "ij,k->jk": ((2, 3), (4,)), "i...,...->...i": ((2, 3), (3,)), "a,ab,abc->abc": ((2,), (2, 3), (2, 3, 4)),
    "...,...": ((2, 3), (3,)), "i j , j -> i": ((2, 3), (3,)),
}  # fmt: skip


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_and_its_gradient(equation: str) -> None:
    arrays = [numbers(*shape, seed=seed) for seed, shape in enumerate(EQUATIONS[equation])]
    want = np.einsum(equation, *arrays)
    xs = [fg.constant(one) for one in arrays]
    got = fg.einsum(equation, *xs)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-14)
    weights = numbers(*want.shape, seed=9)
    for place, g in enumerate(fg.gradient(fg.sum(fg.einsum(equation, *xs) * weights), xs)):
        along = numbers(*arrays[place].shape, seed=10)  # the sum is linear in each operand
        slope = np.sum(np.einsum(equation, *arrays[:place], along, *arrays[place + 1 :]) * weights)
        np.testing.assert_allclose(np.sum(g.numpy() * along), slope, rtol=1e-10, atol=1e-13)


def test_einsum_of_integers() -> None:
    x = np.arange(6, dtype=np.int16).reshape(2, 3)
    got = fg.einsum("ij->j", x)
    assert got.dtype == np.int16
    assert got.tolist() == [3, 5, 7]
    assert fg.einsum("ij,kj->ik", x, x).tolist() == (x @ x.T).tolist()


def test_einsum_is_cut_along_rows_that_it_sums() -> None:
    x = make_input(tensor_type((40, 3), np.float64))
    y = make_input(tensor_type((40, 2), np.float64))
    graph = walk.graph_of(
        [fg.einsum("nabc,nd->dcba", fg.reshape(tensor_of(x), (40, 3, 1, 1)), tensor_of(y)).node], [x, y]
    )
    with walk.tiles(2, 4):
        entry = walk.compiled(graph)
        feeds = [numbers(40, 3), numbers(40, 2, seed=1)]
        one = walk.run(entry, feeds, 1)
        walk.same(walk.run(entry, feeds, 5), one, "einsum in 5 shards")
        assert entry.program.meshes
    np.testing.assert_allclose(one[0], np.einsum("na,nd->da", *feeds).reshape(2, 1, 1, 3), rtol=1e-12)


def test_a_batch_stays_cut_through_ops_with_several_results() -> None:
    x = make_input(tensor_type((40, 3, 3), np.float64))
    values, vectors = la.eigh(tensor_of(x))
    graph = walk.graph_of([fg.exp(values).node, (vectors @ vectors.mT).node], [x])
    with walk.tiles(2, 4):
        entry = walk.compiled(graph)
        feeds = [numbers(40, 3, 3)]
        one = walk.run(entry, feeds, 1)
        walk.same(walk.run(entry, feeds, 5), one, "eigh in 5 shards")
        assert entry.program.meshes
        assert not any(node.op.name == "gather" for node in entry.program.phases.needed)
    np.testing.assert_allclose(one[0], np.exp(np.linalg.eigvalsh((feeds[0] + feeds[0].transpose(0, 2, 1)) / 2)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: la.inv(np.zeros((2, 3))), ShapeError, "inv"),
        (lambda: la.inv(np.zeros((2, 2), np.float16)), DTypeError, "float16"),
        (lambda: la.det(np.zeros(3)), ShapeError, "axes"),
        (lambda: la.qr(np.eye(2), mode="raw"), UsageError, "two modes"),
        (lambda: la.qr(np.zeros(2)), ShapeError, "matrices"),
        (lambda: la.solve(np.eye(2), np.zeros((3, 1))), ShapeError, "length 2"),
        (lambda: la.matrix_norm(np.eye(2), ord=3), UsageError, "no such norm"),
        (lambda: la.vector_norm(np.eye(2), ord="fro"), UsageError, "no number"),
        (lambda: fg.norm(np.eye(2), axis=(0, 0)), UsageError, "two axes"),
        (lambda: fg.norm(np.eye(2), axis=(0,)), UsageError, "two axes"),
        (lambda: la.matrix_power(np.eye(2), 0.5), UsageError, "integer"),
        (lambda: la.matrix_power(np.zeros((2, 3)), 2), ShapeError, "square"),
        (lambda: la.cross(np.zeros(2), np.zeros(2)), ShapeError, "3 elements"),
        (lambda: la.outer(np.eye(2), np.zeros(2)), ShapeError, "vectors"),
        (lambda: la.lstsq(np.zeros(2), np.zeros(2)), ShapeError, "matrices"),
        (lambda: la.pinv(np.eye(2), rtol=-1), UsageError, "tolerance"),
        (lambda: la.diagonal(np.eye(2), offset=0.5), UsageError, "diagonals"),
        (lambda: fg.vecdot(np.zeros(3), np.zeros((3, 2)), axis=0), ShapeError, "from the end"),
        (lambda: fg.tensordot(np.eye(2), np.eye(2), axes=3), ShapeError, "fewer"),
        (lambda: fg.tensordot(np.eye(2), np.eye(2), axes=([0], [0, 1])), UsageError, "pairs"),
        (lambda: fg.einsum("ij,jk", np.zeros((2, 3)), np.zeros((4, 3))), ShapeError, "'j' has lengths 3 and 4"),
        (lambda: fg.einsum("ii", np.zeros((2, 3))), ShapeError, "one letter"),
        (lambda: fg.einsum("ijk", np.zeros((2, 3))), ShapeError, "names 3 axes"),
        (lambda: fg.einsum("i2", np.zeros((2, 3))), UsageError, "'2'"),
        (lambda: fg.einsum("ij->ii", np.zeros((2, 3))), UsageError, "twice"),
        (lambda: fg.einsum("ij->k", np.zeros((2, 3))), UsageError, "no operand"),
        (lambda: fg.einsum("ij,jk", np.zeros((2, 3))), UsageError, "2 operands"),
        (lambda: fg.einsum("...i->i", np.zeros((2, 3))), UsageError, "'...'"),
        (lambda: fg.einsum("i,i", [True], [True]), DTypeError, "bool"),
        (lambda: fg.grad(lambda x: fg.sum(la.svd(x).U))(np.ones((3, 2))), GradientError, "full_matrices=False"),
        (lambda: fg.grad(lambda x: fg.sum(la.qr(x, mode="complete").Q))(np.ones((3, 2))), GradientError, "reduced"),
        (lambda: la.inv(np.zeros((2, 2))).numpy(), RunError, "Singular matrix"),
        (lambda: la.solve(np.zeros((2, 2)), np.ones((2, 1))).numpy(), RunError, "Singular matrix"),
        (lambda: la.triangular_solve(np.zeros((2, 2)), np.ones((2, 1))).numpy(), RunError, "singular"),
        (lambda: la.cholesky(-np.eye(2)).numpy(), RunError, "positive definite"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_singular_matrix_is_reported_with_the_line() -> None:
    with pytest.raises(RunError, match=r"inv .*made at .*test_linalg\.py"):
        la.inv(np.zeros((2, 2))).numpy()


def test_an_error_names_its_own_line_though_an_equal_program_was_made_on_another() -> None:
    found = []
    for job in (
        lambda: la.inv(np.zeros((3, 3)) + 0.0).numpy(),
        lambda: la.inv(np.zeros((3, 3)) + 0.0).numpy(),
        lambda: fg.function(lambda x: la.inv(x + 0.0))(np.zeros((3, 3))),
        lambda: fg.function(lambda x: la.inv(x + 0.0))(np.zeros((3, 3))),
    ):
        with pytest.raises(RunError) as error:
            job()
        lines = [int(one) for one in re.findall(r"test_linalg\.py:(\d+)", error.value.asked)]
        found += [line - job.__code__.co_firstlineno for line in lines]
    assert found == [0, 0, 0, 0]


LATE = """
import numpy as np, flowgraph as fg, sys
from flowgraph.kernel import kernel
from threadpoolctl import ThreadpoolController

def blas():
    return [one for one in ThreadpoolController().lib_controllers if one.user_api == "blas"]

float(fg.sum(fg.constant(np.eye(3)) @ np.eye(3)))
early = len(blas())
assert "scipy" not in sys.modules
inside = []
look = kernel.Hooks.libraries_loaded
def spy():
    look()
    inside.extend(one.get_num_threads() for one in blas())
kernel.Hooks.libraries_loaded = staticmethod(spy)
before = [one.get_num_threads() for one in blas()]
fg.linalg.triangular_solve(np.eye(2), np.eye(2)).numpy()
assert "scipy.linalg" in sys.modules
assert inside and set(inside) == {1}, inside
after = [one.get_num_threads() for one in blas()]
assert after[:early] == before, (before, after)
assert kernel._BLAS.shared.running == 0
assert len(kernel._BLAS.known) == len(blas())
probe = fg.define("probe", "i -> i", lambda x: x * 0 + max(one.get_num_threads() for one in blas()))
assert probe(np.zeros(2)).numpy().tolist() == [1, 1]
print("held")
"""


def test_a_blas_that_is_loaded_later_is_held_to_one_thread() -> None:
    found = subprocess.run([sys.executable, "-c", LATE], check=False, capture_output=True, text=True)
    assert found.stdout.strip() == "held", found.stderr


def test_tolerances_may_differ_from_matrix_to_matrix() -> None:
    x = np.diag([4.0, 2.0, 1.0])
    limits = np.array([0.1, 0.3, 0.6])
    found = fg.linalg.pinv(x, rtol=limits)
    np.testing.assert_allclose(found, [np.linalg.pinv(x, rtol=limit) for limit in limits], atol=1e-12)
    np.testing.assert_allclose(fg.linalg.pinv(np.stack([x, 2 * x, x]), rtol=fg.constant(limits))[2], found[2])
    assert fg.linalg.matrix_rank(x, rtol=limits).tolist() == [3, 2, 1]
    assert fg.linalg.pinv(x.astype(np.float32), rtol=limits).dtype == np.float32
    with pytest.raises(DTypeError):
        fg.linalg.pinv(x, rtol=[True])
    with pytest.raises(UsageError):
        fg.linalg.pinv(x, rtol=-0.1)
