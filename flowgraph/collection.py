"""Tensors as Dask collections: the functions behind the protocol methods of Tensor.

A tensor's graph has one task that could compute it alone (`run_alone`). Before a graph runs, Dask calls `optimize` with
the graphs of all tensors that are computed together; it lowers all those tasks as one Program, so data is read once:

    x-0 ─┐                        x-0 ── loop ─┐
    x-1 ─┼─ run_alone ─ loss  →   x-1 ── loop ─┼─ whole ─┬─ loss
    x-2 ─┼─ run_alone ─ grad      x-2 ── loop ─┘         └─ grad

On a cluster Dask does so in the scheduler's process, so what a task of a tensor holds (its recipe) can be pickled.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from flowgraph import run
from flowgraph.context import Hooks, line_of
from flowgraph.eager import BINDINGS, compiled, cone, evaluate, recomputes
from flowgraph.errors import UsageError
from flowgraph.graph import INPUT, ITEM, Graph, Node, make_input, structure
from flowgraph.leaves import Shared
from flowgraph.lower import Lowering, Result, lower_later, lower_value, new_token, waiting
from flowgraph.machine import processors
from flowgraph.op import OPS, Op
from flowgraph.sources import DaskRows, FilePiece, Held, HeldPiece, Parts, Streams, held_by, resolve
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import tensor_type

BUILTIN: Mapping[str, Op] = {**OPS, INPUT.name: INPUT, ITEM.name: ITEM}
"""The ops of flowgraph itself: in a recipe their name is enough."""

_KEYS: weakref.WeakKeyDictionary[Node, Any] = weakref.WeakKeyDictionary()
_TOKENS: weakref.WeakKeyDictionary[Node, Any] = weakref.WeakKeyDictionary()


# Recipes: how to compute a tensor, without nodes.


class Place(NamedTuple):
    """The file and line of the user's, in the place of a code object, which can not be pickled."""

    co_filename: str
    co_firstlineno: int

    def co_lines(self) -> tuple[()]:
        """The lines of instructions, of which there are none."""
        return ()


class Step(NamedTuple):
    """A node of a recipe."""

    op: Op
    attrs: Any
    operands: tuple[int, ...]
    """Their numbers in the recipe; for a leaf, its number among the leaves."""
    types: Any
    where: Any


@dataclass(frozen=True)
class Recipe:
    """How a tensor is computed; the last step is the tensor."""

    steps: tuple[Step, ...]
    leaves: tuple[tuple[str, Any], ...]
    """(name, value) of each leaf: leaves of the same name are one. Rows of Dask tasks are given when it runs."""
    workers: int
    """How many tasks run at a time, as far as the process of the tensor knew."""

    def __reduce__(self) -> Any:
        import cloudpickle

        steps = [one._replace(op=_packed(one.op)) for one in self.steps]
        return _unpacked, (cloudpickle.dumps(steps), self.leaves, self.workers)


def _packed(op: Op) -> Any:
    """An op for a pickle: flowgraph's own by name, a user's with all that computing needs."""
    if BUILTIN.get(op.name) is op:
        return op.name
    import cloudpickle

    skipped = ("gradient", "samples")
    return cloudpickle.dumps({name: value for name, value in vars(op).items() if name not in skipped})


@lru_cache(maxsize=256)  # so that programs of a user's op are found again
def _op(packed: str | bytes) -> Op:
    if isinstance(packed, str):
        return BUILTIN[packed]
    import cloudpickle

    return Op(**cloudpickle.loads(packed))


def _unpacked(steps: bytes, leaves: Any, workers: int) -> Recipe:
    import cloudpickle

    return Recipe(tuple(one._replace(op=_op(one.op)) for one in cloudpickle.loads(steps)), leaves, workers)


