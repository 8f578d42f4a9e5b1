"""Linear equations: solve, inverses, determinants, powers. All act on the matrices in the last two axes.

Gradients are those of M. B. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation" (2008), with adjoints in place of transposes. A singular matrix raises RunError when the program runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flowgraph.apply import convert
from flowgraph.context import Hooks
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops import rules
from flowgraph.ops.complex import conj, imag
from flowgraph.ops.diagonals import band_part, diag
from flowgraph.ops.linalg import adjoint
from flowgraph.ops.reduce import sum
from flowgraph.ops.rules import common_float
from flowgraph.ops.shape import broadcast_like, broadcast_to, concat, expand_dims, squeeze
from flowgraph.tensor import Tensor
from flowgraph.types import real_dtype

Array = np.ndarray[Any, Any]

__all__: list[str] = []


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Tensor
    logabsdet: Tensor


def lapack_dtype(types: Any) -> np.dtype[Any]:
    """The dtype in which LAPACK computes: single or double precision, real or complex; integers become floats."""
    common = common_float(rules.common(types))
    if common not in (np.float32, np.float64, np.complex64, np.complex128):
        raise DTypeError(f"linear algebra with {common}", "LAPACK has no such numbers", "Cast the matrix to float32.")
    return common


def same_dtype(types: Any, attrs: Any) -> Any:
    """The dtype rule of ops whose results are like their operands."""
    common = lapack_dtype(types)
    return (common,) * len(types), common


def real_result(types: Any, attrs: Any) -> Any:
    """The dtype rule of ops whose result is real."""
    common = lapack_dtype(types)
    return (common,) * len(types), real_dtype(common)


def well_posed(*shapes: tuple[int, ...]) -> list[Array]:
    """Matrices for tests: symmetric where square, well conditioned, with singular values that differ."""
    rng = np.random.default_rng(7)
    found = []
    for shape in shapes:
        x = rng.uniform(-0.3, 0.3, shape)
        if shape[-1] == shape[-2]:
            x = (x + np.swapaxes(x, -1, -2)) / 2
        index = np.arange(min(shape[-2:]))
        x[..., index, index] += 2.0 + index
        found.append(x)
    return [*found, found[0].astype(np.float32)]


# solve


def _solve_factors(types: Any, attrs: Any) -> str:
    if types[1].ndim == 1:
        return "... [m] [m], [m] -> ... [m]"
    return "... [m] [m], ... [m] [k] -> ... [m] [k]"


def _solve(x: Array, y: Array) -> Array:
    return np.linalg.solve(x, y)


def _times_adjoint(x: Tensor, y: Tensor) -> Tensor:
    """The products x @ y^H."""
    return x @ adjoint(y)


def _solve_gradient(g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
    if y.ndim > 1:
        by_right = solve(adjoint(x), g)
        return (lambda: -_times_adjoint(by_right, out), by_right)
    by_right = squeeze(solve(adjoint(x), expand_dims(g, -1)), -1)
    return (lambda: -(expand_dims(by_right, -1) * expand_dims(conj(out), -2)), by_right)


def _with_right_sides(*pairs: tuple[tuple[int, ...], tuple[int, ...]]) -> Any:
    rng = np.random.default_rng(11)
    pairs_of = [(well_posed(left)[0], rng.uniform(-2, 2, right)) for left, right in pairs]
    return [*pairs_of, tuple(one.astype(np.float32) for one in pairs_of[0])]


_SYSTEMS = (
    ((3, 3), (3, 2)),
    ((5, 3, 3), (5, 3, 2)),
    ((5, 1, 2, 2), (4, 2, 3)),
    ((1, 1), (1, 1)),
    ((0, 2, 2), (0, 2, 1)),
)

solve: Op = define(
    "solve",
    _solve_factors,
    _solve,
    attrs=lambda x, y, /: {},
    dtype=same_dtype,
    gradient=_solve_gradient,
    flops=8,
    samples=lambda: [
        *((pair, {}) for pair in _with_right_sides(*_SYSTEMS)),
        *((pair, {}) for pair in _with_right_sides(((3, 3), (3,)), ((5, 3, 3), (3,)))),
    ],
    doc="The solutions of matrix @ solution = right side; a right side of one axis is a vector.",
)


def _scipy_linalg() -> Any:
    """scipy.linalg. It brings a BLAS of its own, which kernels must hold to one thread as well."""
    import scipy.linalg

    Hooks.libraries_loaded()
    return scipy.linalg


def _triangular_solve(x: Array, y: Array, lower: bool, adjoint: bool, unit_diagonal: bool) -> Array:
    solve_triangular = _scipy_linalg().solve_triangular
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    result = np.empty((*batch, *y.shape[-2:]), y.dtype)
    if not result.size:
        return result
    matrices, sides = np.broadcast_to(x, (*batch, *x.shape[-2:])), np.broadcast_to(y, result.shape)
    for place in np.ndindex(*batch):
        result[place] = solve_triangular(
            matrices[place],
            sides[place],
            lower=lower,
            trans="C" if adjoint else "N",
            unit_diagonal=unit_diagonal,
            check_finite=False,
        )
    return result


def _triangle(x: Tensor, lower: bool, unit_diagonal: bool) -> Tensor:
    part: Tensor = band_part(x, -1, 0) if lower else band_part(x, 0, -1)
    return part - band_part(part, 0, 0) if unit_diagonal else part


def _triangular_gradient(
    g: Tensor, out: Tensor, x: Tensor, y: Tensor, lower: bool, adjoint: bool, unit_diagonal: bool
) -> Any:
    by_right = triangular_solve(x, g, lower=lower, adjoint=not adjoint, unit_diagonal=unit_diagonal)

    def by_matrix() -> Tensor:
        whole = _times_adjoint(out, by_right) if adjoint else _times_adjoint(by_right, out)
        return -_triangle(whole, lower, unit_diagonal)

    return (by_matrix, by_right)


triangular_solve: Op = define(
    "triangular_solve",
    "... [m] [m], ... [m] [k] -> ... [m] [k]",
    _triangular_solve,
    attrs=lambda matrix, rhs, /, lower=True, adjoint=False, *, unit_diagonal=False: {
        "lower": bool(lower),
        "adjoint": bool(adjoint),
        "unit_diagonal": bool(unit_diagonal),
    },
    dtype=same_dtype,
    gradient=_triangular_gradient,
    flops=1,
    samples=lambda: [
        (pair, {"lower": lower, "adjoint": flip, "unit_diagonal": unit})
        for lower, flip, unit in ((True, False, False), (False, False, True), (True, True, False), (False, True, False))
        for pair in _with_right_sides(*_SYSTEMS)
    ],
    doc="The solutions of matrix @ solution = right side for triangular matrices (their adjoints with `adjoint`).",
)

# inverse and determinants


def _inv(x: Array) -> Array:
    return np.linalg.inv(x)


_SQUARE = ((3, 3), (5, 2, 2), (2, 3, 4, 4), (1, 1), (0, 3, 3))


def _square_samples() -> Any:
    return [((x,), {}) for x in well_posed(*_SQUARE)]


inv: Op = define(
    "inv",
    "... [m] [m] -> ... [m] [m]",
    _inv,
    dtype=same_dtype,
    gradient=lambda g, out, x: (-(adjoint(out) @ g @ adjoint(out)),),
    flops=6,
    samples=_square_samples,
    doc="The inverses of square matrices.",
)


def _adjugate(x: Array) -> Array:
    """det(x) inv(x) from singular values, so that it is right for singular matrices too."""
    u, s, vh = np.linalg.svd(x)
    others = np.broadcast_to(s[..., None, :], (*s.shape, s.shape[-1])).copy()
    index = np.arange(s.shape[-1])
    others[..., index, index] = 1
    products = np.prod(others, axis=-1)  # of all singular values but one
    phase = np.linalg.det(u) * np.linalg.det(vh)
    back = np.conj(np.swapaxes(vh, -1, -2)) * (phase[..., None] * products)[..., None, :]
    return (back @ np.conj(np.swapaxes(u, -1, -2))).astype(x.dtype)  # type: ignore[no-any-return]


def _adjugate_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    """From adjugate = det(x) inv(x); a singular matrix has no second derivative here."""
    inverse = adjoint(inv(x))
    total = sum(g * conj(out), axis=(-2, -1), keepdims=True)
    return (total * inverse - inverse @ g @ adjoint(out),)


adjugate: Op = define(
    "adjugate",
    "... [m] [m] -> ... [m] [m]",
    _adjugate,
    dtype=same_dtype,
    gradient=_adjugate_gradient,
    flops=20,
    samples=lambda: [((x,), {}) for x in well_posed((3, 3), (2, 3, 4, 4), (1, 1), (0, 3, 3))],
    doc="det(x) inv(x), which singular matrices have as well.",
)
det: Op = define(
    "det",
    "... [m] [m] -> ...",
    lambda x: np.asarray(np.linalg.det(x)),
    dtype=same_dtype,
    gradient=lambda g, out, x: (expand_dims(expand_dims(g, -1), -1) * adjoint(adjugate(x)),),
    flops=1,
    samples=_square_samples,
    doc="The determinants of square matrices; the gradient exists for singular ones, a second derivative does not.",
)


def _slogdet(x: Array) -> tuple[Array, Array]:
    sign, logarithm = np.linalg.slogdet(x)
    return np.asarray(sign), np.asarray(logarithm)


def _slogdet_gradient(g: Any, out: Any, x: Tensor) -> Any:
    """Both from d log(det) = tr(inv(x) dx): log|det| is its real part, the angle of the phase its imaginary part.

    The sign of real matrices is constant.
    """
    factor = g[1]
    if x.dtype.kind == "c":
        factor = g[1].astype(x.dtype) - imag(conj(g[0]) * out[0]).astype(x.dtype) * 1j
    return (expand_dims(expand_dims(factor, -1), -1) * adjoint(inv(x)),)


slogdet_op: Op = define(
    "slogdet",
    "... [m] [m] -> ..., ...",
    _slogdet,
    dtype=lambda types, attrs: (
        (lapack_dtype(types),),
        (lapack_dtype(types), real_dtype(lapack_dtype(types))),
    ),
    gradient=_slogdet_gradient,
    flops=1,
    samples=_square_samples,
    doc="The sign (for complex matrices the phase) and the logarithm of the absolute value of determinants.",
)


def slogdet(x: Any, /) -> SlogdetResult:
    """The signs of determinants and the logarithms of their absolute values, where the determinant may overflow.

    >>> import flowgraph as fg
    >>> sign, logabsdet = fg.linalg.slogdet([[2.0, 0.0], [0.0, 0.5]])
    >>> float(sign), float(logabsdet)
    (1.0, 0.0)
    """
    return SlogdetResult(*slogdet_op(x))


def identity_matrix(side: Any, dtype: Any) -> Tensor:
    """The identity matrix, also of a side that is not known yet."""
    return diag(broadcast_to(convert(np.ones((), dtype)), (side,)))


def matrix_power(x: Any, n: int, /) -> Tensor:
    """The square matrices in the last two axes to the power `n`, an integer; negative powers are those of the inverse.

    >>> import flowgraph as fg
    >>> fg.linalg.matrix_power([[1, 1], [0, 1]], 3).tolist()
    [[1, 3], [0, 1]]
    """
    x = convert(x)
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise UsageError(f"matrix_power with n={n!r}", "the power is an integer", "Give an int.")
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"matrix_power of {x.type}", "its matrices are not square", "Give square matrices.")
    if n == 0:
        return broadcast_like(identity_matrix(x.shape[-1], x.dtype), x)  # type: ignore[no-any-return]
    power, left = (inv(x) if n < 0 else x), abs(int(n))
    result: Tensor | None = None
    while True:
        if left % 2:
            result = power if result is None else result @ power
        left //= 2
        if not left:
            assert result is not None, "the highest bit of a number is set"
            return result
        power = power @ power


def _expm(x: Array) -> Array:
    if not x.size:  # of which scipy has none
        return x.copy()
    return np.asarray(_scipy_linalg().expm(x), x.dtype)


def _expm_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    """The derivative along g at the adjoint of x, which is the corner of an exponential of twice the size.

    C. Van Loan, "Computing integrals involving the matrix exponential" (1978).
    """
    side, flipped = x.shape[-1], adjoint(x)
    above, below = concat([flipped, g], axis=-1), concat([broadcast_like(0, x), flipped], axis=-1)
    return (expm(concat([above, below], axis=-2))[..., :side, side:],)


expm: Op = define(
    "expm",
    "... [m] [m] -> ... [m] [m]",
    _expm,
    dtype=same_dtype,
    gradient=_expm_gradient,
    flops=30,
    samples=lambda: [((shape,), {}) for shape in _SQUARE],
    doc="The exponentials of square matrices: the sums of x^k / k!.",
)
