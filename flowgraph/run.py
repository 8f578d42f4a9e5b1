"""Running: where tasks go. Threads, this thread, processes, or a Dask cluster; the graph is the same for all."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from flowgraph.errors import ClusterError, UsageError
from flowgraph.lower import NamedGraph, new_token
from flowgraph.machine import dask_config, processors, traits
from flowgraph.sources import sending

Get = Callable[[Mapping[Any, Any], Sequence[Any]], Any]


class Executor(NamedTuple):
    """A place where tasks run."""

    name: str
    """threads, synchronous, processes, cluster, or custom."""
    get: Get
    """`(graph, keys) -> results`, as Dask's schedulers have it."""
    shares_memory: bool
    """Whether tasks see the caller's arrays; otherwise arrays travel as files."""
    workers: int
    """How many tasks run at a time, as far as it is known."""
    hold: Get | None = None
    """`(graph, keys) -> futures`: compute, and keep the results where they are; None: results come to the caller."""
    client: Any = None
    """The distributed client, of a cluster."""


def resolve(client: Any = None, scheduler: Any = None) -> Executor:
    """The executor to use: `client`, else `scheduler`, else the client in force, else Dask's setting, else threads.

    As in Dask, `dask.config.set(scheduler=...)` with the name of a local scheduler overrides a client that is merely
    there. Nothing is ever started that the user did not ask for. Raises UsageError for an asynchronous client.
    """
    if client is not None:
        return _cluster(client)
    if scheduler is not None:
        return _named(scheduler)
    configured = _configured()
    if configured is None or configured in _CLUSTER:
        found = current_client()
        if found is not None:
            return _cluster(found)
    return _named(configured)


_CLUSTER = ("distributed", "dask.distributed")


def _configured() -> Any:
    config = dask_config()
    found = None if config is None else config.get("scheduler", None)
    return found.lower() if isinstance(found, str) else found


def current_client() -> Any:
    """The distributed client in force, or None. There can be none where distributed was never imported."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def _named(scheduler: Any) -> Executor:
    name = scheduler.lower() if isinstance(scheduler, str) else scheduler
    if name is None or name in ("threads", "threading"):
        return Executor("threads", _threads, True, processors())
    if name in ("sync", "synchronous", "single-threaded"):
        return Executor("synchronous", _synchronous, True, 1)
    if name in ("processes", "multiprocessing"):
        return Executor("processes", _processes, False, processors())
    owner = getattr(scheduler, "__self__", scheduler)  # Dask hands out `client.get` for a client
    if hasattr(owner, "get") and hasattr(owner, "scheduler_info"):
        return _cluster(owner)
    if name in _CLUSTER:
        found = current_client()
        if found is not None:
            return _cluster(found)
    elif callable(scheduler):
        return Executor("custom", _patient(scheduler), False, processors())
    elif hasattr(scheduler, "submit"):  # a pool of concurrent.futures
        from dask.base import get_scheduler

        workers = getattr(scheduler, "_max_workers", None) or processors()
        return Executor("custom", _patient(get_scheduler(scheduler=scheduler)), False, workers)
    raise UsageError(
        f"the scheduler {scheduler!r}",
        "there is no distributed client" if name in _CLUSTER else "it is not known here",
        "One of threads, synchronous, processes, a distributed.Client or a function `get(graph, keys)`.",
    )


def _threads(graph: Mapping[Any, Any], keys: Sequence[Any]) -> Any:
    from dask.threaded import get

    return get(graph, list(keys))


def _synchronous(graph: Mapping[Any, Any], keys: Sequence[Any]) -> Any:
    from dask.local import get_sync

    return get_sync(graph, list(keys))


def _processes(graph: Mapping[Any, Any], keys: Sequence[Any]) -> Any:
    from concurrent.futures.process import BrokenProcessPool

    from dask import config
    from dask.multiprocessing import get

    # Dask deals six tasks at a time to a process; ours are few and long.
    chunk = config.get("chunksize", None) or 1
    try:
        with sending():
            return get(graph, list(keys), optimize_graph=False, chunksize=chunk)
    except BrokenProcessPool as error:
        raise ClusterError(
            "to run on processes",
            "a process ended before its task did",
            'A script must do its work under `if __name__ == "__main__":`, for processes begin by importing it. '
            "If it does, the process was killed: often it had too little memory.",
        ) from error


def _patient(get: Get) -> Get:
    """`get` of the user's own, which may send arrays to other processes."""

    def run(graph: Mapping[Any, Any], keys: Sequence[Any]) -> Any:
        with sending():
            return get(graph, list(keys))

    return run


