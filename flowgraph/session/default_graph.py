"""The default graph: the one that is built around a line, and one for programs that name none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flowgraph.context import ACTIVE, _Active
from flowgraph.errors import UsageError
from flowgraph.session.graphs import Graph


class _Default:
    """The graph of programs that name none."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.lock = threading.Lock()


_DEFAULT = _Default()


def get_default_graph() -> Graph:
    """The graph that is being built here, else the one of programs that name none."""
    found = graph_here()
    return found if found is not None else _DEFAULT.graph


def graph_here() -> Graph | None:
    """The graph that is being built here; None in eager mode, and while a function is traced."""
    found = ACTIVE.traces[-1] if ACTIVE.traces else None
    return found if isinstance(found, Graph) else None


def building(what: str) -> Graph:
    """The graph that is being built here; raises UsageError in eager mode."""
    found = graph_here()
    if found is None:
        raise UsageError(
            what,
            "it belongs to a deferred graph, and operations are executed eagerly here",
            "Do it under `with Graph().as_default():`, or call `disable_eager_execution()` first of all.",
        )
    return found


def executing_eagerly() -> bool:
    """Whether operations made here belong to no deferred graph and no traced function."""
    return not ACTIVE.traces


def disable_eager_execution() -> None:
    """Let everything in this program belong to the default graph, as in TensorFlow 1.

    Call it first of all: threads that run already are not reached. Returns nothing.
    """
    if not _Active.outermost:
        _Active.outermost.append(_DEFAULT.graph)
        ACTIVE.tapes.insert(0, _DEFAULT.graph)
        ACTIVE.traces.insert(0, _DEFAULT.graph)


def enable_eager_execution() -> None:
    """Undo `disable_eager_execution`, in this thread and in those to come. Returns nothing."""
    if _Active.outermost:
        graph = _Active.outermost.pop()
        for stack in (ACTIVE.tapes, ACTIVE.traces):
            if stack and stack[0] is graph:
                stack.pop(0)


def reset_default_graph() -> None:
    """Make the default graph a new and empty one. Returns nothing; raises UsageError while a graph is being built."""
    outermost = _Active.outermost
    if len(ACTIVE.traces) > len(outermost):
        raise UsageError("to reset the default graph", "a graph is being built around this line", "Do it outside.")
    with _DEFAULT.lock:
        _DEFAULT.graph = Graph()
        if outermost:
            outermost[0] = ACTIVE.traces[0] = _DEFAULT.graph
            ACTIVE.tapes[:] = [_DEFAULT.graph]


@contextmanager
def init_scope() -> Iterator[Any]:
    """A context outside of all graphs and traces: what is made there is made eagerly."""
    tapes, traces = ACTIVE.tapes, ACTIVE.traces
    ACTIVE.tapes, ACTIVE.traces = [], []
    try:
        yield None
    finally:
        ACTIVE.tapes, ACTIVE.traces = tapes, traces
