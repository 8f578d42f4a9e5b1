"""Variable, named state; and Trace, which stands between variables and their values while a function is traced."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from flowgraph.apply import convert
from flowgraph.context import ACTIVE, Hooks, inside_lane
from flowgraph.errors import DTypeError, ShapeError
from flowgraph.graph import INPUT, Graph, Node, make_input, toposort
from flowgraph.leaves import as_array
from flowgraph.mesh import Placement, current_placement
from flowgraph.ops.shard import shard
from flowgraph.tensor import Tensor, shape_text, tensor_of, value_text
from flowgraph.types import Dim, as_dtype, is_float, tensor_type


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
"""From here on the second word of a key is that of a draw that names its seed."""


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
    _wish: Any = None
    """How the value is to be cut: (rows, axes) of `shard`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Variable:
        """A variable of the kind that is made here: a deferred graph makes its own."""
        trace = _trace()
        kind: type[Variable] = trace.variable_class if cls is Variable and trace is not None else cls
        return object.__new__(kind)

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
        """The current value as a tensor, cut as it is wished; tapes take note of the read."""
        tensor, wish, plan = self._read(), self._wish, current_placement()
        if wish is None and plan is not None:
            wish = _planned(plan, self)
        return tensor if wish is None else shard(tensor, *wish)

    def _read(self) -> Tensor:
        """The current value as a tensor."""
        trace, plan = _trace(), current_placement()
        if trace is not None:
            tensor: Tensor = trace.read(self)
            if plan is not None:
                _enter(plan.lane_of(self))
        else:
            if self._handle is None or self._handle.node is not self._node:
                self._handle = tensor_of(self._node)
            tensor = self._handle
        if self.trainable and ACTIVE.tapes and is_float(self.type.dtype):
            for tape in ACTIVE.tapes:
                tape.watch_variable(tensor.node, self)
        return tensor

    def __flowgraph_shard__(self, rows: Any, axes: Any) -> Variable:
        """Keep a wish about how the value is cut, wherever it is read from now on; see `shard`."""
        shard(self.value(), rows, axes)  # says what is wrong with it
        self._wish = None if rows is None and not axes else (rows, dict(axes or {}))
        return self

    @property
    def is_cut(self) -> bool:
        """Whether `shard` was asked to cut axes of it."""
        return self._wish is not None and bool(self._wish[1])

    def value(self) -> Tensor:
        """The current value as a tensor."""
        return self.__flowgraph_tensor__()

    read_value = value

    def numpy(self) -> np.ndarray[Any, Any]:
        """The current value as a numpy array."""
        return self._read().numpy()

    def assign(self, value: Any) -> Variable:
        """Replace the value; returns the variable.

        Tensors and variables must have its dtype; numbers, lists and arrays are converted, but not from real numbers to
        integers. Raises ShapeError or DTypeError for a value of another kind.
        """
        new = self._checked(value)
        trace = _trace()
        if trace is not None:
            trace.assign(self, new.node)
        else:
            array = new.numpy()
            # A leaf may share memory with an array of the caller's; what a program computed is nobody else's.
            self.set(array.copy() if new.node.is_leaf and array is not self._node.memo else array)
        return self

    def _checked(self, value: Any) -> Tensor:
        """`value` as a tensor that can be assigned; lengths that are not known yet may turn out to be right."""
        new = self._converted(value)
        fits = new.ndim == self.type.ndim and all(
            a == b or isinstance(a, Dim) for a, b in zip(new.shape, self.type.shape, strict=True)
        )
        if not fits:
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
        return new

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
        Hooks.replaced(old, nbytes)

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
        return self._read().__array__(dtype, copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return self.value().__array_ufunc__(ufunc, method, *inputs, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """What a variable does not know, its value does: `sum`, `reshape`, `T`, ..."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.value(), name)

    def __reduce__(self) -> Any:
        return _unpickled_variable, (self.numpy(), self.trainable, self.name)


def _planned(plan: Placement, variable: Variable) -> Any:
    """The wish of a plan about a variable, as `shard` takes it."""
    axes = plan.wish_of(variable)
    return None if axes is None else (None, axes)


def _enter(lane: tuple[str, int] | None) -> None:
    """Let what is computed from here on belong to `lane`, unless the model names its stages or is further on."""
    own = ACTIVE.lane
    if lane is not None and (not own or (own[0][0] == lane[0] and own[0][1] < lane[1])):
        ACTIVE.lane = (lane,)


def _unpickled_variable(array: Any, trainable: bool, name: str) -> Variable:
    return Variable(array, trainable=trainable, name=name, dtype=array.dtype)


def _forward(name: str) -> Callable[..., Any]:
    def method(self: Variable, *args: Any) -> Any:
        return getattr(self.value(), name)(*args)

    method.__name__ = name
    return method


_BINARY = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift",
)  # fmt: skip
for _name in (
    *(f"__{left}{word}__" for word in _BINARY for left in ("", "r")), "__divmod__", "__rdivmod__",
    "__neg__", "__pos__", "__abs__", "__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__getitem__",
    "__float__", "__int__", "__complex__", "__index__", "__iter__", "__invert__",
):  # fmt: skip
    setattr(Variable, _name, _forward(_name))


class Trace:
    """What happens while a function is traced: which variables are read and assigned."""

    variable_class: ClassVar[type[Variable]] = Variable
    """What `Variable` makes meanwhile."""

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

        order = toposort(outputs, stop=lambda n: n in own or is_outside(n))
        captured = [node for node in order if is_outside(node)]
        leaves = [*given, *captured]
        new = {node: _stand_in(node) for node in leaves}
        for node in order:
            if node not in new:
                new[node] = Node(node.op, tuple([new[one] for one in node.inputs]), node.attrs, node.types, node.where)
        return Graph(tuple(new[node] for node in leaves), tuple(new[node] for node in outputs)), captured


_SCALAR = tensor_type((), np.float32)


def _stand_in(node: Node) -> Node:
    """An input for the values of `node`."""
    return Node(INPUT, (), (("kind", node.attr("kind") if node.is_leaf else "data"), ("name", "")), node.types)


def is_drawn(node: Node) -> bool:
    """Whether a value from outside is the key of a random draw, which is to be new in every run of the trace."""
    return node.is_leaf and node.attr("kind") == "key" and int(node.memo[1]) < SEEDED


def _trace() -> Any:
    """What takes part in reads and assignments of variables: a Trace, a deferred graph, or None."""
    return ACTIVE.traces[-1] if ACTIVE.traces else None


@contextmanager
def trace_into(trace: Trace) -> Iterator[None]:
    """A context in which variables are read and assigned in `trace`; tapes from outside do not see it."""
    tapes, ACTIVE.tapes = ACTIVE.tapes, []
    ACTIVE.traces.append(trace)
    try:
        with inside_lane():
            yield
    finally:
        ACTIVE.traces.pop()
        ACTIVE.tapes = tapes


def tracing() -> bool:
    """Whether a function is being traced in this thread."""
    return _trace() is not None
