"""The reverse pass, and what is built on it: tapes, derivatives of functions, vectorised functions."""

from flowgraph.reverse.driver import UnconnectedGradients, gradient, gradient_along, reverse
from flowgraph.reverse.functions import ForwardAccumulator, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from flowgraph.reverse.tape import GradientTape
from flowgraph.reverse.vectorize import vmap

__all__ = [
    "ForwardAccumulator",
    "GradientTape",
    "UnconnectedGradients",
    "grad",
    "gradient",
    "gradient_along",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "reverse",
    "value_and_grad",
    "vjp",
    "vmap",
]
