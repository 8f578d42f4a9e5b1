"""A run before it is run: tasks dealt to places in Dask's order, and the memory that they hold at each moment."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from flowgraph.explain.forms import Form
from flowgraph.explain.work import Cost
from flowgraph.machine import Rates
from flowgraph.watch import parts_of, size_of

DISTURBED = 8
"""How many runs with other times are simulated to find the peak ..."""
MANY = 1000
"""... unless there are more tasks than this: of many, the times even out."""


Moment = tuple[Any, int, bool]
"""When a task begins (True) or ends: its key, and the number of the process that runs it."""


@dataclass
class Memory:
    """What one process holds."""

    shares: bool
    """Whether it sees the caller's arrays."""
    bytes: int = 0
    count: Counter[int] = field(default_factory=Counter)
    """For each form, by how many results it is held."""
    keys: set[Any] = field(default_factory=set)

    def add(self, key: Any, value: Any) -> None:
        """Hold the result of a task."""
        if key not in self.keys:
            self.keys.add(key)
            for one in self._parts(value):
                self.count[id(one)] += 1
                if self.count[id(one)] == 1:
                    self.bytes += one.nbytes

    def drop(self, key: Any, value: Any) -> None:
        """Let go of the result of a task, if it is held."""
        if key in self.keys:
            self.keys.remove(key)
            for one in self._parts(value):
                self.count[id(one)] -= 1
                if not self.count[id(one)]:
                    self.bytes -= one.nbytes

    def _parts(self, value: Any) -> list[Form]:
        return [one for one in parts_of(value) if isinstance(one, Form) and not (one.held and self.shares)]


@dataclass(frozen=True)
class Outcome:
    """What a simulated run came to."""

    seconds: float
    peak: int
    """The most bytes that one process held at a time."""
    peaks: Mapping[str, int]
    """For each group of tasks, the most that a process held while it ran one of them."""
    moments: Sequence[Moment]
    """Each task as it begins and as it ends, in order."""


def worst(simulate: Callable[[Mapping[Any, Cost]], Outcome], costs: Mapping[Any, Cost], places: int) -> Outcome:
    """The fullest of a few runs whose tasks take other times, `simulate(costs)` among them, with the peaks of all.

    With several places the order of tasks hangs on times that nobody knows well, and the peak on the order.
    """
    fullest = simulate(costs)
    peaks = dict(fullest.peaks)
    for seed in range(DISTURBED if places > 1 and len(costs) <= MANY else 0):
        draw = Random(seed)
        other = {key: replace(cost, seconds=cost.seconds * draw.uniform(0.3, 3)) for key, cost in costs.items()}
        found = simulate(other)
        fullest = max(fullest, found, key=lambda one: one.peak)
        for name, size in found.peaks.items():
            peaks[name] = max(peaks.get(name, 0), size)
    return replace(fullest, peaks=peaks)


