"""Names of older programs: `compat.v1` is TensorFlow 1."""

from flowgraph.compat import v1

__all__ = ["v1"]
