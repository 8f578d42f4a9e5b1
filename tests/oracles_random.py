"""What the random operations mean: one element after the other, straight from numpy's generator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special
import scipy.stats


def fraction(key: Any, position: int, stream: int = 0) -> float:
    word = np.random.Philox(key=key, counter=position // 4 + (stream << 64)).random_raw(4)[position % 4]
    return ((int(word) >> 11) + 0.5) * 2.0**-53


def each(shape: Any, make: Callable[[int, tuple[int, ...]], float], dtype: Any) -> Any:
    result = np.empty(shape, dtype)
    for position, place in enumerate(np.ndindex(*shape)):
        result[place] = make(position, place)
    return result


def truncated(key: Any, shape: Any, dtype: Any) -> Any:
    return scipy.stats.truncnorm.ppf(each(shape, lambda position, place: fraction(key, position), np.float64), -2, 2)


def categorical(key: Any, logits: Any, count: int, dtype: Any) -> Any:
    def one(position: int, place: tuple[int, ...]) -> float:
        weights = np.exp(logits[place[0]].astype(np.float64) - logits[place[0]].max())
        mark = fraction(key, position) * weights.sum()
        return next(number for number, total in enumerate(np.cumsum(weights)) if mark < total)

    return each((len(logits), count), one, dtype)


def gamma(key: Any, alpha: Any, shape: Any, dtype: Any) -> Any:
    alphas = np.broadcast_to(alpha, shape)

    def one(position: int, place: tuple[int, ...]) -> float:
        a = float(alphas[place])
        d = a + (a < 1) - 1 / 3
        stream = 1
        while True:
            x = scipy.special.ndtri(fraction(key, position, stream))
            u = fraction(key, position, stream + 1)
            v = (1 + x / math.sqrt(9 * d)) ** 3
            if v > 0 and math.log(u) < x * x / 2 + d - d * v + d * math.log(v):
                return d * v * (fraction(key, position) ** (1 / a) if a < 1 else 1)
            stream += 2

    return each(shape, one, np.float64)


def poisson(key: Any, rate: Any, shape: Any, dtype: Any) -> Any:
    rates = np.broadcast_to(rate, shape)

    def one(position: int, place: tuple[int, ...]) -> float:
        mean = float(rates[place])
        if mean < 10:
            return float(scipy.stats.poisson.ppf(fraction(key, position), mean)) if mean else 0.0
        b = 0.931 + 2.53 * math.sqrt(mean)
        a = -0.059 + 0.02483 * b
        stream = 1
        while True:
            u, v = fraction(key, position, stream) - 0.5, fraction(key, position, stream + 1)
            us = 0.5 - abs(u)
            k = math.floor((2 * a / us + b) * u + mean + 0.43)
            stream += 2
            if us >= 0.07 and v <= 0.9277 - 3.6224 / (b - 2):
                return k
            if k < 0 or (us < 0.013 and v > us):
                continue
            left = math.log(v) + math.log(1.1239 + 1.1328 / (b - 3.4)) - math.log(a / (us * us) + b)
            if left <= k * math.log(mean) - mean - math.lgamma(k + 1):
                return k

    return each(shape, one, np.float64).astype(dtype)


def shuffle(key: Any, x: Any, back: bool = False) -> Any:
    words = [int(np.random.Philox(key=key, counter=n // 4).random_raw(4)[n % 4]) for n in range(len(x))]
    order = sorted(range(len(x)), key=words.__getitem__)
    result = x.copy()
    for to, source in enumerate(order):
        if back:
            result[source] = x[to]
        else:
            result[to] = x[source]
    return result


def gamma_slope(x: Any, alpha: Any) -> Any:
    """Differences of the quantiles that the numbers are."""
    x, alpha = np.broadcast_arrays(x, alpha)
    h = 1e-4 * alpha
    below, above = scipy.special.gammainc(alpha, x), scipy.special.gammaincc(alpha, x)
    found = [
        np.where(below < above, scipy.special.gammaincinv(a, below), scipy.special.gammainccinv(a, above))
        for a in (alpha - h, alpha + h)
    ]
    return (found[1] - found[0]) / (2 * h)


ORACLES: dict[str, Callable[..., Any]] = {
    "random_truncated_normal": truncated,
    "random_categorical": categorical,
    "random_gamma": gamma,
    "gamma_slope": gamma_slope,
    "random_poisson": poisson,
    "random_shuffle": shuffle,
}

NOT_PUBLIC = {"gamma_slope": "the gradient of gamma numbers by their shape parameter"}
