"""Trees of joins: how many partial results one task joins.

    shard   0 ─┐     3 ─┐     6 ─┐
            1 ─┼ join   4 ─┼ join   7 ─┼ join        fan-in 3
            2 ─┘     5 ─┘     8 ─┘
                └────────┼────────┘
                       whole

Merging follows the grid of all rows, so no bit depends on the fan-in: it is a matter of time alone.
"""

from __future__ import annotations

from flowgraph.graph import value_bytes
from flowgraph.kernel import LoopStage
from flowgraph.machine import Rates

RATES = Rates()
LATENCY_SECONDS = 2e-3
"""From the end of a task to the start of one that waits for it: two messages, and what the scheduler does."""
INPUT_SECONDS = 2e-4
"""What one more input of a task costs, however small: it is asked for, sent and unpacked."""
CHOICES = (2, 4, 8, 16, 32, 64)
SUBTREES = 4
"""A shard's partial results are about so many subtrees."""


def partial_bytes(stage: LoopStage) -> int:
    """About how many bytes of partial results a shard of a loop returns."""
    return SUBTREES * sum(value_bytes(one) for node in stage.loop.partials for one in node.types)


def fan_in(count: int, size: int) -> int:
    """How many of `count` partial results of `size` bytes each one task should join, so that the last is ready soonest.

    A wide tree has few levels, a narrow one takes in few inputs at each of them: small results are joined by many,
    large ones by few.

    >>> fan_in(1000, 1_000), fan_in(1000, 1_000_000), fan_in(1000, 100_000_000)
    (64, 16, 4)
    """
    return min(CHOICES, key=lambda most: seconds(count, size, most))


def seconds(count: int, size: int, most: int) -> float:
    """How long it takes to join `count` results of `size` bytes by `most` at a time, where workers are free."""
    total = 0.0
    while count > 1:
        inputs, count = min(count, most), -(-count // most)
        total += LATENCY_SECONDS + inputs * (INPUT_SECONDS + size / RATES.network) + count * RATES.task
    return total
