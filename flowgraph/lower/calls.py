"""What tasks call: functions of a kernel and arrays. `run_here` calls them one after the other, without tasks."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowgraph.graph import Node
from flowgraph.kernel import (
    Excerpt,
    Kernel,
    Loop,
    LoopStage,
    OneStage,
    Rows,
    Stage,
    clean,
    complete,
    is_whole_leaf,
    join,
)
from flowgraph.sources import pieces, resolve, segment


class Bound(NamedTuple):
    """A program met with its data: everything that lowering needs to know."""

    stages: tuple[Stage, ...]
    meshes: tuple[str, ...]
    """The mesh axes, in the order in which kernels take their numbers of rows."""
    rows: Mapping[str, int]
    """The number of rows of each mesh axis."""
    shards: Mapping[str, tuple[tuple[int, int], ...]]
    """The (start, stop) rows of each shard."""
    leaf_tiles: Mapping[str, int]
    """The tiles of a merge leaf."""
    values: Mapping[Node, Any]
    """What the leaves hold: arrays and sources."""
    outputs: tuple[tuple[Node, int | None], ...]
    """The nodes wanted, and for cut ones the axis along which their shards are joined."""
    cuts: Mapping[Node, Any]
    """How each node is cut."""
    places: int = 1
    """How many tasks are to work at a time."""

    def totals(self) -> tuple[int, ...]:
        """The numbers of rows as kernels take them."""
        return tuple(self.rows[mesh] for mesh in self.meshes)


def new_token() -> str:
    """A part of task names that no other run has."""
    return os.urandom(6).hex()


_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def task_name(name: str, run: str) -> str:
    """The name of tasks on Dask's dashboard: numbers are spelled, for Dask groups tasks by their words up to a number.

    >>> task_name("loop_0_stage12", "4be1")
    'flowgraph-loop-zero-stage-one-two-4be1'
    """
    words = re.sub("[0-9]", lambda digit: f"-{_DIGITS[int(digit[0])]}-", name)
    return "-".join(filter(None, re.split("[-_]", f"flowgraph-{words}-{run}")))


def run_loop(
    kernel: Kernel, start: int, rows: int, leaf: int, totals: Any, how: Any, parts: Any, arguments: Any
) -> tuple[Any, ...]:
    """One shard of a loop: its partial results as subtrees, then the rows that leave it."""
    sources = [
        Rows([segment(piece) for piece in own], dtype, axis, times)
        for own, (axis, times, dtype) in zip(parts, how, strict=True)
    ]
    return kernel(start, rows, leaf, *totals, *sources, *map(settled, arguments))  # type: ignore[no-any-return]


def run_sum(*arguments: Any) -> Any:
    """One shard of a loop that no rows leave: its partial results."""
    return run_loop(*arguments)[0]


def run_after(before: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`, once `before` is there."""
    return function(*arguments)


def run_nothing(*before: Any) -> None:
    """Nothing, once `before` is there: what waits for it need not have it sent."""


class Along(NamedTuple):
    """A result of a whole phase that the tasks which take it compute for themselves."""

    step: int
    call: int
    """Which of the phases that these tasks take along."""
    item: int


def run_along(calls: Sequence[Sequence[Any]], kernel: Kernel, *arguments: Any) -> tuple[Any, ...]:
    """One shard of a loop after the whole phases of which it takes results; what the loop returns, then what they do.

    `calls` has the arguments of `run_whole` for each phase.
    """
    found: list[Any] = []
    for call in calls:
        found.append(run_whole(*with_found(call, found)))
    shard = run_loop(*with_found((kernel, *arguments), found))
    return (*shard, *(one for results in found for one in results))


def with_found(call: Sequence[Any], found: Sequence[Any]) -> Any:
    """The arguments of `run_whole` or `run_loop`: the last of them are values, some of which phases have `found`."""
    *rest, values = call
    return *rest, [found[one.call][one.item] if isinstance(one, Along) else one for one in values]


def run_one(kernel: Kernel, totals: Any, order: Any, how: Any, parts: Any, arguments: Any, dtypes: Any) -> Any:
    """A program of one tile. `order` says which of its inputs are rows."""
    rows = iter(
        Rows([segment(piece) for piece in own], dtype, axis, times)
        for own, (axis, times, dtype) in zip(parts, how, strict=True)
    )
    whole = iter(clean(value, dtype) for value, dtype in zip(arguments, dtypes, strict=True))
    return kernel(*totals, *[next(rows) if cut else next(whole) for cut in order])


