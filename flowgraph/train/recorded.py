"""Steps of `minimize` as one program each: loss, gradients and update, found again by the structure of the loss.

A script that calls `minimize` in a loop builds the same loss every time. Its reverse pass and the update are made
once; a later step walks the recorded loss, finds the program by its key, and runs it on the new values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flowgraph.eager import Compiled, Cone, commit, compiled, cone, detached, known_values
from flowgraph.graph import Node
from flowgraph.reverse import GradientTape, gradient
from flowgraph.state import Trace, Variable, trace_into, value_of
from flowgraph.tensor import Tensor, tensor_of


class Updates(Protocol):
    """What a step needs of an optimizer."""

    iterations: Variable

    def slots(self, variables: Sequence[Variable]) -> dict[str, list[Variable]]:
        """For each slot name the slots of `variables`."""

    def recorded(self, key: Any, make: Callable[[], StepProgram | None]) -> StepProgram | None:
        """The step kept under `key`, made if there is none."""

    def updated(self, params: Sequence[Tensor], grads: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """(inputs for the slots and the step counter, new parameters and slots)."""


@dataclass(frozen=True)
class StepProgram:
    """A step of an optimizer as a program, and what it takes beside the values that the caller has."""

    program: Compiled
    read: tuple[Variable, ...]
    """The variables that the rule reads: the learning rate, and what a schedule looks at."""
    captured: Sequence[Node]
    """The numbers in the rule."""

    def run(self, values: Sequence[Any]) -> list[Any]:
        """The results for the caller's values."""
        return self.program.run([*values, *(one.numpy() for one in self.read), *map(value_of, self.captured)])


def step_of(optimizer: Updates, tape: GradientTape, target: Any, variables: Sequence[Variable]) -> bool:
    """Take a step on a loss that `tape` recorded; False, and nothing done, where gradients need a closer look."""
    if not isinstance(target, Tensor) or target.node.memo is not None or target.node.symbolic:
        return False
    if not tape.saw_each_once(variables) or len({variable.dtype for variable in variables}) != 1:
        return False
    run = cone([target.node], {variable._node for variable in variables})
    number = {node: index for index, node in enumerate(run.leaves)}
    places = tuple([number.get(variable._node, -1) for variable in variables])
    if -1 in places or not tape.recorded_all(run.order, number):
        return False
    found = optimizer.recorded((run.key, places), lambda: _made(optimizer, run, places))
    if found is None:
        return False
    slots = [slot for own in optimizer.slots(variables).values() for slot in own]
    results = found.run([*known_values(run), *(slot.numpy() for slot in slots), optimizer.iterations.numpy()])
    count = len(run.fetch)
    commit(run, results[:count])
    for variable, value in zip([*variables, *slots], results[count:], strict=True):
        variable.set(value)
    return True


def _made(optimizer: Updates, run: Cone, places: Sequence[int]) -> StepProgram | None:
    """The step for losses like that of `run`; None where a gradient is missing."""
    trace = Trace()  # what is made from here on is its own
    graph = detached(run)
    parameters = [tensor_of(graph.inputs[place]) for place in places]
    with trace_into(trace):
        gradients = gradient(tensor_of(graph.outputs[0]), parameters)
        if any(one is None for one in gradients):
            return None
        state, outputs = optimizer.updated(parameters, gradients)
    leaves = [*graph.inputs, *(one.node for one in state), *trace.variables.values()]
    closed, captured = trace.closed([*graph.outputs, *(one.node for one in outputs)], leaves)
    return StepProgram(compiled(closed), tuple(trace.variables), captured)
