"""A room imports only rooms above it; the files of a room import one another without cycles; the import is quick."""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

import flowgraph as fg

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "flowgraph"
ROOMS = """
    errors machine tree types factors attrs op graph sources context mesh leaves operators tensor apply ops
    reverse passes schedule partition kernel lower run watch program explain
    eager pinned collection exchange state session store train planner spellings keras linalg fft nn math random data
    regression compat cli
""".split()
SEES_ALL = ("__init__", "__main__")
TASK_MODULES = ("dask.task_spec", "dask._task_spec")
TASK_ROOM = "lower"
LATE_IMPORTERS = ("import_module", "__import__", "find_spec")


def module_name(path: Path, package: Path) -> str:
    """ops/linalg.py -> flowgraph.ops.linalg, and ops/__init__.py -> flowgraph.ops."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The part behind the package's name, "" for the package itself."""
    return [*module.split("."), ""][1]


def imports(path: Path, module: str) -> Iterator[tuple[int, str, str]]:
    """Every import of the file, wherever it stands, as (line, module, imported name or "")."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            yield from ((node.lineno, source, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if function in LATE_IMPORTERS and texts and isinstance(texts[0], str):
                relative = texts[0].startswith(".")
                yield node.lineno, f"{package}{texts[0]}" if relative else texts[0], ""


def violations(package: Path) -> list[str]:
    """What breaks the rules in the package at this path; one line each."""
    files = {module_name(path, package): path for path in sorted(package.rglob("*.py"))}
    strangers = {room_of(module) for module in files} - {"", *SEES_ALL, *ROOMS}
    found = [f"{name}: this room is not in the list of rooms" for name in sorted(strangers)]
    edges: dict[str, set[str]] = {}
    for module, path in files.items():
        room = room_of(module)
        if room in ("", *SEES_ALL):
            continue
        for line, source, name in imports(path, module):
            here = f"{path.relative_to(package.parent).as_posix()}:{line}"
            full = f"{source}.{name}" if name else source
            if room != TASK_ROOM and any(f"{full}.".startswith(f"{task}.") for task in TASK_MODULES):
                found.append(f"{here}: only {TASK_ROOM} imports {source}")
            if source.split(".")[0] != PACKAGE:
                continue
            other = room_of(full if source == PACKAGE else source)
            if other == room:
                edges.setdefault(module, set()).add(full if full in files else source)
            elif other not in ROOMS:
                found.append(f"{here}: {full} is no room, and a room imports nothing else")
            elif room in ROOMS and ROOMS.index(other) > ROOMS.index(room):
                found.append(f"{here}: {room} imports {other}, which is below it")
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        found.append(f"cycle: {' -> '.join(reversed(error.args[1]))}")
    return found


def test_every_room_imports_only_rooms_above_it() -> None:
    assert violations(ROOT / PACKAGE) == []


def test_contributing_lists_the_rooms_in_the_same_order() -> None:
    block = re.search(r"```rooms\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    assert block[1].split() == ROOMS


PLANTED = {
    "the right way": (
        {
            "__init__.py": "from flowgraph import cli, errors",
            "__main__.py": "from flowgraph.cli import main",
            "errors.py": "import math",
            "ops/__init__.py": "from flowgraph.ops import linalg, shape",
            "ops/linalg.py": "from .shape import reshape\nfrom ..errors import ShapeError",
            "ops/shape.py": "import flowgraph.tensor",
            "lower.py": "from dask.task_spec import Task",
            "cli.py": "from . import errors\ndef main():\n    import flowgraph.program",
        },
        [],
    ),
    "wrong import": (
        {"graph.py": "from flowgraph.program import Program"},
        ["flowgraph/graph.py:1: graph imports program, which is below it"],
    ),
    "wrong import of a module": (
        {"passes/cull.py": "import numpy\nimport flowgraph.lower as low"},
        ["flowgraph/passes/cull.py:2: passes imports lower, which is below it"],
    ),
    "wrong import from the package": (
        {"types.py": "from flowgraph import errors, op"},
        ["flowgraph/types.py:1: types imports op, which is below it"],
    ),
    "wrong relative import": (
        {"kernel/stages.py": "from ..lower import tasks\nfrom .. import run"},
        [
            "flowgraph/kernel/stages.py:1: kernel imports lower, which is below it",
            "flowgraph/kernel/stages.py:2: kernel imports run, which is below it",
        ],
    ),
    "wrong relative import in a folder's __init__": (
        {"ops/__init__.py": "from ..reverse import gradient"},
        ["flowgraph/ops/__init__.py:1: ops imports reverse, which is below it"],
    ),
    "late import": (
        {"tensor.py": "class Tensor:\n    def compute(self):\n        from flowgraph import run"},
        ["flowgraph/tensor.py:3: tensor imports run, which is below it"],
    ),
    "late import by name": (
        {"tensor.py": "run = lambda: importlib.import_module('flowgraph.run')\n__import__('flowgraph.cli')"},
        [
            "flowgraph/tensor.py:2: tensor imports cli, which is below it",
            "flowgraph/tensor.py:1: tensor imports run, which is below it",
        ],
    ),
    "import for types alone": (
        {"op.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from flowgraph.graph import Node"},
        ["flowgraph/op.py:3: op imports graph, which is below it"],
    ),
    "the package as a whole": (
        {"data/rows.py": "import flowgraph\nfrom flowgraph import Tensor"},
        [
            "flowgraph/data/rows.py:1: flowgraph is no room, and a room imports nothing else",
            "flowgraph/data/rows.py:2: flowgraph.Tensor is no room, and a room imports nothing else",
        ],
    ),
    "cycle": (
        {
            "data/csv.py": "from flowgraph.data.rows import Rows",
            "data/rows.py": "def read():\n    from .sniff import guess",
            "data/sniff.py": "from flowgraph.data import csv",
        },
        ["cycle: flowgraph.data.csv -> flowgraph.data.rows -> flowgraph.data.sniff -> flowgraph.data.csv"],
    ),
    "cycle through the folder's __init__": (
        {"ops/__init__.py": "from flowgraph.ops.linalg import matmul", "ops/linalg.py": "from . import matmul"},
        ["cycle: flowgraph.ops -> flowgraph.ops.linalg -> flowgraph.ops"],
    ),
    "tasks outside lower": (
        {
            "run.py": "from dask.task_spec import Task",
            "kernel/tasks.py": "from dask import _task_spec\nimport dask._task_spec",
        },
        [
            "flowgraph/kernel/tasks.py:1: only lower imports dask",
            "flowgraph/kernel/tasks.py:2: only lower imports dask._task_spec",
            "flowgraph/run.py:1: only lower imports dask.task_spec",
        ],
    ),
    "unknown room": (
        {"utils.py": "", "helpers/deep/text.py": "", "cli.py": "from flowgraph.utils import pad"},
        [
            "helpers: this room is not in the list of rooms",
            "utils: this room is not in the list of rooms",
            "flowgraph/cli.py:1: flowgraph.utils.pad is no room, and a room imports nothing else",
        ],
    ),
}


@pytest.mark.parametrize(("files", "expected"), PLANTED.values(), ids=PLANTED.keys())
def test_the_check_finds_what_is_planted(tmp_path: Path, files: dict[str, str], expected: list[str]) -> None:
    for name, text in files.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert violations(tmp_path / PACKAGE) == expected


AT_ONCE = """
    errors tree types factors attrs op graph context mesh leaves operators tensor apply ops
    reverse state spellings linalg fft nn math random
