"""Random numbers of further distributions. They depend on seed and position alone, see random.py.

Where a number may be rejected and drawn again, each attempt takes its words from streams of its own, so that an element
never moves another. Sources: G. Marsaglia and W. W. Tsang, "A simple method for generating gamma variables" (2000);
W. Hörmann, "The transformed rejection method for generating Poisson random variables" (1993).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from flowgraph.apply import apply, convert, freeze
from flowgraph.errors import DTypeError, GradientError, ShapeError
from flowgraph.op import Op, define
from flowgraph.ops.create import zeros_like
from flowgraph.ops.elementwise import log
from flowgraph.ops.random import (
    KEY_TYPE,
    in_dtype,
    inverse_normal,
    key_of,
    moved,
    real_dtype_of,
    uniform,
    words,
)
from flowgraph.ops.rules import common_float, real_float
from flowgraph.ops.scipy_kernels import gamma_slope
from flowgraph.ops.shape import checked_shape, factor_names
from flowgraph.ops.special import digamma
from flowgraph.tensor import Tensor
from flowgraph.types import as_dtype, tensor_type

Array = np.ndarray[Any, Any]

__all__: list[str] = []


def _fractions(key: Array, shape: Any, at: Any, stream: int) -> Array:
    """The middles of 2**53 intervals in (0, 1)."""
    result: Array = ((words(key, shape, at, stream) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return result


# truncated normal

_BELOW = 0.022750131948179195
"""The probability that a standard normal number is below -2."""


def _truncated(key: Array, shape: Any, dtype: Any, at: Any) -> Array:
    return inverse_normal(_BELOW + (1 - 2 * _BELOW) * _fractions(key, shape, at, 0)).astype(dtype)


def _shape_attrs(key: Any, /, shape: Any, dtype: Any) -> dict[str, Any]:
    return {"shape": checked_shape(shape), "dtype": np.dtype(dtype)}


truncated_op: Op = define(
    "random_truncated_normal",
    lambda types, attrs: f"[key] -> {' '.join(factor_names(len(attrs['shape'])))}",
    _truncated,
    attrs=_shape_attrs,
    dtype=lambda types, attrs: ((types[0].dtype,), attrs["dtype"]),
    flops=60,
    samples=lambda: [
        ((KEY_TYPE,), {"shape": shape, "dtype": np.dtype(np.float64)})
        for shape in ((5, 4), (7,), (5, 2, 3), (), (0, 2))
    ],
    doc="Standard normal numbers between -2 and 2.",
)


def truncated_normal(shape: Any, mean: Any = 0, stddev: Any = 1, dtype: Any = np.float32, seed: Any = None) -> Tensor:
    """Normal numbers of `shape` that lie within two standard deviations of the mean: others are never drawn.

    >>> import flowgraph as fg
    >>> bool(abs(fg.random.truncated_normal([100], seed=1).numpy()).max() <= 2)
    True
    """
    kind = real_dtype_of(dtype, "truncated normal numbers")
    drawn = apply(truncated_op, (key_of(seed),), {"shape": checked_shape(freeze(shape)), "dtype": kind})
    return moved(drawn, mean, stddev)


def bernoulli(shape: Any, p: Any = 0.5, dtype: Any = np.int32, seed: Any = None) -> Tensor:
    """1 with probability `p`, else 0, in a tensor of `shape`.

    >>> import flowgraph as fg
    >>> fg.random.bernoulli([3], p=1.0, seed=1).tolist()
    [1, 1, 1]
    """
    return (uniform(shape, dtype=np.float64, seed=seed) < p).astype(dtype)  # type: ignore[no-any-return]


# categorical


def _categorical_attrs(key: Any, logits: Any, /, count: int, dtype: Any, *, shape: Any = None) -> dict[str, Any]:
    return {"count": count, "dtype": dtype, "shape": (logits.shape[0], count)}


_BLOCK = 1 << 20
"""How many comparisons a kernel holds at a time."""


def _categorical(key: Array, logits: Array, shape: Any, dtype: Any, at: Any) -> Array:
    """By the inverse of the distribution function, one word a number."""
    exact = logits.astype(np.float64)
    weights = np.exp(exact - exact.max(axis=1, keepdims=True, initial=-np.inf))
    below = np.cumsum(weights, axis=1)
    marks = np.minimum(_fractions(key, shape, at, 0) * below[:, -1:], np.nextafter(below[:, -1:], 0))
    result = np.empty(shape, dtype)
    rows = max(_BLOCK // max(shape[1] * logits.shape[1], 1), 1)
    for start in range(0, shape[0], rows):
        part = slice(start, start + rows)
        result[part] = (below[part, None, :] <= marks[part, :, None]).sum(axis=-1)
    return result


categorical_op: Op = define(
    "random_categorical",
    "[key], rows [classes] -> rows draws",
    _categorical,
    attrs=_categorical_attrs,
    dtype=lambda types, attrs: (tuple(one.dtype for one in types), attrs["dtype"]),
    gradient=lambda g, out, key, logits: (None, None),
    flops=20,
    samples=lambda: [
        ((KEY_TYPE, (5, 4)), {"count": 3, "dtype": np.dtype(np.int64)}),
        ((KEY_TYPE, np.array([[1.0, -np.inf], [0.0, 2.0]])), {"count": 7, "dtype": np.dtype(np.int32)}),
        ((KEY_TYPE, (0, 4)), {"count": 3, "dtype": np.dtype(np.int64)}),
        ((KEY_TYPE, (5, 1)), {"count": 1, "dtype": np.dtype(np.int64)}),
    ],
    doc="Numbers of classes, drawn by unnormalised log-probabilities.",
)


def categorical(logits: Any, num_samples: int, dtype: Any = np.int64, seed: Any = None) -> Tensor:
    """For each row of `logits`, unnormalised log-probabilities of classes, `num_samples` numbers of classes.

    >>> import flowgraph as fg
    >>> fg.random.categorical([[0.0, float("-inf")]], 3, seed=1).tolist()
    [[0, 0, 0]]
    """
    x = convert(logits)
    kind = as_dtype(dtype)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ShapeError(f"categorical with logits {x.type}", "they are no rows of classes", "Give (rows, classes).")
    if kind.kind not in "iu":
        raise DTypeError(f"numbers of classes of dtype {kind}", "they are integers", "Use int32 or int64.")
    x = x if x.dtype == common_float(x.dtype) else x.astype(common_float(x.dtype))
    (count,) = checked_shape((freeze(num_samples),))
    return apply(categorical_op, (key_of(seed), x), {"count": count, "dtype": kind})  # type: ignore[no-any-return]


# gamma and poisson: attempts until one is accepted


def _until_accepted(shape: Any, attempt: Callable[[int], tuple[Array, Array]]) -> Array:
    """For each element the value of the first attempt that was accepted: `attempt(number) -> (values, accepted)`."""
    result = np.zeros(shape)
    waiting = np.ones(shape, bool)
    for number in itertools.count():
        if not waiting.any():
            return result
        values, accepted = attempt(number)
        taken = waiting & accepted
        np.copyto(result, values, where=taken)
        waiting &= ~taken
    raise AssertionError("counting never ends")


def _gamma(key: Array, alpha: Array, shape: Any, dtype: Any, at: Any) -> Array:
    """Marsaglia and Tsang; below 1 by gamma(alpha) = gamma(alpha + 1) * uniform ** (1 / alpha)."""
    exact = np.broadcast_to(alpha.astype(np.float64), shape)
    valid = exact > 0
    shifted = np.where(valid, exact + (exact < 1), 1.0)
    d = shifted - 1 / 3
    c = 1 / np.sqrt(9 * d)

    def attempt(number: int) -> tuple[Array, Array]:
        x = inverse_normal(_fractions(key, shape, at, 2 * number + 1))
        u = _fractions(key, shape, at, 2 * number + 2)
        v = np.maximum(1 + c * x, 0) ** 3
        inside = v > 0
        logarithm = np.log(np.where(inside, v, 1))
        return d * v, inside & (np.log(u) < x * x / 2 + d - d * v + d * logarithm)

    result = _until_accepted(shape, attempt)
    boost = np.where(exact < 1, _fractions(key, shape, at, 0) ** (1 / np.where(valid, exact, 1)), 1)
    return np.where(valid, np.maximum(result * boost, np.finfo(dtype).tiny), np.nan).astype(dtype)


_SMALL = 10.0
"""The mean from which on Poisson numbers are drawn by rejection."""


def _poisson(key: Array, rate: Array, shape: Any, dtype: Any, at: Any) -> Array:
    exact = np.broadcast_to(rate.astype(np.float64), shape)
    valid = exact >= 0
    small = valid & (exact < _SMALL)
    few = _poisson_small(np.where(small, exact, 0), _fractions(key, shape, at, 0))
    many = _poisson_large(key, np.where(valid & ~small, exact, _SMALL), valid & ~small, at)
    result = np.where(small, few, many)
    if dtype.kind == "f":
        result = np.where(valid, result, np.nan)
    return result.astype(dtype)


def _poisson_small(rate: Array, u: Array) -> Array:
    """By adding up probabilities until they exceed u."""
    probability = np.exp(-rate)
    total, result = probability.copy(), np.zeros(rate.shape)
    for number in range(1, 100):  # at a mean of 10 the probability of more is below 1e-60
        above = u > total
        if not above.any():
            break
        result += above
        probability = probability * rate / number
        total += probability
    return result


def _poisson_large(key: Array, rate: Array, wanted: Array, at: Any) -> Array:
    """Hörmann's PTRS."""
    if not wanted.any():
        return np.zeros(rate.shape)
    from scipy.special import gammaln

    root, logarithm = np.sqrt(rate), np.log(rate)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    quick = 0.9277 - 3.6224 / (b - 2)

    def attempt(number: int) -> tuple[Array, Array]:
        u = _fractions(key, rate.shape, at, 2 * number + 1) - 0.5
        v = _fractions(key, rate.shape, at, 2 * number + 2)
        us = 0.5 - np.abs(u)
        k = np.floor((2 * a / us + b) * u + rate + 0.43)
        possible = (k >= 0) & ((us >= 0.013) | (v <= us))
        left = np.log(v) + np.log(inverse_alpha) - np.log(a / (us * us) + b)
        likely = left <= k * logarithm - rate - gammaln(np.maximum(k, 0) + 1)
        return k, ~wanted | ((us >= 0.07) & (v <= quick)) | (possible & likely)

    return _until_accepted(rate.shape, attempt)


