"""Graph text before and after each rule of each pass."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import walk

import flowgraph as fg
from flowgraph import passes
from flowgraph.apply import convert
from flowgraph.graph import Graph, Node, interpret, make_input, make_node, ops_used
from flowgraph.leaves import scalar
from flowgraph.op import OPS, define
from flowgraph.passes import cull, fold, hoist, optimise, share, simplify
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import Dim, tensor_type

F4 = np.dtype(np.float32)


def leaf(name: str, *shape: Any, dtype: Any = F4) -> Tensor:
    return tensor_of(make_input(tensor_type(shape, dtype), name=name))


def graph_of(*outputs: Tensor) -> Graph:
    return Graph.of([tensor.node for tensor in outputs])


def body(graph: Graph) -> str:
    """The text of a graph without the lines of its inputs."""
    return "\n".join(graph.text().splitlines()[len(graph.inputs) :])


def check(before: Graph, rewrite: Callable[[Graph], Graph], after: str) -> Graph:
    """Assert that `rewrite` makes `after` of `before`, and that it still means the same."""
    found = rewrite(before.check()).check()
    assert body(found) == dedent(after).strip()
    rng = np.random.default_rng(0)
    feeds = [
        node.memo if node.memo is not None else rng.uniform(0.5, 2, node.type.shape).astype(node.type.dtype)
        for node in before.inputs
    ]
    walk.close(interpret(found, feeds), interpret(before, feeds), "the rewritten graph")
    return found


# cull


def test_cull_drops_wishes_about_cuts() -> None:
    x = leaf("x", 6, 2)
    check(graph_of(fg.exp(fg.shard(x, rows=3))), cull, """
        %1: float32[6, 2] = exp(%x)
        return %1
    """)  # fmt: skip


@pytest.mark.parametrize(
    "same",
    [
        lambda x: x.astype(np.float32),
        lambda x: x.reshape(6, 2),
        lambda x: fg.broadcast_to(x, (6, 2)),
        lambda x: OPS["broadcast_like"](x, x),
        lambda x: x[:],
        lambda x: x[:, :],
        lambda x: x[0:6, ::1],
        fg.squeeze,
        lambda x: fg.expand_dims(x, axis=()),
    ],
)
def test_cull_drops_what_changes_nothing(same: Any) -> None:
    x = leaf("x", 6, 2)
    check(graph_of(same(x) + 1), cull, """
        %1: float32[] = constant(dtype=float32, value=1.0)
        %2: float32[6, 2] = add(%x, %1)
        return %2
    """)  # fmt: skip


def test_cull_keeps_what_looks_alike_but_is_not() -> None:
    x = leaf("x", 6, 6)
    graph = graph_of(x[::-1], x.T, fg.cast(x, "float64"), x.reshape(6, 6, 1))
    assert cull(graph).outputs == graph.outputs


def test_cull_drops_a_chain() -> None:
    x = leaf("x", 6)
    assert cull(graph_of(fg.shard(x.reshape(6)[:], rows=2))).outputs == (x.node,)


# share


def test_share_computes_equal_things_once() -> None:
    x = leaf("x", 3)
    check(graph_of(fg.exp(x) * fg.exp(x) + 2 * fg.exp(x)), share, """
        %1: float32[3] = exp(%x)
        %2: float32[3] = multiply(%1, %1)
        %3: float32[] = constant(dtype=float32, value=2.0)
        %4: float32[3] = multiply(%3, %1)
        %5: float32[3] = add(%2, %4)
        return %5
    """)  # fmt: skip


def test_share_looks_at_attributes_and_the_order_of_operands() -> None:
    x, y = leaf("x", 3, 3), leaf("y", 3, 3)
    graph = graph_of(x - y, y - x, fg.sum(x, axis=0), fg.sum(x, axis=1), fg.sum(x, axis=-1))
    assert ops_used(share(graph)) == {"input": 2, "subtract": 2, "sum": 2}


def test_share_keeps_outputs_in_place() -> None:
    x = leaf("x", 3)
    a, b = share(graph_of(fg.exp(x), fg.exp(x))).outputs
    assert a is b


def test_share_tells_draws_apart_by_their_keys() -> None:
    one, other = fg.random.normal((3,)), fg.random.normal((3,))
    assert ops_used(share(graph_of(one, other)))["random_normal"] == 2
    twice = [make_node(one.node.inputs[0].op, one.node.inputs[0].inputs, one.node.inputs[0].attrs) for _ in range(2)]
    assert ops_used(share(Graph.of(twice)))["random_normal"] == 1


# fold


def test_fold_computes_scalars_of_constants() -> None:
    x = leaf("x", 3)
    one = convert(1)
    check(graph_of(x * fg.cast(one + one * 0.5, "float32")), fold, """
        %1: float32[] = constant(dtype=float32, value=1.5)
        %2: float32[3] = multiply(%x, %1)
        return %2
    """)  # fmt: skip


def test_fold_knows_sizes() -> None:
    x = leaf("x", 3, 4)
    check(graph_of(fg.mean(x, axis=0)), fold, """
        %1: float32[4] = sum(%x, axes=(0,), keepdims=False)
        %2: float32[] = constant(dtype=float32, value=3.0)
        %3: float32[4] = divide(%1, %2)
        return %3
    """)  # fmt: skip


def test_fold_leaves_unknown_sizes() -> None:
    assert ops_used(fold(graph_of(fg.mean(leaf("x", Dim("n"), 4)))))["size"] == 1
    assert "size" not in ops_used(fold(graph_of(fg.mean(leaf("x", Dim("n"), 4), axis=1))))


def test_fold_leaves_inputs_draws_and_arrays() -> None:
    x = leaf("x")
    graph = graph_of(fg.exp(x), fg.random.normal(()), fg.exp(fg.ones((3,))))
    assert {"exp": 2, "random_normal": 1}.items() <= ops_used(fold(graph)).items()


def test_fold_keeps_the_sign_of_zero() -> None:
    """The numbers 0.0 and -0.0 are equal, and `share` must not make one constant of them."""
    zero = convert(0.0)
    graph = graph_of(1 / (-zero), 1 / zero)
    assert [float(one) for one in interpret(optimise(graph), [])] == [-np.inf, np.inf]
    minus = -zero
    signs = graph_of(minus, zero, -minus, -zero)
    assert [str(one) for one in interpret(optimise(signs), [])] == ["-0.0", "0.0", "0.0", "-0.0"]
    assert ops_used(optimise(signs)) == {"constant": 2}


def test_fold_may_come_to_nan() -> None:
    """A nan is not equal to itself, and the constant that holds it is still a canonical one."""
    zero = convert(0.0)
    graph = optimise(graph_of(zero / zero, zero / zero + 1))
    assert ops_used(graph) == {"constant": 1}
    assert np.isnan(interpret(graph, [])).all()


# simplify


def test_multiplication_and_division_by_one() -> None:
    x, b = leaf("x", 3), leaf("b")
    check(graph_of(x * 1 + 1 * x, x / 1, b * 1), simplify, """
        %2: float32[3] = add(%x, %x)
        return %2, %x, %b
    """)  # fmt: skip


def test_multiplication_by_one_that_stretches_or_widens_stays() -> None:
    b, one = leaf("b"), fg.ones((3,))
    assert "multiply" in ops_used(simplify(graph_of(b * one)))
    assert "astype" in ops_used(simplify(graph_of(fg.cast(b, "float64") * 1)))


def test_powers_of_one_and_two() -> None:
    x = leaf("x", 3)
    check(graph_of(x**2, x**1), simplify, """
        %1: float32[3] = square(%x)
        return %1, %x
    """)  # fmt: skip
    assert "power" in ops_used(simplify(graph_of(x**3)))


def test_scalar_factors_are_grouped() -> None:
    x, s, t = leaf("x", 3), leaf("s"), leaf("t")
    check(graph_of(s * (x * t)), simplify, """
        %3: float32[] = multiply(%s, %t)
        %4: float32[3] = multiply(%3, %x)
        return %4
    """)  # fmt: skip
    check(graph_of((t * x) * s * 0.5), simplify, """
        %3: float32[] = constant(dtype=float32, value=0.5)
        %4: float32[] = multiply(%s, %t)
        %5: float32[] = multiply(%3, %4)
        %6: float32[3] = multiply(%5, %x)
        return %6
    """)  # fmt: skip


def test_operands_that_broadcast_by_themselves_are_not_stretched() -> None:
    x, b = leaf("x", 5, 3), leaf("b", 3)
    check(graph_of(x + fg.broadcast_to(b, (5, 3)), fg.where(x > 1, OPS["broadcast_like"](b, x), x)), simplify, """
        %2: float32[5, 3] = add(%x, %b)
        %3: float32[] = constant(dtype=float32, value=1.0)
        %4: bool[5, 3] = greater(%x, %3)
        %5: float32[5, 3] = where(%4, %b, %x)
        return %2, %5
    """)  # fmt: skip
    check(graph_of(x * fg.expand_dims(b, 0)), simplify, """
        %2: float32[5, 3] = multiply(%x, %b)
        return %2
    """)  # fmt: skip


def test_a_stretch_that_makes_the_shape_stays() -> None:
    b, c = leaf("b", 3), leaf("c", 3)
    assert ops_used(simplify(graph_of(fg.broadcast_to(b, (5, 3)) + c)))["broadcast_to"] == 1


def test_elementwise_ops_move_before_a_stretch() -> None:
    b = leaf("b", 3)
    check(graph_of(fg.exp(-fg.broadcast_to(b, (5, 3)))), simplify, """
        %1: float32[3] = negative(%b)
        %2: float32[3] = exp(%1)
        %3: float32[5, 3] = broadcast_to(%2, shape=(5, 3))
        return %3
    """)  # fmt: skip


def test_an_op_that_depends_on_positions_stays_behind_a_stretch() -> None:
    op = define("numbered", "... -> ...", _numbered, doc="For a test.")
    try:
        graph = graph_of(op(fg.broadcast_to(leaf("b"), (4,))))
        assert [node.op.name for node in simplify(graph)][-1] == "numbered"
    finally:
        del OPS["numbered"]


def _numbered(x: Any, *, at: Any) -> Any:
    return x + np.arange(*at[0][:2])


def test_a_sum_of_products_is_an_inner_product() -> None:
    x, y = leaf("x", 5, 3), leaf("y", 5, 3)
    check(graph_of(fg.sum(x * y), fg.sum(fg.square(x)), fg.sum(x * y, keepdims=True)), simplify, """
        %2: float32[] = inner_product(%x, %y)
        %3: float32[] = inner_product(%x, %x)
        %4: float32[] = inner_product(%x, %y)
        %5: float32[1, 1] = expand_dims(%4, axis=(0, 1))
        return %2, %3, %5
    """)  # fmt: skip


def test_a_sum_of_products_that_is_none() -> None:
    x, b, i = leaf("x", 5, 3), leaf("b", 3), leaf("i", 3, dtype=np.dtype(np.int32))
    graph = graph_of(fg.sum(x * b), fg.sum(x * x, axis=0), fg.sum(i * i), fg.sum(leaf("s") * leaf("t")))
    assert "inner_product" not in ops_used(simplify(graph))


def test_transposes_join_or_vanish() -> None:
    x = leaf("x", 2, 3, 4)
    check(graph_of(fg.transpose(x, (1, 2, 0)).T, x.T.T, fg.transpose(x, (0, 1, 2))), simplify, """
        %1: float32[2, 4, 3] = transpose(%x, axes=(0, 2, 1))
        return %1, %x, %x
    """)  # fmt: skip


def test_reshapes_join_or_vanish() -> None:
    x = leaf("x", 6, 2)
    check(graph_of(x.reshape(12).reshape(3, 4), x.reshape(12).reshape(6, 2), x[::2].reshape(6)), simplify, """
        %1: float32[3, 4] = reshape(%x, shape=(3, 4))
        %2: float32[3, 2] = getitem(%x, key=(('slice', None, None, 2), ('slice', None, None, None)), shape=(3, 2))
        %3: float32[6] = reshape(%2, shape=(6,))
        return %1, %x, %3
    """)  # fmt: skip
    check(graph_of(fg.expand_dims(x, 1).reshape(12), fg.squeeze(fg.expand_dims(x, 1)).reshape(4, 3)), simplify, """
        %1: float32[12] = reshape(%x, shape=(12,))
        %2: float32[4, 3] = reshape(%x, shape=(4, 3))
        return %1, %2
    """)  # fmt: skip


def test_axes_of_length_1_that_come_and_go() -> None:
    x, y = leaf("x", 3), leaf("y", 3, 1)
    check(graph_of(fg.squeeze(fg.expand_dims(x, 1), 1), fg.expand_dims(fg.squeeze(y, 1), 1)), simplify, """
        return %x, %y
    """)  # fmt: skip
    assert len(list(simplify(graph_of(fg.squeeze(fg.expand_dims(y, 0), 2))))) == 3


def test_rules_work_on_what_other_rules_made() -> None:
    """A long chain is simple after few sweeps: each rule sees operands that are simple already."""
    x = leaf("x", 4)
    y = x
    for _ in range(50):
        y = fg.expand_dims((y * 1).reshape(2, 2).T.T.reshape(4), 0)[0:1].reshape(4) * 1
    found = optimise(graph_of(y))
    assert found.outputs == (x.node,)


def test_a_scalar_factor_of_both_parts_of_a_sum() -> None:
    x, y, s = leaf("x", 3), leaf("y", 3), leaf("s")
    negative = fg.expand_dims(-s, 0)
    check(graph_of(s * x + y * s, s * x - y * s, s * x + negative * y, negative * x + s * y), simplify, """
        %3: float32[3] = add(%x, %y)
        %4: float32[3] = multiply(%s, %3)
        %5: float32[3] = subtract(%x, %y)
        %6: float32[3] = multiply(%s, %5)
        %7: float32[3] = subtract(%x, %y)
        %8: float32[3] = multiply(%s, %7)
        %9: float32[3] = subtract(%y, %x)
        %10: float32[3] = multiply(%s, %9)
        return %4, %6, %8, %10
    """)  # fmt: skip
    t, wide = leaf("t"), leaf("z", 2, 3)
    for kept in (s * x + t * y, s * x + y, negative * x - s * y, s * wide + s * y):
        assert ops_used(simplify(graph_of(kept)))["multiply"] == ops_used(graph_of(kept))["multiply"]


# hoist


def test_a_scalar_factor_leaves_contractions() -> None:
    x, y, s = leaf("x", 5, 3), leaf("y", 5, 1), leaf("s")
    check(graph_of(fg.sum(s * y), x.T @ (y * s)), hoist, """
        %3: float32[] = sum(%y, axes=(0, 1), keepdims=False)
        %4: float32[] = multiply(%s, %3)
        %5: float32[3, 5] = transpose(%x, axes=(1, 0))
        %6: float32[3, 1] = matmul(%5, %y)
        %7: float32[3, 1] = multiply(%s, %6)
        return %4, %7
    """)  # fmt: skip


def test_a_scalar_factor_passes_through_views() -> None:
    x, y, s, t = leaf("x", 5, 3), leaf("y", 5), leaf("s"), leaf("t")
    check(graph_of((t * x).T @ fg.expand_dims(s * y, 1)), hoist, """
        %4: float32[3, 5] = transpose(%x, axes=(1, 0))
        %5: float32[5, 1] = expand_dims(%y, axis=(1,))
        %6: float32[3, 1] = matmul(%4, %5)
        %7: float32[3, 1] = multiply(%t, %6)
        %8: float32[3, 1] = multiply(%s, %7)
        return %8
    """)  # fmt: skip


def test_a_factor_that_somebody_needs_stays() -> None:
    x, y, s = leaf("x", 5, 3), leaf("y", 5, 1), leaf("s")
    scaled = s * y
    small = leaf("small", 2)
    for kept in (
        (fg.sum(scaled), scaled),
        (fg.sum(scaled), fg.exp(scaled)),
        (fg.expand_dims(scaled, 0), fg.sum(scaled)),
        (fg.max(scaled),),
        (fg.expand_dims(s * small, 1) @ fg.expand_dims(small, 0),),
        (fg.sum(x * y),),
    ):
        graph = graph_of(*kept)
        assert hoist(graph).text() == graph.text()


# all of them


def test_optimise_makes_a_step_of_linear_regression_small() -> None:
    x, y, w = leaf("x", 100, 3), leaf("y", 100), leaf("w", 3)
    loss = fg.mean((x @ w - y) ** 2)
    graph = graph_of(loss, fg.gradient(loss, w))
    assert len(list(graph)) == 21
    check(graph, optimise, """
        %3: float32[100] = matmul(%x, %w)
        %4: float32[100] = subtract(%3, %y)
        %5: float32[] = inner_product(%4, %4)
        %6: float32[] = constant(dtype=float32, value=100.0)
        %7: float32[] = divide(%5, %6)
        %8: float32[] = constant(dtype=float32, value=0.019999999552965164)
        %9: float32[3, 100] = transpose(%x, axes=(1, 0))
        %10: float32[100, 1] = expand_dims(%4, axis=(1,))
        %11: float32[3, 1] = matmul(%9, %10)
        %12: float32[3, 1] = multiply(%8, %11)
        %13: float32[3] = squeeze(%12, axis=(1,))
        return %7, %13
    """)  # fmt: skip


def test_optimise_finds_nothing_more_the_second_time() -> None:
    x, w = leaf("x", 20, 3), leaf("w", 3)
    loss = fg.mean(fg.softplus(-(x @ w)) * 0.5)
    once = optimise(graph_of(loss, fg.gradient(loss, w)))
    assert optimise(once).text() == once.text()


@pytest.mark.parametrize("name", ["cull", "share", "fold", "simplify", "hoist"])
def test_every_pass_is_checked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that makes a mistake does not get away with it."""
    x = leaf("x", 3)
    wrong = Node(OPS["negative"], (x.node,), (), (tensor_type((4,), F4),))
    monkeypatch.setattr(passes, name, lambda graph: graph.with_outputs([wrong]))
    with pytest.raises(AssertionError, match="recorded as"):
        optimise(graph_of(x + 1))


def test_a_number_that_is_no_constant_stays_an_input() -> None:
    x = leaf("x", 3)
    graph = graph_of(x * 0.123)
    assert [node.attr("kind") for node in optimise(graph).inputs] == ["data", "scalar"]
    assert scalar(0.123, F4).is_leaf
    assert not scalar(0.5, F4).is_leaf
