"""What a process runs on: what must be alike on all workers for results to have the same bits."""

from __future__ import annotations

import os
import sys


def processors() -> int:
    """The number of tasks that run at a time on this machine: Dask's setting, else the processors of this process."""
    config = sys.modules.get("dask.config")
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
    import numpy as np
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
