"""Layers against precomputed values of torch and against loops; cuts along the batch; errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import oracles_nn
import pytest
import walk

import flowgraph as fg
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.graph import make_input
from flowgraph.tensor import tensor_of
from flowgraph.types import tensor_type


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def by_loops(x: Any, w: Any, strides: Any, pads: Any, dilations: Any) -> Any:
    rank = w.ndim - 2
    parts = oracles_nn.patches(x, w.shape[:rank], strides, dilations, pads)
    return np.tensordot(parts, w, rank + 1)


CONVOLUTIONS = {
    "valid": (1, "VALID", 1, (0, 0)), "same": (1, "SAME", 1, (1, 1)), "strided": (2, "SAME", 1, (0, 1)),
    "holes": (1, "VALID", 2, (0, 0)), "zeros around": (2, 1, 1, (1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("rank", [1, 2])
def test_convolutions_and_their_gradients(name: str, rank: int) -> None:
    stride, padding, dilation, pad = CONVOLUTIONS[name]
    x, w = numbers(3, *(6,) * rank, 2), numbers(*(3,) * rank, 2, 4, seed=1)
    convolution = fg.nn.conv1d if rank == 1 else fg.nn.conv2d

    def layer(x: Any, w: Any) -> Any:
        return convolution(x, w, stride, padding, dilation)

    want = by_loops(x, w, (stride,) * rank, (pad,) * rank, (dilation,) * rank)
    np.testing.assert_allclose(layer(x, w), want, rtol=1e-11, atol=1e-13)
    h, dx, dw = 1e-5, numbers(*x.shape, seed=2), numbers(*w.shape, seed=3)

    def value(x: Any, w: Any) -> Any:
        return fg.sum(fg.tanh(layer(x, w)))

    def slope(x: Any, w: Any) -> Any:
        gx, gw = fg.grad(value, (0, 1))(x, w)
        return fg.sum(gx * dx) + fg.sum(gw * dw)

    for f in (value, slope):
        gx, gw = fg.grad(f, (0, 1))(x, w)
        near = (float(f(x + h * dx, w + h * dw)) - float(f(x - h * dx, w - h * dw))) / (2 * h)
        assert float(fg.sum(gx * dx) + fg.sum(gw * dw)) == pytest.approx(near, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("padding", "length"), [("SAME", 7), ("VALID", 8), ("VALID", 9), (1, 8)])
@pytest.mark.parametrize("rank", [1, 2])
def test_transposed_convolutions_are_adjoints(padding: Any, length: int, rank: int) -> None:
    x, w = numbers(3, *(length,) * rank, 2), numbers(*(3,) * rank, 2, 4, seed=1)
    forward, back = (fg.nn.conv1d, fg.nn.conv1d_transpose) if rank == 1 else (fg.nn.conv2d, fg.nn.conv2d_transpose)
    y = forward(x, w, 2, padding).numpy()
    g = numbers(*y.shape, seed=2)
    got = back(g, w, output_shape=x.shape, strides=2, padding=padding).numpy()
    assert got.shape == x.shape
    assert np.sum(got * x) == pytest.approx(np.sum(g * y), rel=1e-11)


def test_a_transposed_convolution_has_a_size_of_its_own() -> None:
    w = numbers(3, 3, 2, 4)
    assert fg.nn.conv2d_transpose(numbers(1, 4, 5, 4), w, strides=2).shape == (1, 8, 10, 2)
    assert fg.nn.conv2d_transpose(numbers(1, 4, 5, 4), w, strides=2, padding="VALID").shape == (1, 9, 11, 2)


def test_a_convolution_of_one_element_is_a_product() -> None:
    x, w = numbers(3, 5, 4, 2), numbers(1, 1, 2, 3)
    np.testing.assert_allclose(fg.nn.conv2d(x, w), x @ w[0, 0], rtol=1e-12)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("shape", [(3, 7, 2), (3, 5, 4, 2)])
def test_pools(shape: tuple[int, ...], padding: str) -> None:
    x, rank = numbers(*shape), len(shape) - 2
    for name, oracle in (("max_pool", oracles_nn.max_pool), ("avg_pool", oracles_nn.avg_pool)):
        got = getattr(fg.nn, name)(x, 3, 2, padding)
        pads = [
            (0, 0) if padding == "VALID" else ((m := max((-(-n // 2) - 1) * 2 + 3 - n, 0)) // 2, m - m // 2)
            for n in shape[1:-1]
        ]
        np.testing.assert_allclose(got, oracle(x, (3,) * rank, (2,) * rank, pads), rtol=1e-12)
        np.testing.assert_array_equal(getattr(fg.nn, f"{name}{rank}d")(x, 3, 2, padding), got)


def test_max_pool_of_integers_and_ties() -> None:
    x = np.array([[[-5], [-7], [-9]]], np.int8)
    assert fg.nn.max_pool(x, 2, 2, "SAME").tolist() == [[[-5], [-9]]]
    assert fg.grad(lambda x: fg.sum(fg.nn.max_pool(x, 2)))(np.ones((1, 2, 1))).tolist() == [[[0.5], [0.5]]]


def test_the_batch_stays_cut() -> None:
    x, w = (
        make_input(tensor_type((20, 6, 6, 2), np.float64)),
        make_input(tensor_type((3, 3, 2, 3), np.float64), "variable"),
    )
    y = fg.nn.max_pool(fg.relu(fg.nn.conv2d(tensor_of(x), tensor_of(w), padding="SAME")), 2)
    loss = fg.sum(fg.square(y))
    graph = walk.graph_of([loss.node, *(one.node for one in fg.gradient(loss, [tensor_of(w), tensor_of(x)]))], [x, w])
    feeds = [numbers(20, 6, 6, 2), numbers(3, 3, 2, 3, seed=1)]
    with walk.tiles(2, 4):
        entry = walk.compiled(graph)
        program = walk.values_of(graph, feeds)
        one = walk.run(entry, program, 1)
        walk.same(walk.run(entry, program, 4), one, "a convolution in 4 shards")
        assert entry.program.meshes
        assert not any(node.op.name == "gather" for node in entry.program.phases.needed)


def test_normalisation() -> None:
    x = numbers(6, 4) * 3 + 1
    mean, variance = fg.nn.moments(x, axes=[0])
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(variance, x.var(0), rtol=1e-12)
    scale, offset = numbers(4, seed=1), numbers(4, seed=2)
    want = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3) * scale + offset
    np.testing.assert_allclose(fg.nn.batch_normalization(x, mean, variance, offset, scale), want, rtol=1e-11)
    want = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * scale + offset
    np.testing.assert_allclose(fg.nn.layer_normalization(x, scale, offset, epsilon=1e-5), want, rtol=1e-11)
    np.testing.assert_allclose(fg.nn.l2_normalize(x, axis=1), x / np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-12)
    assert fg.nn.l2_normalize(np.zeros(3)).tolist() == [0, 0, 0]
    assert np.isfinite(fg.grad(lambda x: fg.sum(fg.nn.l2_normalize(x)))(np.zeros(3)).numpy()).all()
    np.testing.assert_allclose(fg.nn.bias_add(x, offset), x + offset)


def test_dropout() -> None:
    x = np.ones((400, 50))
    y = fg.nn.dropout(x, 0.25, seed=3).numpy()
    assert set(np.unique(y)) == {0.0, 1 / 0.75}
    assert abs((y == 0).mean() - 0.25) < 0.01
    np.testing.assert_array_equal(y, fg.nn.dropout(x, 0.25, seed=3))
    assert (y != fg.nn.dropout(x, 0.25, seed=4).numpy()).any()
    rows = fg.nn.dropout(x, 0.5, noise_shape=(400, 1), seed=3).numpy()
    assert (rows == rows[:, :1]).all()
    fg.random.set_seed(1)
    layer = fg.function(lambda x: fg.nn.dropout(x, 0.5))
    assert (layer(x).numpy() != layer(x).numpy()).any()


def test_cross_entropies() -> None:
    logits, labels = numbers(5, 4) * 5, np.random.default_rng(1).dirichlet(np.ones(4), 5)
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    got = fg.nn.softmax_cross_entropy_with_logits(labels, logits)
    np.testing.assert_allclose(got, -(labels * log_softmax).sum(1), rtol=1e-12)
    turned = fg.nn.softmax_cross_entropy_with_logits(labels.T, logits.T, axis=0)
    np.testing.assert_allclose(turned, got.numpy(), rtol=1e-12)
    classes = np.array([0, 3, 1, 1, 2])
    got = fg.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
    np.testing.assert_allclose(got, -log_softmax[np.arange(5), classes], rtol=1e-12)
    g = fg.grad(lambda x: fg.sum(fg.nn.sparse_softmax_cross_entropy_with_logits(classes, x)))(logits)
    np.testing.assert_allclose(g, np.exp(log_softmax) - np.eye(4)[classes], rtol=1e-9, atol=1e-12)
    p = 1 / (1 + np.exp(-logits))
    want = -labels * np.log(p) - (1 - labels) * np.log(1 - p)
    np.testing.assert_allclose(fg.nn.sigmoid_cross_entropy_with_logits(labels, logits), want, rtol=1e-10)
    want -= 2 * labels * np.log(p)
    np.testing.assert_allclose(fg.nn.weighted_cross_entropy_with_logits(labels, logits, 3.0), want, rtol=1e-10)


def test_cross_entropies_at_the_edges() -> None:
    impossible = fg.nn.softmax_cross_entropy_with_logits([0.0, 1.0], [-np.inf, 0.0])
    assert float(impossible) == 0
    assert np.isnan(float(fg.nn.sparse_softmax_cross_entropy_with_logits(7, [0.0, 0.0])))
    assert fg.nn.sigmoid_cross_entropy_with_logits([0.0, 1.0], [1e4, -1e4]).tolist() == [1e4, 1e4]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fg.nn.conv2d(numbers(5, 5, 1), numbers(2, 2, 1, 1)), ShapeError, "conv2d"),
        (lambda: fg.nn.conv2d(numbers(1, 5, 5, 2), numbers(2, 2, 1, 1)), ShapeError, "channels"),
        (lambda: fg.nn.conv2d(numbers(1, 2, 2, 1), numbers(3, 3, 1, 1)), ShapeError, "do not fit"),
        (lambda: fg.nn.conv2d(numbers(1, 5, 5, 1), numbers(2, 2, 1, 1), strides=0), UsageError, "strides=0"),
        (lambda: fg.nn.conv2d(numbers(1, 5, 5, 1), numbers(2, 2, 1, 1), padding="FULL"), UsageError, "no padding"),
        (lambda: fg.nn.conv2d(numbers(1, 5, 5, 1), numbers(2, 2, 1, 1), padding=-1), UsageError, "no padding"),
        (lambda: fg.nn.conv1d_transpose(numbers(1, 5, 1), numbers(2, 1, 1), padding=1), UsageError, "output_shape"),
        (lambda: fg.nn.conv1d_transpose(numbers(1, 5, 1), numbers(2, 1, 1), (1, 9, 1)), ShapeError, "give back"),
        (lambda: fg.nn.max_pool2d(numbers(1, 5, 1), 2), ShapeError, "axes"),
        (lambda: fg.nn.max_pool(numbers(5, 1), 2), ShapeError, "batch"),
        (lambda: fg.nn.max_pool(numbers(1, 5, 1), (2, 2)), UsageError, "ksize"),
        (lambda: fg.nn.max_pool(numbers(1, 5, 1), 2, padding=2), UsageError, "padding alone"),
        (lambda: fg.nn.dropout(numbers(3), 1.0), UsageError, "probability"),
        (lambda: fg.nn.bias_add(numbers(3, 2), numbers(3)), ShapeError, "bias"),
        (lambda: fg.nn.softmax_cross_entropy_with_logits(numbers(2), numbers(3)), ShapeError, "differ"),
        (lambda: fg.nn.sparse_softmax_cross_entropy_with_logits([0.0], numbers(1, 3)), DTypeError, "classes"),
        (lambda: fg.nn.sparse_softmax_cross_entropy_with_logits([[0]], numbers(1, 3)), ShapeError, "last"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_tensorflows_pairs_of_padding_name_batch_and_channels_as_well() -> None:
    x, w = numbers(1, 5, 5, 2), numbers(2, 2, 2, 3)
    expected = fg.nn.conv2d(x, w, padding=[(1, 2), (0, 1)])
    assert fg.nn.conv2d(x, w, padding=[[0, 0], [1, 2], [0, 1], [0, 0]]).tolist() == expected.tolist()
    with pytest.raises(UsageError, match="it is no padding"):
        fg.nn.conv2d(x, w, padding=[[1, 1], [1, 2], [0, 1], [0, 0]])


def test_normalisation_by_python_numbers_keeps_double_precision() -> None:
    found = fg.nn.batch_normalization(np.array([0.3]), 0.0, 0.1, None, None, 0.0)
    assert found.numpy() == pytest.approx([0.3 / np.sqrt(0.1)], rel=1e-14)
