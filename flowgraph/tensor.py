"""Tensor, the user's handle on a node, and `apply`, by which a call of an op becomes a node.

A call checks shapes and dtypes at once and computes nothing; a value is computed when something asks for it.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgraph.errors import DataError, DTypeError, FlowgraphError, ShapeError, UsageError
from flowgraph.graph import FOREVER, INPUT, Node, make_input, make_node
from flowgraph.op import OPS, Op, infer
from flowgraph.types import Dim, Shape, TensorType, as_dtype, promote, promote_scalar, python_dtype, tensor_type

if TYPE_CHECKING:
    from types import CodeType, FrameType

STRUCTURAL = frozenset({-1, 0, 0.5, 1, 2})
"""Python scalars that are part of a program's structure. All others are inputs: changing them compiles nothing."""


class Hooks:
    """What rooms below fill in: a Tensor can be asked for its value, and this file does not know how it is found."""

    evaluate: Callable[[list[Node]], None]
    """Gives every node of a list its `memo`."""
    mean: Callable[..., Any]
    """The mean of a tensor; filled by the room of operations, for it is made of two."""
    collection: Any
    """The functions of the Dask collection protocol, by name, each taking the tensor first."""
    pending_limit = 1000
    """Above so many nodes that wait for evaluation the graph is run at once."""


class _Active(threading.local):
    """What is going on in this thread."""

    def __init__(self) -> None:
        self.tapes: list[Any] = []
        """Gradient tapes that record."""
        self.where: tuple[CodeType, int] | None = None
        """The line to note for new nodes in place of the caller's."""
        self.traces: list[Any] = []
        """Functions that are being traced, the innermost last."""


ACTIVE = _Active()


_OURS: dict[CodeType, bool] = {}
"""For each code object met: whether it is flowgraph's. Frames are walked for every node, so this must be quick."""


def user_line() -> tuple[CodeType, int] | None:
    """The code object and line of the innermost caller outside flowgraph.

    While gradients are made it is the line of the operation whose gradient it is.
    """
    if ACTIVE.where is not None:
        return ACTIVE.where
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        ours = _OURS.get(code)
        if ours is None:
            ours = frame.f_globals.get("__name__", "").partition(".")[0] == "flowgraph"
            if len(_OURS) > 100_000:  # code made at run time would pile up
                _OURS.clear()
            _OURS[code] = ours
        if not ours:
            return code, frame.f_lineno
        frame = frame.f_back
    return None


def describe_line(where: tuple[CodeType, int] | None) -> str:
    """`file:line` of a node's origin, for messages."""
    return f"{where[0].co_filename}:{where[1]}" if where else "(unknown line)"


@lru_cache(maxsize=4096)
def _constant(value: Any, dtype: np.dtype[Any]) -> Node:
    scalar_array(value, dtype)  # refuses what the dtype can not hold
    node = make_node(OPS["constant"], (), (("dtype", dtype), ("value", value)))
    node.since = FOREVER  # it is shared by all, and old, but nothing that depends on it is
    return node


def scalar(value: Any, dtype: np.dtype[Any], structural: bool = False) -> Node:
    """The node of a Python scalar: a constant of the program, or an input that may change from run to run."""
    if structural or (value in STRUCTURAL and (value or repr(value)[0] != "-")):  # -0.0 equals 0 and is another number
        return _constant(value, dtype)
    return make_input(tensor_type((), dtype), "scalar", value=scalar_array(value, dtype))


