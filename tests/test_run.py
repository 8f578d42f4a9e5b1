"""Executors: the same bits wherever a program runs and however its rows are cut; nothing starts by itself."""

from __future__ import annotations

import operator
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask.local import get_sync
from jobs import JOBS, LAYOUTS, ROWS, X, Y, bits, linear, uneven

import flowgraph as fg
from flowgraph import eager, errors, lower, machine, program, run, schedule, sources
from flowgraph.context import describe_line
from flowgraph.graph import Graph, Node
from flowgraph.sources import files

if TYPE_CHECKING:
    from distributed import Client

TILE = 16


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch, fresh_programs: None) -> None:
    """Tiles of 16 rows, so that little data has many; caches of programs must not outlive it."""
    monkeypatch.setattr(schedule, "TILE_ROWS", (TILE, TILE))


@pytest.fixture(scope="module", params=JOBS)
def job(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def expected(job: str, small_tiles: None) -> list[bytes]:
    return bits(JOBS[job](X), scheduler="synchronous")


# The same bits everywhere.


def test_the_job_is_right(job: str, expected: list[bytes]) -> None:
    tensors = JOBS[job](X.astype(np.float64), Y.astype(np.float64))
    for found, tensor in zip(expected, tensors, strict=True):
        value = np.frombuffer(found, np.float32).reshape(tensor.shape)
        np.testing.assert_allclose(value, tensor.numpy(), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 16])
def test_bits_do_not_depend_on_shards(job: str, expected: list[bytes], shards: int) -> None:
    for rows in (shards, uneven(ROWS, shards), (0, *uneven(ROWS, shards), 0)):
        for workers in (1, 2):
            with dask.config.set(num_workers=workers):
                assert bits(JOBS[job](fg.shard(X, rows=rows))) == expected
        assert bits(JOBS[job](fg.shard(X, rows=rows)), scheduler="synchronous") == expected


@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
def test_bits_do_not_depend_on_memory_layout(job: str, expected: list[bytes], make: Any) -> None:
    assert bits(JOBS[job](make())) == expected
    assert bits(JOBS[job](fg.shard(make(), rows=3))) == expected


@pytest.mark.parametrize("chunks", [(ROWS, 5), (17, 5), (64, 2), ((1, 0, 100, 102), 5)], ids=str)
def test_bits_do_not_depend_on_dask_chunks(job: str, expected: list[bytes], chunks: Any) -> None:
    x = da.from_array(X, chunks=chunks)
    assert bits(JOBS[job](x)) == expected
    assert bits(JOBS[job](fg.shard(x, rows=7), da.from_array(Y, chunks=(50, 1)))) == expected


def test_bits_do_not_depend_on_processes(job: str, expected: list[bytes], processes: None) -> None:
    for x in (X, np.asfortranarray(X), fg.shard(X, rows=7), da.from_array(X, chunks=(50, 3))):
        assert bits(JOBS[job](x), scheduler="processes") == expected


@pytest.mark.cluster
def test_bits_do_not_depend_on_the_cluster(job: str, expected: list[bytes], cluster: Client) -> None:
    for make in LAYOUTS.values():
        assert bits(JOBS[job](make()), client=cluster) == expected
    for rows in (1, 16, uneven(ROWS, 7)):
        assert bits(JOBS[job](fg.shard(X, rows=rows)), client=cluster) == expected
    assert bits(JOBS[job](da.from_array(X, chunks=(50, 3))), client=cluster) == expected


def test_two_runs_give_the_same_bits(job: str, expected: list[bytes]) -> None:
    x = fg.shard(X, rows=7)
    assert bits(JOBS[job](x)) == bits(JOBS[job](x)) == expected


@pytest.mark.parametrize(
    "scheduler", [None, "threads", "synchronous", get_sync], ids=["chosen", "threads", "synchronous", "a function"]
)
def test_one_row(job: str, scheduler: Any) -> None:
    x, y = X[:1], Y[:1]
    assert bits(JOBS[job](x, y), scheduler=scheduler) == bits(JOBS[job](fg.shard(x, rows=(0, 1, 0)), y))


@pytest.mark.parametrize("scheduler", [None, "threads"])
def test_no_rows(scheduler: Any) -> None:
    for none in (X[:0], da.from_array(X[:0], chunks=(4, 5)), fg.from_blocks([X[:0], X[:0]])):
        assert fg.sum(none).compute(scheduler=scheduler) == 0
        assert fg.sum(none, axis=0).compute(scheduler=scheduler).tolist() == [0] * 5
        assert np.isnan(fg.mean(none).compute(scheduler=scheduler))
        assert fg.max(none, axis=1).compute(scheduler=scheduler).shape == (0,)
        with pytest.raises(errors.ShapeError, match=r"max[\s\S]*found: there is none"):
            fg.max(none)


