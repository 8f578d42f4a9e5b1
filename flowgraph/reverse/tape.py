"""GradientTape: what is computed while it records can be differentiated afterwards."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from flowgraph import tree
from flowgraph.apply import convert
from flowgraph.context import ACTIVE
from flowgraph.errors import GradientError, ShapeError
from flowgraph.graph import Node
from flowgraph.reverse.driver import gradient_along
from flowgraph.reverse.vectorize import jacobian_rows
from flowgraph.tensor import Tensor
from flowgraph.types import is_float


class GradientTape:
    """A context that records operations, so that their gradients can be asked for afterwards.

    Trainable variables are watched by themselves when they are read; other tensors by `watch`. A tape answers once,
    a `persistent` one any number of times. It sees only what is computed while it records.

    >>> import flowgraph as fg
    >>> x = fg.constant(-1.0)
    >>> with fg.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = x * x
    >>> float(tape.gradient(y, x))
    -2.0
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self.persistent = persistent
        self.watch_accessed_variables = watch_accessed_variables
        self._inputs: dict[Node, tuple[Node, ...]] = {}
        self._watched: dict[Node, Any] = {}
        self._used = False

    def __enter__(self) -> GradientTape:
        ACTIVE.tapes.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        ACTIVE.tapes.remove(self)

    def record(self, node: Node) -> None:
        """Remember `node` and its operands; called for every new node while the tape records."""
        self._inputs[node] = node.inputs

    def watch(self, tensors: Any) -> None:
        """Make the tape compute gradients with respect to `tensors` (a tensor, a variable or a structure of them)."""
        for one in tree.flatten(tensors):
            tensor = convert(one)
            if not is_float(tensor.dtype):
                raise GradientError(
                    f"to watch {tensor.type}", "only real and complex numbers have gradients", "Cast it first."
                )
            self._watched[tensor.node] = one if hasattr(one, "__flowgraph_tensor__") else tensor

    def watch_variable(self, node: Node, variable: Any) -> None:
        """Called when a trainable variable is read while the tape records."""
        if self.watch_accessed_variables:
            self._watched[node] = variable

    def watched_variables(self) -> tuple[Any, ...]:
        """The variables that the tape watches: the trainable ones that were read while it recorded, and those named."""
        variables = (one for one in self._watched.values() if not isinstance(one, Tensor))
        return tuple({id(one): one for one in variables}.values())

    def gradient(
        self, target: Any, sources: Any, output_gradients: Any = None, unconnected_gradients: str = "none"
    ) -> Any:
        """The gradient of `target` with respect to `sources`, in their structure; None for the unconnected.

        Raises GradientError when a tape that is not persistent is asked a second time.
        """
        if self._used and not self.persistent:
            raise GradientError(
                "a second gradient of one GradientTape",
                "it is not persistent and has been used",
                "Make it with GradientTape(persistent=True).",
            )
        self._used = True
        ys = [convert(one) for one in tree.flatten(target)]
        versions: dict[int, list[Node]] = {}
        for node, watched in self._watched.items():
            if not isinstance(watched, Tensor):
                versions.setdefault(id(watched), []).append(node)
        xs = [versions[id(one)] if id(one) in versions else [self._node_of(one)] for one in tree.flatten(sources)]
        connected = self._connected()
        # A version of a variable is where its gradient ends, even if an assignment in a traced function computed it.
        ends = {node for nodes in versions.values() for node in nodes}
        records = [(n, operands) for n, operands in self._inputs.items() if n in connected and n not in ends]
        hidden = {node for nodes in xs for node in nodes if node not in connected}
        if not self.persistent:
            self._inputs = {}  # lets go of everything that was recorded
        return tree.unflatten(sources, gradient_along(records, ys, xs, output_gradients, unconnected_gradients, hidden))

    def jacobian(self, target: Any, sources: Any, unconnected_gradients: str = "none") -> Any:
        """The derivatives of every element of the tensor `target` by every element of each of `sources`.

        Each has the shape of the target followed by that of the source; None for the unconnected, or zeros with
        `unconnected_gradients="zero"`. All rows are computed at once.

        >>> import flowgraph as fg
        >>> x = fg.constant([1.0, 2.0])
        >>> with fg.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.jacobian(y, x).tolist()
        [[2.0, 0.0], [0.0, 4.0]]
        """
        y = convert(target)
        return jacobian_rows(lambda unit: self.gradient(y, sources, unit, unconnected_gradients), y)

    def batch_jacobian(self, target: Any, source: Any, unconnected_gradients: str = "none") -> Any:
        """The Jacobian of each element along the first axis of `target` by the element of `source` at its place.

        The first axes are those of a batch, whose elements do not depend on one another. For shapes (b, n) and (b, m)
        the result has shape (b, n, m).
        """
        y, x = convert(target), convert(source)
        if not y.ndim or not x.ndim or y.shape[0] != x.shape[0]:
            raise ShapeError(
                f"the batch Jacobian of {y.type} by {x.type}",
                "their first axes are not those of one batch",
                "Give tensors with equally many elements, or use jacobian.",
            )
        return jacobian_rows(lambda unit: self.gradient(y, source, unit, unconnected_gradients), y, batched=True)

    def _node_of(self, source: Any) -> Node:
        """The node meant by `source`: of a tensor that was assigned to since, the one that is watched."""
        node = convert(source).node
        if node in self._watched:
            return node
        return next((old for old, handle in reversed(self._watched.items()) if handle is source), node)

    def _connected(self) -> set[Node]:
        """The recorded nodes that depend on something watched, and what is watched."""
        live = set(self._watched)
        for node, operands in self._inputs.items():
            if not live.isdisjoint(operands):
                live.add(node)
        return live

    # For a step that is found again by the structure of its loss.

    def saw_each_once(self, variables: Sequence[Any]) -> bool:
        """Whether the tape watches each of `variables`, all as they are now, and nothing that was a variable's before.

        A variable that is assigned while a tape records has several values, each with a share in its gradient.
        """
        return len(self.watched_variables()) == len(self._watched) and all(
            self._watched.get(one._node) is one for one in variables
        )

    def recorded_all(self, nodes: Iterable[Node], known: Container[Node]) -> bool:
        """Whether the tape saw how each of `nodes` was computed, and nothing watched lies behind those `known`."""
        found = [node for node in nodes if (node in self._inputs) == (node in known) and node.op.name != "constant"]
        return not found or (all(node in known for node in found) and self._connected().isdisjoint(found))
