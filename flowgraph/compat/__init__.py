"""Names of older programs: `compat.v1` is TensorFlow 1, `compat.v2` TensorFlow 2."""

from flowgraph.compat import v1, v2

__all__ = ["v1", "v2"]