def test_empty_shards_give_identities() -> None:
    for reduce in (fg.sum, fg.max, fg.min, fg.var, fg.logsumexp):
        assert bits((reduce(fg.shard(X, rows=(0, 100, 0, 103, 0))),)) == bits((reduce(X),))


# Which executor.


class FakeClient:
    """What `resolve` asks of a client."""

    def __init__(self, asynchronous: bool = False) -> None:
        self.asynchronous = asynchronous
        self.asked = 0

    def nthreads(self) -> dict[str, int]:
        return {"a": 3, "b": 2}

    def scheduler_info(self) -> dict[str, Any]:
        raise AssertionError

    def get(self, graph: Any, keys: Any) -> Any:
        self.asked += 1
        return get_sync(graph, keys)


@pytest.mark.parametrize(
    ("scheduler", "name"),
    [
        (None, "threads"),
        ("threads", "threads"),
        ("Threading", "threads"),
        ("sync", "synchronous"),
        ("single-threaded", "synchronous"),
        ("processes", "processes"),
        (get_sync, "custom"),
    ],
)
def test_schedulers_by_name(scheduler: Any, name: str) -> None:
    assert run.resolve(scheduler=scheduler).name == name
    with dask.config.set(scheduler=scheduler):
        assert run.resolve().name == name


def test_the_order_of_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    monkeypatch.setattr(run, "current_client", lambda: client)
    assert run.resolve().name == "cluster"
    assert run.resolve().workers == 5
    assert run.resolve(scheduler="synchronous").name == "synchronous"
    assert run.resolve(client, "synchronous").name == "cluster"
    assert run.resolve(scheduler=client).name == "cluster"
    assert run.resolve(scheduler=client.get).name == "cluster"
    with dask.config.set(scheduler="dask.distributed"):  # what a default client writes there
        assert run.resolve().name == "cluster"
    with dask.config.set(scheduler="processes"):
        assert run.resolve().name == "processes"


def test_schedulers_that_are_refused() -> None:
    with pytest.raises(errors.UsageError, match="asynchronous"):
        run.resolve(FakeClient(asynchronous=True))
    with pytest.raises(errors.UsageError, match=r"'thread'.*\n.*not known"):
        run.resolve(scheduler="thread")
    with pytest.raises(errors.UsageError, match="there is no distributed client"):
        run.resolve(scheduler="distributed")


