"""Tables: columns as text and as HTML, and numbers that a person can read."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column: its title, a cell for each line, and the cell of the last line."""

    title: str
    cells: Sequence[str]
    total: str


def as_text(columns: Sequence[Column], notes: Sequence[str]) -> str:
    """The table as lines of text, the notes under it."""
    widths = [max(map(len, (one.title, *one.cells, one.total))) for one in columns]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    rows = [line(cells) for cells in zip(*(one.cells for one in columns), strict=True)]
    head, last = line([one.title for one in columns]), line([one.total for one in columns])
    return "\n".join([head, rule, *rows, rule, last, *notes])


def as_html(columns: Sequence[Column], notes: Sequence[str]) -> str:
    """The table as HTML, the notes under it as a list."""

    def line(cells: Sequence[str], tag: str) -> str:
        first, *rest = map(html.escape, cells)
        numbers = "".join(f'<{tag} style="text-align: right">{cell}</{tag}>' for cell in rest)
        return f'<tr><{tag} style="text-align: left">{first}</{tag}>{numbers}</tr>'

    head = line([one.title for one in columns], "th")
    rows = "".join(line(cells, "td") for cells in zip(*(one.cells for one in columns), strict=True))
    last = line([one.total for one in columns], "th")
    below = "".join(f"<li>{html.escape(one)}</li>" for one in notes)
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody><tfoot>{last}</tfoot></table>"
    return f"<div>{table}<ul>{below}</ul></div>"


def size_text(size: float | None) -> str:
    """A number of bytes.

    >>> size_text(1536), size_text(20)
    ('1.54 kB', '20 B')
    """
    if size is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def count_text(count: float) -> str:
    """A large number.

    >>> count_text(2_500_000)
    '2.5 M'
    """
    for unit in ("", " k", " M", " G", " T"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:,.3g} P"


def seconds_text(seconds: float | None) -> str:
    """A time in seconds, to two digits.

    >>> seconds_text(0.01234)
    '0.012'
    """
    return "" if seconds is None else f"{seconds:.2g}" if seconds < 100 else f"{seconds:,.0f}"
