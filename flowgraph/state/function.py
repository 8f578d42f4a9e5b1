"""Traced functions: Python that runs once for each signature, and programs that run ever after."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgraph import tree
from flowgraph.apply import convert, recorded
from flowgraph.context import ACTIVE, Hooks
from flowgraph.errors import UsageError
from flowgraph.graph import FOREVER, Node, make_input, toposort
from flowgraph.leaves import Shared, no_data
from flowgraph.mesh import current_mesh
from flowgraph.ops.random import next_key
from flowgraph.ops.shard import below_wishes, with_wishes, without_wishes
from flowgraph.state.variable import Trace, Variable, is_drawn, trace_into, tracing
from flowgraph.tensor import Tensor, tensor_of

if TYPE_CHECKING:
    from flowgraph.eager import Compiled


class Traced:
    """A function, traced for one signature: a program of its tensor arguments and the variables that it uses."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        leaves: list[Node] = []

        def stand_in(value: Any) -> Any:
            if not _is_tensor_like(value):
                return value
            given, wishes = without_wishes(convert(value))
            leaf = make_input(given.type, "data", f"argument {len(leaves)}")
            leaves.append(leaf)
            return with_wishes(tensor_of(leaf), wishes)

        trace = Trace()
        symbolic_args, symbolic_kwargs = tree.map_structure(stand_in, (args, kwargs))
        with trace_into(trace):
            result = function(*symbolic_args, **symbolic_kwargs)
            outputs = [convert(one).node for one in tree.flatten(result) if one is not None]
        updates = trace.updates()
        self.structure = tree.map_structure(lambda one: one is not None, result)
        """The form of the result: True where a tensor stands, False for None."""
        self.trace = trace
        self.updates = tuple(updates)
        self.variables = tuple(trace.variables)
        self.arguments = tuple(leaves)
        self.outputs = [*outputs, *updates.values()]
        graph, self.captured = trace.closed(self.outputs, [*leaves, *trace.variables.values()])
        self.drawn = frozenset(node for node in self.captured if is_drawn(node))
        self.since = min((node.since for node in self.captured), default=FOREVER)
        self.graph, self.count = graph, len(outputs)

    @functools.cached_property
    def entry(self) -> Compiled:
        """What runs the graph, compiled when it is first asked for."""
        from flowgraph.eager import compiled  # late, for many functions are only differentiated

        return compiled(self.graph)

    def call(self, arguments: Sequence[Node], client: Any, scheduler: Any) -> Any:
        """Run the program: results as tensors, assignments committed together."""
        nodes = [*arguments, *(variable._node for variable in self.variables)]
        values = [value_of(node) for node in nodes]
        values += [next_key() if node in self.drawn else value_of(node) for node in self.captured]
        since = min([self.since, *[node.since for node in nodes]])
        results = self.entry.run_on([*nodes, *self.captured], values, client, scheduler)
        for variable, value in zip(self.updates, results[self.count :], strict=True):
            variable.set(value)
        return self._rebuilt([_evaluated(*found, since) for found in zip(self.outputs, results, strict=False)])

    def splice(self, tensors: Sequence[Tensor]) -> Any:
        """The nodes of the trace once more, on other arguments: inside another trace, or under a tape."""
        new: dict[Node, Node] = dict(zip(self.arguments, (t.node for t in tensors), strict=True))
        for variable in self.variables:
            new[self.trace.variables[variable]] = variable.value().node
        for node in self.captured:
            new[node] = make_input(node.type, "key", value=next_key()) if node in self.drawn else node
        for node in toposort(self.outputs, stop=lambda n: n in new):
            if node not in new:
                inputs = tuple([new[one] for one in node.inputs])
                new[node] = recorded(Node(node.op, inputs, node.attrs, node.types, node.where))
        assigned = [tensor_of(new[self.trace.current[variable]]) for variable in self.updates]
        if not tracing() and not any(one.node.symbolic for one in assigned):
            Hooks.evaluate([one.node for one in assigned])  # all before the first is assigned: one may fail
        for variable, value in zip(self.updates, assigned, strict=True):
            variable.assign(value)
        return self._rebuilt([tensor_of(new[node]) for node in self.outputs[: self.count]])

    def like(self, arguments: Sequence[Node]) -> list[Any]:
        """Values for the inputs of the program that stand for those of a call: sources as they are, no array's data."""
        return list(map(like_of, [*arguments, *(v._node for v in self.variables), *self.captured]))

    def _rebuilt(self, tensors: Sequence[Tensor]) -> Any:
        rest = iter(tensors)
        return tree.map_structure(lambda one: next(rest) if one else None, self.structure)


def like_of(node: Node) -> Any:
    """What stands for the value of a node where nothing is run: a source as it is, but no array's data."""
    known = node.memo is not None and not isinstance(node.memo, np.ndarray | np.generic)
    return node.memo if known else no_data(node.type)


def value_of(node: Node) -> Any:
    """The value of a node that is no input, computed if it has to be."""
    if node.memo is None:
        Hooks.evaluate([node])
    elif type(node) is Shared:
        node.check()
    return node.memo


def _evaluated(node: Node, value: Any, since: int) -> Tensor:
    result = make_input(node.type, "data", value=value)
    result.where = node.where
    result.since = min(since, result.serial)
    return Tensor(result)


