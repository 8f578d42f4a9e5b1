"""Running products within segments, without a division: their derivatives hold where elements are 0."""

from __future__ import annotations

from flowgraph.ops.create import ones_like
from flowgraph.ops.elementwise import where
from flowgraph.ops.picking import gather_at
from flowgraph.ops.scanning import recurrence, shift
from flowgraph.ops.shape import broadcast_like, reshape
from flowgraph.ops.sorting import argsort
from flowgraph.tensor import Tensor


def products_of_others(x: Tensor, ids: Tensor) -> Tensor:
    """For each element the product of the others of its segment: of those before it times those behind it.

    Rows of negative segments, which belong to none, have some finite number.
    """
    flat, rows = (reshape(ids, (-1,)), reshape(x, (-1, *x.shape[ids.ndim :]))) if ids.ndim != 1 else (ids, x)
    key = where(flat < 0, 0, flat + 1)  # `shift` brings zeros in: no segment has that number
    order = argsort(key)
    lines, key = (gather_at(one, order, axes=(0,)) for one in (rows, key))
    key = reshape(key, (*key.shape, *(1,) * (lines.ndim - 1)))
    goes_on, is_followed = (broadcast_like(shift(key, axis=0, by=by) == key, lines) for by in (1, -1))
    one = ones_like(lines)
    before = recurrence(where(goes_on, shift(lines, axis=0, by=1), 0), where(goes_on, 0, one), axis=0)
    after = recurrence(where(goes_on, lines, 0), where(is_followed, 0, one), axis=0, backward=True)
    found = gather_at(before * after, argsort(order), axes=(0,))
    return found if ids.ndim == 1 else reshape(found, x.shape)  # type: ignore[no-any-return]
