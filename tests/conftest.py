"""What all tests share: Hypothesis profiles, settings of dask, BLAS and the collector, and one cluster of processes."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import dask
import dask.multiprocessing
import pytest
from forks import METHOD, context
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

from flowgraph import op
from flowgraph.eager import BINDINGS, COMPILED
from flowgraph.op import OPS, Op

if TYPE_CHECKING:
    from distributed import Client

# "ci" gives the same examples on every run and machine; `pytest --hypothesis-profile=thorough` goes looking for more.
# Neither counts seconds: the machines that run tests are busy.
settings.register_profile(
    "ci", max_examples=50, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=1000, derandomize=False)
settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def _dask_settings() -> Iterator[None]:
    """Refuses keys that dask can only make at random: such a task would never be found again after a restart.

    Workers do not profile themselves, which they do all the time, even where there is nothing to do, and are forked.
    """
    settings = {
        "tokenize.ensure-deterministic": True,
        "distributed.worker.profile.enabled": False,
        "distributed.worker.multiprocessing-method": METHOD,
    }
    with dask.config.set(settings):
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_blas_thread() -> Iterator[None]:
    """Holds BLAS to one thread outside kernels, too: those of several test processes would wait for one another."""
    import scipy.linalg  # noqa: F401  (it brings a BLAS of its own, which must be there to be held)

    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture
def three_blas_threads() -> Iterator[None]:
    """Lets BLAS have threads, for tests that look at who holds it to one."""
    with threadpool_limits(3, user_api="blas"):
        yield


def pytest_collection_finish() -> None:
    """Takes what the tests themselves are made of from the collector, and has it look less often.

    Graphs are many small objects: it would look through them again and again, in a tenth of the time of all tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


@pytest.fixture
def fresh_programs() -> Iterator[None]:
    """No program that was made before is found, and none that this test makes is found after it."""
    for cache in (COMPILED, BINDINGS):
        cache.clear()
    yield
    for cache in (COMPILED, BINDINGS):
        cache.clear()


@pytest.fixture
def define() -> Iterator[Callable[..., Op]]:
    """`fg.define` for ops that go when the test is over."""
    before = dict(OPS)
    yield op.define
    OPS.clear()
    OPS.update(before)


@pytest.fixture(scope="session")
def _pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=context()) as found:
        yield found


@pytest.fixture
def processes(_pool: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes for Dask's scheduler of that name, which would start new ones for every call."""
    monkeypatch.setattr(dask.multiprocessing, "get", partial(dask.multiprocessing.get, pool=_pool))


@contextmanager
def cluster_of(number: int, silence_logs: int = logging.ERROR, threads: int = 1) -> Iterator[Client]:
    """A client of so many processes with so many threads each. It is not dask's default client: tests name it."""
    from distributed import Client, LocalCluster

    context()
    with (
        LocalCluster(
            n_workers=number,
            threads_per_worker=threads,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # the default port may be taken
            scheduler_kwargs={"dashboard": False},  # nobody looks at it, and it takes a second
            memory_limit=0,
            silence_logs=silence_logs,
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def cluster() -> Iterator[Client]:
    """Two processes, for tests that leave them as they are."""
    with cluster_of(2) as client:
        yield client


@pytest.fixture
def threaded_cluster() -> Iterator[Client]:
    """Two processes with two threads each, as Dask makes them by default."""
    with cluster_of(2, threads=2) as client:
        yield client


@pytest.fixture(scope="session")
def _mortals() -> Iterator[Client]:
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), cluster_of(3, logging.CRITICAL) as client:
        yield client


@pytest.fixture
def mortal_cluster(_mortals: Client) -> Client:
    """Three processes that may be killed: others take their place. A task during which two end is given up."""
    _mortals.wait_for_workers(3)
    return _mortals
