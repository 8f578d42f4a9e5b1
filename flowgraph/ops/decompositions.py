"""Factorisations of matrices: cholesky, qr, eigenvalues, singular values. All act on the last two axes.

The gradients are those of M. B. Giles (2008, see solvers.py), I. Murray, "Differentiation of the Cholesky
decomposition" (arXiv:1602.07527), H.-J. Liao et al., "Differentiable programming tensor networks" (arXiv:1903.09650,
for qr), J. Townsend, "Differentiating the singular value decomposition" (2016) and Z.-Q. Wan and S.-X. Zhang,
"Automatic differentiation for complex valued SVD" (arXiv:1909.02659). They hold where the rank is full and the values
differ; a pair of equal values adds nothing, and so does a singular value of 0. Vectors are determined up to their
signs, complex ones up to phases: only functions that do not depend on these have gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flowgraph.errors import GradientError, ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops.complex import imag
from flowgraph.ops.diagonals import band_part, diag, diagonal
from flowgraph.ops.differentiate import is_zero
from flowgraph.ops.elementwise import where
from flowgraph.ops.linalg import adjoint
from flowgraph.ops.shape import concat, expand_dims
from flowgraph.ops.solvers import lapack_dtype, real_result, same_dtype, triangular_solve, well_posed
from flowgraph.tensor import Tensor
from flowgraph.types import real_dtype

Array = np.ndarray[Any, Any]

__all__: list[str] = []


class EighResult(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: Tensor
    R: Tensor


class SVDResult(NamedTuple):
    """What `svd` returns."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def _symmetric(x: Array) -> Array:
    """The symmetric (Hermitian) part, which is x itself, to the bit, where x is symmetric."""
    halves: Array = x / 2
    return halves + np.conj(np.swapaxes(halves, -1, -2))


def _hermitian(x: Tensor) -> Tensor:
    return (x + adjoint(x)) * 0.5


def _square_samples(*attrs: dict[str, Any]) -> Any:
    return lambda: [
        ((x,), one) for one in attrs for x in well_posed((3, 3), (5, 2, 2), (2, 3, 4, 4), (1, 1), (0, 3, 3))
    ]


# cholesky


def _cholesky(x: Array, upper: bool) -> Array:
    lower = np.linalg.cholesky(_symmetric(x))
    return np.conj(np.swapaxes(lower, -1, -2)) if upper else lower


def _cholesky_gradient(g: Tensor, out: Tensor, x: Tensor, upper: bool) -> Any:
    """The Hermitian part of L^-H P L^-1, where P is the lower triangle of L^H g with half of its diagonal."""
    lower, g = (adjoint(out), adjoint(g)) if upper else (out, g)
    product = adjoint(lower) @ g
    middle = band_part(product, -1, 0) - band_part(product, 0, 0) * 0.5
    left = triangular_solve(lower, middle, adjoint=True)
    return (_hermitian(adjoint(triangular_solve(lower, adjoint(left), adjoint=True))),)


cholesky: Op = define(
    "cholesky",
    "... [m] [m] -> ... [m] [m]",
    _cholesky,
    attrs=lambda x, /, *, upper=False: {"upper": bool(upper)},
    dtype=same_dtype,
    gradient=_cholesky_gradient,
    flops=1,
    samples=_square_samples({}, {"upper": True}),
    doc="The triangular matrices L with L @ L^H = x (x = U^H @ U with `upper`); the symmetric part of x is taken.",
)

# eigenvalues of symmetric matrices


def _eigh(x: Array) -> tuple[Array, Array]:
    values, vectors = np.linalg.eigh(_symmetric(x))
    return values, vectors


def _inverse_differences(values: Tensor) -> Tensor:
    """1 / (value j - value i) at (i, j); 0 where they are equal, on the diagonal above all."""
    return _inverse(expand_dims(values, -2) - expand_dims(values, -1))


def _inverse(x: Tensor) -> Tensor:
    """1 / x, and 0 where x is 0."""
    return where(x == 0, 0, 1 / where(x == 0, 1, x))  # type: ignore[no-any-return]


def _eigh_gradient(g: Any, out: Any, x: Tensor) -> Any:
    values, vectors = out
    turns = (adjoint(vectors) @ g[1]) * _inverse_differences(values)
    middle = turns + diag(g[0].astype(x.dtype) if g[0].dtype != x.dtype else g[0])
    return (_hermitian(vectors @ middle @ adjoint(vectors)),)


eigh_op: Op = define(
    "eigh",
    "... [m] [m] -> ... [m], ... [m] [m]",
    _eigh,
    dtype=lambda types, attrs: ((lapack_dtype(types),), (real_dtype(lapack_dtype(types)), lapack_dtype(types))),
    gradient=_eigh_gradient,
    flops=20,
    samples=_square_samples({}),
    doc="The eigenvalues, in ascending order, and the eigenvectors of symmetric matrices.",
)


