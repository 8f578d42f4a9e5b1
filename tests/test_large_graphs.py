"""Large graphs: nothing recurses to the depth of a graph, and nothing takes a time that grows faster than its nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.graph import Graph, make_input
from flowgraph.partition import choose_rows, unknown_rows
from flowgraph.program import Program
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import tensor_type

DEEP = 3000
"""Operations in a chain: three times the depth at which Python refuses to recurse."""


def leaf(*shape: int, kind: str = "data") -> Tensor:
    return tensor_of(make_input(tensor_type(shape, np.float32), kind))


def compile_all(*outputs: Tensor) -> Program:
    """The program of `outputs`, with all its kernels."""
    graph = Graph.of([one.node for one in outputs])
    program = Program(unknown_rows(graph, choose_rows(graph))[0])
    assert program.source()
    assert program.graph.text()
    return program


def chain(x: Tensor, depth: int) -> Tensor:
    for number in range(depth):
        x = fg.tanh(x) if number % 2 else x + 1.0
    return x


def views(x: Tensor, depth: int) -> Tensor:
    for number in range(depth):
        x = fg.transpose(x) if number % 2 else fg.reshape(x, (x.shape[1], x.shape[0]))
    return x


@pytest.mark.parametrize("build", [chain, views])
def test_a_deep_graph_is_compiled(build: Callable[[Tensor, int], Tensor]) -> None:
    x = leaf(6, 4)
    y = fg.reduce_sum(build(x, DEEP))
    (gradient,) = fg.gradient(y, [x])
    program = compile_all(y, gradient)
    assert all(np.isfinite(one).all() for one in program.run([np.ones((6, 4), np.float32)]))


def layers(count: int) -> list[Any]:
    """The mean of the last of so many layers, and its gradients."""
    x, weights = leaf(100, 4), [leaf(4, 4, kind="variable") for _ in range(count)]
    y = x
    for one in weights:
        y = fg.tanh(y @ one)
    loss = fg.reduce_mean(y)
    return [loss, *fg.gradient(loss, weights)]


@pytest.mark.alone
def test_the_time_to_compile_grows_with_the_nodes() -> None:
    def seconds(count: int) -> float:
        outputs = layers(count)
        began = time.process_time()
        compile_all(*outputs)
        return time.process_time() - began

    seconds(20)  # what is found once and kept
    assert seconds(800) < 3 * 8 * seconds(100)
