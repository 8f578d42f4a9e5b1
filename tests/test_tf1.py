"""TensorFlow 1's graphs and sessions: what is built, what a run computes, reads, draws and assigns."""

from __future__ import annotations

import collections
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import flowgraph as tf
import flowgraph.compat.v1 as tf1
from flowgraph.errors import DataError, DTypeError, GradientError, RunError, ShapeError, UsageError
from flowgraph.session import plan

if TYPE_CHECKING:
    from distributed import Client


@pytest.fixture
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as found:
        yield found


def started(**where: Any) -> tf.Session:
    """A session whose variables have their initial values."""
    session = tf.Session(**where)
    session.run(tf.global_variables_initializer())
    return session


# Fetches and feeds.


def test_fetches_keep_their_structure(graph: tf.Graph) -> None:
    Pair = collections.namedtuple("Pair", "left right")
    x = tf.placeholder(tf.float32, [None], name="x")
    y = tf.multiply(x, 2.0, name="y")
    total = tf.reduce_sum(y)
    with tf.Session() as sess:
        got = sess.run({"a": [y, (x, y)], "b": Pair(total, tf.no_op()), "c": "y:0", "d": []}, feed_dict={x: [1, 2, 3]})
        assert got["a"][0].tolist() == [2, 4, 6]
        assert isinstance(got["a"][1], tuple)
        assert got["a"][1][0].tolist() == [1, 2, 3]
        assert got["b"] == Pair(12.0, None)
        assert isinstance(got["b"].left, np.float32)
        assert got["c"].tolist() == [2, 4, 6]
        assert got["d"] == []
        assert sess.run([]) == []
        twice = sess.run([y, y], {"x:0": [1]})
        assert twice[0].tolist() == twice[1].tolist() == [2]
        assert twice[0] is not twice[1] or twice[0].base is None
        assert sess.run(tf.no_op()) is None
        assert sess.run((total,), {x: np.array([1.5], np.float64)}) == (3.0,)


def test_feeds_override_inner_tensors_constants_and_variables(graph: tf.Graph) -> None:
    c = tf.constant(2.0, name="c")
    v = tf.Variable(10.0)
    inner = c * 3.0
    y = inner + v
    with tf.Session() as sess:
        assert sess.run(y, {inner: 1.0, v: 1.0}) == 2.0  # v is not initialised, and not needed
        sess.run(tf.global_variables_initializer())
        assert sess.run(y) == 16.0
        assert sess.run(y, {c: 1.0}) == 13.0
        assert sess.run([inner, y], {inner: 5.0}) == [5.0, 15.0]
        assert sess.run(c, {c: 7.0}) == 7.0
        assert sess.run(y) == 16.0


def test_placeholder_with_default(graph: tf.Graph) -> None:
    x = tf.placeholder_with_default([1.0, 2.0], [None], name="x")
    with tf.Session() as sess:
        assert sess.run(x * 2).tolist() == [2, 4]
        assert sess.run(x * 2, {x: [5.0, 6.0]}).tolist() == [10, 12]
    with pytest.raises(ShapeError):
        tf.placeholder_with_default([1.0, 2.0], [3])


