"""A training step as a program: batch and state in, loss and new state out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from flowgraph.context import inside_lane
from flowgraph.eager import Compiled, compiled
from flowgraph.errors import GradientError, ShapeError, UsageError
from flowgraph.graph import Graph, Node, lane_of, make_input
from flowgraph.kernel import Kernel, window
from flowgraph.leaves import scalar
from flowgraph.ops.shape import concat, reshape
from flowgraph.ops.shard import with_wishes
from flowgraph.partition import MESHES, even
from flowgraph.program import Program
from flowgraph.reverse import gradient
from flowgraph.state import Trace, Variable, is_drawn, trace_into, value_of
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.train.optimizers import STEP_TYPE, Optimizer, check_variables
from flowgraph.train.packing import count_of, pack, unpack
from flowgraph.types import TensorType, tensor_type

SLOTS = "slots"
"""The axis of the lanes in which pieces of a sharded state are updated."""


@dataclass(frozen=True)
class Group:
    """Variables of one dtype, packed into one flat vector with their slots; or a single one in its own shape.

    Or a single one as a flat vector in pieces, each of which is updated in a lane of its own: sharded state.
    """

    variables: tuple[Variable, ...]
    slots: dict[str, list[Variable]]
    """For each slot name, the slots of the variables."""
    packed: bool = True
    pieces: int = 1

    @property
    def type(self) -> TensorType:
        """The type of the vector."""
        types = [v.type for v in self.variables]
        return tensor_type((sum(map(count_of, types)),), types[0].dtype) if self.packed else types[0]

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """The (start, stop) of each piece of the vector."""
        return even(self.type.shape[0], 1, self.pieces)

    def inputs(self) -> list[list[Node]]:
        """New inputs for the parameters and for each slot: one for each piece."""
        types = [self.type]
        if self.pieces > 1:
            types = [tensor_type((stop - start,), self.type.dtype) for start, stop in self.bounds]
        return [[make_input(one, "variable", name) for one in types] for name in ("parameters", *self.slots)]

    def parts(self, vector: Tensor) -> list[Tensor]:
        """The pieces of a vector, each in its lane."""
        if self.pieces == 1:
            return [vector]
        result = []
        for number, (start, stop) in enumerate(self.bounds):
            with self.lane(number):
                result.append(vector[start:stop])
        return result

    def lane(self, number: int) -> Any:
        """A context in which tensors belong to the lane of a piece."""
        return inside_lane(((SLOTS, number),) if self.pieces > 1 else None)

    def unpack(self, vector: Tensor) -> list[Tensor]:
        """The variables of a vector."""
        return unpack(vector, [v.type for v in self.variables]) if self.packed else [vector]

    def pack(self, tensors: Sequence[Tensor]) -> Tensor:
        """The vector of tensors shaped like the variables."""
        return pack(tensors) if self.packed else tensors[0]

    def values(self) -> list[np.ndarray[Any, Any]]:
        """One vector of the variables, and one for each slot."""
        every = (self.variables, *self.slots.values())
        if not self.packed:
            return [own[0].numpy() for own in every]
        flat = [np.concatenate([v.numpy().reshape(-1) for v in own]) for own in every]
        return [one[start:stop] for one in flat for start, stop in self.bounds]

    def commit(self, vectors: Iterator[np.ndarray[Any, Any]]) -> None:
        """Set the variables and the slots from the next vectors."""
        for own in (self.variables, *self.slots.values()):
            pieces = [next(vectors).reshape(-1) for _ in range(self.pieces)]
            flat, start = pieces[0] if len(pieces) == 1 else np.concatenate(pieces), 0
            for variable in own:
                stop = start + count_of(variable.type)
                variable.set(flat[start:stop].reshape(variable.shape).copy())
                start = stop


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
        wishes: Sequence[Any] = (),
    ) -> None:
        self.optimizer = optimizer
        self.wishes = wishes or [()] * len(batch)
        rows = MESHES[0]
        self.batch = [make_input(tensor_type((rows, *one.shape[1:]), one.dtype), "data", "batch") for one in batch]
        self.counter = make_input(STEP_TYPE, "variable", "step")
        self.groups = _groups(variables, optimizer, packed=optimizer.pieces == 1)
        graph, keys = self._traced(loss)
        # What is cut or has a place of its own is packed with nothing else.
        if optimizer.pieces == 1 and is_spread(graph):
            self.groups = _groups(variables, optimizer, packed=False)
            graph, keys = self._traced(loss)
        first = len(self.batch)
        states = {1 + number: first + number for number in range(len(self.states))}
        self.graph = _drawn_anew(graph, keys, graph.inputs[first + len(states) - 1])
        """What a step computes, before it is compiled."""
        self.kept = states
        """For each output that is the next value of a state, the input that is its value."""

    @cached_property
    def entry(self) -> Compiled:
        """What runs a step, compiled when it is first asked for."""
        return compiled(self.graph, False, self.kept)  # not by parts: part of a batch would be part of all rows

    @property
    def program(self) -> Program:
        """The program of a step."""
        return self.entry.program

    def _traced(self, loss: Callable[..., Any]) -> tuple[Graph, list[Node]]:
        """The graph of a step, and the keys of its random draws; notes what the loss takes from outside."""
        trace, states, params = Trace(), [], []
        for group in self.groups:
            own = group.inputs()
            states.append(own)
            views = group.unpack(_joined(own[0]))
            params.append(views)
            for variable, view in zip(group.variables, views, strict=True):
                trace.bind(variable, view.node)
        with trace_into(trace):
            given = zip(map(tensor_of, self.batch), self.wishes, strict=True)
            value = self._loss(loss, [with_wishes(one, wishes) for one, wishes in given])
            updates = self._updates(value, states, params)
        if trace.updates():
            names = ", ".join(v.name for v in trace.updates())
            raise UsageError(
                f"a loss that assigns {names}", "a step changes only what the optimizer trains", "Assign outside."
            )
        self.states = [*(leaf for own in states for pieces in own for leaf in pieces), self.counter]
        trained = {v for group in self.groups for v in group.variables}
        read = {v: leaf for v, leaf in trace.variables.items() if v not in trained}
        known = [*self.batch, *self.states, *read.values()]
        graph, captured = trace.closed([value.node, *updates], known)
        self.read, self.captured = tuple(read), captured
        drawn = [leaf for leaf, node in zip(graph.inputs[len(known) :], captured, strict=True) if is_drawn(node)]
        return graph, drawn

    def _loss(self, loss: Callable[..., Any], batch: Sequence[Tensor]) -> Tensor:
        with inside_lane():  # a plan may move it on; the update is in the lane of what it updates
            value = loss(*batch)
        if not isinstance(value, Tensor) or value.shape != () or value.dtype.kind != "f":
            found = f"{value.type}" if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError("to train on a loss", f"it returned {found}, not a real scalar", "Return a mean or a sum.")
        return value

    def _updates(
        self, value: Tensor, states: Sequence[Sequence[Sequence[Node]]], params: Sequence[Sequence[Tensor]]
    ) -> list[Node]:
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
            moved: list[list[Node]] = [[] for _ in own]
            for number, (g, *state) in enumerate(zip(group.parts(group.pack(given)), *own, strict=True)):
                p, *rest = map(tensor_of, state)
                with group.lane(number):
                    to, slots = self.optimizer.rule(p, g, dict(zip(group.slots, rest, strict=True)), step)
                for kind, one in zip(moved, (to, *(slots[name] for name in group.slots)), strict=True):
                    kind.append(one.node)
            new += [one for kind in moved for one in kind]
        return [*new, (step + 1).node]

    def inputs(self) -> tuple[list[Any], list[Any]]:
        """What the program takes besides the batch: the state, and what the loss takes from outside.

        The state is as it is in the variables and the optimizer; from outside come variables that are not trained, and
        data in closures. Both are in the pieces of the program.
        """
        vectors = [vector for group in self.groups for vector in group.values()]
        state = [*vectors, self.optimizer.iterations.numpy()]
        outside = [*(variable.numpy() for variable in self.read), *map(value_of, self.captured)]
        every = self.program.parts_of([*[None] * len(self.batch), *state, *outside])[len(self.batch) :]
        return list(every[: len(self.updates)]), list(every[len(self.updates) :])

    def commit(self, state: Sequence[Any]) -> None:
        """Write a state into the variables and the optimizer."""
        rest = iter(self.program.whole_of([None, *state])[1:])
        for group in self.groups:
            group.commit(rest)
        self.optimizer.iterations.set(np.array(next(rest)))

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
        return window(self.program.emitter, [self.program.outputs[0]], self.updates, meshes)

    @cached_property
    def updates(self) -> dict[Node, Node]:
        """For each input of the program that is state, the output that is its next value."""
        first, new = len(self.batch), self.program.outputs[1:]
        return dict(zip(self.program.parts.graph.inputs[first : first + len(new)], new, strict=True))


def is_spread(graph: Graph) -> bool:
    """Whether a graph has cuts of other axes than rows, or stages of a pipeline."""
    cuts = (pieces for node in graph if node.op.name == "shard" for *_, pieces in node.attr("axes"))
    return any(pieces > 1 for pieces in cuts) or any(map(lane_of, graph))


def _groups(variables: Sequence[Variable], optimizer: Optimizer, packed: bool) -> list[Group]:
    """The variables by dtype, in the order of their first appearance; each by itself if they are not `packed`."""
    check_variables(variables)
    by_dtype: dict[Any, list[Variable]] = {}
    for variable in variables:
        by_dtype.setdefault(variable.dtype, []).append(variable)
    if not by_dtype:
        raise UsageError("to train no variables", "the list is empty", "Give variables=[...].")
    if not packed:
        return [_alone(one, optimizer) for own in by_dtype.values() for one in own]
    return [Group(tuple(own), optimizer.slots(own)) for own in by_dtype.values()]


def _alone(variable: Variable, optimizer: Optimizer) -> Group:
    """A variable by itself, in pieces if the optimizer wants it so and nothing else cuts it."""
    pieces, slots = optimizer.pieces, optimizer.slots([variable])
    if pieces == 1 or variable.is_cut or count_of(variable.type) < pieces:
        return Group((variable,), slots, False)
    return Group((variable,), slots, True, pieces)


def _joined(pieces: Sequence[Node]) -> Tensor:
    tensors = list(map(tensor_of, pieces))
    return tensors[0] if len(tensors) == 1 else concat(tensors)


GOLDEN = 0x9E3779B97F4A7C15
"""An odd number: its multiples are different 64-bit words for different steps."""


def _drawn_anew(graph: Graph, keys: Sequence[Node], counter: Node) -> Graph:
    """The graph in which the `keys` of random draws move on with the step: the first word grows by GOLDEN each."""
    if not keys:
        return graph
    number = np.dtype(np.uint64)
    step = tensor_of(counter).astype(number) * tensor_of(scalar(GOLDEN, number, structural=True))
    move = concat([reshape(step, (1,)), reshape(tensor_of(scalar(0, number)), (1,))])
    new = {node: node for node in graph.inputs} | {key: (tensor_of(key) + move).node for key in keys}
    for node in graph.nodes():
        if node not in new:
            new[node] = Node(node.op, tuple([new[one] for one in node.inputs]), node.attrs, node.types, node.where)
    return graph.with_outputs(new[node] for node in graph.outputs)
