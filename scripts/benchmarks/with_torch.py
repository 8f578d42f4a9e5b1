"""The work in PyTorch: eager, gradients by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .data import Data, Results, additions, results

Run = Callable[[], Results]


def _gradients(loss: Callable[..., Any], data: Data, threads: int) -> Run:
    torch.set_num_threads(threads)
    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y)
    parameters = _trainable(data)

    def run() -> Results:
        for one in parameters:
            one.grad = None
        value = loss(X, y, *parameters)
        value.backward()
        return results(value.item(), [one.grad.numpy() for one in parameters])

    return run


def _trainable(data: Data) -> list[Any]:
    return [torch.tensor(one, requires_grad=True) for one in data.parameters]


def _linear_loss(X: Any, y: Any, w: Any, b: Any) -> Any:
    return ((X @ w + b - y) ** 2).mean()


def _logistic_loss(X: Any, y: Any, w: Any, b: Any) -> Any:
    return torch.nn.functional.binary_cross_entropy_with_logits(X @ w + b, y)


def _standardised_loss(X: Any, y: Any, w: Any, b: Any) -> Any:
    return _linear_loss((X - X.mean(0)) / X.std(0, correction=0), y, w, b)


def _mlp_loss(act: Callable[..., Any], X: Any, y: Any, W1: Any, b1: Any, W2: Any, b2: Any, W3: Any, b3: Any) -> Any:
    return ((act(act(X @ W1 + b1) @ W2 + b2) @ W3 + b3 - y) ** 2).mean()


def linear(data: Data, threads: int) -> Run:
    """Forward and backward."""
    return _gradients(_linear_loss, data, threads)


def logistic(data: Data, threads: int) -> Run:
    """Forward and backward, with torch's own loss."""
    return _gradients(_logistic_loss, data, threads)


def three_loops(data: Data, threads: int) -> Run:
    """Forward and backward."""
    return _gradients(_standardised_loss, data, threads)


def mlp(data: Data, threads: int) -> Run:
    """Forward and backward."""
    act = getattr(torch, data.activation)
    return _gradients(lambda *given: _mlp_loss(act, *given), data, threads)


def processes(data: Data, threads: int) -> Run:
    """Forward and backward in processes of one thread, which average their gradients: DistributedDataParallel."""
    from .torch_processes import start

    return start(data, threads)


def small_node(data: Data, threads: int) -> Run:
    """The same additions, which torch computes at once."""
    return additions(data, torch.from_numpy(data.X), torch.from_numpy(data.y))


def minibatch(data: Data, threads: int) -> Run:
    """A loop over batches with torch's Adam."""
    torch.set_num_threads(threads)
    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y)

    def run() -> Results:
        parameters = _trainable(data)
        optimizer = torch.optim.Adam(parameters, 1e-3)
        for start in range(0, data.steps * data.batch, data.batch):
            optimizer.zero_grad()
            rows = slice(start, start + data.batch)
            loss = _mlp_loss(torch.tanh, X[rows], y[rows], *parameters)
            loss.backward()
            optimizer.step()
        return results(loss.item(), [one.detach().numpy() for one in parameters])

    return run


def small_steps(data: Data, threads: int) -> Run:
    """A loop over steps with torch's Adam."""
    torch.set_num_threads(threads)
    hours, scores = torch.from_numpy(data.X), torch.from_numpy(data.y)

    def run() -> Results:
        a, b = parameters = _trainable(data)
        optimizer = torch.optim.Adam(parameters, 0.5)
        for _ in range(data.steps):
            optimizer.zero_grad()
            loss = ((a + hours * b - scores) ** 2).mean()
            loss.backward()
            optimizer.step()
        return results(loss.item(), [one.detach().numpy() for one in parameters])

    return run


small_eager = small_steps
