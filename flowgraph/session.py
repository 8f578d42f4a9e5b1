"""State and traced functions: Variable, and `function`, which turns Python into one program for each signature."""

from __future__ import annotations

import functools
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from flowgraph import tree
from flowgraph.eager import PINNED, compiled, evaluate
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.graph import FOREVER, INPUT, Graph, Node, make_input, toposort
from flowgraph.ops.random import next_key
from flowgraph.tensor import ACTIVE, Shared, Tensor, as_array, convert, recorded, shape_text, tensor_of, value_text
from flowgraph.types import as_dtype, is_float, tensor_type


class _Names:
    """Gives variables names that occur once: Variable, Variable_1, ..."""

    def __init__(self) -> None:
        self.used: dict[str, int] = {}
        self.lock = threading.Lock()

    def unique(self, name: str) -> str:
        """`name`, with a number if there is a variable of this name."""
        with self.lock:
            count = self.used.get(name, 0)
            found = name if count == 0 else f"{name}_{count}"
            while count and found in self.used:  # somebody named a variable so
                count += 1
                found = f"{name}_{count}"
            self.used[name] = count + 1
            self.used.setdefault(found, 1)
        return found


_NAMES = _Names()
SEEDED = 2**63
"""The second word of the key of a draw that names its seed."""


