"""Count, mean, variance, minimum and maximum of columns, in one pass over blocks of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TILE_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Moments:
    """What one pass learns about the columns of a table: arrays of float64, one entry per column.

    The shape is `(columns,)` for a table and `()` for a single column. Sums that do not fit float64 (values near 1e300)
    come out as inf or nan; minimum and maximum are exact always.
    """

    count: NDArray[np.float64]
    """Number of values."""
    mean: NDArray[np.float64]
    """Their mean; nan if there are none."""
    variance: NDArray[np.float64]
    """Their population variance (divided by count, not by count - 1)."""
    minimum: NDArray[np.float64]
    """The smallest value."""
    maximum: NDArray[np.float64]
    """The largest value."""


@dataclass(frozen=True, eq=False)
class _Part:
    """The moments of a run of rows in the form that merges: `spread` is the sum of squared deviations."""

    count: int
    mean: Any
    spread: Any
    minimum: Any
    maximum: Any


class RunningMoments:
    """Moments of rows that arrive block by block.

    Tiles of rows merge in pairs, like the digits of a binary counter, so that the error grows with the logarithm of the
    rows; which rows form a tile depends on the blocks alone.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[int, _Part]] = []

    def add(self, block: NDArray[Any]) -> None:
        """Returns nothing; takes in a block of shape `(rows, columns)` or `(rows,)`, of at least one row."""
        for start in range(0, len(block), _TILE_ROWS):
            level, part = 0, _measure(block[start : start + _TILE_ROWS])
            while self._parts and self._parts[-1][0] == level:
                part = _merge(self._parts.pop()[1], part)
                level += 1
            self._parts.append((level, part))

    def result(self) -> Moments:
        """Returns the moments of all rows so far; at least one block must have been added.

        >>> running = RunningMoments()
        >>> running.add(np.array([[1.0, 5.0], [3.0, 5.0]]))
        >>> running.result().mean.tolist(), running.result().variance.tolist()
        ([2.0, 5.0], [1.0, 0.0])
        """
        total = self._parts[-1][1]
        for _, part in reversed(self._parts[:-1]):
            total = _merge(part, total)
        shape = np.shape(total.mean)
        return Moments(
            np.full(shape, float(total.count)),
            *(np.asarray(value, np.float64) for value in (total.mean, total.spread / total.count)),
            *(np.asarray(value, np.float64) for value in (total.minimum, total.maximum)),
        )


def moments_of(blocks: Iterable[NDArray[Any]]) -> Moments:
    """Returns the moments of blocks of rows, each of shape `(rows, columns)` or `(rows,)`; at least one.

    >>> float(moments_of([np.array([1.0, 2.0]), np.array([3.0])]).mean)
    2.0
    """
    running = RunningMoments()
    for block in blocks:
        running.add(block)
    return running.result()


def _measure(tile: NDArray[Any]) -> _Part:
    values = tile.astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = values.mean(axis=0)
        deviation = values - mean
        # The second term takes back the rounding of the mean (Chan, Golub and LeVeque, 1983).
        spread = (deviation * deviation).sum(axis=0) - deviation.sum(axis=0) ** 2 / len(values)
    minimum, maximum = values.min(axis=0), values.max(axis=0)
    # A sum of equal values may round, so their mean is set rather than computed.
    constant = minimum == maximum
    return _Part(len(values), np.where(constant, minimum, mean), np.where(constant, 0.0, spread), minimum, maximum)


def _merge(left: _Part, right: _Part) -> _Part:
    count = left.count + right.count
    with np.errstate(over="ignore", invalid="ignore"):
        delta = right.mean - left.mean
        mean = left.mean + delta * (right.count / count)
        spread = left.spread + right.spread + delta * delta * (left.count * (right.count / count))
    minimum, maximum = np.minimum(left.minimum, right.minimum), np.maximum(left.maximum, right.maximum)
    return _Part(count, mean, spread, minimum, maximum)
