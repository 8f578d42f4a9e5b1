"""Writes the reference of operations into README.md, from the table of operations itself.

`python scripts/reference.py` rewrites the section; with `--check` it only compares, and exits with status 1 if the
section is out of date.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import flowgraph.ops
from flowgraph.op import Op

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- operations: written by scripts/reference.py -->", "<!-- end of operations -->"


def first_sentence(thing: Any) -> str:
    """What a public function or an op returns, as the first line of its documentation says."""
    if thing is None or isinstance(thing, float):
        return f"The constant {thing}."
    text = thing.doc if isinstance(thing, Op) else inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n", 1)[0].split()).replace("|", "\\|")


def factors(thing: Any) -> str:
    """The factor string of an op, where it is one for all operands; a function has those of the ops it is made of."""
    if not isinstance(thing, Op):
        return "of ops" if inspect.isfunction(thing) else ""
    return f"`{thing.factors}`" if isinstance(thing.factors, str) else "by operands"


def differentiable(thing: Any) -> str:
    """Whether an op has a gradient rule; a function has those of the ops it is made of."""
    if isinstance(thing, Op):
        return "yes" if thing.gradient is not None else "no"
    return "of ops" if inspect.isfunction(thing) else ""


def families() -> list[ModuleType]:
    """The modules with public operations."""
    names = sorted(one.name for one in pkgutil.iter_modules(flowgraph.ops.__path__))
    found = [importlib.import_module(f"flowgraph.ops.{name}") for name in names]
    return [one for one in found if getattr(one, "__all__", [])]


def section() -> str:
    """The reference as Markdown: a table a family, folded."""
    lines = [BEGIN]
    for family in families():
        title = (family.__doc__ or "").strip().split("\n\n")[0].rstrip(".").replace("\n", " ")
        public = [name for name in sorted(family.__all__) if not name.startswith("_")]
        lines += ["<details>", f"<summary>{title} ({len(public)})</summary>", ""]
        lines += ["| operation | factors | gradient | returns |", "|---|---|---|---|"]
        for name in public:
            thing = getattr(family, name)
            lines.append(f"| `{name}` | {factors(thing)} | {differentiable(thing)} | {first_sentence(thing)} |")
        lines += ["", "</details>"]
    return "\n".join([*lines, END])


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    text = README.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    wanted = f"{before}{section()}{after}"
    if check:
        return int(wanted != text)
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