def _after_attrs(key: Any, parameter: Any, /, shape: Any, dtype: Any) -> dict[str, Any]:
    return {"shape": checked_shape(shape), "dtype": np.dtype(dtype)}


def _after_factors(types: Any, attrs: Any) -> str:
    """The axes of the parameter come last in the result."""
    names = factor_names(len(attrs["shape"]))
    return f"[key], {' '.join(names[len(names) - types[1].ndim :])} -> {' '.join(names)}"


def _by_parameter(name: str, kernel: Any, values: Array, dtype: Any, doc: str, gradient: Any = None) -> Op:
    few, many = values[:2], values
    return define(
        name,
        _after_factors,
        kernel,
        attrs=_after_attrs,
        dtype=lambda types, attrs: (tuple(one.dtype for one in types), attrs["dtype"]),
        gradient=gradient,
        flops=200,
        samples=lambda: [
            ((KEY_TYPE, few), {"shape": (5, 2), "dtype": np.dtype(np.float64)}),
            ((KEY_TYPE, many), {"shape": (2, 3, len(values)), "dtype": np.dtype(np.float32)}),
            ((KEY_TYPE, many), {"shape": (len(values),), "dtype": np.dtype(dtype)}),
            ((KEY_TYPE, np.asarray(many[2])), {"shape": (7,), "dtype": np.dtype(dtype)}),
        ],
        doc=doc,
    )


