"""Every operation of the table, by the checks of `walk.py`. A new op needs nothing here, unless its kernel is composed:
then an oracle in ORACLES makes the test of its value worth more."""

from __future__ import annotations

import importlib
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import walk

import flowgraph as fg
from flowgraph.op import OPS, Monoid, Op, check_definition, kernel_parameters
from flowgraph.ops.index import numpy_key

NAMES = list(OPS)


def key_words(key: Any, shape: Any) -> Any:
    """One 64-bit word for each element, straight from numpy's generator."""
    return np.random.Philox(key=key).random_raw(int(np.prod(shape))).reshape(shape)


def uniform(key: Any, shape: Any, dtype: Any) -> Any:
    bits = np.finfo(dtype).nmant + 1
    return np.asarray([int(word) >> (64 - bits) for word in key_words(key, shape).ravel()]).reshape(shape) * 2.0**-bits


def normal(key: Any, shape: Any, dtype: Any) -> Any:
    return scipy.special.ndtri(((key_words(key, shape) >> np.uint64(11)) + 0.5) * 2.0**-53)


def integers(key: Any, low: Any, high: Any, shape: Any, dtype: Any) -> Any:
    span = int(high) - int(low)
    numbers = [int(low) + (int(word) * span >> 64) for word in key_words(key, shape).ravel()]
    return np.asarray(numbers, dtype).reshape(shape)


def scatter_slice(x: Any, like: Any, key: Any) -> Any:
    result = np.zeros(like.shape, x.dtype)
    result[numpy_key(key)] = x
    return result


ORACLES: dict[str, Callable[..., Any]] = {
    "constant": lambda value, dtype: np.full((), value, dtype),
    "astype": lambda x, dtype: x.astype(dtype),
    "sigmoid": scipy.special.expit,
    "softplus": lambda x: np.logaddexp(0, x),
    "relu": lambda x: np.where(x > 0, x, 0).astype(x.dtype),
    "where": lambda c, x, y: np.where(c.astype(bool), x, y),
    "matmul": np.matmul,
    "inner_product": lambda x, y: np.sum(x * y),
    "random_uniform": uniform,
    "random_normal": normal,
    "random_integers": integers,
    "sum": np.sum,
    "max": np.max,
    "min": np.min,
    "logsumexp": scipy.special.logsumexp,
    "var": lambda x, correction=0, **attrs: np.var(x, ddof=correction, **attrs),
    "softmax": lambda x, axis=-1: scipy.special.softmax(x, axis),
    "transpose": np.transpose,
    "reshape": np.reshape,
    "expand_dims": lambda x, axis=0: np.expand_dims(x, axis),
    "squeeze": np.squeeze,
    "broadcast_to": np.broadcast_to,
    "broadcast_like": lambda x, like: np.broadcast_to(x, like.shape),
    "size": lambda x, axes=None: np.prod([x.shape[axis] for axis in range(x.ndim) if axes is None or axis in axes]),
    "concat": lambda *xs, axis=0: np.concatenate(xs, axis),
    "getitem": lambda x, key: x[numpy_key(key)],
    "scatter_slice": scatter_slice,
    "arange": lambda first, step, shape: first + step * np.arange(*shape),
    "shard": lambda x, rows=None, axes=(): x,
}
"""What ops with a kernel of their own mean. An op whose kernel is a ufunc is compared with that ufunc."""

NOT_PUBLIC: dict[str, str] = {
    "getitem": "x[...]",
    "scatter_slice": "the gradient of x[...]",
    "broadcast_like": "broadcasting by sizes that are not known yet",
    "inner_product": "what sum(x * y) becomes",
    "random_integers": "random.uniform with an integer dtype",
}

for path in sorted(Path(__file__).parent.glob("oracles_*.py")):  # by family, beside this file
    family = importlib.import_module(path.stem)
    ORACLES |= family.ORACLES
    NOT_PUBLIC |= getattr(family, "NOT_PUBLIC", {})

NAMESPACES = ("random", "linalg", "fft", "nn", "math")


