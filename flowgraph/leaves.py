"""Leaves: arrays and numbers as nodes of a graph."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from flowgraph.context import Hooks
from flowgraph.errors import DataError, DTypeError, ShapeError
from flowgraph.graph import FOREVER, INPUT, Node, make_input, make_node
from flowgraph.op import OPS
from flowgraph.types import TensorType, as_dtype, promote, python_dtype, tensor_type

STRUCTURAL = frozenset({-1, 0, 0.5, 1, 2})
"""Python scalars that are part of a program's structure. All others are inputs: changing them compiles nothing."""


@lru_cache(maxsize=4096)
def _constant(value: Any, dtype: np.dtype[Any]) -> Node:
    scalar_array(value, dtype)  # refuses what the dtype can not hold
    node = make_node(OPS["constant"], (), (("dtype", dtype), ("value", value)))
    node.since = FOREVER  # it is shared by all, and old, but nothing that depends on it is
    return node


def scalar(value: Any, dtype: np.dtype[Any], structural: bool = False) -> Node:
    """The node of a Python scalar: a constant of the program, or an input that may change from run to run."""
    # -0.0 equals 0 and is another number; so is 1-0j beside 1, on the other side of a branch cut.
    if structural or (value in STRUCTURAL and type(value) is not complex and (value or repr(value)[0] != "-")):
        return _constant(value, dtype)
    return make_input(tensor_type((), dtype), "scalar", value=scalar_array(value, dtype))


def scalar_array(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The Python number `value` as an array of `dtype`; raises DTypeError where `dtype` can not hold it."""
    try:
        if type(value) is not complex and -65_504 <= value <= 65_504:  # every float holds these: the usual case
            return np.array(value, dtype)
        with np.errstate(over="ignore"):  # a number that is too large for a float is inf
            return np.array(value, dtype)
    except (OverflowError, TypeError):
        raise DTypeError(
            f"the number {value} as {dtype}",
            f"{dtype} can not hold it",
            "Take its real part." if isinstance(value, complex) else "Cast the tensor to a wider dtype first.",
        ) from None


def leaf_of(value: Any, dtype: np.dtype[Any] | None) -> Node:
    """The leaf that holds `value`: an array, something that becomes one, or a dask array."""
    if hasattr(value, "__dask_graph__"):
        source = Hooks.source(value)
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
    elif python and wanted is not None and array.dtype.kind in "fc" and wanted.kind in "biu" and array.size:
        raise DTypeError(
            f"Python floats as {wanted}", "they would lose their fractions", f"Use fg.cast(value, {str(wanted)!r})."
        )
    if array.dtype.kind == "c" and wanted is not None and wanted.kind == "f":
        raise DTypeError(
            f"complex numbers as {wanted}", "they would lose their imaginary parts", "Take the real part first."
        )
    with np.errstate(over="ignore"):  # a number that is too large for a float is inf
        result = array if wanted is None else array.astype(wanted, copy=False)
    return result if result.dtype.isnative else result.astype(result.dtype.newbyteorder("="))


def _has_dtype(value: Any) -> bool:
    """Whether `value`, or the first number of a nested list, says its dtype itself: then it is kept."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return hasattr(value, "dtype")


def no_data(of: TensorType) -> Any:
    """An array of a known type that is one zero, however large it says it is."""
    shape: Any = of.shape
    return np.broadcast_to(np.zeros((), of.dtype), shape)