def _slope(x: Array, alpha: Array) -> Array:
    return gamma_slope(x, alpha).astype(x.dtype)


def _slope_gradient(g: Tensor, out: Tensor, x: Tensor, alpha: Tensor) -> Any:
    """By x from the density, whose logarithm has simple derivatives."""

    def by_alpha() -> Tensor:
        raise GradientError(
            "a second derivative of gamma numbers by alpha",
            "no formula for it is known here",
            "Take the gradient by alpha once.",
        )

    return (lambda: g * (digamma(alpha) - log(x) - out * ((alpha - 1) / x - 1)), by_alpha)


_SINGLE = tensor_type((4,), np.float32)  # no second derivative: single precision, which the tests do not differentiate

gamma_slope_op: Op = define(
    "gamma_slope",
    "..., ... -> ...",
    _slope,
    dtype=real_float,
    gradient=_slope_gradient,
    flops=1000,
    domain=(0.1, 5.0),
    samples=lambda: [
        ((tensor_type(shape, np.float32), _SINGLE), {}) for shape in ((5, 4), (4,), (2, 3, 1), (0, 4), ())
    ],
    doc="How gamma numbers x move with their shape parameter, where the probability of smaller ones is fixed.",
)


def _gamma_gradient(g: Tensor, out: Tensor, key: Tensor, alpha: Tensor) -> Any:
    """Implicit reparameterisation: M. Figurnov, S. Mohamed and A. Mnih (arXiv:1805.08498).

    It is not the derivative of the numbers of one seed, in which attempts that were refused come and go with alpha, but
    of numbers that keep their place in the distribution: expected values have the right gradients.
    """
    return (None, lambda: g * gamma_slope_op(out, alpha.astype(out.dtype)))


