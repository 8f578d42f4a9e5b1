"""State and traced functions: Variable, and `function`, which turns Python into one program for each signature."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from flowgraph import tree
from flowgraph.eager import compiled
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.graph import FOREVER, Graph, Node, make_input, toposort
from flowgraph.ops.random import next_key
from flowgraph.tensor import ACTIVE, Tensor, as_array, convert, recorded, tensor_of
from flowgraph.types import as_dtype, is_float, tensor_type


class _Names:
    """Gives variables names that occur once: Variable, Variable_1, ..."""

    def __init__(self) -> None:
        self.used: dict[str, int] = {}

    def unique(self, name: str) -> str:
        count = self.used.get(name, 0)
        self.used[name] = count + 1
        return name if count == 0 else f"{name}_{count}"


_NAMES = _Names()


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
        """Replace the value; returns the variable. Raises ShapeError or DTypeError for a value of another kind."""
        new = convert(value, self.type.dtype if isinstance(value, bool | int | float | complex) else None)
        if not isinstance(value, Tensor | Variable) and new.dtype != self.type.dtype:
            new = new.astype(self.type.dtype)
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
            self.set(new.numpy())
        return self

    def assign_add(self, delta: Any) -> Variable:
        """Add `delta` to the value; returns the variable."""
        return self.assign(self.value() + delta)

    def assign_sub(self, delta: Any) -> Variable:
        """Subtract `delta` from the value; returns the variable."""
        return self.assign(self.value() - delta)

    def set(self, array: np.ndarray[Any, Any]) -> None:
        """Make `array` the value without a check; for rooms that computed it for this variable."""
        self._node = self._leaf(array)
        self._handle = None

    def __repr__(self) -> str:
        shape = f"({', '.join(map(str, self.shape))}{',' if self.ndim == 1 else ''})"
        value = np.array2string(self.numpy(), separator=", ", prefix="array(")
        text = f"array({value}, dtype={self.dtype})" if self.ndim else str(self.numpy())
        return f"<fg.Variable '{self.name}' shape={shape} dtype={self.dtype}, numpy={text}>"

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
    variable = Variable(array, trainable=trainable, dtype=array.dtype)
    variable.name = name
    return variable


def _forward(name: str) -> Callable[..., Any]:
    def method(self: Variable, *args: Any) -> Any:
        return getattr(self.value(), name)(*args)

    method.__name__ = name
    return method


for _name in (
    *(f"__{left}{word}__" for word in ("add", "sub", "mul", "truediv", "pow", "matmul") for left in ("", "r")),
    "__neg__", "__pos__", "__abs__", "__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__getitem__",
    "__float__", "__int__", "__iter__", "__invert__",
):  # fmt: skip
    setattr(Variable, _name, _forward(_name))


class Trace:
    """What happens while a function is traced: which variables are read and assigned."""

    def __init__(self) -> None:
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
        self.structure = result
        self.trace = trace
        updates = trace.updates()
        outputs = [convert(one).node for one in tree.flatten(result) if one is not None]
        self.updates = tuple(updates)
        self.variables = tuple(trace.variables)
        self.arguments = tuple(leaves)
        self.outputs = outputs + list(updates.values())
        given = {*leaves, *trace.variables.values()}
        self.captured = [n for n in toposort(self.outputs, stop=_has_value) if n not in given and _has_value(n)]
        """Values that the function took from outside: closures, drawn keys."""
        leaves_in_order = [*leaves, *trace.variables.values(), *self.captured]
        graph = self._closed(leaves_in_order)
        self.entry = compiled(graph)
        self.count = len(outputs)

    def _closed(self, leaves: Sequence[Node]) -> Graph:
        """The graph of the trace with captured values as inputs."""
        stand_ins: dict[Node, Node] = {}
        new: dict[Node, Node] = {}
        for node in leaves:
            kind = node.attr("kind") if node.is_leaf else "data"
            stand_ins[node] = new[node] = Node(node.op if node.is_leaf else _INPUT, (), (("kind", kind), ("name", "")), node.types)
        for node in toposort(self.outputs, stop=lambda n: n in stand_ins):
            if node not in new:
                new[node] = Node(node.op, tuple([new[one] for one in node.inputs]), node.attrs, node.types, node.where)
        return Graph(tuple(stand_ins[node] for node in leaves), tuple(new[node] for node in self.outputs))

    def call(self, tensors: Sequence[Tensor], client: Any, scheduler: Any) -> Any:
        """Run the program: results as tensors, assignments committed together."""
        values = [_value(tensor.node) for tensor in tensors]
        values += [_value(variable._node) for variable in self.variables]
        values += [next_key() if node.attr("kind") == "key" else _value(node) for node in self.captured]
        sources = (*(t.node for t in tensors), *(v._node for v in self.variables), *self.captured)
        since = min((node.since for node in sources), default=FOREVER)
        results = self.entry.program.run(values, client, scheduler, self.entry.rows)
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
            fresh = node.is_leaf and node.attr("kind") == "key"
            new[node] = make_input(node.type, "key", value=next_key()) if fresh else node
        for node in toposort(self.outputs, stop=lambda n: n in new):
            if node not in new:
                inputs = tuple([new[one] for one in node.inputs])
                new[node] = recorded(Node(node.op, inputs, node.attrs, node.types, node.where))
        for variable in self.updates:
            variable.assign(tensor_of(new[self.trace.current[variable]]))
        return self._rebuilt([tensor_of(new[node]) for node in self.outputs[: self.count]])

    def _rebuilt(self, tensors: Sequence[Tensor]) -> Any:
        rest = iter(tensors)
        return tree.map_structure(lambda one: None if one is None else next(rest), self.structure)


_INPUT = make_input(tensor_type((), np.float32)).op


def _has_value(node: Node) -> bool:
    return node.memo is not None and node.op.name != "constant"


def _value(node: Node) -> Any:
    if node.memo is None:
        tensor_of(node).numpy()
    return node.memo


def _evaluated(node: Node, value: Any, since: int) -> Tensor:
    result = make_input(node.type, "data", value=value)
    result.where = node.where
    result.since = min(since, result.serial)
    return Tensor(result)


def _is_tensor_like(value: Any) -> bool:
    return isinstance(value, Tensor | Variable | np.ndarray) or hasattr(value, "__dask_graph__")


class Function:
    """What `function` returns: call it like the Python function that it was made of."""

    def __init__(self, python_function: Callable[..., Any], client: Any = None, scheduler: Any = None) -> None:
        self.python_function = python_function
        self.client, self.scheduler = client, scheduler
        self.traces: dict[Any, Traced] = {}
        functools.update_wrapper(self, python_function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
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
        methods = self.__dict__.setdefault("_methods", weakref.WeakKeyDictionary())
        if instance not in methods:
            methods[instance] = Function(self.python_function.__get__(instance, owner), self.client, self.scheduler)
        return methods[instance]


def _form(structure: Any) -> Any:
    """The shape of a nested structure, without its leaves."""
    if isinstance(structure, dict):
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
    return type(value), value


def function(python_function: Callable[..., Any] | None = None, *, client: Any = None, scheduler: Any = None) -> Any:
    """`python_function` as a program: traced once for each signature, then run without Python.

    The signature is the shapes and dtypes of tensor arguments and the values of all others. What the function does
    besides computing tensors (printing, appending to a list) happens while it is traced, not in later calls. Variables
    that it assigns change together when a call ends. Random draws are new in every call.

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


