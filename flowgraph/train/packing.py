"""Packing: all variables of a dtype as one flat vector, so that an update is a dozen calls however many there are."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flowgraph.ops.shape import concat, reshape
from flowgraph.tensor import Tensor
from flowgraph.types import TensorType


def pack(tensors: Sequence[Tensor]) -> Tensor:
    """All elements of `tensors` as one flat vector."""
    flat = [reshape(one, (-1,)) for one in tensors]
    return flat[0] if len(flat) == 1 else concat(flat)


def unpack(flat: Tensor, types: Sequence[TensorType]) -> list[Tensor]:
    """The inverse of `pack`: tensors of `types` from a flat vector."""
    result, start = [], 0
    for one in types:
        count = count_of(one)
        result.append(reshape(flat if len(types) == 1 else flat[start : start + count], one.shape))
        start += count
    return result


def count_of(of_type: TensorType) -> int:
    """The number of elements of a variable of `of_type`."""
    return math.prod(length for length in of_type.shape if isinstance(length, int))
