"""The picture of a program: stages as boxes, lanes as frames around them, what goes between them as arrows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
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


STYLE = """\
  rankdir=LR; newrank=true; compound=true; ranksep=0.9; fontname="Helvetica"; fontsize=12;
  node [shape=box, style="rounded,filled", fillcolor=white, fontname="Helvetica", fontsize=12];
  edge [fontname="Helvetica", fontsize=10, fontcolor="#404040", color="#606060"];"""
COLOURS = ("#e8f0fa", "#fbf0dc", "#e6f4e6", "#f6e6f2", "#eeeeee")


def dot_text(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> str:
    """The picture in the language of graphviz, from left to right in the order of the work."""
    lines = ["digraph program {", STYLE]
    lanes = dict.fromkeys(one.lane for one in boxes)
    colour = dict(zip(sorted(one for one in lanes if one), cycle(COLOURS), strict=False))
    for number, lane in enumerate(lanes):
        own = [f'"{one.name}" [label="{one.name}\\n{one.label}"];' for one in boxes if one.lane == lane]
        if lane:
            lines.append(f'  subgraph cluster_{number} {{ label="{lane}"; labeljust=l; margin=14;')
            lines += [f'    style="rounded,filled"; color="{colour[lane]}";', *(f"    {line}" for line in own), "  }"]
        else:
            lines += [f"  {line}" for line in own]
    stems = {one.name: one.name.removesuffix("_" + one.lane.replace(", ", "_").replace(" ", "")) for one in boxes}
    return "\n".join([*lines, *_arrow_lines(arrows, stems), "}"]) + "\n"


def _arrow_lines(arrows: Sequence[Arrow], stems: Mapping[str, str]) -> list[str]:
    """Arrows; where every lane gives to every other they meet in a point, for nobody could follow them one by one.

    `stems` are the names of the boxes without their lanes.
    """
    between: dict[tuple[str, str], list[Arrow]] = {}
    for one in arrows:
        between.setdefault((stems[one.start], stems[one.end]), []).append(one)
    lines = []
    for number, own in enumerate(between.values()):
        starts, ends = dict.fromkeys(one.start for one in own), dict.fromkeys(one.end for one in own)
        if len(own) <= len(starts) + len(ends):
            faint = ", style=dashed, weight=0" if own[0].start == "input" else ""
            lines += [f'  "{one.start}" -> "{one.end}" [label="{size_text(one.bytes)}"{faint}];' for one in own]
            continue
        lines.append(f"  meet_{number} [shape=point, width=0.1];")
        given = {name: sum(one.bytes for one in own if one.start == name) for name in starts}
        taken = {name: sum(one.bytes for one in own if one.end == name) for name in ends}
        lines += [f'  "{name}" -> meet_{number} [label="{size_text(size)}", dir=none];' for name, size in given.items()]
        lines += [f'  meet_{number} -> "{name}" [label="{size_text(size)}"];' for name, size in taken.items()]
    return lines


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
