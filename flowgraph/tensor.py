"""Tensor, the user's handle on a node: what is known at once, what computes, operators, and Dask's protocol."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from weakref import ref

import numpy as np

from flowgraph.context import Hooks
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.graph import Node
from flowgraph.op import OPS, Op
from flowgraph.operators import Operators
from flowgraph.types import Dim, Shape, StaticShape, as_dtype


def tensor_of(node: Node) -> Tensor:
    """The handle on `node`: the one that exists, or a new one."""
    handle = node.handle() if node.handle is not None else None
    return handle if handle is not None else Tensor(node)


CPU = "cpu"
"""The one device."""


def check_device(device: Any) -> None:
    """Raise UsageError for a device other than the one there is: tensors are computed by CPUs."""
    if device is not None and not (isinstance(device, str) and device == CPU):
        raise UsageError(f"a tensor on device {device!r}", f"there is only {CPU!r}", "Leave the device out.")


class _Threads:
    """Dask's threaded scheduler, imported when asked for: collections that are computed together must share it."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        from dask.threaded import get

        return get


class Tensor(Operators):
    """A handle on a value that is computed when it is asked for.

    `shape` is a tuple of ints (or Dims, inside a traced function), `dtype` a numpy dtype. Arithmetic, comparison and
    indexing give new tensors; `numpy()`, `float()`, `print` and `np.asarray` compute.
    """

    __slots__ = ("__weakref__", "node")

    __array_priority__ = 1000  # numpy arrays on the left hand leave arithmetic to us

    def __init__(self, node: Node) -> None:
        self.node = node
        node.handle = ref(self)

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

    # What a tensor of a deferred graph has besides.

    @property
    def name(self) -> str:
        """The name in its deferred graph, such as "add:0"."""
        return Hooks.graphs.name_of(self.node)  # type: ignore[no-any-return]

    @property
    def op(self) -> Any:
        """The operation of a deferred graph that has this tensor as a result."""
        return Hooks.graphs.operation_of(self.node)

    @property
    def graph(self) -> Any:
        """The deferred graph that the tensor belongs to."""
        return Hooks.graphs.operation_of(self.node).graph

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """The value in a run of `session`, or of the default session."""
        return Hooks.graphs.evaluate(self, feed_dict, session)

    def get_shape(self) -> Any:
        """The shape as TensorFlow 1 has it: None for a length that is not known, and a method `as_list`."""
        return StaticShape(length if isinstance(length, int) else None for length in self.shape)

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
            owner = getattr(self.node, "owner", None)
            name = "" if owner is None else f" {self.name!r}"
            return f"<fg.Tensor{name}: shape={shape}, dtype={self.dtype}, symbolic>"
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

    def __getitem__(self, key: Any) -> Tensor:
        return Hooks.subscript(self, key)  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: Any) -> None:
        """Let this handle stand for a tensor in which the elements at `key` are `value`; no memory is written to.

        What was computed from the tensor before keeps its value, and a tape that watches the tensor watches the value
        that it had: the gradient with respect to it is with respect to that value.
        """
        Hooks.assign(self, key, value)

    # The methods that numpy people type without thinking.

    def astype(self, dtype: Any, *, copy: bool = True, device: Any = None) -> Tensor:
        """The tensor with its elements converted to `dtype`.

        With `copy`, what is assigned to elements of this tensor later is not seen in the result.
        """
        check_device(device)
        wanted = as_dtype(dtype)
        if self.dtype == wanted and not copy:
            return self
        return OPS["astype"](self, dtype=wanted)  # type: ignore[no-any-return]

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
        if ufunc is np.divmod and method == "__call__" and not kwargs:  # the one that has two results
            return OPS["floor_divide"](*inputs), OPS["remainder"](*inputs)
        op = _by_ufunc().get(ufunc)
        if op is None or method != "__call__" or kwargs:
            raise UsageError(
                f"np.{ufunc.__name__} on a tensor",
                "flowgraph has no such operation" if op is None else f"with method {method} and {sorted(kwargs)}",
                "Use a function of flowgraph, or `x.numpy()` for the bare value (which ends the gradient).",
            )
        return op(*inputs)

    # What other array libraries ask for.

    @property
    def device(self) -> str:
        """Where the value lies: always "cpu"."""
        return CPU

    def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor:
        """This tensor; raises UsageError for any device but "cpu"."""
        check_device(device)
        if stream is not None:
            raise UsageError(f"to_device with stream={stream!r}", "the device has no streams", "Leave it out.")
        return self

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The module `flowgraph`, a namespace of the Python array API standard."""
        if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
            raise UsageError(f"version {api_version!r} of the array API", "it is not known here", "Leave it out.")
        return sys.modules[__name__.partition(".")[0]]

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        value = self.numpy()
        if not value.flags.writeable and max_version is None:  # the old protocol can not say "read only"
            value = value.copy()
        return value.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self) -> Any:
        return self.numpy().__dlpack_device__()

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

    def to_dask_array(self) -> Any:
        """A dask array of the value, which is not computed now; see `to_dask_arrays`."""
        return Hooks.to_dask_array(self)

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


@lru_cache(maxsize=1)
def _ufunc_table(count: int) -> dict[np.ufunc, Op]:
    named = {getattr(np, name, None): op for name, op in OPS.items()}  # where numpy's is mended, the name is the same
    return {f: op for f, op in (named | {op.kernel: op for op in OPS.values()}).items() if isinstance(f, np.ufunc)}


def _by_ufunc() -> dict[np.ufunc, Op]:
    return _ufunc_table(len(OPS))
