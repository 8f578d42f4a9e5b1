"""The memory of this process: what it takes, its peak, and a limit."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def trim() -> None:
    """Give what was freed back to the system, so that it does not hide a peak."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def reset_peak() -> bool:
    """Make the peak what is taken now; False where the system can not."""
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def taken() -> int:
    """The bytes in memory now; where the system does not tell, the most so far."""
    return _status("VmRSS") if STATUS.exists() else peak()


def peak() -> int:
    """The most bytes in memory so far, or since `reset_peak`."""
    if STATUS.exists():
        return _status("VmHWM")
    # macOS gives bytes, others kilobytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def limited(most: int, first: Callable[[], Any], run: Callable[[], Any]) -> Callable[[], Any]:
    """`run` in a process that gets no more than `most` bytes in all, and fails if it took more.

    `first` is called before: what libraries map ahead and do not touch, and the stacks of their threads, count in the
    limit of the system, and are no memory.
    """
    first()
    if STATUS.exists():
        trim()
        reset_peak()
        limit = _status("VmData") + most - taken()
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def checked() -> Any:
        found = run()
        if peak() > most:
            raise MemoryError(f"{most / 1e6:,.0f} MB are allowed, {peak() / 1e6:,.0f} were taken")
        return found

    return checked


def _status(name: str) -> int:
    """A size from the process's status, in bytes."""
    (line,) = (line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
