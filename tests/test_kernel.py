"""Kernels: their source, the memory they use, windows of steps, the tree in which partial results merge, errors."""

from __future__ import annotations

import itertools
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, strategies as st
from threadpoolctl import threadpool_info

import flowgraph as fg
from flowgraph import eager, schedule
from flowgraph.errors import RunError
from flowgraph.graph import Graph, Node, interpret, make_input
from flowgraph.kernel import Kernel, Rows, complete, host, join, window
from flowgraph.kernel.merge import Stack
from flowgraph.kernel.rows import ones
from flowgraph.op import Monoid, Op
from flowgraph.partition import MESHES
from flowgraph.program import Program
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import tensor_type

Array = np.ndarray[Any, Any]


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch, fresh_programs: None) -> None:
    """Tiles of 8 rows at most. Programs are made anew, for a program keeps the tiles that it was made with."""
    monkeypatch.setattr(schedule, "TILE_ROWS", (4, 8))


def locked(array: Any) -> Array:
    """A copy that raises where it is written to."""
    result = np.array(array)
    result.flags.writeable = False
    return result


def same_bits(a: Any, b: Any) -> bool:
    """Whether two arrays are equal to the last bit, nan and -0.0 included."""
    a, b = np.asarray(a), np.asarray(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


def closed(leaves: Sequence[Node], outputs: Sequence[Node]) -> tuple[Graph, list[Array]]:
    """The graph of `outputs` with `leaves` as its first inputs, and the values of the numbers that are the others."""
    numbers = [node for node in Graph.of(outputs).inputs if node not in leaves]
    return Graph((*leaves, *numbers), tuple(outputs)), [node.memo for node in numbers]


# The source.

WHOLE_AND_LOOP = """\
def loop_0(start, rows, leaf_tiles, N0, r0, r1, v2, v3):
    most0 = min(32768, rows)
    acc0 = empty(5, f4)
    v7 = acc0[0:1].reshape(())
    v9 = acc0[1:4].reshape((3, 1))
    v10 = acc0[4:5].reshape(())
    b0 = empty(most0, f4)
    stack = Stack(MERGES, start // 32768, leaf_tiles)
    push = stack.push
    size = -1
    for low in range(0, rows + (not N0), 32768):  # an empty tile if there are no rows
        at0 = start + low
        n0 = min(32768, rows - low)
        if n0 != size:  # the first tile, and a short last one
            size = n0
            v4 = b0[:n0].reshape((n0, 1))
            x7_1 = v4.ravel()
            o10 = ones(n0, f4)
        v0 = r0.tile(low, n0)
        v1 = r1.tile(low, n0)
        matmul(v0, v2, v4)
        add(v4, v3, v4)
        subtract(v4, v1, v4)
        dot(x7_1, x7_1, v7)
        v8 = v0.T
        matmul(v8, v4, v9)
        dot(o10, x7_1, v10)
        push([acc0])
    return (stack.finish(),)

def whole_1(N0, state0):
    v7 = state0[0][0:1].reshape(())
    v9 = state0[0][1:4].reshape((3, 1))
    v10 = state0[0][4:5].reshape(())
    v12 = array(N0, f4)
    b0 = empty(1, f4)
    v13 = b0.reshape(())
    b1 = empty(1, f4)
    v15 = b1.reshape(())
    b2 = empty(3, f4)
    v19 = b2.reshape((3, 1))
    divide(v7, v12, v13)
    divide(c0, v12, v15)
    multiply(v15, c1, v15)
    multiply(v15, v9, v19)
    multiply(v15, v10, v15)
    return (v13, v19, v15)
"""


def linear_regression(x: Any, y: Any, w: Any, b: Any) -> Any:
    with fg.GradientTape() as tape:
        tape.watch([w, b])
        loss = fg.reduce_mean(fg.square(x @ w + b - y))
    return loss, tape.gradient(loss, [w, b])


def linear_regression_program(rows: int = 40) -> Program:
    shapes = (rows, 3), (rows, 1), (3, 1), ()
    program = fg.function(linear_regression).program(*(np.zeros(shape, np.float32) for shape in shapes))
    assert isinstance(program, Program)
    return program


def test_linear_regression_is_one_loop_over_the_rows_and_a_few_scalars() -> None:
    program = linear_regression_program()
    assert "\n".join(stage.kernel.source for stage in program.stages) == WHOLE_AND_LOOP  # type: ignore[union-attr]
    # A tile is read once and one buffer holds what is computed from it; the gradients are slices of one accumulator.
    assert program.one.source.count(".tile(") == 2


PRINT_SOURCES = """
import hashlib, numpy as np, flowgraph as fg

def network(x, y, w, v):
    with fg.GradientTape() as tape:
        tape.watch([w, v])
        hidden = fg.softmax(fg.tanh(x @ w), axis=0) + fg.logsumexp(x) + fg.var(x, axis=0).sum()
        loss = fg.reduce_mean(fg.keras.losses.huber(y, fg.relu(hidden) @ v)) + fg.max(x)
    return loss, tape.gradient(loss, {"w": w, "v": v})

zeros = [np.zeros(shape, "f4") for shape in ((9, 3), (9, 1), (3, 5), (5, 1))]
print(hashlib.sha256(fg.function(network).program(*zeros).source().encode()).hexdigest())
"""


def test_equal_programs_have_equal_source_in_every_process() -> None:
    digests = set()
    for seed in ("0", "1", "777"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(fg.__file__).parents[1])}
        command = [sys.executable, "-c", PRINT_SOURCES]
        digests.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(digests) == 1