def _is_tensor_like(value: Any) -> bool:
    """Whether an argument is a tensor. A variable is none: it stays itself, so that it can be assigned and watched."""
    if isinstance(value, Tensor):
        return True
    if isinstance(value, Variable):
        return False
    return isinstance(value, np.ndarray | np.floating) or hasattr(value, "__dask_graph__")


class Function:
    """What `function` returns: call it like the Python function that it was made of."""

    def __init__(self, python_function: Callable[..., Any], client: Any = None, scheduler: Any = None) -> None:
        self.python_function = python_function
        self.client, self.scheduler = client, scheduler
        self.traces: dict[Any, Traced] = {}
        self._of_instances: dict[int, tuple[Any, dict[Any, Traced]]] = {}
        functools.update_wrapper(self, python_function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the Python function returns, as tensors."""
        traced, tensors, nodes = self.traced(args, kwargs)
        symbolic = tracing() or any(tensor.node.symbolic for tensor in tensors)
        if symbolic or ACTIVE.tapes:
            return traced.splice(tensors)
        return traced.call(nodes, self.client, self.scheduler)

    def traced(self, args: Any, kwargs: Any) -> tuple[Traced, list[Tensor], list[Node]]:
        """The trace for the signature of these arguments, the tensors among them, and their nodes without wishes."""
        tensors: list[Tensor] = []
        nodes: list[Node] = []

        def part(value: Any) -> Any:
            if type(value) is not Tensor:
                if not _is_tensor_like(value):
                    return _hashable(value)
                value = convert(value)
            node, wishes = below_wishes(value.node)
            tensors.append(value)
            nodes.append(node)
            return (node.types[0], *[one.attrs for one in wishes]) if wishes else node.types[0]

        key = tree.form((args, kwargs) if kwargs else args, part)
        mesh = current_mesh()  # wishes about cuts say something else in another mesh
        key = key if mesh is None else (key, mesh)
        traced = self.traces.get(key)
        if traced is None:
            traced = self.traces[key] = Traced(self.python_function, args, kwargs)
        return traced, tensors, nodes

    def program(self, *args: Any, **kwargs: Any) -> Any:
        """The Program that a call with these arguments would run; it knows the number of their rows."""
        return self._program(args, kwargs)[0]

    def explain(self, *args: Any, workers: int | None = None, memory: float | str | None = None, **kwargs: Any) -> Any:
        """What a call with these arguments will cost, as a table: see `Program.explain`. Nothing runs.

        >>> import numpy as np, flowgraph as fg
        >>> @fg.function
        ... def total(x):
        ...     return fg.sum(x * x)
        >>> total.explain(np.ones((1_000_000, 4), "f4"), workers=2).stages[-1].name
        'whole_1'
        """
        program, values = self._program(args, kwargs)
        return Hooks.explain(program, None, workers, memory, values, self.client, self.scheduler)

    def _program(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The program of a call on the rows of its arguments, and what stands for the values of its inputs."""
        traced, _, nodes = self.traced(args, kwargs)
        entry = traced.entry
        lengths = [length for node in nodes for length in node.type.shape]
        if not all(isinstance(length, int) for length in lengths):  # of a function that is being traced
            return entry.program, None
        values = entry.extended(traced.like(nodes))
        return entry.program.on(entry.program.row_counts(entry.program.parts_of(values), entry.rows)), values

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        bound = Function(self.python_function.__get__(instance, owner), self.client, self.scheduler)
        bound.traces = self._traces_of(instance)
        return bound

    def _traces_of(self, instance: Any) -> dict[Any, Traced]:
        """The traces of this method for one instance; they go when it goes."""
        key, known = id(instance), self._of_instances
        if key not in known:
            try:
                known[key] = weakref.ref(instance, lambda _: known.pop(key, None)), {}
            except TypeError:  # of a class with __slots__: traced anew for every call
                return {}
        return known[key][1]


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        raise UsageError(
            f"a traced function with an argument of type {type(value).__name__}",
            "it is neither a tensor nor hashable, so calls can not be told apart by it",
            "Give tensors, arrays, numbers, strings, or structures of them.",
        ) from None
    if isinstance(value, float) and (value == 0 or math.isnan(value)):  # -0.0 equals 0.0, and nan not even itself
        return type(value), repr(value)
    if isinstance(value, complex):
        return type(value), repr(value)
    return type(value), value


def function(python_function: Callable[..., Any] | None = None, *, client: Any = None, scheduler: Any = None) -> Any:
    """`python_function` as a program: traced once for each signature, then run without Python.

    The signature is the shapes and dtypes of tensor arguments and the values of all others. What the function does
    besides computing tensors (printing, appending to a list) happens while it is traced, not in later calls. Variables
    that it assigns change together when a call ends. Random draws are new in every call, unless they name a seed.

    A large array for many calls is best made a tensor, `x = fg.asarray(array)`: its file for other processes is then
    written once. An array itself is written in each call, since it may have changed.

    >>> import flowgraph as fg
    >>> @fg.function
    ... def double(x):
    ...     return x + x
    >>> double(fg.constant([1.0, 2.0])).tolist()
    [2.0, 4.0]
    """
    if python_function is None:
        return lambda one: Function(one, client, scheduler)
    return Function(python_function, client, scheduler)
