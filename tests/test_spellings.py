"""TensorFlow's spellings: every alias does what its target does; calls are as TensorFlow's users write them."""

from __future__ import annotations

import importlib
import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
import flowgraph.compat.v1 as tf1
import flowgraph.compat.v2 as tf
from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Op
from flowgraph.spellings import find, names, resolve
from flowgraph.spellings.table import TABLE

RENAMED = {name: row.split() for name, row in TABLE.items() if isinstance(row, str)}

# Arguments for targets that one or two matrices of positive numbers do not suit.
M = np.array([[2.0, 0.5], [0.5, 1.0]])
IDS = np.array([0, 1])
SAMPLES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "boolean_mask": ((M, np.array([True, False])), {}),
    "broadcast_to": ((M,), {"shape": (3, 2, 2)}),
    "clip_by_value": ((M,), {"clip_value_min": 0.6, "clip_value_max": 1.5}),
    "concat": (([M, M],), {"axis": 1}),
    "einsum": (("ij,jk->ik", M, M), {}),
    "embedding_lookup": ((M, IDS), {}),
    "gather_nd": ((M, IDS[:, None]), {}),
    "linalg.band_part": ((M,), {"num_lower": 0, "num_upper": 0}),
    "linalg.cross": ((np.ones(3), np.arange(3.0)), {}),
    "linalg.diag": ((np.ones(2),), {}),
    "linspace": ((0.0, 1.0, 3), {}),
    "logical_not": ((M > 1,), {}),
    "pad": ((M,), {"paddings": ((1, 1), (0, 0))}),
    "polygamma": ((1, M), {}),
    "repeat": ((M,), {"repeats": 2, "axis": 0}),
    "reshape": ((M,), {"shape": (4,)}),
    "roll": ((M,), {"shift": 1, "axis": 0}),
    "scatter_nd": ((IDS[:, None], M), {"shape": (4, 2)}),
    "split": ((M,), {"num_or_size_splits": 2}),
    "squeeze": ((M[None],), {"axis": 0}),
    "stack": (([M, M],), {"axis": 1}),
    "tensor_scatter_nd_add": ((M, IDS[:, None], M), {}),
    "tensor_scatter_nd_update": ((M, IDS[:, None], M), {}),
    "tensordot": ((M, M), {"axes": 1}),
    "tile": ((M, (2, 1)), {}),
    "top_k": ((M,), {"k": 1}),
    **{f"segment_{kind}": ((M, IDS), {}) for kind in ("max", "mean", "min", "prod", "sum")},
    **{f"unsorted_segment_{kind}": ((M, IDS), {"num_segments": 3}) for kind in ("max", "mean", "min", "prod", "sum")},
    **{f"logical_{kind}": ((M > 1, M > 0.7), {}) for kind in ("and", "or", "xor")},
    **{name: ((M / 3,), {}) for name in ("acos", "asin", "atanh", "erfinv")},
}


def values(found: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(one) for one in found] if isinstance(found, list | tuple) else [np.asarray(found)]