def eigh(x: Any, /) -> EighResult:
    """The eigenvalues (ascending) and eigenvectors (columns) of symmetric or Hermitian matrices.

    The symmetric part of `x` is taken. At equal eigenvalues, where eigenvectors have no gradient, it is finite.

    >>> import flowgraph as fg
    >>> fg.linalg.eigh([[2.0, 0.0], [0.0, 1.0]]).eigenvalues.tolist()
    [1.0, 2.0]
    """
    return EighResult(*eigh_op(x))


def _scaled(columns: Tensor, by: Tensor) -> Tensor:
    """The columns of matrices, each times a real number."""
    return columns * expand_dims(by, -2)  # type: ignore[no-any-return]


def _eigvalsh_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    vectors = eigh(x).eigenvectors
    return (_hermitian(_scaled(vectors, g) @ adjoint(vectors)),)


eigvalsh: Op = define(
    "eigvalsh",
    "... [m] [m] -> ... [m]",
    lambda x: np.linalg.eigvalsh(_symmetric(x)),
    dtype=real_result,
    gradient=_eigvalsh_gradient,
    flops=8,
    samples=_square_samples({}),
    doc="The eigenvalues, in ascending order, of symmetric matrices; the symmetric part of x is taken.",
)

# qr


def _lengths(x: Any, what: str) -> tuple[int, int]:
    if x.ndim < 2 or not all(isinstance(length, int) for length in x.shape[-2:]):
        raise ShapeError(
            f"{what} of {x}", "it holds no matrices of a known size", "Give a tensor whose last two axes are matrices."
        )
    rows, columns = x.shape[-2:]
    return rows, columns


def _qr_attrs(x: Any, /, *, mode: str = "reduced") -> dict[str, Any]:
    _lengths(x, "qr")
    if mode not in ("reduced", "complete"):
        raise UsageError(f"qr with mode={mode!r}", "there are two modes", "'reduced' or 'complete'.")
    return {"mode": mode}


def _qr_factors(types: Any, attrs: Any) -> str:
    rows, columns = _lengths(types[0], "qr")
    inner = "m" if attrs["mode"] == "complete" or rows <= columns else "n"
    return f"... [m] [n] -> ... [m] [{inner}], ... [{inner}] [n]"


def _qr(x: Array, mode: str) -> tuple[Array, Array]:
    q, r = np.linalg.qr(x, mode)  # type: ignore[call-overload]
    return q, r


def _qr_gradient(g: Any, out: Any, x: Tensor, mode: str) -> Any:
    (rows, columns), (q, r), (gq, gr) = _lengths(x, "qr"), out, g
    if mode == "complete" and rows > columns:
        if not is_zero(gq):
            raise GradientError(
                f"the gradient by Q of qr of {x.type} with mode={mode!r}",
                "the columns of a complete Q are not all determined",
                "Use mode='reduced'.",
            )
        (q, r), gq, gr = qr(x), gq[..., :columns], gr[..., :columns, :]  # which has a second derivative
    if rows >= columns:
        return (_qr_square(gq, gr, q, r),)
    # x = [a | b]: q and the left part of r come from a, the right part of r is q^H b
    right, g_right = x[..., rows:], gr[..., rows:]
    left = _qr_square(gq + right @ adjoint(g_right), gr[..., :rows], q, r[..., :rows])
    return (concat([left, q @ g_right], axis=-1),)


def _qr_square(gq: Tensor, gr: Tensor, q: Tensor, r: Tensor) -> Tensor:
    """(gq + q S) r^-H, where S has the lower triangle of r gr^H - gq^H q on both sides of its diagonal.

    Of the diagonal it has the real part, since LAPACK makes that of a complex r real.
    """
    m = r @ adjoint(gr) - adjoint(gq) @ q
    diagonal = band_part(m, 0, 0)
    lower = band_part(m, -1, 0) - diagonal
    both = lower + adjoint(lower) + _hermitian(diagonal)
    return adjoint(triangular_solve(r, adjoint(gq + q @ both), lower=False))


qr_op: Op = define(
    "qr",
    _qr_factors,
    _qr,
    attrs=_qr_attrs,
    dtype=lambda types, attrs: ((lapack_dtype(types),), (lapack_dtype(types),) * 2),
    gradient=_qr_gradient,
    flops=4,
    samples=lambda: (
        [((x,), {}) for x in well_posed((4, 3), (3, 3), (2, 4), (5, 3, 2), (2, 5, 1, 1), (0, 3, 2), (3, 0))]
        + [((x,), {"mode": "complete"}) for x in well_posed((3, 3), (5, 2, 3))]
    ),
    doc="Matrices Q with orthonormal columns and upper triangular matrices R, whose product is x.",
)