def test_lengths_left_open_differ_from_run_to_run_and_are_unified(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    total = tf.reduce_mean(tf.sum(x, axis=1) - y)
    flat = tf.reshape(x, [-1])
    assert x.get_shape().as_list() == [None, 2]
    assert tf.placeholder("float").dtype == np.float32
    assert x.get_shape().ndims == 2
    assert not x.get_shape().is_fully_defined()
    with tf.Session() as sess:
        for rows in (1, 3, 0, 20_000):
            value = np.ones((rows, 2), np.float32)
            if rows:
                assert sess.run(total, {x: value, y: np.zeros(rows)}) == 2.0
                assert sess.run(flat, {x: value}).shape == (2 * rows,)
            assert sess.run(tf.sum(x), {x: value}) == 2 * rows
        with pytest.raises(ShapeError, match=r"test_tf1.py:\d+"):
            sess.run(total, {x: np.ones((3, 2)), y: np.ones(4)})
        with pytest.raises(ShapeError, match=r"takes x\.0 and y\.0 for one length"):
            sess.run(total, {x: np.ones((3, 2)), y: np.ones(1)})
        with pytest.raises(ShapeError, match=r"'x', made at .*test_tf1.py"):
            sess.run(total, {x: np.ones((3, 3)), y: np.ones(3)})
        with pytest.raises(ShapeError):
            sess.run(total, {x: np.ones(3), y: np.ones(3)})


def test_two_open_axes(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float64, [None, None])
    w = tf.placeholder(tf.float64, [None, 3])
    z = tf.matmul(x, w)
    generator = np.random.default_rng(0)
    with tf.Session() as sess:
        for n, k in ((2, 5), (4, 5), (4, 1)):
            a, b = generator.normal(size=(n, k)), generator.normal(size=(k, 3))
            np.testing.assert_allclose(sess.run(z, {x: a, w: b}), a @ b)
        with pytest.raises(ShapeError):
            sess.run(z, {x: np.ones((2, 5)), w: np.ones((4, 3))})


def test_a_placeholder_without_a_shape_may_be_anything_elementwise(graph: tf.Graph) -> None:
    a, b = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
    triple = (a + b) * 3.0
    total, average = tf.sum(triple), tf.reduce_mean(a)
    last = tf.softmax(tf.expand_dims(triple, 0))
    (slope,) = tf.gradients(triple, a)
    with tf.Session() as sess:
        assert sess.run(triple, {a: 3, b: 4.5}) == 22.5
        assert sess.run(triple, {a: [1, 3], b: [2, 4]}).tolist() == [9, 21]
        assert sess.run([total, slope], {a: 1, b: 2}) == [9.0, 3.0]
        assert sess.run([total, average], {a: [[1, 3]], b: [[2, 4]]}) == [30.0, 2.0]
        for fetch in (last, slope):
            with pytest.raises(ShapeError, match="without a shape"):
                sess.run(fetch, {a: [1, 3], b: [2, 4]})


def test_what_is_fed_is_checked_and_converted(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    n = tf.placeholder(tf.int32, [], name="n")
    with tf.Session() as sess:
        assert sess.run(x, {x: [1, 2]}).dtype == np.float32
        assert sess.run(x, {x: (True, False)}).tolist() == [1, 0]
        assert sess.run(n, {n: np.int64(3)}).dtype == np.int32
        eager = threading.local()  # a tensor of eager mode is a value like any other
        with tf.init_scope():
            eager.value = tf.constant([1.0, 2.0]) * 2
        assert sess.run(x + 1, {x: eager.value}).tolist() == [3, 5]
        with pytest.raises(DTypeError, match="'n', made at"):
            sess.run(n, {n: 1.5})
        with pytest.raises(DTypeError):
            sess.run(n, {n: 2**40})
        with pytest.raises(DTypeError):
            sess.run(x, {x: ["a", "b"]})
        with pytest.raises(ShapeError):
            sess.run(x, {x: [[1, 2], [3]]})
        with pytest.raises(UsageError, match="deferred graph"):
            sess.run(x, {x: x * 2})
        with pytest.raises(UsageError, match="operation"):
            sess.run(x, {tf.no_op(): 1.0})
        with pytest.raises(UsageError, match="fed twice"):
            sess.run(x, {x: [1, 2], "x:0": [1, 2]})
        with pytest.raises(UsageError, match="element of a graph"):
            sess.run(3)


def test_results_belong_to_the_caller(graph: tf.Graph) -> None:
    v = tf.Variable(np.ones(4, np.float32))
    x = tf.placeholder(tf.float32, [4])
    put = v.assign(x)
    with started() as sess:
        given = np.arange(4, dtype=np.float32)
        got = sess.run(put, {x: given})
        got[:] = 7
        assert sess.run(v).tolist() == given.tolist() == [0, 1, 2, 3]
        given[:] = 9
        assert sess.run(v).tolist() == [0, 1, 2, 3]
        for fetch in (v, v[1:], tf.reshape(v, [2, 2]), tf.identity(v)):
            got = sess.run(fetch)
            got[...] = 5
        assert sess.run(v).tolist() == [0, 1, 2, 3]


def test_only_what_is_needed_runs(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    v = tf.Variable(1.0)
    needs_feed = x * 2
    y = tf.constant(3.0) + 1.0
    with tf.Session() as sess:
        assert sess.run(y) == 4.0
        with pytest.raises(UsageError, match=r"placeholder 'x', made at .*test_tf1.py:\d+") as caught:
            sess.run([y, needs_feed])
        assert "not fed" in str(caught.value)
        with pytest.raises(RunError, match=r"variable 'Variable:0', made at .*test_tf1.py:\d+"):
            sess.run(v + 1)


def test_make_callable(graph: tf.Graph) -> None:
    x, y = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [])
    with tf.Session() as sess:
        f = sess.make_callable({"z": x * y}, [x, y])
        assert f([1, 2], 3)["z"].tolist() == [3, 6]
        assert sess.make_callable(tf.constant(1.0) + 1)() == 2.0
        with pytest.raises(UsageError):
            f([1, 2])


def test_eval_and_run_use_the_default_session(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [])
    v = tf.Variable(2.0)
    y = x * v
    with pytest.raises(UsageError, match="no session"):
        y.eval()
    sess = started()
    assert y.eval({x: 2.0}, session=sess) == 4.0
    with sess.as_default():
        assert tf.get_default_session() is sess
        assert y.eval({x: 3.0}) == 6.0
        assert v.eval() == 2.0
        v.assign_add(1.0).op.run()
        assert v.eval() == 3.0
        v.load(5.0)
        assert v.eval() == 5.0
        with pytest.raises(ShapeError):
            v.load([1.0, 2.0])
    assert tf.get_default_session() is None
    sess.close()
    with pytest.raises(RunError, match="closed"):
        sess.run(v)


def test_interactive_session() -> None:
    graph = tf.Graph()
    sess = tf.InteractiveSession(graph=graph)
    try:
        assert tf.get_default_graph() is graph
        assert (tf.constant(1.0) + 2.0).eval() == 3.0
    finally:
        sess.close()
    assert tf.get_default_session() is None
    assert tf.executing_eagerly()


# Variables.


def test_each_session_has_its_own_values(graph: tf.Graph) -> None:
    v = tf.Variable([1.0, 2.0], name="v")
    w = tf.Variable(v.initial_value * 2, name="w")
    add = v.assign_add([1.0, 1.0])
    assert isinstance(v, tf.Variable)
    assert v.trainable
    assert v.name == "v:0"
    assert v.op.name == "v"
    one, two = started(), started()
    assert one.run(add).tolist() == [2, 3]
    assert one.run(add).tolist() == [3, 4]
    assert one.run(v).tolist() == [3, 4]
    assert two.run([v, w])[0].tolist() == [1, 2]
    assert two.run(w).tolist() == [2, 4]
    assert one.is_initialized(v)
    with tf.Session() as third:
        assert not third.is_initialized(v)
        third.run(tf.variables_initializer([v]))
        assert third.run(v.assign_sub([1.0, 1.0])).tolist() == [0, 1]
        with pytest.raises(RunError):
            third.run(w)


def test_reads_see_the_start_of_a_run_unless_ordered(graph: tf.Graph) -> None:
    v = tf.Variable(1.0)
    before = v + 0.0
    add = tf.assign_add(v, 10.0)
    with tf.control_dependencies([add]):
        after = v + 0.0
        again = v.assign(v * 2.0)
        same = tf.identity(before)
    with started() as sess:
        assert sess.run([before, add]) == [1.0, 11.0]
        assert sess.run(v) == 11.0
        assert sess.run([before, after]) == [11.0, 21.0]  # `add` runs because `after` does
        assert sess.run(v) == 21.0
        assert sess.run([before, again, add, v]) == [21.0, 62.0, 31.0, 21.0]
        assert sess.run(v) == 62.0
        assert sess.run(same) == 62.0
        assert sess.run(v) == 72.0


def test_two_unordered_assignments_are_an_error(graph: tf.Graph) -> None:
    v = tf.Variable(1.0, name="v")
    one, two = v.assign(2.0), v.assign(3.0)
    with started() as sess:
        with pytest.raises(UsageError, match=r"(?s)test_tf1.py:\d+.*'v:0'"):
            sess.run([one, two])
        with pytest.raises(UsageError):
            sess.run(tf.group(one, two))
        assert sess.run(v) == 1.0
        assert sess.run([one, one]) == [2.0, 2.0]
        with pytest.raises(UsageError, match="neither runs after"), tf.control_dependencies([one, two]):
            v.read_value()
        with tf.control_dependencies([one]):
            three = v.assign(v + 1.0)
        assert sess.run([one, three]) == [2.0, 3.0]


def test_a_run_that_fails_assigns_nothing(graph: tf.Graph) -> None:
    v, w = tf.Variable(1.0), tf.Variable([1.0, 1.0])
    x = tf.placeholder(tf.float32, [None])
    both = tf.group(v.assign(2.0), w.assign(x))
    with started() as sess:
        with pytest.raises(ShapeError, match="to assign"):
            sess.run(both, {x: [1.0, 2.0, 3.0]})
        assert sess.run(v) == 1.0
        sess.run(both, {x: [1.0, 2.0]})
        assert sess.run([v, w[1]]) == [2.0, 2.0]
    with pytest.raises(ShapeError):
        w.assign([1.0, 2.0, 3.0])
    with pytest.raises(DTypeError):
        w.assign(tf.constant([1, 2]))


def test_a_kernel_that_raises_assigns_nothing(graph: tf.Graph) -> None:
    fails = tf.define("test_tf1_fails", "... -> ...", _fails, doc="It raises.")
    v = tf.Variable(1.0)
    group = tf.group(v.assign(2.0), tf.Variable(0.0).assign(fails(v)))
    with started() as sess:
        with pytest.raises(RunError, match=r"test_tf1_fails.*made at .*test_tf1.py:\d+"):
            sess.run(group)
        assert sess.run(v) == 1.0


def _fails(x: Any) -> Any:
    raise ZeroDivisionError


def test_get_variable_and_scopes(graph: tf.Graph) -> None:
    with tf.variable_scope("a"):
        w = tf.get_variable("w", [2, 3])
        with tf.variable_scope("b"):
            b = tf.get_variable("w", [1], initializer=tf.constant_initializer(3.0), trainable=False)
        with pytest.raises(UsageError, match="reuse"):
            tf.get_variable("w", [2, 3])
    with tf.variable_scope("a", reuse=True) as scope:
        assert tf.get_variable("w", [2, 3]) is w
        assert tf.get_variable("w") is w
        with pytest.raises(UsageError, match="there is none"):
            tf.get_variable("x", [2])
        with pytest.raises(ShapeError):
            tf.get_variable("w", [3, 3])
        with pytest.raises(DTypeError):
            tf.get_variable("w", [2, 3], dtype=tf.float64)
        with tf.variable_scope("b"):  # reuse holds further in
            assert tf.get_variable("w") is b
    assert (w.name, b.name) == ("a/w:0", "a/b/w:0")
    assert scope.name == "a"
    for _ in range(2):
        with tf.variable_scope("c", reuse=tf.AUTO_REUSE, initializer=tf.ones_initializer()):
            c = tf.get_variable("w", 4, dtype=tf.float64)
    with tf.variable_scope(scope, reuse=True):
        assert tf.get_variable("w") is w
    with tf.variable_scope("a") as again:
        again.reuse_variables()
        assert tf.get_variable_scope().reuse is True
        assert tf.get_variable("w") is w
    names = []
    for _ in range(2):
        with tf.variable_scope(None, default_name="dense"):
            names.append(tf.get_variable("k", [1]).name)
    assert names == ["dense/k:0", "dense_1/k:0"]
    with tf.name_scope("scope"):
        assert tf.get_variable("free", [1]).name == "free:0"
        assert tf.Variable(1.0, name="v").name == "scope/v:0"
    assert not any(one is b for one in tf.trainable_variables())  # `==` compares values, element by element
    assert [one.name for one in tf.trainable_variables("a/")] == ["a/w:0"]
    assert [v.name for v in tf.global_variables()][:3] == ["a/w:0", "a/b/w:0", "c/w:0"]
    with started() as sess:
        limit = np.sqrt(6 / 5)
        assert np.abs(sess.run(w)).max() <= limit
        assert sess.run(b).tolist() == [3.0]
        assert sess.run(c).dtype == np.float64
    with pytest.raises(ShapeError, match="no shape"):
        tf.get_variable("shapeless")
    assert sum(isinstance(one, tf.Variable) for one in tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)) == 7


def test_initializers_have_tensorflows_defaults_and_distributions() -> None:
    """Keras draws with a deviation of 0.05; TensorFlow 1 with 1, and its normal Glorot numbers are truncated."""
    initializers = tf.keras.initializers
    assert abs(np.std(initializers.RandomNormal(seed=1)([10_000]).numpy()) - 0.05) < 0.002
    uniform = initializers.RandomUniform(seed=1)([10_000]).numpy()
    assert -0.05 <= uniform.min() < -0.049 < 0.049 < uniform.max() <= 0.05
    assert abs(np.std(tf.random_normal_initializer(seed=1)([10_000]).numpy()) - 1) < 0.02
    glorot = initializers.GlorotNormal(seed=1)([100, 100]).numpy()
    assert abs(np.std(glorot) - 0.1) < 0.002
    assert np.abs(glorot).max() < 2 * 0.1 / 0.87
    assert tf.constant_initializer(0.1)([1], np.float64).tolist() == [0.1]


def test_initializers_and_regularizers(graph: tf.Graph) -> None:
    with tf.variable_scope("r", regularizer=lambda v: tf.sum(tf.square(v))):
        tf.get_variable("ints", [2], dtype=tf.int32)
        tf.get_variable("given", initializer=np.array([3.0, 4.0]), dtype=tf.float64)
        u = tf.get_variable("u", [50], initializer=tf.random_uniform_initializer(2, 3, seed=1))
        n = tf.get_variable("n", [50], initializer=tf.random_normal_initializer(5.0, 0.1))
        g = tf.get_variable("g", [5, 5, 3, 8], initializer=tf.glorot_normal_initializer)
        f = tf.get_variable("f", [2, 2], initializer=lambda shape, dtype=None: tf.ones(shape, dtype))
    losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    with started() as sess:
        assert sess.run(losses[:2]) == [0, 25.0]
        assert 2 <= sess.run(u).min() <= sess.run(u).max() < 3
        assert 4 < sess.run(n).mean() < 6
        assert 0.05 < sess.run(g).std() < 0.15
        assert sess.run(f).tolist() == [[1, 1], [1, 1]]


# Gradients and training.


def test_gradients(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float64, [None])
    v = tf.Variable(np.float64(3.0))
    free = tf.Variable(1.0)
    y = x * x * v
    gx, gv, none = tf.gradients(y, [x, v, free])
    (second,) = tf.gradients(gx, x)
    (weighted,) = tf.gradients(y, x, grad_ys=x)
    (both,) = tf.gradients([y, x], x)
    (stopped,) = tf.gradients(y + gx * x, x, stop_gradients=[gx])
    assert none is None
    assert gx.name.startswith("gradients/")
    with started() as sess:
        got = sess.run([gx, gv, second, weighted, both, stopped], {x: [1.0, 2.0]})
        expected = [[6, 12], 5, [6, 6], [6, 24], [7, 13], [12, 24]]
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b)
    with pytest.raises(GradientError):
        tf.gradients(tf.constant(1), tf.constant(2))


