"""How a graph is cut: layouts, their propagation, and the communication that they need."""

from flowgraph.partition.insert import BEFORE, COMBINE, COMMUNICATION, GATHER, SPREAD, Partitioned, insert
from flowgraph.partition.layout import Cut, Layout, Layouts, cut_along, propagate, rows_of
from flowgraph.partition.portions import FLAT, PORTION, narrow
from flowgraph.partition.rows import MESHES, choose_rows, known_layouts, unknown_rows
from flowgraph.partition.shards import behind, cut_rows, group_rows
from flowgraph.partition.split import Join, Part, Split, even, split
from flowgraph.partition.wishes import contradiction, wishes_of

__all__ = [
    "BEFORE",
    "COMBINE",
    "COMMUNICATION",
    "FLAT",
    "GATHER",
    "MESHES",
    "PORTION",
    "SPREAD",
    "Cut",
    "Join",
    "Layout",
    "Layouts",
    "Part",
    "Partitioned",
    "Split",
    "behind",
    "choose_rows",
    "contradiction",
    "cut_along",
    "cut_rows",
    "even",
    "group_rows",
    "insert",
    "known_layouts",
    "narrow",
    "propagate",
    "rows_of",
    "split",
    "unknown_rows",
    "wishes_of",
]
