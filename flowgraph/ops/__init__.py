"""The operations, by family. Importing this room fills the table `flowgraph.op.OPS`."""

from flowgraph.ops import elementwise, linalg, random, reduce, shape, shard

__all__ = ["elementwise", "linalg", "random", "reduce", "shape", "shard"]
