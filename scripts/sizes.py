"""Prints the lines of each room, and which files and functions are long enough for a talk. It is no law.

Run it from anywhere: `python scripts/sizes.py`, or with the path of another checkout behind it.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import NamedTuple

LONG_FILE = 400
LONG_FUNCTION = 40
PACKAGE = "flowgraph"


class Function(NamedTuple):
    """A function and its size."""

    path: Path
    line: int
    name: str
    lines: int


def count(node: ast.stmt) -> int:
    """The number of lines from the first to the last of the statement."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def functions(path: Path) -> list[Function]:
    """Every function and method of the file, with its lines from `def` to the end but for the docstring."""
    return [
        Function(path, node.lineno, node.name, count(node) - (count(node.body[0]) if ast.get_docstring(node) else 0))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def room(relative: Path) -> str:
    """The room of a file of the package, else the folder at the top of the checkout."""
    parts = relative.parts
    return "/".join(parts[:2]).removesuffix(".py") if parts[0] == PACKAGE else parts[0]


def main(root: Path) -> None:
    """Prints the report for the checkout at `root`."""
    paths = sorted(path for top in (PACKAGE, "tests", "scripts", "examples") for path in (root / top).rglob("*.py"))
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}

    rooms: dict[str, list[int]] = {}
    for path in paths:
        rooms.setdefault(room(path.relative_to(root)), []).append(lines[path])
    print(f"{'lines':>7} {'files':>6}  room")
    for name, sizes in sorted(rooms.items(), key=lambda item: -sum(item[1])):
        print(f"{sum(sizes):7} {len(sizes):6}  {name}")
    print(f"{sum(lines.values()):7} {len(lines):6}  in all")

    print(f"\nFiles of more than {LONG_FILE} lines:")
    for path in sorted((path for path in paths if lines[path] > LONG_FILE), key=lambda path: -lines[path]):
        print(f"{lines[path]:7}  {path.relative_to(root)}")

    print(f"\nFunctions of more than {LONG_FUNCTION} lines, docstrings not counted:")
    found = [function for path in paths for function in functions(path) if function.lines > LONG_FUNCTION]
    for function in sorted(found, key=lambda function: -function.lines):
        print(f"{function.lines:7}  {function.path.relative_to(root)}:{function.line} {function.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
