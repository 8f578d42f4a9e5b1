"""vmap: a function of one element as a function of a batch, and the rows of a Jacobian by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowgraph import tree
from flowgraph.apply import convert
from flowgraph.errors import ShapeError, UsageError
from flowgraph.ops.body import Traced
from flowgraph.ops.shape import broadcast_to, reshape, transpose
from flowgraph.reverse.batching import batch
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import normal_axis, tensor_type


def vmap(function: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """`function`, made for single elements, on all elements of a batch at once.

    `in_axes` says along which axis of each positional argument the elements lie: an int for all, or a tuple with an
    int or None for each; None hands an argument to every element as it is. `out_axes` says where the axis of the batch
    stands in each result. It can be nested, and mixed with `grad`. Random draws are the same for all elements.

    >>> import flowgraph as fg
    >>> x = fg.constant([[1.0, 2.0], [3.0, 4.0]])
    >>> fg.vmap(lambda row: fg.sum(row * row))(x).tolist()
    [5.0, 25.0]
    >>> fg.vmap(fg.grad(lambda x: x * x))(fg.constant([1.0, 2.0])).tolist()
    [2.0, 4.0]
    """

    def vectorised(*args: Any, **kwargs: Any) -> Any:
        axes = _axes(in_axes, args)
        leaves = tree.flatten(args)
        tensors = [
            one if axis is None else _to_front(convert(one), axis) for one, axis in zip(leaves, axes, strict=True)
        ]
        moving = [one for one, axis in zip(tensors, axes, strict=True) if axis is not None]
        sizes = [one.shape[0] for one in moving]
        if not sizes or any(size != sizes[0] for size in sizes):
            raise ShapeError(
                f"vmap over {', '.join(str(one.type) for one in moving) or 'nothing'}",
                f"the batch axes have lengths {sizes}" if sizes else "no argument has an axis of the batch",
                "Give in_axes that name axes of one length.",
            )

        def one(*elements: Tensor) -> Any:
            rest = iter(elements)
            own = [leaf if axis is None else next(rest) for leaf, axis in zip(leaves, axes, strict=True)]
            return function(*tree.unflatten(args, own), **kwargs)

        traced = Traced(one, [tensor_type(x.shape[1:], x.dtype) for x in moving], "a function under vmap")
        operands = [(x, True) for x in moving] + [(tensor_of(node), False) for node in traced.captured]
        results = [
            x if batched else broadcast_to(x, (sizes[0], *x.shape))
            for x, batched in batch(traced.body, operands, sizes[0])
        ]
        return _moved(traced.rebuilt(results), out_axes)

    vectorised.__name__ = f"vmap_{getattr(function, '__name__', 'function')}"
    return vectorised


def _axes(in_axes: Any, args: Any) -> list[int | None]:
    """The axis of each leaf of the arguments."""
    each = in_axes if isinstance(in_axes, tuple | list) else (in_axes,) * len(args)
    if len(each) != len(args):
        raise UsageError(
            f"vmap with in_axes={in_axes!r}",
            f"the function was called with {len(args)} positional arguments",
            "Give one entry for each, or a single int.",
        )
    found: list[int | None] = []
    for axis, arg in zip(each, args, strict=True):
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int)):
            raise UsageError(f"vmap with in_axes={in_axes!r}", f"{axis!r} is no axis", "Give an int or None.")
        found += [axis] * len(tree.flatten(arg))
    return found


def _to_front(x: Tensor, axis: int) -> Tensor:
    at = normal_axis(axis, x.ndim)
    return x if at == 0 else transpose(x, axes=(at, *[one for one in range(x.ndim) if one != at]))


def _moved(results: Any, out_axes: Any) -> Any:
    """The results with the axis of the batch, which is first, where it is wanted."""
    if isinstance(out_axes, tuple | list):
        if not isinstance(results, tuple | list) or len(results) != len(out_axes):
            raise UsageError(
                f"vmap with out_axes={out_axes!r}",
                "the function does not return so many results",
                "Give one entry for each result, or a single int.",
            )
        return type(results)(_moved(one, axis) for one, axis in zip(results, out_axes, strict=True))
    return tree.map_structure(lambda one: None if one is None else _to_place(one, out_axes), results)


def _to_place(x: Tensor, axis: int) -> Tensor:
    at = normal_axis(axis, x.ndim)
    order = [*range(1, x.ndim)]
    order.insert(at, 0)
    return x if at == 0 else transpose(x, axes=tuple(order))


def jacobian_rows(pullback: Callable[[Tensor], Any], y: Tensor, batched: bool = False) -> Any:
    """The Jacobian of `y` by whatever `pullback` gives gradients of: the pullback of all unit vectors at once.

    With `batched` the elements along the first axis of `y` and of the sources belong together and to no other.
    """
    shape = y.shape[1:] if batched else y.shape
    if not all(isinstance(length, int) for length in shape):
        raise ShapeError(f"the Jacobian of {y.type}", "its size is not known", "Give lengths as numbers.")
    count = int(np.prod(shape, dtype=np.int64))  # type: ignore[arg-type]
    units = convert(np.eye(count, dtype=y.dtype).reshape(count, *shape))
    rows = vmap(lambda unit: pullback(broadcast_to(unit, y.shape) if batched else unit))(units)

    def laid_out(one: Any) -> Any:
        if one is None:
            return None
        if not batched:
            return reshape(one, (*y.shape, *one.shape[1:]))
        turned = transpose(one, axes=(1, 0, *range(2, one.ndim)))
        return reshape(turned, (turned.shape[0], *shape, *turned.shape[2:]))

    return tree.map_structure(laid_out, rows)