def test_source_names_no_values() -> None:
    """Numbers are arguments or named constants, so a changed number changes no source."""
    double = fg.function(lambda x: x * 1.2345678 + 0.5)
    assert "1.234" not in double.program(np.zeros(3, np.float32)).source()


# Memory: operations write over what dies, buffers are used again, inputs are never written to.


def values_of(build: Callable[..., Any], *arrays: Any) -> None:
    """Compare the kernel of one tile, and the loops over many tiles, with the reference; the inputs are read-only."""
    leaves = [make_input(tensor_type(np.shape(one), np.asarray(one).dtype)) for one in arrays]
    made = build(*map(tensor_of, leaves))
    nodes = [one.node for one in (made if isinstance(made, tuple) else (made,))]
    graph, numbers = closed(leaves, nodes)
    feeds = [locked(one) for one in arrays] + numbers
    wanted = interpret(graph, feeds)
    entry = eager.compiled(graph)
    program = entry.program
    in_one = program.one(*program.row_counts(feeds, entry.rows).values(), *program.feed(feeds))
    for results in (in_one, program.run(feeds, rows=entry.rows)):
        for got, want in zip(results, wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-6)
    for got in in_one:  # a result is nobody else's memory, unless two results are one
        assert all(other is got or not np.may_share_memory(got, other) for other in in_one)
        assert not any(np.may_share_memory(got, feed) for feed in feeds)


X = np.linspace(-1.5, 1.5, 60, dtype=np.float32).reshape(20, 3)
Y = np.cos(np.arange(60, dtype=np.float32)).reshape(20, 3)

MEMORY: dict[str, Callable[..., Any]] = {
    "an operand twice": lambda x, y: (x + y) * (x + y),
    "an operand on both sides": lambda x, y: (t := fg.tanh(x)) - (t - y),
    "a diamond": lambda x, y: (t := x * 2.5) * fg.exp(t) + fg.exp(t) * fg.sqrt(t * t),
    "a chain in place": lambda x, y: fg.exp(fg.tanh(-(x + y) * 0.3)),
    "a view that outlives its source's last reader": lambda x, y: ((t := x * 2.5).T @ y, fg.tanh(t)),
    "a transpose of what is written over": lambda x, y: (t := x + y) + fg.exp(t).T.T,
    "a square that reads its transpose": lambda x, y: (t := x.T @ y) + t.T,
    "a slice of what dies": lambda x, y: (t := x * y)[1:] + fg.exp(t[:-1]),
    "a reshape of a transpose": lambda x, y: fg.reshape((x + y).T, (-1,)) * 2.5,
    "a reversed result": lambda x, y: (x + y)[::-1],
    "a stretched result": lambda x, y: fg.broadcast_to((x + y).sum(axis=0), (20, 3)),
    "an input as a result": lambda x, y: (x, x, y.T, x + y),
    "one result twice": lambda x, y: ((t := x + y), t, t.T),
    "a result that is read afterwards": lambda x, y: ((t := x + y), fg.exp(t), fg.exp(fg.exp(t))),
    "where over its operands": lambda x, y: fg.where((t := x + y) > 0, t, y * t),
    "maximum in place": lambda x, y: fg.maximum((t := x + y), fg.minimum(t * 0.5, y)),
    "softmax in place": lambda x, y: fg.softmax(x + y, axis=1) * (x + y),
    "two wholes at the same time": lambda x, y: fg.softmax(x, axis=0) * (fg.softmax(x * 2.5, axis=0) * x),
    "sums of one buffer": lambda x, y: (t := x * y).sum() + t.sum(axis=0) + fg.reduce_mean(t, axis=1, keepdims=True),
    "joined parts": lambda x, y: fg.concat([fg.reshape(x.T @ y, (-1,)), (x * y).sum(axis=0)]),
    "an outer product": lambda x, y: (x[:, 0] * 2.5) @ (x * y),
    "casts": lambda x, y: fg.cast(fg.cast(x + y, "float64") * 2.5, "float32") - x,
}


@pytest.mark.parametrize("build", MEMORY.values(), ids=MEMORY.keys())
@pytest.mark.usefixtures("small_tiles")
def test_memory_is_used_again_without_a_trace(build: Callable[..., Any]) -> None:
    values_of(build, X, Y)


