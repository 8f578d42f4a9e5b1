"""Tensor, the user's handle on a node: what is known at once, what computes, operators, and Dask's protocol."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from flowgraph.context import Hooks
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.graph import Node
from flowgraph.op import OPS, Op
from flowgraph.types import Dim, Shape, as_dtype


def tensor_of(node: Node) -> Tensor:
    """The handle on `node`: the one that exists, or a new one."""
    handle = node.handle() if node.handle is not None else None
    return handle if handle is not None else Tensor(node)


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
                "Use `fg.cond` for one of two branches, `fg.where` for a choice element by element.",
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
        return _binary("bitwise_and", self, other)

    def __rand__(self, other: Any) -> Tensor:
        return _binary("bitwise_and", other, self)

    def __or__(self, other: Any) -> Tensor:
        return _binary("bitwise_or", self, other)

    def __ror__(self, other: Any) -> Tensor:
        return _binary("bitwise_or", other, self)

    def __xor__(self, other: Any) -> Tensor:
        return _binary("bitwise_xor", self, other)

    def __rxor__(self, other: Any) -> Tensor:
        return _binary("bitwise_xor", other, self)

    def __invert__(self) -> Tensor:
        return OPS["bitwise_invert"](self)  # type: ignore[no-any-return]

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
    return OPS[name](left, right)  # type: ignore[no-any-return]


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
