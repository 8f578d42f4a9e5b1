"""What a tensor is before it has a value: its shape and dtype, and how two of them meet."""

from __future__ import annotations

import operator
import threading
import weakref
from collections.abc import Hashable
from functools import lru_cache
from typing import Any

import numpy as np

from flowgraph.errors import BoundsError, DTypeError, ShapeError, UsageError

DEFAULT_FLOAT = np.dtype(np.float32)
DEFAULT_INT = np.dtype(np.int32)


class Dim:
    """A length that is not known yet: the number of rows of a data set, or `times` that number `plus` a constant.

    Equal only to itself; `affine` gives the same Dim for the same expression.
    """

    __slots__ = ("base", "derived", "name", "plus", "times")

    def __init__(self, name: str, base: Dim | None = None, times: int = 1, plus: int = 0) -> None:
        self.name = name
        self.base = base if base is not None else self
        self.times, self.plus = times, plus
        self.derived: dict[tuple[int, int], Dim] = {}
        """The lengths that `affine` made of this one."""

    def __repr__(self) -> str:
        return self.name

    def value(self, base: int) -> int:
        """The length where `self.base` is `base`."""
        return self.times * base + self.plus


def affine(base: Dim, times: int, plus: int = 0) -> Dim:
    """The length `times` x `base` + `plus`: one and the same Dim whenever it is asked for."""
    if times == 1 and plus == 0:
        return base
    found = base.derived.get((times, plus))
    if found is None:
        head = base.name if times == 1 else f"{times}*{base.name}"
        new = Dim(f"{head}{plus:+d}" if plus else head, base, times, plus)
        found = base.derived.setdefault((times, plus), new)  # another thread may have been first
    return found


Size = int | Dim
Shape = tuple[Size, ...]


