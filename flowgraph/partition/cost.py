"""What a layout costs: operations, bytes moved, bytes held and seconds, from the factor strings alone.

A graph is looked at once for each choice of what is cut, before it is partitioned: `work_of` (in work.py) adds up what
its nodes do and hand over. How many pieces there are is a number that enters afterwards: `predict` takes as long for
10,000 shards as for one. Where it can not know better the prediction is the larger of two: what is measured later lies
below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flowgraph.graph import Node
from flowgraph.machine import Rates
from flowgraph.schedule import HEAVY_BYTES, HEAVY_ROWS, TILE_BYTES, TILE_ROWS


@dataclass(frozen=True, slots=True)
class Grid:
    """How often everything is cut."""

    data: int = 1
    """Pieces of the rows that are worked on at the same time."""
    model: int = 1
    """Pieces of the weights that are cut."""
    stages: int = 1
    """Stages of a pipeline."""
    batches: int = 1
    """Micro-batches that pass through them, for each piece of the rows."""
    recompute: bool = False
    """Whether rows that a later loop needs are computed again instead of stored."""

    @property
    def places(self) -> int:
        """How many tasks work at a time."""
        return self.data * self.model * self.stages


@dataclass
class Amount:
    """A sum over nodes, apart for those that rows and weights are cut with."""

    whole: float = 0.0
    rows: float = 0.0
    model: float = 0.0
    both: float = 0.0

    def add(self, what: float, rows: bool, model: bool) -> None:
        """Count `what` of a node that is cut so."""
        if rows:
            self.both, self.rows = self.both + what * model, self.rows + what * (not model)
        else:
            self.model, self.whole = self.model + what * model, self.whole + what * (not model)

    def each(self, data: float, model: float) -> float:
        """What is on one of `data` x `model` pieces."""
        return self.whole + self.rows / data + self.model / model + self.both / (data * model)

    @property
    def total(self) -> float:
        """What is on all of them together."""
        return self.whole + self.rows + self.model + self.both


@dataclass
class StageWork:
    """What one stage of a pipeline does in a step; all of a program that has none."""

    flops: Amount = field(default_factory=Amount)
    written: Amount = field(default_factory=Amount)
    """Bytes of results."""
    state: Amount = field(default_factory=Amount)
    """Bytes of variables and of the optimizer's state; `rows` are those that are cut like the data."""
    updated: Amount = field(default_factory=Amount)
    """Those of them that a step replaces: old and new value are there together."""
    partial: Amount = field(default_factory=Amount)
    """Bytes of results that contract rows: one for each piece of the rows."""
    stored: Amount = field(default_factory=Amount)
    """Bytes of rows that a later loop of the stage reads again."""
    again: Amount = field(default_factory=Amount)
    """The operations that compute them once more, where they are not stored."""
    received: Amount = field(default_factory=Amount)
    """Bytes of rows from other stages, which are held until the last loop has read them."""
    gathered: float = 0.0
    """Bytes of rows that are needed as a whole, and of results."""
    row_bytes: Amount = field(default_factory=Amount)
    """Bytes of one row of everything that is alive in a tile."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A node whose value is held from task to task."""

    node: Node
    bytes: float
    rows: bool
    """Whether each piece of the rows has its own part of it."""
    model: bool
    """Whether each piece of the weights has."""

    def on(self, grid: Grid) -> float:
        """Its bytes at one place of a grid."""
        return self.bytes / (grid.data if self.rows else 1) / (grid.model if self.model else 1)


@dataclass
class Work:
    """What a graph does with one choice of what is cut. Bytes are those of whole tensors."""

    stages: list[StageWork]
    combined: float = 0.0
    """Partial results of cut rows: gradients above all."""
    reduced: float = 0.0
    """Partial results of cut weights."""
    copied: float = 0.0
    """Whole values that every piece of a cut weight reads."""
    exchanged: float = 0.0
    """Pieces of cut weights, and of what is computed with them, that become whole or are cut anew."""
    spread: float = 0.0
    """Whole values that every piece of the rows reads."""
    borders: float = 0.0
    """Rows that pass from stage to stage of a pipeline."""
    rows: int = 1
    """The number of rows."""
    levels: int = 1
    """How many loops over the rows follow one another."""
    holders: list[Holder] = field(default_factory=list)
    """What memory is needed for."""

    def culprit(self, grid: Grid) -> Holder | None:
        """What holds most bytes on a worker."""
        return max(self.holders, key=lambda one: one.on(grid), default=None)


