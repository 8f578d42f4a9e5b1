"""The operations, one `define` each, by family. Importing any of them fills the table OPS."""

from __future__ import annotations

from flowgraph.ops import create, elementwise, index, linalg, random, reduce, shape, shard

__all__ = ["create", "elementwise", "index", "linalg", "random", "reduce", "shape", "shard"]
