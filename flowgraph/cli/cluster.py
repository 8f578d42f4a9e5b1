"""Where a command runs: on threads, on processes of this machine, or on a cluster that is there."""

from __future__ import annotations

import logging
import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any

from flowgraph.cli.base import note
from flowgraph.errors import ClusterError, UsageError
from flowgraph.machine import usable_processors
from flowgraph.run import check_workers

ANSWER_SECONDS = 8
_LOCAL = re.compile(r"local(?::(?P<count>\d+))?")
_ADDRESS = re.compile(r"(?:tcp|tls|ws|wss|ucx)://[^\s/]+:\d+")


def check_cluster(spec: str | None) -> None:
    """Returns nothing; raises UsageError for a text that names no cluster."""
    if spec is None:
        return
    local = _LOCAL.fullmatch(spec)
    if (local is None or local["count"] == "0" or len(spec) > 12) and not _ADDRESS.fullmatch(spec):
        remedy = "Use local:2 for two processes of this machine, or the address of a scheduler such as tcp://host:8786."
        raise UsageError(f"run on the cluster {spec!r}", "that is neither local:N nor an address", remedy)


def is_local(spec: str | None) -> bool:
    """Whether `spec` asks for processes of this machine."""
    return spec is not None and _LOCAL.fullmatch(spec) is not None


@contextmanager
def connected(spec: str | None, quiet: bool) -> Iterator[Any]:
    """Yields a client of the cluster that `spec` names, or None for the threads of this process.

    Raises ClusterError within `ANSWER_SECONDS` if an address does not answer or has no worker that can work for us.
    """
    check_cluster(spec)
    if spec is None:
        yield None
        return
    for name in ("distributed", "asyncio"):  # what matters reaches the user as an error
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        if is_local(spec):
            client = _started(stack, spec, quiet)
        else:
            client = _reached(stack, spec, quiet)
        yield client


def _started(stack: ExitStack, spec: str, quiet: bool) -> Any:
    from distributed import Client, LocalCluster

    found = _LOCAL.fullmatch(spec)
    assert found is not None
    count = int(found["count"] or usable_processors())
    bokeh = find_spec("bokeh") is not None
    if not bokeh:
        note(quiet, "no dashboard: bokeh is not installed (pip install 'flowgraph[dashboard]')")
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="flowgraph-"))
    with _interrupts_held():
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # Dask's own choice would let the whole network look in; None would too, and only leave out the pictures.
            dashboard_address="127.0.0.1:0",
            local_directory=folder,
            silence_logs=logging.CRITICAL,
        )
        stack.enter_context(cluster)
    client = stack.enter_context(Client(cluster, set_as_default=False))
    where = f", dashboard: {cluster.dashboard_link}" if bokeh else ""
    note(quiet, f"running on {count} processes of this machine{where}")
    return client


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A context at whose end Ctrl-C comes through to this thread; what is started inside never gets it.

    A terminal sends it to all processes, and those of a cluster are to leave it to the one that started them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its start would let Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reached(stack: ExitStack, address: str, quiet: bool) -> Any:
    from distributed import Client

    asked = f"run on the cluster {address!r}"
    remedy = "Check the address and that `dask scheduler` and `dask worker` run there; without --cluster it runs here."
    try:
        client = stack.enter_context(Client(address, timeout=ANSWER_SECONDS, set_as_default=False))
    except Exception as error:  # what a server that is no scheduler answers can be taken for anything
        found = f"no scheduler answers within {ANSWER_SECONDS} seconds ({type(error).__name__})"
        raise ClusterError(asked, found, remedy) from error
    try:
        client.wait_for_workers(1, timeout=ANSWER_SECONDS)
    except TimeoutError as error:
        raise ClusterError(asked, "the scheduler answers, but it has no workers", remedy) from error
    check_workers(client)
    workers = len(client.nthreads())
    note(quiet, f"running on {workers} workers of {address}, dashboard: {client.dashboard_link}")
    return client