def public_of(name: str) -> Any:
    """The public function of an op: of the same name, or of the name behind the namespace, as in random_uniform."""
    if hasattr(fg, name):
        return getattr(fg, name)
    for space in NAMESPACES:
        found = getattr(getattr(fg, space, None), name.removeprefix(f"{space}_"), None)
        if found is not None:
            return found
    return None


def oracle(op: Op) -> Callable[..., Any]:
    """The oracle of `op`: from the table, else its kernel, which then runs in double precision."""
    if op.name in ORACLES or isinstance(op.kernel, np.ufunc):
        return ORACLES.get(op.name, op.kernel)

    def by_kernel(*operands: Any, **attrs: Any) -> Any:
        return op.kernel(
            *operands, **{name: value for name, value in attrs.items() if name in kernel_parameters(op.kernel)}
        )

    return by_kernel


def check_value_and_type(sample: walk.Sample) -> None:
    accepted = [dtype for dtype in walk.DTYPES if walk.takes(sample, dtype)]
    if any(isinstance(one, tuple) for one in sample.operands):
        assert np.float64 in accepted, "every op takes floats, for the operands that its samples leave open"
    assert accepted, "the sample is one that the op takes"
    for dtype in accepted:
        walk.check_types(sample, dtype)
        walk.check_value(sample, dtype, oracle(sample.op))
    walk.check_unmutated(sample)


@pytest.mark.parametrize("name", NAMES)
def test_value_and_type_from_operands_that_are_not_written_to(name: str) -> None:
    walk.each(walk.samples(OPS[name]), check_value_and_type)


@pytest.mark.parametrize("name", NAMES)
def test_gradient(name: str) -> None:
    walk.each(walk.samples(OPS[name]), walk.check_gradient)


@pytest.mark.parametrize("name", NAMES)
def test_cuts(name: str) -> None:
    walk.each(walk.samples(OPS[name]), walk.check_cuts)


@pytest.mark.parametrize("name", NAMES)
def test_shards(name: str) -> None:
    walk.each(walk.samples(OPS[name]), walk.check_shards)


@pytest.mark.parametrize("name", NAMES)
def test_operands_that_die_lend_their_memory(name: str) -> None:
    walk.each(walk.samples(OPS[name]), walk.check_in_place)


@pytest.mark.parametrize("name", NAMES)
def test_pickles(name: str) -> None:
    op = OPS[name]
    assert pickle.loads(pickle.dumps(op)) is op
    sample = walk.samples(op)[0]
    arrays = sample.draw()
    graph = walk.call(sample, walk.types_of(arrays)).graph
    entry = walk.compiled(graph)
    feeds = walk.values_of(graph, arrays)
    program = entry.program
    kernel = pickle.loads(pickle.dumps(program.one))
    counts = program.row_counts(feeds, entry.rows).values()
    walk.same(kernel(*counts, *program.feed(feeds)), program.one(*counts, *program.feed(feeds)), name)


@pytest.mark.parametrize("name", NAMES)
def test_result_pickles(name: str) -> None:
    sample = walk.samples(OPS[name])[0]
    result = sample.op(*[fg.constant(array) for array in sample.draw()], **sample.attrs)
    first = result[0] if isinstance(result, tuple) else result
    walk.same([pickle.loads(pickle.dumps(first)).numpy()], [first.numpy()], name)


@pytest.mark.parametrize("name", NAMES)
def test_documentation(name: str) -> None:
    op = OPS[name]
    assert op.doc.endswith("."), "one sentence: what the op returns"
    assert op.doc in inspect.getdoc(op)
    assert inspect.signature(op).parameters is not None
    public = public_of(name)
    assert (public is None) == (name in NOT_PUBLIC)
    assert public is None or public is op or inspect.getdoc(public)


@pytest.mark.parametrize("name", NAMES)
def test_definition(name: str) -> None:
    op = OPS[name]
    check_definition(op)
    low, high = op.domain
    assert low < high
    assert op.flops >= 0
    if isinstance(op.combine, Monoid):
        for function in (op.combine.partial, op.combine.merge, op.combine.finish):
            assert pickle.loads(pickle.dumps(function)) is function, "tasks hold functions of modules"
