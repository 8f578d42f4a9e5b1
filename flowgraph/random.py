"""Random tensors, by TensorFlow's names. Their values depend on a seed and on the place of an element alone."""

from flowgraph.ops.distributions import (
    bernoulli,
    categorical,
    gamma,
    poisson,
    truncated_normal,
)
from flowgraph.ops.random import (
    normal,
    set_seed,
    uniform,
)
from flowgraph.ops.stateless import (
    permutation,
    shuffle,
    stateless_categorical,
    stateless_gamma,
    stateless_normal,
    stateless_poisson,
    stateless_truncated_normal,
    stateless_uniform,
)

__all__ = [
    "bernoulli",
    "categorical",
    "gamma",
    "normal",
    "permutation",
    "poisson",
    "set_seed",
    "shuffle",
    "stateless_categorical",
    "stateless_gamma",
    "stateless_normal",
    "stateless_poisson",
    "stateless_truncated_normal",
    "stateless_uniform",
    "truncated_normal",
    "uniform",
]