""".split()
"""The rooms that `import flowgraph` takes: those that make nodes. All others come when something asks for them."""


def in_a_new_process(code: str, data: bytes = b"") -> str:
    """What the code prints in a new process, which has `data` to read."""
    # Without bytecode Python would compile every module anew, which no user's second import does.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment, cwd=ROOT, check=True, input=data, stdout=subprocess.PIPE
    ).stdout.decode()


def import_in_a_new_process() -> tuple[float, float, set[str]]:
    """The seconds of processor time that numpy and then `import flowgraph` take, and the modules that come along."""
    output = in_a_new_process(
        "import time; start = time.process_time(); import numpy; between = time.process_time(); import flowgraph; "
        "end = time.process_time(); import sys; print(between - start, end - between, *sys.modules)"
    ).split()
    return float(output[0]), float(output[1]), set(output[2:])


def test_import_leaves_heavy_modules_alone() -> None:
    heavy = {"dask", "distributed", "pandas", "matplotlib", "scipy", "pyarrow"}
    heavy |= {"numpy.random", "numpy.fft", "numpy.polynomial"}  # `import numpy` leaves them alone too
    *_, modules = import_in_a_new_process()
    assert PACKAGE in modules
    assert modules & heavy == set()


def test_import_takes_the_rooms_that_make_nodes() -> None:
    *_, modules = import_in_a_new_process()
    assert {room_of(module) for module in modules if module.startswith(f"{PACKAGE}.")} == set(AT_ONCE)


def test_differentiating_takes_no_more_rooms() -> None:
    output = in_a_new_process(
        "import sys, flowgraph as fg; x = fg.constant([[1.0, 2.0]]); v = fg.Variable([[3.0], [4.0]]);"
        "fg.grad(lambda x: fg.sum(fg.exp(x[0] @ v) * fg.einsum('ij->j', x)))(x); print(*sys.modules)"
    )
    assert {room_of(module) for module in output.split() if module.startswith(f"{PACKAGE}.")} == set(AT_ONCE)


def test_threads_ask_for_the_first_value_at_once() -> None:
    """Each by another door: they wait for the import that one of them began, also for that of dask's settings."""
    code = """
import sys, threading
import flowgraph as fg

sys.setswitchinterval(1e-5)
x, v = fg.constant([1.0, 2.0]), fg.Variable([1.0] * 4)
doors = [
    lambda: float(fg.sum(x * 2)) == 6,
    lambda: fg.function(lambda x: x + 1)(x).tolist() == [2, 3],
    lambda: len((x * 3).__dask_graph__()) > 0,
    lambda: v.assign([2.0] * 4).numpy().tolist() == [2] * 4,
    lambda: fg.from_blocks([[1.0], [2.0]]).shape == (2,),
    lambda: callable(fg.Program) and callable(fg.from_dask) and callable(fg.tracing),
    lambda: "0" in repr(x - x),
    lambda: fg.cond(x[0] > 0, lambda: x, lambda: -x).tolist() == [1, 2],
]
start, right = threading.Barrier(len(doors)), []

def go(door):
    start.wait()
    right.append(door())

threads = [threading.Thread(target=go, args=(door,)) for door in doors]
for one in threads:
    one.start()
for one in threads:
    one.join()
print(len(right), all(right))
"""
    for _ in range(3):
        assert in_a_new_process(code).split() == ["8", "True"]


def test_a_task_takes_along_what_it_needs() -> None:
    """A worker begins with a task: nothing was imported, and no value asked for, before it is unpickled."""
    x = fg.constant(np.arange(6, dtype=np.float32).reshape(3, 2))
    tasks = dict(fg.sum(fg.exp(x) * 2, axis=0).__dask_graph__() or {})
    data = pickle.dumps(tasks)
    code = "import pickle, sys; (task,) = pickle.load(sys.stdin.buffer).values(); print(*task().tolist())"
    found = [float(one) for one in in_a_new_process(code, data).split()]
    assert found == pytest.approx((2 * np.exp(x.numpy()).sum(axis=0)).tolist())


@pytest.mark.alone
def test_import_is_quick() -> None:
    """0.3 s with numpy; on a machine so slow that numpy alone takes more than 0.2 s, at most half as much as numpy."""
    import_in_a_new_process()  # writes the bytecode
    for _ in range(12):  # a busy machine takes longer, never less time
        numpy, flowgraph, _ = import_in_a_new_process()
        if numpy + flowgraph < 0.3 or (numpy > 0.2 and flowgraph < numpy / 2):
            return
    raise AssertionError(f"numpy takes {numpy} s, flowgraph {flowgraph} s")
