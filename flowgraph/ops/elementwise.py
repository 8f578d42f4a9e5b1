"""Operations that work on each element by itself, and the Python operators made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.errors import DTypeError
from flowgraph.op import Call, Op, define
from flowgraph.ops import numerics
from flowgraph.tensor import Tensor
from flowgraph.types import DEFAULT_FLOAT, as_dtype, is_float, promote, tensor_type

__all__ = [
    "abs",
    "add",
    "astype",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_or",
    "bitwise_xor",
    "divide",
    "equal",
    "exp",
    "expm1",
    "greater",
    "greater_equal",
    "isfinite",
    "less",
    "less_equal",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "not_equal",
    "power",
    "relu",
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


def _into(function: Any) -> Any:
    """The call of a function `f(operands..., out)` of ours, which may write its result over an operand."""
    return lambda types, attrs: Call(
        f"{{f}}({', '.join(f'{{{i}}}' for i in range(len(types)))}, {{out}})", {"f": function}, in_place=True
    )


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
    samples=lambda: [
        ((), {"value": 2.5, "dtype": np.dtype(np.float64)}),
        ((), {"value": 1, "dtype": np.dtype(np.int8)}),
    ],
    doc="A number that is part of the program.",
)


def _cast_call(types: Any, attrs: Any) -> Call:
    return Call("copyto({out}, {0}, 'unsafe')", {"copyto": np.copyto})


astype = define(
    "astype",
    ONE,
    lambda x, dtype: np.asarray(x).astype(dtype),
    attrs=lambda x, /, dtype: {"dtype": as_dtype(dtype)},
    dtype=lambda types, attrs: ((types[0].dtype,), attrs["dtype"]),
    call=_cast_call,
    gradient=lambda g, out, x: (g.astype(x.dtype),),
    samples=lambda: [(((3, 4),), {"dtype": np.dtype(np.float64)}), (((3, 4),), {"dtype": np.dtype(np.int32)})],
    doc="x with its elements converted to `dtype`, as numpy converts them.",
)

add = define("add", TWO, np.add, host="({0} + {1})", gradient=lambda g, out, x, y: (g, g), doc="x + y.")
subtract = define(
    "subtract", TWO, np.subtract, host="({0} - {1})", gradient=lambda g, out, x, y: (g, lambda: -g), doc="x - y."
)
multiply = define(
    "multiply",
    TWO,
    np.multiply,
    host="({0} * {1})",
    gradient=lambda g, out, x, y: (lambda: g * y, lambda: g * x),
    doc="x * y.",
)
divide = define(
    "divide",
    TWO,
    np.divide,
    dtype="float",
    host="divide_host({0}, {1})",
    gradient=lambda g, out, x, y: (lambda: g / y, lambda: -g * out / y),
    domain=(0.5, 2.0),
    doc="x / y; integers are divided as floats.",
)


def _power_gradient(g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
    """d(x**y)/dx = y x**(y-1), but 0 for y = 0; d(x**y)/dy = x**y log x, but 0 for x <= 0, where log is not real."""
    if y.node.op is constant:
        exponent = y.node.attr("value")
        if exponent == 0:
            return (lambda: g * 0, None)
        return (lambda: g if exponent == 1 else g * (exponent * power(x, exponent - 1)), None)

    def of_exponent() -> Tensor:
        safe = where(x > 0, x, 1)
        return g * out * where(x > 0, log(safe), 0)  # type: ignore[no-any-return]

    return (lambda: g * where(y == 0, 0, y * power(x, where(y == 0, 1, y) - 1)), of_exponent)


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
negative = define("negative", ONE, np.negative, host="(-{0})", gradient=lambda g, out, x: (-g,), doc="-x.")
sign = define("sign", ONE, np.sign, gradient=lambda g, out, x: (None,), doc="-1, 0 or 1, by the sign of x.")
abs = define(
    "abs",
    ONE,
    np.absolute,
    gradient=lambda g, out, x: (g * sign(x),),
    doc="The absolute value; its gradient at 0 is 0.",
)
exp = define("exp", ONE, np.exp, dtype="float", gradient=lambda g, out, x: (g * out,), flops=10, doc="e ** x.")
expm1 = define(
    "expm1",
    ONE,
    np.expm1,
    dtype="float",
    gradient=lambda g, out, x: (g * (out + 1),),
    flops=20,
    doc="e ** x - 1, exact near 0.",
)
log = define(
    "log",
    ONE,
    np.log,
    dtype="float",
    gradient=lambda g, out, x: (g / x,),
    flops=10,
    domain=(0.5, 2.0),
    doc="The natural logarithm.",
)
log1p = define(
    "log1p",
    ONE,
    np.log1p,
    dtype="float",
    gradient=lambda g, out, x: (g / (x + 1),),
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
    gradient=lambda g, out, x: (g * 0.5 / out,),
    flops=4,
    domain=(0.5, 2.0),
    doc="The square root.",
)
square = define("square", ONE, np.square, host="({0} * {0})", gradient=lambda g, out, x: (g * (2 * x),), doc="x * x.")
tanh = define(
    "tanh",
    ONE,
    np.tanh,
    dtype="float",
    gradient=lambda g, out, x: (g * (1 - square(out)),),
    flops=15,
    doc="The hyperbolic tangent.",
)
sigmoid = define(
    "sigmoid",
    ONE,
    numerics.sigmoid,
    dtype="float",
    call=_into(numerics.sigmoid),
    gradient=lambda g, out, x: (g * (out * (1 - out)),),
    flops=15,
    doc="1 / (1 + exp(-x)).",
)
softplus = define(
    "softplus",
    ONE,
    numerics.softplus,
    dtype="float",
    call=_into(numerics.softplus),
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
    call=_into(numerics.select),
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
    call=_relu_call,
    gradient=lambda g, out, x: (where(out > 0, g, 0),),
    doc="max(x, 0); its gradient at 0 is 0.",
)
maximum = define(
    "maximum",
    TWO,
    np.maximum,
    gradient=lambda g, out, x, y: (lambda: where(x >= y, g, 0), lambda: where(x >= y, 0, g)),
    doc="The larger of x and y; at a tie the gradient goes to x.",
)
minimum = define(
    "minimum",
    TWO,
    np.minimum,
    gradient=lambda g, out, x, y: (lambda: where(x <= y, g, 0), lambda: where(x <= y, 0, g)),
    doc="The smaller of x and y; at a tie the gradient goes to x.",
)


def _comparison(name: str, kernel: np.ufunc, text: str) -> Op:
    return define(
        name,
        TWO,
        kernel,
        dtype="bool",
        gradient=lambda g, out, x, y: (None, None),
        doc=f"Whether {text}, element by element.",
    )


equal = _comparison("equal", np.equal, "x == y")
not_equal = _comparison("not_equal", np.not_equal, "x != y")
less = _comparison("less", np.less, "x < y")
less_equal = _comparison("less_equal", np.less_equal, "x <= y")
greater = _comparison("greater", np.greater, "x > y")
greater_equal = _comparison("greater_equal", np.greater_equal, "x >= y")


def _logical(count: int) -> Any:
    return lambda types, attrs: ((np.dtype(np.bool_),) * count, np.dtype(np.bool_))


logical_not = define(
    "logical_not",
    ONE,
    np.logical_not,
    dtype=_logical(1),
    gradient=lambda g, out, x: (None,),
    doc="Whether x is false.",
)
logical_and = define(
    "logical_and",
    TWO,
    np.logical_and,
    dtype=_logical(2),
    gradient=lambda g, out, x, y: (None, None),
    doc="Whether x and y are true.",
)
logical_or = define(
    "logical_or",
    TWO,
    np.logical_or,
    dtype=_logical(2),
    gradient=lambda g, out, x, y: (None, None),
    doc="Whether x or y is true.",
)


def _bits_dtype(types: Any, attrs: Any) -> Any:
    """Booleans or integers, promoted: the bits of a float mean nothing by themselves."""
    for one in types:
        if one.dtype.kind not in "biu":
            raise DTypeError(
                f"&, |, ^ or ~ of a tensor of {one.dtype}",
                "it has no truth values and no bits",
                "Compare first: x > 0.",
            )
    common = types[0].dtype
    for one in types[1:]:
        common = promote(common, one.dtype)
    return (common,) * len(types), common


def _bitwise(name: str, factors: str, kernel: np.ufunc, text: str) -> Op:
    rule = (lambda g, out, x: (None,)) if factors == ONE else (lambda g, out, x, y: (None, None))
    return define(
        f"bitwise_{name}",
        factors,
        kernel,
        dtype=_bits_dtype,
        gradient=rule,
        samples=lambda: [((tensor_type((3, 4), kind),) * kernel.nin, {}) for kind in (np.bool_, np.int32, np.uint8)],
        doc=f"{text}, bit by bit; for booleans the same of truth values.",
    )


bitwise_and = _bitwise("and", TWO, np.bitwise_and, "x and y")
bitwise_or = _bitwise("or", TWO, np.bitwise_or, "x or y")
bitwise_xor = _bitwise("xor", TWO, np.bitwise_xor, "Exclusive or of x and y")
bitwise_invert = _bitwise("invert", ONE, np.invert, "Not x")
isfinite = define(
    "isfinite",
    ONE,
    np.isfinite,
    dtype=lambda types, attrs: ((types[0].dtype,), np.dtype(np.bool_)),
    gradient=lambda g, out, x: (None,),
    doc="Whether x is neither infinite nor nan.",
)


def common_float(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """`dtype` where it is a float, else the default float."""
    return dtype if is_float(dtype) else DEFAULT_FLOAT
