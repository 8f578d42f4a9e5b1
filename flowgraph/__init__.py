"""flowgraph: tensor graphs with automatic gradients on Dask.

>>> import flowgraph as fg
>>> x = fg.Variable(3.0)
>>> with fg.GradientTape() as tape:
...     y = x * x
>>> float(tape.gradient(y, x))
6.0
"""

from typing import Any as _Any

from numpy import bool_ as bool
from numpy import float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64

from flowgraph import errors
from flowgraph import keras as keras
from flowgraph.graph import Graph, interpret
from flowgraph.op import OPS, Call, Monoid, define
from flowgraph.ops import random
from flowgraph.ops.create import asarray, cast, constant, from_blocks, ones_like, zeros_like
from flowgraph.ops.elementwise import (
    abs,
    add,
    astype,
    divide,
    equal,
    exp,
    expm1,
    greater,
    greater_equal,
    isfinite,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    relu,
    sigmoid,
    sign,
    softplus,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from flowgraph.ops.linalg import matmul
from flowgraph.ops.random import set_seed
from flowgraph.ops.reduce import logsumexp, max, mean, min, softmax, std, sum, var
from flowgraph.ops.shape import (
    arange,
    broadcast_to,
    concat,
    expand_dims,
    full,
    ones,
    reshape,
    size,
    squeeze,
    transpose,
    zeros,
)
from flowgraph.ops.shard import shard
from flowgraph.program import Program
from flowgraph.reverse import GradientTape, grad, gradient, value_and_grad
from flowgraph.session import Variable, function
from flowgraph.tensor import Tensor
from flowgraph.train import History, fit

# TensorFlow's spellings.
reduce_sum, reduce_mean, reduce_max, reduce_min = sum, mean, max, min
reduce_std, reduce_variance, reduce_logsumexp = std, var, logsumexp


def __getattr__(name: str) -> _Any:
    """The version, looked up when it is asked for: reading a package's metadata takes as long as importing numpy."""
    if name == "__version__":
        from importlib.metadata import version

        return version("flowgraph")
    raise AttributeError(f"module 'flowgraph' has no attribute {name!r}")
