"""What a process runs on: how quick it is, and what must be alike on all workers for results to have the same bits."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from flowgraph.errors import UsageError


def bytes_of(memory: Any, asked: str) -> float:
    """The bytes that a number or a text such as "2 GiB" stands for; raises UsageError, for what was `asked`."""
    from dask.utils import parse_bytes

    try:
        found = float(parse_bytes(memory) if isinstance(memory, str) else memory)
    except (TypeError, ValueError):
        found = math.nan
    if isinstance(memory, bool) or not found > 0:
        raise UsageError(
            f"{asked} with memory={memory!r}", "that is no number of bytes above 0", 'Give memory="2 GiB", or bytes.'
        )
    return found


class Rates(NamedTuple):
    """How quick a place is: rough figures of one core, of a network of 10 Gbit and of Dask. They never reach a bit."""

    flops: float = 2e10
    """Operations a second of matrix products."""
    elementwise: float = 4e9
    """Operations a second of functions of single elements in cache, an addition being one."""
    memory: float = 1e10
    """Bytes a second that are read from memory, or written to it."""
    call: float = 1.5e-6
    """Seconds that a call of numpy takes however little it computes."""
    network: float = 5e8
    """Bytes a second that a worker takes in from others: received, unpacked and copied."""
    task: float = 5e-4
    """Seconds that the scheduler of a cluster takes for a task; it serves one at a time."""
    local_task: float = 1e-4
    """Seconds that the schedulers of this process take for one."""


@cache
def measured_rates() -> Rates:
    """The rates of a core of this machine, measured once in about 10 ms; those of network and Dask are as usual."""
    square = np.ones((192, 192), np.float32)
    line, out = np.ones(1 << 15, np.float32), np.empty(1 << 15, np.float32)
    block = np.ones(1 << 21, np.float64)
    return Rates(
        flops=2 * 192.0**3 / _best(lambda: square @ square),
        elementwise=line.size / _best(lambda: np.add(line, line, out)),
        memory=block.nbytes / _best(block.max),
    )


def _best(call: Callable[[], Any]) -> float:
    found = []
    for _ in range(4):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return max(min(found), 1e-7)


def dask_config() -> Any:
    """Dask's module of settings, or None where Dask was never imported: then nobody has set any."""
    if "dask.config" not in sys.modules:
        return None
    import dask.config  # another thread may be about to: this waits for it

    return dask.config


def processors() -> int:
    """The number of tasks that run at a time on this machine: Dask's setting, else the processors of this process."""
    config = dask_config()
    setting = config.get("num_workers", None) if config is not None else None
    return int(setting) if setting else usable_processors()


def usable_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version_of(package: str) -> str | None:
    """The installed version of a package, or None."""
    from importlib.metadata import PackageNotFoundError, version  # late: it takes a tenth of `import flowgraph`

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def traits() -> dict[str, str | None]:
    """What decides bits besides the program: versions, numpy's instructions, the kernels of its BLAS.

    Python counts by its minor version, which pickled functions depend on.
    """
    from threadpoolctl import threadpool_info

    pools = [one for one in threadpool_info() if one.get("user_api") == "blas" and "numpy" in one.get("filepath", "")]
    blas = [f"{one.get('internal_api')} {one.get('version')} for {one.get('architecture')}" for one in pools]
    features = np.__config__.CONFIG.get("SIMD Extensions", {})
    return {
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "numpy": np.__version__,
        "flowgraph": version_of("flowgraph"),
        "BLAS": ", ".join(sorted(blas)) or "unknown",
        "instructions": " ".join(features.get("found", ())) or "none beyond the baseline",
    }
