"""Special functions, most of them from scipy.special, which is imported when one is first used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowgraph.apply import apply, convert
from flowgraph.errors import UsageError
from flowgraph.op import Op, define
from flowgraph.ops import rules, scipy_kernels
from flowgraph.ops.elementwise import ONE, exp, into, sign, square, where
from flowgraph.tensor import Tensor
from flowgraph.types import is_count, tensor_type

__all__ = [
    "digamma",
    "erf",
    "erfc",
    "erfinv",
    "i0e",
    "i1e",
    "lgamma",
    "logit",
    "polygamma",
]


def _define(name: str, kernel: Any, gradient: Any, doc: str, **fields: Any) -> Op:
    return define(
        name, ONE, kernel, dtype=rules.real_float, call=into(kernel), gradient=gradient, flops=40, doc=doc, **fields
    )


erf = _define(
    "erf",
    scipy_kernels.erf,
    lambda g, out, x: (g * (2 / math.sqrt(math.pi) * exp(-square(x))),),
    "The error function: the integral of 2 / sqrt(pi) * exp(-t * t) from 0 to x.",
)
erfc = _define(
    "erfc",
    scipy_kernels.erfc,
    lambda g, out, x: (g * (-2 / math.sqrt(math.pi) * exp(-square(x))),),
    "1 - erf(x), exact for large x.",
)
erfinv = _define(
    "erfinv",
    scipy_kernels.erfinv,
    lambda g, out, x: (g * (math.sqrt(math.pi) / 2 * exp(square(out))),),
    "The number whose error function is x.",
    domain=(-0.9, 0.9),
)
lgamma = _define(
    "lgamma",
    scipy_kernels.lgamma,
    lambda g, out, x: (g * digamma(x),),
    "The logarithm of the absolute value of the gamma function.",
    domain=(0.5, 3.0),
)
digamma: Op = _define(
    "digamma",
    scipy_kernels.digamma,
    lambda g, out, x: (g * polygamma(1, x),),
    "The derivative of lgamma.",
    domain=(0.5, 3.0),
)


polygamma_op: Op = define(
    "polygamma",
    ONE,
    scipy_kernels.polygamma,
    attrs=lambda x, /, n: {"n": n},
    dtype=rules.real_float,
    gradient=lambda g, out, x, n: (g * polygamma(n + 1, x),),
    flops=80,
    domain=(0.5, 3.0),
    samples=lambda: [(((5, 4),), {"n": n}) for n in (0, 1, 2)] + [(((),), {"n": 1}), (((0, 3),), {"n": 1})],
    doc="The derivative of order `n` of digamma.",
)


def polygamma(n: Any, x: Any) -> Tensor:
    """The derivative of order `n`, an integer, of digamma at `x`.

    >>> import flowgraph as fg
    >>> round(float(fg.polygamma(1, 1.0)), 4)  # pi ** 2 / 6
    1.6449
    """
    if not is_count(n, 0):
        raise UsageError(f"polygamma({n!r}, x)", "the first argument is no order", "Give an integer from 0 on.")
    return apply(polygamma_op, (convert(x),), {"n": n})  # type: ignore[no-any-return]


i0e: Op = _define(
    "i0e",
    scipy_kernels.i0e,
    lambda g, out, x: (g * (i1e(x) - sign(x) * out),),
    "The modified Bessel function of order 0, times exp(-|x|).",
)


def _i1e_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    zero = x == 0
    return (g * where(zero, 0.5, i0e(x) - out * (sign(x) + 1 / where(zero, 1, x))),)


i1e: Op = _define(
    "i1e",
    scipy_kernels.i1e,
    _i1e_gradient,
    "The modified Bessel function of order 1, times exp(-|x|).",
    domain=(0.2, 3.0),
)
logit = _define(
    "logit",
    scipy_kernels.logit,
    lambda g, out, x: (g / (x * (1 - x)),),
    "log(x / (1 - x)), the inverse of sigmoid.",
    domain=(0.1, 0.9),
    samples=lambda: [((tensor_type(s, d),), {}) for d in (np.float64, np.float32) for s in ((5, 4), (), (0, 3))],
)