SQUARE_FORMS: tuple[Callable[[Any, Any], Any], ...] = (
    lambda x, y: x + y, lambda x, y: x * y - x, lambda x, y: fg.tanh(x), lambda x, y: x.T, lambda x, y: x[::-1] + y,
    lambda x, y: fg.reshape(fg.reshape(x, (-1,)), (4, 4)), lambda x, y: fg.tanh(x @ y), lambda x, y: x + x.T,
    lambda x, y: fg.maximum(x, y.T), lambda x, y: fg.where(x > y, x, y.T), lambda x, y: fg.softmax(x, axis=0) + y,
    lambda x, y: x - fg.reduce_mean(x, axis=0), lambda x, y: fg.sigmoid(x) * y, lambda x, y: x * fg.reduce_sum(y) * 0.1,
    lambda x, y: fg.concat([x[:2], y[2:]], axis=0), lambda x, y: fg.square(x[:, ::-1]) + x,
)  # fmt: skip


@given(st.data())
def test_square_matrices_that_are_used_in_every_way(data: st.DataObject) -> None:
    """All results have one shape, transposed or not, so any buffer might serve any of them."""
    steps = data.draw(
        st.lists(st.tuples(st.sampled_from(range(len(SQUARE_FORMS))), *[st.integers(0, 99)] * 2), max_size=12)
    )
    kept = data.draw(st.lists(st.integers(0, 99), min_size=1, max_size=3))

    def build(*leaves: Tensor) -> tuple[Tensor, ...]:
        pool = list(leaves)
        for form, one, other in steps:
            pool.append(SQUARE_FORMS[form](pool[-1 - one % len(pool)], pool[-1 - other % len(pool)]))
        return pool[-1], *(pool[-1 - number % len(pool)] for number in kept)

    values_of(build, np.sin(np.arange(16.0)).reshape(4, 4), np.cos(np.arange(16.0)).reshape(4, 4))


def test_an_operation_writes_over_an_operand_that_dies() -> None:
    source = fg.function(lambda x: fg.tanh(x * 2.5) + 1.5).program(np.zeros((4, 3), np.float32)).one.source
    assert source.count("= empty(") == 1


def test_ones_are_shared_and_nobody_can_write_to_them() -> None:
    a, b = ones(5, np.dtype("f4")), ones(7, np.dtype("f4"))
    assert np.may_share_memory(a, b)
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 2


# Names: what a user calls his functions must not meet what the kernel calls its own things.

TAKEN = (
    "low rows start size stack push step steps starts leaf_tiles n0 N0 at0 v0 v3 b0 c0 r0 w1 acc0 f4 i8 x3_1 min range "
    "float array empty ones copyto owned Stack MERGES loop_0 program window dot matmul divide_host bool lambda one"
).split()


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.usefixtures("small_tiles")
def test_functions_may_have_any_name(name: str, define: Callable[..., Op]) -> None:
    def kernel(x: Array) -> Array:
        return np.asarray(x * 3)

    def total(x: Array) -> Array:
        return np.asarray(x.sum())

    kernel.__name__ = total.__name__ = name
    triple = define("triple", "... -> ...", kernel, gradient=lambda g, out, x: g * 3, doc="Three times x.")
    added = define("added", "i j ->", total, combine="add", gradient=lambda g, out, x: (x * 0 + g,), doc="The sum.")
    values_of(lambda x, y: (triple(x) + y, added(fg.tanh(x)), added(x @ (x.T @ y)), fg.softmax(x) / 3.3), X, Y)


# Errors.


def test_an_error_in_a_kernel_names_the_operation_and_the_line(define: Callable[..., Op], small_tiles: None) -> None:
    def broken(x: Array) -> Array:
        raise ArithmeticError(f"no good: {x.shape}")

    op = define("broken", "... -> ...", broken, gradient=lambda g, out, x: (g,), doc="Fails.")
    for rows in (4, 30):  # one tile, and many
        x = fg.constant(np.ones((rows, 2), np.float32))
        line = sys._getframe().f_lineno + 1
        y = op(x * 2.5)
        with pytest.raises(RunError, match="broken") as caught:
            y.numpy()
        assert f"broken (float32[rows, 2]), made at {__file__}:{line}" in caught.value.asked
        assert "ArithmeticError: no good" in caught.value.found
        assert isinstance(caught.value.__cause__, ArithmeticError)
    assert pickle.loads(pickle.dumps(caught.value)).asked == caught.value.asked


def test_a_traceback_shows_the_kernel_s_line(define: Callable[..., Op]) -> None:
    import traceback

    op = define("shorter", "... -> ...", lambda x: x[1:], doc="A wrong shape.")
    with pytest.raises(RunError) as caught:
        (fg.constant([1.0, 2.0, 3.0]) + op(fg.constant([1.0, 2.0, 3.0]))).numpy()
    assert caught.value.__cause__ is not None
    assert "add(v0, v2, v3)" in "".join(traceback.format_exception(caught.value.__cause__))


def test_kernels_set_numpy_s_error_state_themselves() -> None:
    with np.errstate(all="raise"):
        assert np.isinf((fg.constant([1.0]) / fg.constant([0.0])).numpy()).all()
        assert np.geterr()["divide"] == "raise"


# Scalars in double precision.

SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, 1e300, -1e300, 1e-300, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("name", ["divide", "power"])
def test_host_functions_do_what_numpy_does(name: str) -> None:
    ours, theirs = getattr(host, f"{name}_host"), getattr(np, name)
    with np.errstate(all="ignore"):
        for x, y in itertools.product(SPECIAL, SPECIAL):
            if y == 0.5 and x in (0, -np.inf):
                continue  # numpy takes the square root there, Python and C the power
            got, want = np.float64(ours(x, y)), np.float64(theirs(x, y))
            assert same_bits(got, want) or (np.isnan(got) and np.isnan(want)), (x, y, got, want)


@pytest.mark.parametrize("value", [2**62, -(2**63), -1, 2**63 - 1, 300])
def test_whole_numbers_wrap_around_as_numpy_s_do(value: int) -> None:
    """Scalars of int64 are Python's numbers inside a kernel, which have no end."""
    jobs: list[Callable[[Any], Any]] = [
        lambda a: a * 4, lambda a: a + a, lambda a: -a - a - 3, lambda a: a * a,
        lambda a: a.astype("uint32"), lambda a: a.astype("uint8"), lambda a: a.astype("float32"), lambda a: a != 0,
    ]  # fmt: skip
    wide = np.array([value], np.int64)  # arrays wrap without a warning, scalars with one
    for job in jobs:
        expected = job(wide)
        found = fg.function(job)(np.array(value, np.int64)).numpy()
        assert found == expected[0]
        assert found.dtype == expected.dtype
        assert job(fg.constant(value, "int64")).numpy() == expected[0]


def test_host_square_roots_are_numpy_s() -> None:
    with np.errstate(all="ignore"):
        for x in SPECIAL:
            np.testing.assert_equal(np.float64(host.sqrt_host(x)), np.sqrt(np.float64(x)))


def test_scalars_in_double_precision_are_python_numbers_in_kernels() -> None:
    beta = make_input(tensor_type((), np.float64), "variable")
    t = make_input(tensor_type((), np.int64), "variable")
    out = 1 - tensor_of(beta) ** tensor_of(t)
    program = eager.compiled(Graph((beta, t), (out.node,))).program
    assert "power_host(" in program.one.source
    assert "empty(" not in program.one.source
    (got,) = program.run([np.array(0.999), np.array(3)])
    assert same_bits(got, np.array(1 - 0.999**3))


# Windows of steps.


class Machine:
    """A random step: states of several types, a batch of rows, a loss. States may swap, alias and stand still."""

    TYPES = (
        ((), np.float64), ((), np.float64), ((), np.int64), ((), np.float32), ((4,), np.float32), ((4,), np.float32),
        ((2, 2), np.float32), ((2, 2), np.float32), ((4,), np.float64),
    )  # fmt: skip

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        chosen = data.draw(st.lists(st.sampled_from(self.TYPES), min_size=1, max_size=5))
        self.states = [make_input(tensor_type(*one), "variable", f"state{i}") for i, one in enumerate(chosen)]
        self.batch = make_input(tensor_type((MESHES[0], 4), np.float32), "data", "batch")
        self.pool = [tensor_of(one) for one in (*self.states, self.batch)]
        for _ in range(data.draw(st.integers(0, 10))):
            self.pool.append(self.combine())
        self.new = [self.value_for(one) for one in self.states]
        self.loss = self.value_for(make_input(tensor_type((), data.draw(st.sampled_from([np.float32, np.float64])))))

    def pick(self, fits: Callable[[Tensor], bool] = lambda x: True) -> Tensor | None:
        found = [x for x in self.pool if fits(x)]
        return self.data.draw(st.sampled_from(found)) if found else None

    def combine(self) -> Tensor:
        x = self.pick()
        assert x is not None
        y = self.pick(lambda y: y.shape == x.shape and y.dtype == x.dtype) if x.dtype.kind == "f" else x
        assert y is not None
        if x.dtype.kind == "i":
            return self.data.draw(st.sampled_from([x + 1, x * 2 - 3, fg.cast(x, "float64")]))
        forms: list[Callable[[], Tensor]] = [
            lambda: fg.tanh(x), lambda: x * 0.75 + y, lambda: x - y, lambda: fg.exp(-(x * x)), lambda: x / (y * y + 1),
            lambda: fg.cast(x, "float32" if x.dtype == np.float64 else "float64"),
        ]  # fmt: skip
        if x.ndim:
            forms += [lambda: x.sum(axis=0), lambda: x * (y.sum() * 0.1)]
        if x.shape == (4,):
            batch = self.pool[len(self.states)]
            forms += [
                lambda: fg.reshape(x, (2, 2)),
                lambda: batch @ fg.cast(x, "float32"),
                lambda: x[1],
                lambda: x[::-1],
            ]
        if x.shape == (2, 2):
            forms += [
                lambda: x.T,
                lambda: x @ y,
                lambda: fg.reshape(x, (4,)),
                lambda: fg.reshape(x.T, (4,)),
                lambda: x[::-1],
            ]
        return self.data.draw(st.sampled_from(forms))()

    def value_for(self, state: Node) -> Tensor:
        """A value of the type of `state`: another state, something computed, or a form of the loss of last resort."""
        want = state.type
        found = self.pick(lambda x: x.type is want)
        if found is not None and self.data.draw(st.integers(0, 3)):
            return found
        any_float = self.pick(lambda x: x.dtype.kind == "f")
        assert any_float is not None
        total = fg.tanh(fg.reduce_sum(any_float))
        if want.dtype.kind == "i":
            return (found if found is not None else fg.cast(total, "int64")) + 1
        made = fg.cast(total, want.dtype)
        return made if not want.shape else fg.reshape(fg.arange(4) * 0.25, want.shape).astype(want.dtype) * made

    def graph(self) -> tuple[Graph, list[Array]]:
        return closed((self.batch, *self.states), [self.loss.node, *(one.node for one in self.new)])


