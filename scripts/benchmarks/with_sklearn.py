"""The work by the loss and gradient that scikit-learn's solvers call in every iteration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn._loss import HalfBinomialLoss, HalfSquaredError
from sklearn.linear_model._linear_loss import LinearModelLoss

from .data import Data, Results, results

Run = Callable[[], Results]


def _gradients(base: Any, factor: float, data: Data, threads: int) -> Run:
    model = LinearModelLoss(base_loss=base, fit_intercept=True)
    X, y = data.X, data.y.ravel()
    w, b = data.parameters
    coefficients = np.append(w.ravel(), b).astype(np.float32)

    def run() -> Results:
        loss, gradient = model.loss_gradient(coefficients, X, y, n_threads=threads)
        return results(factor * loss, [factor * gradient[:-1], factor * gradient[-1:]])

    return run


def linear(data: Data, threads: int) -> Run:
    """Half the squared error, twice."""
    return _gradients(HalfSquaredError(), 2, data, threads)


def logistic(data: Data, threads: int) -> Run:
    """The binomial loss, which it calls half."""
    return _gradients(HalfBinomialLoss(), 1, data, threads)
