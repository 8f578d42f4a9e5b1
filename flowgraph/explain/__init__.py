"""Explanations: what a run will cost before it runs, from the graph of tasks that it would hand to Dask."""

from flowgraph.context import Hooks
from flowgraph.explain.explanation import Explanation, StageCost, explain

__all__ = ["Explanation", "StageCost", "explain"]

Hooks.explain = staticmethod(explain)