def window_of(
    closed_graph: tuple[Graph, list[Array]], states: Sequence[Array], rows: Array, starts: Sequence[int], size: int
) -> Any:
    """(the losses, the new states) by the window kernel."""
    graph, numbers = closed_graph
    program = Program(graph)
    inputs = program.parts.graph.inputs
    updates = dict(zip(inputs[1 : 1 + len(states)], program.outputs[1:], strict=True))
    meshes = [mesh for mesh in (program.parts.mesh(inputs[0]),) if mesh is not None]
    kernel = window(program.emitter, [program.outputs[0]], updates, meshes)
    history = np.empty(len(starts))
    values = [rows if meshes else rows[:size], *map(locked, states), *numbers]
    pairs = zip(values, program.input_cuts, strict=True)
    fed = [one if cut is None else Rows([one], one.dtype, cut[0], cut[1].times) for one, cut in pairs]
    counts = program.row_counts([rows[:size], *states, *numbers], None)
    return history, kernel(len(starts), starts, history, *counts.values(), *fed)


def steps_of(
    closed_graph: tuple[Graph, list[Array]], states: Sequence[Array], rows: Array, starts: Sequence[int], size: int
) -> Any:
    """The same by one run of the program for each step."""
    graph, numbers = closed_graph
    program, losses = Program(graph), []
    for start in starts:
        loss, *states = program.run([rows[start : start + size], *states, *numbers])
        losses.append(float(loss))
    return np.array(losses), tuple(states)


def initial(of_type: Any, number: int) -> Array:
    count = int(np.prod(of_type.shape, dtype=int))
    return locked((np.arange(count) * 0.37 + number - 1).reshape(of_type.shape).astype(of_type.dtype))


@given(st.data())
def test_a_window_is_its_steps_one_after_the_other(data: st.DataObject) -> None:
    machine = Machine(data)
    graph = machine.graph()
    rows = locked(np.sin(np.arange(48, dtype=np.float32)).reshape(12, 4))
    states = [initial(one.type, number) for number, one in enumerate(machine.states)]
    starts = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=5))
    with np.errstate(all="ignore"):
        losses, after = window_of(graph, states, rows, starts, 3)
        expected, wanted = steps_of(graph, states, rows, starts, 3)
    assert same_bits(losses, expected), graph[0].text()
    for got, want in zip(after, wanted, strict=True):
        assert same_bits(got, want), graph[0].text()
    for one, other in itertools.combinations(after, 2):
        assert not np.may_share_memory(one, other)


def states_graph(*types: Any, new: Callable[..., Sequence[Tensor]]) -> tuple[Any, list[Array]]:
    batch = make_input(tensor_type((MESHES[0], 4), np.float32), "data", "batch")
    leaves = [make_input(tensor_type(*one), "variable") for one in types]
    made = new(*map(tensor_of, leaves))
    loss = fg.reduce_sum(tensor_of(batch))
    graph = closed((batch, *leaves), [loss.node, *(one.node for one in made)])
    return graph, [initial(leaf.type, number) for number, leaf in enumerate(leaves)]


VECTOR, SQUARE, HOST = ((4,), np.float32), ((2, 2), np.float32), ((), np.float64)
CARRIES: dict[str, tuple[tuple[Any, ...], Callable[..., Sequence[Tensor]]]] = {
    "swap": ((VECTOR, VECTOR), lambda a, b: (b, a)),
    "rotate three": ((VECTOR, VECTOR, VECTOR), lambda a, b, c: (b, c, a)),
    "swap hosts": ((HOST, HOST), lambda a, b: (b, a)),
    "stand still": ((VECTOR, HOST), lambda a, b: (a, b)),
    "a view of a state that changes first": ((VECTOR, VECTOR), lambda a, b: (a + 1, a[::-1])),
    "a view of a state that changes last": ((VECTOR, VECTOR), lambda a, b: (b[::-1], b + 1)),
    "a view of itself": ((SQUARE,), lambda a: (a.T,)),
    "an element of a state that changes": ((((4,), np.float64), HOST), lambda a, h: (a * 0.5, a[1])),
    "the same value twice": ((VECTOR, VECTOR), lambda a, b: ((t := a + b), t)),
    "a view of a new value": ((VECTOR, SQUARE), lambda a, b: ((t := a + 1), fg.reshape(t, (2, 2)).T)),
    "a value that never changes": ((VECTOR, HOST), lambda a, h: (fg.arange(4) * 0.5, h * 0 + 7.5)),
    "an array that counts": ((((), np.int64), HOST), lambda n, h: (n + 1, h + fg.cast(n, "float64"))),
    "a host number from an array": ((VECTOR, HOST), lambda a, h: (a * 2, fg.cast(a.sum(), "float64"))),
    "an array from a host number": ((VECTOR, HOST), lambda a, h: (a + fg.cast(h, "float32"), h / 3)),
}


