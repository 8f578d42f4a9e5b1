"""Processes that are forked from one which has imported what they need: each is new, and none takes a second for it.

Where forks are not safe, they are started as Python does it by itself, and all is as true, and slower.
"""

from __future__ import annotations

import atexit
import os
import runpy
import sys
import warnings
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
METHOD = "forkserver" if sys.platform == "linux" else "spawn"
PRELOADED = "dask.array distributed flowgraph.keras flowgraph.program flowgraph.train hypothesis pytest".split()
"""What workers, scripts and the tests that send them functions import. Nothing of it starts a thread of Python's."""


def context() -> BaseContext:
    """The context of such processes; what they are forked from is started by the first call."""
    found = get_context(METHOD)
    if METHOD == "forkserver":
        from multiprocessing.forkserver import ensure_running

        found.set_forkserver_preload(PRELOADED)
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        # This flowgraph, wherever the test stands that asks first; and BLAS has one thread, as Dask gives its workers.
        with patch.dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1"):
            ensure_running()
    return found


class Done(NamedTuple):
    """What a script left behind."""

    returncode: int
    stdout: str
    stderr: str


def run_script(
    path: Path, *arguments: object, folder: Path | None = None, errors: Sequence[type[Warning]] = ()
) -> Done:
    """What the script leaves behind, which runs in `folder` in a process of its own; `errors` are errors."""
    with TemporaryDirectory() as name:
        outputs = [Path(name) / "stdout", Path(name) / "stderr"]
        given = [str(path), *map(str, arguments)]
        process = context().Process(target=_run, args=(given, folder or Path.cwd(), tuple(errors), outputs))
        process.start()
        process.join()
        stdout, stderr = (one.read_text(encoding="utf-8") for one in outputs)
    assert process.exitcode is not None
    return Done(process.exitcode, stdout, stderr)


def _run(given: list[str], folder: Path, errors: Sequence[type[Warning]], outputs: Sequence[Path]) -> None:
    for number, output in enumerate(outputs, 1):
        file = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    sys.argv = given
    for one in errors:
        warnings.simplefilter("error", one)
    try:
        runpy.run_path(given[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing leave out
