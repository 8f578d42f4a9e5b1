"""A training step as a program: batch and state in, loss and new state out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from flowgraph.eager import compiled
from flowgraph.errors import GradientError, ShapeError, UsageError
from flowgraph.graph import Graph, Node, make_input, toposort
from flowgraph.kernel import Kernel
from flowgraph.partition import MESHES
from flowgraph.reverse import gradient
from flowgraph.session import Trace, Variable, trace_into
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.train.optimizers import STEP_TYPE, Optimizer, pack, unpack
from flowgraph.types import TensorType, is_float, tensor_type


@dataclass(frozen=True)
class Group:
    """Variables of one dtype, packed into one flat vector with their slots."""

    variables: tuple[Variable, ...]
    slots: dict[str, Variable]

    def pack(self) -> np.ndarray[Any, Any]:
        """The values of the variables as one vector."""
        return np.concatenate([v.numpy().reshape(-1) for v in self.variables])

    def unpack(self, flat: np.ndarray[Any, Any]) -> None:
        """Set the variables from a vector."""
        start = 0
        for variable in self.variables:
            count = math.prod(variable.shape)
            variable.set(flat[start : start + count].reshape(variable.shape).copy())
            start += count


class Step:
    """The program of one training step for batches of given types.

    Its inputs are the batch, then the state (for each group the packed parameters and slots; the step counter), then
    what the loss takes from outside. Its outputs are the loss and the new state.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        batch: Sequence[TensorType],
        variables: Sequence[Variable],
        optimizer: Optimizer,
    ) -> None:
        self.groups = _groups(variables, optimizer)
        self.optimizer = optimizer
        rows = MESHES[0]
        self.batch = [make_input(tensor_type((rows, *one.shape[1:]), one.dtype), "data", "batch") for one in batch]
        trace, states, params = Trace(), [], []
        for group in self.groups:
            types = [v.type for v in group.variables]
            flat = tensor_type((sum(math.prod(t.shape) for t in types),), types[0].dtype)  # type: ignore[misc]
            own = [make_input(flat, "variable", name) for name in ("parameters", *group.slots)]
            states.append(own)
            views = unpack(tensor_of(own[0]), types)
            params.append(views)
            for variable, view in zip(group.variables, views, strict=True):
                trace.bind(variable, view.node)
        self.counter = make_input(STEP_TYPE, "variable", "step")
        with trace_into(trace):
            value = self._loss(loss, [tensor_of(one) for one in self.batch])
            updates = self._updates(value, states, params)
        if trace.updates():
            names = ", ".join(v.name for v in trace.updates())
            raise UsageError(f"a loss that assigns {names}", "a step changes only what the optimizer trains", "Assign outside.")
        self.trace = trace
        self.states = [*(leaf for own in states for leaf in own), self.counter]
        self.outputs = [value.node, *updates]
        self._close()

    def _loss(self, loss: Callable[..., Any], batch: Sequence[Tensor]) -> Tensor:
        value = loss(*batch)
        if not isinstance(value, Tensor) or value.shape != () or not is_float(value.dtype):
            found = f"{value.type}" if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError("to train on a loss", f"it returned {found}, not a real scalar", "Return a mean or a sum.")
        return value

    def _updates(self, value: Tensor, states: Sequence[Sequence[Node]], params: Sequence[Sequence[Tensor]]) -> list[Node]:
        """The nodes of the new state."""
        grads = iter(gradient(value, [view for views in params for view in views]))
        step = tensor_of(self.counter)
        new: list[Node] = []
        for group, own, views in zip(self.groups, states, params, strict=True):
            given = [next(grads) for _ in views]
            for variable, g in zip(group.variables, given, strict=True):
                if g is None:
                    raise GradientError(
                        f"to train the variable {variable.name!r}",
                        "the loss does not depend on it",
                        "Leave it out of `variables`, or use it in the loss.",
                    )
            slots = dict(zip(group.slots, map(tensor_of, own[1:]), strict=True))
            moved, moved_slots = self.optimizer.rule(tensor_of(own[0]), pack(given), slots, step)
            new += [moved.node, *(moved_slots[name].node for name in group.slots)]
        return [*new, (step + 1).node]

    def _close(self) -> None:
        """Make what the loss takes from outside inputs too, and compile."""
        own = {*self.batch, *self.states}
        others = [
            node
            for node in toposort(self.outputs, stop=lambda n: n in own or _known(n))
            if node not in own and (_known(node) or node.is_leaf)
        ]
        self.captured = others
        stand_ins: dict[Node, Node] = {}
        for node in others:
            kind = node.attr("kind") if node.is_leaf else "data"
            stand_ins[node] = Node(self.batch[0].op if self.batch else self.counter.op, (), (("kind", kind), ("name", "")), node.types)
        new: dict[Node, Node] = {**{node: node for node in own}, **stand_ins}
        for node in toposort(self.outputs, stop=lambda n: n in new):
            if node not in new:
                new[node] = Node(node.op, tuple([new[one] for one in node.inputs]), node.attrs, node.types, node.where)
        inputs = (*self.batch, *self.states, *(stand_ins[node] for node in others))
        self.entry = compiled(Graph(inputs, tuple(new[node] for node in self.outputs)))
        self.program = self.entry.program

    def captured_values(self) -> list[Any]:
        """What the loss takes from outside: data in closures, variables that are not trained."""
        by_leaf = {leaf: variable for variable, leaf in self.trace.variables.items()}
        return [by_leaf[node].numpy() if node in by_leaf else node.memo for node in self.captured]

    def state_values(self) -> list[Any]:
        """The state as it is in the variables and the optimizer."""
        values: list[Any] = []
        for group in self.groups:
            values += [group.pack(), *(slot.numpy() for slot in group.slots.values())]
        return [*values, self.optimizer.iterations.numpy()]

    def commit(self, state: Sequence[Any]) -> None:
        """Write a state into the variables and the optimizer."""
        rest = iter(state)
        for group in self.groups:
            group.unpack(next(rest))
            for slot in group.slots.values():
                slot.set(next(rest))
        self.optimizer.iterations.set(np.asarray(next(rest)))

    @cached_property
    def batch_meshes(self) -> tuple[str, ...]:
        """The mesh axes of the batch's rows."""
        inputs = self.program.parts.graph.inputs[: len(self.batch)]
        return tuple(dict.fromkeys(m for node in inputs if (m := self.program.parts.mesh(node)) is not None))

    @cached_property
    def window(self) -> Kernel:
        """The kernel of many steps, each on a batch of its own that fits one tile."""
        return self._window(self.batch_meshes)

    @cached_property
    def full_window(self) -> Kernel:
        """The kernel of many steps that all see the same rows."""
        return self._window(())

    def _window(self, meshes: Sequence[str]) -> Kernel:
        return self.program.emitter.window([self.program.outputs[0]], self.updates, meshes)

    @cached_property
    def updates(self) -> dict[Node, Node]:
        """For each input of the program that is state, the output that is its next value."""
        first = len(self.batch)
        inputs = self.program.parts.graph.inputs[first : first + len(self.states)]
        return dict(zip(inputs, self.program.outputs[1:], strict=True))


def _known(node: Node) -> bool:
    return node.memo is not None and node.op.name != "constant"


def _groups(variables: Sequence[Variable], optimizer: Optimizer) -> list[Group]:
    """The variables by dtype, in the order of their first appearance."""
    by_dtype: dict[Any, list[Variable]] = {}
    for variable in variables:
        if not isinstance(variable, Variable) or not is_float(variable.dtype):
            raise UsageError(f"to train {variable!r}", "it is no variable of real numbers", "Give a list of fg.Variable.")
        by_dtype.setdefault(variable.dtype, []).append(variable)
    if not by_dtype:
        raise UsageError("to train no variables", "the list is empty", "Give variables=[...].")
    return [Group(tuple(own), optimizer.slots(own)) for own in by_dtype.values()]
