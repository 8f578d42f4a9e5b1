"""Wishes of the user about how a tensor is cut: operations that change no value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flowgraph.apply import apply, convert
from flowgraph.context import inside_lane
from flowgraph.errors import ShapeError, UsageError
from flowgraph.graph import STAGE, Node
from flowgraph.mesh import pieces_of
from flowgraph.op import define
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import is_count

__all__ = [
    "pipeline_stage",
    "shard",
]


def _attrs(x: Any, /, rows: Any = None, axes: Any = ()) -> dict[str, Any]:
    cuts = tuple(_axis(x, *one) for one in axes)
    if rows is not None and any(axis == 0 and pieces > 1 for axis, _, pieces in cuts):
        raise UsageError(
            f"rows={rows!r}, axes={axes_given(cuts)}",
            "axis 0 is that of the rows, and two wishes cut it",
            "Give rows= or axes={0: ...}.",
        )
    return {"axes": cuts, "rows": None if rows is None else _rows(x, rows)}


def _rows(x: Any, rows: Any) -> Any:
    counts = tuple(rows) if isinstance(rows, tuple) else rows
    for count in counts if isinstance(counts, tuple) else (counts,):
        if not is_count(count, 0 if isinstance(counts, tuple) else 1):
            raise UsageError(
                f"rows={rows!r}",
                "that is no number of shards",
                "Give how many shards, the rows of each, or the name of an axis of the mesh.",
            )
    if x.ndim == 0:
        raise UsageError(f"rows={rows!r}", "a scalar has no rows", "Give a tensor with at least one axis.")
    return counts


def _axis(x: Any, axis: Any, name: str, pieces: Any) -> tuple[int, str, int]:
    if not is_count(axis, -x.ndim) or axis >= x.ndim:
        raise ShapeError(
            f"axes={axes_given([(axis, name, pieces)])}",
            f"it has {x.ndim} axes",
            f"Give an axis from {-x.ndim} to {x.ndim - 1}." if x.ndim else "Give a tensor with at least one axis.",
        )
    if not is_count(pieces):
        raise UsageError(
            f"axes={{{axis}: {pieces!r}}}",
            "that is no number of pieces",
            "Give how many pieces, or the name of an axis of the mesh.",
        )
    if not isinstance(x.shape[axis], int):
        raise ShapeError(
            f"axes={axes_given([(axis, name, pieces)])}",
            "how long this axis is will be known in a run only",
            "Cut such an axis by rows: shard(x, rows=...).",
        )
    return axis % x.ndim, name, pieces


def axes_given(cuts: Iterable[tuple[Any, str, Any]]) -> dict[Any, int | str]:
    """The `axes` that the user gave for these cuts, (axis, name, pieces): a number of pieces is kept as a name too."""
    return {axis: int(name) if name.isdigit() else name for axis, name, _ in cuts}


shard_op = define(
    "shard",
    "... -> ...",
    lambda x: x,
    attrs=_attrs,
    dtype="keep",
    view=lambda types, attrs: "{0}",
    gradient=lambda g, out, x: (g,),
    flops=0,
    samples=lambda: [(((5, 4),), {"rows": 2}), (((5, 4),), {"axes": ((1, "model", 2), (-2, "other", 3))})],
    doc="x, cut by rows.",
)


def shard(x: Any, rows: int | tuple[int, ...] | str | None = None, axes: Mapping[int, int | str] | None = None) -> Any:
    """`x` with a wish about how it is cut; a variable keeps the wish, and is returned as it is.

    `rows` cuts the first axis: into so many pieces, into pieces of the lengths in a tuple (0 is allowed), or into as
    many as an axis of the mesh in force has (`rows="data"`). It is a wish about work, not about numbers: results have
    the same bits however rows are cut.

    `axes` cuts other axes, each into a number of pieces or over an axis of the mesh: `axes={1: "model"}`. What is
    computed from the pieces is cut with them, gradients and the state of an optimizer too. Such a cut belongs to the
    program: its bits follow from the number of pieces, and not from who carries them. Pieces beyond the length of the
    axis are empty, and so are shards beyond the number of rows. An op that needs the whole of a cut axis, such as a
    softmax or a sort along it, gets it gathered, and what follows from it is not cut. Without a mesh (see `Mesh`) names
    mean no cut.

    >>> import flowgraph as fg
    >>> float(fg.shard(fg.ones((10,)), rows=3).sum())
    10.0
    >>> fg.shard(fg.ones((2, 4)), axes={1: 2}).sum(axis=0).tolist()
    [2.0, 2.0, 2.0, 2.0]

    Raises UsageError for a number of pieces below 1, for a name that the mesh does not have, and for two wishes that
    contradict; ShapeError for an axis that x does not have.
    """
    if axes is not None and not isinstance(axes, Mapping):
        raise UsageError(f"shard(x, axes={axes!r:.100})", "that is no mapping", 'Give one, such as {1: "model"}.')
    if hasattr(x, "__flowgraph_shard__"):  # a variable
        return x.__flowgraph_shard__(rows, axes)
    if isinstance(rows, str):
        rows = pieces_of(rows)
    cuts = []
    for axis, wish in (axes or {}).items():
        pieces = pieces_of(wish) if isinstance(wish, str) else wish
        if pieces is not None:
            cuts.append((axis, str(wish), pieces))
    if rows is None and not cuts:
        return convert(x)
    return apply(shard_op, (convert(x),), {"rows": rows, "axes": tuple(cuts)})


def below_wishes(node: Node) -> tuple[Node, list[Node]]:
    """What `node` is before any wish about its cuts, and the nodes of these wishes, the last first."""
    wishes = []
    while node.op is shard_op and node.inputs:
        wishes.append(node)
        node = node.inputs[0]
    return node, wishes


def without_wishes(x: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
    """`x` before any wish about its cuts, and these wishes, as `with_wishes` takes them."""
    if x.node.op is not shard_op:
        return x, ()
    node, wishes = below_wishes(x.node)
    return (tensor_of(node) if wishes else x), tuple([one.attrs for one in reversed(wishes)])


def with_wishes(x: Tensor, wishes: tuple[Any, ...]) -> Tensor:
    """`x` with wishes about its cuts."""
    for attrs in wishes:
        x = apply(shard_op, (x,), dict(attrs))
    return x


@contextmanager
def pipeline_stage(number: Any) -> Iterator[None]:
    """A context in which tensors belong to a stage of a pipeline: what is computed there has tasks of its own.

    So do the gradients of these tensors, the update of the variables that only they read, and the optimizer's state.
    Rows pass from stage to stage shard by shard: the shards of `shard(x, rows=8)` are the micro-batches. While the
    second is in the first stage, the first may be in the second; as many are under way as there are stages, and twice
    as many where there are two workers for each stage.

    >>> import flowgraph as fg
    >>> with fg.pipeline_stage(0):
    ...     h = fg.tanh(fg.ones((4, 2)))
    >>> with fg.pipeline_stage(1):
    ...     y = fg.sum(h)
    >>> round(float(y), 2)
    6.09

    Raises UsageError for a number below 0.
    """
    if not is_count(number, 0):
        raise UsageError(f"pipeline_stage({number!r})", "stages are counted from 0", "Give 0 for the first.")
    with inside_lane(((STAGE, number),)):
        yield
