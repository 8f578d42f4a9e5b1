"""PyTorch in several processes of one thread: DistributedDataParallel over gloo, on this machine's own network."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing import get_context
from torch.nn.parallel import DistributedDataParallel

from .data import Data, Results, results

HOST = "127.0.0.1"


class _Model(torch.nn.Module):
    """A network of dense layers with tanh between them; its output is the loss."""

    def __init__(self, parameters: list[Any]) -> None:
        super().__init__()
        self.own = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(one)) for one in parameters])

    def forward(self, X: Any, y: Any) -> Any:
        """The mean square error."""
        W1, b1, W2, b2, W3, b3 = self.own
        return ((torch.tanh(torch.tanh(X @ W1 + b1) @ W2 + b2) @ W3 + b3 - y) ** 2).mean()


def start(data: Data, count: int) -> Callable[[], Results]:
    """A call of all processes; this one is the first of them."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    edges = [number * len(data.X) // count for number in range(count + 1)]
    parts = [(data.X[a:b], data.y[a:b]) for a, b in itertools.pairwise(edges)]
    for rank in range(1, count):
        given = (rank, count, port, parts[rank], data.parameters)
        get_context("spawn").Process(target=_serve, args=given, daemon=True).start()
    step, model = _joined(0, count, port, parts[0], data.parameters)

    def run() -> Results:
        _together()
        loss = step()
        dist.all_reduce(loss)
        return results(loss.item() / count, [one.grad.numpy() for one in model.own])

    return run


def _serve(rank: int, count: int, port: int, part: Any, parameters: list[Any]) -> None:
    """One of the other processes: a step whenever the first one takes one, until that ends."""
    step, _ = _joined(rank, count, port, part, parameters)
    try:
        while True:
            _together()
            dist.all_reduce(step())
    except RuntimeError:  # the first process is gone
        return


def _together() -> None:
    """Wait until all processes are here."""
    dist.all_reduce(torch.zeros(1))


def _joined(rank: int, count: int, port: int, part: Any, parameters: list[Any]) -> Any:
    """Join the others: (a function that computes the loss of this part and the gradients of all, the model)."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://{HOST}:{port}", rank=rank, world_size=count)
    model = _Model(parameters)
    spread = DistributedDataParallel(model)
    X, y = map(torch.from_numpy, part)

    def step() -> Any:
        model.zero_grad()
        loss = spread(X, y)
        loss.backward()
        return loss.detach()

    return step, model
