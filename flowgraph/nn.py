"""Neural networks: layers as functions, by TensorFlow's names."""

from flowgraph.ops.elementwise import relu, sigmoid, softplus, tanh
from flowgraph.ops.nn import (
    avg_pool,
    avg_pool1d,
    avg_pool2d,
    conv1d,
    conv1d_transpose,
    conv2d,
    conv2d_transpose,
    max_pool,
    max_pool1d,
    max_pool2d,
)
from flowgraph.ops.normalisation import (
    batch_normalization,
    bias_add,
    dropout,
    l2_normalize,
    layer_normalization,
    moments,
    sigmoid_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits,
    sparse_softmax_cross_entropy_with_logits,
)
from flowgraph.ops.reduce import softmax
from flowgraph.spellings import lookups

__all__ = [
    "avg_pool",
    "avg_pool1d",
    "avg_pool2d",
    "batch_normalization",
    "bias_add",
    "conv1d",
    "conv1d_transpose",
    "conv2d",
    "conv2d_transpose",
    "dropout",
    "l2_normalize",
    "layer_normalization",
    "max_pool",
    "max_pool1d",
    "max_pool2d",
    "moments",
    "relu",
    "sigmoid",
    "sigmoid_cross_entropy_with_logits",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "softplus",
    "sparse_softmax_cross_entropy_with_logits",
    "tanh",
]

__getattr__, __dir__ = lookups(__name__)
