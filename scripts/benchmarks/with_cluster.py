"""The work on a Dask cluster, and what lowering for one costs. `with_flowgraph` and its variants take it from here.

distributed is imported where it is used: a contender without it has not to pay for it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import flowgraph as fg
from flowgraph import eager, program
from flowgraph.lower import Lowering, new_token

from .data import Data, Results, results
from .losses import gradients, tanh_loss
from .simulation import Model, step_seconds

Run = Callable[[], Results]


def start(threads: int) -> Any:
    """A client of a cluster on this machine: a process for each thread. It is the one in force until the child ends."""
    from distributed import Client, LocalCluster

    return Client(LocalCluster(n_workers=threads, threads_per_worker=1, dashboard_address=None))


def processes(data: Data, threads: int) -> Run:
    """One call of a traced function, on processes of one thread."""
    start(threads)
    return processes_threads(data, threads)


def processes_threads(data: Data, threads: int) -> Run:
    """The same on the threads of this process."""
    return gradients(tanh_loss, data)


def cluster_step(data: Data, threads: int) -> Run:
    """A fit on a cluster, in one window, with a shard for each worker."""
    return _fit(data, threads, start(threads))


def cluster_step_here(data: Data, threads: int) -> Run:
    """The same fit in this thread: what the step costs without a cluster."""
    return _fit(data, threads, None, "synchronous")


def _fit(data: Data, threads: int, client: Any, scheduler: Any = None) -> Run:
    def run() -> Results:
        variables = [fg.Variable(one) for one in data.parameters]
        history = fg.fit(
            lambda X, y: tanh_loss(variables, fg.shard(X, rows=threads), y),
            (data.X, data.y),
            variables=variables,
            optimizer=fg.keras.optimizers.Adam(1e-3, epsilon=1e-8),
            steps=data.steps,
            window=data.steps,
            client=client,
            scheduler=scheduler,
        )
        return results(history.losses[-1], [one.numpy() for one in variables])

    return run


def _graph_figure(data: Data, threads: int, figure: Callable[[Mapping[Any, Any]], float]) -> Run:
    """`figure` of the graphs of a fit, for one step."""
    found: list[float] = []
    lower = program.lower_window

    def noted(*given: Any) -> Any:
        lowered = lower(*given)
        found.append(figure(lowered[0].graph))
        return lowered

    def run() -> Results:
        with mock.patch.object(program, "lower_window", noted):
            _fit(data, threads, None, "synchronous")()
        assert found, "the data is one tile: there are no shards"
        return {"figure": sum(found) / data.steps}

    return run


def cluster_tasks(data: Data, threads: int) -> Run:
    """The tasks of a step."""
    return _graph_figure(data, threads, len)


def cluster_bytes(data: Data, threads: int) -> Run:
    """The bytes of the graph of a step, as they go to the scheduler."""
    return _graph_figure(data, threads, lambda graph: len(pickle.dumps(dict(graph), protocol=pickle.HIGHEST_PROTOCOL)))


def no_ops(data: Data, threads: int) -> Run:
    """Tasks that do nothing, one graph of them: the scheduler's own time, which the simulation takes."""
    from dask.task_spec import List, Task, TaskRef

    client = start(threads)

    def run() -> Results:
        name = f"no-op-{new_token()}"
        graph = {(name, number): Task((name, number), _nothing, number) for number in range(data.steps)}
        last = Task(name, _nothing, List(*map(TaskRef, graph)))
        client.get({**graph, name: last}, [name])
        return {}

    return run


def no_ops_chain(data: Data, threads: int) -> Run:
    """Tasks that do nothing, each after the other: the time from the end of a task to the start of the next."""
    from dask.task_spec import Task, TaskRef

    client = start(threads)

    def run() -> Results:
        name = f"no-op-{new_token()}"
        graph: dict[Any, Any] = {(name, 0): Task((name, 0), _nothing)}
        for number in range(1, data.steps):
            graph[name, number] = Task((name, number), _nothing, TaskRef((name, number - 1)))
        client.get(graph, [(name, data.steps - 1)])
        return {}

    return run


def no_ops_pairs(data: Data, threads: int) -> Run:
    """Pairs of tasks that do nothing, each on a worker of its own: they wait for one another as shards of steps do."""
    from dask import annotate
    from dask.task_spec import Task, TaskRef

    client = start(threads)
    workers = list(client.nthreads())

    def run() -> Results:
        name = f"no-op-{new_token()}"
        graph: dict[Any, Any] = {}
        for step in range(data.steps):
            before = [TaskRef((name, step - 1, one)) for one in range(threads)] if step else []
            for shard in range(threads):
                graph[name, step, shard] = Task((name, step, shard), _nothing, *before)
        with annotate(workers=lambda key: [workers[key[2]]], allow_other_workers=True):
            client.get(graph, [(name, data.steps - 1, shard) for shard in range(threads)])
        return {}

    return run


def _nothing(*given: Any) -> None:
    return None


def lowering(data: Data, threads: int) -> Run:
    """From a compiled program and its data to the tasks of one run."""
    X = fg.shard(fg.asarray(data.X), rows=data.count)
    value, slopes = fg.value_and_grad(tanh_loss)(tuple(map(fg.asarray, data.parameters)), X, fg.asarray(data.y))
    cone = eager.cone([value.node, *(one.node for one in slopes)])
    entry = eager.compiled(eager.detached(cone))
    values = [node.memo for node in cone.leaves]
    rows = entry.program.row_counts(values, entry.rows)

    def run() -> Results:
        lowered = Lowering(entry.program.bind(values, rows, threads), new_token())
        lowered.lower()
        assert len(lowered.graph) > data.count
        return {}

    return run


def planning(data: Data, threads: int) -> Run:
    """From a loss to the stages of loss and gradients, for so many shards."""

    def run() -> Results:
        step = fg.function(fg.value_and_grad(lambda given, X, y: tanh_loss(given, fg.shard(X, rows=data.count), y)))
        assert step.program(tuple(data.parameters), data.X, data.y).stages
        return {}

    return run


def simulated(data: Data, threads: int) -> Run:
    """The seconds of a step on a cluster that is simulated, with the fan-in that flowgraph chooses."""
    return _simulated(data, None)


def simulated_by_2(data: Data, threads: int) -> Run:
    """The same with joins of two."""
    return _simulated(data, 2)


def simulated_by_16(data: Data, threads: int) -> Run:
    """The same with joins of sixteen."""
    return _simulated(data, 16)


def simulated_flat(data: Data, threads: int) -> Run:
    """The same with one task that takes in all."""
    return _simulated(data, data.count)


def simulated_no_scheduler(data: Data, threads: int) -> Run:
    """The same as flowgraph with a scheduler that takes no time: what Dask costs is the difference."""
    return _simulated(data, None, Model(task=0.0))


def _simulated(data: Data, most: int | None, model: Model | None = None) -> Run:
    size = sum(one.nbytes for one in data.parameters)
    seconds = step_seconds(data.count, size, most, model if model is not None else Model())
    return lambda: {"figure": seconds}
