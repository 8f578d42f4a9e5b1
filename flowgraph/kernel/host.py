"""Scalars in double precision stay Python numbers inside kernels.

A float32 `beta ** t` ruins Adam's bias correction, and a numpy call on a 0-d array costs ten times a Python operation.
These functions do what numpy does where Python would raise.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from flowgraph.graph import Node


def is_host_type(node: Node) -> bool:
    """Whether a value of this type may be a Python number: a scalar of float64 or int64."""
    return node.type.shape == () and node.type.dtype.str in ("<f8", "<i8")


def is_host(node: Node, known: Container[Node]) -> bool:
    """Whether `node` can be computed as a Python number from others that are."""
    if node.op.name == "astype":
        return is_host_type(node) and node.type.dtype.kind == "f" and node.inputs[0] in known
    if node.op.host is None or not is_host_type(node) or not node.inputs:
        return False
    if node.type.dtype.kind == "i" and node.op.name not in ("add", "subtract", "multiply", "negative"):
        return False  # what Python would answer with a float
    return all(one in known for one in node.inputs)


def expression(node: Node, operands: Sequence[str]) -> str:
    """The Python expression of a host node."""
    if node.op.name == "astype":
        return f"float({operands[0]})"
    assert node.op.host is not None
    text = node.op.host
    for index, operand in enumerate(operands):
        text = text.replace(f"{{{index}}}", operand)
    return f"wrapped_host{text}" if node.type.dtype.kind == "i" else text


def wrapped_host(x: int) -> int:
    """An integer of 64 bits: beyond them it starts again at the other end, as numpy's do."""
    return x if -_HALF <= x < _HALF else (x + _HALF) % (2 * _HALF) - _HALF


_HALF = 1 << 63


def divide_host(x: float, y: float) -> float:
    """The quotient x / y, by numpy's rules where y is 0."""
    if y:
        return x / y
    return math.nan if not x or math.isnan(x) else math.copysign(math.inf, x) * math.copysign(1.0, y)


def power_host(x: float, y: float) -> float:
    """The power x ** y, by numpy's rules where Python raises."""
    try:
        result = x**y
    except ZeroDivisionError:
        odd = float(y).is_integer() and y % 2 == 1
        return math.copysign(math.inf, x) if odd else math.inf
    except OverflowError:
        odd = x < 0 and float(y).is_integer() and y % 2 == 1
        return -math.inf if odd else math.inf
    return math.nan if isinstance(result, complex) else result


def sqrt_host(x: float) -> float:
    """The square root, nan below 0."""
    return math.sqrt(x) if x >= 0 else math.nan


FUNCTIONS = (divide_host, power_host, sqrt_host, wrapped_host)
"""What the expressions of host nodes call."""
