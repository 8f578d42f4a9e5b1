"""Running: where tasks go. Threads, this thread, processes, or a Dask cluster; the graph is the same for all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flowgraph.errors import UsageError

Get = Callable[[Mapping[Any, Any], Sequence[Any]], Any]


@dataclass(frozen=True)
class Executor:
    """A place where tasks run."""

    name: str
    """threads, synchronous, processes, cluster, or custom."""
    get: Get
    """`(graph, keys) -> results`, as Dask's schedulers have it."""
    shares_memory: bool
    """Whether tasks see the caller's arrays; otherwise arrays travel as files."""
    workers: int
    """How many tasks run at a time, as far as it is known."""


def resolve(client: Any = None, scheduler: Any = None) -> Executor:
    """The executor to use: `client`, else `scheduler`, else the distributed client in force, else Dask's configured
    scheduler, else threads.

    Nothing is ever started that the user did not ask for. Raises UsageError for an asynchronous client.
    """
    if client is not None:
        return _cluster(client)
    if scheduler is None:
        found = _current_client()
        if found is not None:
            return _cluster(found)
        scheduler = _configured()
    return _named(scheduler)


def _configured() -> Any:
    dask_config = sys.modules.get("dask.config")
    return None if dask_config is None else dask_config.get("scheduler", None)


def _current_client() -> Any:
    """The client in force; there can be none where distributed was never imported."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def _cluster(client: Any) -> Executor:
    if getattr(client, "asynchronous", False):
        raise UsageError(
            "to run on an asynchronous client", "flowgraph waits for results", "Use a client made with asynchronous=False."
        )
    workers = sum(client.nthreads().values())
    return Executor("cluster", lambda graph, keys: client.get(dict(graph), list(keys)), False, max(workers, 1))


def _named(scheduler: Any) -> Executor:
    cores = _cores()
    if scheduler is None or scheduler in ("threads", "threading"):
        return Executor("threads", _threads, True, cores)
    if scheduler in ("sync", "synchronous", "single-threaded"):
        return Executor("synchronous", _synchronous, True, 1)
    if scheduler in ("processes", "multiprocessing"):
        return Executor("processes", _processes, False, cores)
    if hasattr(scheduler, "get") and hasattr(scheduler, "scheduler_info"):
        return _cluster(scheduler)
    if scheduler in ("distributed", "dask.distributed"):
        found = _current_client()
        if found is not None:
            return _cluster(found)
    elif callable(scheduler):
        return Executor("custom", scheduler, True, cores)
    raise UsageError(
        f"the scheduler {scheduler!r}",
        "it is not known here",
        "One of threads, synchronous, processes, a distributed.Client or a function `get(graph, keys)`.",
    )


def _cores() -> int:
    """The number of tasks that threads run at a time: Dask's setting, else the processors this process may use."""
    config = sys.modules.get("dask.config")
    setting = config.get("num_workers", None) if config is not None else None
    return int(setting) if setting else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(graph: Mapping[Any, Any], keys: Sequence[Any]) -> Any:
    from dask.threaded import get

    return get(graph, list(keys))


def _synchronous(graph: Mapping[Any, Any], keys: Sequence[Any]) -> Any:
    from dask.local import get_sync

    return get_sync(graph, list(keys))


def _processes(graph: Mapping[Any, Any], keys: Sequence[Any]) -> Any:
    from dask.multiprocessing import get

    return get(graph, list(keys), optimize_graph=False)


class _Scratch(threading.local):
    directory: str | None = None


_SCRATCH = _Scratch()


@contextmanager
def scratch() -> Iterator[str]:
    """A directory for arrays on their way to other processes; only this user may read it, and it goes afterwards."""
    if _SCRATCH.directory is not None:  # one inside another: the outer one removes it
        yield _SCRATCH.directory
        return
    _SCRATCH.directory = tempfile.mkdtemp(prefix="flowgraph-")
    try:
        yield _SCRATCH.directory
    finally:
        directory, _SCRATCH.directory = _SCRATCH.directory, None
        shutil.rmtree(directory, ignore_errors=True)