class Variable:
    """Named state with a fixed shape and dtype: `initial_value`, until `assign` replaces it.

    A variable can be used wherever a tensor can; reading it gives its value at that moment. Trainable variables are
    watched by every GradientTape that sees them read. Inside a `function`, assignments take effect when a call ends.

    `initial_value` is anything that `fg.constant` takes, or a function that returns it. The second positional argument
    is `trainable`; a dtype in its place is taken for one.

    >>> import flowgraph as fg
    >>> v = fg.Variable([1.0, 2.0])
    >>> v.assign_add([1, 1]).numpy().tolist()
    [2.0, 3.0]
    """

    __array_priority__ = 1000
    __hash__ = object.__hash__

    def __init__(
        self, initial_value: Any, trainable: Any = True, name: str | None = None, dtype: Any = None, shape: Any = None
    ) -> None:
        if not isinstance(trainable, bool | np.bool_):
            trainable, dtype = True, trainable if dtype is None else dtype
        value = initial_value() if callable(initial_value) else initial_value
        array = value.numpy() if isinstance(value, Tensor | Variable) else as_array(value, dtype)
        array = np.array(array if dtype is None else array.astype(as_dtype(dtype)), order="C")
        if shape is not None and tuple(shape) != array.shape:
            raise ShapeError(
                f"a variable of shape {tuple(shape)}", f"its initial value has shape {array.shape}", "Make them agree."
            )
        self.name = _NAMES.unique(name if name is not None else "Variable")
        self.trainable = bool(trainable)
        self.type = tensor_type(array.shape, array.dtype)
        self._node = self._leaf(array)
        self._handle: Tensor | None = None

    def _leaf(self, value: Any) -> Node:
        return make_input(self.type, "variable", self.name, value)

    @property
    def shape(self) -> Any:
        """One length an axis."""
        return self.type.shape

    @property
    def dtype(self) -> Any:
        """The numpy dtype of the elements."""
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.type.ndim

    def __flowgraph_tensor__(self) -> Tensor:
        """The current value as a tensor; tapes take note of the read."""
        trace = _trace()
        if trace is not None:
            tensor = trace.read(self)
        else:
            if self._handle is None or self._handle.node is not self._node:
                self._handle = tensor_of(self._node)
            tensor = self._handle
        if self.trainable and ACTIVE.tapes and is_float(self.type.dtype):
            for tape in ACTIVE.tapes:
                tape.watch_variable(tensor.node, self)
        return tensor

    def value(self) -> Tensor:
        """The current value as a tensor."""
        return self.__flowgraph_tensor__()

    read_value = value

    def numpy(self) -> np.ndarray[Any, Any]:
        """The current value as a numpy array."""
        return self.value().numpy()

    def assign(self, value: Any) -> Variable:
        """Replace the value; returns the variable.

        Tensors and variables must have its dtype; numbers, lists and arrays are converted, but not from real numbers to
        integers. Raises ShapeError or DTypeError for a value of another kind.
        """
        new = self._converted(value)
        if new.shape != self.type.shape:
            raise ShapeError(
                f"to assign {new.type} to the variable {self.name!r} of shape {self.type.shape}",
                "the shapes differ",
                "Reshape the value, or make another variable.",
            )
        if new.dtype != self.type.dtype:
            raise DTypeError(
                f"to assign {new.dtype} to the variable {self.name!r} of {self.type.dtype}",
                "the dtypes differ",
                f"Cast the value: fg.cast(value, {str(self.type.dtype)!r}).",
            )
        trace = _trace()
        if trace is not None:
            trace.assign(self, new.node)
        else:
            array = new.numpy()
            # A leaf may share memory with an array of the caller's; what a program computed is nobody else's.
            self.set(array.copy() if new.node.is_leaf and array is not self._node.memo else array)
        return self

    def _converted(self, value: Any) -> Tensor:
        """`value` as a tensor, of the dtype of the variable where that changes no more than its precision."""
        if not isinstance(value, Tensor | Variable) and not hasattr(value, "__dask_graph__"):
            try:
                given, own = np.asarray(value).dtype, self.type.dtype
            except ValueError:  # a list whose rows differ in length: `convert` says so
                return convert(value)
            if np.can_cast(given, own, "same_kind") or given.kind + own.kind == "iu":
                return convert(as_array(value, own))
        return convert(value)

    def assign_add(self, delta: Any) -> Variable:
        """Add `delta` to the value; returns the variable."""
        return self.assign(self.value() + delta)

    def assign_sub(self, delta: Any) -> Variable:
        """Subtract `delta` from the value; returns the variable."""
        return self.assign(self.value() - delta)

    def set(self, array: np.ndarray[Any, Any]) -> None:
        """Make `array` the value without a check; for rooms that computed it for this variable."""
        old, nbytes = weakref.ref(self._node), array.nbytes
        self._node = self._leaf(array)
        self._handle = None
        PINNED.replaced(old, nbytes)

    def __repr__(self) -> str:
        shape = shape_text(self.shape)
        if tracing():
            return f"<fg.Variable '{self.name}' shape={shape} dtype={self.dtype}, symbolic>"
        text = value_text(self.numpy())
        return f"<fg.Variable '{self.name}' shape={shape} dtype={self.dtype}, numpy={text}>"

    def __format__(self, spec: str) -> str:
        return format(self.value(), spec) if spec else str(self)

    def __len__(self) -> int:
        return len(self.value())

    def __bool__(self) -> bool:
        return bool(self.value())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return self.value().__array__(dtype, copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return self.value().__array_ufunc__(ufunc, method, *inputs, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """What a variable does not know, its value does: `sum`, `reshape`, `T`, ..."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.value(), name)

    def __reduce__(self) -> Any:
        return _unpickled_variable, (self.numpy(), self.trainable, self.name)


def _unpickled_variable(array: Any, trainable: bool, name: str) -> Variable:
    return Variable(array, trainable=trainable, name=name, dtype=array.dtype)


def _forward(name: str) -> Callable[..., Any]:
    def method(self: Variable, *args: Any) -> Any:
        return getattr(self.value(), name)(*args)

    method.__name__ = name
    return method


_BINARY = ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or")
for _name in (
    *(f"__{left}{word}__" for word in _BINARY for left in ("", "r")),
    "__neg__", "__pos__", "__abs__", "__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__getitem__",
    "__float__", "__int__", "__complex__", "__index__", "__iter__", "__invert__",
):  # fmt: skip
    setattr(Variable, _name, _forward(_name))


class Trace:
    """What happens while a function is traced: which variables are read and assigned."""

    def __init__(self) -> None:
        self.start = make_input(_SCALAR).serial
        """Nodes with a lower serial number were made before."""
        self.variables: dict[Variable, Node] = {}
        """The leaf that stands for the value of each variable at the start."""
        self.current: dict[Variable, Node] = {}
        """The node of the value that each variable has by now."""

    def bind(self, variable: Variable, node: Node) -> None:
        """Let `node` stand for the value of `variable`."""
        self.variables[variable] = self.current[variable] = node

    def read(self, variable: Variable) -> Tensor:
        """The value of `variable` by now."""
        if variable not in self.variables:
            self.bind(variable, make_input(variable.type, "variable", variable.name))
        return tensor_of(self.current[variable])

    def assign(self, variable: Variable, node: Node) -> None:
        """Note a new value."""
        self.read(variable)
        self.current[variable] = node

    def updates(self) -> dict[Variable, Node]:
        """The variables that were assigned, and their last values."""
        return {v: node for v, node in self.current.items() if node is not self.variables[v]}

    def closed(self, outputs: Sequence[Node], given: Sequence[Node]) -> tuple[Graph, list[Node]]:
        """The graph of `outputs` with two kinds of inputs: `given`, and what the trace took from outside; the latter.

        From outside come tensors that were made before the trace, and all values that are known: numbers, data, keys.
        """
        own = set(given)

        def is_outside(node: Node) -> bool:
            if node in own or node.op.name == "constant":
                return False
            return node.memo is not None or node.is_leaf or node.serial < self.start

        captured = [n for n in toposort(outputs, stop=lambda n: n in own or is_outside(n)) if is_outside(n)]
        leaves = [*given, *captured]
        new = {node: _stand_in(node) for node in leaves}
        for node in toposort(outputs, stop=lambda n: n in own or is_outside(n)):
            if node not in new:
                new[node] = Node(node.op, tuple([new[one] for one in node.inputs]), node.attrs, node.types, node.where)
        return Graph(tuple(new[node] for node in leaves), tuple(new[node] for node in outputs)), captured


_SCALAR = tensor_type((), np.float32)


def _stand_in(node: Node) -> Node:
    """An input for the values of `node`."""
    return Node(INPUT, (), (("kind", node.attr("kind") if node.is_leaf else "data"), ("name", "")), node.types)


def is_drawn(node: Node) -> bool:
    """Whether a value from outside is the key of a random draw, which is to be new in every run of the trace."""
    return node.is_leaf and node.attr("kind") == "key" and int(node.memo[1]) != SEEDED


def _trace() -> Trace | None:
    return ACTIVE.traces[-1] if ACTIVE.traces else None


@contextmanager
def trace_into(trace: Trace) -> Iterator[None]:
    """A context in which variables are read and assigned in `trace`; tapes from outside do not see it."""
    tapes, ACTIVE.tapes = ACTIVE.tapes, []
    ACTIVE.traces.append(trace)
    try:
        yield
    finally:
        ACTIVE.traces.pop()
        ACTIVE.tapes = tapes


def tracing() -> bool:
    """Whether a function is being traced in this thread."""
    return _trace() is not None


class Traced:
    """A function, traced for one signature: a program of its tensor arguments and the variables that it uses."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        leaves: list[Node] = []

        def stand_in(value: Any) -> Any:
            if not _is_tensor_like(value):
                return value
            given = convert(value)
            leaf = make_input(given.type, "data", f"argument {len(leaves)}")
            leaves.append(leaf)
            return tensor_of(leaf)

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
        self.outputs = outputs + list(updates.values())
        graph, self.captured = trace.closed(self.outputs, [*leaves, *trace.variables.values()])
        self.drawn = frozenset(node for node in self.captured if is_drawn(node))
        self.entry = compiled(graph)
        self.count = len(outputs)

    def call(self, tensors: Sequence[Tensor], client: Any, scheduler: Any) -> Any:
        """Run the program: results as tensors, assignments committed together."""
        values = [value_of(tensor.node) for tensor in tensors]
        values += [value_of(variable._node) for variable in self.variables]
        values += [next_key() if node in self.drawn else value_of(node) for node in self.captured]
        sources = (*(t.node for t in tensors), *(v._node for v in self.variables), *self.captured)
        since = min((node.since for node in sources), default=FOREVER)
        results = self.entry.program.run(values, client, scheduler, self.entry.rows)
        fed = {id(value) for value in values if isinstance(value, np.ndarray)}
        results = [one.copy() if id(one) in fed else one for one in results]  # an argument may be the caller's array
        for variable, value in zip(self.updates, results[self.count :], strict=True):
            variable.set(value)
        found = zip(self.outputs, results, strict=False)
        return self._rebuilt([_evaluated(node, value, since) for node, value in found])

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
            evaluate([one.node for one in assigned])  # all before the first is assigned: one may fail
        for variable, value in zip(self.updates, assigned, strict=True):
            variable.assign(value)
        return self._rebuilt([tensor_of(new[node]) for node in self.outputs[: self.count]])

    def _rebuilt(self, tensors: Sequence[Tensor]) -> Any:
        rest = iter(tensors)
        return tree.map_structure(lambda one: next(rest) if one else None, self.structure)


def value_of(node: Node) -> Any:
    """The value of a node that is no input, computed if it has to be."""
    if node.memo is None:
        evaluate([node])
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
    if isinstance(value, Variable):
        return False
    return isinstance(value, Tensor | np.ndarray | np.floating) or hasattr(value, "__dask_graph__")


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
        traced, tensors = self.traced(args, kwargs)
        symbolic = _trace() is not None or any(tensor.node.symbolic for tensor in tensors)
        if symbolic or ACTIVE.tapes:
            return traced.splice(tensors)
        return traced.call(tensors, self.client, self.scheduler)

    def traced(self, args: Any, kwargs: Any) -> tuple[Traced, list[Tensor]]:
        """The trace for the signature of these arguments, and the tensors among them."""
        tensors: list[Tensor] = []
        parts: list[Any] = []

        def note(value: Any) -> None:
            if _is_tensor_like(value):
                tensor = convert(value)
                tensors.append(tensor)
                parts.append(tensor.node.types[0])
            else:
                parts.append(_hashable(value))

        tree.map_structure(note, (args, kwargs) if kwargs else args)
        key = (tuple(parts), _form(args), _form(kwargs) if kwargs else None)
        if key not in self.traces:
            self.traces[key] = Traced(self.python_function, args, kwargs)
        return self.traces[key], tensors

    def program(self, *args: Any, **kwargs: Any) -> Any:
        """The Program that a call with these arguments would run."""
        return self.traced(args, kwargs)[0].entry.program

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


def _form(structure: Any) -> Any:
    """The shape of a nested structure, without its leaves."""
    if isinstance(structure, Mapping):
        return tuple((key, _form(value)) for key, value in structure.items())
    if isinstance(structure, list | tuple):
        return type(structure).__name__, tuple(_form(value) for value in structure)
    return None


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
    return type(value), value


def function(python_function: Callable[..., Any] | None = None, *, client: Any = None, scheduler: Any = None) -> Any:
    """`python_function` as a program: traced once for each signature, then run without Python.

    The signature is the shapes and dtypes of tensor arguments and the values of all others. What the function does
    besides computing tensors (printing, appending to a list) happens while it is traced, not in later calls. Variables
    that it assigns change together when a call ends. Random draws are new in every call, unless they name a seed.

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
