"""Activation functions of neural networks.

Most are made of other operations, so that their gradients are exact to any order; those whose formula would lose digits
there have a rule of their own. At kinks the gradients are TensorFlow's.
"""

from __future__ import annotations

import math
from typing import Any

from flowgraph.apply import convert
from flowgraph.op import Call, define
from flowgraph.ops import numerics, rules
from flowgraph.ops.elementwise import (
    ONE,
    abs,
    exp,
    expm1,
    into,
    minimum,
    multiply,
    sigmoid,
    softplus,
    square,
    tanh,
    where,
)
from flowgraph.ops.reduce import sum
from flowgraph.ops.scanning import whole_axis
from flowgraph.ops.special import erfc
from flowgraph.tensor import Tensor
from flowgraph.types import normal_axis

__all__ = [
    "elu",
    "gelu",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu6",
    "selu",
    "silu",
    "softsign",
    "swish",
]

relu6 = define(
    "relu6",
    ONE,
    numerics.relu6,
    dtype=rules.real_numbers,
    call=into(numerics.relu6),
    gradient=lambda g, out, x: (where((out > 0) & (out < 6), g, 0),),
    domain=(-3.0, 9.0),
    doc="min(max(x, 0), 6); its gradient at 0 and at 6 is 0.",
)
# The quotient rule would subtract two nearly equal numbers for large x.
softsign = define(
    "softsign",
    ONE,
    numerics.softsign,
    dtype=rules.real_float,
    call=lambda types, attrs: Call("{f}({0}, {out})", {"f": numerics.softsign}),
    gradient=lambda g, out, x: (g / square(1 + abs(x)),),
    flops=4,
    doc="x / (1 + |x|).",
)


log_softmax = define(
    "log_softmax",
    whole_axis,
    numerics.log_softmax,
    attrs=lambda x, /, axis=-1: {"axis": normal_axis(axis, x.ndim)},
    dtype=rules.real_float,
    call=lambda types, attrs: Call(f"{{f}}({{0}}, {attrs['axis']}, {{out}})", {"f": numerics.log_softmax}),
    gradient=lambda g, out, x, axis: (g - exp(out) * sum(g, axis=axis, keepdims=True),),
    flops=14,
    samples=lambda: [
        (((3, 4),), {}),
        (((5, 3, 4),), {"axis": 1}),
        (((4,),), {"axis": 0}),
        (((3, 1),), {}),
        (((0, 3),), {}),
    ],
    doc="The logarithm of softmax along `axis`, without overflow.",
)


def _real(x: Any) -> Tensor:
    """`x` as a tensor of real floating-point numbers."""
    tensor = convert(x)
    ((wanted,), _) = rules.real_float((tensor.type,), {})
    return tensor if tensor.dtype == wanted else tensor.astype(wanted)


def log_sigmoid(x: Any) -> Tensor:
    """log(sigmoid(x)), without overflow.

    >>> import flowgraph as fg
    >>> fg.log_sigmoid([-1000.0, 1000.0]).tolist()
    [-1000.0, -0.0]
    """
    return -softplus(-_real(x))  # type: ignore[no-any-return]


def leaky_relu(x: Any, alpha: Any = 0.2) -> Tensor:
    """`x` where it is positive, else `alpha` * x; the gradient at 0 is `alpha`.

    >>> import flowgraph as fg
    >>> fg.leaky_relu([-1.0, 2.0], alpha=0.5).tolist()
    [-0.5, 2.0]
    """
    x = _real(x)
    return where(x > 0, x, multiply(alpha, x))  # type: ignore[no-any-return]


def elu(x: Any, alpha: Any = 1.0) -> Tensor:
    """`x` where it is positive, else `alpha` * (exp(x) - 1); the gradient at 0 is 1.

    >>> import flowgraph as fg
    >>> fg.elu([-1000.0, 2.0]).tolist()
    [-1.0, 2.0]
    """
    x = _real(x)
    return where(x >= 0, x, multiply(alpha, expm1(minimum(x, 0))))  # type: ignore[no-any-return]


_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772


def selu(x: Any) -> Tensor:
    """The scaled `elu` of self-normalising networks (Klambauer et al. 2017).

    >>> import flowgraph as fg
    >>> fg.selu([0.0, 1.0]).tolist()
    [0.0, 1.0507...]
    """
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def silu(x: Any, beta: Any = 1.0) -> Tensor:
    """The product x * sigmoid(`beta` * x), also called swish.

    >>> import flowgraph as fg
    >>> fg.silu([0.0, 100.0]).tolist()
    [0.0, 100.0]
    """
    x = _real(x)
    return x * sigmoid(x if isinstance(beta, int | float) and beta == 1 else multiply(beta, x))  # type: ignore[no-any-return]


swish = silu


def gelu(x: Any, approximate: bool = False) -> Tensor:
    """The product of x and the probability that a standard normal number is below x (Hendrycks and Gimpel 2016).

    With `approximate`, by a hyperbolic tangent.

    >>> import flowgraph as fg
    >>> fg.gelu([0.0, 100.0]).tolist()
    [0.0, 100.0]
    """
    x = _real(x)
    if approximate:
        return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * square(x)))))  # type: ignore[no-any-return]
    return 0.5 * x * erfc(-math.sqrt(0.5) * x)  # type: ignore[no-any-return]


def mish(x: Any) -> Tensor:
    """The product x * tanh(softplus(x)) (Misra 2019).

    >>> import flowgraph as fg
    >>> fg.mish([0.0, 100.0]).tolist()
    [0.0, 100.0]
    """
    x = _real(x)
    return x * tanh(softplus(x))  # type: ignore[no-any-return]