def qr(x: Any, /, *, mode: str = "reduced") -> QRResult:
    """Q, with orthonormal columns, and the upper triangular R with Q @ R = x; `mode` is 'reduced' or 'complete'.

    >>> import flowgraph as fg
    >>> q, r = fg.linalg.qr([[3.0, 1.0], [4.0, 2.0]])
    >>> abs(round(float(r[0, 0]), 4))
    5.0
    """
    return QRResult(*qr_op(x, mode=mode))


# singular values


def _svd_attrs(x: Any, /, *, full_matrices: bool = True) -> dict[str, Any]:
    _lengths(x, "svd")
    return {"full_matrices": bool(full_matrices)}


def _svd_factors(types: Any, attrs: Any) -> str:
    rows, columns = _lengths(types[0], "svd")
    few = "m" if rows <= columns else "n"
    left, right = ("m", "n") if attrs["full_matrices"] else (few, few)
    return f"... [m] [n] -> ... [m] [{left}], ... [{few}], ... [{right}] [n]"


def _svd(x: Array, full_matrices: bool) -> tuple[Array, Array, Array]:
    u, s, vh = np.linalg.svd(x, full_matrices)
    return u, s, vh


def _svd_gradient(g: Any, out: Any, x: Tensor, full_matrices: bool) -> Any:
    (rows, columns), (gu, gs, gvh), (u, s, vh) = _lengths(x, "svd"), g, out
    if is_zero(gu) and is_zero(gvh):
        return _svdvals_gradient(gs, s, x)
    if full_matrices and rows != columns:
        raise GradientError(
            f"the gradient by the vectors of svd of {x.type} with full_matrices=True",
            "the further columns of full matrices are not determined",
            "Use full_matrices=False.",
        )
    v, inner = adjoint(vh), adjoint(u) @ gu
    between, inverse = _inverse_differences(s * s), _inverse(s)
    turns_u, turns_v = ((part - adjoint(part)) * between for part in (inner, vh @ adjoint(gvh)))
    middle = _scaled(turns_u, s) + expand_dims(s, -1) * turns_v + diag(gs)
    if x.dtype.kind == "c":  # the phase that a vector of u takes over from one of vh
        middle = middle + diag(imag(diagonal(inner)) * inverse) * 1j
    total = u @ middle @ vh
    if rows > columns:  # what lies outside of the space of u
        outside = _scaled(gu, inverse)
        total = total + (outside - u @ (adjoint(u) @ outside)) @ vh
    if columns > rows:
        outside = expand_dims(inverse, -1) * gvh
        total = total + u @ (outside - (outside @ v) @ vh)
    return (total,)


svd_op: Op = define(
    "svd",
    _svd_factors,
    _svd,
    attrs=_svd_attrs,
    dtype=lambda types, attrs: (
        (lapack_dtype(types),),
        (lapack_dtype(types), real_dtype(lapack_dtype(types)), lapack_dtype(types)),
    ),
    gradient=_svd_gradient,
    flops=20,
    samples=lambda: (
        [
            ((x,), {"full_matrices": False})
            for x in well_posed((4, 3), (3, 3), (2, 4), (5, 3, 2), (2, 5, 1, 1), (0, 3, 2), (3, 0))
        ]
        + [((x,), {"full_matrices": True}) for x in well_posed((3, 3), (5, 2, 2))]
    ),
    doc="U, the singular values in descending order, and V^H, whose product is x.",
)


def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """U, the singular values S (descending) and Vh, with U @ diag(S) @ Vh = x.

    U and Vh are square with `full_matrices`, else as narrow as x allows. Only the latter have gradients where x is not
    square; S always has one.

    >>> import flowgraph as fg
    >>> fg.linalg.svd([[3.0, 0.0], [0.0, 4.0]]).S.tolist()
    [4.0, 3.0]
    """
    return SVDResult(*svd_op(x, full_matrices=full_matrices))


def _svdvals_factors(types: Any, attrs: Any) -> str:
    rows, columns = _lengths(types[0], "svdvals")
    return f"... [m] [n] -> ... [{'m' if rows <= columns else 'n'}]"


def _svdvals_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    u, _, vh = svd(x, full_matrices=False)
    return (_scaled(u, g) @ vh,)


svdvals: Op = define(
    "svdvals",
    _svdvals_factors,
    lambda x: np.linalg.svd(x, compute_uv=False),
    dtype=real_result,
    attrs=lambda x, /: {},
    gradient=_svdvals_gradient,
    flops=8,
    samples=lambda: [((x,), {}) for x in well_posed((4, 3), (3, 3), (2, 4), (5, 3, 2), (0, 3, 2), (3, 0))],
    doc="The singular values of matrices, in descending order.",
)