def same(left: Any, right: Any) -> None:
    for one, other in zip(values(left), values(right), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", TABLE)
def test_every_alias_resolves_and_is_documented(name: str) -> None:
    function = find(name)
    assert callable(function)
    assert function.__doc__
    found: Any = tf
    for part in name.split("."):
        found = getattr(found, part)
    assert found is function
    assert name.rpartition(".")[2] in dir(tf if "." not in name else find_module(name))


def find_module(name: str) -> Any:
    return importlib.import_module(f"flowgraph.{name.rpartition('.')[0]}")


@pytest.mark.parametrize("name", RENAMED)
def test_an_alias_gives_what_its_target_gives(name: str) -> None:
    target, *words = RENAMED[name]
    function, operands = resolve(target), [word for word in words if "=" not in word]
    if inspect.isclass(function):
        assert find(name) is function
        return
    count = len(operands) or len([p for p in inspect.signature(function).parameters.values() if p.default is p.empty])
    args, kwargs = SAMPLES.get(target, ((np.array(M),) * count, {}))
    expected = function(*args, **kwargs)
    same(find(name)(*args, **kwargs), expected)
    if operands:
        same(find(name)(**dict(zip(operands, args, strict=True)), **kwargs), expected)
        labels = {} if not isinstance(function, Op) and isinstance(find(name), Op) else {"name": "a"}
        same(find(name)(*args, **kwargs, **labels), expected)


X = np.array([[1.0, 5.0, 2.0], [4.0, 3.0, 6.0]], np.float32)
COLUMN = np.array([[2.0], [1.0], [0.5]], np.float32)
CALLS: dict[str, tuple[Any, Any]] = {
    "reduce_sum": (lambda t: t.reduce_sum(input_tensor=X, axis=1, keepdims=True), X.sum(1, keepdims=True)),
    "reduce_mean": (lambda t: t.reduce_mean(X, axis=[0, 1]), X.mean()),
    "reduce_variance": (lambda t: t.math.reduce_variance(input_tensor=X, axis=0), X.var(0)),
    "reduce_std": (lambda t: t.math.reduce_std(X), X.std()),
    "concat": (lambda t: t.concat(values=[X, X], axis=-1), np.concatenate([X, X], -1)),
    "stack": (lambda t: t.stack(values=[X, X], axis=1, name="s"), np.stack([X, X], 1)),
    "split": (lambda t: t.split(value=X, num_or_size_splits=[1, 2], axis=1)[1], X[:, 1:]),
    "transpose": (lambda t: t.transpose(a=X, perm=[1, 0]), X.T),
    "expand_dims": (lambda t: t.expand_dims(input=X, axis=-1), X[..., None]),
    "squeeze": (lambda t: t.squeeze(input=X[None], axis=[0]), X),
    "reshape": (lambda t: t.reshape(tensor=X, shape=[3, -1]), X.reshape(3, -1)),
    "tile": (lambda t: t.tile(input=X, multiples=[2, 1]), np.tile(X, (2, 1))),
    "where": (lambda t: t.where(condition=X > 2, x=X, y=0.0), np.where(X > 2, X, 0)),
    "places": (lambda t: t.where(X > 2), np.argwhere(X > 2)),
    "matmul": (lambda t: t.matmul(a=X, b=X, transpose_b=True), X @ X.T),
    "matmul_a": (lambda t: t.matmul(X, X, transpose_a=True), X.T @ X),
    "matmul_adjoint": (lambda t: t.matmul(X * 1j, X, adjoint_a=True), (X * 1j).conj().T @ X),
    "matvec": (lambda t: t.linalg.matvec(X, COLUMN[:, 0]), (X @ COLUMN)[:, 0]),
    "argmax": (lambda t: t.math.argmax(input=X), X.argmax(0)),
    "argmin": (lambda t: t.math.argmin(X, axis=1, output_type=np.int32), X.argmin(1)),
    "clip_by_norm": (lambda t: t.clip_by_norm(t=X, clip_norm=2.0, axes=[1]), X * 2 / np.sqrt((X**2).sum(1))[:, None]),
    "clip_by_value": (lambda t: t.clip_by_value(t=X, clip_value_min=2, clip_value_max=4), X.clip(2, 4)),
    "fill": (lambda t: t.fill(dims=[2], value=3.0), np.full(2, 3.0)),
    "range": (lambda t: t.range(start=1, limit=10, delta=4), np.arange(1, 10, 4)),
    "shape": (lambda t: t.shape(input=X), [2, 3]),
    "rank": (lambda t: t.rank(input=X), 2),
    "pow": (lambda t: t.math.pow(x=X, y=2.0), X**2),
    "floormod": (lambda t: t.math.floormod(x=-X, y=4.0), np.mod(-X, 4)),
    "floordiv": (lambda t: t.math.floordiv(-X, 2.0), np.floor_divide(-X, 2)),
    "cast": (lambda t: t.cast(X, dtype=fg.int32), X.astype(np.int32)),
    "convert": (lambda t: t.convert_to_tensor(value=X, dtype=fg.float64), X),
    "relu": (lambda t: t.nn.relu(features=-X), np.zeros_like(X)),
    "xdivy": (lambda t: t.math.xdivy(x=[0.0, 3.0], y=[0.0, 2.0]), [0, 1.5]),
    "add_n": (lambda t: t.math.add_n(inputs=[X, X, X]), 3 * X),
    "is_nan": (lambda t: t.math.is_nan(x=[1.0, np.nan]), [False, True]),
    "logdet": (lambda t: t.linalg.logdet(matrix=M), np.linalg.slogdet(M)[1]),
    "cumsum": (lambda t: t.cumsum(x=X, axis=1, exclusive=True), np.cumsum(X, 1) - X),
    "in_top_k": (lambda t: t.math.in_top_k(targets=[1, 1], predictions=X, k=2), [True, False]),
    "global_norm": (lambda t: t.linalg.global_norm([X, None, X]), np.sqrt(2 * (X**2).sum())),
    "complex": (lambda t: t.complex(X, -X), X - 1j * X),
    "expm": (lambda t: t.linalg.expm([[0.0, 1.0], [0.0, 0.0]]), [[1.0, 1.0], [0.0, 1.0]]),
    "euclidean": (lambda t: t.math.reduce_euclidean_norm(X, axis=1), np.sqrt((X**2).sum(1))),
    "cholesky_solve": (lambda t: t.linalg.cholesky_solve(chol=np.linalg.cholesky(M), rhs=M @ X), X),
    "leaky": (lambda t: t.keras.activations.leaky_relu(-X, negative_slope=0.1), -0.1 * X),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("namespace", [fg, tf], ids=["flowgraph", "v2"])
def test_calls_as_tensorflow_users_write_them(namespace: Any, name: str) -> None:
    call, expected = CALLS[name]
    np.testing.assert_allclose(np.asarray(call(namespace)), expected, rtol=1e-6)


ONLY_V2: dict[str, tuple[Any, Any]] = {
    "argmax": (lambda: tf.argmax(X), X.argmax(0)),
    "sort": (lambda: tf.sort(values=X, direction="DESCENDING"), -np.sort(-X)),
    "argsort": (lambda: tf.argsort(X, axis=0), X.argsort(0)),
    "reverse": (lambda: tf.reverse(tensor=X, axis=[1]), X[:, ::-1]),
    "size": (lambda: tf.size(input=X, out_type=fg.int64), 6),
    "eye": (lambda: tf.eye(num_rows=2, batch_shape=[3]), np.broadcast_to(np.eye(2), (3, 2, 2))),
    "gather": (lambda: tf.gather(params=X, indices=[2, 0], axis=1), X[:, [2, 0]]),
    "solve": (lambda: tf.linalg.solve(matrix=M, rhs=M[:, :1], adjoint=True), [[1.0], [0.0]]),
    "inv": (lambda: tf.linalg.inv(input=M), np.linalg.inv(M)),
    "unique": (lambda: tf.unique(x=[5, 1, 5])[0], [5, 1]),
    "unstack": (lambda: tf.unstack(value=X, num=2)[1], X[1]),
    "svd": (lambda: tf.linalg.svd(X, compute_uv=False), np.linalg.svd(X, compute_uv=False)),
    "trace": (lambda: tf.linalg.trace(x=M), 3.0),
    "abs": (lambda: tf.abs(x=-X), X),
    "one_hot": (lambda: tf.one_hot(indices=[1], depth=2, on_value=5.0, off_value=1.0), [[1.0, 5.0]]),
    "searchsorted": (lambda: tf.searchsorted(sorted_sequence=[1, 3], values=[2]), [1]),
}


@pytest.mark.parametrize("name", ONLY_V2)
def test_where_the_standard_has_the_name_v2_follows_tensorflow(name: str) -> None:
    call, expected = ONLY_V2[name]
    np.testing.assert_allclose(np.asarray(call()), expected, rtol=1e-5, atol=1e-6)


def test_factors_of_v2_multiply_to_the_matrix() -> None:
    s, u, v = tf.linalg.svd(tensor=X)
    np.testing.assert_allclose(np.asarray(tf.matmul(u * s, v, adjoint_b=True)), X, rtol=1e-5)
    q, r = tf.linalg.qr(X, full_matrices=True)
    np.testing.assert_allclose(np.asarray(q @ r), X, rtol=1e-5)


def test_an_alias_is_imported_listed_and_pickled() -> None:
    from flowgraph import reduce_sum
    from flowgraph.math import reduce_max

    assert {"reduce_sum", "rank"} <= set(dir(fg))
    assert set(names("math.")) <= set(dir(fg.math))
    assert reduce_max is fg.math.reduce_max
    assert pickle.loads(pickle.dumps(reduce_sum)) is reduce_sum
    assert pickle.loads(pickle.dumps(fg.math.abs)) is fg.math.abs
    for module in (fg, fg.nn, fg.math, fg.keras.losses, tf):
        with pytest.raises(AttributeError, match="no_such_name"):
            module.no_such_name  # noqa: B018


def test_the_readme_counts_the_aliases() -> None:
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
    assert f"TensorFlow's spellings, {len(TABLE)} aliases" in readme


def test_importing_flowgraph_imports_no_alias() -> None:
    code = "import flowgraph, sys; print('flowgraph.spellings.table' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "False"


def test_gradients_where_a_case_is_left_out() -> None:
    def gradient(function: Any, x: Any) -> list[float]:
        return fg.grad(lambda v: fg.sum(function(v)))(fg.constant(x)).tolist()  # type: ignore[no-any-return]

    assert gradient(lambda v: tf.math.divide_no_nan(1.0, v), [0.0, 2.0]) == [0.0, -0.25]
    assert gradient(lambda v: tf.math.xdivy(v, [0.0, 2.0]), [0.0, 1.0]) == [0.0, 0.5]
    assert gradient(lambda v: tf.math.xlog1py([0.0, 2.0], v), [-1.0, 0.0]) == [0.0, 2.0]
    assert gradient(lambda v: tf.math.multiply_no_nan(v, [0.0, 2.0]), [np.inf, 1.0]) == [0.0, 2.0]
    assert gradient(lambda v: tf.math.multiply_no_nan([np.inf, 3.0], v), [0.0, 0.0]) == [0.0, 3.0]
    assert gradient(lambda v: tf.clip_by_norm(v, 1.0), [0.0, 0.0]) == [1.0, 1.0]


@pytest.mark.parametrize("name", ["divide_no_nan", "multiply_no_nan", "xdivy", "xlog1py", "xlogy"])
def test_a_python_number_has_the_precision_of_what_it_meets(name: str) -> None:
    """0.1 as a float32 is off in the ninth digit."""
    function, x = getattr(tf.math, name), np.array([0.3])
    exact = {"divide_no_nan": 3.0, "multiply_no_nan": 0.03, "xdivy": 3.0, "xlog1py": 0.3 * np.log1p(0.1)}
    exact["xlogy"] = 0.3 * np.log(0.1)
    assert function(x, 0.1).numpy() == pytest.approx([exact[name]], rel=1e-14)
    assert function(0.1, x).dtype == np.float64
    assert function(0.1, 0.3).dtype == np.float32


def test_clipping_by_a_norm_that_is_given_keeps_double_precision() -> None:
    (clipped,), norm = tf.clip_by_global_norm([np.array([0.3])], 0.1, use_norm=0.7)
    assert clipped.numpy() == pytest.approx([0.3 / 7], rel=1e-14)
    assert float(norm) == 0.7


def test_a_polynomial_at_infinity() -> None:
    assert tf.math.polyval([1.0, 2.0], [np.inf, -np.inf]).tolist() == [np.inf, -np.inf]
    assert tf.math.polyval([3.0], [np.inf]).tolist() == [3.0]
    assert tf.math.polyval([], [np.inf]).tolist() == [0.0]


def test_what_is_not_finite_and_what_names_no_class_is_not_in_the_top() -> None:
    predictions = np.array([[0.1, 0.9, np.nan], [0.1, 0.9, np.inf], [0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [0.1, 0.9, 0.5]])
    assert tf.math.in_top_k([2, 2, 3, -1, 2], predictions, 2).tolist() == [False, False, False, False, True]


def test_tensor_diagonals_have_the_shape_twice() -> None:
    x = np.arange(6.0).reshape(2, 3)
    whole = tf.linalg.tensor_diag(diagonal=x)
    assert whole.shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(whole.numpy().reshape(6, 6), np.diag(x.ravel()))
    assert tf.linalg.tensor_diag_part(input=whole).tolist() == x.tolist()
    with pytest.raises(ShapeError, match="not one shape twice"):
        tf.linalg.tensor_diag_part(x)


def test_the_dtypes_of_places_and_counts_are_those_of_tensorflow() -> None:
    assert tf.math.top_k([1.0, 2.0]).indices.dtype == np.int32
    assert tf.nn.top_k([1.0, 2.0], index_type=tf.int64)[1].dtype == np.int64
    assert tf.math.count_nonzero([0, 1]).dtype == np.int64
    assert tf.math.invert_permutation(np.array([1, 0], np.int32)).dtype == np.int32
    assert tf.range(tf.constant(np.int64(4))).dtype == np.int64
    assert tf.range(tf.constant(np.float64(1)), 2.0, 0.5).dtype == np.float64


def test_arguments_by_position_as_tensorflow_has_them() -> None:
    assert int(tf.tensordot([1, 2], [3, 4], 1)) == 11
    assert tf.boolean_mask([1, 2], [True, False], None).tolist() == [1]
    assert int(tf.linalg.matrix_rank(np.diag([1.0, 0.5]), 0.7)) == 1
    assert int(tf.linalg.matrix_rank(np.diag([1.0, 0.5]))) == 2
    np.testing.assert_allclose(tf.nn.swish(X, 2.0).numpy(), X / (1 + np.exp(-2 * X)), rtol=1e-6)


def test_a_norm_that_is_not_finite_spoils_all() -> None:
    clipped, norm = tf.clip_by_global_norm([[np.inf], [1.0]], 1.0)
    assert np.isinf(float(norm))
    assert all(np.isnan(float(one[0])) for one in clipped)
    clipped, _ = tf.clip_by_global_norm([[0.0]], clip_norm=1.0)
    assert clipped[0].tolist() == [0.0]


def test_names_in_graphs_of_tensorflow_1() -> None:
    with fg.Graph().as_default():
        assert tf1.fill([2], 1.0, name="filled").name == "filled:0"
        assert tf1.reduce_sum(tf1.ones([2]), reduction_indices=[0], name="total").name == "total:0"
        assert tf1.matmul(tf1.ones([2, 3]), tf1.ones([2, 3]), transpose_b=True, name="square").name == "square:0"
        assert fg.matmul(tf1.ones([2, 2]), tf1.ones([2, 2]), name="product").name == "product:0"


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: tf.matmul(M, M, transpose_a=True, adjoint_a=True), UsageError),
        (lambda: tf.linalg.matvec(M, M[0], transpose_a=True, adjoint_a=True), UsageError),
        (lambda: tf.sort([1], direction="down"), UsageError),
        (lambda: tf.where([True], x=1), UsageError),
        (lambda: tf.unstack([1, 2], num=3), UsageError),
        (lambda: tf.add_n([]), ShapeError),
        (lambda: tf.add_n([[1.0], [1.0, 2.0]]), ShapeError),
        (lambda: tf.linalg.global_norm([None]), UsageError),
        (lambda: tf.reduce_sum(input_tensor=M, no_such=1), UsageError),
    ],
)
def test_wrong_arguments(call: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        call()


def test_signatures_name_the_operands_as_tensorflow_does() -> None:
    for name, row in TABLE.items():
        parameters = list(inspect.signature(find(name)).parameters)
        if isinstance(row, str):
            operands = [word for word in row.split()[1:] if "=" not in word]
            assert parameters[: len(operands)] == operands, name
    assert list(inspect.signature(fg.concat).parameters) == ["values", "axis", "name"]


def test_every_function_takes_a_name_under_tensorflows_modules() -> None:
    assert tf.zeros([2], name="a").tolist() == [0, 0]
    assert tf.nn.bias_add([[1.0]], [2.0], name="a").tolist() == [[3.0]]
    assert tf.random.normal([2], seed=1, name="a").shape == (2,)
    assert fg.math.segment_sum([1, 2], [0, 0], name="a").tolist() == [3]
    assert tf.cond(True, lambda: 1, lambda: 2, name="a") == 1
    assert pickle.loads(pickle.dumps(tf.nn.conv2d)) is tf.nn.conv2d
    assert "name" in inspect.signature(tf.nn.conv2d).parameters


def test_compat_v1_follows_tensorflow_where_the_standard_differs() -> None:
    assert tf1.argmax(X).tolist() == X.argmax(0).tolist()
    assert [one.tolist() for one in tf1.unstack([[1], [2]], num=2)] == [[1], [2]]
    assert tf1.math.reduce_sum(X, reduction_indices=[1], keep_dims=True).shape == (2, 1)
    with fg.Graph().as_default():
        assert tf1.nn.bias_add(tf1.ones([1, 1]), tf1.ones([1]), name="shifted").name == "shifted:0"
        assert tf1.argmax(tf1.ones([2]), name="place").name == "place:0"
        assert tf1.squared_difference(tf1.ones([2]), 1.0, name="far").name == "far:0"


def test_the_random_initializers_of_tensorflow_2_are_narrower() -> None:
    assert tf.random_normal_initializer().stddev == 0.05
    assert tf1.random_normal_initializer().stddev == 1
