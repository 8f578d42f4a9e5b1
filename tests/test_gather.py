"""take, gather, scatter_nd, segments, masks and classes: special values, errors, and TensorFlow's examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import DTypeError, RunError, ShapeError, UsageError

X = np.arange(24.0).reshape(2, 3, 4)


def test_take() -> None:
    x = fg.constant(X)
    for axis in (0, 1, -1):
        np.testing.assert_array_equal(fg.take(x, [1, 0, -1], axis=axis).numpy(), np.take(X, [1, 0, -1], axis=axis))
    assert fg.take(fg.constant([5, 6]), 1).tolist() == 6
    assert fg.take(x, [], axis=1).shape == (2, 0, 4)
    with pytest.raises(UsageError, match="which axis"):
        fg.take(x, [0])
    with pytest.raises(DTypeError):
        fg.take(x, [0.5], axis=0)
    with pytest.raises(ShapeError, match="at index 3"):
        fg.take(x, [0, 3], axis=1)


def test_take_along_axis_broadcasts() -> None:
    index = np.array([[[2], [0], [3]]])
    found = fg.take_along_axis(fg.constant(X), index, axis=2)
    np.testing.assert_array_equal(found.numpy(), np.take_along_axis(X, np.broadcast_to(index, (2, 3, 1)), 2))
    np.testing.assert_array_equal(fg.take_along_axis(fg.constant(X), np.argsort(-X, 0), axis=0).numpy(), np.flip(X, 0))
    with pytest.raises(ShapeError):
        fg.take_along_axis(fg.constant(X), [0])


@pytest.mark.parametrize(
    ("shape", "axis", "batch"),
    [((2,), None, 0), ((2, 2), 1, 0), ((2, 2), 1, 1), ((2, 5), 2, 1), ((2, 3), 2, 2), ((2,), -1, 1)],
)
def test_gather_is_that_of_tensorflow(shape: Any, axis: Any, batch: int) -> None:
    """Element by element, as the documentation of tf.gather says it."""
    index = np.random.default_rng(0).integers(0, 2, shape)
    at = batch if axis is None else axis % 3
    wanted = np.zeros((*X.shape[:at], *shape[batch:], *X.shape[at + 1 :]))
    for outer in np.ndindex(X.shape[:at]):
        for place in np.ndindex(*shape[batch:]):
            wanted[(*outer, *place)] = X[(*outer, index[(*outer[:batch], *place)])]
    found = fg.gather(fg.constant(X), fg.constant(index), axis=axis, batch_dims=batch)
    np.testing.assert_array_equal(found.numpy(), wanted)


def test_gather_nd() -> None:
    x = fg.constant(X)
    assert fg.gather_nd(x, [[1, 2, 3], [0, 0, 0]]).tolist() == [23.0, 0.0]
    np.testing.assert_array_equal(fg.gather_nd(x, [[1, 2]]).numpy(), X[[1], [2]])
    np.testing.assert_array_equal(fg.gather_nd(x, [[2], [0]], batch_dims=1).numpy(), X[[0, 1], [2, 0]])
    assert fg.gather_nd(x, np.zeros((2, 0), int)).shape == (2, 2, 3, 4)
    with pytest.raises(ShapeError):
        fg.gather_nd(x, [[0, 0, 0, 0]])


def test_scatter_nd_and_its_gradient() -> None:
    updates = np.arange(1.0, 7).reshape(3, 2)
    index = np.array([[2], [0], [2]])
    found = fg.scatter_nd(index, fg.constant(updates), (4, 2))
    assert found.tolist() == [[3, 4], [0, 0], [6, 8], [0, 0]]
    weights = np.arange(8.0).reshape(4, 2)
    slope = fg.grad(lambda u: (fg.scatter_nd(index, u, (4, 2)) * weights).sum())(updates)
    np.testing.assert_array_equal(slope.numpy(), weights[[2, 0, 2]])
    updated = fg.tensor_scatter_nd_update(fg.constant(weights), index, fg.constant(updates))
    assert updated.tolist() == [[3, 4], [2, 3], [5, 6], [6, 7]]
    assert fg.tensor_scatter_nd_update(fg.zeros((2, 2)), [[0, 1]], 1.0).tolist() == [[0, 1], [0, 0]]


def test_segments() -> None:
    data = np.array([[1.0, 5.0], [3.0, 3.0], [2.0, 4.0], [8.0, 8.0]])
    ids = np.array([0, 0, 2, 2])
    x = fg.constant(data)
    assert fg.segment_sum(x, ids).tolist() == [[4, 8], [0, 0], [10, 12]]
    assert fg.segment_mean(x, ids).tolist() == [[2, 4], [0, 0], [5, 6]]
    assert fg.segment_max(x, ids).tolist() == [[3, 5], [0, 0], [8, 8]]
    assert fg.segment_min(x, ids).tolist() == [[1, 3], [0, 0], [2, 4]]
    assert fg.segment_prod(x, ids).tolist() == [[3, 15], [1, 1], [16, 32]]
    assert fg.segment_sum(x[:0], ids[:0]).shape == (0, 2)
    with pytest.raises(UsageError, match="never decrease"):
        fg.segment_sum(x, [1, 0, 0, 0])
    with pytest.raises(UsageError, match="unsorted_segment_sum"):
        fg.function(lambda i: fg.segment_sum(x, i))(fg.constant(ids))


def test_unsorted_segments() -> None:
    x = fg.constant([1.0, 2.0, 3.0, 4.0])
    ids = np.array([2, -1, 0, 2])
    for given in (ids, fg.constant(ids) + fg.constant(0)):
        assert fg.unsorted_segment_sum(x, given, 3).tolist() == [3, 0, 5]
        assert fg.unsorted_segment_mean(x, given, 3).tolist() == [3, 0, 2.5]
    lowest, highest = np.finfo(np.float32).min, np.finfo(np.float32).max
    assert fg.unsorted_segment_max(x, ids, 3).tolist() == [3, lowest, 4]
    assert fg.unsorted_segment_min(x, ids, 3).tolist() == [3, highest, 1]
    assert fg.unsorted_segment_prod(x, ids, 3).tolist() == [3, 1, 4]
    summed = fg.function(lambda x, i: fg.unsorted_segment_sum(x, i, 3))
    assert summed(x, fg.constant(ids)).tolist() == [3, 0, 5]
    with pytest.raises(ShapeError, match="length 3"):
        fg.unsorted_segment_sum(x, [0, 1, 2, 3], 3)
    with pytest.raises(RunError):
        summed(x, fg.constant([0, 1, 2, 3])).numpy()
    with pytest.raises(RunError):
        fg.unsorted_segment_max(x, [0, 1, 2, 3], 3).numpy()


def test_gradients_of_segments_with_ties_and_zeros() -> None:
    ids = np.array([0, 0, 1, 1, 1])
    x = np.array([2.0, 2.0, 0.0, 3.0, 4.0])
    grads = {
        name: fg.grad(lambda v, op=op: op(v, ids, 2).sum())(x).tolist()
        for name, op in (("max", fg.unsorted_segment_max), ("prod", fg.unsorted_segment_prod))
    }
    assert grads == {"max": [0.5, 0.5, 0, 0, 1], "prod": [2, 2, 12, 0, 0]}


def test_boolean_mask() -> None:
    mask = np.array([[True, False, True], [False, False, True]])
    np.testing.assert_array_equal(fg.boolean_mask(fg.constant(X), mask).numpy(), X[mask])
    np.testing.assert_array_equal(fg.boolean_mask(fg.constant(X), mask[0], axis=1).numpy(), X[:, mask[0]])
    with pytest.raises(UsageError):
        fg.boolean_mask(fg.constant(X), [1, 0])


def test_one_hot() -> None:
    index = fg.constant([0, 2, -1, 7])
    assert fg.one_hot(index, 3).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert fg.one_hot(index, 3).dtype == np.float32
    assert fg.one_hot(index, 3, axis=0).shape == (3, 4)
    assert fg.one_hot(index, 3, on_value=5, off_value=-1).tolist()[0] == [5, -1, -1]
    assert fg.one_hot(index, 3, on_value=5).dtype == np.int32
    assert fg.one_hot(index, 3, dtype=np.bool_).dtype == np.bool_
    assert fg.one_hot([[0, 1]], 2, axis=1).tolist() == [[[1, 0], [0, 1]]]
    with pytest.raises(UsageError):
        fg.one_hot([0.5], 3)


def test_embedding_lookup_adds_where_an_id_repeats() -> None:
    table = fg.Variable(np.ones((4, 2), np.float32))
    with fg.GradientTape() as tape:
        loss = (fg.embedding_lookup(table, [3, 1, 3]) * [[1.0], [2.0], [3.0]]).sum()
    assert tape.gradient(loss, table).tolist() == [[0, 0], [2, 2], [0, 0], [4, 4]]
    long = fg.embedding_lookup(fg.constant([[3.0, 4.0], [0.0, 0.0]]), [0, 1], max_norm=1.0)
    np.testing.assert_allclose(long.numpy(), [[0.6, 0.8], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_small_integers_name_places_beyond_their_range(dtype: Any) -> None:
    """Places 0 to 299 in int8 would name each of the first 44 twice."""
    assert fg.sum(fg.one_hot(np.array([3], dtype), 300)).tolist() == 1
    largest = np.iinfo(dtype).max
    ids = fg.constant(np.array([largest, 0], dtype)) + np.array(0, dtype)  # computed, so that its range is not known
    sums = fg.unsorted_segment_sum(np.array([5.0, 7.0]), ids, int(largest) + 1)
    assert (sums.tolist()[0], sums.tolist()[-1]) == (7, 5)


def test_updates_have_the_precision_of_what_they_go_into() -> None:
    x = np.zeros(2)
    assert fg.tensor_scatter_nd_update(x, [[0]], [0.1]).tolist() == [0.1, 0]
    assert fg.tensor_scatter_nd_add(x, [[0]], [0.1]).tolist() == [0.1, 0]
    assert fg.one_hot([0], 2, 0.1, 0.2, dtype="float64").tolist() == [[0.1, 0.2]]
