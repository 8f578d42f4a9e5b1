"""Session: it holds the values of a graph's variables, and runs the graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np

from flowgraph import tree
from flowgraph.context import ACTIVE, describe_line, no_session
from flowgraph.errors import ClusterError, RunError, UsageError
from flowgraph.graph import Node
from flowgraph.leaves import Shared, as_array
from flowgraph.ops.random import next_key
from flowgraph.program import load
from flowgraph.session.default_graph import get_default_graph
from flowgraph.session.feeding import fed_value
from flowgraph.session.graph_variable import GraphVariable
from flowgraph.session.graphs import Graph
from flowgraph.session.operation import Operation
from flowgraph.session.plan import Draw, Plan, fed_type
from flowgraph.sources import type_of
from flowgraph.state.function import value_of
from flowgraph.state.variable import SEEDED, Variable
from flowgraph.tensor import Tensor


class _Defaults(threading.local):
    def __init__(self) -> None:
        self.sessions: list[Session] = []


_DEFAULTS = _Defaults()


class Session:
    """The values of a graph's variables, and the place where the graph is run.

    `graph` is the default graph if not given. `target` is the address of a Dask scheduler; `client` and `scheduler`
    name a place as they do elsewhere. A run is all or nothing: what it assigns is kept together when it ends, and
    nothing is kept if it fails. Threads may share a session: runs that assign follow one another.

    >>> import flowgraph as fg
    >>> with fg.Graph().as_default(), fg.Session() as session:
    ...     v = fg.Variable(1.0)
    ...     session.run(fg.global_variables_initializer())
    ...     for _ in range(2):
    ...         _ = session.run(v.assign_add(2.0))
    ...     float(session.run(v))
    5.0
    """

    def __init__(
        self, target: str = "", graph: Graph | None = None, *, client: Any = None, scheduler: Any = None
    ) -> None:
        self.graph = graph if graph is not None else get_default_graph()
        """The graph that is run."""
        self._own_client: Any = None
        if target:
            if client is not None or scheduler is not None:
                raise UsageError("a Session", "it was given a target and a client or scheduler", "Give one of them.")
            client = self._own_client = _connected(target)
        self._client, self._scheduler = client, scheduler
        self._values: Mapping[Any, np.ndarray[Any, Any]] = {}
        self._drawn: dict[Node, int] = {}
        self._writing = threading.Lock()
        self._drawing = threading.Lock()
        self._closed = False
        self._entered: list[ExitStack] = []

    def run(self, fetches: Any, feed_dict: Mapping[Any, Any] | None = None) -> Any:
        """The values of `fetches` in one run of the graph, in their structure.

        Fetches are tensors, variables, names of tensors, or operations, whose value is None. `feed_dict` gives values
        for placeholders, and for any other tensors in the place of what they would be. Variables have the values that
        they had when the run began, but for reads under `control_dependencies`; what is assigned is kept together
        when the run ends. Only what is needed is computed, and each random draw is made once.
        """
        targets = [self._target(one) for one in tree.flatten(fetches)]
        fed, values = self._fed(feed_dict) if feed_dict else ((), [])
        results = self._run(targets, fed, values)
        return results[0] if len(results) == 1 and _is_single(fetches) else tree.unflatten(fetches, results)

    def make_callable(self, fetches: Any, feed_list: Sequence[Any] | None = None) -> Callable[..., Any]:
        """A function of the values for `feed_list` that runs `fetches`: quicker where that is done often."""
        targets = [self._target(one) for one in tree.flatten(fetches)]
        fed = tuple([self._feedable(one) for one in feed_list or ()])
        single = len(targets) == 1 and _is_single(fetches)

        def call(*args: Any) -> Any:
            if len(args) != len(fed):
                raise UsageError(f"a call with {len(args)} values", f"it feeds {len(fed)}", "Give one for each.")
            values = [fed_value(node, one) for node, one in zip(fed, args, strict=True)]
            results = self._run(targets, fed, values)
            return results[0] if single else tree.unflatten(fetches, results)

        return call

    # What is asked for.

    def _target(self, fetch: Any) -> Node | Operation:
        """What a fetch stands for."""
        if type(fetch) is Tensor:
            node = fetch.node
        elif isinstance(fetch, Variable):
            node = fetch._node
        else:
            element = self.graph.as_graph_element(fetch)
            if isinstance(element, Operation):
                return element
            node = element.node
        return node

    def _feedable(self, key: Any) -> Node:
        target = self._target(key)
        if isinstance(target, Operation):
            raise UsageError(
                f"to feed the operation {target.name!r}",
                "values are fed for tensors",
                f"Feed one of its results, such as {target.name + ':0'!r}.",
            )
        return target

    def _fed(self, feed_dict: Mapping[Any, Any]) -> tuple[tuple[Node, ...], list[Any]]:
        fed = tuple([self._feedable(one) for one in feed_dict])
        if len(set(fed)) < len(fed):
            raise UsageError("a run with a feed_dict", "a tensor is fed twice", "Feed each once.")
        return fed, [fed_value(node, one) for node, one in zip(fed, feed_dict.values(), strict=True)]

    def _check_ours(self, targets: Sequence[Node | Operation], fed: Sequence[Node]) -> None:
        for one in (*targets, *fed):
            owner = getattr(one, "owner", None) if isinstance(one, Node) else one
            data = isinstance(one, Node) and owner is None and one.is_leaf and one.memo is not None
            if not data and (owner is None or owner.graph is not self.graph):
                what = f"{one.op.name} of {one.type}" if isinstance(one, Node) else repr(one.name)
                raise UsageError(
                    f"a run of {what}",
                    "it does not belong to the graph of this session",
                    "Make it under `with graph.as_default():`, or a Session(graph=...) for its graph.",
                )

    def _plan(self, targets: Sequence[Node | Operation], fed: tuple[Node, ...]) -> Plan:
        self._check_ours(targets, fed)
        return Plan(self.graph, targets, fed)

    # Running.

    def _run(self, targets: Sequence[Node | Operation], fed: tuple[Node, ...], values: Sequence[Any]) -> list[Any]:
        if self._closed:
            raise RunError("a run of a session", "the session is closed", "Make another Session.")
        plan: Plan = self.graph.plans.get((tuple(targets), fed), lambda: self._plan(targets, fed))
        if not plan.updates:
            return self._results(plan, values)
        with self._writing:
            return self._results(plan, values)

    def _results(self, plan: Plan, values: Sequence[Any]) -> list[Any]:
        state = self._values
        try:
            read = [state[variable] for variable in plan.variables]
        except KeyError as error:
            raise _uninitialised(error.args[0]) from None
        given = [
            *values,
            *read,
            *[self._key(draw) for draw in plan.draws],
            *[node.memo if type(node) is not Shared else value_of(node) for node in plan.data],
        ]
        entry = plan.bind(tuple([type_of(one) for one in values]))
        outputs = entry.run(given, self._client, self._scheduler) if plan.outputs else []
        outputs = [one if isinstance(one, np.ndarray) else load(one, self._client, self._scheduler) for one in outputs]
        shared = {id(one) for one in given}
        if plan.updates:
            new = {variable: _own(outputs[number], shared) for variable, number in plan.updates}
            shared.update(map(id, new.values()))
            self._values = {**state, **new}
        return [None if number is None else _returned(outputs[number], shared) for number in plan.fetches]

    def _key(self, draw: Draw) -> np.ndarray[Any, Any]:
        """The key of a draw in this run."""
        if draw.seed is None:
            return next_key()
        with self._drawing:
            count = self._drawn.get(draw.node, 0)
            self._drawn[draw.node] = count + 1
        return np.array([draw.seed, SEEDED + count], np.uint64)

    # State.

    def values(self, variables: Sequence[GraphVariable]) -> list[np.ndarray[Any, Any]]:
        """The values of `variables`, all of one moment; they are not to be changed."""
        state = self._values
        for one in variables:
            if one not in state:
                raise _uninitialised(one)
        return [state[one] for one in variables]

    def load(self, values: Mapping[GraphVariable, Any]) -> None:
        """Give variables new values, all at once."""
        new = {}
        for variable, value in values.items():
            array = np.array(as_array(value, variable.dtype), order="C")
            fed_type(variable.leaf, array.shape)
            new[variable] = array
        with self._writing:
            self._values = {**self._values, **new}

    def is_initialized(self, variable: GraphVariable) -> bool:
        """Whether `variable` has a value here."""
        return variable in self._values

    # Contexts.

    def as_default(self) -> AbstractContextManager[Session]:
        """A context in which `x.eval()` and `operation.run()` use this session."""
        return _as_default(self)

    def __enter__(self) -> Session:
        stack = ExitStack()
        if not (ACTIVE.traces and ACTIVE.traces[-1] is self.graph):
            stack.enter_context(self.graph.as_default())
        stack.enter_context(self.as_default())
        self._entered.append(stack)
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.pop().close()
        self.close()

    def close(self) -> None:
        """Let go of all values; the session can not run afterwards."""
        self._closed, self._values = True, {}
        if self._own_client is not None:
            self._own_client.close()
            self._own_client = None


class InteractiveSession(Session):
    """A Session that is the default one, as is its graph, from when it is made until it is closed."""

    def __init__(
        self, target: str = "", graph: Graph | None = None, *, client: Any = None, scheduler: Any = None
    ) -> None:
        super().__init__(target, graph, client=client, scheduler=scheduler)
        self._installed = ExitStack()
        self._installed.enter_context(self.graph.as_default())
        self._installed.enter_context(self.as_default())

    def close(self) -> None:
        """Let go of all values, and be the default session no longer."""
        self._installed.close()
        super().close()


@contextmanager
def _as_default(session: Session) -> Any:
    _DEFAULTS.sessions.append(session)
    try:
        yield session
    finally:
        _DEFAULTS.sessions.remove(session)


def get_default_session() -> Session | None:
    """The innermost session that was made the default in this thread, or None."""
    return _DEFAULTS.sessions[-1] if _DEFAULTS.sessions else None


def default_session(given: Session | None, what: str) -> Session:
    """`given`, else the default session; raises UsageError where there is neither."""
    found = given if given is not None else get_default_session()
    if found is None:
        raise no_session(what)
    return found


def _connected(target: str) -> Any:
    from distributed import Client

    try:
        return Client(target, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"a Session at {target!r}", f"no scheduler answers there: {error}", "Start one with `dask scheduler`."
        ) from error


def _is_single(fetches: Any) -> bool:
    return not isinstance(fetches, list | tuple | Mapping)


def _uninitialised(variable: Any) -> RunError:
    return RunError(
        f"a run that reads the variable {variable.name!r}, made at {describe_line(variable.leaf.where)}",
        "it has no value in this session yet",
        "Run its initializer first: session.run(global_variables_initializer()).",
    )


def _own(array: np.ndarray[Any, Any], shared: set[int]) -> np.ndarray[Any, Any]:
    """`array`, or a copy where its memory is somebody else's."""
    return array if array.flags.owndata and id(array) not in shared else array.copy()


def _returned(array: np.ndarray[Any, Any], shared: set[int]) -> Any:
    """A fetched value: a number, or an array that the caller may change."""
    return array[()] if array.ndim == 0 else _own(array, shared)
