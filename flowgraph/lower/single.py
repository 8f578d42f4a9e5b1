"""Graphs of a single task: a call, the value of a source, a tensor that is lowered when more is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from flowgraph.lower.calls import assemble_pieces
from flowgraph.sources import SMALL_BYTES, EveryPiece, Held, TaskPiece

_OF_TASKS = (TaskPiece, EveryPiece)


def piece_arguments(found: Sequence[Any]) -> Any:
    """Pieces as an argument of a task: those of other tasks' results as [result, start, stop, axis, expected shape].

    Without such it is a plain list: Dask takes microseconds for each of its own, and there is one for every shard.
    """
    if not any(type(one) in _OF_TASKS for one in found):
        return list(found)
    from dask import task_spec as spec

    def argument(one: Any) -> Any:
        if isinstance(one, TaskPiece):
            return spec.List(spec.TaskRef(one.key), one.start, one.stop, 0, one.shape)
        if isinstance(one, EveryPiece):
            return spec.List(EveryPiece, argument(one.inner), one.axis, one.first, one.step)
        return one

    return spec.List(*map(argument, found))


def lower_call(function: Any, arguments: Sequence[Any], name: str, run: str, sources: Sequence[Any] = ()) -> Any:
    """A call of `function` as a graph of one task, and its key. Pieces of other tasks inside nested lists are found."""
    from dask import task_spec as spec

    graph: dict[Any, Any] = {}

    def argument(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.nbytes >= SMALL_BYTES:  # by a file, as a task of its own
            held = (f"flowgraph-{name}-value-{run}", 0, len(graph))
            graph[held] = spec.Task(held, assemble_pieces, spec.List(*Held(value).whole()), value.dtype)
            return spec.TaskRef(held)
        if isinstance(value, TaskPiece):
            return piece_arguments([value]).args[0]
        return spec.List(*map(argument, value)) if isinstance(value, list) else value

    key = (f"flowgraph-{name}-{run}", 0, 0)
    graph[key] = spec.Task(key, function, *map(argument, arguments))
    for source in sources:
        graph.update(source.tasks())
    return graph, key


def lower_value(source: Any, key: Any) -> dict[Any, Any]:
    """A graph whose task `key` gives the whole value of a source."""
    from dask import task_spec as spec

    task = spec.Task(key, assemble_pieces, piece_arguments(source.whole()), source.type.dtype)
    return {**source.tasks(), key: task}


def lower_chunks(source: Any, edges: Sequence[int], name: str, ndim: int) -> dict[Any, Any]:
    """A graph whose tasks `(name, number, 0, ...)` give the rows of a source between `edges`; all of a scalar."""
    from dask import task_spec as spec

    graph = dict(source.tasks())
    found = [source.pieces(start, stop, 0) for start, stop in pairwise(edges)] if ndim else [source.whole()]
    for number, own in enumerate(found):
        key = (name, number, *(0,) * (ndim - 1)) if ndim else (name,)
        graph[key] = spec.Task(key, assemble_pieces, piece_arguments(own), source.type.dtype)
    return graph


def chunk_graph(keys: Sequence[Any], name: str, ndim: int, axis: int | None) -> dict[Any, Any]:
    """Tasks `(name, 0, ..., number, ..., 0)` for the results `keys`, the pieces of a value along `axis`."""
    from dask import task_spec as spec

    graph: dict[Any, Any] = {}
    for number, target in enumerate(keys):
        place = tuple(number if one == axis else 0 for one in range(ndim))
        graph[name, *place] = spec.Alias((name, *place), target)
    return graph


def lower_later(key: Any, function: Any, recipe: Any, sources: Sequence[Any]) -> dict[Any, Any]:
    """A graph whose task `key` calls `function(recipe, pieces of each source)`: to be lowered when more is known."""
    from dask import task_spec as spec

    graph: dict[Any, Any] = {}
    for source in sources:
        graph.update(source.tasks())
    values = spec.List(*[piece_arguments(source.whole()) for source in sources])
    graph[key] = spec.Task(key, function, recipe, values)
    return graph


def waiting(graph: Mapping[Any, Any], function: Any) -> dict[Any, tuple[Any, list[list[Any]]]]:
    """The tasks of `lower_later` in a graph: for each key the recipe, and the keys that each of its sources needs."""
    from dask import task_spec as spec

    found = {}
    for key, task in graph.items():
        if isinstance(task, spec.Task) and task.func is function:
            recipe, values = task.args
            found[key] = recipe, [[piece.args[0].key for piece in source.args] for source in values.args]
    return found


def call_of(task: Any, found: Mapping[Any, Any]) -> tuple[Any, Any]:
    """(function, arguments) of a task, with `found` in place of other tasks; (None, value) where nothing is called."""
    from dask import task_spec as spec

    def argument(value: Any) -> Any:
        if isinstance(value, spec.TaskRef):
            return found.get(value.key)
        if isinstance(value, spec.Task) and not isinstance(value, spec.List):  # one of the results of another task
            of, *rest = map(argument, value.args)
            return None if of is None else value.func(of, *rest)
        return [argument(one) for one in value.args] if isinstance(value, spec.List) else value

    if isinstance(task, spec.Task):
        return task.func, [argument(one) for one in task.args]
    return None, task.value if isinstance(task, spec.DataNode) else None if isinstance(task, spec.GraphNode) else task
