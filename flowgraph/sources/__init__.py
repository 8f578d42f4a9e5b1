"""Sources: values that lie in pieces along one axis, in memory, in files or in another Dask graph.

A source is asked for the pieces of an interval; it never joins them. A piece is an array, a part of an array of this
process, a part of a file, or a part of another task's result.
"""

from flowgraph.sources.derived import Derived, EveryPiece, Pad, Part, Slice, derive
from flowgraph.sources.files import SMALL_BYTES, FilePiece, sending
from flowgraph.sources.rows import (
    Blocks,
    DaskRows,
    Held,
    HeldPiece,
    Parts,
    Source,
    TaskPiece,
    has_tasks,
    held_by,
    in_memory,
    owner_of_tasks,
    pieces,
    portable,
    resolve,
    type_of,
)
from flowgraph.sources.streams import Reader, Stamp, StreamedPiece, Streams, segment

__all__ = [
    "SMALL_BYTES",
    "Blocks",
    "DaskRows",
    "Derived",
    "EveryPiece",
    "FilePiece",
    "Held",
    "HeldPiece",
    "Pad",
    "Part",
    "Parts",
    "Reader",
    "Slice",
    "Source",
    "Stamp",
    "StreamedPiece",
    "Streams",
    "TaskPiece",
    "derive",
    "has_tasks",
    "held_by",
    "in_memory",
    "owner_of_tasks",
    "pieces",
    "portable",
    "resolve",
    "segment",
    "sending",
    "type_of",
]
