"""Functions with TensorFlow's arguments where flowgraph's take others or none exist: arithmetic and linear algebra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import ShapeError, UsageError
from flowgraph.ops import (
    create,
    decompositions,
    diagonals,
    gather,
    largest,
    linalg,
    norms,
    reduce,
    solvers,
)
from flowgraph.ops.comparison import isfinite
from flowgraph.ops.create import cast
from flowgraph.ops.dtypes import result_type
from flowgraph.ops.elementwise import log, log1p, maximum, square, where
from flowgraph.ops.reduce import sum
from flowgraph.ops.rules import common_float, floats
from flowgraph.ops.shape import expand_dims, reshape, squeeze
from flowgraph.ops.sorting import argsort
from flowgraph.spellings.arrays import adjoint
from flowgraph.tensor import Tensor
from flowgraph.types import listed, product


def _met(*operands: Any) -> list[Tensor]:
    """The operands as floats of the dtype in which they meet, which Python numbers take from the others."""
    given = [one if type(one) in (bool, int, float, complex) else convert(one) for one in operands]
    wanted = common_float(result_type(*given))
    return [cast(convert(one, wanted), wanted) for one in given]


def add_n(inputs: Sequence[Any], name: str | None = None) -> Tensor:
    """The sum of the tensors in the list `inputs`, which have one shape.

    >>> import flowgraph as fg
    >>> fg.add_n([[1.0, 2.0], [3.0, 4.0]]).tolist()
    [4.0, 6.0]
    """
    tensors = [convert(one) for one in listed(inputs, "inputs")]
    if not tensors or any(one.shape != tensors[0].shape for one in tensors):
        raise ShapeError(
            f"add_n of {len(tensors)} tensors", "they are none, or differ in shape", "Give tensors of one shape."
        )
    total = tensors[0]
    for one in tensors[1:]:
        total = total + one
    return total


def divide_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The quotient x / y, and 0 where y is 0.

    >>> import flowgraph as fg
    >>> fg.math.divide_no_nan([1.0, 6.0], [0.0, 2.0]).tolist()
    [0.0, 3.0]
    """
    x, y = _met(x, y)
    zero = y == 0
    return where(zero, 0, x / where(zero, 1, y))  # type: ignore[no-any-return]


def multiply_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The product x * y, and 0 where y is 0, whatever x is; the gradient by y is x, and 0 where x is not finite.

    >>> import flowgraph as fg
    >>> fg.math.multiply_no_nan([fg.inf, 6.0], [0.0, 2.0]).tolist()
    [0.0, 12.0]
    """
    x, y = _met(x, y)
    undefined = (y == 0) & ~isfinite(x)
    return where(undefined, 0, where(undefined, 0, x) * y)  # type: ignore[no-any-return]


def reciprocal_no_nan(x: Any, name: str | None = None) -> Tensor:
    """1 / x, and 0 where x is 0.

    >>> import flowgraph as fg
    >>> fg.math.reciprocal_no_nan([0.0, 2.0]).tolist()
    [0.0, 0.5]
    """
    return divide_no_nan(1.0, x)


def xdivy(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The quotient x / y, and 0 where x is 0, whatever y is.

    >>> import flowgraph as fg
    >>> fg.math.xdivy([0.0, 1.0], [0.0, 2.0]).tolist()
    [0.0, 0.5]
    """
    x, y = _met(x, y)
    zero = x == 0
    return where(zero, 0, x / where(zero, 1, y))  # type: ignore[no-any-return]


