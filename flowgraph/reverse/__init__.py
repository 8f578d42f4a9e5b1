"""The reverse pass, and what is built on it: tapes, derivatives of functions, vectorised functions."""

from flowgraph.reverse.driver import gradient, reverse
from flowgraph.reverse.functions import ForwardAccumulator, grad, hvp, jvp, value_and_grad, vjp
from flowgraph.reverse.tape import GradientTape

__all__ = [
    "ForwardAccumulator",
    "GradientTape",
    "grad",
    "gradient",
    "hvp",
    "jvp",
    "reverse",
    "value_and_grad",
    "vjp",
]
