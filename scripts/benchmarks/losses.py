"""Losses as a user of flowgraph writes them, and the call that computes one with its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flowgraph as fg

from .data import Data, Results, results

Run = Callable[[], Results]


def linear_loss(parameters: Any, X: Any, y: Any) -> Any:
    """The mean square error of a linear model."""
    w, b = parameters
    return fg.mean(fg.square(X @ w + b - y))


def logistic_loss(parameters: Any, X: Any, y: Any) -> Any:
    """The cross entropy of a logistic model."""
    w, b = parameters
    z = X @ w + b
    return fg.mean(fg.softplus(z) - y * z)


def standardised_loss(parameters: Any, X: Any, y: Any) -> Any:
    """The linear loss of features that are standardised first."""
    return linear_loss(parameters, (X - fg.mean(X, axis=0)) / fg.std(X, axis=0), y)


def mlp_loss(activation: Callable[..., Any], parameters: Any, X: Any, y: Any) -> Any:
    """The mean square error of a network of two hidden layers."""
    W1, b1, W2, b2, W3, b3 = parameters
    return fg.mean(fg.square(activation(activation(X @ W1 + b1) @ W2 + b2) @ W3 + b3 - y))


def tanh_loss(parameters: Any, X: Any, y: Any) -> Any:
    """`mlp_loss` with tanh."""
    return mlp_loss(fg.tanh, parameters, X, y)


def gradients(loss: Callable[..., Any], data: Data, X: Any = None) -> Run:
    """A call of a traced function, for the loss and all gradients; `X`: in place of that of the data."""
    step = fg.function(fg.value_and_grad(loss))
    X, y = fg.asarray(data.X) if X is None else X, fg.asarray(data.y)

    def run() -> Results:
        value, slopes = step(tuple(data.parameters), X, y)
        return results(value.numpy(), [one.numpy() for one in slopes])

    return run
