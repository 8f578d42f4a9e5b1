"""What programs for TensorFlow 1 build graphs with: placeholders, order, groups, gradients, collections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from flowgraph import tree
from flowgraph.apply import convert
from flowgraph.errors import ShapeError, UsageError
from flowgraph.graph import make_input, toposort
from flowgraph.ops.create import cast
from flowgraph.ops.differentiate import identity
from flowgraph.reverse import gradient_along
from flowgraph.session.default_graph import building, get_default_graph, graph_here
from flowgraph.session.graph_variable import GraphKeys, GraphVariable
from flowgraph.session.graphs import Graph
from flowgraph.session.operation import Operation
from flowgraph.state.variable import Variable
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import Dim, Size, as_dtype, tensor_type

# Placeholders.


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor whose value is given when a run begins (`feed_dict`).

    None in `shape` leaves a length open: it may differ from run to run, and operations that take it and another length
    for one see to it that they agree. Without a shape it is a scalar, or what is fed where it is only used element by
    element and in reductions over all axes, and no gradient is asked for.

    >>> import flowgraph as fg
    >>> with fg.Graph().as_default(), fg.Session() as session:
    ...     x = fg.placeholder(fg.float32, shape=[None, 2])
    ...     session.run(fg.sum(x), {x: [[1, 2], [3, 4], [5, 6]]}).item()
    21.0
    """
    graph = building("a placeholder")
    kind = np.float32 if isinstance(dtype, str) and dtype == "float" else dtype  # numpy means another number by it
    leaf = make_input(tensor_type(_open_shape(() if shape is None else shape, name), as_dtype(kind)), "data")
    operation = graph.adopt(leaf, "placeholder")
    operation.unranked = shape is None
    if name is not None:
        graph.label(operation, name)
    return tensor_of(leaf)


def _open_shape(shape: Any, name: str | None) -> tuple[Size, ...]:
    """`shape` with a new Dim for each None."""
    lengths: list[Size] = []
    for axis, length in enumerate(shape if isinstance(shape, Iterable) else (shape,)):
        if length is None or isinstance(length, Dim):
            lengths.append(Dim(f"{name or 'placeholder'}.{axis}"))
        elif isinstance(length, bool) or not isinstance(length, int | np.integer) or length < 0:
            raise UsageError(
                f"a placeholder of shape {shape}", f"{length!r} is no length", "A length is an int from 0 on, or None."
            )
        else:
            lengths.append(int(length))
    return tuple(lengths)