def test_a_gradient_counts_reads_after_assignments(graph: tf.Graph) -> None:
    v = tf.Variable(2.0)
    old = v * 1.0
    with tf.control_dependencies([v.assign(v * v)]):
        y = v * v + old
    (slope,) = tf.gradients(y, v)
    with started() as sess:
        assert sess.run(slope) == 9.0  # 2 * 4 + 1: how 4 was computed does not count


def line(rows: int = 64) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(1).normal(size=(rows, 2)).astype(np.float32)
    return x, (x @ np.array([[2.0], [-3.0]], np.float32) + 0.5).astype(np.float32)


OPTIMIZERS = {
    "sgd": lambda: tf.train.GradientDescentOptimizer(0.1),
    "momentum": lambda: tf.train.MomentumOptimizer(0.05, 0.9),
    "nesterov": lambda: tf.train.MomentumOptimizer(0.05, 0.9, use_nesterov=True),
    "adam": lambda: tf.train.AdamOptimizer(0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training(graph: tf.Graph, name: str) -> None:
    x, y = tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.float32, [None, 1])
    w = tf.get_variable("w", [2, 1], initializer=tf.zeros_initializer)
    b = tf.Variable(tf.zeros([1]), name="b")
    loss = tf.reduce_mean(tf.square(tf.matmul(x, w) + b - y))
    step = tf.train.get_or_create_global_step()
    assert tf.train.get_or_create_global_step() is step
    train = OPTIMIZERS[name]().minimize(loss, global_step=step)
    data = dict(zip((x, y), line(), strict=True))
    with started() as sess:
        losses = [sess.run([train, loss], data)[1] for _ in range(200)]
        assert losses[0] > 5
        assert losses[-1] < 1e-3
        np.testing.assert_allclose(sess.run(w), [[2], [-3]], atol=0.05)
        assert sess.run(step) == tf.train.global_step(sess, step) == 200


def by_hand(name: str, g: float, rates: list[float]) -> float:
    """The parameter after steps of a constant gradient."""
    p, a, m, v = 1.0, 0.0, 0.0, 0.0
    for t, rate in enumerate(rates, 1):
        a = 0.9 * a + g
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        if name == "sgd":
            p -= rate * g
        elif name == "momentum":
            p -= rate * a
        elif name == "nesterov":
            p -= rate * (g + 0.9 * a)
        else:
            p -= rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-8)
    return p


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_with_a_rate_that_is_fed(graph: tf.Graph, name: str) -> None:
    rate = tf.placeholder(tf.float64, [])
    p = tf.Variable(np.float64(1.0), name="p")
    optimizer = OPTIMIZERS[name]()
    optimizer.learning_rate = rate
    train = optimizer.minimize(p * 3.0)
    rates = [0.1, 0.2, 0.05, 0.3]
    with started() as sess:
        for one in rates:
            sess.run(train, {rate: one})
        np.testing.assert_allclose(sess.run(p), by_hand(name, 3.0, rates), rtol=1e-6)
        for slot in optimizer.get_slot_names():
            assert sess.run(optimizer.get_slot(p, slot)).shape == ()
    if name == "adam":
        assert {"p/Adam:0", "p/Adam_1:0"} <= {one.name for one in tf.global_variables()}
    assert [one.name for one in tf.trainable_variables()] == ["p:0"]


