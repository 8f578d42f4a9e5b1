"""Kernels from scipy.special, which takes long to import: each function does so when it is first called.

The results have the dtype of the operand; tasks hold these functions by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _of_scipy(name: str, function: str, doc: str) -> Callable[..., Array]:
    """The function `function` of scipy.special, under a name of ours, by which tasks find it in this module."""

    def kernel(x: Array, out: Array | None = None) -> Array:
        from scipy import special

        out = np.empty_like(x) if out is None else out  # scipy alone would answer a 0-d array with a number
        getattr(special, function)(x, out)
        return out

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__doc__ = doc
    return kernel


erf = _of_scipy("erf", "erf", "The error function.")
erfc = _of_scipy("erfc", "erfc", "1 - erf(x).")
erfinv = _of_scipy("erfinv", "erfinv", "The inverse of the error function.")
lgamma = _of_scipy("lgamma", "gammaln", "The logarithm of the absolute value of the gamma function.")
digamma = _of_scipy("digamma", "psi", "The derivative of lgamma.")
i0e = _of_scipy("i0e", "i0e", "The modified Bessel function of order 0, times exp(-|x|).")
i1e = _of_scipy("i1e", "i1e", "The modified Bessel function of order 1, times exp(-|x|).")
logit = _of_scipy("logit", "logit", "log(x / (1 - x)).")


def polygamma(x: Array, n: int) -> Array:
    """The derivative of order `n` of digamma."""
    from scipy.special import polygamma as kernel

    return np.asarray(kernel(n, x), x.dtype)


def sinc_slope(x: Array) -> Array:
    """The derivative of sinc: -pi times the spherical Bessel function of order 1, which loses nothing near 0."""
    from scipy.special import spherical_jn

    angle = np.pi * np.asarray(x, np.float64)
    return np.asarray(-np.pi * np.sign(angle) * spherical_jn(1, np.abs(angle)), x.dtype)
