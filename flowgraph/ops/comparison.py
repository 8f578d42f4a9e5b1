"""Truth values, element by element: comparisons, tests, logic; and the bits of integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.op import Op, define
from flowgraph.ops import rules
from flowgraph.types import tensor_type

__all__ = [
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
    "signbit",
]

ONE = "... -> ..."
TWO = "..., ... -> ..."


def _without_gradient(kernel: np.ufunc) -> Any:
    """The gradient rule of what changes in steps."""
    return (lambda g, out, x: (None,)) if kernel.nin == 1 else (lambda g, out, x, y: (None, None))


def _truth(name: str, kernel: np.ufunc, dtype: Any, doc: str) -> Op:
    factors = ONE if kernel.nin == 1 else TWO
    return define(name, factors, kernel, dtype=dtype, gradient=_without_gradient(kernel), doc=doc)


equal = _truth("equal", np.equal, "bool", "Whether x == y, element by element.")
not_equal = _truth("not_equal", np.not_equal, "bool", "Whether x != y, element by element.")
less = _truth("less", np.less, rules.order, "Whether x < y, element by element.")
less_equal = _truth("less_equal", np.less_equal, rules.order, "Whether x <= y, element by element.")
greater = _truth("greater", np.greater, rules.order, "Whether x > y, element by element.")
greater_equal = _truth("greater_equal", np.greater_equal, rules.order, "Whether x >= y, element by element.")

isfinite = _truth("isfinite", np.isfinite, rules.test, "Whether x is neither infinite nor nan.")
isinf = _truth("isinf", np.isinf, rules.test, "Whether x is infinite, of either sign.")
isnan = _truth("isnan", np.isnan, rules.test, "Whether x is nan.")


def _signbit_dtype(types: Any, attrs: Any) -> Any:
    return rules.real_float(types, attrs)[0], rules.BOOL


signbit = _truth("signbit", np.signbit, _signbit_dtype, "Whether the sign of x is minus, also that of -0.0 and nan.")

logical_not = _truth("logical_not", np.logical_not, rules.truth, "Whether x is false.")
logical_and = _truth("logical_and", np.logical_and, rules.truth, "Whether x and y are true.")
logical_or = _truth("logical_or", np.logical_or, rules.truth, "Whether x or y is true.")
logical_xor = _truth("logical_xor", np.logical_xor, rules.truth, "Whether one of x and y is true and the other not.")


def _bitwise(name: str, kernel: np.ufunc, text: str) -> Op:
    return define(
        f"bitwise_{name}",
        ONE if kernel.nin == 1 else TWO,
        kernel,
        dtype=rules.bits,
        gradient=_without_gradient(kernel),
        samples=lambda: [((tensor_type((3, 4), kind),) * kernel.nin, {}) for kind in (np.bool_, np.int32, np.uint8)],
        doc=f"{text}, bit by bit; for booleans the same of truth values.",
    )


bitwise_and = _bitwise("and", np.bitwise_and, "x and y")
bitwise_or = _bitwise("or", np.bitwise_or, "x or y")
bitwise_xor = _bitwise("xor", np.bitwise_xor, "Exclusive or of x and y")
bitwise_invert = _bitwise("invert", np.invert, "Not x")


def _shift(name: str, kernel: np.ufunc, doc: str) -> Op:
    def samples() -> Any:
        counts = np.array([[0, 1, 7, 3]], np.uint8)
        return [
            ((tensor_type((3, 4), np.uint8), counts), {}),
            ((tensor_type((3, 4), np.int32), counts.astype(np.int32)), {}),
            ((tensor_type((4,), np.int32), np.array(2, np.int32)), {}),
        ]

    return define(name, TWO, kernel, dtype=rules.integers, gradient=_without_gradient(kernel), samples=samples, doc=doc)


bitwise_left_shift = _shift("bitwise_left_shift", np.left_shift, "x with its bits moved up by y places: x << y.")
bitwise_right_shift = _shift(
    "bitwise_right_shift", np.right_shift, "x with its bits moved down by y places, the sign kept: x >> y."
)
