"""Neural networks: layers as functions, by TensorFlow's names; activations are looked up in the table of spellings."""

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
    weighted_cross_entropy_with_logits,
)
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
    "sigmoid_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits",
    "sparse_softmax_cross_entropy_with_logits",
    "weighted_cross_entropy_with_logits",
]

__getattr__, __dir__ = lookups(__name__)
