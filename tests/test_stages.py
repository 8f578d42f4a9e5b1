"""Stages: the order in which nodes are computed, with contractions of rows as early as their operands are known."""

from __future__ import annotations

import sys
from collections.abc import Container, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import flowgraph as fg
from flowgraph.graph import Graph, Node, make_input
from flowgraph.kernel.stages import contract_early, read_operands
from flowgraph.tensor import tensor_of
from flowgraph.types import tensor_type


def plain(order: Sequence[Node], partial: Container[Node]) -> list[Node]:
    """`contract_early` as it reads: after each node, all contractions that wait are looked at."""
    inside, done = set(order), dict.fromkeys(order[:0])

    def emit(node: Node) -> None:
        for one in read_operands(node):
            if one in inside and one not in done:
                emit(one)
        done[node] = None

    def is_ready(node: Node) -> bool:
        if node in done or node not in inside:
            return True
        return node.op.view is not None and all(map(is_ready, read_operands(node)))

    waiting = [node for node in order if node in partial]
    for node in order:
        if node not in done:
            emit(node)
        for one in [one for one in waiting if all(map(is_ready, read_operands(one)))]:
            if one not in done:
                emit(one)
            waiting.remove(one)
    return list(done)


@given(st.lists(st.tuples(st.sampled_from("avrsm"), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=25))
def test_contractions_come_as_early_as_by_looking_at_all_of_them(steps: list[tuple[str, int, int]]) -> None:
    nodes = [make_input(tensor_type((3, 3), np.float32)) for _ in range(2)]
    for kind, left, right in steps:
        x, y = (tensor_of(nodes[-1 - number % len(nodes)]) for number in (left, right))
        made: Any = {
            "a": lambda x=x, y=y: x + y,
            "v": lambda x=x: x.T,
            "r": lambda x=x: fg.reshape(fg.reshape(x, (9,)), (3, 3)),
            "s": lambda x=x, y=y: fg.sum(x) * y,
            "m": lambda x=x, y=y: x.T @ y,
        }[kind]()
        nodes.append(made.node)
    order = Graph.of(nodes).nodes()
    partial = {node for node in order if node.op.name in ("matmul", "sum")}
    early = contract_early(order, partial)
    assert early == plain(order, partial)
    seen: set[Node] = set()
    for node in early:
        assert seen.issuperset(node.inputs)
        seen.add(node)


def test_the_order_of_many_contractions_takes_time_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for many in (1000, 4000):
        x = tensor_of(make_input(tensor_type((8, 3), np.float32)))
        order = Graph.of([fg.sum((x + number).T).node for number in range(many)]).nodes()
        partial = {node for node in order if node.op.name == "sum"}
        calls = [0]

        def counted(node: Node, calls: list[int] = calls) -> list[Node]:
            calls[0] += 1
            return read_operands(node)

        monkeypatch.setattr(sys.modules[contract_early.__module__], "read_operands", counted)
        assert len(contract_early(order, partial)) == len(order)
        counts.append(calls[0])
    assert counts[1] < 4.1 * counts[0]


def test_a_contraction_of_a_long_chain_of_views() -> None:
    x = tensor_of(make_input(tensor_type((2, 3), np.float32)))
    view = x
    for _ in range(3000):
        view = view.T
    other, total = (x + 1).node, fg.sum(view).node
    early = contract_early(Graph.of([other, total]).nodes(), {total})
    assert early.index(total) < early.index(other)
