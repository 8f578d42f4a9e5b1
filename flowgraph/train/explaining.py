"""What a fit will cost, before it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.context import Hooks
from flowgraph.explain import Explanation, explain
from flowgraph.leaves import no_data
from flowgraph.ops.shard import without_wishes
from flowgraph.state import Variable
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
    memory: int | None = None,
    client: Any = None,
    scheduler: Any = None,
) -> Explanation:
    """What one step of `fit` with these arguments will cost, as a table: see `Program.explain`. Nothing runs.

    The state of variables and optimizer is part of the step: its update is one of the stages. Where `fit` would make a
    plan, for workers with little memory, this is the cost of that plan.

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
    parts = [without_wishes(convert(one)) for one in (data if isinstance(data, tuple | list) else (data,))]
    given = [tensor.node for tensor, _ in parts]
    variables = list(variables)
    with Hooks.placed(loss, data, variables, optimizer, client if scheduler is None else scheduler):
        step = Step(loss, [one.type for one in given], variables, optimizer, [wishes for _, wishes in parts])
        state, outside = step.inputs()
        like = [
            one.memo if one.memo is not None and not isinstance(one.memo, np.ndarray) else no_data(one.type)
            for one in given
        ]
        rows = step.program.row_counts([*like, *state, *outside], step.entry.rows, of_inputs=False)
        if batch_size is not None:
            rows |= dict.fromkeys(step.batch_meshes, batch_size)
        return explain(step.program, rows, workers, memory, None, client, scheduler)
