"""One contender in a process of its own.

`python -P -m benchmarks.child JSON` takes what to do as JSON, then a word a line, and answers each with a line of JSON:

    prepare    make the data, warm up                           {"calls": ..., "versions": ..., "blas": ...}
    turn       one call, then time some                         {"seconds": ..., "found": ...}
    memory     make the data, measure the peak of some calls    {"bytes": ..., "exact": ..., "found": ...}
    figure     make the data, ask for a number                  {"figure": ...}

Instead of an answer to the first word there may come {"missing": module}. Errors go to stderr and end the process.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

from . import memory

HEAD = 4


def main() -> None:
    """Answers every line of stdin."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    task = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, task["processors"])
    contender = None
    for line in sys.stdin:
        answer: Any
        try:
            contender = contender or _Contender(task)
            answer = getattr(contender, line.strip())()
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] == __package__:
                raise
            answer = {"missing": error.name}
        print(json.dumps(answer), file=channel, flush=True)


class _Contender:
    def __init__(self, task: Mapping[str, Any]) -> None:
        self.task = task
        library = importlib.import_module(f"{__package__}.with_{task['library']}")
        data = importlib.import_module(f"{__package__}.data")
        self.make: Callable[..., Any] = getattr(library, task["work"] + task["suffix"])
        self.data: Any = getattr(data, task["work"])(**task["size"])
        self.run: Any = None
        self.calls = 1

    def prepare(self) -> Any:
        """Warm up, and choose how many calls make a turn long enough to be timed."""
        self.run = self.make(self.data, self.task["threads"])
        self.run()
        while (seconds := self._time()) < (wanted := self.task["turn_seconds"]):
            self.calls = max(self.calls + 1, round(self.calls * min(wanted / seconds, 10)))
        return {"calls": self.calls, "versions": versions(self.task["needs"]), "blas": blas()}

    def _time(self) -> float:
        began = time.perf_counter()
        for _ in range(self.calls):
            self.found = self.run()
        return time.perf_counter() - began

    def turn(self) -> Any:
        """The mean time of a call, or of a step if a call makes many, after one that brings memory and threads back."""
        self.run()
        seconds = self._time()
        return {"seconds": seconds / self.calls / self.data.steps, "found": digest(self.found)}

    def memory(self) -> Any:
        """The peak of two calls, over what is taken after the same on a tenth of the data."""
        threads = self.task["threads"]
        self.make(self.data.head(max(len(self.data.X) // 10, 1)), threads)()
        run = self.make(self.data, threads)
        gc.collect()
        memory.trim()
        exact = memory.reset_peak()
        before = memory.taken() if exact else memory.peak()
        for _ in range(2):
            found = run()
        peak = memory.peak()
        about = {"versions": versions(self.task["needs"]), "blas": blas()}
        return {"bytes": max(peak - before, 0), "exact": exact, "found": digest(found), **about}

    def figure(self) -> Any:
        """A number that is no time of this process: a count, or one that is computed."""
        run = self.make(self.data, self.task["threads"])
        about = {"versions": versions(self.task["needs"]), "blas": blas()}
        return {"figure": float(run()["figure"]), **about}


def digest(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of every result: the first entries, and the size of the largest."""
    import numpy as np

    flat = {name: np.asarray(one, np.float64).ravel() for name, one in found.items()}
    return {name: {"head": one[:HEAD].tolist(), "top": float(np.abs(one).max())} for name, one in flat.items()}


def versions(needs: Sequence[str]) -> dict[str, str]:
    """Of Python, and of those distributions that are installed."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in needs:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def blas() -> str:
    """The BLAS that numpy uses and its kernel family, as far as it can be asked."""
    try:
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError:
        return ""
    return ", ".join(
        f"{one['internal_api']} {one['version']} with kernels for {one.get('architecture', 'unknown')}"
        for one in threadpool_info()
        if one["user_api"] == "blas" and "numpy" in one["filepath"]
    )


if __name__ == "__main__":
    main()