gamma_op = _by_parameter(
    "random_gamma",
    _gamma,
    np.array([0.3, 1.0, 2.5, 40.0], np.float32),  # so that the tests do not compare that derivative with differences
    np.float64,
    "Gamma numbers with shape parameters that lie along the last axes of the result.",
    _gamma_gradient,
)
poisson_op = _by_parameter(
    "random_poisson",
    _poisson,
    np.array([0.0, 3.5, 12.0, 1000.0]),
    np.int32,
    "Poisson numbers with means that lie along the last axes of the result.",
)


def _whole_shape(shape: Any, parameter: Tensor) -> Any:
    return (*checked_shape(freeze(shape)), *parameter.shape)


def gamma(shape: Any, alpha: Any, beta: Any = None, dtype: Any = np.float32, seed: Any = None) -> Tensor:
    """Gamma numbers with shape parameters `alpha` and rates `beta`: `shape` of them for each pair.

    The shape of the result is `shape` and behind it that of alpha and beta together. Gradients by alpha and beta are
    those of numbers that keep their place in the distribution, so that expected values have the right ones.

    >>> import flowgraph as fg
    >>> fg.random.gamma([5], alpha=[0.5, 2.0], seed=1).shape
    (5, 2)
    """
    kind = real_dtype_of(dtype, "gamma numbers")
    a = in_dtype(alpha, kind)
    b = None if beta is None else in_dtype(beta, kind)
    a = a if b is None else a + zeros_like(b)
    drawn = apply(gamma_op, (key_of(seed), a), {"shape": _whole_shape(shape, a), "dtype": kind})
    return drawn if b is None else drawn / b  # type: ignore[no-any-return]


def poisson(shape: Any, lam: Any, dtype: Any = np.float32, seed: Any = None) -> Tensor:
    """Poisson numbers with the means `lam`: `shape` of them for each. The shape of `lam` comes last in the result.

    >>> import flowgraph as fg
    >>> fg.random.poisson([5], lam=[0.5, 20.0], seed=1).shape
    (5, 2)
    """
    kind = as_dtype(dtype)
    if kind.kind not in "fiu":
        raise DTypeError(f"Poisson numbers of dtype {kind}", "they are counts", "Use a float or int dtype.")
    rate = convert(lam)
    rate = rate if rate.dtype == common_float(rate.dtype) else rate.astype(common_float(rate.dtype))
    return apply(poisson_op, (key_of(seed), rate), {"shape": _whole_shape(shape, rate), "dtype": kind})  # type: ignore[no-any-return]
