"""Training: losses, optimizers, the fit loop; and TensorFlow 1's `train` for deferred graphs."""

from flowgraph.train.explaining import explain_fit
from flowgraph.train.global_step import create_global_step, get_global_step, get_or_create_global_step, global_step
from flowgraph.train.graph_optimizers import (
    AdamOptimizer,
    GradientDescentOptimizer,
    GraphOptimizer as Optimizer,
    MomentumOptimizer,
)
from flowgraph.train.loop import History, fit
from flowgraph.train.saver import Saver, latest_checkpoint

__all__ = [
    "AdamOptimizer",
    "GradientDescentOptimizer",
    "History",
    "MomentumOptimizer",
    "Optimizer",
    "Saver",
    "create_global_step",
    "explain_fit",
    "fit",
    "get_global_step",
    "get_or_create_global_step",
    "global_step",
    "latest_checkpoint",
]
