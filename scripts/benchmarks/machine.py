"""The machine: processors, memory, load; and an environment for children in which nothing slows them down unseen."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DROPPED = {
    "OPENBLAS_CORETYPE": "a forced kernel family can halve the speed of matrix products",
    "OPENBLAS_L2_SIZE": "it changes how OpenBLAS cuts its products",
    "PYTHONDONTWRITEBYTECODE": "every start would compile every module anew",
    "NPY_DISABLE_CPU_FEATURES": "numpy would leave parts of the processor unused",
    "XLA_FLAGS": "they change what JAX and TensorFlow compile",
}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def complaints(environment: Mapping[str, str] = os.environ) -> list[str]:
    """What is set and will not be passed on."""
    return [f"{name} is set and is not passed on: {why}" for name, why in DROPPED.items() if name in environment]


def child_environment(threads: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a child: nothing that is dropped, as many threads as told, this checkout first."""
    own = {name: value for name, value in environment.items() if name not in DROPPED}
    own.update(dict.fromkeys(THREADS, str(threads)))
    own["PYTHONPATH"] = os.pathsep.join([str(ROOT / "scripts"), str(ROOT), *filter(None, [own.get("PYTHONPATH")])])
    return own | {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def processors(threads: int) -> list[int]:
    """So many processors for the children, on cores of their own if there are enough."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    cores: dict[str, int] = {}
    for number in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        core = siblings.read_text(encoding="ascii") if siblings.exists() else str(number)
        cores.setdefault(core, number)
    first = list(cores.values())
    return (first + [number for number in allowed if number not in first])[:threads]


def describe(used: Sequence[int]) -> dict[str, str]:
    """The machine and the checkout in words."""
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "processor": _processor(),
        "instructions": _instructions(),
        "processors used": f"{len(used)} of {os.cpu_count()}",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "load before": load,
        "commit": _commit(),
    }


def _fields(path: str, names: Sequence[str]) -> dict[str, str]:
    """The first value of each name in a file of `name: value` lines."""
    file, found = Path(path), dict[str, str]()
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in names:
            found.setdefault(name.strip(), value.strip())
    return found


def _processor() -> str:
    return _fields("/proc/cpuinfo", ["model name"]).get("model name") or platform.processor() or platform.machine()


def _instructions() -> str:
    """The vector instructions, on which more hangs than on the model's name."""
    flags = _fields("/proc/cpuinfo", ["flags"]).get("flags", "").split()
    return " ".join(one for one in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile") if one in flags) or "unknown"


def _memory() -> str:
    total = _fields("/proc/meminfo", ["MemTotal"]).get("MemTotal")
    return f"{int(total.split()[0]) / 1e6:.0f} GB" if total else "unknown"


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    try:
        changed = " with changes" if git("status", "--porcelain", "--", "flowgraph") else ""
        return (git("rev-parse", "--short", "HEAD") or "unknown") + changed
    except OSError:
        return "unknown"
