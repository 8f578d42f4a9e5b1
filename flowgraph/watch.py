"""Watching: when each task of a run ran, where, and how many bytes it was given and returned.

On threads, in one thread and on processes Dask's callbacks tell; on a cluster its stream of tasks does. The tasks are
the same as in a run that nobody watches.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from time import time
from typing import Any, NamedTuple

from flowgraph.errors import UsageError
from flowgraph.kernel import Kernel
from flowgraph.lower import call_of
from flowgraph.machine import dask_config
from flowgraph.run import Executor


def parts_of(value: Any) -> Iterator[Any]:
    """The arrays and kernels in what a task returns, each once."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, list | tuple):
            stack += one
        elif isinstance(one, Kernel) or hasattr(one, "nbytes"):
            yield one


def size_of(value: Any) -> int:
    """The bytes of what a task returns: its arrays, and kernels as they travel."""
    return sum(_kernel_bytes(one) if isinstance(one, Kernel) else int(one.nbytes) for one in parts_of(value))


@cache
def _kernel_bytes(kernel: Kernel) -> int:
    _, (_, blob) = kernel.__reduce__()
    return len(blob)


class Span(NamedTuple):
    """One task that ran."""

    key: Any
    start: float
    """When it began, in seconds since 1970."""
    stop: float
    place: str
    """The process: this one, or a worker's address."""
    thread: str
    nbytes: int
    """The bytes of its result."""
    bytes_in: int
    """The bytes of the results that it was given."""
    stage: str = ""
    """The stage of the program, where that is known."""
    steps: int = 1
    """How many steps of a training its run took."""

    @property
    def name(self) -> str:
        """What it is called, without what tells its run and its shard apart."""
        return str(self.key[0] if isinstance(self.key, tuple) else self.key).rpartition("-")[0]


class Trace:
    """What ran: one span for each task. `save` writes it for a browser."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def save(self, path: Any) -> None:
        """Write a Chrome trace (JSON), which `chrome://tracing` and https://ui.perfetto.dev show."""
        write_chrome(self.spans, path)

    @property
    def seconds(self) -> float:
        """From the start of the first task to the end of the last."""
        return max((one.stop for one in self.spans), default=0.0) - min((one.start for one in self.spans), default=0.0)

    def __repr__(self) -> str:
        places = {(one.place, one.thread) for one in self.spans}
        return f"<Trace of {len(self.spans)} tasks on {len(places)} threads in {self.seconds:.3g} s>"


def chrome_text(spans: Sequence[Span]) -> str:
    """Spans in Chrome's format of trace events: a process for each worker, a line for each of its threads."""
    import json

    places = {place: number for number, place in enumerate(dict.fromkeys(one.place for one in spans), 1)}
    threads = {who: number for number, who in enumerate(dict.fromkeys((one.place, one.thread) for one in spans), 1)}
    first = min((one.start for one in spans), default=0.0)
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": number, "args": {"name": place}} for place, number in places.items()
    ]
    counted = {place: count(1) for place in places}
    events += [
        {
            "ph": "M",
            "name": "thread_name",
            "pid": places[place],
            "tid": number,
            "args": {"name": f"thread {next(counted[place])}"},
        }
        for (place, _), number in threads.items()
    ]
    for one in spans:
        events.append(
            {
                "ph": "X",
                "name": one.stage or one.name,
                "cat": "task",
                "pid": places[one.place],
                "tid": threads[one.place, one.thread],
                "ts": round((one.start - first) * 1e6, 3),
                "dur": round((one.stop - one.start) * 1e6, 3),
                "args": {"key": str(one.key), "bytes": one.nbytes, "bytes in": one.bytes_in},
            }
        )
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


class _InForce(threading.local):
    def __init__(self) -> None:
        self.traces: list[Trace] = []


_IN_FORCE = _InForce()


