"""Questions about dtypes, and the numbers that have names, as the Python Array API standard has them."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from flowgraph.errors import DTypeError, UsageError
from flowgraph.types import as_dtype, promote, promote_scalar, python_dtype

__all__ = [
    "can_cast",
    "e",
    "finfo",
    "iinfo",
    "inf",
    "isdtype",
    "nan",
    "newaxis",
    "pi",
    "result_type",
]

e = math.e
pi = math.pi
inf = math.inf
nan = math.nan
newaxis = None


def _dtype_of(value: Any) -> np.dtype[Any]:
    """The dtype that `value` is, or that a tensor, variable or array has."""
    found = getattr(value, "dtype", None)
    return as_dtype(found if isinstance(found, np.dtype) else value)


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """The dtype in which tensors, dtypes and Python numbers meet.

    Python numbers take the dtype of the others where these can hold numbers of their kind.

    >>> import flowgraph as fg
    >>> fg.result_type(fg.int8, fg.float32, 2.5)
    dtype('float32')
    """
    scalars = [one for one in arrays_and_dtypes if isinstance(one, bool | int | float | complex)]
    others = [_dtype_of(one) for one in arrays_and_dtypes if not isinstance(one, bool | int | float | complex)]
    if not arrays_and_dtypes:
        raise UsageError("result_type of nothing", "there are no operands", "Give tensors, dtypes or numbers.")
    if not others:
        return reduce(promote, [python_dtype(one) for one in scalars])
    found = reduce(promote, others)
    for one in scalars:
        kind = next(kind for kind in (bool, int, float, complex) if isinstance(one, kind))
        found = promote(found, promote_scalar(kind, found))
    return found


def can_cast(from_: Any, to: Any) -> bool:
    """Whether numbers of `from_` (a dtype or a tensor) become `to` wherever they meet it.

    >>> import flowgraph as fg
    >>> fg.can_cast(fg.int8, fg.int32), fg.can_cast(fg.float64, fg.float32)
    (True, False)
    """
    source, target = _dtype_of(from_), _dtype_of(to)
    try:
        return promote(source, target) == target
    except DTypeError:
        return False


class FloatInfo(NamedTuple):
    """The limits of a floating-point dtype; of a complex one those of its parts."""

    bits: int
    """The bits of a number."""
    eps: float
    """The step from 1 to the next larger number."""
    max: float
    """The largest number."""
    min: float
    """The smallest number, which is negative."""
    smallest_normal: float
    """The smallest positive number of full precision."""
    dtype: np.dtype[Any]
    """The dtype."""


class IntegerInfo(NamedTuple):
    """The limits of an integer dtype."""

    bits: int
    """The bits of a number."""
    max: int
    """The largest number."""
    min: int
    """The smallest number."""
    dtype: np.dtype[Any]
    """The dtype."""


def finfo(type: Any) -> FloatInfo:
    """The limits of a floating-point dtype, or of that of a tensor.

    >>> import flowgraph as fg
    >>> fg.finfo(fg.float32).bits
    32
    """
    dtype = _dtype_of(type)
    if dtype.kind not in "fc":
        raise DTypeError(f"finfo of {dtype}", "it is no floating-point dtype", "Use `fg.iinfo` for integers.")
    found = np.finfo(dtype)
    return FloatInfo(
        int(found.bits),
        float(found.eps),
        float(found.max),
        float(found.min),
        float(found.smallest_normal),
        np.dtype(found.dtype),
    )


def iinfo(type: Any) -> IntegerInfo:
    """The limits of an integer dtype, or of that of a tensor.

    >>> import flowgraph as fg
    >>> fg.iinfo(fg.uint8).max
    255
    """
    dtype = _dtype_of(type)
    if dtype.kind not in "iu":
        raise DTypeError(f"iinfo of {dtype}", "it is no integer dtype", "Use `fg.finfo` for floating-point numbers.")
    found = np.iinfo(dtype)
    return IntegerInfo(int(found.bits), int(found.max), int(found.min), dtype)


_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether `dtype` is `kind`: a dtype, or the name of several, or a tuple of which one is enough.

    The names are those of the standard: "bool", "signed integer", "unsigned integer", "integral", "real floating",
    "complex floating" and "numeric".

    >>> import flowgraph as fg
    >>> fg.isdtype(fg.float32, ("integral", fg.float32))
    True
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    if not isinstance(kind, str):
        return as_dtype(dtype) == as_dtype(kind)
    if kind not in _KINDS:
        raise UsageError(f"isdtype(..., {kind!r})", "no kind of dtypes has this name", f"One of {', '.join(_KINDS)}.")
    return as_dtype(dtype).kind in _KINDS[kind]
