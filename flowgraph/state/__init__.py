"""State and traced functions: Variable, and `function`."""

from flowgraph.state.function import Function, Traced, function, like_of, value_of
from flowgraph.state.variable import Trace, Variable, is_drawn, trace_into, tracing

__all__ = [
    "Function",
    "Trace",
    "Traced",
    "Variable",
    "function",
    "is_drawn",
    "like_of",
    "trace_into",
    "tracing",
    "value_of",
]
