"""Powers and logarithms to other bases, sums and products in logarithms, and roots."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowgraph.op import Call, define
from flowgraph.ops import numerics, rules
from flowgraph.ops.comparison import isinf
from flowgraph.ops.complex import conj
from flowgraph.ops.elementwise import ONE, TWO, sigmoid, square, subtract, where
from flowgraph.tensor import Tensor

__all__ = [
    "cbrt",
    "exp2",
    "hypot",
    "log2",
    "log10",
    "logaddexp",
    "logaddexp2",
    "squared_difference",
    "xlogy",
]

exp2 = define(
    "exp2",
    ONE,
    np.exp2,
    dtype="float",
    gradient=lambda g, out, x: (g * (conj(out) * math.log(2)),),
    flops=10,
    doc="2 ** x.",
)
log2 = define(
    "log2",
    ONE,
    np.log2,
    dtype="float",
    gradient=lambda g, out, x: (g / (conj(x) * math.log(2)),),
    flops=10,
    domain=(0.5, 2.0),
    doc="The logarithm to base 2.",
)
log10 = define(
    "log10",
    ONE,
    np.log10,
    dtype="float",
    gradient=lambda g, out, x: (g / (conj(x) * math.log(10)),),
    flops=10,
    domain=(0.5, 2.0),
    doc="The logarithm to base 10.",
)


def _lead(x: Tensor, y: Tensor) -> Tensor:
    """X - y, and 0 where both are the same infinity."""
    return where(isinf(x) & (x == y), 0, x - y)  # type: ignore[no-any-return]


logaddexp = define(
    "logaddexp",
    TWO,
    np.logaddexp,
    dtype="float",
    gradient=lambda g, out, x, y: (lambda: g * sigmoid(_lead(x, y)), lambda: g * sigmoid(_lead(y, x))),
    flops=30,
    doc="log(exp(x) + exp(y)), without overflow.",
)
logaddexp2 = define(
    "logaddexp2",
    TWO,
    np.logaddexp2,
    dtype="float",
    gradient=lambda g, out, x, y: (
        lambda: g * sigmoid(_lead(x, y) * math.log(2)),
        lambda: g * sigmoid(_lead(y, x) * math.log(2)),
    ),
    flops=30,
    doc="log2(2 ** x + 2 ** y), without overflow.",
)


def _xlogy_gradient(g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
    """(log y, x / y), both 0 where x is 0."""

    def of_x() -> Tensor:
        return g * xlogy((x != 0).astype(x.dtype), y)  # type: ignore[no-any-return]

    return (of_x, lambda: g * where(x == 0, 0, x / where(x == 0, 1, y)))


xlogy = define(
    "xlogy",
    TWO,
    numerics.xlogy,
    dtype=rules.real_float,
    call=lambda types, attrs: Call("{f}({0}, {1}, {out})", {"f": numerics.xlogy}),
    gradient=_xlogy_gradient,
    flops=12,
    domain=(0.5, 2.0),
    doc="x * log(y), and 0 where x is 0 and y is a number.",
)
cbrt = define(
    "cbrt",
    ONE,
    np.cbrt,
    dtype="float",
    gradient=lambda g, out, x: (g / (3 * square(out)),),
    flops=20,
    domain=(0.5, 2.0),
    doc="The cube root, which is negative for negative x.",
)


def _hypot_gradient(g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
    """(x, y) / out, and 0 at the origin, as for an absolute value."""
    length = where(out == 0, 1, out)
    return (lambda: g * (x / length), lambda: g * (y / length))


hypot = define(
    "hypot",
    TWO,
    np.hypot,
    dtype="float",
    gradient=_hypot_gradient,
    flops=15,
    doc="sqrt(x * x + y * y), without overflow; its gradient at the origin is 0.",
)


def squared_difference(x: Any, y: Any) -> Tensor:
    """(x - y) ** 2; for complex numbers |x - y| ** 2, as in TensorFlow a complex number.

    >>> import flowgraph as fg
    >>> fg.squared_difference([1.0, 5.0], 3.0).tolist()
    [4.0, 4.0]
    """
    difference = subtract(x, y)
    return difference * conj(difference) if difference.dtype.kind == "c" else square(difference)  # type: ignore[no-any-return]