def scalar_array(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The Python number `value` as an array of `dtype`; raises DTypeError where `dtype` can not hold it."""
    try:
        return np.array(value, dtype)
    except OverflowError:
        raise DTypeError(
            f"the number {value} as {dtype}", f"{dtype} can not hold it", "Cast the tensor to a wider dtype first."
        ) from None


def tensor_of(node: Node) -> Tensor:
    """The handle on `node`: the one that exists, or a new one."""
    handle = node.handle() if node.handle is not None else None
    return handle if handle is not None else Tensor(node)


def convert(value: Any, dtype: np.dtype[Any] | None = None) -> Tensor:
    """`value` as a tensor: tensors and variables as they are, arrays without a copy, Python numbers by the defaults."""
    if isinstance(value, Tensor):
        return value
    leaf = getattr(value, "__flowgraph_tensor__", None)
    if leaf is not None:  # a Variable
        return leaf()  # type: ignore[no-any-return]
    if isinstance(value, bool | int | float | complex):
        return tensor_of(scalar(value, dtype if dtype is not None else python_dtype(value)))
    return tensor_of(_leaf(value, dtype))


def own(value: Any, dtype: np.dtype[Any] | None = None) -> Tensor:
    """`value` as a tensor that is nobody else's: a Python number becomes an input of its own.

    By `convert`, the 1.0 that a gradient is asked for would be the same node as every 1.0 in the formula.
    """
    if isinstance(value, bool | int | float | complex):
        array = scalar_array(value, dtype if dtype is not None else python_dtype(value))
        return tensor_of(make_input(tensor_type((), array.dtype), "data", value=array))
    return convert(value, dtype)


def _leaf(value: Any, dtype: np.dtype[Any] | None) -> Node:
    if hasattr(value, "__dask_graph__"):
        source = Hooks.collection.source(value)
        return make_input(source.type, value=source)
    array = as_array(value, dtype)
    of_type = tensor_type(array.shape, array.dtype)
    shared = array is value or (isinstance(value, np.ndarray) and array.base is value)
    if shared and array.nbytes >= SHARED_BYTES and array.flags.writeable:
        return Shared(of_type, array)
    return make_input(of_type, value=array)


SHARED_BYTES = 1024
"""Arrays from so many bytes on are watched for changes while a tensor shares their memory."""


class Shared(Node):
    """A leaf over an array of the caller's, with a sample of its elements from the time when it was made."""

    __slots__ = ("sample",)

    def __init__(self, of_type: TensorType, array: np.ndarray[Any, Any]) -> None:
        super().__init__(INPUT, (), _DATA, (of_type,))
        self.memo = array
        self.sample = _sample(array)

    def check(self) -> None:
        """Raise DataError if the array was changed since; runs that read it ask."""
        if isinstance(self.memo, np.ndarray) and _sample(self.memo) != self.sample:
            raise DataError(
                f"to compute with a tensor that shares the memory of an array ({self.types[0]})",
                "the array was changed after the tensor was made of it",
                "Make the tensor of a copy (`fg.constant`), or make a new one (`fg.asarray`) after each change.",
            )


_DATA = (("kind", "data"), ("name", ""))


def _sample(array: np.ndarray[Any, Any]) -> bytes:
    """At most 16 elements, evenly spaced: quick to take, and hardly any change leaves all of them alone."""
    return array.flat[:: -(-array.size // 16)].tobytes()


def as_array(value: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
    """`value` as a numpy array: numpy data keeps its dtype, Python floats become float32 and ints int32.

    Raises DTypeError for text and objects, ShapeError for ragged lists.
    """
    wanted = None if dtype is None else as_dtype(dtype)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ShapeError(
            "a tensor of a nested list", "its rows have different lengths", "Make all rows equally long."
        ) from None
    if array.dtype.kind not in "biufc":
        raise DTypeError(
            f"a tensor of {type(value).__name__}",
            f"its elements are {array.dtype}, not numbers",
            "Convert the values to numbers first; for pandas, choose numeric columns.",
        )
    python = not _has_dtype(value)
    if python and array.dtype.kind in "iu" and array.size:
        bounds = int(array.min()), int(array.max())
        if wanted is None:
            wanted = promote(python_dtype(bounds[0]), python_dtype(bounds[1])) if bounds[1] < 2**63 else array.dtype
        elif wanted.kind in "iu" and not np.iinfo(wanted).min <= bounds[0] <= bounds[1] <= np.iinfo(wanted).max:
            raise DTypeError(
                f"numbers from {bounds[0]} to {bounds[1]} as {wanted}",
                f"{wanted} can not hold them",
                "Give a wider dtype.",
            )
    elif python and wanted is None:
        wanted = python_dtype(array.dtype.type(0).item())
    result = array if wanted is None else array.astype(wanted, copy=False)
    return result if result.dtype.isnative else result.astype(result.dtype.newbyteorder("="))


def _has_dtype(value: Any) -> bool:
    """Whether `value`, or the first number of a nested list, says its dtype itself: then it is kept."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return hasattr(value, "dtype")


def freeze(value: Any) -> Any:
    """`value` in a form that can be hashed and compared: lists as tuples, numpy integers as ints."""
    if isinstance(value, list | tuple):
        return tuple([freeze(one) for one in value])
    if isinstance(value, np.ndarray):
        return freeze(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        return freeze(value.numpy())
    return value


@cache
def _signature(op: Op) -> tuple[int | None, tuple[str, ...]]:
    """The number of operands (None: any number) and the names of the attributes that may follow by position."""
    if op.attrs is None:
        return None, ()
    import inspect

    parameters = inspect.signature(op.attrs).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None, ()
    operands = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    return len(operands), tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)


def apply(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The tensor of `op` called with `args` and `kwargs`; a tuple of tensors where the op has several results."""
    count, names = _signature(op)
    if count is not None and len(args) > count:
        if len(args) - count > len(names):
            raise UsageError(
                f"{op.name} with {len(args)} arguments",
                f"it takes at most {count + len(names)}",
                f"See help({op.name}).",
            )
        kwargs = dict(zip(names, args[count:], strict=False)) | kwargs
        args = args[:count]
    nodes = _operands(op, args)
    given = tuple([(name, freeze(value)) for name, value in kwargs.items()]) if kwargs else ()
    where = user_line()
    try:
        inferred = infer(op, tuple([node.types[0] for node in nodes]), given)
    except FlowgraphError as error:
        types = ", ".join(str(node.type) for node in nodes)
        error.asked = f"{op.name}({types}): {error.asked}"
        raise error.with_traceback(None) from None
    except TypeError as error:  # an attribute that can not be hashed, iterated over, compared
        types = ", ".join(str(node.type) for node in nodes)
        raise UsageError(f"{op.name}({types}) with {kwargs}", str(error), f"See help({op.name}).") from error
    for index, (node, dtype) in enumerate(zip(nodes, inferred.casts, strict=True)):
        if node.types[0].dtype != dtype:
            nodes[index] = cast_node(node, dtype)
    node = Node(op, tuple(nodes), inferred.attrs, inferred.types, where)
    if ACTIVE.tapes:
        record(node)
    if len(node.types) == 1:
        tensor = Tensor(node)
        if node.depth > Hooks.pending_limit and not node.symbolic:
            Hooks.evaluate([node])
        return tensor
    return tuple(Tensor(recorded(make_node(_item(), (node,), (("index", i),), where))) for i in range(len(node.types)))


def _item() -> Op:
    from flowgraph.graph import ITEM

    return ITEM


def record(node: Node) -> None:
    """Tell every recording tape of a new node."""
    for tape in ACTIVE.tapes:
        tape.record(node)


def recorded(node: Node) -> Node:
    """`node`, after tapes were told of it."""
    if ACTIVE.tapes:
        record(node)
    return node


def cast_node(node: Node, dtype: np.dtype[Any]) -> Node:
    """The node of `node`'s values as `dtype`."""
    return recorded(make_node(OPS["astype"], (node,), (("dtype", dtype),), node.where))


_WEAK: frozenset[type] = frozenset({bool, int, float, complex})


def _operands(op: Op, args: tuple[Any, ...]) -> list[Node]:
    """The nodes of the operands; Python scalars take the dtype of the tensors that they meet."""
    nodes: list[Any] = []
    weak: list[int] = []
    for index, value in enumerate(args):
        if type(value) is Tensor:
            nodes.append(value.node)
        elif isinstance(value, bool | int | float | complex):
            weak.append(index)
            nodes.append(None)
        else:
            nodes.append(convert(value).node)
    if not weak:
        return nodes
    common = None
    for node in nodes:
        if node is not None and (len(nodes) < 3 or node.types[0].dtype.kind != "b"):  # a condition has no say
            common = node.types[0].dtype if common is None else promote(common, node.types[0].dtype)
    for index in weak:
        value = args[index]
        kind: Any = type(value)
        if kind not in _WEAK:  # a subclass, such as np.float64 of float
            kind = next(one for one in (int, float, complex) if isinstance(value, one))
        if common is None:
            dtype = python_dtype(value)
            for other in weak:
                dtype = promote(dtype, python_dtype(args[other]))
        else:
            dtype = promote_scalar(kind, common)
        nodes[index] = scalar(value, dtype, index in op.structural)
    return nodes


class _Threads:
    """Dask's threaded scheduler, imported when asked for: collections that are computed together must share it."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        from dask.threaded import get

        return get


class Tensor:
    """A handle on a value that is computed when it is asked for.

    `shape` is a tuple of ints (or Dims, inside a traced function), `dtype` a numpy dtype. Arithmetic, comparison and
    indexing give new tensors; `numpy()`, `float()`, `print` and `np.asarray` compute.
    """

    __slots__ = ("__weakref__", "node")

    __array_priority__ = 1000  # numpy arrays on the left hand leave arithmetic to us
    __hash__ = object.__hash__  # `==` is elementwise, so tensors are told apart by identity

    def __init__(self, node: Node) -> None:
        self.node = node
        node.handle = weakref.ref(self)

    # What is known without computing.

    @property
    def type(self) -> Any:
        """Shape and dtype in one."""
        return self.node.types[0]

    @property
    def shape(self) -> Shape:
        """One length an axis."""
        return self.node.types[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of the elements."""
        return self.node.types[0].dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.node.types[0].shape)

    @property
    def size(self) -> int | None:
        """The number of elements, None where a length is not known."""
        result = 1
        for length in self.shape:
            if isinstance(length, Dim):
                return None
            result *= length
        return result

    @property
    def T(self) -> Tensor:
        """The tensor with its axes in reverse order."""
        return OPS["transpose"](self)  # type: ignore[no-any-return]

    @property
    def mT(self) -> Tensor:
        """The tensor with its last two axes exchanged."""
        if self.ndim < 2:
            raise ShapeError("x.mT", f"x has {self.ndim} axes", "Give a tensor with at least two axes.")
        axes = (*range(self.ndim - 2), self.ndim - 1, self.ndim - 2)
        return OPS["transpose"](self, axes=axes)  # type: ignore[no-any-return]

    # What computes.

    def numpy(self) -> np.ndarray[Any, Any]:
        """The value as a numpy array. It may share memory with the tensor: copy it before you change it."""
        if not isinstance(self.node.memo, np.ndarray):
            Hooks.evaluate([self.node])
        return self.node.memo  # type: ignore[no-any-return]

    def item(self) -> Any:
        """The value of a tensor with one element, as a Python number."""
        value = self.numpy()
        if value.size != 1:
            raise ShapeError(
                f"one number from a tensor of shape {self.shape}",
                f"it has {value.size} elements",
                "Pick an element or reduce the tensor; `tolist()` gives all elements.",
            )
        return value.item()

    def tolist(self) -> Any:
        """The value as nested lists of Python numbers."""
        return self.numpy().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        value = self.numpy()
        return np.array(value, dtype=dtype, copy=copy) if copy is not None else np.asarray(value, dtype=dtype)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DTypeError("a tensor as an index", f"its dtype is {self.dtype}", "Use an integer tensor.")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.node.symbolic:
            raise UsageError(
                f"the truth value of {self.type} while a function is being traced",
                "the value is not known until the function runs",
                "Use `fg.where` for a choice element by element, or decide before the function is traced.",
            )
        value = self.numpy()
        if value.size != 1:
            raise ShapeError(
                f"the truth value of a tensor of shape {self.shape}",
                f"it has {value.size} elements, and some may be true while others are not",
                "Say which: `x.numpy().all()`, `x.numpy().any()`, or `fg.where` for a choice element by element.",
            )
        return bool(value.item())

    def __repr__(self) -> str:
        shape = shape_text(self.shape)
        if self.node.symbolic:
            return f"<fg.Tensor: shape={shape}, dtype={self.dtype}, symbolic>"
        return f"<fg.Tensor: shape={shape}, dtype={self.dtype}, numpy={value_text(self.numpy())}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return str(self) if self.node.symbolic else format(self.numpy()[()], spec)  # as numpy formats the value

    def __len__(self) -> int:
        if not self.shape:
            raise UsageError("the length of a scalar tensor", "it has no axes", "Use `float(x)` for its value.")
        if isinstance(self.shape[0], Dim):
            raise UsageError("len(x)", f"the length {self.shape[0]} is not known yet", "Use `fg.size(x, axes=0)`.")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    # Operators.

    def __add__(self, other: Any) -> Tensor:
        return _binary("add", self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _binary("add", other, self)

    def __sub__(self, other: Any) -> Tensor:
        return _binary("subtract", self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _binary("subtract", other, self)

    def __mul__(self, other: Any) -> Tensor:
        return _binary("multiply", self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _binary("multiply", other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return _binary("divide", self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _binary("divide", other, self)

    def __pow__(self, other: Any) -> Tensor:
        return _binary("power", self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return _binary("power", other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return _binary("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _binary("matmul", other, self)

    def __neg__(self) -> Tensor:
        return OPS["negative"](self)  # type: ignore[no-any-return]

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return OPS["abs"](self)  # type: ignore[no-any-return]

    def __lt__(self, other: Any) -> Tensor:
        return _binary("less", self, other)

    def __le__(self, other: Any) -> Tensor:
        return _binary("less_equal", self, other)

    def __gt__(self, other: Any) -> Tensor:
        return _binary("greater", self, other)

    def __ge__(self, other: Any) -> Tensor:
        return _binary("greater_equal", self, other)

    def __eq__(self, other: object) -> Any:
        return _binary("equal", self, other)

    def __ne__(self, other: object) -> Any:
        return _binary("not_equal", self, other)

    def __and__(self, other: Any) -> Tensor:
        return _logical("logical_and", self, other)

    def __rand__(self, other: Any) -> Tensor:
        return _logical("logical_and", other, self)

    def __or__(self, other: Any) -> Tensor:
        return _logical("logical_or", self, other)

    def __ror__(self, other: Any) -> Tensor:
        return _logical("logical_or", other, self)

    def __invert__(self) -> Tensor:
        return _logical("logical_not", self)

    def __getitem__(self, key: Any) -> Tensor:
        parts = _index(key, self.ndim)
        result: Tensor = OPS["getitem"](self, key=parts)
        if isinstance(self.node.memo, np.ndarray):  # a view of a known value costs nothing, and is data like any other
            view = self.node.memo[tuple(slice(*one[1:]) if isinstance(one, tuple) else one for one in parts)]
            result.node.memo, result.node.depth = np.asarray(view), 0  # it remembers its operand, whose memory it holds
        return result

    # The methods that numpy people type without thinking.

    def astype(self, dtype: Any) -> Tensor:
        """The tensor with its elements converted to `dtype`."""
        return OPS["astype"](self, dtype=as_dtype(dtype))  # type: ignore[no-any-return]

    def reshape(self, *shape: Any, order: str = "C") -> Tensor:
        """The tensor with the same elements in `shape`; one length may be -1."""
        if order != "C":
            raise UsageError(f"reshape with order={order!r}", "elements are counted row by row", "Transpose first.")
        wanted = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return OPS["reshape"](self, wanted)  # type: ignore[no-any-return]

    def transpose(self, *axes: Any) -> Tensor:
        """The tensor with its axes in the order `axes` (reversed if none are given)."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        named = None if order is None or not order else tuple(order)
        return OPS["transpose"](self, axes=named)  # type: ignore[no-any-return]

    # `np.sum(x)` calls `x.sum(axis=None, out=None)`: the arguments that only numpy gives stand last.

    def sum(self, axis: Any = None, keepdims: bool = False, *, dtype: Any = None, out: None = None) -> Tensor:
        """The sum over `axis` (all axes if None)."""
        return OPS["sum"](_summand(self, dtype, out), axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def mean(self, axis: Any = None, keepdims: bool = False, *, dtype: Any = None, out: None = None) -> Tensor:
        """The mean over `axis` (all axes if None)."""
        return Hooks.mean(_summand(self, dtype, out), axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def max(self, axis: Any = None, keepdims: bool = False, *, out: None = None) -> Tensor:
        """The largest element over `axis` (all axes if None)."""
        return OPS["max"](_summand(self, None, out), axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def min(self, axis: Any = None, keepdims: bool = False, *, out: None = None) -> Tensor:
        """The smallest element over `axis` (all axes if None)."""
        return OPS["min"](_summand(self, None, out), axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    # numpy meets tensors without losing gradients.

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        op = _by_ufunc().get(ufunc)
        if op is None or method != "__call__" or kwargs:
            raise UsageError(
                f"np.{ufunc.__name__} on a tensor",
                "flowgraph has no such operation" if op is None else f"with method {method} and {sorted(kwargs)}",
                "Use a function of flowgraph, or `x.numpy()` for the bare value (which ends the gradient).",
            )
        return op(*inputs)

    # The Dask collection protocol; the functions stand where Dask tasks are made.

    def __dask_graph__(self) -> Any:
        return Hooks.collection.graph(self)

    def __dask_keys__(self) -> Any:
        return Hooks.collection.keys(self)

    def __dask_postcompute__(self) -> Any:
        return Hooks.collection.postcompute(self)

    def __dask_postpersist__(self) -> Any:
        return Hooks.collection.postpersist(self)

    def __dask_tokenize__(self) -> Any:
        return Hooks.collection.token(self)

    @staticmethod
    def __dask_optimize__(graph: Any, keys: Any, **kwargs: Any) -> Any:
        return Hooks.collection.optimize(graph, keys)

    __dask_scheduler__ = _Threads()

    def compute(self, **kwargs: Any) -> Any:
        """The value as a numpy array, by the scheduler that Dask would choose, or by `scheduler=` or `client=`."""
        return Hooks.collection.compute(self, **kwargs)

    def persist(self, **kwargs: Any) -> Tensor:
        """A tensor whose value is computed and kept where Dask's scheduler puts it."""
        from dask.base import persist

        return persist(self, **kwargs)[0]  # type: ignore[no-any-return]

    def visualize(self, filename: str | None = "mydask", **kwargs: Any) -> Any:
        """A picture of the Dask graph that would compute this tensor (needs graphviz)."""
        from dask.base import visualize

        return visualize(self, filename=filename, **kwargs)

    def __await__(self) -> Any:
        return Hooks.collection.awaited(self).__await__()

    def __reduce__(self) -> Any:
        return Hooks.collection.unpickle, (self.numpy(),)


def _summand(x: Tensor, dtype: Any, out: Any) -> Tensor:
    """What a reduction that was called by a numpy function reduces."""
    if out is not None:
        raise UsageError("a reduction into `out`", "tensors are never written to", "Use the result.")
    return x if dtype is None else x.astype(dtype)


def shape_text(shape: Shape) -> str:
    """A shape as Python writes tuples."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def value_text(value: np.ndarray[Any, Any]) -> str:
    """An array as `repr` of a tensor shows it; several lines begin on a new one, as in TensorFlow."""
    text = repr(value) if value.ndim else str(value)
    return f"\n{text}" if "\n" in text else text


_OPERANDS: frozenset[type] = frozenset({Tensor, bool, int, float, complex, np.ndarray, list, tuple})
_OPERAND_MARKS = ("__flowgraph_tensor__", "__array__", "__dask_graph__")


def _is_operand(value: Any) -> bool:
    if type(value) in _OPERANDS or isinstance(value, int | float):
        return True
    return any(hasattr(value, mark) for mark in _OPERAND_MARKS)


def _binary(name: str, left: Any, right: Any) -> Tensor:
    """An operator; what can not become a tensor is left to the other operand's class."""
    if not (_is_operand(left) and _is_operand(right)):
        return NotImplemented  # type: ignore[no-any-return]
    return apply(OPS[name], (left, right), {})  # type: ignore[no-any-return]


def _logical(name: str, *operands: Any) -> Tensor:
    """&, | and ~ for conditions; on integers they would mean bits, which is another operation."""
    if not all(map(_is_operand, operands)):
        return NotImplemented  # type: ignore[no-any-return]
    for one in operands:
        if (dtype := convert(one).dtype).kind != "b":
            raise DTypeError(
                f"{name} by an operator", f"an operand is {dtype}, not bool", "Compare first: (x > 0) & (x < 1)."
            )
    return apply(OPS[name], operands, {})  # type: ignore[no-any-return]


def _index(key: Any, rank: int) -> tuple[Any, ...]:
    """`key` as a tuple of ints, (start, stop, step) and None, one entry for each axis that it names."""
    parts = key if isinstance(key, tuple) else (key,)
    named = sum(1 for part in parts if part is not None and part is not Ellipsis)
    if named > rank:
        raise ShapeError(f"{named} indices", f"the tensor has {rank} axes", "Drop the indices that are too many.")
    if sum(1 for part in parts if part is Ellipsis) > 1:
        raise UsageError("x[..., ...]", "an index holds '...' twice", "Write ':' for each axis of one of them.")
    result: list[Any] = []
    for part in parts:
        if part is Ellipsis:
            result += [("slice", None, None, None)] * (rank - named)
        elif isinstance(part, slice):
            result.append(("slice", *(None if v is None else _place(v) for v in (part.start, part.stop, part.step))))
        else:
            result.append(None if part is None else _place(part))
    return tuple(result)


def _place(part: Any) -> int:
    """An index or a bound of a slice as an int."""
    if isinstance(part, bool | np.bool_) or not hasattr(part, "__index__") or np.ndim(part) != 0:
        raise UsageError(
            f"x[{part.type if isinstance(part, Tensor) else repr(part)}]",
            "indices are integers, slices, ... and None here",
            "Use `fg.where` for a choice by condition.",
        )
    return int(part.__index__())


@lru_cache(maxsize=1)
def _ufunc_table(count: int) -> dict[np.ufunc, Op]:
    return {op.kernel: op for op in OPS.values() if isinstance(op.kernel, np.ufunc)}


def _by_ufunc() -> dict[np.ufunc, Op]:
    return _ufunc_table(len(OPS))


Op.apply = staticmethod(apply)