def test_an_optimizer_refuses(graph: tf.Graph) -> None:
    v, free = tf.Variable(1.0), tf.Variable(2.0)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    with pytest.raises(GradientError, match="no gradient"):
        optimizer.minimize(v * 2, var_list=[free])
    with pytest.raises(ShapeError):
        optimizer.apply_gradients([(tf.constant([1.0, 2.0]), v)])
    with pytest.raises(UsageError):
        optimizer.minimize(v * 2, var_list=[v, v])
    with tf.init_scope(), pytest.raises(UsageError):
        optimizer.minimize(1.0, var_list=[tf.Variable(1.0)])


def test_an_optimizer_of_keras_in_a_graph(graph: tf.Graph) -> None:
    v = tf.Variable(1.0)
    optimizer = tf.keras.optimizers.Adam(0.1)
    train = optimizer.minimize(lambda: v * v, var_list=[v])
    with started() as sess:
        assert [sess.run(train) for _ in range(3)] == [1, 2, 3]
        expected = 1.0
        with tf.init_scope():
            w = tf.Variable(1.0)
            other = tf.keras.optimizers.Adam(0.1)
            for _ in range(3):
                other.minimize(lambda: w * w, var_list=[w])
            expected = float(w)
        np.testing.assert_allclose(sess.run(v), expected, rtol=1e-6)


