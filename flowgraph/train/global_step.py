"""The global step: the variable of a graph that counts the steps of its training."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.errors import UsageError
from flowgraph.session.default_graph import get_default_graph
from flowgraph.session.graph_variable import GraphKeys, GraphVariable
from flowgraph.session.graphs import Graph


def get_global_step(graph: Graph | None = None) -> GraphVariable | None:
    """The global step of `graph` (the default graph if None); None if it has none."""
    found = (graph if graph is not None else get_default_graph()).get_collection(GraphKeys.GLOBAL_STEP)
    return found[0] if found else None


def create_global_step(graph: Graph | None = None) -> GraphVariable:
    """A new global step of `graph`, an int64 that begins at 0; raises UsageError if there is one."""
    chosen = graph if graph is not None else get_default_graph()
    if get_global_step(chosen) is not None:
        raise UsageError("a global step", "the graph has one", "Use get_or_create_global_step().")
    with chosen.building(), chosen.name_scope(None), chosen.control_dependencies(None):
        return GraphVariable(
            np.int64(0),
            trainable=False,
            name="global_step",
            collections=[GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP],
        )


def get_or_create_global_step(graph: Graph | None = None) -> GraphVariable:
    """The global step of `graph`, made if there is none."""
    found = get_global_step(graph)
    return found if found is not None else create_global_step(graph)


def global_step(session: Any, global_step_tensor: GraphVariable) -> int:
    """The number of steps taken in `session`."""
    return int(session.run(global_step_tensor))
