"""State and traced functions: Variable, and `function`, which turns Python into one program for each signature."""

from flowgraph.session.function import Function, function, value_of
from flowgraph.session.variable import Trace, Variable, is_drawn, trace_into, tracing

__all__ = ["Function", "Trace", "Variable", "function", "is_drawn", "trace_into", "tracing", "value_of"]