def test_an_update_before_a_step(graph: tf.Graph) -> None:
    w, average = tf.Variable(1.0), tf.Variable(0.0, trainable=False)
    update = average.assign(average * 0.5 + w)
    with tf.control_dependencies([update]):
        train = tf.train.GradientDescentOptimizer(0.5).minimize(w * w)
    with started() as sess:
        sess.run(train)
        assert sess.run([w, average]) == [0.0, 1.0]


# Names.


def test_names_are_unique(graph: tf.Graph) -> None:
    a, b = tf.constant(1.0, name="a"), tf.constant(2.0, name="A")
    assert [a.name, b.name] == ["a:0", "A_1:0"]
    with tf.name_scope("s") as s:
        c = tf.add(a, b, name="c")
        with tf.name_scope("t"):
            d = a + b
    with tf.name_scope("s"):
        e = tf.add(a, b, name="c")
    with tf.name_scope(s):
        f = tf.add(a, b, name="c")
    assert [one.name for one in (c, d, e, f)] == ["s/c:0", "s/t/add:0", "s_1/c:0", "s/c_1:0"]
    assert (a + b).op.name == "add"
    assert (a + b).op.name == "add_1"
    assert graph.get_tensor_by_name("s/c:0") is c
    assert graph.get_operation_by_name("s/c") is c.op
    assert c.op.inputs[0] is a
    assert c.op.outputs == [c] or c.op.outputs[0] is c
    assert c.graph is graph
    assert "s/c" in [op.name for op in graph.get_operations()]
    for wrong in ("s/d:0", "s/c", "s/c:1"):
        with pytest.raises(UsageError):
            graph.get_tensor_by_name(wrong)
    with pytest.raises(UsageError):
        graph.get_operation_by_name("s/c:0")
    with pytest.raises(UsageError):
        tf.add(a, b, name="not a name")


