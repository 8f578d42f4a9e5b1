"""flowgraph: tensor graphs with automatic gradients on Dask.

>>> import flowgraph as fg
>>> x = fg.Variable(3.0)
>>> with fg.GradientTape() as tape:
...     y = x * x
>>> float(tape.gradient(y, x))
6.0
"""

from contextlib import nullcontext as _nullcontext
from importlib import import_module as _import_module
from sys import modules as _modules
from typing import TYPE_CHECKING as _TYPE_CHECKING, Any as _Any

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
    errors as errors,
    fft as fft,
    linalg as linalg,
    math as math,
    nn as nn,
    random as random,
    spellings as _spellings,
)
from flowgraph.context import Hooks as _Hooks
from flowgraph.graph import interpret as interpret
from flowgraph.mesh import Mesh as Mesh
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
from flowgraph.ops.largest import *
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
from flowgraph.reverse import (
    ForwardAccumulator as ForwardAccumulator,
    GradientTape as GradientTape,
    UnconnectedGradients as UnconnectedGradients,
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
from flowgraph.state import Variable as Variable, function as function
from flowgraph.tensor import Tensor as Tensor

if _TYPE_CHECKING:
    from flowgraph import (
        collection as collection,
        compat as compat,
        keras as keras,
        planner as planner,
        session as session,
        train as train,
    )
    from flowgraph.data import read_csv as read_csv, read_parquet as read_parquet, read_zarr as read_zarr
    from flowgraph.exchange import (
        from_dask as from_dask,
        from_delayed as from_delayed,
        to_dask_arrays as to_dask_arrays,
    )
    from flowgraph.explain import Explanation as Explanation
    from flowgraph.planner import Plan as Plan, plan as plan
    from flowgraph.program import Program as Program
    from flowgraph.session import *
    from flowgraph.train import History as History, explain_fit as explain_fit, fit as fit
    from flowgraph.watch import Trace as Trace, tracing as tracing

_LATE_MODULES = ("collection", "compat", "keras", "planner", "session", "train")
"""Imported when they are first asked for, so that importing flowgraph stays quick."""
_LATE = {
    name: module
    for module, names in {
        "data": ("read_csv", "read_parquet", "read_zarr"),
        "exchange": ("from_dask", "from_delayed", "to_dask_arrays"),
        "explain": ("Explanation",),
        "planner": ("Plan", "plan"),
        "program": ("Program",),
        "train": ("History", "explain_fit", "fit"),
        "watch": ("Trace", "tracing"),
    }.items()
    for name in names
}
"""Names that are, and the modules that they are of."""

_spellings.take(_modules[__name__])


def _late_hook(room: str, name: str) -> _Any:
    """A hook that imports a room, which puts its own function in the place of this one; then it calls that."""

    def call(*wanted: _Any, **options: _Any) -> _Any:
        _import_module(f"flowgraph.{room}")
        return getattr(_Hooks, name)(*wanted, **options)

    return call


class _LateCollection:
    """The functions of the room `collection`, imported when the first of them is wanted."""

    def __getattr__(self, name: str) -> _Any:
        return getattr(_import_module("flowgraph.collection"), name)


def _placed(*wanted: _Any) -> _Any:
    """The context in which to train; only a cluster needs one, so that the planner is seldom imported."""
    if "distributed" not in _modules:
        return _nullcontext()
    return _import_module("flowgraph.planner").placed(*wanted)


# Until the first value is asked for, nothing is needed of the rooms that compute it.
_Hooks.evaluate = _late_hook("eager", "evaluate")
_Hooks.replaced = _late_hook("pinned", "replaced")
_Hooks.collection = _LateCollection()
_Hooks.source = _late_hook("exchange", "source")
_Hooks.to_dask_array = _late_hook("exchange", "to_dask_array")
_Hooks.explain = _late_hook("explain", "explain")
_Hooks.placed = staticmethod(_placed)


__array_api_version__ = "2024.12"
"""The version of the Python array API standard that this namespace follows."""


def __getattr__(name: str) -> _Any:
    """What is made when it is first asked for: TensorFlow's spellings, sessions, training, and the version.

    Reading a package's metadata takes as long as importing numpy.
    """
    if name in _LATE_MODULES:
        return _import_module(f"flowgraph.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("flowgraph")
    found = _late(name)
    globals()[name] = found
    return found


def _late(name: str) -> _Any:
    if name in _LATE:
        return getattr(_import_module(f"flowgraph.{_LATE[name]}"), name)
    if not name.startswith("_"):
        if _spellings.has(name):
            return _spellings.find(name)
        session = _import_module("flowgraph.session")
        if name in session.__all__:
            return getattr(session, name)
    raise AttributeError(f"module 'flowgraph' has no attribute {name!r}")


def __dir__() -> list[str]:
    late = _import_module("flowgraph.session").__all__
    return sorted({*globals(), *_LATE_MODULES, *late, *_LATE, *_spellings.names()})
