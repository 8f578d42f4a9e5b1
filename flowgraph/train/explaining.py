"""What a fit will cost, before it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowgraph.context import Hooks
from flowgraph.explain import Explanation, explain
from flowgraph.state import Variable, like_of
from flowgraph.train.given import given
from flowgraph.train.optimizers import Optimizer
from flowgraph.train.step import Step


def explain_fit(
    loss: Callable[..., Any],
    data: Any = (),
    *,
    variables: Sequence[Variable],
    optimizer: Optimizer,
    batch_size: int | None = None,
    workers: int | None = None,
    memory: float | str | None = None,
    client: Any = None,
    scheduler: Any = None,
) -> Explanation:
    """What one step of `fit` with these arguments will cost, as a table: see `Program.explain`. Nothing runs.

    The state of variables and optimizer is part of the step: its update is one of the stages. Where `fit` would make a
    plan, for workers with little memory, this is the cost of that plan. What a step took in the last window that was
    traced (see `tracing`) stands beside.

    >>> import numpy as np, flowgraph as fg
    >>> w = fg.Variable(0.0)
    >>> found = fg.explain_fit(
    ...     lambda x, y: fg.keras.losses.mse(y, w * x),
    ...     (np.ones(1_000_000, "f4"), np.ones(1_000_000, "f4")),
    ...     variables=[w],
    ...     optimizer=fg.keras.optimizers.SGD(0.25),
    ... )
    >>> found.stages[-1].name
    'whole_1'
    """
    nodes, wishes = given(data)
    variables = list(variables)
    with Hooks.placed(loss, data, variables, optimizer, client, scheduler):
        step = Step(loss, [node.type for node in nodes], variables, optimizer, wishes)
        state, outside = step.inputs()
        rows = step.program.row_counts([*map(like_of, nodes), *state, *outside], step.entry.rows, of_inputs=False)
        if batch_size is not None:
            rows |= dict.fromkeys(step.batch_meshes, batch_size)
        updates = None if batch_size is not None else step.updates  # a batch of more than a tile is a window of its own
        return explain(step.program, rows, workers, memory, None, client, scheduler, updates)
