"""State and traced functions: Variable, and `function`; and TensorFlow 1's graphs, which a Session runs."""

from flowgraph.session.function import Function, function, value_of
from flowgraph.session.hooks import StaticShape
from flowgraph.session.session import Session
from flowgraph.session.variable import Trace, Variable, is_drawn, trace_into, tracing

__all__ = [
    "Function",
    "Session",
    "StaticShape",
    "Trace",
    "Variable",
    "function",
    "is_drawn",
    "trace_into",
    "tracing",
    "value_of",
]
