"""Variables of deferred graphs: their values live in sessions, and reads and assignments are operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.context import ACTIVE, Hooks
from flowgraph.errors import ShapeError, UsageError
from flowgraph.graph import Node, make_input
from flowgraph.leaves import as_array
from flowgraph.session.graphs import Graph
from flowgraph.session.operation import Operation
from flowgraph.state.variable import Variable
from flowgraph.tensor import Tensor, shape_text, tensor_of
from flowgraph.types import Dim, as_dtype, tensor_type


class GraphKeys:
    """The names of collections that the library itself fills."""

    GLOBAL_VARIABLES = "variables"
    LOCAL_VARIABLES = "local_variables"
    TRAINABLE_VARIABLES = "trainable_variables"
    GLOBAL_STEP = "global_step"
    LOSSES = "losses"
    REGULARIZATION_LOSSES = "regularization_losses"
    TRAIN_OP = "train_op"
    UPDATE_OPS = "update_ops"
    SUMMARIES = "summaries"


class GraphVariable(Variable):
    """What `Variable` makes while a graph is built: state that every session has for itself.

    It has a value in a session after its `initializer` ran there. `collections` are the lists of the graph that it
    enters, GraphKeys.GLOBAL_VARIABLES if not given; a trainable one enters GraphKeys.TRAINABLE_VARIABLES as well.
    """

    def __init__(
        self,
        initial_value: Any,
        trainable: Any = True,
        name: str | None = None,
        dtype: Any = None,
        shape: Any = None,
        collections: Sequence[Any] | None = None,
    ) -> None:
        if not isinstance(trainable, bool | np.bool_):
            trainable, dtype = True, trainable if dtype is None else dtype
        graph: Graph = ACTIVE.traces[-1]
        self.graph = graph
        self.reads: list[Node] = []
        """The nodes that read it after something else was run."""
        self.trainable = bool(trainable)
        scope = graph.here.scope
        wanted = name if name is not None else "Variable"
        full = wanted[:-1] if wanted.endswith("/") else graph.unique_name(scope + wanted)
        self.name = f"{full}:0"
        with graph.control_dependencies(None), graph.name_scope(f"{full}/"):
            value = _initial(initial_value, dtype)
            self._check_shape(value, shape)
            self.type = tensor_type(value.shape, value.dtype)
            self._node, self._handle = make_input(self.type, "variable", full), None
            self.op: Operation = graph.adopt(self._node, "VariableV2")
            self.op.wanted, self.op.variable = f"{full}/", self
            self._start(value)
        for key in dict.fromkeys(collections if collections is not None else [GraphKeys.GLOBAL_VARIABLES]):
            graph.add_to_collection(key, self)
        if self.trainable:
            graph.add_to_collection(GraphKeys.TRAINABLE_VARIABLES, self)

    def _check_shape(self, value: Tensor, shape: Any) -> None:
        asked = f"the variable {self.name!r} of shape {value.shape}"
        if any(isinstance(length, Dim) for length in value.shape):
            raise ShapeError(asked, "its initial value has a length that is known in a run only", "Give it a number.")
        if shape is not None and tuple(shape) != value.shape:
            raise ShapeError(asked, f"the shape {tuple(shape)} was asked for", "Make them agree.")

    def _start(self, value: Tensor) -> None:
        self.initial_value = value
        """What the initializer assigns."""
        self.initializer: Operation = self.graph.assign(self, value.node, "Assign").op
        """The operation that gives it its initial value."""

    @property
    def leaf(self) -> Node:
        """The node of its value at the start of a run."""
        return self._node

    def assign(self, value: Any, use_locking: Any = None, name: str | None = None, read_value: bool = True) -> Any:
        """The operation that replaces the value, as the tensor of the new one; without `read_value` as an operation.

        Runs of one session that assign variables follow one another, with `use_locking` and without.
        """
        with self.graph.building():
            new = self._checked(value)
            result = self.graph.assign(self, new.node, name or "Assign")
        return result if read_value else result.op

    def assign_add(self, delta: Any, use_locking: Any = None, name: str | None = None, read_value: bool = True) -> Any:
        """The operation that adds `delta` to the value; see `assign`."""
        with self.graph.building():
            return self.assign(self.value() + delta, use_locking, name or "AssignAdd", read_value)

    def assign_sub(self, delta: Any, use_locking: Any = None, name: str | None = None, read_value: bool = True) -> Any:
        """The operation that subtracts `delta` from the value; see `assign`."""
        with self.graph.building():
            return self.assign(self.value() - delta, use_locking, name or "AssignSub", read_value)

    def set(self, array: np.ndarray[Any, Any]) -> None:
        """Make `array` the initial value."""
        with self.graph.building(), self.graph.control_dependencies(None):
            self._start(_initial(array, self.type.dtype))

    def eval(self, session: Any = None) -> Any:
        """The value in `session`, or in the default session."""
        return Hooks.graphs.evaluate(tensor_of(self._node), None, session)

    def load(self, value: Any, session: Any = None) -> None:
        """Make `value` the value in `session`, or in the default session."""
        Hooks.graphs.load(self, value, session)

    def __repr__(self) -> str:
        return f"<fg.Variable {self.name!r} shape={shape_text(self.shape)} dtype={self.dtype}>"

    def __reduce__(self) -> Any:
        raise UsageError(
            f"to pickle the variable {self.name!r}", "it is part of a graph", "Save its value, `session.run(variable)`."
        )


Graph.variable_class = GraphVariable


def _initial(value: Any, dtype: Any) -> Tensor:
    """An initial value as a tensor of the graph."""
    given = value() if callable(value) and not isinstance(value, Tensor | Variable) else value
    if isinstance(given, Tensor | Variable):
        tensor = convert(given)
    else:
        array = np.array(as_array(given, dtype), order="C")
        tensor = tensor_of(make_input(tensor_type(array.shape, array.dtype), value=array))
    wanted = tensor.dtype if dtype is None else as_dtype(dtype)
    return tensor if tensor.dtype == wanted else tensor.astype(wanted)