@pytest.mark.parametrize(("types", "new"), CARRIES.values(), ids=CARRIES.keys())
def test_what_a_window_carries(types: Any, new: Any) -> None:
    graph, states = states_graph(*types, new=new)
    rows = locked(np.ones((8, 4), np.float32))
    for steps in (1, 2, 5):
        _, after = window_of(graph, states, rows, [0, 2, 4, 1, 3][:steps], 3)
        _, wanted = steps_of(graph, states, rows, [0, 2, 4, 1, 3][:steps], 3)
        assert all(map(same_bits, after, wanted))


# Merging.


def tree(leaves: Sequence[Any], merge: Callable[[Any, Any], Any]) -> Any:
    """The state of all leaves, from the picture: complete subtrees of powers of two, then folded from the right."""
    parts = []
    rest = list(leaves)
    for level in reversed(range(len(leaves).bit_length())):
        if len(leaves) >> level & 1:
            whole, rest = rest[: 1 << level], rest[1 << level :]
            while len(whole) > 1:
                whole = [merge(a, b) for a, b in zip(whole[::2], whole[1::2], strict=True)]
            parts.append(whole[0])
    state = parts.pop()
    while parts:
        state = merge(parts.pop(), state)
    return state


def pair_merge(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
    return left[0] + right[0], left[1] * np.float32(0.5) + right[1]


MERGES = (np.add, np.maximum, pair_merge)


def merge_states(left: Any, right: Any) -> Any:
    return [np.add(left[0], right[0]), np.maximum(left[1], right[1]), pair_merge(left[2], right[2])]


def tile_states(count: int) -> list[Any]:
    rng = np.random.default_rng(count)
    draw = lambda: locked(rng.standard_normal(3).astype(np.float32) * np.float32(10.0) ** rng.integers(-4, 4))  # noqa: E731
    return [[draw(), draw(), (draw(), draw())] for _ in range(count)]


def pushed(tiles: Sequence[Any], first: int, leaf: int) -> Any:
    stack = Stack(MERGES, first, leaf)
    for state in tiles:
        stack.push(state)
    return stack.finish()


def flat(state: Any) -> bytes:
    return b"".join(part.tobytes() for one in state for part in (one if isinstance(one, tuple) else (one,)))


@given(st.data())
def test_the_tree_does_not_depend_on_how_leaves_are_dealt_out(data: st.DataObject) -> None:
    leaf = data.draw(st.sampled_from([1, 2, 4]))
    tiles = tile_states(data.draw(st.integers(1, 60)))
    units = -(-len(tiles) // leaf)
    cuts = sorted(data.draw(st.lists(st.integers(0, units), max_size=5)))
    edges = [0, *(cut * leaf for cut in cuts), units * leaf]
    stacks = [pushed(tiles[a:b], a, leaf) for a, b in itertools.pairwise(edges)]
    for stack in stacks:
        for _, _, state in stack:
            for one in state:
                for part in one if isinstance(one, tuple) else (one,):
                    part.flags.writeable = False  # joining writes to no input
    leaves = [tiles[start : start + leaf] for start in range(0, len(tiles), leaf)]
    summed = [_in_order(own) for own in leaves]
    wanted = flat(tree(summed, merge_states))
    assert flat(complete(MERGES, stacks)) == wanted
    fan_in = data.draw(st.integers(2, 4))
    while len(stacks) > fan_in:
        stacks = [join(MERGES, stacks[first : first + fan_in]) for first in range(0, len(stacks), fan_in)]
    assert flat(complete(MERGES, stacks)) == wanted


def _in_order(tiles: Sequence[Any]) -> Any:
    state = tiles[0]
    for one in tiles[1:]:
        state = merge_states(state, one)
    return state


@given(first=st.integers(0, 200), count=st.integers(1, 200), cut=st.integers(0, 200))
def test_small_leaves_that_merge_in_blocks_give_the_same_tree(first: int, count: int, cut: int) -> None:
    merges = (np.add, np.maximum)
    tiles = [state[:2] for state in tile_states(count)]
    blocks = Stack(merges, first, 1)
    singly = Stack(merges, first, 1)
    singly._are_small = lambda state: False  # type: ignore[method-assign]
    one = [np.empty_like(part) for part in tiles[0]]
    for state in tiles:
        for own, part in zip(one, state, strict=True):
            own[:] = part  # the arrays stay the caller's, and change with the next tile
        blocks.push(one)
        singly.push(state)
    found, wanted = blocks.finish(), singly.finish()
    assert [(level, index) for level, index, _ in found] == [(level, index) for level, index, _ in wanted]
    assert [flat(state) for *_, state in found] == [flat(state) for *_, state in wanted]
    cut = min(cut, count)
    stacks = [pushed_as(merges, tiles[a:b], first + a) for a, b in ((0, cut), (cut, count)) if a < b]
    assert flat(complete(merges, stacks)) == flat(complete(merges, [wanted]))


def pushed_as(merges: Any, tiles: Sequence[Any], first: int) -> Any:
    stack = Stack(merges, first, 1)
    for state in tiles:
        stack.push(state)
    return stack.finish()


def test_a_stack_holds_no_more_than_a_few_subtrees() -> None:
    stack = pushed(tile_states(63), 0, 1)
    assert [(level, index) for level, index, _ in stack] == [(5, 0), (4, 2), (3, 6), (2, 14), (1, 30), (0, 62)]
    assert [(level, index) for level, index, _ in pushed(tile_states(5), 3, 1)] == [(0, 3), (2, 1)]


def ends_partial(x: Array) -> tuple[Array, Array, Array]:
    return x[0], x[-1], np.zeros_like(x[0])  # two views of a tile, whose memory the next tile takes


def ends_merge(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
    return left[0], right[1], left[2] + abs(right[0] - left[1]) + right[2]


def ends_finish(state: tuple[Array, ...]) -> Array:
    return np.asarray(state[0] + 100 * state[1] + 10_000 * state[2])


@pytest.mark.usefixtures("small_tiles")
def test_states_of_a_monoid_may_be_views(define: Callable[..., Op]) -> None:
    """The first row, the last row, and the jumps between tiles: what a merge hands on are parts of what it got."""
    monoid = Monoid(ends_partial, ends_merge, ends_finish)
    ends = define("ends", "i j -> j", lambda x: x[0] + 100 * x[-1], combine=monoid, doc="The first and the last row.")
    for rows in (9, 16, 35, 64, 100):
        x = np.cumsum(np.arange(rows * 2, dtype=np.float64)).reshape(rows, 2)
        jumps = sum(x[start] - x[start - 1] for start in range(8, rows, 8))
        for shards in (1, 2, 3):
            got = ends(fg.shard(fg.asarray(x) + 1.5, rows=shards)).numpy()
            np.testing.assert_array_equal(got, (x[0] + 1.5) + 100 * (x[-1] + 1.5) + 10_000 * jumps)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("name", ["var", "logsumexp"])
def test_monoids_have_the_same_bits_for_any_cut(name: str) -> None:
    x = np.random.default_rng(2).standard_normal((61, 3)).astype(np.float32) * 30 + 1000
    found = [
        [getattr(fg, name)(fg.shard(fg.asarray(x), rows=cut), axis=axis).numpy() for axis in (None, 0, 1)]
        for cut in (1, 2, 3, 7, (8, 0, 32, 21))
    ]
    for other in found[1:]:
        assert all(map(same_bits, found[0], other))
    wanted = x.astype(np.float64).var() if name == "var" else np.logaddexp.reduce(x.astype(np.float64), axis=None)
    np.testing.assert_allclose(found[0][0], wanted, rtol=1e-6)


# Rows.


def unaligned(array: Array) -> Array:
    raw = np.empty(array.nbytes + 1, np.uint8)
    result = raw[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    assert not result.flags.aligned
    return result


ORDERS: dict[str, Callable[[Array], Array]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "reversed rows": lambda x: x[::-1].copy()[::-1],
    "reversed columns": lambda x: x[:, ::-1].copy()[:, ::-1],
    "a wider table": lambda x: np.concatenate([x, x], axis=1)[:, : x.shape[1]],
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "another dtype": lambda x: x.astype(np.float64),
    "unaligned": unaligned,
    "read-only": locked,
}


@given(st.data())
def test_a_tile_is_in_c_order_whatever_its_segments_are(data: st.DataObject) -> None:
    axis, times = data.draw(st.sampled_from([(0, 1), (0, 1), (1, 1), (0, 3), (1, 2)]))
    lengths = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=5))
    total = sum(lengths) * times
    table = np.arange(total * 5, dtype=np.float32).reshape((total, 5) if axis == 0 else (5, total))
    edges = [0, *(int(end) * times for end in np.cumsum(lengths))]
    segments = []
    for start, stop in itertools.pairwise(edges):
        piece = table[start:stop] if axis == 0 else table[:, start:stop]
        segments.append(ORDERS[data.draw(st.sampled_from(sorted(ORDERS)))](piece))
    rows = Rows(segments, np.float32, axis, times)
    assert rows.rows == sum(lengths)
    for _ in range(3):
        low = data.draw(st.integers(0, rows.rows))
        count = data.draw(st.integers(0, rows.rows - low))
        tile = rows.tile(low, count)
        start, stop = low * times, (low + count) * times
        np.testing.assert_array_equal(tile, table[start:stop] if axis == 0 else table[:, start:stop])
        assert tile.dtype == np.float32
        assert tile.dtype.isnative
        assert tile.flags.c_contiguous or tile.size == 0
        assert tile.flags.aligned


def test_a_clean_tile_is_used_where_it_lies() -> None:
    table = np.zeros((10, 3), np.float32)
    assert np.shares_memory(Rows([table], np.float32).tile(2, 5), table)
    two = Rows([table[:4], table[4:]], np.float32)
    assert np.shares_memory(two.tile(4, 3), table)
    assert not np.shares_memory(two.tile(2, 5), table)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("order", ORDERS.keys())
def test_bits_do_not_depend_on_memory_order(order: str) -> None:
    x = np.random.default_rng(0).standard_normal((37, 5)).astype(np.float32)
    if order == "another dtype":
        pytest.skip("is another program")
    w = np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2)

    def values(array: Array) -> list[Array]:
        t = fg.tanh(fg.asarray(array) @ w)
        return [t.numpy(), (fg.asarray(array).T @ t).numpy(), fg.reduce_sum(t, axis=0).numpy()]

    assert all(map(same_bits, values(x), values(ORDERS[order](x))))


# Kernels in threads, in pickles, and beside BLAS.


@pytest.mark.usefixtures("small_tiles")
def test_two_threads_may_run_one_program_at_a_time() -> None:
    program = linear_regression_program()
    rng = np.random.default_rng(1)

    def feeds(rows: int) -> list[Array]:
        shapes = (rows, 3), (rows, 1), (3, 1), ()
        return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

    given_values = [feeds(rows) for rows in (5, 7, 60, 61)]
    wanted = [program.run(one) for one in given_values]
    barrier = threading.Barrier(4)

    def work(number: int) -> bool:
        barrier.wait()
        return all(all(map(same_bits, program.run(given_values[number]), wanted[number])) for _ in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def blas_threads() -> list[int]:
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas" and "numpy" in one["filepath"]]


@pytest.mark.usefixtures("three_blas_threads")
def test_kernels_hold_blas_to_one_thread(define: Callable[..., Op]) -> None:
    seen: list[list[int]] = []

    def watch(x: Array) -> Array:
        seen.append(blas_threads())
        return x + 1

    op = define("watch", "... -> ...", watch, doc="Notes the number of threads.")
    before = blas_threads()
    assert set(before) == {3}
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: Tensor.numpy(op(fg.constant(np.ones(n, np.float32)))), range(1, 10)))
    assert len(seen) == 9
    assert all(set(one) <= {1} for one in seen)
    assert blas_threads() == before


