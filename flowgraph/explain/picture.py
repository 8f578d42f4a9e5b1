"""The picture of a program: stages as boxes, lanes as frames around them, what goes between them as arrows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowgraph.errors import UsageError
from flowgraph.explain.table import size_text


@dataclass(frozen=True)
class Box:
    """A stage."""

    name: str
    label: str
    lane: str


@dataclass(frozen=True)
class Arrow:
    """What all tasks of one stage give to those of another."""

    start: str
    end: str
    bytes: int


def dot_text(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> str:
    """The picture in the language of graphviz."""
    lines = ["digraph program {", '  rankdir="LR"; node [shape=box, style=rounded]; compound=true;']
    for number, lane in enumerate(dict.fromkeys(one.lane for one in boxes)):
        own = [f'"{one.name}" [label="{one.name}\\n{one.label}"];' for one in boxes if one.lane == lane]
        if lane:
            lines.append(f'  subgraph cluster_{number} {{ label="{lane}"; style=dashed;')
            lines += [f"    {line}" for line in own]
            lines.append("  }")
        else:
            lines += [f"  {line}" for line in own]
    lines += [f'  "{one.start}" -> "{one.end}" [label="{size_text(one.bytes)}"];' for one in arrows]
    return "\n".join([*lines, "}"]) + "\n"


def draw(dot: str, path: Any) -> None:
    """Write the picture to `path`, by graphviz in the format of its ending; `.dot` is the text itself."""
    path = Path(path)
    ending = path.suffix.lstrip(".")
    if ending == "dot":
        path.write_text(dot, encoding="utf-8")
        return
    if ending not in ("svg", "png", "pdf"):
        raise UsageError(
            f"a picture in the file {str(path)!r}",
            "its ending is no format known here",
            "Use .svg, .png, .pdf or .dot.",
        )
    try:
        import graphviz
    except ImportError:
        raise UsageError(
            f"to draw {str(path)!r}",
            "the package graphviz is not installed",
            'Install it: pip install "flowgraph[plots]"; or write a file that ends in .dot.',
        ) from None
    try:
        path.write_bytes(graphviz.Source(dot).pipe(format=ending))
    except graphviz.ExecutableNotFound:
        raise UsageError(
            f"to draw {str(path)!r}",
            "the package graphviz is installed, but its program `dot` is not on the path",
            "Install graphviz itself from the system's packages; or write a file that ends in .dot.",
        ) from None
