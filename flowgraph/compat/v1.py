"""TensorFlow 1: `import flowgraph.compat.v1 as tf`, then `tf.disable_v2_behavior()` or `with tf.Graph().as_default():`.

Every public name of flowgraph is here as well. Functions take `name=`, the name of the operation whose result they
return, and reductions take the argument names of TensorFlow 1.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any

from flowgraph import spellings
from flowgraph.ops import random
from flowgraph.ops.differentiate import identity
from flowgraph.session.building import to_double, to_float, to_int32, to_int64
from flowgraph.session.default_graph import disable_eager_execution, enable_eager_execution, graph_here
from flowgraph.session.initializers import glorot_normal_initializer, glorot_uniform_initializer
from flowgraph.tensor import Tensor

disable_v2_behavior = disable_eager_execution
enable_v2_behavior = enable_eager_execution

__all__ = ["disable_v2_behavior", "enable_v2_behavior", "to_double", "to_float", "to_int32", "to_int64"]


def __getattr__(name: str) -> Any:
    """A public name of flowgraph with the arguments of TensorFlow 1, made when it is first asked for."""
    try:
        found = _named(_OLD[name]) if name in _OLD else getattr(_NAMES, name)
    except AttributeError:
        raise AttributeError(f"module 'flowgraph.compat.v1' has no attribute {name!r}") from None
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_OLD, *dir(_NAMES)})


def _named(function: Any) -> Any:
    """`function`, which takes `name=`; other things, and functions that do already, as they are."""
    if not isinstance(function, FunctionType):
        return function
    aliased = function.__module__.startswith((spellings.__name__, "flowgraph.compat"))  # their names say nothing
    if "name" in inspect.signature(function).parameters and not aliased:
        return function

    @functools.wraps(function)
    def call(*args: Any, name: str | None = None, **kwargs: Any) -> Any:
        graph = graph_here() if name is not None else None
        if graph is None or name is None:
            return function(*args, **kwargs)
        count = len(graph.get_operations())
        return _labelled(function(*args, **kwargs), name, graph.get_operations()[count:])

    return call


def _labelled(result: Any, name: str, made: list[Any]) -> Any:
    """`result` under `name`: its own operation where it was just made, else another one."""
    if not isinstance(result, Tensor):
        return result
    owner = getattr(result.node, "owner", None)
    if owner is None or owner not in made:
        return identity(result, name=name)
    owner.graph.label(owner, name)
    return result


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction with the argument names of TensorFlow 1."""
    named = _named(function)

    @functools.wraps(function)
    def call(
        input_tensor: Any,
        axis: Any = None,
        keepdims: Any = None,
        name: str | None = None,
        reduction_indices: Any = None,
        keep_dims: Any = None,
    ) -> Any:
        axes = axis if axis is not None else reduction_indices
        keep = bool(keepdims if keepdims is not None else keep_dims)
        labels = {} if name is None else {"name": name}
        return named(input_tensor, axis=axes, keepdims=keep, **labels)

    return call


@functools.cache
def _with_old_arguments(full: str, found: Any) -> Any:
    return _reduction(found) if full.rpartition(".")[2].startswith("reduce_") else _named(found)


_NAMES = spellings.Namespace("", _with_old_arguments)


def _random_uniform(
    shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = "float32", seed: int | None = None
) -> Tensor:
    """Uniform random numbers, as `random.uniform`."""
    return random.uniform(shape, minval, maxval, dtype, seed)


def _random_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = "float32", seed: int | None = None
) -> Tensor:
    """Normal random numbers, as `random.normal`."""
    return random.normal(shape, mean, stddev, dtype, seed)


_OLD: dict[str, Any] = {
    "random_uniform": _random_uniform,
    "random_normal": _random_normal,
    "initializers": SimpleNamespace(
        glorot_uniform=glorot_uniform_initializer,
        glorot_normal=glorot_normal_initializer,
    ),
}
"""What TensorFlow 1 calls by another name."""
