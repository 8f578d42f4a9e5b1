"""Python's operators, as the base of Tensor: each is the op of that name, with the tensor on either side."""

from __future__ import annotations

from typing import Any, Self, TypeVar

import numpy as np

from flowgraph.errors import DTypeError, ShapeError
from flowgraph.op import OPS, Op

T = TypeVar("T")

_OPERANDS: frozenset[type] = frozenset({bool, int, float, complex, np.ndarray, list, tuple})
_OPERAND_MARKS = ("__flowgraph_tensor__", "__array__", "__dask_graph__")


def _is_operand(value: Any) -> bool:
    if isinstance(value, Operators) or type(value) in _OPERANDS or isinstance(value, int | float | complex):
        return True
    return any(hasattr(value, mark) for mark in _OPERAND_MARKS)


def _left(name: str, x: T, y: Any) -> T:
    """The op `name` of x and y; what can not become a tensor is left to its own class."""
    if type(y) is type(x) or _is_operand(y):
        return Op.apply(OPS[name], (x, y), {})  # type: ignore[no-any-return]
    return NotImplemented  # type: ignore[no-any-return]


def _right(name: str, x: T, y: Any) -> T:
    """The op `name` of y and x."""
    return OPS[name](y, x) if _is_operand(y) else NotImplemented


def _in_place(name: str, sign: str, x: Any, y: Any) -> Any:
    """What x names after `x += y`: a new tensor, for none is ever written to. It must have the type of the old one."""
    result = _left(name, x, y)
    if result is NotImplemented or result.type is x.type:
        return result
    differs, kind = ("shape", ShapeError) if result.shape != x.shape else ("dtype", DTypeError)
    raise kind(
        f"x {sign}= y for x of {x.type}",
        f"the result is {result.type}, of another {differs}",
        f"Write x = x {sign} y if x may become that.",
    )


class Operators:
    """Arithmetic, comparisons and the bits of tensors."""

    __slots__ = ()

    def __add__(self, other: Any) -> Self:
        return _left("add", self, other)

    def __radd__(self, other: Any) -> Self:
        return _right("add", self, other)

    def __sub__(self, other: Any) -> Self:
        return _left("subtract", self, other)

    def __rsub__(self, other: Any) -> Self:
        return _right("subtract", self, other)

    def __mul__(self, other: Any) -> Self:
        return _left("multiply", self, other)

    def __rmul__(self, other: Any) -> Self:
        return _right("multiply", self, other)

    def __truediv__(self, other: Any) -> Self:
        return _left("divide", self, other)

    def __rtruediv__(self, other: Any) -> Self:
        return _right("divide", self, other)

    def __floordiv__(self, other: Any) -> Self:
        return _left("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Self:
        return _right("floor_divide", self, other)

    def __mod__(self, other: Any) -> Self:
        return _left("remainder", self, other)

    def __rmod__(self, other: Any) -> Self:
        return _right("remainder", self, other)

    def __pow__(self, other: Any) -> Self:
        return _left("power", self, other)

    def __rpow__(self, other: Any) -> Self:
        return _right("power", self, other)

    def __matmul__(self, other: Any) -> Self:
        return _left("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Self:
        return _right("matmul", self, other)

    def __and__(self, other: Any) -> Self:
        return _left("bitwise_and", self, other)

    def __rand__(self, other: Any) -> Self:
        return _right("bitwise_and", self, other)

    def __or__(self, other: Any) -> Self:
        return _left("bitwise_or", self, other)

    def __ror__(self, other: Any) -> Self:
        return _right("bitwise_or", self, other)

    def __xor__(self, other: Any) -> Self:
        return _left("bitwise_xor", self, other)

    def __rxor__(self, other: Any) -> Self:
        return _right("bitwise_xor", self, other)

    def __lshift__(self, other: Any) -> Self:
        return _left("bitwise_left_shift", self, other)

    def __rlshift__(self, other: Any) -> Self:
        return _right("bitwise_left_shift", self, other)

    def __rshift__(self, other: Any) -> Self:
        return _left("bitwise_right_shift", self, other)

    def __rrshift__(self, other: Any) -> Self:
        return _right("bitwise_right_shift", self, other)

    def __divmod__(self, other: Any) -> tuple[Self, Self]:
        return (self // other, self % other) if _is_operand(other) else NotImplemented

    def __rdivmod__(self, other: Any) -> tuple[Self, Self]:
        return (other // self, other % self) if _is_operand(other) else NotImplemented

    # In place: `x += y` makes x name another tensor, and leaves the old one to those who have it.

    def __iadd__(self, other: Any) -> Self:
        return _in_place("add", "+", self, other)  # type: ignore[no-any-return]

    def __isub__(self, other: Any) -> Self:
        return _in_place("subtract", "-", self, other)  # type: ignore[no-any-return]

    def __imul__(self, other: Any) -> Self:
        return _in_place("multiply", "*", self, other)  # type: ignore[no-any-return]

    def __itruediv__(self, other: Any) -> Self:
        return _in_place("divide", "/", self, other)  # type: ignore[no-any-return]

    def __ifloordiv__(self, other: Any) -> Self:
        return _in_place("floor_divide", "//", self, other)  # type: ignore[no-any-return]

    def __imod__(self, other: Any) -> Self:
        return _in_place("remainder", "%", self, other)  # type: ignore[no-any-return]

    def __ipow__(self, other: Any) -> Self:
        return _in_place("power", "**", self, other)  # type: ignore[no-any-return]

    def __imatmul__(self, other: Any) -> Self:
        return _in_place("matmul", "@", self, other)  # type: ignore[no-any-return]

    def __iand__(self, other: Any) -> Self:
        return _in_place("bitwise_and", "&", self, other)  # type: ignore[no-any-return]

    def __ior__(self, other: Any) -> Self:
        return _in_place("bitwise_or", "|", self, other)  # type: ignore[no-any-return]

    def __ixor__(self, other: Any) -> Self:
        return _in_place("bitwise_xor", "^", self, other)  # type: ignore[no-any-return]

    def __ilshift__(self, other: Any) -> Self:
        return _in_place("bitwise_left_shift", "<<", self, other)  # type: ignore[no-any-return]

    def __irshift__(self, other: Any) -> Self:
        return _in_place("bitwise_right_shift", ">>", self, other)  # type: ignore[no-any-return]

    def __lt__(self, other: Any) -> Self:
        return _left("less", self, other)

    def __le__(self, other: Any) -> Self:
        return _left("less_equal", self, other)

    def __gt__(self, other: Any) -> Self:
        return _left("greater", self, other)

    def __ge__(self, other: Any) -> Self:
        return _left("greater_equal", self, other)

    def __eq__(self, other: object) -> Any:
        return _left("equal", self, other)

    def __ne__(self, other: object) -> Any:
        return _left("not_equal", self, other)

    __hash__ = object.__hash__  # `==` is elementwise, so tensors are told apart by identity

    def __neg__(self) -> Self:
        return OPS["negative"](self)  # type: ignore[no-any-return]

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return OPS["abs"](self)  # type: ignore[no-any-return]

    def __invert__(self) -> Self:
        return OPS["bitwise_invert"](self)  # type: ignore[no-any-return]