def xlog1py(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The product x * log(1 + y), and 0 where x is 0, whatever y is.

    >>> import flowgraph as fg
    >>> fg.math.xlog1py([0.0, 2.0], [-1.0, 0.0]).tolist()
    [0.0, 0.0]
    """
    x, y = _met(x, y)
    zero = x == 0
    return where(zero, 0, x * log1p(where(zero, 0, y)))  # type: ignore[no-any-return]


def zero_fraction(value: Any, name: str | None = None) -> Tensor:
    """The share of the elements of `value` that are 0, as float32.

    >>> import flowgraph as fg
    >>> float(fg.nn.zero_fraction([0.0, 1.0]))
    0.5
    """
    return reduce.mean(cast(convert(value) == 0, np.float32))


def count_nonzero(
    input: Any, axis: Any = None, keepdims: Any = None, dtype: Any = np.int64, name: str | None = None
) -> Tensor:
    """How many elements over `axis` are not 0.

    >>> import flowgraph as fg
    >>> fg.math.count_nonzero([[0, 2], [3, 4]], axis=1).tolist()
    [1, 2]
    """
    return reduce.count_nonzero(input, axis, bool(keepdims), dtype)


def invert_permutation(x: Any, name: str | None = None) -> Tensor:
    """Where in `x`, a permutation of 0, 1, 2, ..., each of these numbers stands; in the dtype of `x`.

    >>> import flowgraph as fg
    >>> fg.math.invert_permutation([2, 0, 1]).tolist()
    [1, 2, 0]
    """
    x = convert(x)
    return cast(argsort(x), x.dtype)


def top_k(
    input: Any, k: Any = 1, sorted: bool = True, index_type: Any = np.int32, name: str | None = None
) -> largest.TopK:
    """The `k` largest elements along the last axis, the largest first, and their places as `index_type`.

    >>> import flowgraph as fg
    >>> [one.tolist() for one in fg.math.top_k([1, 5, 3], k=2)]
    [[5, 3], [1, 2]]
    """
    found = largest.top_k(input, k, sorted)
    return largest.TopK(found.values, cast(found.indices, index_type))


def l2_loss(t: Any, name: str | None = None) -> Tensor:
    """Half the sum of the squares of `t`.

    >>> import flowgraph as fg
    >>> float(fg.nn.l2_loss([1.0, 3.0]))
    5.0
    """
    return sum(square(floats(t))) / 2  # type: ignore[no-any-return]


def in_top_k(targets: Any, predictions: Any, k: int, name: str | None = None) -> Tensor:
    """Whether the class that each target names is among the `k` largest of its row of predictions; ties are in.

    A target that names no class, and one whose prediction is not finite, is not.

    >>> import flowgraph as fg
    >>> fg.math.in_top_k([0, 1], [[0.1, 0.9], [0.1, 0.9]], k=1).tolist()
    [False, True]
    """
    rows, classes = convert(predictions), convert(targets)
    named = (classes >= 0) & (classes < rows.shape[-1])
    own = gather.take_along_axis(rows, expand_dims(where(named, classes, 0), axis=-1), axis=-1)
    larger = sum(cast(rows > own, np.int32), axis=-1)
    return named & isfinite(squeeze(own, axis=-1)) & (larger < k)  # type: ignore[no-any-return]


# Clipping


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Tensor:
    """`t`, scaled down where its Euclidean norm over `axes` exceeds `clip_norm`.

    >>> import flowgraph as fg
    >>> fg.clip_by_norm([3.0, 4.0], 1.0).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    t = floats(t)
    over = axes if axes is None or isinstance(axes, int) else listed(axes, "axes")
    length = reduce.root(sum(norms.squares(t), axis=over, keepdims=True), 2)
    return t * clip_norm / maximum(length, clip_norm)  # type: ignore[no-any-return]


def global_norm(t_list: Sequence[Any], name: str | None = None) -> Tensor:
    """The Euclidean norm of all tensors in a list together; those that are None do not count.

    Its gradient at 0 is 0, one of its subgradients, as that of every norm here.

    >>> import flowgraph as fg
    >>> float(fg.linalg.global_norm([[3.0], None, [4.0]]))
    5.0
    """
    totals = [sum(norms.squares(floats(one))) for one in listed(t_list, "t_list") if one is not None]
    if not totals:
        raise UsageError("global_norm of no tensors", "there is nothing to measure", "Give at least one tensor.")
    return reduce.root(add_n(totals), 2)


def clip_by_global_norm(
    t_list: Sequence[Any], clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Any], Tensor]:
    """The tensors of a list, scaled down together where their common norm exceeds `clip_norm`, and that norm.

    Where the norm is not finite the tensors become nan, as in TensorFlow.

    >>> import flowgraph as fg
    >>> clipped, norm = fg.clip_by_global_norm([[3.0], None, [4.0]], 2.5)
    >>> clipped[0].tolist(), clipped[1], clipped[2].tolist(), float(norm)
    ([1.5], None, [2.0], 5.0)
    """
    tensors = [one if one is None else floats(one) for one in listed(t_list, "t_list")]
    known = (one for one in tensors if one is not None)
    length = global_norm(tensors) if use_norm is None else _met(use_norm, *known)[0]
    # inf - inf is nan: a norm that is not finite spoils all of them.
    scale = clip_norm / maximum(length, clip_norm) + (length - length)
    return [None if one is None else one * scale for one in tensors], length


