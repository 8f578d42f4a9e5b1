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
from flowgraph.ops.activations import *
from flowgraph.ops.complex import *
from flowgraph.ops.create import *
from flowgraph.ops.decompositions import *
from flowgraph.ops.differentiate import *
from flowgraph.ops.einsum import *
from flowgraph.ops.elementwise import *
from flowgraph.ops.gather import *
from flowgraph.ops.linalg import *
from flowgraph.ops.loops import *
from flowgraph.ops.nn import *
from flowgraph.ops.random import set_seed as set_seed
from flowgraph.ops.rearrange import *
from flowgraph.ops.reduce import *
from flowgraph.ops.rounding import *
from flowgraph.ops.scanning import *
from flowgraph.ops.shape import *
from flowgraph.ops.shard import *
from flowgraph.ops.sorting import *
from flowgraph.ops.special import *
from flowgraph.ops.trig import *
from flowgraph.program import Program as Program
from flowgraph.reverse import (
    ForwardAccumulator as ForwardAccumulator,
    GradientTape as GradientTape,
    grad as grad,
    gradient as gradient,
    hessian as hessian,
    hvp as hvp,
    jacobian as jacobian,
    jvp as jvp,
    value_and_grad as value_and_grad,
    vjp as vjp,
    vmap as vmap,
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
