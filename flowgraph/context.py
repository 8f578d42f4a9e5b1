"""What is going on around a call: tapes that record, functions that are traced, the user's line; and hooks.

Rooms further down fill the hooks, so that a tensor can be asked for its value here without knowing how it is found.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from flowgraph.errors import UsageError
from flowgraph.graph import Origin

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from flowgraph.graph import Node


class NoGraphs:
    """What tensors and calls are told of deferred graphs while the program has none."""

    @staticmethod
    def adopt(node: Node) -> None:
        """Record a node in the graph of its operands, which have none."""

    @staticmethod
    def label(node: Node, name: str) -> None:
        """Name the operation of a node, which has none."""

    @staticmethod
    def constant(node: Node, name: str | None) -> None:
        """Give the data of a constant to the graph that is being built, of which there is none."""

    @staticmethod
    def operation_of(node: Node) -> Any:
        """The operation of a tensor; raises AttributeError."""
        raise AttributeError("only tensors of a deferred graph have a name, an operation and a graph")

    name_of = operation_of

    @staticmethod
    def evaluate(tensor: Any, feed_dict: Any, session: Any) -> Any:
        """The value of a tensor in a session; raises UsageError."""
        raise no_session(f"the value of {tensor!r}")


def no_session(what: str) -> UsageError:
    """The error of `what` needs a session where there is none."""
    return UsageError(what, "no session is the default", "Do it under `with Session():`, or name the session.")


class Hooks:
    """What rooms below fill in: a Tensor can be asked for its value, and this file does not know how it is found."""

    evaluate: Callable[[list[Node]], None]
    """Gives every node of a list its `memo`."""
    replaced: Callable[..., None]
    """Takes note that a variable has let go of its old value: `(weak reference to the leaf, bytes)`."""
    mean: Callable[..., Any]
    """The mean of a tensor; filled by the room of operations, for it is made of two."""
    subscript: Callable[..., Any]
    """The value of `x[key]`; filled by the room of operations."""
    assign: Callable[..., None]
    """Does `x[key] = value`; filled by the room of operations."""
    gradient: Callable[..., Any]
    """The reverse pass, for gradient rules of ops that hold graphs of their own."""
    collection: Any
    """The functions of the Dask collection protocol, by name, each taking the tensor first."""
    explain: Callable[..., Any]
    """What a run of a program will cost; filled by the room that knows what tasks return."""
    source: Callable[..., Any]
    """The source that a dask array is."""
    to_dask_array: Callable[..., Any]
    """The dask array of a tensor."""
    libraries_loaded: Callable[[], None] = staticmethod(lambda: None)
    """To call where a kernel function has imported a library that may bring a BLAS of its own."""
    placed: Callable[..., Any] = staticmethod(lambda *_: nullcontext())
    """`(loss, data, variables, optimizer, client, scheduler) -> context` to train in: a plan, where one is needed."""
    graphs: Any = NoGraphs
    """What tensors ask of the deferred graphs of TensorFlow 1; the room `session` fills it when it is first used."""
    pending_limit = 1000
    """Above so many nodes that wait for evaluation the graph is run at once."""


class _Active(threading.local):
    """What is going on in this thread."""

    outermost: ClassVar[list[Any]] = []
    """The graph into which threads build that have named none: empty, unless eager execution was disabled."""

    def __init__(self) -> None:
        self.tapes: list[Any] = list(self.outermost)
        """What is told of every new node: gradient tapes that record, and the deferred graph that is being built."""
        self.where: tuple[CodeType, int] | None = None
        """The place to note for new nodes in place of the caller's."""
        self.lane: tuple[tuple[str, int], ...] = ()
        """The lane of new nodes: the stage of a pipeline that is being written."""
        self.traces: list[Any] = list(self.outermost)
        """Functions that are being traced and deferred graphs that are being built, the innermost last."""


ACTIVE = _Active()


@contextmanager
def inside_lane(lane: tuple[tuple[str, int], ...] | None = None) -> Iterator[None]:
    """A context in which new tensors belong to `lane`, to that in force if None, wherever a plan moves it on inside."""
    before = ACTIVE.lane
    ACTIVE.lane = before if lane is None else lane
    try:
        yield
    finally:
        ACTIVE.lane = before


_OURS: dict[CodeType, bool] = {}
"""For each code object met: whether it is flowgraph's. Frames are walked for every node, so this must be quick."""


def user_place() -> Any:
    """The place of the innermost caller outside flowgraph: a code object, and the offset of an instruction in it.

    While gradients are made it is that of the operation whose gradient it is. To find the line of an offset takes time
    that grows with the length of the user's function, so that is left to `describe_line`. It is called by a function
    that only flowgraph calls, so the search begins behind those two.
    """
    where = ACTIVE.where
    if where is not None:
        return where
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        code = frame.f_code
        ours = _OURS.get(code)
        if ours is None:
            ours = frame.f_globals.get("__name__", "").partition(".")[0] == "flowgraph"
            if len(_OURS) > 100_000:  # code made at run time would pile up
                _OURS.clear()
            _OURS[code] = ours
        if not ours:
            lane = ACTIVE.lane
            return Origin(code, frame.f_lasti, lane) if lane else (code, frame.f_lasti)
        frame = frame.f_back
    return None


def line_of(where: tuple[Any, ...]) -> int:
    """The number of the line of a node's origin."""
    code, offset = where[:2]
    for start, stop, line in code.co_lines():
        if start <= offset < stop and line is not None:
            return int(line)
    return int(code.co_firstlineno)


def describe_line(where: tuple[Any, ...] | None) -> str:
    """`file:line` of a node's origin, for messages."""
    return f"{where[0].co_filename}:{line_of(where)}" if where and where[0] is not None else "(unknown line)"
