"""The operation that changes nothing: another node for the same value."""

from __future__ import annotations

from flowgraph.op import Op, define

__all__ = ["identity"]

identity: Op = define(
    "identity",
    "... -> ...",
    lambda x: x,
    dtype="keep",
    view=lambda types, attrs: "{0}",
    gradient=lambda g, out, x: (g,),
    flops=0,
    samples=lambda: [(((5, 4),), {}), (((0, 3),), {}), (((),), {})],
    doc="x, as a tensor of its own.",
)