@dataclass(frozen=True)
class Cost:
    """A prediction for one step, or one call."""

    flops: float
    """Operations of the busiest place."""
    moved: Mapping[str, float]
    """Bytes between workers, by cause."""
    memory: Mapping[str, float]
    """Bytes on the fullest worker, by cause; data are read where they lie and not counted."""
    seconds: float
    """The longer of computing and moving, and what the scheduler takes."""
    tasks: int

    @property
    def bytes(self) -> float:
        """All bytes moved."""
        return sum(self.moved.values())

    @property
    def peak(self) -> float:
        """All bytes held."""
        return sum(self.memory.values())


def predict(work: Work, grid: Grid, workers: int, rates: Rates) -> Cost:
    """What `work` costs on `workers` workers where everything is cut as `grid` says."""
    used = min(workers, grid.places)
    each = -(-grid.places // used)
    flops = max(_flops(one, grid) for one in work.stages)
    moved = _moved(work, grid, used)
    memory = _memory(work, grid, each)
    # A pipeline stands idle until the first micro-batch has reached the last stage.
    idle = (grid.batches + grid.stages - 1) / grid.batches if grid.stages > 1 else 1.0
    written = max(one.written.each(grid.data, grid.model) for one in work.stages)
    compute = (flops / rates.flops + written / rates.memory) * idle
    network = sum(moved.values()) / (used * rates.network)
    tasks = grid.places * grid.batches * work.levels + 2 * grid.model * grid.stages
    overhead = tasks * rates.task if grid.places * grid.batches > 1 else 0.0
    return Cost(flops, moved, memory, max(compute, network) + overhead, tasks)


def _flops(stage: StageWork, grid: Grid) -> float:
    own = stage.flops.each(grid.data, grid.model)
    return own + (stage.again.each(grid.data, grid.model) if grid.recompute else 0.0)


def _moved(work: Work, grid: Grid, used: int) -> dict[str, float]:
    """Bytes between workers: an axis of the grid lies on no more workers than it has pieces."""
    data, model, stages = (min(one, used) for one in (grid.data, grid.model, grid.stages))
    updated = [one.updated for one in work.stages]
    copies = min(data * model, used) - 1
    return {
        "partials": work.combined * (data - 1),
        "all-reduce": work.reduced * (model - 1),
        "weights": sum(one.model for one in updated) * (data - 1) + sum(one.whole for one in updated) * copies,
        "values": work.copied * (model - 1) + work.spread * (data - 1),
        "resharding": work.exchanged * (data * model - 1) / (data * model),
        "borders": work.borders if stages > 1 else 0.0,
    }


def _memory(work: Work, grid: Grid, each: int) -> dict[str, float]:
    """Bytes on the worker that holds most, which has `each` places of the grid.

    Its places may all be of different pieces of the weights: each then holds one of its own.
    """
    found = []
    for number, stage in enumerate(work.stages):
        lanes = min(each, grid.model)
        held = stage.state.whole + stage.state.model / grid.model * lanes
        new = stage.updated.whole + stage.updated.model / grid.model * lanes
        partial = 2 * each * (stage.partial.whole + stage.partial.model / grid.model)
        under_way = min(grid.stages - number, grid.batches) / grid.batches if grid.stages > 1 else 1.0
        stored = stage.received.each(grid.data, grid.model)
        stored += 0.0 if grid.recompute else stage.stored.each(grid.data, grid.model)
        least = HEAVY_ROWS if stage.partial.total >= HEAVY_BYTES else TILE_ROWS[0]
        width = stage.row_bytes.each(1, grid.model)
        rows = work.rows / (grid.data * grid.batches)
        tile = width * min(rows, max(TILE_BYTES / max(width, 1.0), least))
        found.append(
            {
                "weights": held,
                "new weights": new,
                "partials": partial,
                "stored rows": stored * each * under_way,
                "whole values": stage.gathered,
                "tiles": tile * each,
            }
        )
    found.sort(key=lambda one: -sum(one.values()))
    here = found[: min(-(-each // grid.model), len(found))]  # a worker may have places of several stages
    result = {name: sum(one[name] for one in here) for name in ("weights", "new weights", "whole values")}
    result |= {name: max(one[name] for one in found) for name in ("partials", "stored rows", "tiles")}
    return result


def balanced(weights: Sequence[float], stages: int) -> list[int]:
    """The stage of each unit of work, in order: neighbours together, and no stage with much more than another.

    >>> balanced([1, 1, 4, 1, 1], 3)
    [0, 0, 1, 2, 2]
    """
    total, before, found = sum(weights) or 1.0, 0.0, []
    for one in weights:
        found.append(min(int((before + one / 2) * stages / total), stages - 1))
        before += one
    names = {stage: number for number, stage in enumerate(dict.fromkeys(found))}
    return [names[one] for one in found]