class Simulation:
    """A run of tasks. `homes` has the number of the process of each place where one can run.

    Processes that are not the caller's own, which `shares` tells, hold what they are given of its arrays.
    """

    def __init__(
        self,
        needs: Mapping[Any, Collection[Any]],
        found: Mapping[Any, Any],
        costs: Mapping[Any, Cost],
        groups: Mapping[Any, str],
        wanted: Collection[Any],
        homes: Sequence[int],
        shares: bool,
        rates: Rates,
    ) -> None:
        self.rates, self.overhead = rates, rates.local_task if shares else rates.task
        self.needs, self.found, self.costs, self.groups = needs, found, costs, groups
        self.homes = homes
        self.memories = [Memory(shares) for _ in range(max(homes) + 1)]
        self.free = list(range(len(homes)))
        self.waiting = {key: len(set(own)) for key, own in needs.items()}
        self.users: dict[Any, list[Any]] = {key: [] for key in needs}
        for key, own in needs.items():
            for one in set(own):
                self.users[one].append(key)
        self.left = {key: len(own) + (key in wanted) for key, own in self.users.items()}
        self.running: list[tuple[float, int, Any, int]] = []
        self.working = [0] * len(self.memories)
        self.active: list[Counter[str]] = [Counter() for _ in self.memories]
        """In each memory, how many tasks of each group run."""
        self.changed: set[int] = set()
        """The memories in which tasks began since they were last looked at."""
        self.peaks: dict[str, int] = {}
        self.peak = 0
        self.moments: list[Moment] = []

    def run(self, order: Mapping[Any, int], given: Collection[Any], newest: bool) -> Outcome:
        """Run all but what is `given`: literal values.

        Of tasks that are ready Dask's local schedulers take one that the last finished task has made ready (`newest`),
        its cluster the first in `order`; among equals it is the first in order.
        """
        last = itertools.count()
        ready: list[tuple[int, int, Any]] = []

        def now_ready(keys: Iterable[Any]) -> None:
            for key in sorted(keys, key=order.__getitem__, reverse=True):
                heapq.heappush(ready, (-next(last) if newest else 0, order[key], key))

        start = [key for key, count in self.waiting.items() if not count and key not in given]
        for key in given:
            self.memories[0].add(key, self.found[key])
            start += self._open(key)
        now_ready(start)
        now = 0.0
        while ready or self.running:
            while ready and self.free:
                _, number, key = heapq.heappop(ready)
                self._start(key, number, now)
            self._note()
            now, _, key, place = heapq.heappop(self.running)
            self.free.append(place)
            self._finish(key, self.homes[place])
            now_ready(self._open(key))
        return Outcome(now, self.peak, self.peaks, self.moments)

    def _open(self, key: Any) -> list[Any]:
        """The tasks that waited for `key` alone."""
        for one in self.users[key]:
            self.waiting[one] -= 1
        return [one for one in self.users[key] if not self.waiting[one]]

    def _start(self, key: Any, number: int, now: float) -> None:
        place = self._place(key)
        home = self.homes[place]
        self.free.remove(place)
        self.moments.append((key, home, True))
        self.active[home][self.groups[key]] += 1
        self.changed.add(home)
        memory, cost = self.memories[home], self.costs[key]
        moved = 0
        for one in set(self.needs[key]):
            if one not in memory.keys:
                moved += size_of(self.found[one])
                memory.add(one, self.found[one])
        memory.add(key, self.found[key])
        self.working[home] += cost.working
        seconds = cost.seconds + moved / self.rates.network + self.overhead
        heapq.heappush(self.running, (now + seconds, number, key, place))

    def _place(self, key: Any) -> int:
        """Of the places that are free, one of the process that has most of what the task reads, and least to do."""
        if len(self.memories) == 1 or len(self.free) == 1:
            return self.free[0]
        own = {one: size_of(self.found[one]) for one in set(self.needs[key])}

        def rank(place: int) -> tuple[int, int, int, int]:
            home = self.homes[place]
            memory = self.memories[home]
            has = sum(size for one, size in own.items() if one in memory.keys)
            return has, -self.active[home].total(), -memory.bytes, -place

        return max(self.free, key=rank)

    def _note(self) -> None:
        for home in self.changed:
            held = self.memories[home].bytes + self.working[home]
            for group in self.active[home]:
                self.peaks[group] = max(self.peaks.get(group, 0), held)
            self.peak = max(self.peak, held)
        self.changed.clear()

    def _finish(self, key: Any, home: int) -> None:
        self.moments.append((key, home, False))
        group = self.groups[key]
        self.working[home] -= self.costs[key].working
        self.active[home][group] -= 1
        if not self.active[home][group]:
            del self.active[home][group]
        for one in set(self.needs[key]):
            self.left[one] -= 1
            if not self.left[one]:
                self._release(one)
        if not self.left[key]:
            self._release(key)

    def _release(self, key: Any) -> None:
        for memory in self.memories:
            memory.drop(key, self.found[key])


def order_of(graph: Mapping[Any, Any], keys: Sequence[Any]) -> dict[Any, int]:
    """The order in which Dask would run the tasks of a graph if it had one place."""
    from dask.order import order

    return order(dict(graph)) if graph and keys else dict.fromkeys(graph, 0)
