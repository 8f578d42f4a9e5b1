"""Random graphs mean the same five ways: interpreted, after the passes, in one tile, in tiles over shards, eagerly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import walk
from hypothesis import event, given, settings, strategies as st

import flowgraph as fg
from flowgraph.graph import Graph, Node, interpret, make_input, ops_used
from flowgraph.partition import rows
from flowgraph.passes import optimise
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import tensor_type

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": fg.tanh,
    "sigmoid": fg.sigmoid,
    "softplus": fg.softplus,
    "square": lambda x: fg.square(fg.tanh(x)),
    "negative": lambda x: -x,
    "exp": lambda x: fg.exp(fg.tanh(x)),
    "expm1": lambda x: fg.expm1(fg.tanh(x)),
    "log": lambda x: fg.log(x * x + 1),
    "log1p": lambda x: fg.log1p(x * x),
    "sqrt": lambda x: fg.sqrt(x * x + 2),
    "power": lambda x: (fg.abs(fg.tanh(x)) + 1) ** 1.5,
    "halved": lambda x: x * 0.5,
    "shifted": lambda x: 1.7 - x,
    "cast": lambda x: fg.cast(fg.cast(x, "float64"), x.dtype),
    "sharded": lambda x: fg.shard(x, rows=2) if x.ndim else x,
}
KINKED: dict[str, Callable[[Tensor], Tensor]] = {"relu": fg.relu, "abs": abs}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: fg.tanh(x) * fg.tanh(y),
    "divide": lambda x, y: x / (y * y + 1),
    "power": lambda x, y: (fg.sigmoid(x) + 0.5) ** fg.tanh(y),
}
KINKED_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"maximum": fg.maximum, "minimum": fg.minimum}
REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "sum": fg.sum,
    "mean": fg.mean,
    "logsumexp": fg.logsumexp,
    "var": fg.var,
}
KINKED_REDUCTIONS: dict[str, Callable[..., Tensor]] = {"max": fg.max, "min": fg.min}
MAX_SIZE = 2000


class Builder:
    """Draws the steps of a random expression over a pool of tensors.

    `smooth` leaves out what has kinks: where rounding decides a tie, two right programs have different gradients.
    """

    def __init__(self, data: st.DataObject, dtype: Any, smooth: bool) -> None:
        self.data, self.smooth = data, smooth
        n, m = data.draw(st.sampled_from([1, 2, 3, 5, 8, 13])), data.draw(st.sampled_from([1, 4, 6]))
        shapes = {"x": (n, 3), "y": (n,), "z": (m, 3), "w": (3,), "k": (3, 2), "b": ()}
        rng = np.random.default_rng(7)
        self.arrays = [np.asarray(rng.uniform(-1.5, 1.5, shape), dtype) for shape in shapes.values()]
        self.leaves = []
        for (name, shape), array in zip(shapes.items(), self.arrays, strict=True):
            array.flags.writeable = False
            kind = "data" if name in "xyz" else "variable"
            self.leaves.append(make_input(tensor_type(shape, dtype), kind, name, array))
        self.conditions = [tensor_of(leaf) > 0.25 for leaf in self.leaves[:4]]
        self.pool = [tensor_of(leaf) for leaf in self.leaves]

    def pick(self, fits: Callable[[Tensor], bool] = lambda x: True) -> Tensor | None:
        return self.one_of([x for x in self.pool if fits(x)])

    def one_of(self, found: list[Tensor]) -> Tensor | None:
        """One of `found`, by its number: Hypothesis prints what it draws, and that would compute a tensor."""
        return found[self.data.draw(st.integers(0, len(found) - 1))] if found else None

    def choose(self, smooth: dict[str, Any], kinked: dict[str, Any]) -> Any:
        table = smooth if self.smooth else smooth | kinked
        return table[self.data.draw(st.sampled_from(sorted(table)))]

    def partner(self, x: Tensor, fits: Callable[[Tensor, Tensor], bool]) -> Tensor | None:
        return self.pick(lambda y: fits(x, y))

    def step(self) -> None:
        kind = self.data.draw(st.sampled_from(STEPS))
        made = getattr(self, kind)()
        if made is not None and (made.size or 0) <= MAX_SIZE:
            self.pool.append(made)

    def unary(self) -> Tensor | None:
        return self.choose(UNARY, KINKED)(self.pick())

    def binary(self) -> Tensor | None:
        x = self.pick()
        y = self.partner(x, _broadcast)
        return self.choose(BINARY, KINKED_BINARY)(x, y)

    def reduction(self) -> Tensor | None:
        x = self.pick(lambda one: one.ndim > 0)
        axis = self.data.draw(st.sampled_from([None, *range(-x.ndim, x.ndim)]))
        return self.choose(REDUCTIONS, KINKED_REDUCTIONS)(x, axis=axis, keepdims=self.data.draw(st.booleans()))

    def softmax(self) -> Tensor | None:
        x = self.pick(lambda one: one.ndim > 0)
        return fg.softmax(x, axis=self.data.draw(st.integers(-x.ndim, x.ndim - 1)))

    def matmul(self) -> Tensor | None:
        x = self.pick(lambda one: one.ndim > 0)
        y = self.partner(x, _products)
        return None if y is None else fg.tanh(x @ y)

    def gram(self) -> Tensor | None:
        x = self.pick(lambda one: one.ndim == 2)
        return (x @ x.T if self.data.draw(st.booleans()) else x.T @ x) * 0.25

    def transpose(self) -> Tensor | None:
        x = self.pick(lambda one: one.ndim > 1)
        return fg.transpose(x, axes=tuple(self.data.draw(st.permutations(range(x.ndim)))))

    def reshape(self) -> Tensor | None:
        x = self.pick(lambda one: one.ndim > 0)
        forms = [(-1,), (1, *x.shape), (*x.shape, 1), (x.shape[0], -1), (-1, x.shape[-1])]
        return fg.reshape(x, self.data.draw(st.sampled_from(forms)))

    def expand(self) -> Tensor | None:
        x = self.pick(lambda one: one.ndim < 3)
        return fg.expand_dims(x, self.data.draw(st.integers(-x.ndim - 1, x.ndim)))

    def squeeze(self) -> Tensor | None:
        x = self.pick(lambda one: 1 in one.shape)
        return None if x is None else fg.squeeze(x)

    def slices(self) -> Tensor | None:
        x = self.pick(lambda one: one.ndim > 0)
        forms: list[Any] = [0, -1, slice(1, None), slice(None, -1), slice(None, None, 2), slice(None, None, -1)]
        key = self.data.draw(st.sampled_from([*forms, (None, 0), (Ellipsis, slice(0, 2)), (Ellipsis, -1)]))
        made = x[key]
        return made if made.size else None

    def concat(self) -> Tensor | None:
        x = self.pick(lambda one: one.ndim > 0)
        axis = self.data.draw(st.integers(0, x.ndim - 1))
        y = self.partner(x, lambda a, b: _without(a, axis) == _without(b, axis) and a.ndim == b.ndim)
        return fg.concat([x, y], axis=axis)

    def where(self) -> Tensor | None:
        condition = self.one_of(self.conditions)
        x = self.partner(condition, _broadcast)
        y = self.partner(x, _broadcast)
        return fg.where(condition, x, y) if _broadcast(condition, y) and _broadcast(condition, x + y) else None

    def stretch(self) -> Tensor | None:
        x = self.pick(lambda one: one.ndim < 3)
        return fg.broadcast_to(x, (2, *x.shape)) + fg.ones_like(x) * 0.5

    def numbers(self) -> Tensor | None:
        x = self.pick(lambda one: one.ndim > 0)
        shape, dtype = x.shape, x.dtype
        made = [
            lambda: fg.cast(fg.arange(shape[-1]), dtype) * 0.1,
            lambda: fg.random.normal(shape, dtype=dtype, seed=3),
            lambda: fg.random.uniform(shape, -1, 1, dtype=dtype, seed=4),
            lambda: fg.cast(fg.random.uniform(shape, 0, 3, dtype="int32", seed=5), dtype),
            lambda: fg.full(shape, 0.75, dtype),
        ]
        return made[self.data.draw(st.integers(0, len(made) - 1))]()


STEPS = (
    "unary unary unary binary binary binary reduction reduction matmul matmul gram softmax transpose reshape expand "
    "squeeze slices concat where stretch numbers"
).split()


def _broadcast(x: Tensor, y: Tensor) -> bool:
    try:
        np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        return False
    return True


def _products(x: Tensor, y: Tensor) -> bool:
    if not x.ndim or not y.ndim or x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        return False
    return x.ndim < 3 or y.ndim < 3 or _broadcast_shapes(x.shape[:-2], y.shape[:-2])


def _broadcast_shapes(a: Any, b: Any) -> bool:
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        return False
    return True


def _without(x: Tensor, axis: int) -> Any:
    return tuple(length for number, length in enumerate(x.shape) if number != axis)


def outputs_of(builder: Builder, gradients: bool) -> list[Node]:
    made = builder.pool[len(builder.leaves) :]
    outputs = [made[-1]] if made else [builder.pool[0]]
    outputs += [builder.one_of(builder.pool) for _ in range(builder.data.draw(st.integers(0, 2)))]
    if gradients:
        sources = [tensor_of(leaf) for leaf in builder.leaves]
        target = fg.mean(fg.tanh(outputs[0]) * 1.5)
        outputs += [g for g in fg.gradient(target, sources) if g is not None] or [target]
    elif builder.data.draw(st.booleans()):
        outputs.append(builder.one_of(builder.conditions))
    return [tensor.node for tensor in outputs]


def check(graph: Graph, arrays: list[Any], factor: float) -> None:
    graph.check()
    feeds = walk.values_of(graph, arrays)
    wanted = interpret(graph, feeds)
    assert all(np.isfinite(one).all() for one in wanted)
    walk.close(interpret(optimise(graph), feeds), wanted, "after the passes", factor, 1.0)
    walk.close(walk.run(walk.compiled(graph), feeds), wanted, "in one tile", factor, 1.0)
    with walk.tiles(2, 4):
        entry = walk.compiled(graph)
        assert all(tile <= 4 for tile in entry.program.plan.tile.values())
        one = walk.run(entry, feeds, 1)
        walk.close(one, wanted, "in tiles", factor, 1.0)
        for shards in (2, 3, (0, 3, 0, 1)):
            walk.same(walk.run(entry, feeds, shards), one, f"in {shards} shards")
    event(f"row factors: {len(entry.program.meshes)}")
    # Last, for what is evaluated forgets its operands.
    walk.close([tensor_of(node).numpy() for node in graph.outputs], wanted, "eagerly", factor, 1.0)


@pytest.fixture(params=[1 << 20, 0], ids=["one row factor", "several row factors"])
def _second_factor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SECOND_FACTOR_BYTES", request.param)


def check_drawn(data: st.DataObject, dtype: Any, most: int, gradients: bool, factor: float) -> None:
    """A graph of up to so many steps: as it is, or smooth and with its gradients."""
    builder = Builder(data, dtype, smooth=gradients)
    for _ in range(data.draw(st.integers(1, most))):
        builder.step()
    outputs = outputs_of(builder, gradients)
    check(walk.graph_of(outputs, builder.leaves), builder.arrays, factor)


@pytest.mark.usefixtures("_second_factor")
class TestRandomGraphs:
    @given(st.data())
    def test_values(self, data: st.DataObject) -> None:
        check_drawn(data, np.float64, 9, gradients=False, factor=1e3)

    @given(st.data())
    def test_gradients(self, data: st.DataObject) -> None:
        check_drawn(data, np.float64, 7, gradients=True, factor=1e3)

    @given(st.data())
    def test_single_precision(self, data: st.DataObject) -> None:
        check_drawn(data, np.float32, 5, gradients=True, factor=100)


def test_the_steps_reach_most_ops() -> None:
    """Each step by itself, so that a step that always gives up would be seen."""
    used: set[str] = set()

    @settings(max_examples=300)
    @given(st.data(), st.sampled_from(STEPS))
    def walk_once(data: st.DataObject, kind: str) -> None:
        builder = Builder(data, np.float64, smooth=False)
        made = getattr(builder, kind)()
        if made is not None:
            used.update(ops_used(walk.graph_of([made.node], builder.leaves)))

    walk_once()
    assert len(used) > 35, sorted(used)