def _recipe(node: Node, workers: int, shared_disk: bool) -> tuple[Recipe, list[DaskRows]]:
    """The recipe of a node, and those of its leaves that other Dask tasks have."""
    order = cone([node]).order
    number = {one: index for index, one in enumerate(order)}
    steps: list[Step] = []
    leaves: list[tuple[str, Any]] = []
    sources: list[DaskRows] = []
    for one in order:
        if one.memo is not None and one.op is not OPS["constant"]:
            kind = one.attrs if one.is_leaf else (("kind", "data"), ("name", ""))
            steps.append(Step(INPUT, kind, (len(leaves),), one.types, None))
            value = one.memo
            if isinstance(one, Shared):
                one.check()
            if isinstance(value, DaskRows):
                sources.append(value)
                value = value.at(())
            leaves.append((key_of(one)[0], _mobile(one, value, shared_disk)))
        else:
            where = None if one.where is None else (Place(one.where[0].co_filename, line_of(one.where)), 0)
            steps.append(Step(one.op, one.attrs, tuple(number[i] for i in one.inputs), one.types, where))
    return Recipe(tuple(steps), tuple(leaves), workers), sources


def _mobile(node: Node, value: Any, shared_disk: bool) -> Any:
    """The value of a leaf as it may travel: arrays by files, or inside where the workers do not see them."""
    if shared_disk:
        return held_by(node, value)
    if isinstance(value, Streams):  # paths of the user's: all workers see them, or say that they do not
        return value
    if isinstance(value, Parts):
        return Parts([np.asarray(resolve(one)) for one in value.parts], value.type)
    if isinstance(value, np.ndarray) and value.ndim:
        return Parts([value], tensor_type(value.shape, value.dtype))
    return value


def _graph(recipes: Sequence[Recipe]) -> tuple[Graph, list[str]]:
    """One graph whose outputs are those of the recipes, and the names of its leaves."""
    known: dict[Any, Node] = {}
    leaves: dict[str, Node] = {}
    outputs = []
    for recipe in recipes:
        nodes: list[Node] = []
        for step in recipe.steps:
            if step.op is INPUT:
                name = recipe.leaves[step.operands[0]][0]
                node = leaves.setdefault(name, Node(INPUT, (), step.attrs, step.types))
            else:
                inputs = tuple([nodes[number] for number in step.operands])
                key = (step.op, step.attrs, inputs)
                node = known.setdefault(key, Node(step.op, inputs, step.attrs, step.types, step.where))
            nodes.append(node)
        outputs.append(nodes[-1])
    return Graph(tuple(leaves.values()), tuple(outputs)), list(leaves)


def run_alone(recipe: Recipe, values: Sequence[Any]) -> Any:
    """The value of a tensor, computed by this one task; `values` are the pieces of its leaves that have tasks."""
    given = iter(values)
    leaves = []
    for _, value in recipe.leaves:
        if isinstance(value, DaskRows):
            arrays = [resolve(one) for one in next(given)]
            value = Parts(arrays, value.type) if value.type.shape else arrays[0]
        leaves.append(value)
    graph, _ = _graph([recipe])
    entry = BINDINGS.get((structure(graph), recomputes()), lambda: compiled(graph))
    (result,) = entry.run(leaves, scheduler="synchronous")
    return np.asarray(result)


def optimize(graph: Any, keys: Any) -> dict[Any, Any]:
    """A Dask graph with the tasks of all tensors in it lowered as one Program."""
    from dask.utils import ensure_dict

    given = ensure_dict(graph)
    found = waiting(given, run_alone)
    if not found:
        return dict(given)
    leaves: dict[str, Any] = {}
    for recipe, tasks in found.values():
        rest = iter(tasks)
        for name, value in recipe.leaves:
            leaves[name] = value.at(next(rest)) if isinstance(value, DaskRows) else value
    lowering, results = _lowered([recipe for recipe, _ in found.values()], leaves)
    for key, result in zip(found, results, strict=True):
        lowering.single_key(result, key)
    return {**given, **lowering.graph}