def run_whole(
    kernel: Kernel, totals: Any, merges: Any, stacks: Any, gathered: Any, axes: Any, portions: Any, arguments: Any
) -> Any:
    """One whole phase: complete the partial results, join what was gathered, compute.

    `portions` are partial results too: pairs (merges, stacks), whose entries the kernel takes one by one.
    """
    states = [complete(merge, own) for merge, own in zip(merges, stacks, strict=True)]
    taken = [one for merge, own in portions for one in complete(merge, own)]
    whole = [np.concatenate(own, axis) if len(own) > 1 else own[0] for own, axis in zip(gathered, axes, strict=True)]
    return kernel(*totals, *map(settled, [*states, *whole, *taken, *arguments]))


def settled(value: Any) -> Any:
    """A value in C order and aligned: what came over the network can lie anywhere, and BLAS' bits depend on it."""
    if isinstance(value, list):
        return [settled(one) for one in value]
    return np.require(value, requirements=["C", "A"]) if isinstance(value, np.ndarray) else value


def take(excerpt: Excerpt, stack: Any) -> Any:
    """What is combined of the partial results of one shard."""
    return excerpt.of(stack)


def join_stacks(merges: Any, stacks: Any) -> list[Any]:
    """The partial results of neighbouring shards as one list of subtrees."""
    return join(merges, stacks)


def whole_of(value: Any) -> Any:
    """A value that is an argument of tasks, as the result of one."""
    return value


def pick(values: Sequence[Any], number: int) -> Any:
    """One result of a task that has several."""
    return values[number]


def assemble(parts: Sequence[Any], item: int | None, axis: int | None) -> Any:
    """The value of an output from the results of the tasks that have it."""
    own = parts if item is None else [one[item] for one in parts]
    return np.concatenate(own, axis or 0) if len(own) > 1 else own[0]


def assemble_pieces(parts: Sequence[Any], dtype: Any) -> Any:
    """The whole value of a source from its pieces, as kernels take it."""
    arrays = [resolve(one) for one in parts]
    return clean(np.concatenate(arrays) if len(arrays) > 1 else arrays[0], dtype)


def run_here(bound: Bound) -> list[Any]:
    """The outputs, stage after stage in this thread, with one shard for each mesh axis: no graph and no scheduler."""
    values: dict[Node, Any] = {}
    stored: dict[Node, Any] = {}
    stacks: dict[Loop, Any] = {}
    for stage in bound.stages:
        if isinstance(stage, OneStage):
            continue
        arguments = [values[one] if one in values else _given(bound, one) for one in stage.arguments]
        if isinstance(stage, LoopStage):
            mesh, total = stage.loop.mesh, bound.rows[stage.loop.mesh]
            parts = [
                [stored[one.node]]
                if one.node in stored and not one.node.is_leaf
                else pieces(bound.values[one.node], 0, total * one.times, one.axis)
                for one in stage.rows
            ]
            how = [(one.axis, one.times, one.dtype) for one in stage.rows]
            stack, *written = run_loop(
                stage.kernel, 0, total, bound.leaf_tiles[mesh], bound.totals(), how, parts, arguments
            )
            stacks[stage.loop] = stack
            stored.update(zip(stage.loop.writes, written, strict=True))
        else:
            own = [one for one in stage.loops if one.merges]
            lane = stage.phase.lane
            results = run_whole(
                stage.kernel,
                bound.totals(),
                [one.merges for one in own],
                [[stacks[one.loop] if one.main is None else one.main.of(stacks[one.loop])] for one in own],
                [[stored[node]] for node, _ in stage.gathered],
                [axis for _, axis in stage.gathered],
                [(e.merges, [e.of(stacks[one.loop])]) for one in stage.portions for e in (one.excerpts[lane],)],
                arguments,
            )
            values.update(zip(stage.results, results, strict=True))
    return [stored[node] if axis is not None else values[node] for node, axis in bound.outputs]


def _given(bound: Bound, node: Node) -> Any:
    """The whole value of an input."""
    return clean(bound.values[node.inputs[0] if is_whole_leaf(node) else node], node.type.dtype)
