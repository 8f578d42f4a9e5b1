"""Kernels: one readable numpy function for each stage of a program."""

from flowgraph.kernel.assembly import (
    REPLICATED_FLOPS,
    Assembly,
    Excerpt,
    LoopStage,
    OneStage,
    RowArgument,
    Stage,
    WholeStage,
    clean,
    one_stage,
)
from flowgraph.kernel.kernel import Kernel
from flowgraph.kernel.levels import Lane, is_whole_leaf
from flowgraph.kernel.merge import complete, join
from flowgraph.kernel.rows import Rows
from flowgraph.kernel.source import Emitter
from flowgraph.kernel.stages import Loop, Stages, stages
from flowgraph.kernel.window import window

__all__ = [
    "REPLICATED_FLOPS",
    "Assembly",
    "Emitter",
    "Excerpt",
    "Kernel",
    "Lane",
    "Loop",
    "LoopStage",
    "OneStage",
    "RowArgument",
    "Rows",
    "Stage",
    "Stages",
    "WholeStage",
    "clean",
    "complete",
    "is_whole_leaf",
    "join",
    "one_stage",
    "stages",
    "window",
]
