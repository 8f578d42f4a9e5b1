"""A program met with stand-ins for its data: lowered as a run would, with nothing read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from flowgraph.errors import UsageError
from flowgraph.graph import Node
from flowgraph.lower import Bound, Lowering, Result, lower_window, new_token
from flowgraph.program import Program
from flowgraph.sources import SMALL_BYTES, Held
from flowgraph.types import Dim, is_count


def row_counts(program: Program, rows: int | Mapping[str, int] | None) -> dict[str, int]:
    """The number of rows of each mesh axis; raises UsageError where it is not known, or is none."""
    known = {**program.static_rows, **program.known_rows}
    if isinstance(rows, Mapping):
        known.update(rows)
    elif rows is not None:
        known.update({mesh: rows for mesh in program.meshes if mesh not in program.static_rows})
    missing = [mesh for mesh in program.meshes if mesh not in known]
    if missing:
        raise UsageError(
            "to explain a program",
            f"the number of its rows ({', '.join(missing)}) is not known: one program serves any number",
            "Say it: `program.explain(rows=1_000_000)`.",
        )
    for mesh, count in known.items():
        if not is_count(count, 0):
            raise UsageError(
                f"to explain a program for {mesh}={count!r}", "that is no number of rows", "Give rows=1_000_000."
            )
    return {mesh: known[mesh] for mesh in program.meshes}


def stand_in(shape: Sequence[int], dtype: Any) -> Any:
    """An array of which nothing is ever read: as large as it is small, else one zero that stands for all."""
    if prod(shape) * np.dtype(dtype).itemsize < SMALL_BYTES or not len(shape):
        return np.zeros(shape, dtype)
    return Held(np.broadcast_to(np.zeros((), dtype), shape))


def stand_ins(program: Program, rows: Mapping[str, int], values: Sequence[Any] | None) -> list[Any]:
    """A value for each input of the parts of the program: sources as they are, stand-ins in place of arrays."""
    given: Sequence[Any] = [None] * len(program.parts.graph.inputs) if values is None else program.parts_of(values)
    found = []
    for node, value in zip(program.parts.graph.inputs, given, strict=True):
        if value is None or isinstance(value, np.ndarray | np.generic | Held):
            shape = [one.value(rows.get(one.base.name, 1)) if isinstance(one, Dim) else one for one in node.type.shape]
            found.append(stand_in(shape, node.type.dtype))
        else:
            found.append(value)
    return found


class Lowered(NamedTuple):
    """The tasks of a run."""

    tasks: Lowering
    results: list[Result]
    """Where its outputs will be."""
    steps: int = 1
    """How many steps they take; the last of them is to be explained."""


def lowered(
    program: Program,
    rows: Mapping[str, int],
    workers: int,
    values: Sequence[Any] | None,
    updates: Mapping[Node, Node] | None,
) -> Lowered:
    """The tasks of a run; of a training step, for which `updates` gives the next value of each state, as in a window.

    The state of the third step comes as that of all steps after it: with the results of those two before it.
    """
    given = dict(zip(program.parts.graph.inputs, stand_ins(program, rows, values), strict=True))
    bound: Bound = program.bind(list(given.values()), rows, workers)
    if updates and program.meshes and not program.is_small(rows):
        tasks, _, results = lower_window(bound, new_token(), 3, updates, program.outputs[0])
        return Lowered(tasks, [*results, tasks.results()[0]], 3)
    bound = bound._replace(outputs=tuple(one for one in bound.outputs if one[0] not in given))
    tasks = Lowering(bound, new_token())
    return Lowered(tasks, tasks.lower() if bound.outputs else [])
