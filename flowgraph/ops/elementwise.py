"""Arithmetic and the functions made of exp and log: operations that work on each element by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import GradientError
from flowgraph.op import Call, Op, define
from flowgraph.ops import numerics, rules
from flowgraph.ops.complex import conj
from flowgraph.tensor import Tensor
from flowgraph.types import as_dtype, promote

__all__ = [
    "abs",
    "add",
    "astype",
    "divide",
    "exp",
    "expm1",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "positive",
    "pow",
    "power",
    "reciprocal",
    "relu",
    "rsqrt",
    "sigmoid",
    "sign",
    "softplus",
    "sqrt",
    "square",
    "subtract",
    "tanh",
    "where",
]


ONE = "... -> ..."
TWO = "..., ... -> ..."


def into(function: Any) -> Any:
    """The call of a function `f(operands..., out)` of ours, which may write its result over an operand."""
    return lambda types, attrs: Call(
        f"{{f}}({', '.join(f'{{{i}}}' for i in range(len(types)))}, {{out}})", {"f": function}, in_place=True
    )


def mended(kinds: str, plain: np.ufunc, function: Any) -> Any:
    """The call of numpy's `plain`, but of `function` for dtypes of `kinds`, where numpy's needs mending."""
    return lambda types, attrs: into(function if types[0].dtype.kind in kinds else plain)(types, attrs)


def _as_array(value: Any, dtype: Any) -> Any:
    return np.asarray(value, dtype)


constant = define(
    "constant",
    "->",
    _as_array,
    # The number as the dtype holds it: 2, 2.0 and True must not make programs that differ.
    attrs=lambda value, dtype: {"value": np.asarray(value, dtype).item(), "dtype": dtype},
    dtype=lambda types, attrs: ((), attrs["dtype"]),
    host="{value}",
    flops=0,
    samples=lambda: [
        ((), {"value": 2.5, "dtype": np.dtype(np.float64)}),
        ((), {"value": 1, "dtype": np.dtype(np.int8)}),
    ],
    doc="A number that is part of the program.",
)


def _astype(x: Any, dtype: Any) -> Any:
    array = np.asarray(x)
    return (array.real if np.dtype(dtype).kind in "iuf" else array).astype(dtype)


def _cast_call(types: Any, attrs: Any) -> Call:
    part = ".real" if types[0].dtype.kind == "c" and attrs["dtype"].kind in "iuf" else ""
    return Call(f"copyto({{out}}, {{0}}{part}, 'unsafe')", {"copyto": np.copyto})


define(
    "astype",
    ONE,
    _astype,
    attrs=lambda x, /, dtype: {"dtype": as_dtype(dtype)},
    dtype=lambda types, attrs: ((types[0].dtype,), attrs["dtype"]),
    call=_cast_call,
    gradient=lambda g, out, x: (g.astype(x.dtype),),
    samples=lambda: [(((3, 4),), {"dtype": np.dtype(np.float64)}), (((3, 4),), {"dtype": np.dtype(np.int32)})],
    doc="x with its elements converted to `dtype`, as numpy converts them; a complex number gives its real part.",
)


def astype(x: Any, dtype: Any, *, copy: bool = True, device: Any = None) -> Tensor:
    """`x` with its elements converted to `dtype`, as numpy converts them; a complex number gives its real part.

    With `copy`, what is assigned to elements of `x` later is not seen in the result. The only `device` is "cpu".

    >>> import flowgraph as fg
    >>> fg.astype([1.7, -1.7], fg.int32).tolist()
    [1, -1]
    """
    return convert(x).astype(dtype, copy=copy, device=device)


add = define("add", TWO, np.add, host="({0} + {1})", gradient=lambda g, out, x, y: (g, g), doc="x + y.")
subtract = define(
    "subtract", TWO, np.subtract, host="({0} - {1})", gradient=lambda g, out, x, y: (g, lambda: -g), doc="x - y."
)
multiply = define(
    "multiply",
    TWO,
    np.multiply,
    host="({0} * {1})",
    gradient=lambda g, out, x, y: (lambda: g * conj(y), lambda: g * conj(x)),
    doc="x * y.",
)
divide = define(
    "divide",
    TWO,
    np.divide,
    dtype="float",
    host="divide_host({0}, {1})",
    gradient=lambda g, out, x, y: (lambda: g / conj(y), lambda: -g * conj(out) / conj(y)),
    domain=(0.5, 2.0),
    doc="x / y; integers are divided as floats.",
)


def _power_gradient(g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
    """d(x**y)/dx = y x**(y-1), but 0 for y = 0; d(x**y)/dy = x**y log x, but 0 where log is not finite and real.

    Of a complex x the logarithm is defined everywhere but at 0.
    """
    if y.node.op is constant:
        exponent = y.node.attr("value")
        if exponent == 0:
            return (lambda: g * 0, None)
        return (lambda: g if exponent == 1 else g * conj(exponent * power(x, exponent - 1)), None)

    def of_exponent() -> Tensor:
        defined = x != 0 if x.dtype.kind == "c" else x > 0
        safe = where(defined, x, 1)
        return g * conj(out) * conj(where(defined, log(safe), 0))

    def of_base() -> Tensor:
        flat = y == 0
        usable = flat & (abs(x) >= np.finfo(x.dtype).tiny)  # so that 1 / x is finite, and 0 / x is 0
        # Not 0 alone: this one's own derivative by y is 1 / x.
        level = where(usable, y / where(usable, x, 1), 0)
        return g * conj(where(flat, level, y * power(x, where(flat, 1, y) - 1)))

    return (of_base, of_exponent)


power = define(
    "power",
    TWO,
    np.power,
    host="power_host({0}, {1})",
    gradient=_power_gradient,
    flops=20,
    domain=(0.5, 2.0),
    structural=(1,),
    doc="x ** y.",
)
pow = power
reciprocal = define(
    "reciprocal",
    ONE,
    np.reciprocal,
    dtype="float",
    gradient=lambda g, out, x: (-g * square(conj(out)),),
    domain=(0.5, 2.0),
    doc="1 / x; integers are divided as floats.",
)
positive = define("positive", ONE, np.positive, gradient=lambda g, out, x: (g,), doc="x itself.")
negative = define("negative", ONE, np.negative, host="(-{0})", gradient=lambda g, out, x: (-g,), doc="-x.")


def _sign_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    if x.dtype.kind == "c":
        raise GradientError(
            "the gradient of sign of complex numbers",
            "it is no holomorphic function, and its value is not real",
            "Write it as x / abs(x), whose parts have gradients.",
        )
    return (None,)


sign = define(
    "sign",
    ONE,
    np.sign,
    gradient=_sign_gradient,
    doc="-1, 0 or 1, by the sign of x; of a complex number x / |x|, and 0 of 0.",
)


def _abs_gradient(g: Tensor, out: Tensor, x: Tensor) -> Any:
    """The sign of x; for a complex x written so that it has a gradient itself."""
    return (g * (x / where(out == 0, 1, out)) if x.dtype.kind == "c" else g * sign(x),)


abs = define(
    "abs",
    ONE,
    np.absolute,
    dtype=rules.size_of,
    gradient=_abs_gradient,
    doc="The absolute value; its gradient at 0 is 0.",
)
exp = define("exp", ONE, np.exp, dtype="float", gradient=lambda g, out, x: (g * conj(out),), flops=10, doc="e ** x.")
expm1 = define(
    "expm1",
    ONE,
    numerics.expm1,
    dtype="float",
    call=mended("c", np.expm1, numerics.expm1),
    gradient=lambda g, out, x: (g * (conj(out) + 1),),
    flops=20,
    doc="e ** x - 1, exact near 0.",
)
log = define(
    "log",
    ONE,
    np.log,
    dtype="float",
    gradient=lambda g, out, x: (g / conj(x),),
    flops=10,
    domain=(0.5, 2.0),
    doc="The natural logarithm.",
)
log1p = define(
    "log1p",
    ONE,
    np.log1p,
    dtype="float",
    gradient=lambda g, out, x: (g / (conj(x) + 1),),
    flops=20,
    domain=(-0.5, 2.0),
    doc="log(1 + x), exact near 0.",
)
sqrt = define(
    "sqrt",
    ONE,
    np.sqrt,
    dtype="float",
    host="sqrt_host({0})",
    gradient=lambda g, out, x: (g * 0.5 / conj(out),),
    flops=4,
    domain=(0.5, 2.0),
    doc="The square root.",
)
rsqrt: Op = define(
    "rsqrt",
    ONE,
    numerics.rsqrt,
    dtype="float",
    call=into(numerics.rsqrt),
    gradient=lambda g, out, x: (g * conj(-0.5 * out * square(out)),),
    flops=6,
    domain=(0.5, 2.0),
    doc="1 / sqrt(x).",
)
square: Op = define(
    "square", ONE, np.square, host="({0} * {0})", gradient=lambda g, out, x: (g * (2 * conj(x)),), doc="x * x."
)
tanh = define(
    "tanh",
    ONE,
    numerics.tanh,
    dtype="float",
    call=mended("c", np.tanh, numerics.tanh),
    gradient=lambda g, out, x: (g * (1 - square(conj(out))),),
    flops=15,
    doc="The hyperbolic tangent.",
)
sigmoid = define(
    "sigmoid",
    ONE,
    numerics.sigmoid,
    dtype=rules.real_float,
    call=into(numerics.sigmoid),
    gradient=lambda g, out, x: (g * (out * (1 - out)),),
    flops=15,
    doc="1 / (1 + exp(-x)).",
)
softplus = define(
    "softplus",
    ONE,
    numerics.softplus,
    dtype=rules.real_float,
    call=into(numerics.softplus),
    gradient=lambda g, out, x: (g * sigmoid(x),),
    flops=30,
    doc="log(1 + exp(x)), without overflow.",
)


def _select_dtype(types: Any, attrs: Any) -> Any:
    common = promote(types[1].dtype, types[2].dtype)
    return (np.dtype(np.bool_), common, common), common


where: Op = define(
    "where",
    "..., ..., ... -> ...",
    numerics.select,
    dtype=_select_dtype,
    call=into(numerics.select),
    gradient=lambda g, out, c, x, y: (None, lambda: where(c, g, 0), lambda: where(c, 0, g)),
    samples=lambda: [(((3, 4), (3, 4), (3, 4)), {}), (((3, 4), (4,), ()), {})],
    doc="x where `condition` is true, else y.",
)


def _relu_call(types: Any, attrs: Any) -> Call:
    return Call("{f}({0}, {z}, out={out})", {"f": np.maximum, "z": np.zeros((), types[0].dtype)}, in_place=True)


relu = define(
    "relu",
    ONE,
    lambda x: np.maximum(x, np.zeros((), x.dtype)),
    dtype=rules.real,
    call=_relu_call,
    gradient=lambda g, out, x: (where(out > 0, g, 0),),
    doc="max(x, 0); its gradient at 0 is 0.",
)
maximum = define(
    "maximum",
    TWO,
    np.maximum,
    dtype=rules.real,
    gradient=lambda g, out, x, y: (lambda: where(x >= y, g, 0), lambda: where(x >= y, 0, g)),
    doc="The larger of x and y; at a tie the gradient goes to x.",
)
minimum = define(
    "minimum",
    TWO,
    np.minimum,
    dtype=rules.real,
    gradient=lambda g, out, x, y: (lambda: where(x <= y, g, 0), lambda: where(x <= y, 0, g)),
    doc="The smaller of x and y; at a tie the gradient goes to x.",
)
