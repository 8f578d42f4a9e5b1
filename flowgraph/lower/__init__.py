"""Lowering: stages x shards become Dask tasks. The only room that makes them."""

from flowgraph.lower.calls import Bound, assemble, new_token, run_here, task_name
from flowgraph.lower.lowering import Lowering, lower_window
from flowgraph.lower.named import NamedGraph
from flowgraph.lower.single import call_of, chunk_graph, lower_call, lower_chunks, lower_later, lower_value, waiting
from flowgraph.lower.tasks import OTHER, Result

__all__ = [
    "OTHER",
    "Bound",
    "Lowering",
    "NamedGraph",
    "Result",
    "assemble",
    "call_of",
    "chunk_graph",
    "lower_call",
    "lower_chunks",
    "lower_later",
    "lower_value",
    "lower_window",
    "new_token",
    "run_here",
    "task_name",
    "waiting",
]