def test_representations(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    assert repr(x) == "<fg.Tensor 'x:0': shape=(2,), dtype=float32, symbolic>"
    assert repr(tf.Variable(1.0, name="v")) == "<fg.Variable 'v:0' shape=() dtype=float32>"
    assert repr(tf.no_op(name="n")) == "<fg.Operation 'n' type=NoOp>"


def test_collections(graph: tf.Graph) -> None:
    tf.add_to_collection("mine", 1)
    tf.get_collection_ref("mine").append(2)
    assert tf.get_collection("mine") == [1, 2]
    tf.get_collection("mine").append(3)
    assert graph.get_collection("mine") == [1, 2]
    assert tf.get_collection("other") == []
    assert graph.get_all_collection_keys() == ["mine"]


# What belongs where.


def test_tensors_of_two_graphs_do_not_meet() -> None:
    with tf.Graph().as_default() as one:
        a, v = tf.constant(1.0, name="a"), tf.Variable(1.0)
    with tf.Graph().as_default():
        b = tf.constant(2.0)
        with pytest.raises(UsageError, match=r"(?s)'a', made at .*test_tf1.py.*another graph"):
            a + b
        with pytest.raises(UsageError):
            v + 1
        with tf.Session() as sess, pytest.raises(UsageError, match="does not belong"):
            sess.run(a)
        with tf.Session(graph=one) as sess:
            assert sess.run(a) == 1.0
    with pytest.raises(UsageError):
        a + b
    assert (a + 1.0).graph is one  # as in TensorFlow, operands say where an operation belongs


def test_tensors_and_variables_of_eager_mode_in_a_graph() -> None:
    eager, state = tf.constant([1.0, 2.0]) * 3, tf.Variable(1.0)
    with tf.Graph().as_default():
        y = eager + tf.constant(1.0)
        with tf.Session() as sess:
            assert sess.run(y).tolist() == [4, 7]
        with pytest.raises(UsageError, match="not made in this graph"):
            state + 1


def test_mistakes_show_when_the_graph_is_built(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    with pytest.raises(ShapeError):
        tf.matmul(x, tf.zeros([2, 2]))
    with pytest.raises(DTypeError):
        tf.placeholder("text", [2])
    with pytest.raises(UsageError):
        tf.placeholder(tf.float32, [-1])
    with pytest.raises(UsageError, match="truth value"):
        bool(x)
    with pytest.raises(UsageError, match=r"session\.run"):
        (tf.constant(1.0) + 1.0).numpy()
    with pytest.raises(UsageError):
        np.asarray(tf.Variable(1.0))
    with pytest.raises(ShapeError):
        tf.Variable(x)
    graph.finalize()
    assert graph.finalized
    with pytest.raises(UsageError, match="finalized"):
        tf.no_op()


def test_graph_things_need_a_graph() -> None:
    for make in (
        lambda: tf.placeholder(tf.float32, []),
        lambda: tf.get_variable("w", [1]),
        tf.no_op,
        tf.global_variables_initializer,
    ):
        with pytest.raises(UsageError, match="as_default"):
            make()
    x = tf.constant(1.0)
    for name in ("name", "op", "graph"):
        assert not hasattr(x, name)
    with tf.control_dependencies([x]), tf.name_scope("s"):
        assert float(tf.add(x, 1.0, name="named")) == 2.0


def test_a_graph_grows_between_runs(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [])
    with tf.Session() as sess:
        y = x + 1
        for n in range(5):
            assert sess.run(y, {x: 0.0}) == n + 1
            y = y + 1
        v = tf.Variable(3.0)
        sess.run(v.initializer)
        assert sess.run(v) == 3.0


def test_a_deep_graph(graph: tf.Graph) -> None:
    y = x = tf.placeholder(tf.float32, [])
    for _ in range(3000):
        y = y + 1.0
    with tf.Session() as sess:
        assert sess.run(y, {x: 0.0}) == 3000.0


def test_graphs_are_let_go() -> None:
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        v = tf.Variable(1.0)
        sess.run(tf.global_variables_initializer())
        sess.run(v + 1)
    gone = weakref.ref(graph)
    del graph, sess, v
    gc.collect()
    assert gone() is None


def test_functions_and_tapes_in_a_graph(graph: tf.Graph) -> None:
    @tf.function
    def double(x: Any) -> Any:
        return x * 2

    v = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        y = double(v) * v
    slope = tape.gradient(y, v)
    with started() as sess:
        assert sess.run([y, slope]) == [18.0, 12.0]


# Draws.


def test_a_draw_is_one_a_run(graph: tf.Graph) -> None:
    x = tf.random.normal([4])
    y = x + 1.0
    with tf.Session() as sess:
        a, b = sess.run([x, y])
        assert (a + 1).tolist() == b.tolist()
        assert sess.run(x).tolist() != a.tolist()


def test_seeds(graph: tf.Graph) -> None:
    own = tf.random.uniform([3], seed=5)
    tf.set_random_seed(1)
    a, b = tf.random.uniform([3]), tf.random.uniform([3])
    runs = []
    for _ in range(2):
        with tf.Session() as sess:
            runs.append([[one.tolist() for one in sess.run([own, a, b])] for _ in range(2)])
    assert runs[0] == runs[1]  # a new session begins anew
    flat = [one for run in runs[0] for one in run]
    assert len({tuple(one) for one in flat}) == 6  # and every run and draw is another


# Threads and places.


def test_a_hundred_threads_share_a_session(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None])
    count, pair = tf.Variable(0), tf.Variable([0.0, 0.0])
    add = count.assign_add(1)
    both = tf.group(pair.assign_add([1.0, 1.0]), add)
    y = tf.sum(x * 2.0)
    with started() as sess:
        errors: list[BaseException] = []
        barrier = threading.Barrier(100)

        def work(number: int) -> None:
            try:
                barrier.wait()
                for _ in range(5):
                    assert sess.run(y, {x: np.full(number + 1, 1.0)}) == 2.0 * (number + 1)
                    sess.run(both)
                    a, b = sess.run(pair)
                    assert a == b
            except BaseException as error:  # noqa: BLE001
                errors.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(100)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert errors == []
        assert sess.run(count) == 500
        assert sess.run(pair).tolist() == [500.0, 500.0]


def test_threads_build_their_own_graphs() -> None:
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        with tf.Graph().as_default(), tf.Session() as sess:
            y = tf.constant(float(number), name="y") * 2.0
            found[number] = sess.run(y), y.op.name

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == {n: (2.0 * n, "mul") for n in range(8)}


def regression(rows: int, **where: Any) -> list[Any]:
    with tf.Graph().as_default():
        x, y = tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.float32, [None, 1])
        w = tf.Variable(np.zeros((2, 1), np.float32))
        train = tf.train.AdamOptimizer(0.1).minimize(tf.reduce_mean(tf.square(tf.matmul(tf.shard(x, rows=3), w) - y)))
        with started(**where) as sess:
            for _ in range(3):
                sess.run(train, dict(zip((x, y), line(rows), strict=True)))
            return sess.run(w).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
