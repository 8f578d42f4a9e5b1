"""Whole phases that the shards of the next loop compute for themselves, each all of it.

    a task of its own     loop_0 ─ whole_1 ─ loop_0 ─ whole_1 ─ ...      two links a step
    taken along           loop_0 ─ loop_0 ─ loop_0 ─ ... ─ whole_1       one link a step

From the end of a task to the start of one that waits for it lie two messages and the scheduler's turn: on a cluster
more time than the update of a small model takes. So in a window of steps a shard takes the partial results of all
shards, and what was before them, in place of a state that one task has made of these. It is the same kernel on the
same values: the bits are the same on every worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowgraph.graph import Node, operations, value_bytes
from flowgraph.kernel import REPLICATED_FLOPS, LoopStage, Stage, WholeStage, is_whole_leaf
from flowgraph.lower.calls import Bound
from flowgraph.lower.tree import partial_bytes

MOST_SHARDS = 8
"""Of so many shards each takes in the results of all: more would take longer to ask for than a link takes."""
MOST_BYTES = 1 << 18
"""What travels between all shards is at most so large."""


def taken_along(bound: Bound, updates: Mapping[Node, Node]) -> Sequence[Stage]:
    """The stages that lie between two steps and need no tasks; `updates` gives for each state its next value."""
    loops = [number for number, one in enumerate(bound.stages) if isinstance(one, LoopStage)]
    if not loops or loops[0] or len(bound.meshes) > 1 or not all(map(_is_plain, bound.stages)):
        return ()
    loop, last = bound.stages[0], bound.stages[loops[-1] + 1 :]
    assert isinstance(loop, LoopStage)
    if loop.loop.writes or len(bound.shards[loop.loop.mesh]) > MOST_SHARDS:
        return ()
    wholes = [one for one in last if isinstance(one, WholeStage)]
    made = {node for one in wholes for node in one.results}
    read = {node.inputs[0] if is_whole_leaf(node) else node for node in loop.arguments}
    is_read = any(state in read and new in made for state, new in updates.items())
    size = partial_bytes(loop) + sum(value_bytes(one) for node in made for one in node.types)
    flops = sum(operations(node) for one in wholes for node in one.phase.nodes)
    return last if is_read and size <= MOST_BYTES and flops <= REPLICATED_FLOPS else ()


def _is_plain(stage: Stage) -> bool:
    """Whether a stage takes and gives nothing but partial results and whole values."""
    if isinstance(stage, LoopStage):
        return not (stage.loop.lane or stage.main or stage.excerpts)
    return isinstance(stage, WholeStage) and not (stage.phase.lane or stage.gathered or stage.portions)
