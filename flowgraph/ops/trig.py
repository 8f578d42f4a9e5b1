"""Trigonometric and hyperbolic functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowgraph.op import Op, define
from flowgraph.ops import numerics, rules, scipy_kernels
from flowgraph.ops.complex import conj
from flowgraph.ops.elementwise import ONE, TWO, into, sqrt, square, where
from flowgraph.ops.exponential import hypot
from flowgraph.tensor import Tensor

__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cos",
    "cosh",
    "deg2rad",
    "rad2deg",
    "sin",
    "sinc",
    "sinh",
    "tan",
]


def _define(name: str, kernel: np.ufunc, gradient: Any, doc: str, domain: Any = (-2.0, 2.0)) -> Op:
    return define(name, ONE, kernel, dtype="float", gradient=gradient, flops=20, domain=domain, doc=doc)


sin: Op = _define("sin", np.sin, lambda g, out, x: (g * conj(cos(x)),), "The sine of x, in radians.")
cos: Op = _define("cos", np.cos, lambda g, out, x: (-g * conj(sin(x)),), "The cosine of x, in radians.")
tan = _define(
    "tan", np.tan, lambda g, out, x: (g * (1 + square(conj(out))),), "The tangent of x, in radians.", (-1.2, 1.2)
)


def _asin_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    """1 / sqrt(1 - x * x); in two factors, which loses nothing near 1 and -1."""
    z = conj(x)
    return (g / sqrt((1 - z) * (1 + z)),)


asin = _define("asin", np.arcsin, _asin_gradient, "The angle in [-pi/2, pi/2] whose sine is x.", (-0.9, 0.9))
acos = _define(
    "acos",
    np.arccos,
    lambda g, out, x: _asin_gradient(-g, out, x),
    "The angle in [0, pi] whose cosine is x.",
    (-0.9, 0.9),
)
atan = _define(
    "atan",
    np.arctan,
    lambda g, out, x: (g / (1 + square(conj(x))),),
    "The angle in (-pi/2, pi/2) whose tangent is x.",
)


def _atan2_gradient(g: Tensor, out: Tensor, y: Tensor, x: Tensor) -> Any:
    """(x, -y) / r**2, divided twice so that the square can not overflow; 0 at the origin, where there is no angle."""
    r = hypot(x, y)
    length = where(r == 0, 1, r)
    return (lambda: g * (x / length / length), lambda: -g * (y / length / length))


atan2 = define(
    "atan2",
    TWO,
    np.arctan2,
    dtype="float",
    gradient=_atan2_gradient,
    flops=25,
    domain=(0.5, 2.0),
    doc="The angle in [-pi, pi] of the point (x, y), as atan2(y, x).",
)
sinh: Op = _define("sinh", np.sinh, lambda g, out, x: (g * conj(cosh(x)),), "The hyperbolic sine.")
cosh: Op = _define("cosh", np.cosh, lambda g, out, x: (g * conj(sinh(x)),), "The hyperbolic cosine.")
# The next two divide by a function of the result, as TensorFlow does: a square of x would overflow.
asinh = _define("asinh", np.arcsinh, lambda g, out, x: (g / conj(cosh(out)),), "The number whose hyperbolic sine is x.")
acosh = _define(
    "acosh",
    np.arccosh,
    lambda g, out, x: (g / conj(sinh(out)),),
    "The number whose hyperbolic cosine is x.",
    (1.1, 3.0),
)


def _atanh_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    z = conj(x)
    return (g / ((1 - z) * (1 + z)),)


atanh = _define("atanh", np.arctanh, _atanh_gradient, "The number whose hyperbolic tangent is x.", (-0.9, 0.9))

deg2rad: Op = _define("deg2rad", np.deg2rad, lambda g, out, x: (deg2rad(g),), "x, an angle in degrees, in radians.")
rad2deg: Op = _define("rad2deg", np.rad2deg, lambda g, out, x: (rad2deg(g),), "x, an angle in radians, in degrees.")

sinc: Op = define(
    "sinc",
    ONE,
    numerics.sinc,
    dtype=rules.real_float,
    call=into(numerics.sinc),
    gradient=lambda g, out, x: (g * sinc_slope(x),),
    flops=20,
    doc="sin(pi x) / (pi x), and 1 at 0.",
)


def _sinc_slope_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    """From the differential equation x f'' + 2 f' + pi**2 x f = 0 of sinc; at 0 it is -pi**2 / 3."""
    zero = x == 0
    curve = -(math.pi**2) * sinc(x) - 2 * out / where(zero, 1, x)
    return (g * where(zero, -(math.pi**2) / 3, curve),)


sinc_slope: Op = define(
    "sinc_slope",
    ONE,
    scipy_kernels.sinc_slope,
    dtype=rules.real_float,
    gradient=_sinc_slope_gradient,
    flops=60,
    doc="The derivative of sinc.",
)