class TensorType:
    """The shape and dtype of a tensor. Make one with `tensor_type`, which keeps a single copy of each.

    So types are equal when they are the same object, which makes every cache behind them quick.

    >>> tensor_type((3, 4), np.float32)
    float32[3, 4]
    """

    __slots__ = ("__weakref__", "dtype", "shape")

    def __init__(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.shape = shape
        """One length an axis: an int, or a Dim where it is not known yet."""
        self.dtype = dtype
        """A numpy dtype in native byte order."""

    def __repr__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    def __reduce__(self) -> Any:
        return tensor_type, (self.shape, self.dtype)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


_TYPES: weakref.WeakValueDictionary[tuple[Shape, np.dtype[Any]], TensorType] = weakref.WeakValueDictionary()
_TYPES_LOCK = threading.Lock()


def tensor_type(shape: Any, dtype: Any) -> TensorType:
    """The type of tensors with `shape` and `dtype` (native byte order)."""
    native = np.dtype(dtype)
    if not native.isnative:
        native = native.newbyteorder("=")
    key = (tuple(shape), native)
    found = _TYPES.get(key)
    if found is None:
        with _TYPES_LOCK:
            found = _TYPES.setdefault(key, TensorType(*key))
    return found


def is_count(value: Any, least: int = 1) -> bool:
    """Whether `value` is a whole number that is at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def product(shape: Shape) -> Size:
    """The number of elements of `shape`.

    Raises ShapeError for a product of two unknown lengths, or of a sum: such a number has no Dim.
    """
    count, unknown = 1, None
    for length in shape:
        if isinstance(length, int):
            count *= length
        elif unknown is None and not length.plus:
            unknown = length
        elif 0 in shape:
            return 0
        else:
            raise ShapeError(
                f"the number of elements of shape {shape}",
                "more than one of its lengths is unknown",
                "Give the lengths as numbers.",
            )
    return count if unknown is None or count == 0 else affine(unknown.base, unknown.times * count)


def static_size(shape: Shape) -> int | None:
    """The number of elements of `shape`, or None where a length is not known yet."""
    count = 1
    for length in shape:
        if isinstance(length, Dim):
            return None
        count *= length
    return count


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """The numpy dtype that `dtype` (a name, a numpy type, a Python type) stands for.

    Raises DTypeError for dtypes that no tensor can have.
    """
    if dtype is float:
        return DEFAULT_FLOAT
    if dtype is int:
        return DEFAULT_INT
    try:
        result = np.dtype(dtype if dtype is not None else object)  # numpy takes None for float64
    except TypeError:
        result = np.dtype(object)
    if result.kind not in "biufc":
        raise DTypeError(
            f"a tensor of dtype {dtype!r}",
            "tensors hold booleans, integers, real and complex numbers",
            "Convert the data to a numeric dtype first, for instance with astype('float32').",
        )
    return result if result.isnative else result.newbyteorder("=")


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of `dtype` have a gradient: real floating point or complex."""
    return dtype.kind in "fc"


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the real part of numbers of `dtype`.

    >>> real_dtype(np.dtype(np.complex64))
    dtype('float32')
    """
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


def python_dtype(value: Any) -> np.dtype[Any]:
    """The dtype that a Python scalar gets when nothing else decides: float32, int32 or bool, as in TensorFlow.

    An int beyond 32 bits becomes int64.
    """
    if isinstance(value, bool):
        return np.dtype(np.bool_)
    if isinstance(value, int):
        return DEFAULT_INT if -(2**31) <= value < 2**31 else np.dtype(np.int64)
    return np.dtype(np.complex64) if isinstance(value, complex) else DEFAULT_FLOAT


@lru_cache(maxsize=4096)
def promote(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which numbers of `a` and `b` meet: numpy's, but an integer beside a float takes the float's."""
    if a == b:
        return a
    for one, other in ((a, b), (b, a)):
        if is_float(one) and other.kind in "biu":
            return one
    result = np.promote_types(a, b)
    if a.kind in "iu" and b.kind in "iu" and result.kind == "f":
        raise DTypeError(
            f"to combine {a} and {b}", "no integer dtype holds the values of both", "Cast one of them with `fg.cast`."
        )
    return result


@lru_cache(maxsize=4096)
def promote_scalar(kind: Hashable, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a Python scalar of type `kind` beside a tensor of `dtype`: scalars are weak, they take its dtype."""
    if kind is bool or dtype.kind == "c":
        return dtype
    if kind is int:
        return DEFAULT_INT if dtype.kind == "b" else dtype
    if kind is float:
        return dtype if dtype.kind == "f" else DEFAULT_FLOAT
    return np.dtype(np.complex128) if dtype == np.float64 else np.dtype(np.complex64)


def whole(value: Any, what: str, lowest: int | None = None) -> int:
    """`value` as an int; raises UsageError, which calls it `what`, for anything but an integer from `lowest` on.

    >>> whole(np.int64(3), "k")
    3
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (lowest is not None and number < lowest):
        least = "" if lowest is None else f" from {lowest} on"
        raise UsageError(f"{what}={value!r:.100}", f"it is no integer{least}", "Give an int.")
    return number


def listed(value: Any, what: str) -> tuple[Any, ...]:
    """The items of the list or tuple `value`; raises UsageError, which calls it `what`, for what has none.

    >>> listed([1, 2], "axes")
    (1, 2)
    """
    try:
        return tuple(value)
    except TypeError:
        raise UsageError(f"{what}={value!r:.100}", "it is no list", "Give a list or a tuple.") from None


def check_function(value: Any, what: str) -> None:
    """Raise UsageError, which calls it `what`, unless `value` can be called."""
    if not callable(value):
        raise UsageError(f"{what}: {value!r:.100}", "it can not be called", "Give a function.")


def normal_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front, for a tensor of `rank` axes.

    >>> normal_axis(-1, 3)
    2
    """
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise UsageError(f"axis={axis!r}", "an axis is an integer", "Give an int, or a tuple of ints.")
    if not -rank <= axis < rank:
        raise BoundsError(
            f"axis {axis} of a tensor with {rank} axes",
            f"axes go from {-rank} to {rank - 1}" if rank else "the tensor has no axes",
            "Give an axis that the tensor has.",
        )
    return int(axis) % rank


def normal_axes(axis: int | tuple[int, ...] | list[int] | None, rank: int) -> tuple[int, ...]:
    """`axis` as a sorted tuple counted from the front; None means all axes."""
    if axis is None:
        return tuple(range(rank))
    given = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    axes = [normal_axis(one, rank) for one in given]
    if len(set(axes)) != len(axes):
        raise UsageError(f"axis={axis!r}", "an axis occurs twice", "Name every axis once.")
    return tuple(sorted(axes))


class StaticShape(tuple[int | None, ...]):
    """A shape as far as it is known when a graph is built: None for a length that is known in a run only."""

    __slots__ = ()

    def as_list(self) -> list[int | None]:
        """The lengths as a list."""
        return list(self)

    @property
    def ndims(self) -> int:
        """The number of axes."""
        return len(self)

    def is_fully_defined(self) -> bool:
        """Whether all lengths are known."""
        return None not in self
