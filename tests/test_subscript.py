"""x[key] and x[key] = value: all keys that numpy takes, gradients, tapes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import DTypeError, RunError, ShapeError, UsageError

X = np.arange(60.0).reshape(3, 4, 5)
KEYS: list[Any] = [
    [0, 2],
    [],
    ([0, 1], [1, 2]),
    (slice(None), [0, 1]),
    ...,
    slice(None),
    (1, ..., slice(3, None)),
    (0, 1, 2),
    (None, 0),
    (slice(2, 1),),
    (0, slice(None), [1, 2]),
    ([0, 1], slice(None), [1, 2]),
    (slice(1, 3), [0, 3, 3]),
    (None, [0, 1]),
    ([[0, 1], [1, 2]], None, [[0], [1]]),
    (slice(None), 1, [0, 4]),
    (1, [0, 1], slice(0, 0)),
    (slice(None, None, -1), [1, 0], slice(None, None, 2)),
    (..., [0, 1]),
    ([0, -1], ..., [0, -1]),
    np.array([-1, 0]),
    np.int64(2),
    X[:, :, 0] > 10,
    X > 30,
    X > 1000,
    (X[:, 0, 0] > 10, slice(None), [0]),
    (slice(None), X[0] > 3),
    (X[:, 0, 0] > 10, X[0, :, 0] > 10),
]


def tensors(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(tensors(part) for part in key)
    return fg.constant(key) if isinstance(key, np.ndarray) else key


@pytest.mark.parametrize("number", range(len(KEYS)))
def test_getitem_is_that_of_numpy(number: int) -> None:
    key = KEYS[number]
    for given in (key, tensors(key)):
        found = fg.constant(X)[given]
        assert found.shape == X[key].shape
        np.testing.assert_array_equal(found.numpy(), X[key])


@pytest.mark.parametrize("number", range(len(KEYS)))
@pytest.mark.parametrize("value", [7.0, 3, np.arange(2.0), np.float32(2.5), np.zeros((1, 1, 1, 1))], ids=repr)
def test_setitem_is_that_of_numpy(number: int, value: Any) -> None:
    key = KEYS[number]
    wanted = X.copy()
    x = fg.constant(X)
    before = x.node
    try:
        wanted[key] = value
    except (TypeError, ValueError) as error:
        if isinstance(error, TypeError) or "sequence" in str(error):
            pytest.skip("numpy alone refuses a value of many axes of length 1 behind a mask and for a scalar")
        with pytest.raises(UsageError):
            x[tensors(key)] = value
        assert x.node is before
        return
    x[tensors(key)] = value
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x.numpy(), wanted)


@pytest.mark.parametrize("key", [(1, [0, 3, 3]), (slice(0, 2), 1), ([0, 2, 2], slice(1, 3), [4, 0, 4])], ids=str)
def test_gradient_of_setitem(key: Any) -> None:
    value = np.arange(1.0, X[key].size + 1).reshape(X[key].shape)
    weights = np.cos(X)

    def loss(x: Any, v: Any) -> Any:
        y = x * 1
        y[key] = v * v
        return (y * weights).sum()

    of_x, of_value = fg.grad(loss, argnums=(0, 1))(X, value)
    left = weights.copy()
    left[key] = 0
    np.testing.assert_allclose(of_x.numpy(), left)
    owner = np.full(X.shape, -1)
    owner[key] = np.arange(value.size).reshape(value.shape)
    last = owner[key] == np.arange(value.size).reshape(value.shape)  # of equal places the last one counts
    np.testing.assert_allclose(of_value.numpy(), np.where(last, weights[key] * 2 * value, 0))


def test_a_tape_watches_the_value_that_the_handle_had() -> None:
    x = fg.constant([1.0, 2.0, 3.0])
    with fg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        before = x * x
        x[1] = x[0] * 5
        after = x * x
    assert x.tolist() == [1.0, 5.0, 3.0]
    assert tape.gradient(before, x).tolist() == [2.0, 4.0, 6.0]
    assert tape.gradient(after, x).tolist() == [52.0, 0.0, 6.0]
    with fg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert tape.gradient(y, x).tolist() == [2.0, 10.0, 6.0]


def test_watching_again_after_an_assignment_means_the_new_value() -> None:
    x = fg.constant([1.0, 2.0])
    with fg.GradientTape() as tape:
        tape.watch(x)
        x[0] = 3.0
        tape.watch(x)
        y = x * x
    assert tape.gradient(y, x).tolist() == [6.0, 4.0]


def test_assignment_leaves_everything_else_alone() -> None:
    data = np.zeros(400)
    x = fg.asarray(data)
    y = x + 1
    x[0] = 5.0
    assert data[0] == 0
    assert y[0].item() == 1
    assert x[:2].tolist() == [5.0, 0.0]
    other = fg.asarray(x, copy=True)
    other[1] = 9.0
    assert x[:2].tolist() == [5.0, 0.0]


def test_a_scalar_can_be_set() -> None:
    x = fg.constant(1.0)
    x[()] = 2.0
    x[...] += 1.0
    assert float(x) == 3.0


def test_assignment_in_a_loop() -> None:
    x = fg.zeros((5,))
    for k in range(5):
        x[k] = k * k
    assert x.tolist() == [0.0, 1.0, 4.0, 9.0, 16.0]


def test_inside_a_traced_function() -> None:
    @fg.function
    def picked(x: Any, index: Any, mask: Any) -> Any:
        y = x * 1
        y[mask] = 0.0
        y[0, 1] = 7.0
        return y[index], x[:, index], y[::-1]

    for rows in (3, 5):
        x = np.arange(3.0 * rows).reshape(rows, 3)
        index, mask = np.array([0, 2, 2]), x > 4
        y = np.where(mask, 0, x)
        y[0, 1] = 7
        found = picked(fg.constant(x), fg.constant(index), fg.constant(mask))
        for one, wanted in zip(found, (y[index], x[:, index], y[::-1]), strict=True):
            np.testing.assert_array_equal(one.numpy(), wanted)


def test_a_scalar_index_may_be_symbolic() -> None:
    row = fg.function(lambda x, i: x[i])
    assert row(fg.constant([[1, 2], [3, 4]]), fg.constant(1)).tolist() == [3, 4]


def test_a_mask_is_refused_where_its_value_is_not_known() -> None:
    with pytest.raises(UsageError, match=r"fg\.where"):
        fg.function(lambda x: x[x > 0])(fg.constant([1.0, -1.0]))


def test_indices_out_of_bounds() -> None:
    x = fg.constant(X)
    for index in ([3], [-4], fg.constant([0, 7])):
        with pytest.raises(ShapeError, match="the axis has length 3"):
            x[index]
    with pytest.raises(RunError, match="gather_at"):
        x[fg.constant([1]) + fg.constant([5])].numpy()
    with pytest.raises(RunError, match="set_at"):
        x[fg.constant([1]) + fg.constant([5])] = 0.0
        x.numpy()


def test_what_can_not_be_set() -> None:
    x = fg.constant([1, 2, 3])
    with pytest.raises(DTypeError, match="can not hold"):
        x[0] = 1.5
    with pytest.raises(DTypeError, match="can not hold"):
        x[0] = fg.constant(1.5)
    with pytest.raises(ShapeError):
        x[:2] = [1, 2, 3]
    with pytest.raises(ShapeError):
        x[fg.constant([True, False])] = 1
    x[0] = True
    x[1] = np.int64(9)
    assert x.tolist() == [1, 9, 3]
    assert x.dtype == np.int32


def test_a_wide_table_is_summed_into_once() -> None:
    table = fg.constant(np.zeros((70_000, 2)))
    index = np.array([0, 69_999, 0])
    gradient = fg.gradient(table[index].sum(), table)
    assert gradient[0].tolist() == [2.0, 2.0]
    assert gradient[69_999].tolist() == [1.0, 1.0]
    assert float(gradient.sum()) == 6.0


def test_a_list_that_is_set_keeps_double_precision() -> None:
    x = fg.constant(np.zeros(2))
    x[:] = [0.1, 0.2]
    assert x.tolist() == [0.1, 0.2]


def test_masks_and_keys_that_do_not_fit_raise_what_numpy_raises() -> None:
    x = fg.constant(np.ones((1, 2)))
    assert x[fg.constant(np.zeros((0, 2), bool))].shape == (0,)
    for key in (np.zeros((3,), bool), np.zeros((1, 2, 0), bool), (0, 0, 0)):
        with pytest.raises(IndexError):
            x[key]
