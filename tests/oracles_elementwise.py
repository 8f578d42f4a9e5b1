"""What the element by element ops with a kernel of their own mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

ORACLES: dict[str, Callable[..., Any]] = {
    "real": np.real,
    "imag": np.imag,
    "angle": np.angle,
    "complex": lambda x, y: x + 1j * y,
    "round": np.round,
    "expm1": np.expm1,
    "floor_divide": np.floor_divide,
    "tanh": np.tanh,
    "rsqrt": lambda x: x**-0.5,
    "xlogy": scipy.special.xlogy,
    "sinc": lambda x: np.where(x == np.rint(x), x == 0, np.sinc(x)),
    "sinc_slope": lambda x: np.where(x == 0, 0, np.cos(np.pi * x) - np.sinc(x)) / np.where(x == 0, 1, x),
    "relu6": lambda x: np.clip(x, 0, 6),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "log_softmax": lambda x, axis=-1: scipy.special.log_softmax(x, axis) if x.size else x,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "erfinv": scipy.special.erfinv,
    "lgamma": scipy.special.gammaln,
    "digamma": scipy.special.digamma,
    "polygamma": lambda x, n: scipy.special.polygamma(n, x),
    "i0e": scipy.special.i0e,
    "i1e": scipy.special.i1e,
    "logit": scipy.special.logit,
}

NOT_PUBLIC: dict[str, str] = {"sinc_slope": "the gradient of sinc"}
