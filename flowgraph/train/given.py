"""The data of a fit: arrays and sources with equally many rows, and where its executor reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import ShapeError
from flowgraph.graph import Node
from flowgraph.ops.shard import without_wishes
from flowgraph.run import Executor
from flowgraph.sources import Blocks, DaskRows, type_of


def given(data: Any) -> tuple[list[Node], list[Any]]:
    """The nodes of the parts of `data`, and the wishes about their cuts."""
    parts = [without_wishes(convert(one)) for one in (data if isinstance(data, tuple | list) else (data,))]
    return [tensor.node for tensor, _ in parts], [wishes for _, wishes in parts]


def row_count(values: Sequence[Any]) -> int:
    """The number of rows that all `values` have; raises ShapeError where they differ, or there are none."""
    counts: list[Any] = []
    for value in values:
        shape = type_of(value).shape
        if not shape:
            raise ShapeError("data for fit", "a scalar has no rows", "Give arrays with one row a sample.")
        counts.append(shape[0])
    if len(set(counts)) > 1:
        raise ShapeError(
            "data for fit", f"its parts have {', '.join(map(str, counts))} rows", "Give parts with equally many rows."
        )
    if counts and counts[0] == 0:
        raise ShapeError("data for fit", "it has no rows", "Give at least one row.")
    return int(counts[0]) if counts else 0


def held(value: Any, executor: Executor) -> Any:
    """`value`, with the chunks that Dask tasks give computed once and kept: every step reads them again."""
    if not isinstance(value, DaskRows) or not value.type.shape:
        return value
    if executor.hold is None:
        return Blocks([np.asarray(one) for one in executor.get(value.tasks(), value.keys)])
    futures = executor.hold(value.tasks(), value.keys)
    return DaskRows(value.keys, value.lengths, value.type, dict(zip(value.keys, futures, strict=True)))