@pytest.mark.usefixtures("processes")
def test_places(scheduler: str) -> None:
    assert regression(20_000, scheduler=scheduler) == regression(20_000)


@pytest.mark.cluster
def test_on_a_cluster(cluster: Client) -> None:
    expected = regression(20_000)
    assert regression(20_000, client=cluster) == expected
    assert regression(20_000, target=cluster.scheduler.address) == expected
    with pytest.raises(UsageError):
        tf.Session("tcp://127.0.0.1:1", client=cluster)


def test_a_dask_array_is_fed_as_it_is(graph: tf.Graph) -> None:
    import dask.array as da

    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    x = tf.placeholder(tf.float32, [None, 2])
    with tf.Session() as sess:
        assert sess.run(tf.sum(x), {x: da.from_array(values, chunks=(2, 2))}) == 66.0
        assert sess.run(x, {x: da.from_array(values.astype(np.float64), chunks=(4, 2))}).tolist() == values.tolist()
        with pytest.raises(ShapeError):
            sess.run(x, {x: da.ones((3, 3), dtype="f4")})


def test_programs_are_found_again(graph: tf.Graph) -> None:
    from flowgraph.eager import BINDINGS

    x = tf.placeholder(tf.float32, [None])
    y = tf.sum(x * 3.25)
    with tf.Session() as sess:
        sess.run(y, {x: [1.0, 2.0]})
        misses = graph.plans.misses, BINDINGS.misses
        for n in range(5):
            sess.run(y, {x: [1.0, float(n)]})
        assert (graph.plans.misses, BINDINGS.misses) == misses
    with tf.Session() as sess:
        sess.run(y, {x: [1.0, 2.0]})
        assert (graph.plans.misses, BINDINGS.misses) == misses


# compat.v1, the default graph, files.


@pytest.fixture
def deferred() -> Iterator[None]:
    tf1.reset_default_graph()
    tf1.disable_v2_behavior()
    try:
        yield
    finally:
        tf1.enable_v2_behavior()
        tf1.reset_default_graph()


