"""The operations, by family. Importing this room fills the table `flowgraph.op.OPS`."""

from flowgraph.ops import create, elementwise, linalg, random, reduce, shape, shard

__all__ = ["create", "elementwise", "linalg", "random", "reduce", "shape", "shard"]