# Linear algebra


def matvec(a: Any, b: Any, transpose_a: bool = False, adjoint_a: bool = False, name: str | None = None) -> Tensor:
    """The product of the matrix `a`, transposed if so asked, and the vector `b`.

    >>> import flowgraph as fg
    >>> fg.linalg.matvec([[1.0, 2.0]], [3.0, 4.0]).tolist()
    [11.0]
    """
    if transpose_a and adjoint_a:
        raise UsageError("matvec of a matrix transposed and adjoint", "it is one or the other", "Ask for one.")
    matrix = linalg.matrix_transpose(convert(a)) if transpose_a else adjoint(a) if adjoint_a else a
    return squeeze(linalg.matmul(matrix, expand_dims(b, axis=-1)), axis=-1)  # type: ignore[no-any-return]


def svd(tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: str | None = None) -> Any:
    """The singular values of the matrices and, if `compute_uv`, U and V: (s, u, v), where tensor = u diag(s) v^H.

    >>> import flowgraph as fg
    >>> s, u, v = fg.compat.v2.linalg.svd([[3.0, 0.0], [0.0, 2.0]])
    >>> s.tolist(), v.shape
    ([3.0, 2.0], (2, 2))
    """
    if not compute_uv:
        return decompositions.svdvals(tensor)
    found = decompositions.svd(tensor, full_matrices=full_matrices)
    return found.S, found.U, adjoint(found.Vh)


def qr(input: Any, full_matrices: bool = False, name: str | None = None) -> Any:
    """The orthogonal and the upper triangular factors of the matrices: (q, r).

    >>> import flowgraph as fg
    >>> [one.shape for one in fg.compat.v2.linalg.qr([[3.0], [4.0]], full_matrices=True)]
    [(2, 2), (2, 1)]
    """
    return decompositions.qr(input, mode="complete" if full_matrices else "reduced")


