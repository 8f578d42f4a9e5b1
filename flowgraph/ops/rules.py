"""Dtype rules that families of operations share: which numbers an op takes, and what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import DTypeError
from flowgraph.tensor import Tensor
from flowgraph.types import DEFAULT_FLOAT, is_float, promote, real_dtype

Dtype = np.dtype[Any]
BOOL = np.dtype(np.bool_)


def common_float(dtype: Dtype) -> Dtype:
    """`dtype` where it is a float, else the default float."""
    return dtype if is_float(dtype) else DEFAULT_FLOAT


def floats(x: Any) -> Tensor:
    """`x` as a tensor of floats: integers and booleans as the default float."""
    tensor = convert(x)
    wanted = common_float(tensor.dtype)
    return tensor if tensor.dtype == wanted else tensor.astype(wanted)


def common(types: Any) -> Dtype:
    """The dtype in which operands of `types` meet."""
    found: Dtype = types[0].dtype
    for one in types[1:]:
        found = promote(found, one.dtype)
    return found


def _common_real(types: Any) -> Dtype:
    found = common(types)
    if found.kind == "c":
        raise DTypeError(
            "a function of real numbers", "an operand is complex", "Take `fg.real`, `fg.imag` or `fg.abs` of it first."
        )
    return found


def real(types: Any, attrs: Any) -> Any:
    """Anything but complex numbers, promoted."""
    found = _common_real(types)
    return (found,) * len(types), found


def real_numbers(types: Any, attrs: Any) -> Any:
    """Integers and real numbers, promoted."""
    found = _common_real(types)
    if found.kind == "b":
        raise DTypeError("arithmetic with booleans", "all operands are bool", "Cast one of them with `fg.cast`.")
    return (found,) * len(types), found


def real_float(types: Any, attrs: Any) -> Any:
    """Real numbers; integers and booleans are taken as the default float."""
    found = common_float(_common_real(types))
    return (found,) * len(types), found


def order(types: Any, attrs: Any) -> Any:
    """What can be put in order, with a truth value as the result."""
    if common(types).kind == "c":
        raise DTypeError("an order of complex numbers", "they have none", "Compare `fg.abs` or `fg.real` of them.")
    return (common(types),) * len(types), BOOL


def test(types: Any, attrs: Any) -> Any:
    """Operands of any dtype, each as it is, with a truth value as the result."""
    return tuple(one.dtype for one in types), BOOL


def truth(types: Any, attrs: Any) -> Any:
    """Truth values: of a number, whether it is not 0."""
    return (BOOL,) * len(types), BOOL


def bits(types: Any, attrs: Any) -> Any:
    """Booleans or integers, promoted: the bits of a float mean nothing by themselves."""
    for one in types:
        if one.dtype.kind not in "biu":
            raise DTypeError(
                f"&, |, ^ or ~ of a tensor of {one.dtype}",
                "it has no truth values and no bits",
                "Compare first: x > 0.",
            )
    found = common(types)
    return (found,) * len(types), found


def integers(types: Any, attrs: Any) -> Any:
    """Integers, promoted."""
    for one in types:
        if one.dtype.kind not in "iu":
            raise DTypeError(
                f"to shift the bits of {one.dtype}", "only integers have places to shift", "Cast it to an integer."
            )
    found = common(types)
    return (found,) * len(types), found


def size_of(types: Any, attrs: Any) -> Any:
    """A number as it is, with its magnitude or a part of it as the result: complex numbers give real ones."""
    return (types[0].dtype,), real_dtype(types[0].dtype)