def test_a_program_for_tensorflow_1(deferred: None) -> None:
    assert not tf1.executing_eagerly()
    x = tf1.placeholder(tf1.float32, [None, 3], name="x")
    w = tf1.get_variable("w", [3, 1], initializer=tf1.ones_initializer())
    mean = tf1.reduce_mean(tf1.matmul(x, w), reduction_indices=[0], keep_dims=True, name="mean")
    same = tf1.cast(x, tf1.float32, name="same")
    noise = tf1.random_normal([2], 0.0, 1.0, name="noise")
    assert [one.name for one in (mean, same, noise)] == ["mean:0", "same:0", "noise:0"]
    assert tf1.get_default_graph() is x.graph
    found = {}

    def elsewhere() -> None:
        found["name"] = tf1.constant(1.0, name="there").name

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found["name"] == "there:0"
    with tf1.Session() as sess:
        sess.run(tf1.global_variables_initializer())
        assert sess.run("mean:0", {"x:0": np.ones((4, 3))}).tolist() == [[3.0]]
        assert sess.run(tf1.to_int32(tf1.constant(1.7))) == 1
    graph = x.graph
    tf1.reset_default_graph()
    assert tf1.get_default_graph() is not graph
    with pytest.raises(AttributeError):
        _ = tf1.no_such_name
    assert "placeholder" in dir(tf1)
    with tf1.Graph().as_default(), pytest.raises(UsageError):
        tf1.reset_default_graph()


def test_the_default_graph_of_a_session() -> None:
    tf.reset_default_graph()
    with tf.Session() as sess:  # outside of any graph a session is about the default one
        assert not tf.executing_eagerly()
        assert sess.run(tf.constant(1.0) + 1.0) == 2.0
    assert tf.executing_eagerly()
    tf.reset_default_graph()


def test_saver(graph: tf.Graph, tmp_path: Path) -> None:
    v = tf.Variable([1.0, 2.0], name="v")
    step = tf.train.get_or_create_global_step()
    saver = tf.train.Saver(max_to_keep=2)
    assert tf.train.latest_checkpoint(tmp_path) is None
    with started() as sess:
        for _ in range(3):
            sess.run([v.assign_add([1.0, 1.0]), step.assign_add(1)])
            path = saver.save(sess, tmp_path / "model", global_step=step)
    assert path == str(tmp_path / "model-3") == tf.train.latest_checkpoint(tmp_path)
    assert [Path(one).name for one in saver.last_checkpoints] == ["model-2", "model-3"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["checkpoint", "model-2", "model-3"]
    with tf.Session() as sess:
        saver.restore(sess, path)
        assert sess.run(v).tolist() == [4, 5]
        assert sess.run(step) == 3
        tf.train.Saver({"v": v}).restore(sess, tmp_path / "model-2")
        assert sess.run(v).tolist() == [3, 4]
        other = tf.Variable([1.0], name="other")
        for wrong in ({"other": other}, {"v": other}):
            with pytest.raises(DataError):
                tf.train.Saver(wrong).restore(sess, path)
        with pytest.raises(UsageError):
            saver.restore(sess, None)
    with pytest.raises(UsageError), tf.Graph().as_default():
        tf.train.Saver()
    with tf.Session() as sess, pytest.raises(RunError):
        saver.save(sess, tmp_path / "model")


def test_tuple_and_group(graph: tf.Graph) -> None:
    v = tf.Variable(1.0)
    a, none = tf.tuple([tf.constant(2.0), None], control_inputs=[v.assign(5.0)])
    assert none is None
    outer = tf.group([tf.group(v.assign_add(1.0)), None], name="outer")
    assert outer.name == "outer"
    assert [one.type for one in outer.control_inputs] == ["NoOp"]
    with started() as sess:
        assert sess.run(a) == 2.0
        assert sess.run(v) == 5.0
        assert outer.run(session=sess) is None
        assert sess.run(v) == 6.0
    with pytest.raises(UsageError), tf.Graph().as_default():
        tf.group(a)


def test_running_adds_nothing_to_a_graph(graph: tf.Graph) -> None:
    x, y = tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.float32, [None, 1])
    w = tf.Variable(np.zeros((2, 1), np.float32))
    train = tf.train.AdamOptimizer(0.1).minimize(tf.reduce_mean(tf.square(tf.matmul(x, w) - y)))
    init = tf.global_variables_initializer()
    graph.finalize()
    count = len(graph.get_operations())
    with tf.Session() as sess:
        sess.run(init)
        for rows in (3, 5000):
            sess.run(train, dict(zip((x, y), line(rows), strict=True)))
    assert len(graph.get_operations()) == count


def test_a_wish_about_a_variable_cuts_a_run(graph: tf.Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[bool] = []
    plain = plan.compiled

    def noted(one: Any) -> Any:
        result = plain(one)
        cut.append(result.program.split is not None)
        return result

    monkeypatch.setattr(plan, "compiled", noted)
    first = np.arange(12, dtype=np.float32).reshape(3, 4) / 10
    x = tf.placeholder(tf.float32, [None, 3])
    found = []
    for wish in (None, {1: 2}):
        w = tf.Variable(first)
        assert tf.shard(w, axes=wish) is w
        loss = tf.reduce_mean(tf.square(tf.tanh(x @ w)))
        train = tf.train.AdamOptimizer(0.1).minimize(loss)
        (slope,) = tf.gradients(loss, w, stop_gradients=[w])
        with started() as session:
            cut.clear()
            session.run(train, {x: first.T})
            found.append(session.run([loss, slope, w], {x: first.T}))
            assert cut == [wish is not None] * 2
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
