"""Parts of complex numbers, and what a gradient rule needs of them.

The gradient of a real loss L by z = x + iy is dL/dx + i dL/dy, the direction in which L grows most, as in TensorFlow.
So the rule of a holomorphic function multiplies by the conjugate of its derivative. Of a real tensor the conjugate is
the tensor itself: programs without complex numbers are not changed by any of this.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import DTypeError
from flowgraph.leaves import scalar
from flowgraph.op import Call, define
from flowgraph.ops import rules
from flowgraph.ops.shape import broadcast_like
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import promote, real_dtype, tensor_type

__all__ = [
    "angle",
    "complex",
    "conj",
    "imag",
    "real",
]

ONE = "... -> ..."


def _samples() -> Any:
    return [((tensor_type(shape, kind),), {}) for kind in (np.complex128, np.complex64) for shape in ((5, 4), (), (0,))]


def _part(name: str) -> Any:
    return lambda types, attrs: Call(f"copyto({{out}}, {{0}}.{name})", {"copyto": np.copyto})


conj_op = define(
    "conj",
    ONE,
    np.conjugate,
    gradient=lambda g, out, x: (conj(g),),
    samples=_samples,
    doc="x with the sign of the imaginary part changed.",
)
real_op = define(
    "real",
    ONE,
    np.real,
    dtype=rules.size_of,
    call=_part("real"),
    gradient=lambda g, out, x: (g,),  # the driver makes it complex
    samples=_samples,
    doc="The real part of x.",
)
imag_op = define(
    "imag",
    ONE,
    np.imag,
    dtype=rules.size_of,
    call=_part("imag"),
    gradient=lambda g, out, x: (g * 1j,),
    samples=_samples,
    doc="The imaginary part of x.",
)


def _angle_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    """By x and y it is (-y, x) / |z|**2; of a real number the angle jumps and never slopes."""
    return (g * 1j / conj(x),) if x.dtype.kind == "c" else (None,)


def _angle_dtype(types: Any, attrs: Any) -> Any:
    operand = rules.common_float(types[0].dtype)
    return (operand,), real_dtype(operand)


def _angle(x: Any) -> Any:
    return np.arctan2(np.imag(x), np.real(x))


angle = define(
    "angle",
    ONE,
    _angle,
    dtype=_angle_dtype,
    gradient=_angle_gradient,
    flops=25,
    samples=lambda: [*_samples(), (((5, 4),), {})],
    doc="The angle of x in the complex plane, from -pi to pi.",
)


def _complex_dtype(types: Any, attrs: Any) -> Any:
    part = rules.common_float(promote(types[0].dtype, types[1].dtype))
    if part.kind == "c":
        raise DTypeError("a complex number of parts", "one of them is complex itself", "Give real numbers.")
    return (part, part), np.result_type(part, np.complex64)


def _complex(x: Any, y: Any) -> Any:
    out = np.empty(np.broadcast_shapes(x.shape, y.shape), np.result_type(x, y, np.complex64))
    out.real, out.imag = x, y  # a sum x + iy would make nan of an infinite part
    return out


complex = define(
    "complex",
    "..., ... -> ...",
    _complex,
    dtype=_complex_dtype,
    gradient=lambda g, out, x, y: (real(g), imag(g)),
    doc="The complex numbers with real part x and imaginary part y.",
)


def _number(x: Any, name: str) -> Tensor:
    tensor = convert(x)
    if tensor.dtype.kind == "b":
        raise DTypeError(f"{name} of booleans", "they are no numbers", "Cast them with `fg.cast`.")
    return tensor


def conj(x: Any) -> Tensor:
    """`x` with the sign of the imaginary part changed; a real tensor is returned as it is.

    >>> import flowgraph as fg
    >>> fg.conj([1 + 2j]).tolist()
    [(1-2j)]
    """
    tensor = _number(x, "conj")
    return conj_op(tensor) if tensor.dtype.kind == "c" else tensor


def real(x: Any) -> Tensor:
    """The real part of `x`; a real tensor is returned as it is.

    >>> import flowgraph as fg
    >>> fg.real([1 + 2j]).tolist()
    [1.0]
    """
    tensor = _number(x, "real")
    return real_op(tensor) if tensor.dtype.kind == "c" else tensor


def imag(x: Any) -> Tensor:
    """The imaginary part of `x`: zeros for a real tensor.

    >>> import flowgraph as fg
    >>> fg.imag([1 + 2j]).tolist()
    [2.0]
    """
    tensor = _number(x, "imag")
    if tensor.dtype.kind == "c":
        return imag_op(tensor)  # type: ignore[no-any-return]
    return broadcast_like(tensor_of(scalar(0, tensor.dtype)), tensor)  # type: ignore[no-any-return]
