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
    complex64 as complex64,
    complex128 as complex128,
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

from flowgraph import (
    collection as collection,
    compat as compat,
    errors as errors,
    fft as fft,
    keras as keras,
    linalg as linalg,
    math as math,
    nn as nn,
    random as random,
    spellings as _spellings,
    train as train,
)
from flowgraph.graph import interpret as interpret
from flowgraph.op import OPS as OPS, Call as Call, Carry as Carry, Monoid as Monoid, define as define
from flowgraph.ops.activations import *
from flowgraph.ops.comparison import *
from flowgraph.ops.complex import *
from flowgraph.ops.create import *
from flowgraph.ops.decompositions import *
from flowgraph.ops.differentiate import *
from flowgraph.ops.dtypes import *
from flowgraph.ops.einsum import *
from flowgraph.ops.elementwise import *
from flowgraph.ops.exponential import *
from flowgraph.ops.gather import *
from flowgraph.ops.interchange import *
from flowgraph.ops.linalg import *
from flowgraph.ops.loops import *
from flowgraph.ops.matrices import *
from flowgraph.ops.nn import *
from flowgraph.ops.norms import *
from flowgraph.ops.quantiles import *
from flowgraph.ops.random import set_seed as set_seed
from flowgraph.ops.rearrange import *
from flowgraph.ops.reduce import *
from flowgraph.ops.rounding import *
from flowgraph.ops.scanning import *
from flowgraph.ops.segments import *
from flowgraph.ops.sets import *
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
from flowgraph.session import Session as Session, Variable as Variable, function as function
from flowgraph.session.building import (
    add_to_collection as add_to_collection,
    assign as assign,
    assign_add as assign_add,
    assign_sub as assign_sub,
    control_dependencies as control_dependencies,
    get_collection as get_collection,
    get_collection_ref as get_collection_ref,
    global_variables as global_variables,
    global_variables_initializer as global_variables_initializer,
    gradients as gradients,
    group as group,
    local_variables as local_variables,
    local_variables_initializer as local_variables_initializer,
    name_scope as name_scope,
    no_op as no_op,
    placeholder as placeholder,
    placeholder_with_default as placeholder_with_default,
    set_random_seed as set_random_seed,
    trainable_variables as trainable_variables,
    tuple_of as _tuple_of,
    variables_initializer as variables_initializer,
)
from flowgraph.session.default_graph import (
    disable_eager_execution as disable_eager_execution,
    enable_eager_execution as enable_eager_execution,
    executing_eagerly as executing_eagerly,
    get_default_graph as get_default_graph,
    init_scope as init_scope,
    reset_default_graph as reset_default_graph,
)
from flowgraph.session.graph_variable import GraphKeys as GraphKeys
from flowgraph.session.graphs import Graph as Graph
from flowgraph.session.initializers import (
    constant_initializer as constant_initializer,
    glorot_normal_initializer as glorot_normal_initializer,
    glorot_uniform_initializer as glorot_uniform_initializer,
    ones_initializer as ones_initializer,
    random_normal_initializer as random_normal_initializer,
    random_uniform_initializer as random_uniform_initializer,
    zeros_initializer as zeros_initializer,
)
from flowgraph.session.operation import Operation as Operation
from flowgraph.session.session import (
    InteractiveSession as InteractiveSession,
    get_default_session as get_default_session,
)
from flowgraph.session.variable_scope import (
    AUTO_REUSE as AUTO_REUSE,
    get_variable as get_variable,
    get_variable_scope as get_variable_scope,
    variable_scope as variable_scope,
)
from flowgraph.tensor import Tensor as Tensor
from flowgraph.train import History as History, fit as fit

tuple = _tuple_of

_spellings.take(globals())
globals().update({name: _spellings.find(name) for name in _spellings.WIDER})
compat.v1.take(globals())  # it has all names, with the arguments of TensorFlow 1


__array_api_version__ = "2024.12"
"""The version of the Python array API standard that this namespace follows."""


def __getattr__(name: str) -> _Any:
    """TensorFlow's spellings and the version, which are looked up when they are asked for.

    Reading a package's metadata takes as long as importing numpy.
    """
    if name in _spellings.TABLE:
        return _spellings.find(name)
    if name == "__version__":
        from importlib.metadata import version

        return version("flowgraph")
    raise AttributeError(f"module 'flowgraph' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_spellings.names()})