def _lowered(recipes: Sequence[Recipe], leaves: Mapping[str, Any]) -> tuple[Lowering, list[Result]]:
    """The tasks of all recipes as one Program, and where the value of each will be."""
    merged, names = _graph(recipes)
    entry = BINDINGS.get((structure(merged), recomputes()), lambda: compiled(merged))
    program = entry.program
    values = program.parts_of(entry.extended([leaves[name] for name in names]))
    counts = program.row_counts(values, entry.rows)
    workers = max(recipe.workers for recipe in recipes)
    lowering = Lowering(program.bind(values, counts, workers), new_token())
    results = lowering.lower()
    if program.split is not None:
        numbers = count()
        results = [_joined(join, results, lowering, numbers) for join in program.split.outputs]
    return lowering, results


def _joined(join: Any, results: Sequence[Result], lowering: Lowering, numbers: Iterator[int]) -> Result:
    """Where the value of an output will be that comes in pieces of logical axes."""
    parts = [results[one] if isinstance(one, int) else _joined(one, results, lowering, numbers) for one in join.parts]
    if len(parts) == 1:
        return parts[0]
    keys = [lowering.single_key(one, lowering.key("joined", next(numbers))) for one in parts]
    return Result(tuple(keys), None, join.axis)


def chunks_of(nodes: Sequence[Node]) -> tuple[Mapping[Any, Any], list[tuple[tuple[Any, ...], int | None, list[int]]]]:
    """A Dask graph that computes `nodes`, and for each the keys of its pieces, their axis and their lengths."""
    workers, shared_disk = _surroundings()
    recipes = []
    leaves: dict[str, Any] = {}
    for node in nodes:
        recipe, sources = _recipe(node, workers, shared_disk)
        rest = iter(sources)
        for name, value in recipe.leaves:
            leaves[name] = next(rest) if isinstance(value, DaskRows) else value
        recipes.append(recipe)
    lowering, results = _lowered(recipes, leaves)
    outputs = lowering.rows_of_outputs()
    found: list[tuple[tuple[Any, ...], int | None, list[int]]] = []
    for number, result in enumerate(results):
        rows = outputs.get((result.keys, result.item))
        if rows is not None:
            found.append((_piece_keys(result, lowering, number), result.axis, rows))
        else:
            found.append(((lowering.single_key(result, lowering.key("whole", number)),), None, []))
    return lowering.graph, found


def _piece_keys(result: Result, lowering: Lowering, number: int) -> tuple[Any, ...]:
    """The keys of tasks each of which has a piece of `result`, and nothing else."""
    if result.item is None:
        return result.keys
    alone = [Result((key,), result.item) for key in result.keys]
    return tuple(lowering.single_key(one, lowering.key(f"chunk{number}", place)) for place, one in enumerate(alone))


# The protocol.


def key_of(node: Node) -> Any:
    """The key of the Dask task that has the value of `node`: the same whenever it is asked for."""
    if node not in _KEYS:
        _KEYS[node] = (f"flowgraph-tensor-{new_token()}", 0, 0)
    return _KEYS[node]


def graph(tensor: Tensor) -> Mapping[Any, Any] | None:
    """The Dask graph of a tensor; None for one that is an argument of a function being traced, and has no value."""
    node = tensor.node
    if node.symbolic and node.memo is None:
        return None
    key = key_of(node)
    workers, shared_disk = _surroundings()
    if node.memo is None:
        recipe, sources = _recipe(node, workers, shared_disk)
        return lower_later(key, run_alone, recipe, sources)
    if isinstance(node.memo, DaskRows) and key in node.memo.tasks():  # a persisted tensor
        return node.memo.tasks()
    value = _mobile(node, node.memo, shared_disk)
    return lower_value(Held(value) if isinstance(value, np.ndarray) else value, key)


def _surroundings() -> tuple[int, bool]:
    """The number of workers, and whether they share the disk, of the client in force; else of this machine."""
    client = run.current_client()
    if client is None or client.asynchronous:
        return processors(), True
    workers = run.workers_of(client)
    return max(sum(workers.values()), 1), run.shares_disk(client, workers)


def keys(tensor: Tensor) -> list[Any]:
    """The keys of a tensor's graph that have its value: one."""
    return [key_of(tensor.node)]