def solve(matrix: Any, rhs: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """The x with matrix @ x = rhs, or with the adjoint of the matrix; `rhs` has matrices.

    >>> import flowgraph as fg
    >>> fg.compat.v2.linalg.solve(matrix=[[2.0]], rhs=[[4.0]]).tolist()
    [[2.0]]
    """
    return solvers.solve(_adjoint(matrix) if adjoint else matrix, rhs)  # type: ignore[no-any-return]


def inv(input: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """The inverse of the matrices, or of their adjoints.

    >>> import flowgraph as fg
    >>> fg.compat.v2.linalg.inv(input=[[2.0]]).tolist()
    [[0.5]]
    """
    return solvers.inv(_adjoint(input) if adjoint else input)  # type: ignore[no-any-return]


def cholesky_solve(chol: Any, rhs: Any, name: str | None = None) -> Tensor:
    """The x with chol @ chol^H @ x = rhs, for lower triangular matrices such as `linalg.cholesky` returns.

    >>> import flowgraph as fg
    >>> fg.linalg.cholesky_solve([[2.0]], [[8.0]]).tolist()
    [[2.0]]
    """
    half = solvers.triangular_solve(chol, rhs)
    return solvers.triangular_solve(chol, half, adjoint=True)  # type: ignore[no-any-return]


_adjoint = adjoint


def matrix_rank(a: Any, tol: Any = None, validate_args: bool = False, name: str | None = None) -> Tensor:
    """How many singular values of the matrices are above `tol` (None: the precision times size and largest value).

    `validate_args` says nothing: matrices are always checked.

    >>> import flowgraph as fg
    >>> int(fg.compat.v2.linalg.matrix_rank([[1.0, 0.0], [0.0, 0.5]], tol=0.7))
    1
    """
    if tol is None:
        return norms.matrix_rank(a)
    values = decompositions.svdvals(a)
    limit = convert(tol, values.dtype)
    return sum(cast(values > expand_dims(limit, axis=-1), np.int32), axis=-1)  # type: ignore[no-any-return]


def tensor_diag(diagonal: Any, name: str | None = None) -> Tensor:
    """Zeros of the shape of `diagonal` twice, with its elements where both halves of the place are equal.

    >>> import flowgraph as fg
    >>> fg.linalg.tensor_diag([1, 2]).tolist(), fg.linalg.tensor_diag([[1, 2]]).shape
    ([[1, 0], [0, 2]], (1, 2, 1, 2))
    """
    x = convert(diagonal)
    return reshape(diagonals.diag(reshape(x, (-1,))), x.shape + x.shape)  # type: ignore[no-any-return]


def tensor_diag_part(input: Any, name: str | None = None) -> Tensor:
    """The elements of `input`, whose shape is one shape twice, where both halves of the place are equal.

    >>> import flowgraph as fg
    >>> fg.linalg.tensor_diag_part([[1, 0], [0, 2]]).tolist()
    [1, 2]
    """
    x = convert(input)
    half = x.shape[: x.ndim // 2]
    if not half or half + half != x.shape:
        raise ShapeError(f"tensor_diag_part of {x.type}", "its shape is not one shape twice", "Use linalg.diag_part.")
    count = product(half)
    return reshape(diagonals.diagonal(reshape(x, (count, count))), half)  # type: ignore[no-any-return]


def logdet(matrix: Any, name: str | None = None) -> Tensor:
    """The logarithm of the determinant of positive definite matrices.

    >>> import flowgraph as fg
    >>> round(float(fg.linalg.logdet([[fg.e, 0.0], [0.0, fg.e]])), 5)
    2.0
    """
    triangle = decompositions.cholesky(matrix)
    return 2 * sum(log(diagonals.diagonal(triangle)), axis=-1)  # type: ignore[no-any-return]


def normalize(tensor: Any, ord: Any = "euclidean", axis: Any = None, name: str | None = None) -> tuple[Tensor, Tensor]:
    """`tensor` divided by its norm over `axis`, and that norm.

    >>> import flowgraph as fg
    >>> [one.tolist() for one in fg.linalg.normalize([3.0, 4.0])]
    [[0.6000000238418579, 0.800000011920929], [5.0]]
    """
    tensor = floats(tensor)
    length = norms.norm(tensor, ord=ord, axis=axis, keepdims=True)
    return tensor / length, length


def polyval(coeffs: Sequence[Any], x: Any, name: str | None = None) -> Tensor:
    """The polynomial of `x` with the coefficients in a list, that of the highest power first.

    >>> import flowgraph as fg
    >>> float(fg.math.polyval([1.0, 0.0, 3.0], 2.0))
    7.0
    """
    x = convert(x)
    total: Any = create.zeros_like(x)  # x * 0 would be nan at infinity
    for place, one in enumerate(listed(coeffs, "coeffs")):
        total = total * x + one if place else total + one
    return total  # type: ignore[no-any-return]
