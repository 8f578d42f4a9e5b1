"""`flowgraph doctor`: what is installed, which kernels BLAS uses, and which environment variables slow things down."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from flowgraph.cli.base import debug_option
from flowgraph.machine import usable_processors, version_of

PACKAGES = {
    "numpy": "",
    "scipy": "",
    "dask": "",
    "distributed": "",
    "threadpoolctl": "",
    "tqdm": "",
    "click": "",
    "pyarrow": "reads CSV and Parquet files: pip install 'flowgraph[dataframes]'",
    "pandas": "tables: pip install 'flowgraph[dataframes]'",
    "safetensors": "saves models: pip install 'flowgraph[files]'",
    "matplotlib": "draws fits: pip install 'flowgraph[plots]'",
    "graphviz": "draws programs: pip install 'flowgraph[plots]'",
    "zarr": "reads Zarr arrays: pip install 'flowgraph[zarr]'",
    "bokeh": "Dask's dashboard: pip install 'flowgraph[dashboard]'",
}
"""What is looked for, and for the optional ones what they are good for."""


# Environment variables


def _always(_: str) -> bool:
    return True


def _below_processors(value: str) -> bool:
    first = value.split(",", maxsplit=1)[0].strip()
    return first.isdigit() and 0 < int(first) < usable_processors()


def _slow_allocator(value: str) -> bool:
    return value not in ("pymalloc", "default", "mimalloc")


def _one_thread(value: str) -> bool:
    return value in ("sync", "synchronous", "single-threaded")


def _on(value: str) -> bool:
    return value != "0"


@dataclass(frozen=True)
class Brake:
    """An environment variable that can slow flowgraph down."""

    name: str
    harm: str
    """What it does."""
    hurts: Callable[[str], bool] = _always
    """Whether a value, which is not empty, does that."""

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return f"unset {self.name}"


_THREADS = "keeps BLAS from using all processors; flowgraph sets the threads of its own kernels itself"
BRAKES = (
    Brake("OPENBLAS_CORETYPE", "forces one family of BLAS kernels, whatever the processor could do"),
    Brake("OPENBLAS_L2_SIZE", "makes OpenBLAS cut matrices for a cache of another size"),
    *(
        Brake(name, _THREADS, _below_processors)
        for name in (
            "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "MKL_NUM_THREADS",
            "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
        )
    ),
    Brake("MKL_DEBUG_CPU_TYPE", "forces one family of BLAS kernels, whatever the processor could do"),
    Brake("MKL_ENABLE_INSTRUCTIONS", "forbids BLAS the newer instructions of the processor"),
    Brake("MKL_CBWR", "forbids BLAS the newer instructions of the processor"),
    Brake("NPY_DISABLE_CPU_FEATURES", "forbids numpy the named instructions of the processor"),
    Brake("NPY_ENABLE_CPU_FEATURES", "forbids numpy all but the named instructions of the processor"),
    Brake("GLIBC_TUNABLES", "can forbid the newer instructions of the processor", lambda value: "hwcaps" in value),
    Brake("PYTHONDONTWRITEBYTECODE", "makes every start compile every module anew"),
    Brake("PYTHONDEVMODE", "checks every piece of memory, at a multiple of the time", _on),
    Brake("PYTHONMALLOC", "replaces Python's quick allocator", _slow_allocator),
    Brake("PYTHONTRACEMALLOC", "notes where every piece of memory was asked for", _on),
    Brake("PYTHONASYNCIODEBUG", "makes clusters note every step that they take", _on),
    Brake("PYTHONPROFILEIMPORTTIME", "measures and prints every import", _on),
    Brake("MALLOC_CHECK_", "checks every piece of memory", _on),
    Brake("MALLOC_PERTURB_", "fills every piece of memory", _on),
    Brake("DASK_SCHEDULER", "makes Dask use one thread", _one_thread),
    Brake("DASK_NUM_WORKERS", "keeps Dask from using all processors", _below_processors),
)  # fmt: skip


def brakes_in(environment: Mapping[str, str]) -> list[tuple[Brake, str]]:
    """Returns the variables of `environment` that slow things down, and their values."""
    found = [(brake, environment.get(brake.name, "")) for brake in BRAKES]
    return [(brake, value) for brake, value in found if value and brake.hurts(value)]


# The report


def report() -> dict[str, Any]:
    """Returns everything that the command tells, as JSON can hold it."""
    import numpy  # noqa: F401 - so that its BLAS is loaded and can be asked
    import threadpoolctl

    pools = [one for one in threadpoolctl.threadpool_info() if one.get("user_api") == "blas"]
    return {
        "flowgraph": version_of("flowgraph") or "not installed: it runs from a checkout",
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "processors": {"usable": usable_processors(), "present": os.cpu_count()},
        "packages": {name: version_of(name) for name in PACKAGES},
        "blas": [
            {
                "library": one.get("internal_api"),
                "version": one.get("version"),
                "kernels": one.get("architecture"),
                "threads": one.get("num_threads"),
            }
            for one in pools
        ],
        "environment": [
            {"name": brake.name, "value": value, "harm": brake.harm, "remedy": brake.remedy}
            for brake, value in brakes_in(os.environ)
        ],
    }


def text_of(found: Mapping[str, Any]) -> str:
    """Returns a report as lines for people."""
    usable, present = found["processors"]["usable"], found["processors"]["present"]
    processors_text = f"{usable}" if usable == present else f"{usable} of the {present} that there are"
    lines = [
        ("flowgraph", found["flowgraph"]),
        ("python", found["python"]),
        ("platform", found["platform"]),
        ("processors", processors_text),
        *((name, version or f"not installed ({PACKAGES[name]})") for name, version in found["packages"].items()),
        *(("BLAS", _blas_text(one)) for one in found["blas"] or [{}]),
    ]
    width = max(len(name) for name, _ in lines)
    text = [f"{name:<{width}}  {value}" for name, value in lines]
    if not found["environment"]:
        return "\n".join([*text, "", "environment: nothing in it slows flowgraph down"])
    text += ["", "environment: these variables slow flowgraph down"]
    for one in found["environment"]:
        text += [f"  {one['name']}={one['value']}", f"    {one['harm']}", f"    remedy: {one['remedy']}"]
    return "\n".join(text)


def _blas_text(one: Mapping[str, Any]) -> str:
    if not one:
        return "none that threadpoolctl knows"
    kernels = f"kernels for {one['kernels']}" if one["kernels"] else "kernels of its own choice"
    threads = "1 thread" if one["threads"] == 1 else f"{one['threads']} threads"
    return f"{one['library']} {one['version'] or ''}, {kernels}, {threads}"


@click.command("doctor", short_help="Report what is installed, and what slows flowgraph down.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@debug_option
def doctor_command(as_json: bool) -> None:
    """Report versions, BLAS kernels, and environment variables that slow flowgraph down."""
    from flowgraph.data.source import printable

    found = report()
    text = json.dumps(found, indent=1) if as_json else "\n".join(map(printable, text_of(found).split("\n")))
    click.echo(text)
    sys.stdout.flush()