def postcompute(tensor: Tensor) -> Any:
    """How Dask turns results into a value: `(function of the results of all keys, further arguments)`."""
    _check_order()
    return itemgetter(0), ()


def _check_order() -> None:
    """Raises UsageError where Dask is about to give results to the wrong collections.

    It groups what is computed in one call by kind and returns the results group by group, so that those of
    `dask.compute(tensor, array, tensor)` come in another order than was asked for.
    """
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_name != "collections_to_expr":
        frame = frame.f_back if frame.f_code.co_name != "compute" else None
    together = frame.f_locals.get("collections") if frame is not None else None
    if not isinstance(together, list | tuple):
        return
    kinds = [getattr(one, "__dask_optimize__", None) for one in together]
    if sorted(range(len(kinds)), key=lambda number: kinds.index(kinds[number])) != list(range(len(kinds))):
        raise UsageError(
            f"to compute {', '.join(type(one).__name__ for one in together)} in one call",
            "Dask returns the results of mixed collections in another order, group by group",
            "Put collections of one kind next to each other: dask.compute(tensor, tensor, array, array).",
        )


def postpersist(tensor: Tensor) -> Any:
    """How Dask turns results that stay where they are into a tensor."""
    return rebuild, (tensor.type, key_of(tensor.node)[0])


def rebuild(results: Mapping[Any, Any], of: Any, name: str, rename: Mapping[str, str] | None = None) -> Tensor:
    """A tensor of type `of` whose value is the result `name` (renamed by `rename`): an array, a future or a task."""
    key = ((rename or {}).get(name, name), 0, 0)
    value = results[key]
    if isinstance(value, np.ndarray | np.generic):
        return unpickle(np.asarray(value))
    leaf = make_input(of, value=DaskRows([key], of.shape[:1], of, dict(results)))
    _KEYS[leaf] = key
    return tensor_of(leaf)


def unpickle(array: Any) -> Tensor:
    """A tensor that has a value."""
    return tensor_of(make_input(tensor_type(array.shape, array.dtype), value=array))


def token(tensor: Tensor) -> Any:
    """What `dask.base.tokenize` makes a token of: equal for tensors that are computed alike from equal data."""
    node = tensor.node
    if node not in _TOKENS:
        from dask.base import tokenize

        run_of = cone([node]) if node.memo is None else None
        order = run_of.order if run_of is not None else [node]
        number = {one: index for index, one in enumerate(order)}
        parts = []
        for one in order:
            if one.memo is not None and one.op is not OPS["constant"]:
                parts.append(("value", str(one.type), tokenize(_content(one.memo))))
            else:
                attrs = tokenize(*[(name, repr(value), type(value).__name__) for name, value in one.attrs])
                parts.append((tokenize(_packed(one.op)), attrs, str([number[i] for i in one.inputs])))
        _TOKENS[node] = ("flowgraph", number[node], tuple(parts))
    return _TOKENS[node]


def _content(value: Any) -> Any:
    """What tells values apart."""
    if isinstance(value, DaskRows):
        return [str(key) for key in value.keys]
    if isinstance(value, Parts):
        return [_content(one) for one in value.parts]
    if isinstance(value, HeldPiece):
        return value.array()
    if isinstance(value, FilePiece):
        from pathlib import Path

        found = Path(value.path).stat()
        return value.path, value.start, value.stop, found.st_mtime_ns, found.st_size
    return value


def compute(tensor: Tensor, **kwargs: Any) -> Any:
    """The value of a tensor as a numpy array. `scheduler` and `client` choose where; Dask gets all other arguments."""
    if set(kwargs) <= {"scheduler", "client"}:
        if not isinstance(tensor.node.memo, np.ndarray):
            evaluate([tensor.node], **kwargs)
        return tensor.node.memo
    from dask.base import compute as dask_compute

    return dask_compute(tensor, **kwargs)[0]


async def awaited(tensor: Tensor) -> Tensor:
    """The tensor, when the futures behind it are done."""
    from distributed import futures_of, wait

    if futures_of(tensor):
        await wait(tensor)
    return tensor


Hooks.collection = sys.modules[__name__]
