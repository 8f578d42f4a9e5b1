"""The flow of micro-batches through the stages of a pipeline: how many are under way.

A scheduler that runs whatever is ready would send all micro-batches forward before the first comes back, and keep what
each stage remembers of all of them. So stage s of S lets micro-batch m in when m - (S - s) has left it backward: what
is called one forward, one backward. Where there are places for D micro-batches in each stage, D times as many are under
way, as in D pipelines side by side. These edges bind any scheduler; priorities would be a hint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from flowgraph.graph import STAGE
from flowgraph.kernel import LoopStage, Stage, WholeStage


def gates(stages: Sequence[Stage], places: int) -> dict[LoopStage, tuple[LoopStage, int]]:
    """For the first loops of each stage of a pipeline: the last one, and how many micro-batches may lie between them.

    `places` is the number of tasks that work at a time. Empty where rows wait for a result of all rows on their way,
    such as the mean of a batch: there is no pipeline then.
    """
    loops: dict[int, list[LoopStage]] = {}
    for one in stages:
        if isinstance(one, LoopStage) and (number := stage_of(one)) is not None:
            loops.setdefault(number, []).append(one)
    if len({one.loop.mesh for own in loops.values() for one in own}) != 1 or _has_barrier(stages, loops.values()):
        return {}
    result, pipelines = {}, side_by_side(loops.values(), places)
    for place, number in enumerate(sorted(loops)):
        own = sorted(loops[number], key=lambda one: one.loop.level)
        for one in own:
            if own[0].loop.level == one.loop.level < own[-1].loop.level:
                later = [other for other in own if other.loop.level > one.loop.level]
                last = next((other for other in reversed(later) if other.loop.lane == one.loop.lane), own[-1])
                result[one] = (last, (len(loops) - place) * pipelines)
    return result


def side_by_side(loops: Iterable[Sequence[LoopStage]], places: int) -> int:
    """How many micro-batches each stage of a pipeline works on at a time, with so many places for all of its lanes."""
    lanes: dict[str, set[int]] = {}
    for own in loops:
        for one in own:
            for axis, number in one.loop.lane:
                lanes.setdefault(axis, set()).add(number)
    return max(places // prod(map(len, lanes.values())), 1)


def stage_of(stage: LoopStage) -> int | None:
    """The stage of a pipeline that a loop belongs to."""
    return next((number for name, number in stage.loop.lane if name == STAGE), None)


def _has_barrier(stages: Sequence[Stage], loops: Iterable[Sequence[LoopStage]]) -> bool:
    """Whether a loop of the pipeline reads what was made of the rows of earlier loops as a whole."""
    waiting = {
        node
        for one in stages
        if isinstance(one, WholeStage) and (one.gathered or one.portions or any(loop.merges for loop in one.loops))
        for node in one.results
    }
    for one in stages:
        if isinstance(one, WholeStage) and not waiting.isdisjoint(one.arguments):
            waiting.update(one.results)
    return any(not waiting.isdisjoint(one.arguments) for own in loops for one in own)