def test_a_pool_of_the_user(expected: list[bytes], job: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert bits(JOBS[job](fg.shard(X, rows=3)), scheduler=pool) == expected


def test_a_small_program_runs_in_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise AssertionError("an executor was asked for")

    monkeypatch.setattr(program, "resolve", refuse)
    small = X[:TILE], Y[:TILE]
    bits(linear(*small))
    bits(linear(fg.from_blocks([X[:3], X[3:TILE]]), Y[:TILE]))
    for more in ({"scheduler": "synchronous"}, {"client": FakeClient()}):
        with pytest.raises(AssertionError, match="an executor was asked for"):
            bits(linear(*small), **more)
    with pytest.raises(AssertionError, match="an executor was asked for"):
        bits(linear(X, Y))


def test_an_explicit_client_gets_a_small_program() -> None:
    client = FakeClient()
    run._PROBED[client] = frozenset(client.nthreads()), True
    run._CHECKED[client] = set(client.nthreads())  # type: ignore[index]
    found = bits(linear(X[:3], Y[:3]), client=client)
    assert client.asked == 1
    assert found == bits(linear(X[:3], Y[:3]))


# What travels.


def lowered(job: Any, x: Any) -> dict[Any, Any]:
    """The tasks of a job."""
    tensors = job(x)
    cone = eager.cone([one.node for one in tensors])
    entry = eager.compiled(eager.detached(cone))
    values = [node.memo for node in cone.leaves]
    counts = entry.program.row_counts(values, entry.rows)
    lowering = lower.Lowering(entry.program.bind(values, counts, 2), "0123456789ab")
    lowering.lower()
    return lowering.graph


def test_tasks_hold_no_nodes_and_keys_have_one_form(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, protocol: int) -> Any:
        raise AssertionError(f"a task holds a {type(self).__name__}")

    for kind in (Node, Graph, fg.Tensor):
        monkeypatch.setattr(kind, "__reduce_ex__", refuse, raising=False)
    graph = lowered(JOBS[job], fg.shard(X, rows=7))
    pickle.loads(pickle.dumps(graph))
    for name, step, shard in graph:
        assert re.fullmatch(r"flowgraph-[a-z0-9_-]+-0123456789ab", name)
        assert isinstance(step, int)
        assert isinstance(shard, int)


def test_arrays_travel_as_files() -> None:
    rows = 40_000
    x = np.zeros((rows, 5), np.float32)
    graph = lowered(lambda one: linear(one, np.zeros((rows, 1), np.float32)), fg.shard(x, rows=8))
    with sources.sending():
        blob = pickle.dumps(graph)
        assert len(blob) < 50_000
        again = pickle.loads(blob)
        key = next(key for key in again if key[0].startswith("flowgraph-whole"))
        assert get_sync(again, key)[0] == np.float32(0.25)


@pytest.mark.cluster
def test_files_go_after_a_run_and_a_held_array_keeps_its_own(cluster: Client, here: Path) -> None:
    x = fg.asarray(np.ones((30_000, 5), np.float32))
    for _ in range(2):  # one file for both runs
        bits((fg.sum(fg.square(x)),), client=cluster)
        (folder,) = here.glob("flowgraph-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        (file,) = folder.iterdir()
        assert file.stat().st_size > 30_000 * 5 * 4
    del x
    assert list(here.glob("flowgraph-*")) == []


@pytest.mark.cluster
def test_a_traced_function_writes_its_arguments_once(cluster: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It wrote the file of a large argument anew in every call."""
    written: list[int] = []
    monkeypatch.setattr(sources.rows, "write", lambda *given: (written.append(1), files.write(*given)))
    x = fg.asarray(np.ones((30_000, 5), np.float32))
    function = fg.function(lambda one: (fg.sum(one), one), client=cluster)
    for _ in range(3):
        total, same = function(x)
        assert float(total) == 150_000
        np.testing.assert_array_equal(same.numpy(), x.numpy())
    assert len(written) == 1


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go during a test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("flowgraph.sources.files.DIRECTORY.path", None)
    return tmp_path


@pytest.mark.cluster
def test_workers_that_do_not_share_the_disk(cluster: Client, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(700_000, 5)).astype(np.float32)  # above Dask's limit for a warning
    expected = bits((fg.sum(x, axis=0),))
    assert run.shares_disk(cluster, cluster.nthreads())
    monkeypatch.setitem(run._PROBED, cluster, (frozenset(cluster.nthreads()), False))
    assert bits((fg.sum(x, axis=0),), client=cluster) == expected
    assert bits((fg.sum(fg.from_blocks([x[:9], x[9:]]), axis=0),), client=cluster) == expected
    assert list(here.glob("flowgraph-*/*")) == []


# Failures.


def fails(x: Any) -> Any:
    raise ZeroDivisionError("a worker's own words")


@pytest.fixture
def failing() -> Iterator[Any]:
    op = fg.define("failing", "... -> ...", fails, doc="Nothing.")
    yield op
    del fg.OPS["failing"]


def check_error(tensor: Any, **where: Any) -> None:
    line = describe_line(tensor.node.where)
    assert re.fullmatch(rf"{re.escape(__file__)}:\d+", line)
    with pytest.raises(errors.RunError) as caught:
        bits((tensor,), **where)
    assert f"to compute failing (float32[rows, 5]), made at {line}" in caught.value.asked
    assert "ZeroDivisionError: a worker's own words" in caught.value.found


@pytest.mark.parametrize("scheduler", [None, "threads", "synchronous"])
def test_an_error_names_the_operation_and_the_users_line(failing: Any, scheduler: Any) -> None:
    check_error(failing(X), scheduler=scheduler)
    check_error(failing(fg.shard(X, rows=3)), scheduler=scheduler)


def test_an_error_survives_processes(failing: Any, processes: None) -> None:
    check_error(failing(fg.shard(X, rows=3)), scheduler="processes")


@pytest.mark.cluster
def test_an_error_survives_the_cluster(failing: Any, cluster: Client) -> None:
    check_error(failing(fg.shard(X, rows=3)), client=cluster)
    with pytest.raises(errors.RunError, match="failing"):
        dask.compute(failing(fg.shard(X, rows=3)), scheduler=cluster)


KINDS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.FlowgraphError)]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_can_be_pickled(kind: type[errors.FlowgraphError]) -> None:
    error = kind("asked", "found", "remedy")
    error.asked = "asked more"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "asked: asked more\nfound: found\nremedy: remedy"


def slow_op(marker: str) -> Any:
    def kernel(x: Any) -> Any:
        Path(marker).touch()
        time.sleep(0.05)
        return x * 2

    return fg.define("slow", "... -> ...", kernel, gradient=lambda g, out, x: g * 2, doc="x doubled, slowly.")


@pytest.mark.cluster
def test_a_killed_worker_changes_no_bit(mortal_cluster: Client, tmp_path: Path) -> None:
    slow = slow_op(str(tmp_path / "marker"))
    killed = []
    done = threading.Event()

    def kill() -> None:
        while not (tmp_path / "marker").exists():
            time.sleep(0.01)
        (name, pid), *_ = mortal_cluster.run(os.getpid).items()
        os.kill(pid, signal.SIGKILL)
        killed.append((name, done.is_set()))

    def work(x: Any) -> Any:
        return linear(slow(x))

    try:
        expected = bits(work(X))
        (tmp_path / "marker").unlink()
        thread = threading.Thread(target=kill)
        thread.start()
        found = bits(work(fg.shard(X, rows=8)), client=mortal_cluster)
        done.set()
        thread.join()
    finally:
        del fg.OPS["slow"]
    assert [after for _, after in killed] == [False]
    assert found == expected


@pytest.mark.cluster
def test_a_task_that_kills_its_workers_is_named(mortal_cluster: Client) -> None:
    deadly = fg.define("deadly", "... -> ...", lambda x: os._exit(1), doc="Nothing.")
    try:
        with pytest.raises(errors.ClusterError, match=r"flowgraph-loop-zero-.*\n.*2 workers died"):
            bits((fg.sum(deadly(fg.shard(X, rows=2))),), client=mortal_cluster)
    finally:
        del fg.OPS["deadly"]


def test_a_process_that_dies() -> None:
    deadly = fg.define("deadly", "... -> ...", lambda x: os._exit(1), doc="Nothing.")
    try:
        with (
            dask.config.set(num_workers=1),
            pytest.raises(errors.ClusterError, match=r"a process ended[\s\S]*__main__"),
        ):
            bits((fg.sum(deadly(fg.shard(X, rows=2))),), scheduler="processes")
    finally:
        del fg.OPS["deadly"]


# A user's script.

SCRIPT = """
    import sys
    import numpy as np
    import flowgraph as fg

    def cubed(x):
        return x * x * x

    cube = fg.define("cube", "... -> ...", cubed, gradient=lambda g, out, x: g * 3 * x * x, doc="x cubed.")
    halve = fg.define("halve", "... -> ...", lambda x: x / 2, gradient=lambda g, out, x: g / 2, doc="Half of x.")
    x = np.linspace(-1, 1, 100_000, dtype="float32").reshape(-1, 2)

    def job():
        w = fg.constant([1.5, 2.5])
        loss = fg.sum(halve(cube(fg.shard(x, rows=4) * w)))
        return loss, *fg.gradient(loss, [w])

    if __name__ == "__main__":
        import dask
        here = [one.compute(scheduler="synchronous").tobytes() for one in job()]
        assert "distributed" not in sys.modules
        assert job()[1].compute(scheduler="processes").tobytes() == here[1]
        from distributed import Client, LocalCluster
        options = dict(dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False})
        with LocalCluster(n_workers=1, host="127.0.0.1", **options) as local, Client(local):
            assert [one.numpy().tobytes() for one in job()] == here
            assert [one.tobytes() for one in dask.compute(*job())] == here
        print("same bits")
"""


@pytest.mark.cluster
def test_ops_of_a_users_script(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, "-W", "error::UserWarning", str(path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert found.stdout.strip() == "same bits", found.stderr
    assert list(tmp_path.glob("flowgraph-*")) == []


class Elsewhere:
    """The traits of another machine here, and the true ones where a copy of this is called."""

    def __call__(self) -> dict[str, Any]:
        return machine.traits() | {"BLAS": "openblas 0.3.1 for Prescott"}

    def __reduce__(self) -> Any:
        return operator.attrgetter("traits"), (machine,)


@pytest.mark.cluster
def test_workers_that_would_give_other_bits_are_refused(cluster: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = bits(linear(X, Y))
    assert bits(linear(X, Y), client=cluster) == expected
    monkeypatch.setattr(run, "traits", Elsewhere())
    assert bits(linear(X, Y), client=cluster) == expected  # each worker is asked once
    monkeypatch.setattr(run, "_CHECKED", weakref.WeakKeyDictionary())
    with pytest.raises(errors.ClusterError, match=r"tcp://.*\nBLAS +openblas 0.3.1 for Prescott +openblas "):
        linear(X, Y)[0].compute(client=cluster)
    with dask.config.set({"flowgraph.same-bits": False}):
        assert bits(linear(X, Y), client=cluster) == expected
