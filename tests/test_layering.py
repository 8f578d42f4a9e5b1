"""A room imports only rooms above it; the files of a room import one another without cycles; the import is quick."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "flowgraph"
ROOMS = """
    errors tree types factors op graph sources machine context mesh leaves operators tensor apply ops
    reverse passes schedule partition kernel lower run watch program explain
    eager collection exchange state session store train planner spellings keras linalg fft nn math random data
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


def import_in_a_new_process() -> tuple[float, float, set[str]]:
    """The seconds of processor time that numpy and then `import flowgraph` take, and the modules that come along."""
    code = (
        "import time; start = time.process_time(); import numpy; between = time.process_time(); import flowgraph; "
        "end = time.process_time(); import sys; print(between - start, end - between, *sys.modules)"
    )
    # Without bytecode Python would compile every module anew, which no user's second import does.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    return float(output[0]), float(output[1]), set(output[2:])


def test_import_leaves_heavy_modules_alone() -> None:
    heavy = {"distributed", "dask.array", "dask.dataframe", "pandas", "matplotlib", "scipy", "pyarrow"}
    *_, modules = import_in_a_new_process()
    assert PACKAGE in modules
    assert modules & heavy == set()


@pytest.mark.alone
def test_import_is_quick() -> None:
    """0.3 s with numpy; on a machine so slow that numpy alone takes more than two thirds of that, as much more."""
    import_in_a_new_process()  # writes the bytecode
    for _ in range(12):  # a busy machine takes longer, never less time
        numpy, flowgraph, _ = import_in_a_new_process()
        if numpy + flowgraph < 0.3 * max(1, numpy / 0.2):
            return
    raise AssertionError(f"numpy takes {numpy} s, flowgraph {flowgraph} s")
