"""Elements in another order, edges, triangles, creation: beside numpy, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import ShapeError, UsageError

X = np.arange(24.0).reshape(2, 3, 4)


def same(found: Any, wanted: Any) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found.numpy(), wanted)


@pytest.mark.parametrize("axis", [0, 1, -1, 3])
def test_stack_and_unstack(axis: int) -> None:
    same(fg.stack([fg.constant(X), X + 1], axis=axis), np.stack([X, X + 1], axis))
    if axis < 3:
        for one, other in zip(fg.unstack(fg.constant(X), axis=axis), np.moveaxis(X, axis, 0), strict=True):
            same(one, other)


def test_split() -> None:
    for asked, marks in ((3, 3), ([1, -1], [1]), ([0, 2, 1], [0, 2])):
        for one, other in zip(fg.split(fg.constant(X), asked, axis=1), np.split(X, marks, axis=1), strict=True):
            same(one, other)
    for asked in (2, [1, 1], [-1, -1], [4, -1], 0):
        with pytest.raises(ShapeError, match="come out even"):
            fg.split(fg.constant(X), asked, axis=1)


@pytest.mark.parametrize("axis", [None, 0, (0, 2), -1, ()], ids=str)
def test_flip(axis: Any) -> None:
    same(fg.flip(fg.constant(X), axis=axis), np.flip(X, axis))


@pytest.mark.parametrize(
    ("repeats", "axis"), [(2, None), (2, 1), (0, 1), ([1, 2, 0], 1), (np.array([3]), 0), (np.array(2), -1)], ids=str
)
def test_repeat(repeats: Any, axis: Any) -> None:
    same(fg.repeat(fg.constant(X), repeats, axis=axis), np.repeat(X, repeats, axis))


@pytest.mark.parametrize("counts", [2, (2,), (1, 2), (2, 1, 3), (2, 1, 1, 2), (0, 1, 1), (1, 1, 1)], ids=str)
def test_tile(counts: Any) -> None:
    same(fg.tile(fg.constant(X), counts), np.tile(X, counts))


def test_axes() -> None:
    same(fg.moveaxis(fg.constant(X), (0, 1), (-1, 0)), np.moveaxis(X, (0, 1), (-1, 0)))
    same(fg.permute_dims(fg.constant(X), (2, 0, 1)), X.transpose(2, 0, 1))
    same(fg.matrix_transpose(fg.constant(X)), X.swapaxes(1, 2))
    same(fg.roll(fg.constant(X), (1, -5), axis=(0, 2)), np.roll(X, (1, -5), (0, 2)))
    same(fg.roll(fg.constant(X), 5), np.roll(X, 5))
    for one, other in zip(fg.broadcast_arrays(X, X[:, :1, 0, None]), np.broadcast_arrays(X, X[:, :1, :1]), strict=True):
        same(one, other)
    with pytest.raises(ShapeError, match="differ"):
        fg.broadcast_arrays(X, X[:, :2])
    with pytest.raises(UsageError):
        fg.moveaxis(X, (0, 0), (1, 2))


@pytest.mark.parametrize("mode", ["CONSTANT", "REFLECT", "symmetric"])
def test_pad(mode: str) -> None:
    pairs = [[1, 0], [2, 1], [0, 3]]
    same(fg.pad(fg.constant(X), pairs, mode), np.pad(X, pairs, mode.lower()))  # type: ignore[call-overload]
    weights = np.cos(np.arange(3.0 * 6 * 7)).reshape(3, 6, 7)
    slope = fg.grad(lambda x: (fg.pad(x, pairs, mode) * weights).sum())(X)
    wanted = [
        (np.pad(one, pairs, mode.lower()) * weights).sum()  # type: ignore[call-overload]
        for one in np.eye(24).reshape(24, 2, 3, 4)
    ]
    np.testing.assert_allclose(slope.numpy().ravel(), wanted, atol=1e-12)


def test_values_and_limits_of_pad() -> None:
    same(fg.pad(fg.constant(X), [[0, 1]] * 3, constant_values=-1), np.pad(X, [[0, 1]] * 3, constant_values=-1))
    assert fg.pad(fg.constant([1, 2]), [[1, 0]], constant_values=7).dtype == np.int32
    assert fg.pad(fg.constant([True]), [[1, 0]]).tolist() == [False, True]
    assert (
        float(fg.grad(lambda v: fg.pad(fg.constant(X), [[1, 1]] * 3, constant_values=v).sum())(2.0)) == 4 * 5 * 6 - 24
    )
    for call in (
        lambda: fg.pad(fg.constant([1, 2]), [[1, 0]], constant_values=0.5),
        lambda: fg.pad(fg.constant([1, 2]), [[2, 0]], "REFLECT"),
        lambda: fg.pad(fg.constant([1, 2]), [[1, 0]], "EDGE"),
        lambda: fg.pad(fg.constant([1, 2]), [1, 0]),
        lambda: fg.pad(fg.constant([1, 2]), [[-1, 0]]),
    ):
        with pytest.raises(UsageError):
            call()


def test_diagonals() -> None:
    for offset in (-2, 0, 1, 9):
        same(fg.diagonal(fg.constant(X), offset=offset), np.diagonal(X, offset, 1, 2))
        same(fg.trace(fg.constant(X), offset=offset), np.trace(X, offset, 1, 2))
        same(fg.diag(fg.constant(X[0, 0]), offset), np.diag(X[0, 0], offset))
    assert fg.trace(fg.constant(np.eye(3, dtype=np.int8))).dtype == np.int32
    assert fg.trace(fg.eye(3), dtype="float64").dtype == np.float64
    for function in (fg.tril, fg.triu, fg.diagonal):
        with pytest.raises(ShapeError):
            function(fg.constant([1.0]))


def test_creation() -> None:
    same(fg.eye(3, 5, k=-1, dtype="int16"), np.eye(3, 5, -1, "int16"))
    assert fg.eye(2).dtype == fg.zeros(2).dtype == fg.empty((1, 2)).dtype == fg.linspace(0, 1, 2).dtype == np.float32
    assert fg.full_like(X, 3).dtype == np.float64
    assert fg.full_like([1, 2], 3.5, dtype="float32").tolist() == [3.5, 3.5]
    assert fg.ones_like(X, dtype="int8").dtype == fg.zeros_like(X, dtype="int8").dtype == np.int8
    assert fg.empty_like(X).shape == X.shape
    assert fg.full((2,), True).dtype == np.bool_
    for function in (fg.zeros, fg.ones, fg.empty):
        assert function((2,), dtype=None, device="cpu").shape == (2,)
        with pytest.raises(UsageError, match="only 'cpu'"):
            function((2,), device="gpu")


def test_linspace() -> None:
    for endpoint in (True, False):
        for num in (0, 1, 2, 50):
            found = fg.linspace(-1.0, 3.0, num, dtype="float64", endpoint=endpoint)
            np.testing.assert_allclose(found.numpy(), np.linspace(-1, 3, num, endpoint=endpoint), rtol=1e-14)
    assert fg.linspace(0, 0.1, 7).numpy()[-1] == np.float32(0.1)
    assert fg.linspace(0, 1j, 3).dtype == np.complex64
    slope = fg.grad(lambda a, b: fg.linspace(a, b, 3)[1], argnums=(0, 1))(0.0, 2.0)
    assert [float(one) for one in slope] == [0.5, 0.5]
    with pytest.raises(UsageError):
        fg.linspace(0, 1, -1)


@pytest.mark.parametrize("indexing", ["xy", "ij"])
def test_meshgrid(indexing: Any) -> None:
    for count in range(4):
        vectors = [np.arange(k + 2) for k in range(count)]
        found = fg.meshgrid(*vectors, indexing=indexing)
        for one, other in zip(found, np.meshgrid(*vectors, indexing=indexing), strict=True):
            same(one, other)
    with pytest.raises(UsageError):
        fg.meshgrid(X, indexing=indexing)


def test_asarray_copies_as_asked() -> None:
    data = np.zeros(3)
    shared, own = fg.asarray(data, copy=False), fg.asarray(data, copy=True)
    data[0] = 1
    assert own.tolist() == [0, 0, 0]
    assert shared.tolist() == [1, 0, 0]
    for value, dtype in (([1.0], None), (2.0, None), (data, "float32")):
        with pytest.raises(UsageError, match="copy=False"):
            fg.asarray(value, dtype=dtype, copy=False)


def test_in_traced_functions_of_any_length() -> None:
    def moved(x: Any) -> Any:
        return (
            fg.flip(x),
            fg.repeat(x, 2, axis=0),
            fg.tile(x, (1, 2)),
            fg.roll(x, 1, axis=0),
            fg.pad(x, [[1, 2], [0, 1]]),
            fg.tril(x),
            fg.stack([x, x]),
        )

    traced = fg.function(moved)
    for rows in (3, 6):
        x = np.random.default_rng(rows).normal(size=(rows, 3))
        for one, other in zip(traced(fg.constant(x)), moved(fg.constant(x)), strict=True):
            same(one, other.numpy())