def placeholder_with_default(input: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor that is `input` unless another value is fed for it, of the shape of `input`."""
    graph = building("a placeholder")
    given = convert(input)
    if shape is not None:
        wanted = tuple(shape)
        fits = len(wanted) == given.ndim and all(a in (None, b) for a, b in zip(wanted, given.shape, strict=True))
        if not fits:
            raise ShapeError(
                f"a placeholder of shape {wanted}", f"its default is {given.type}", "Give a default of that shape."
            )
    result: Tensor = identity(given)
    result.op.kind = "placeholder_with_default"
    if name is not None:
        graph.label(result.op, name)
    return result


# Order.


@contextmanager
def control_dependencies(control_inputs: Iterable[Any] | None) -> Iterator[None]:
    """A context whose operations run after `control_inputs`, and whose reads of variables see what these assign.

    In eager mode, where everything runs in the order in which it is written, it does nothing.
    """
    graph = graph_here()
    with nullcontext() if graph is None else graph.control_dependencies(control_inputs):
        yield


def group(*inputs: Any, name: str | None = None) -> Operation:
    """An operation without a result that runs all of `inputs` (tensors, operations, or structures of them)."""
    graph = building("a group of operations")
    operation = graph.no_op([one for one in tree.flatten(list(inputs)) if one is not None])
    graph.label(operation, name if name is not None else "group_deps")
    return operation


def no_op(name: str | None = None) -> Operation:
    """An operation that does nothing but run after its control dependencies."""
    operation = building("an operation").no_op()
    if name is not None:
        operation.graph.label(operation, name)
    return operation


def tuple_of(tensors: Sequence[Any], name: str | None = None, control_inputs: Iterable[Any] | None = None) -> list[Any]:
    """`tensors` once more, each known only after all of them (and `control_inputs`) were run; None stays None."""
    graph = building("a tuple of tensors")
    given = [one for one in tensors if one is not None]
    with graph.name_scope(name or "tuple"), graph.control_dependencies([*given, *(control_inputs or ())]):
        return [None if one is None else identity(convert(one)) for one in tensors]


@contextmanager
def name_scope(name: str | None, default_name: str | None = None, values: Any = None) -> Iterator[str]:
    """A context in which names of operations begin with `name` (`default_name` if None) and a slash."""
    graph = graph_here()
    chosen = name if name is not None else default_name
    if graph is None:
        yield f"{chosen}/" if chosen else ""
    else:
        with graph.name_scope(chosen) as scope:
            yield scope


# Gradients.


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    unconnected_gradients: str = "none",
    stop_gradients: Any = None,
) -> list[Tensor | None]:
    """The gradients of the sum of `ys` by each of `xs`: a list, with None for what no y depends on.

    `grad_ys` weighs the elements of `ys`. `stop_gradients` are taken for constants. Variables may stand among `xs`:
    every read of them counts.

    >>> import flowgraph as fg
    >>> with fg.Graph().as_default(), fg.Session() as session:
    ...     x = fg.placeholder(fg.float32, [])
    ...     (slope,) = fg.gradients(x * x, x)
    ...     float(session.run(slope, {x: 3.0}))
    6.0
    """
    targets, sources = (tree.flatten(one) for one in (ys, xs))
    graph = _graph_of([*targets, *sources])
    here = graph.here
    derived, here.derived = here.derived, True
    try:
        with graph.building(), graph.name_scope(name or "gradients"):
            tensors = [convert(one) for one in targets]
            nodes = [
                [one.leaf, *one.reads] if isinstance(one, GraphVariable) else [convert(one).node] for one in sources
            ]
            stops = tree.flatten(stop_gradients or [])
            cut = {(one._read() if isinstance(one, Variable) else convert(one)).node for one in stops}
            for one in sources:  # a gradient ends where a variable is read, even if it was assigned before
                cut.update(one.reads if isinstance(one, GraphVariable) else ())
            records = [(node, node.inputs) for node in toposort([one.node for one in tensors]) if node not in cut]
            return gradient_along(records, tensors, nodes, grad_ys, unconnected_gradients)
    finally:
        here.derived = derived


def _graph_of(given: Sequence[Any]) -> Graph:
    """The graph that tensors and variables belong to."""
    for one in given:
        owner = one.op if isinstance(one, GraphVariable) else getattr(getattr(one, "node", None), "owner", None)
        if owner is not None:
            return owner.graph  # type: ignore[no-any-return]
    return building("gradients")


# Variables.


def assign(ref: Any, value: Any, use_locking: Any = None, name: str | None = None) -> Any:
    """`ref.assign(value)`: in a graph the operation, as the tensor of the new value."""
    return ref.assign(value, use_locking, name) if isinstance(ref, GraphVariable) else _variable(ref).assign(value)


def assign_add(ref: Any, value: Any, use_locking: Any = None, name: str | None = None) -> Any:
    """`ref.assign_add(value)`: in a graph the operation, as the tensor of the new value."""
    if isinstance(ref, GraphVariable):
        return ref.assign_add(value, use_locking, name)
    return _variable(ref).assign_add(value)


def assign_sub(ref: Any, value: Any, use_locking: Any = None, name: str | None = None) -> Any:
    """`ref.assign_sub(value)`: in a graph the operation, as the tensor of the new value."""
    if isinstance(ref, GraphVariable):
        return ref.assign_sub(value, use_locking, name)
    return _variable(ref).assign_sub(value)


def _variable(ref: Any) -> Variable:
    if not isinstance(ref, Variable):
        raise UsageError(f"to assign to {ref!r:.200}", "it is no variable", "Give a variable.")
    return ref


def global_variables(scope: str | None = None) -> list[GraphVariable]:
    """The variables of the default graph that are state of the model or its training."""
    return get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


def local_variables(scope: str | None = None) -> list[GraphVariable]:
    """The variables of the default graph in the collection of local ones."""
    return get_default_graph().get_collection(GraphKeys.LOCAL_VARIABLES, scope)


def trainable_variables(scope: str | None = None) -> list[GraphVariable]:
    """The variables of the default graph that optimizers change."""
    return get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def variables_initializer(var_list: Sequence[GraphVariable], name: str = "init") -> Operation:
    """The operation that gives each of `var_list` its initial value."""
    graph = building("an initializer")
    with graph.control_dependencies(None):
        return group(*[one.initializer for one in var_list], name=name)


def global_variables_initializer() -> Operation:
    """The operation that gives each global variable that there is by now its initial value."""
    return variables_initializer(global_variables())


def local_variables_initializer() -> Operation:
    """The operation that gives each local variable that there is by now its initial value."""
    return variables_initializer(local_variables())


# Collections and the default graph.


def add_to_collection(name: Any, value: Any) -> None:
    """Add `value` to the list of the default graph that is called `name`."""
    get_default_graph().add_to_collection(name, value)


def get_collection(key: Any, scope: str | None = None) -> list[Any]:
    """A copy of the list of the default graph that is called `key`."""
    return get_default_graph().get_collection(key, scope)


def get_collection_ref(key: Any) -> list[Any]:
    """The list of the default graph that is called `key`, itself."""
    return get_default_graph().get_collection_ref(key)


def set_random_seed(seed: int) -> None:
    """Make the draws of the default graph repeatable: those of a new session are the same ones again."""
    get_default_graph().seed = int(seed)


def to_float(x: Any, name: str | None = None) -> Tensor:
    """`x` as float32."""
    return _named(cast(x, np.float32), name)


def to_double(x: Any, name: str | None = None) -> Tensor:
    """`x` as float64."""
    return _named(cast(x, np.float64), name)


def to_int32(x: Any, name: str | None = None) -> Tensor:
    """`x` as int32."""
    return _named(cast(x, np.int32), name)


def to_int64(x: Any, name: str | None = None) -> Tensor:
    """`x` as int64."""
    return _named(cast(x, np.int64), name)


def _named(result: Tensor, name: str | None) -> Tensor:
    owner = getattr(result.node, "owner", None)
    if name is not None and owner is not None:
        owner.graph.label(owner, name)
    return result