# A cluster.


class _Preferring(threading.local):
    """What tasks of this thread's runs would best run on the same worker again and again."""

    shares: Mapping[str, int] = {}


_PREFERRING = _Preferring()


@contextmanager
def preferring(shares: Mapping[str, int]) -> Iterator[None]:
    """A context for a run of many steps: shards of tasks named in `shares` keep to a worker each, if it is there.

    `shares` gives the number of shards. Dask runs a task where something is that it takes, and all shards take the same
    kernel and state: without this they may all run on the one worker that has these, step after step.
    """
    before, _PREFERRING.shares = _PREFERRING.shares, shares
    try:
        yield
    finally:
        _PREFERRING.shares = before


class _Preferences:
    """For the key of a task the workers that it prefers, as Dask's annotation `workers` takes it: no tuple."""

    def __init__(self, places: Mapping[str, Sequence[str]]) -> None:
        self.places = places
        """For each name of tasks, the worker of each shard."""

    def __call__(self, key: Any) -> Sequence[str]:
        found = self.places.get(key[0], ()) if isinstance(key, tuple) else ()
        return [found[key[2]]] if found else []


def preferences(shares: Mapping[str, int], threads: Mapping[str, int]) -> dict[str, Any]:
    """Dask's annotations for tasks in `shares`, on workers with so many `threads`: neighbouring shards go together.

    >>> preferences({"loop": 4}, {"a": 1, "b": 1})["workers"](("loop", 7, 2))
    ['b']
    """
    slots = [address for address, count in sorted(threads.items()) for _ in range(count)]
    if not shares or len(threads) < 2:
        return {}
    places = {name: [slots[n * len(slots) // count] for n in range(count)] for name, count in shares.items()}
    return {"workers": _Preferences(places), "allow_other_workers": True}


def _cluster(client: Any) -> Executor:
    if getattr(client, "asynchronous", False):
        raise UsageError(
            "to run on an asynchronous client",
            "flowgraph waits for results",
            "Use a client made with asynchronous=False.",
        )
    if not hasattr(client, "nthreads"):
        raise UsageError(
            f"to run on the client {client!r:.100}",
            "it is no distributed.Client",
            "Give distributed.Client(address), or a name of a local scheduler as `scheduler`.",
        )
    workers = sum(client.nthreads().values())

    def get(graph: Mapping[Any, Any], keys: Sequence[Any]) -> Any:
        from dask import config
        from dask.base import annotate
        from distributed import KilledWorker, span

        addresses = workers_of(client)  # asked once a run: each question is a message there and back
        check_workers(client, addresses)
        shared = shares_disk(client, addresses)
        # Without a shared disk arrays do travel inside the graph, and the user knows how large they are.
        quiet = {} if shared else {"distributed.admin.large-graph-warning-threshold": "1 TiB"}
        try:
            preferred = preferences(_PREFERRING.shares, addresses)
            with sending(shared), config.set(quiet), span("flowgraph"), annotate(**preferred):
                return client.get(NamedGraph(graph, new_token()), list(keys))
        except KilledWorker as error:
            raise ClusterError(
                f"to run the task {error.task!r}",
                f"{error.allowed_failures + 1} workers died while they had it",
                "Look into the workers' logs; often a shard is too large for a worker's memory: use more shards "
                "(`fg.shard(x, rows=...)`), cuts that `fg.plan` finds, or workers with more memory.",
            ) from error

    def hold(graph: Mapping[Any, Any], keys: Sequence[Any]) -> Any:
        check_workers(client, workers_of(client))
        return client.get(NamedGraph(graph, new_token()), list(keys), sync=False)

    return Executor("cluster", get, False, max(workers, 1), hold, client)


def workers_of(client: Any) -> Mapping[str, int]:
    """The workers of a client with the threads of each; waits for the first one, as Dask does."""
    found: Mapping[str, int] = client.nthreads()
    if not found:
        client.submit(os.getpid, pure=False).result()  # a cluster that grows with its tasks begins with this one
        found = client.nthreads()
    return found


_CHECKED: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()


def check_workers(client: Any, addresses: Iterable[str] | None = None) -> None:
    """Raise ClusterError unless results have the same bits on all workers as here; asked once for each worker.

    `addresses` are those of the workers; they are asked for if None.

    With `dask.config.set({"flowgraph.same-bits": False})` workers may differ, and results with them.
    """
    from dask import config

    known = _CHECKED.setdefault(client, set())
    workers = list(client.nthreads() if addresses is None else addresses)
    fresh = [address for address in workers if address not in known]
    if not fresh or not config.get("flowgraph.same-bits", True):
        return
    own, different = traits(), {}
    for address, found in client.run(traits, workers=fresh, on_error="return").items():
        if isinstance(found, OSError):  # it went away; its successor has another address
            continue
        if isinstance(found, BaseException):
            raise ClusterError(
                f"to run on the worker {address}",
                f"it can not run flowgraph: {type(found).__name__}: {found}",
                "Install flowgraph on all workers.",
            )
        if found == own:
            known.add(address)
        else:
            different[address] = found
    if different:
        raise ClusterError(
            f"to run on {len(workers)} workers",
            f"{len(different)} of them would compute other bits than this process:\n{_difference(own, different)}",
            "Give all workers the same versions and settings. Where other bits do not matter: "
            'dask.config.set({"flowgraph.same-bits": False}).',
        )


def _difference(own: Mapping[str, Any], workers: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of what differs: a line for each trait, a column for this process and for all workers that are alike."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for address, found in workers.items():
        alike.setdefault(tuple(found.get(name) for name in own), []).append(address)
    heads = [one if len(rest) == 0 else f"{one} and {len(rest)} more" for one, *rest in map(sorted, alike.values())]
    lines = [("", "here", *heads)]
    for name, *values in zip(own, own.values(), *alike, strict=True):
        if len(set(values)) > 1:
            lines.append((name, *("none" if value is None else str(value) for value in values)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


_PROBED: weakref.WeakKeyDictionary[Any, tuple[frozenset[str], bool]] = weakref.WeakKeyDictionary()
_PROBE_LOCK = threading.Lock()


def shares_disk(client: Any, addresses: Iterable[str]) -> bool:
    """Whether the workers at `addresses` all see files that this process writes; asked once for each set of workers."""
    with _PROBE_LOCK:
        workers = frozenset(addresses)
        before = _PROBED.get(client)
        if before is not None and before[0] == workers:
            return before[1]
        import tempfile  # late, as whatever `import flowgraph` does not need
        from pathlib import Path

        with tempfile.TemporaryDirectory(prefix="flowgraph-") as directory:
            path = Path(directory) / "probe"
            text = os.urandom(16).hex()
            path.write_text(text)
            seen = list(client.run(_sees, str(path), text, on_error="return").values())
        found = bool(seen) and all(one is True for one in seen)
        _PROBED[client] = workers, found
        return found


def _sees(path: str, text: str) -> bool:
    """Whether this process can read the file at `path`, and it is the one that is meant."""
    from pathlib import Path

    with suppress(OSError):
        return Path(path).read_text() == text
    return False
