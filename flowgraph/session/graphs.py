"""Deferred graphs, as TensorFlow 1 has them: operations with names, written down now and run later by a Session.

While a graph is being built it stands where gradient tapes and traces stand: it is told of every new node, and of
every read and assignment of a variable. Its nodes are the ones of eager mode; each has an Operation as its `owner`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from flowgraph.apply import apply
from flowgraph.context import ACTIVE, describe_line, user_place
from flowgraph.eager import Cache, evaluate
from flowgraph.errors import UsageError
from flowgraph.graph import ITEM, Node
from flowgraph.op import OPS
from flowgraph.session.operation import Operation
from flowgraph.state import Variable
from flowgraph.tensor import Tensor, tensor_of

_NOTHING: frozenset[Operation] = frozenset()
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


class _Building(threading.local):
    """Where a thread is in the building of a graph."""

    def __init__(self) -> None:
        self.scope = ""
        """The prefix of names: empty, or it ends with a slash."""
        self.control: tuple[Operation, ...] = ()
        """What new operations run after."""
        self.before = _NOTHING
        """The assignments that new operations run after."""
        self.derived = False
        """Whether gradients are being made."""
        self.variable_scope: Any = None
        """The innermost scope of variables, where there is one."""


class Graph:
    """A graph that is built first and run by a Session afterwards.

    Under `with graph.as_default():` every tensor, variable and operation that is made belongs to it, and nothing is
    computed. A graph may grow between runs.

    >>> import flowgraph as fg
    >>> with fg.Graph().as_default():
    ...     x = fg.placeholder(fg.float32, [None])
    ...     y = x * 2
    ...     with fg.Session() as session:
    ...         session.run(y, {x: [1, 2]}).tolist()
    [2.0, 4.0]
    """

    variable_class: ClassVar[type[Any]]
    """What `Variable` makes while a graph is built; filled where that class is."""

    def __init__(self) -> None:
        self.here = _Building()
        """Where the calling thread is."""
        self.seed: int | None = None
        """What draws without a seed of their own are made from; None: they are new in every session."""
        self.draws: dict[Node, int] = {}
        """For the key of each draw that was made after a seed was set: the seed of this draw."""
        self.variables: dict[str, Any] = {}
        """The variables of `get_variable` by name."""
        self.plans = Cache()
        """How to run it, by what is fetched and what is fed."""
        self._operations: list[Operation] = []
        self._named = 0
        self._by_name: dict[str, Operation] = {}
        self._taken: dict[str, int] = {}
        self._collections: dict[Any, list[Any]] = {}
        self._lock = threading.RLock()
        self._finalized = False

    # Building.

    @contextmanager
    def as_default(self) -> Iterator[Graph]:
        """A context in which everything that is made belongs to this graph."""
        tapes, ACTIVE.tapes = ACTIVE.tapes, [self]
        ACTIVE.traces.append(self)
        try:
            yield self
        finally:
            ACTIVE.traces.pop()
            ACTIVE.tapes = tapes

    @contextmanager
    def building(self) -> Iterator[Graph]:
        """A context in which the graph is built further, whatever is built around it."""
        if ACTIVE.traces and ACTIVE.traces[-1] is self:
            yield self
        else:
            with self.as_default():
                yield self

    def finalize(self) -> None:
        """Refuse new operations from now on."""
        self._finalized = True

    @property
    def finalized(self) -> bool:
        """Whether new operations are refused."""
        return self._finalized

    def record(self, node: Node) -> None:
        """Make `node` an operation of this graph; called for every node that is made while the graph is built."""
        node.symbolic = True
        here = self.here
        before = here.before
        for one in node.inputs:
            owner = getattr(one, "owner", None)
            if owner is None:
                self._take(one)
            elif owner.graph is not self:
                raise UsageError(
                    f"{node.op.name} in one graph, of {owner.name!r}, made at {describe_line(one.where)}",
                    "that tensor belongs to another graph",
                    "Build both in one graph, or run the one and feed its value to the other.",
                )
            elif owner.before and owner.before is not before:
                before = before | owner.before if before else owner.before
        if node.op is ITEM:
            node.owner = node.inputs[0].owner
            node.owner.items.setdefault(node.attr("index"), node)
        else:
            self.add(node.op.name, node, here.control, before)

    def watch_variable(self, node: Node, variable: Any) -> None:
        """Called, as tapes are, when a variable is read."""

    def adopt(self, leaf: Node, kind: str) -> Operation:
        """The operation of a leaf that was made for this graph."""
        leaf.symbolic = True
        leaf.where = user_place()
        return self.add(kind, leaf)

    def add(
        self,
        kind: str,
        node: Node | None = None,
        control: tuple[Operation, ...] = (),
        before: frozenset[Operation] = _NOTHING,
    ) -> Operation:
        """A new operation of this graph, with a name to come."""
        if self._finalized:
            raise UsageError(f"{kind} in a graph", "the graph is finalized", "Build it before `finalize()`.")
        here = self.here
        operation = Operation(self, kind, node, here.scope, control, before)
        operation.derived = here.derived
        if node is not None:
            node.owner = operation
        self._operations.append(operation)
        return operation

    def _take(self, node: Node) -> None:
        """Let an operation use a node that belongs to no graph: a number, data, a tensor that can be computed now."""
        if node.is_leaf and node.memo is not None:
            if self.seed is not None and node.attr("kind") == "key" and node not in self.draws:
                self.draws[node] = (self.seed * 0x9E3779B97F4A7C15 + len(self.draws)) % 2**64
        elif node.symbolic:
            raise UsageError(
                f"an operation of a graph on {node.type}, made at {describe_line(node.where)}",
                "that tensor stands for an argument of a function that is being traced",
                "Use it inside that function alone.",
            )
        elif node.memo is None and node.op is not OPS["constant"]:
            evaluate([node])

    def no_op(self, after: Iterable[Any] = (), kind: str = "NoOp") -> Operation:
        """An operation without a result that runs after those in `after`."""
        control = dict.fromkeys((*self.here.control, *map(self.operation, after)))
        before = _NOTHING.union(*[one.before for one in control])
        return self.add(kind, None, tuple(control), before)

    # Names.

    def unique_name(self, name: str) -> str:
        """`name`, with a number if it is taken; upper and lower case do not tell names apart."""
        with self._lock:
            self._name_all()
            return self._unique(name)

    def has_name(self, name: str) -> bool:
        """Whether `name` is taken."""
        with self._lock:
            self._name_all()
            return name.lower() in self._taken

    def _unique(self, name: str) -> str:
        key = base = name.lower()
        count = self._taken.get(key, 0)
        self._taken[key] = count + 1
        if count == 0:
            return name
        while key in self._taken:
            key = f"{base}_{count}"
            count += 1
        self._taken[key] = 1
        return f"{name}_{count - 1}"

    def _name_all(self) -> None:
        """Give names to operations that have none yet, in the order in which they were made."""
        with self._lock:
            while self._named < len(self._operations):
                one = self._operations[self._named]
                self._named += 1
                exact = one.wanted.endswith("/")
                one.given = one.wanted[:-1] if exact else self._unique(one.scope + (one.wanted or one.default_name))
                self._by_name[one.given] = one

    def name_of(self, operation: Operation) -> str:
        """The name of one of its operations."""
        if not operation.given:
            self._name_all()
        return operation.given

    def label(self, operation: Operation, name: str) -> None:
        """Wish a name for an operation that was just made."""
        checked_name(name)
        operation.wanted = name

    @contextmanager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """A context in which names begin with `name` and a slash; None or "" for none, "a/" to go on with "a/"."""
        here = self.here
        before = here.scope
        if not name:
            here.scope = ""
        elif name.endswith("/"):
            here.scope = name
        else:
            here.scope = self.unique_name(before + checked_name(name)) + "/"
        try:
            yield here.scope
        finally:
            here.scope = before

    def get_operations(self) -> list[Operation]:
        """All operations, in the order in which they were made."""
        return list(self._operations)

    def get_operation_by_name(self, name: str) -> Operation:
        """The operation of this name."""
        self._name_all()
        if name not in self._by_name:
            found = "that is the name of a tensor" if ":" in name else "the graph has none of this name"
            raise UsageError(f"the operation {name!r}", found, "`[op.name for op in graph.get_operations()]` has all.")
        return self._by_name[name]

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor of this name: that of its operation, a colon, and the number of the result."""
        head, colon, index = name.partition(":")
        if not colon or not index.isdecimal():
            raise UsageError(f"the tensor {name!r}", "that is no name of a tensor", f"Name a result: {head + ':0'!r}.")
        results = self.get_operation_by_name(head).outputs
        if int(index) >= len(results):
            raise UsageError(f"the tensor {name!r}", f"{head!r} has {len(results)} results", "They are counted from 0.")
        return results[int(index)]

    def as_graph_element(self, given: Any) -> Any:
        """The tensor or operation that `given`, itself or a name, stands for."""
        if isinstance(given, str):
            return self.get_tensor_by_name(given) if ":" in given else self.get_operation_by_name(given)
        if isinstance(given, Tensor | Operation):
            return given
        if isinstance(given, Variable):
            return given._read()  # without a wish about its cut, which is an operation of its own
        raise UsageError(
            f"the element of a graph that {given!r:.200} stands for",
            f"it is a {type(given).__name__}",
            "Give a tensor, an operation, a variable, or the name of one.",
        )

    def operation(self, given: Any) -> Operation:
        """The operation behind a tensor, a variable, an operation or a name; raises UsageError if it is not ours."""
        element = self.as_graph_element(given)
        owner = getattr(element.node, "owner", None) if isinstance(element, Tensor) else element
        if owner is None or owner.graph is not self:
            raise UsageError(
                f"to use {element!r} in a graph",
                "it belongs to another graph" if owner is not None else "it belongs to no graph",
                "Make it under `with graph.as_default():`.",
            )
        return owner  # type: ignore[no-any-return]

    # Order.

    @contextmanager
    def control_dependencies(self, inputs: Iterable[Any] | None) -> Iterator[None]:
        """A context whose operations run after `inputs`, and whose reads of variables see what these assign.

        None lifts the dependencies that are in force.
        """
        here = self.here
        before = here.control, here.before
        if inputs is None:
            here.control, here.before = (), _NOTHING
        else:
            given = [self.operation(one) for one in inputs]
            here.control = tuple(dict.fromkeys((*here.control, *given)))
            here.before = here.before.union(*[one.before for one in given])
        try:
            yield
        finally:
            here.control, here.before = before

    def read(self, variable: Any) -> Tensor:
        """The value of `variable`: that at the start of a run, or what the operations assign that run before."""
        self._check_own(variable)
        last = latest([one for one in self.here.before if one.variable is variable])
        if len(last) > 1:
            raise UsageError(
                f"to read the variable {variable.name!r} after {last[0].name!r} and {last[1].name!r}",
                "both assign it, and neither runs after the other",
                "Make one of them under `control_dependencies` of the other.",
            )
        if not last:
            return tensor_of(variable.leaf)
        result: Tensor = apply(OPS["identity"], (tensor_of(last[0].result),), {})
        result.node.owner.kind = "ReadVariableOp"
        variable.reads.append(result.node)
        return result

    def assign(self, variable: Any, node: Node, name: str = "") -> Tensor:
        """The operation that gives `variable` the value of `node`, as the tensor of this value."""
        self._check_own(variable)
        result: Tensor = apply(OPS["identity"], (tensor_of(node),), {})
        operation: Operation = result.node.owner
        operation.kind, operation.wanted, operation.variable = "Assign", name, variable
        operation.before |= {operation}
        return result

    def _check_own(self, variable: Any) -> None:
        if not isinstance(variable, self.variable_class) or variable.graph is not self:
            raise UsageError(
                f"the variable {variable.name!r} in a graph",
                "it was not made in this graph",
                "Make it under `with graph.as_default():`; a Session has its value.",
            )

    # Collections.

    def add_to_collection(self, name: Any, value: Any) -> None:
        """Add `value` to the list called `name`."""
        self._collections.setdefault(name, []).append(value)

    def get_collection_ref(self, name: Any) -> list[Any]:
        """The list called `name` itself."""
        return self._collections.setdefault(name, [])

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """A copy of the list called `name`; with `scope`, of what has a name that begins with this expression."""
        found = list(self._collections.get(name, ()))
        if scope is None:
            return found
        return [one for one in found if re.match(scope, str(getattr(one, "name", "")))]

    def get_all_collection_keys(self) -> list[Any]:
        """The names of all lists that are not empty."""
        return [name for name, values in self._collections.items() if values]


def checked_name(name: Any) -> str:
    """`name`; raises UsageError for what can not be the name of an operation."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"the name {name!r}",
            "it can not be one",
            "Use letters, digits and . _ - /, beginning with a letter or digit.",
        )
    return name


def latest(assignments: Iterable[Operation]) -> list[Operation]:
    """Those of `assignments` after which none of the others runs."""
    given = list(assignments)
    return [one for one in given if not any(one in other.before for other in given if other is not one)]
