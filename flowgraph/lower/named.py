"""Graphs with names of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class NamedGraph(dict[Any, Any]):
    """Tasks under a name that no other graph has.

    Dask asks for a name of every graph, and makes one from all that is in it: that takes it a millisecond a task.
    """

    def __init__(self, graph: Mapping[Any, Any], name: str) -> None:
        # Of a subclass of dict Dask would not look at `__dask_tokenize__`.
        from dask.tokenize import normalize_token  # late, as `import flowgraph` has no time for it

        normalize_token.register(NamedGraph, _name_of)
        super().__init__(graph)
        self.name = name

    def __reduce__(self) -> Any:
        return NamedGraph, (dict(self), self.name)


def _name_of(graph: NamedGraph) -> Any:
    return "flowgraph", graph.name
