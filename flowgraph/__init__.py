"""flowgraph: tensor graphs with automatic gradients on Dask.

>>> import flowgraph as fg
>>> x = fg.Variable(3.0)
>>> with fg.GradientTape() as tape:
...     y = x * x
>>> float(tape.gradient(y, x))
6.0
"""

from typing import Any as _Any

from numpy import (
    bool as bool,
    float32 as float32,
    float64 as float64,
    int8 as int8,
    int16 as int16,
    int32 as int32,
    int64 as int64,
    uint8 as uint8,
    uint16 as uint16,
    uint32 as uint32,
    uint64 as uint64,
)

from flowgraph import collection as collection, errors as errors, keras as keras
from flowgraph.graph import Graph as Graph, interpret as interpret
from flowgraph.op import OPS as OPS, Call as Call, Monoid as Monoid, define as define
from flowgraph.ops import random as random
from flowgraph.ops.create import (
    arange as arange,
    asarray as asarray,
    cast as cast,
    constant as constant,
    from_blocks as from_blocks,
    full as full,
    ones as ones,
    ones_like as ones_like,
    zeros as zeros,
    zeros_like as zeros_like,
)
from flowgraph.ops.elementwise import (
    abs as abs,
    add as add,
    astype as astype,
    bitwise_and as bitwise_and,
    bitwise_invert as bitwise_invert,
    bitwise_or as bitwise_or,
    bitwise_xor as bitwise_xor,
    divide as divide,
    equal as equal,
    exp as exp,
    expm1 as expm1,
    greater as greater,
    greater_equal as greater_equal,
    isfinite as isfinite,
    less as less,
    less_equal as less_equal,
    log as log,
    log1p as log1p,
    logical_and as logical_and,
    logical_not as logical_not,
    logical_or as logical_or,
    maximum as maximum,
    minimum as minimum,
    multiply as multiply,
    negative as negative,
    not_equal as not_equal,
    power as power,
    relu as relu,
    sigmoid as sigmoid,
    sign as sign,
    softplus as softplus,
    sqrt as sqrt,
    square as square,
    subtract as subtract,
    tanh as tanh,
    where as where,
)
from flowgraph.ops.linalg import matmul as matmul
from flowgraph.ops.random import set_seed as set_seed
from flowgraph.ops.reduce import (
    logsumexp as logsumexp,
    max as max,
    mean as mean,
    min as min,
    softmax as softmax,
    std as std,
    sum as sum,
    var as var,
)
from flowgraph.ops.shape import (
    broadcast_to as broadcast_to,
    concat as concat,
    expand_dims as expand_dims,
    reshape as reshape,
    size as size,
    squeeze as squeeze,
    transpose as transpose,
)
from flowgraph.ops.shard import shard as shard
from flowgraph.program import Program as Program
from flowgraph.reverse import (
    GradientTape as GradientTape,
    grad as grad,
    gradient as gradient,
    value_and_grad as value_and_grad,
)
from flowgraph.session import Variable as Variable, function as function
from flowgraph.tensor import Tensor as Tensor
from flowgraph.train import History as History, fit as fit

# TensorFlow's spellings.
reduce_sum, reduce_mean, reduce_max, reduce_min = sum, mean, max, min
reduce_std, reduce_variance, reduce_logsumexp = std, var, logsumexp


def __getattr__(name: str) -> _Any:
    """The version, looked up when it is asked for: reading a package's metadata takes as long as importing numpy."""
    if name == "__version__":
        from importlib.metadata import version

        return version("flowgraph")
    raise AttributeError(f"module 'flowgraph' has no attribute {name!r}")
