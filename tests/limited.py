"""Scripts in a process that may take little memory, on data that is larger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import run_script

Array = np.ndarray[Any, Any]

needs_linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's account of memory")

START = """
import ctypes, resource, sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Barrier
import dask, numpy as np, dask.threaded
import flowgraph as fg
from flowgraph import eager, schedule

dask.config.set(num_workers=2)

M_ARENA_MAX = -8
ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)

# What is large to flowgraph is an eighth of it, so that less data is much.
import_module("flowgraph.ops.quantiles").COUNTED_BYTES //= 8
import_module("flowgraph.passes.sink").COMPUTED_BYTES //= 8
eager.KEEP_BYTES //= 8
schedule.TILE_ROWS = (64, schedule.TILE_ROWS[1] // 8)

# BLAS takes memory for as many threads as are ever in it at a time, and keeps it.
square, both = np.ones((1000, 1000), np.float32), Barrier(2)
with ThreadPoolExecutor(2) as pool:
    list(pool.map(lambda _: [(both.wait(), square @ square) for _ in range(5)], range(2)))

def status(name):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(name + ":")]
    return int(line.split()[1]) * 1024

def limit(nbytes):
    most = status("VmData") + nbytes
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
"""
"""What every script begins with."""

ON_A_FILE = """
x = np.load(sys.argv[1], mmap_mode="r")
for one in job(x[: len(x) // 10]):  # libraries are loaded, and threads are there
    np.asarray(one)
limit(x.nbytes // 2)
for one in job(x):
    print(*np.ravel(one).tolist())
"""


def printed_by(script: str, folder: Path, *arguments: object) -> list[str]:
    """The lines that a process prints which runs START and `script`, written into `folder`, with `arguments`."""
    path = folder / "script.py"
    path.write_text(START + script, encoding="utf-8")
    done = run_script(path, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def results_on_a_file(x: Array, job: str, folder: Path) -> list[Array]:
    """What the `job(x)` of a script yields, where `x` is in a file and there is memory for no more than half of it."""
    path = folder / "x.npy"
    np.save(path, x)
    try:
        return [np.array(line.split(), np.float64) for line in printed_by(job + ON_A_FILE, folder, path)]
    finally:
        path.unlink()
