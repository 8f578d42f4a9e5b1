"""Wishes of the user about how a tensor is cut: operations that change no value."""

from __future__ import annotations

from typing import Any

from flowgraph.apply import apply, convert
from flowgraph.errors import UsageError
from flowgraph.op import define
from flowgraph.tensor import Tensor

__all__ = [
    "shard",
]


def _attrs(x: Any, /, rows: Any) -> dict[str, Any]:
    counts = tuple(rows) if isinstance(rows, tuple) else rows
    for count in counts if isinstance(counts, tuple) else (counts,):
        if isinstance(count, bool) or not isinstance(count, int) or count < (0 if isinstance(counts, tuple) else 1):
            raise UsageError(
                f"shard(x, rows={rows!r})", "that is no number of shards", "Give how many shards, or the rows of each."
            )
    if x.ndim == 0:
        raise UsageError("shard of a scalar", "it has no rows", "Give a tensor with at least one axis.")
    return {"rows": counts}


shard_op = define(
    "shard",
    "... -> ...",
    lambda x: x,
    attrs=_attrs,
    dtype="keep",
    view=lambda types, attrs: "{0}",
    gradient=lambda g, out, x: (g,),
    flops=0,
    samples=lambda: [(((5, 4),), {"rows": 2})],
    doc="x, cut by rows.",
)


def shard(x: Any, rows: int | tuple[int, ...]) -> Tensor:
    """`x`, with its rows cut by hand into `rows` pieces, or into pieces of the lengths given by a tuple (0 is allowed).

    A wish about work, not about numbers: results have the same bits however rows are cut.

    >>> import flowgraph as fg
    >>> float(fg.shard(fg.ones((10,)), rows=3).sum())
    10.0
    """
    return apply(shard_op, (convert(x),), {"rows": rows})  # type: ignore[no-any-return]
