"""Rounding, remainders, bounds and signs."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.op import Call, Op, define
from flowgraph.ops import numerics, rules
from flowgraph.ops.elementwise import ONE, TWO, maximum, mended, minimum, sign
from flowgraph.tensor import Tensor
from flowgraph.types import tensor_type

__all__ = [
    "ceil",
    "clip",
    "clip_by_value",
    "copysign",
    "floor",
    "floor_divide",
    "nextafter",
    "remainder",
    "round",
    "trunc",
]


def _steps(name: str, kernel: np.ufunc, doc: str) -> Op:
    return define(name, ONE, kernel, dtype=rules.real_numbers, gradient=lambda g, out, x: (None,), doc=doc)


floor = _steps("floor", np.floor, "The largest integer not above x, in the dtype of x.")
ceil = _steps("ceil", np.ceil, "The smallest integer not below x, in the dtype of x.")
trunc = _steps("trunc", np.trunc, "The integer next to x on the side of 0, in the dtype of x.")


def _round(x: Any) -> Any:
    return np.rint(x) if x.dtype.kind in "fc" else np.positive(x)


def _round_call(types: Any, attrs: Any) -> Call:
    return Call("{f}({0}, {out})", {"f": np.rint if types[0].dtype.kind in "fc" else np.positive}, in_place=True)


def _number_dtype(types: Any, attrs: Any) -> Any:
    return ((types[0].dtype,), types[0].dtype) if types[0].dtype.kind == "c" else rules.real_numbers(types, attrs)


round = define(
    "round",
    ONE,
    _round,
    dtype=_number_dtype,
    call=_round_call,
    gradient=lambda g, out, x: (None,),
    doc="The integer nearest to x, the even one of two, in the dtype of x; of complex numbers part by part.",
)
floor_divide = define(
    "floor_divide",
    TWO,
    numerics.floor_divide,
    dtype=rules.real_numbers,
    call=mended("f", np.floor_divide, numerics.floor_divide),
    gradient=lambda g, out, x, y: (None, None),
    flops=10,
    domain=(0.5, 2.0),
    doc="The largest integer not above x / y, in the dtype of the operands: x // y.",
)
remainder = define(
    "remainder",
    TWO,
    np.remainder,
    dtype=rules.real_numbers,
    gradient=lambda g, out, x, y: (g, lambda: -g * floor_divide(x, y)),
    flops=10,
    domain=(0.5, 2.0),
    doc="x - (x // y) * y, which has the sign of y: x % y.",
)
copysign = define(
    "copysign",
    TWO,
    np.copysign,
    dtype="float",
    gradient=lambda g, out, x, y: (lambda: g * (sign(x) * sign(out)), None),
    doc="The magnitude of x with the sign of y, also that of -0.0 and nan.",
)
nextafter = define(
    "nextafter",
    TWO,
    np.nextafter,
    dtype="float",
    gradient=lambda g, out, x, y: (g, None),
    samples=lambda: [
        (tuple(tensor_type(shape, kind) for shape in shapes), {})
        for kind in (np.float64, np.float32)
        for shapes in (((5, 4), (5, 4)), ((5, 1), (4,)), ((), ()), ((0, 3), (3,)))
    ],
    doc="The number next to x on the way to y.",
)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """`x` with what lies below `min` or above `max` put at that bound; None is no bound.

    The gradient by `x` is 1 between the bounds and at them, 0 outside. Bounds of the kind of `x`, integers or floats,
    do not change its dtype.

    >>> import flowgraph as fg
    >>> fg.clip([-1.0, 0.5, 3.0], 0, 1).tolist()
    [0.0, 0.5, 1.0]
    """
    tensor = convert(x)
    rules.real_numbers((tensor.type,), {})  # raises for what has no order
    result = tensor
    if min is not None:
        result = maximum(result, min)
    if max is not None:
        result = minimum(result, max)
    same_kind = result.dtype.kind == tensor.dtype.kind or {result.dtype.kind, tensor.dtype.kind} == {"i", "u"}
    return result.astype(tensor.dtype) if same_kind and result.dtype != tensor.dtype else result


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any) -> Tensor:
    """`clip` under TensorFlow's name.

    >>> import flowgraph as fg
    >>> fg.clip_by_value([-1.0, 3.0], 0.0, 1.0).tolist()
    [0.0, 1.0]
    """
    return clip(t, clip_value_min, clip_value_max)
