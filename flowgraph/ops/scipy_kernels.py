"""Kernels from scipy.special, which takes long to import: each function does so when it is first called.

The results have the dtype of the operand; tasks hold these functions by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def erf(x: Array, out: Array | None = None) -> Array:
    """The error function."""
    from scipy.special import erf as kernel

    out = np.empty_like(x) if out is None else out  # scipy alone would answer a 0-d array with a number
    kernel(x, out)
    return out


def erfc(x: Array, out: Array | None = None) -> Array:
    """1 - erf(x)."""
    from scipy.special import erfc as kernel

    out = np.empty_like(x) if out is None else out  # scipy alone would answer a 0-d array with a number
    kernel(x, out)
    return out


def erfinv(x: Array, out: Array | None = None) -> Array:
    """The inverse of the error function."""
    from scipy.special import erfinv as kernel

    out = np.empty_like(x) if out is None else out  # scipy alone would answer a 0-d array with a number
    kernel(x, out)
    return out


def lgamma(x: Array, out: Array | None = None) -> Array:
    """The logarithm of the absolute value of the gamma function."""
    from scipy.special import gammaln

    out = np.empty_like(x) if out is None else out  # scipy alone would answer a 0-d array with a number
    gammaln(x, out)
    return out


def digamma(x: Array, out: Array | None = None) -> Array:
    """The derivative of lgamma."""
    from scipy.special import psi

    out = np.empty_like(x) if out is None else out  # scipy alone would answer a 0-d array with a number
    psi(x, out)
    return out


def i0e(x: Array, out: Array | None = None) -> Array:
    """The modified Bessel function of order 0, times exp(-|x|)."""
    from scipy.special import i0e as kernel

    out = np.empty_like(x) if out is None else out  # scipy alone would answer a 0-d array with a number
    kernel(x, out)
    return out


def i1e(x: Array, out: Array | None = None) -> Array:
    """The modified Bessel function of order 1, times exp(-|x|)."""
    from scipy.special import i1e as kernel

    out = np.empty_like(x) if out is None else out  # scipy alone would answer a 0-d array with a number
    kernel(x, out)
    return out


def logit(x: Array, out: Array | None = None) -> Array:
    """log(x / (1 - x))."""
    from scipy.special import logit as kernel

    out = np.empty_like(x) if out is None else out  # scipy alone would answer a 0-d array with a number
    kernel(x, out)
    return out


def polygamma(x: Array, n: int) -> Array:
    """The derivative of order `n` of digamma."""
    from scipy.special import polygamma as kernel

    return np.asarray(kernel(n, x), x.dtype)


def sinc_slope(x: Array) -> Array:
    """The derivative of sinc: -pi times the spherical Bessel function of order 1, which loses nothing near 0."""
    from scipy.special import spherical_jn

    angle = np.pi * np.asarray(x, np.float64)
    return np.asarray(-np.pi * np.sign(angle) * spherical_jn(1, np.abs(angle)), x.dtype)