@contextmanager
def tracing() -> Iterator[Trace]:
    """A context that records every task that this thread sets going, on any executor.

    While it lasts, programs that would be called right here go by a scheduler, so that there are tasks to see.

    >>> import numpy as np, flowgraph as fg
    >>> with fg.tracing() as seen:
    ...     x = fg.sum(fg.asarray(np.ones(4))).numpy()
    >>> [span.name for span in seen.spans]
    ['flowgraph-program']
    """
    found = Trace()
    _IN_FORCE.traces.append(found)
    try:
        yield found
    finally:
        _IN_FORCE.traces.remove(found)


def watching() -> bool:
    """Whether runs are recorded: inside `tracing()`, or with `dask.config.set({"flowgraph.trace": True})`."""
    if _IN_FORCE.traces:
        return True
    config = dask_config()
    if config is None:
        return False
    own = config.config.get("flowgraph")  # by hand: this is asked before every run, and most take microseconds
    return isinstance(own, dict) and bool(own.get("trace"))


def get_watched(executor: Executor, graph: Mapping[Any, Any], keys: Sequence[Any]) -> tuple[Any, list[Span]]:
    """The results of `keys`, and a span for each task that ran if runs are recorded."""
    if not watching():
        return executor.get(graph, keys), []
    spans: list[Span] = []
    results = _on_cluster(executor, graph, keys, spans) if executor.client else _here(executor, graph, keys, spans)
    for one in _IN_FORCE.traces:
        one.spans += spans
    return results, spans


def needs_of(task: Any) -> Sequence[Any]:
    """The keys of the tasks whose results a task takes."""
    return tuple(getattr(task, "dependencies", ()))


def _here(executor: Executor, graph: Mapping[Any, Any], keys: Sequence[Any], spans: list[Span]) -> Any:
    from dask.callbacks import Callback

    began: dict[Any, float] = {}
    sizes = {key: size_of(value) for key, task in graph.items() if (value := call_of(task, {})[1]) is not None}

    def before(key: Any, *rest: Any) -> None:
        if key in graph:
            began[key] = time()

    def after(key: Any, value: Any, dsk: Any, state: Any, who: Any) -> None:
        if key in graph:
            sizes[key] = size_of(value)
            bytes_in = sum(sizes.get(one, 0) for one in needs_of(graph[key]))
            place, thread = (executor.name, str(who)) if executor.shares_memory else (f"process {who}", "tasks")
            spans.append(Span(key, began.get(key, time()), time(), place, thread, sizes[key], bytes_in))

    with Callback(pretask=before, posttask=after):
        return executor.get(graph, keys)


def _on_cluster(executor: Executor, graph: Mapping[Any, Any], keys: Sequence[Any], spans: list[Span]) -> Any:
    from distributed import get_task_stream

    with get_task_stream(executor.client) as stream:
        results = executor.get(graph, keys)
    found = {one["key"]: one for one in stream.data}
    sizes = {key: one["nbytes"] for key, one in found.items()}
    for key, task in graph.items():
        one = found.get(key)
        if one is None:
            continue
        steps = [step for step in one["startstops"] if step["action"] == "compute"]
        if steps:
            bytes_in = sum(sizes.get(need, 0) for need in needs_of(task))
            start, stop = steps[0]["start"], steps[-1]["stop"]
            spans.append(Span(key, start, stop, str(one["worker"]), str(one["thread"]), one["nbytes"], bytes_in))
    return results


def write_chrome(spans: Sequence[Span], path: Any) -> None:
    """Write spans to a file as a Chrome trace."""
    from pathlib import Path  # late, as whatever `import flowgraph` does not need

    Path(path).write_text(chrome_text(spans), encoding="utf-8")


def chrome_of(spans: Sequence[Span], path: Any) -> None:
    """Write spans to a file as a Chrome trace; raises UsageError where there are none."""
    if not spans:
        raise UsageError(
            f"to write the trace of a program to {str(path)!r}",
            "no run of it was traced",
            'Run it under `with fg.tracing():`, or with dask.config.set({"flowgraph.trace": True}).',
        )
    write_chrome(spans, path)
