"""How rows are cut into shards: at round numbers, and where the chunks that they come in end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np


def group_rows(lengths: Sequence[int], least: int) -> tuple[int, ...]:
    """Neighbouring `lengths` added up until each is at least `least`, but for the last.

    >>> group_rows([3, 1, 1, 5, 2], 4)
    (4, 6, 2)
    """
    groups: list[int] = []
    for length in lengths:
        if groups and groups[-1] < least:
            groups[-1] += length
        else:
            groups.append(length)
    return tuple(groups)


def behind(chunks: Sequence[int], rows: int, unit: int) -> tuple[int, ...]:
    """The lengths of shards that end on the first multiple of `unit` behind each chunk.

    The head of a chunk can be read for itself, while its last rows cost all that lies before them.

    >>> behind([10, 10, 10], 30, 8)
    (16, 8, 6)
    """
    total = max(sum(chunks), 1)  # an axis may be several times as long as its rows are many
    edges = [min(-(-rows * before // (total * unit)) * unit, rows) for before in accumulate(chunks, initial=0)]
    return tuple(b - a for a, b in pairwise(edges))


def cut_rows(rows: int, unit: int, wish: int | Sequence[int]) -> tuple[tuple[int, int], ...]:
    """`rows` cut into shards that start on multiples of `unit`: at the roundest ones within 5% of an even cut.

    A tuple gives the wished length of each shard; lengths are rounded to the unit, and 0 is allowed.

    >>> cut_rows(100, 8, 3)
    ((0, 32), (32, 72), (72, 100))
    >>> cut_rows(49, 16, (32, 17))  # where a wished edge lies on a multiple, it is kept
    ((0, 32), (32, 49))
    """
    units = -(-rows // unit)
    if isinstance(wish, int):
        ideal = [units * number / wish for number in range(wish + 1)]
        slack = 0.05 * units / wish
    else:
        total = max(sum(wish), 1)
        ideal = [rows * before / (total * unit) for before in accumulate(wish, initial=0)]
        slack = 0.0
    marks = [_roundest(mark, slack) for mark in ideal]
    marks[0], marks[-1] = 0, units
    edges = [min(mark * unit, rows) for mark in marks]
    return tuple((a, max(a, b)) for a, b in pairwise(edges))


def _roundest(mark: float, slack: float) -> int:
    """The integer within `slack` of `mark` with the highest power of two in it; the nearest if none is within."""
    candidates = range(int(np.ceil(mark - slack)), int(np.floor(mark + slack)) + 1)
    if not candidates:
        return round(mark)
    return max(candidates, key=lambda one: ((one & -one) if one else 1 << 62, -abs(one - mark)))