@pytest.mark.usefixtures("three_blas_threads")
def test_a_kernel_that_fails_gives_blas_its_threads_back(define: Callable[..., Op]) -> None:
    op = define("fails", "... -> ...", lambda x: 1 // 0, doc="Fails.")
    before = blas_threads()
    with pytest.raises(RunError):
        op(fg.constant(1.0)).numpy()
    assert blas_threads() == before


def test_a_kernel_travels_by_its_source_and_is_compiled_once() -> None:
    kernel = linear_regression_program().one
    blob = pickle.dumps(kernel)
    one, other = pickle.loads(blob), pickle.loads(blob)
    assert one is other
    assert one.source == kernel.source
    assert one.function().__code__ is kernel.function().__code__
    x, y, w, b = (np.ones(shape, np.float32) for shape in ((4, 3), (4, 1), (3, 1), ()))
    fed = Rows([x], x.dtype), Rows([y], y.dtype), w, b
    assert all(map(same_bits, one(4, *fed), kernel(4, *fed)))


def test_functions_of_the_user_travel_with_the_kernel(define: Callable[..., Op]) -> None:
    factor = 3.0
    op = define("scaled", "... -> ...", lambda x: x * np.float32(factor), doc="Scaled.")
    kernel = fg.function(op).program(np.zeros(2, np.float32)).one
    clone = Kernel(*cloudpickle.loads(cloudpickle.dumps((kernel.name, kernel.source, dict(kernel.names)))))
    (got,) = clone(2, Rows([np.ones(2, np.float32)], np.float32))
    assert got.tolist() == [3.0, 3.0]


def test_contractions_come_early_so_that_buffers_are_used_again() -> None:
    def loss(parameters: Any, x: Any, y: Any) -> Any:
        w1, w2, w3 = parameters
        return fg.mean(fg.square(fg.tanh(fg.tanh(x @ w1) @ w2) @ w3 - y))

    weights = tuple(np.zeros(shape, np.float32) for shape in ((3, 8), (8, 8), (8, 1)))
    step = fg.function(fg.value_and_grad(loss)).program(weights, np.zeros((9, 3), "f4"), np.zeros((9, 1), "f4"))
    (loop,) = (stage.kernel for stage in step.stages if "for low" in stage.kernel.source)
    wide = re.findall(r"b\d+ = empty\(most0\*8, f4\)", loop.source)
    assert len(wide) == 3  # both hidden layers, and the gradient on its way


def test_rows_that_only_lengths_name() -> None:
    """What is whole may have the length of rows that nobody computes: only the shape of the sum is asked for."""
    assert float(fg.grad(lambda a: (a + fg.arange(3.0))[1])(2.0)) == 1
