"""A simulated cluster: how long a data-parallel step takes on more workers than there are.

A discrete-event model of Dask. The scheduler is one process: every task costs it time when it is sent out and when it
ends, one after the other. A worker computes one task at a time, and fetches inputs from the workers that have them; a
network card sends, or receives, one thing at a time. So the parameters of the next step, which all workers fetch from
the one that made them, wait for its card. A step is what flowgraph makes of it: a task for each worker on its rows, a
tree of joins, one task for the update.

    python -m benchmarks.simulation         steps per second for 1 to 1,000 workers (run in scripts/)
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from flowgraph.lower.tree import fan_in

STEPS = 3


@dataclass(frozen=True)
class Model:
    """What things cost, in seconds. The jobs no_ops and no_ops_chain measure what the scheduler takes."""

    task: float = 4e-4
    """The scheduler's time for a task: half when it is sent out, half when it ends."""
    message: float = 5e-4
    """From the scheduler to a worker, or back."""
    fetch: float = 2e-4
    """One input from another worker, besides its bytes."""
    bandwidth: float = 1e9
    """Bytes a second of a network card."""
    compute: float = 1.0
    """What a worker computes in a step."""
    join: float = 2e9
    """Bytes a second that a worker adds up."""


def tree(workers: int, size: int, most: int, model: Model) -> dict[Any, tuple[list[Any], float]]:
    """The tasks of some steps: {key: (the tasks that it waits for, its seconds)}."""
    tasks: dict[Any, tuple[list[Any], float]] = {}
    for step in range(STEPS):
        before = [("update", step - 1)] if step else []
        level, own = 0, [("loop", step, number) for number in range(workers)]
        tasks.update((key, (before, model.compute)) for key in own)
        while len(own) > most:
            groups = [own[first : first + most] for first in range(0, len(own), most)]
            own = [("join", step, level, number) for number in range(len(groups))]  # type: ignore[misc]
            tasks.update(
                (key, (list(group), len(group) * size / model.join)) for key, group in zip(own, groups, strict=True)
            )
            level += 1
        tasks["update", step] = [*own, *before], (len(own) + 1) * size / model.join
    return tasks


def step_seconds(workers: int, size: int, most: int | None, model: Model) -> float:
    """The seconds of a step with parameters of `size` bytes, joined by `most` at a time (None: flowgraph's choice)."""
    tasks = tree(workers, size, most if most is not None else fan_in(workers, size), model)
    missing = {key: len(needs) for key, (needs, _) in tasks.items()}
    users: dict[Any, list[Any]] = defaultdict(list)
    for key, (needs, _) in tasks.items():
        for one in needs:
            users[one].append(key)
    busy: dict[Any, float] = defaultdict(float)  # the scheduler, processors and cards: until when
    places: dict[Any, set[int]] = {}
    ended: dict[Any, float] = {}
    events: list[tuple[float, int, Any]] = []

    def send(key: Any) -> None:
        """The scheduler sends a task out: to the worker of its rows, else to that of its first input."""
        busy["scheduler"] += model.task / 2
        needs, seconds = tasks[key]
        place = key[2] if key[0] == "loop" else min(places[needs[0]])
        ready = now = busy["scheduler"] + model.message
        for one in needs:
            if place not in places[one]:
                cards = ("out", min(places[one])), ("in", place)
                done = max(now, *map(busy.__getitem__, cards)) + model.fetch + size / model.bandwidth
                busy.update(dict.fromkeys(cards, done))
                places[one].add(place)
                ready = max(ready, done)
        busy["cpu", place] = end = max(ready, busy["cpu", place]) + seconds
        places[key] = {place}
        heapq.heappush(events, (end + model.message, len(places), key))

    for key in [one for one, count in missing.items() if not count]:
        send(key)
    while events:
        time, _, key = heapq.heappop(events)
        busy["scheduler"] = max(busy["scheduler"], time) + model.task / 2
        ended[key] = busy["scheduler"]
        for user in users[key]:
            missing[user] -= 1
            if not missing[user]:
                send(user)
    return (ended["update", STEPS - 1] - ended["update", 0]) / (STEPS - 1)


def main() -> None:
    """Print the table of the README."""
    print("| workers | 25 kB of parameters | fan-in | 4 MB | fan-in |\n|---|---|---|---|---|")
    for workers in (1, 3, 10, 30, 100, 300, 1000):
        cells = [str(workers)]
        for size in (25_000, 4_000_000):
            seconds = step_seconds(workers, size, None, Model())
            cells += [f"{1 / seconds:.2f} steps/s ({1 / seconds:.0%})", str(fan_in(workers, size))]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
