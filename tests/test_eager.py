"""Eager evaluation: what a run computes, keeps and lets go of, and the cache of programs behind it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph import eager, pinned
from flowgraph.context import Hooks
from flowgraph.eager import BINDINGS, COMPILED, Cache, evaluate
from flowgraph.errors import DataError, GradientError, RunError, UsageError
from flowgraph.graph import Node
from flowgraph.leaves import SHARED_BYTES
from flowgraph.op import Op
from flowgraph.program import Program
from flowgraph.tensor import Tensor


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Program]:
    """The programs that run while the test does."""
    seen: list[Program] = []
    original = Program.run

    def run(self: Program, *args: Any, **kwargs: Any) -> Any:
        seen.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Program, "run", run)
    return seen


def count_nodes() -> int:
    gc.collect()
    return sum(isinstance(one, Node) for one in gc.get_objects())


# What a run computes.


def test_calls_compute_nothing(runs: list[Program]) -> None:
    x = fg.constant([1.0, 2.0])
    y = fg.exp(x) + x * 2.5
    assert (y.shape, y.dtype, y.ndim, y.size) == ((2,), np.dtype(np.float32), 1, 2)
    assert runs == []
    y.numpy()
    assert len(runs) == 1


ASKING: dict[str, Callable[[Tensor], Any]] = {
    "numpy()": lambda y: y.numpy(), "float": float, "int": int, "bool": bool, "repr": repr, "str": str,
    "item": lambda y: y.item(), "np.asarray": np.asarray, "tolist": lambda y: y.tolist(),
    "format": lambda y: f"{y:.2f}",
}  # fmt: skip


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING.keys())
def test_what_asks_for_a_value(ask: Callable[[Tensor], Any], runs: list[Program]) -> None:
    ask(fg.constant(2.0) * 1.25)
    assert len(runs) == 1


def test_a_run_keeps_what_a_user_holds(runs: list[Program]) -> None:
    x, w = fg.constant(np.ones((5, 3), np.float32)), fg.Variable(np.ones((3, 1), np.float32))
    h = x @ w
    loss = fg.reduce_sum(fg.square(h - 1.5))
    assert float(loss) == 11.25
    assert len(runs) == 1
    assert h.numpy().tolist() == [[3.0]] * 5
    assert len(runs) == 1


def test_a_run_keeps_nothing_that_nobody_holds(define: Callable[..., Op]) -> None:
    results: list[Any] = []

    def note(x: Any) -> Any:
        result = x + 1
        results.append(weakref.ref(result))
        return result

    op = define("note", "... -> ...", note, doc="Notes its result.")
    value = fg.reduce_sum(op(fg.constant(np.ones(1000))))
    assert float(value) == 2000.0
    gc.collect()
    assert results[0]() is None


def test_a_run_computes_only_what_is_asked_for(define: Callable[..., Op]) -> None:
    calls: list[Any] = []
    op = define("counted", "... -> ...", lambda x: (calls.append(x.shape), x * 2)[1], doc="Counts its calls.")
    x = fg.constant([1.0, 2.0])
    wanted, other = op(x) + 1.0, op(x * 3.5)
    wanted.numpy()
    assert len(calls) == 1
    wanted.numpy(), (wanted * 2.0).numpy()
    assert len(calls) == 1
    other.numpy()
    assert len(calls) == 2


def test_shared_work_is_done_once(define: Callable[..., Op]) -> None:
    calls: list[Any] = []
    op = define("shared_work", "... -> ...", lambda x: (calls.append(1), x * 2)[1], doc="Counts its calls.")
    h = op(fg.constant([1.0, 2.0]))
    (h + h * h).numpy()
    assert len(calls) == 1
    a, b = fg.exp(h), fg.tanh(h)
    evaluate([a.node, b.node])
    assert len(calls) == 1
    assert isinstance(a.node.memo, np.ndarray)
    assert isinstance(b.node.memo, np.ndarray)


def test_an_evaluated_node_lets_go_of_its_operands() -> None:
    x = fg.constant(np.ones(10))
    y = fg.exp(x * 2.5)
    ref = weakref.ref(x)
    y.numpy()
    assert y.node.inputs == ()
    assert y.node.depth == 0
    del x
    gc.collect()
    assert ref() is None


def test_a_run_that_fails_can_be_repeated(define: Callable[..., Op]) -> None:
    failures = [True]

    def fails_once(x: Any) -> Any:
        if failures:
            failures.pop()
            raise OSError("try again")
        return x + 1

    op = define("fails_once", "... -> ...", fails_once, doc="Fails once.")
    h = fg.constant([1.0]) * 2.5
    y = op(h)
    with pytest.raises(RunError, match="try again"):
        y.numpy()
    assert y.node.inputs == (h.node,)
    assert y.numpy().tolist() == [3.5]


def test_two_threads_may_ask_for_the_same_values() -> None:
    barrier = threading.Barrier(4)

    def work(number: int, tensors: list[Tensor]) -> list[float]:
        barrier.wait()
        return [float(one) for one in (tensors if number % 2 else reversed(tensors))]

    with ThreadPoolExecutor(4) as pool:
        for repetition in range(10):
            tensors = [fg.constant(float(repetition))]
            for _ in range(20):
                tensors.append(tensors[-1] * 0.5 + 1.25)
            found = list(pool.map(work, range(4), [tensors] * 4))
            assert found[0] == found[1][::-1] == found[2] == found[3][::-1]


# Loops.


def test_a_loop_that_looks_at_its_values_does_not_grow() -> None:
    state = fg.constant(np.zeros(100))
    v = fg.Variable(np.zeros(100))
    old: list[Any] = []
    for step in range(60):
        if step == 10:
            before = count_nodes()
        state = fg.tanh(state * 0.5 + v)
        v.assign(state + 1.0)
        old.append(weakref.ref(state.numpy()))
    assert count_nodes() <= before + 5
    del state
    gc.collect()
    assert sum(ref() is not None for ref in old) <= 2


def test_training_loops_do_not_grow() -> None:
    w, x = fg.Variable(np.ones((3, 1))), fg.constant(np.eye(3))
    opt = fg.keras.optimizers.Adam(0.1)
    losses = []
    for step in range(40):
        if step == 5:
            before = count_nodes()
        opt.minimize(lambda: fg.reduce_sum(fg.square(x @ w)), [w])
        with fg.GradientTape() as tape:
            loss = fg.reduce_sum(fg.square(x @ w))
        w.assign_sub(tape.gradient(loss, w) * 0.01)
        losses.append(float(loss))
    assert count_nodes() <= before + 5
    assert losses[-1] < losses[0]


def test_a_long_chain_is_run_before_it_is_too_long(runs: list[Program]) -> None:
    y = fg.constant(0.0)
    for _ in range(3 * Hooks.pending_limit):
        y = y + 1.5
        assert y.node.depth <= Hooks.pending_limit
    assert 2 <= len(runs) <= 3
    assert float(y) == 4.5 * Hooks.pending_limit


def test_a_chain_of_assignments_computes_each_once(runs: list[Program]) -> None:
    v = fg.Variable(0.0)
    for _ in range(10):
        v.assign_add(1.5)
    assert len(runs) == 10
    assert float(v) == 15.0
    assert len(runs) == 10


# Old values of variables that tensors wait for.


def alive(refs: list[Any]) -> int:
    return sum(ref() is not None for ref in refs)


def test_old_values_that_tensors_wait_for_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "PINNED_BYTES", 8 << 20)
    v = fg.Variable(np.zeros(1 << 17))  # 1 MB
    old, waiting, most = [], [], 0
    for step in range(40):
        old.append(weakref.ref(v._node))
        waiting.append(fg.reduce_sum(v * 2.5) + fg.reduce_max(v))
        v.assign(np.full(1 << 17, step + 1.0))
        most = max(most, alive(old))
    assert most <= 10
    assert [float(one) for one in waiting] == [step * (2.5 * (1 << 17) + 1) for step in range(40)]


def test_old_values_that_a_user_holds_stay(monkeypatch: pytest.MonkeyPatch, runs: list[Program]) -> None:
    monkeypatch.setattr(pinned, "PINNED_BYTES", 4 << 20)
    v = fg.Variable(np.zeros(1 << 17))
    held, other = [], fg.constant(1.0) * 2.5
    for step in range(12):
        held.append(v.value())
        v.assign(np.full(1 << 17, step + 1.0))
    assert [one.numpy()[0] for one in held] == list(range(12))
    assert runs == []
    assert other.node.memo is None  # nothing is computed that waits for something else


def test_a_waiting_tensor_that_fails_does_so_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "PINNED_BYTES", 2 << 20)
    v, array = fg.Variable(np.zeros(1 << 17)), np.zeros(1 << 17)
    waiting = v + array
    array[:] = 1.0
    for step in range(6):
        kept = v * 1.5
        v.assign(np.full(1 << 17, step + 1.0))
        waiting = [waiting, kept]  # type: ignore[assignment]
    assert float(v[0]) == 6.0
    while isinstance(waiting, list):
        waiting = waiting[0]
    with pytest.raises(DataError):
        waiting.numpy()


# Gradients of what was computed.


def test_the_gradient_of_a_computed_tensor_names_the_way() -> None:
    w = fg.Variable(2.0)
    y = w * w
    assert float(fg.gradient(y, w)) == 4.0
    float(y)
    for target in (y, y * 2.0):
        with pytest.raises(GradientError, match="GradientTape") as caught:
            fg.gradient(target, w)
        assert "grad(f)" in caught.value.remedy
        assert "test_eager.py" in caught.value.asked


def test_a_tape_remembers_what_was_computed() -> None:
    w = fg.Variable([1.0, 2.0])
    with fg.GradientTape(persistent=True) as tape:
        h = w * 2.5
        y = fg.reduce_sum(fg.square(h))
        h.numpy(), float(y)
        z = y * 3.0
    float(z)
    assert tape.gradient(z, w).numpy().tolist() == [37.5, 75.0]
    assert tape.gradient(z, h).numpy().tolist() == [15.0, 30.0]


# Memory of the caller.


def test_constant_copies_and_asarray_shares() -> None:
    array = np.ones(8)
    assert not np.shares_memory(fg.constant(array).numpy(), array)
    assert np.shares_memory(fg.asarray(array).numpy(), array)
    copied = fg.constant(array) * 2
    array[:] = 5
    assert copied.numpy().tolist() == [2.0] * 8


CHANGES: dict[str, Callable[[Any], Any]] = {
    "all": lambda x: np.multiply(x, 2, out=x),
    "sorted": lambda x: x[::-1].sort(axis=0),
    "one row in ten": lambda x: x.__setitem__(slice(None, None, 10), -1.0),
    "the first": lambda x: x.__setitem__((0, 0), -1.0),
    "nan": lambda x: x.fill(np.nan),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_change_of_a_shared_array_is_noticed(change: Callable[[Any], Any], order: Any) -> None:
    uses = lambda x: fg.asarray(x) * 2.5, lambda x: fg.constant(1.0, dtype="float64") + x
    for use in uses:
        array = np.array(np.arange(6000.0).reshape(2000, 3), order=order)
        y = use(array)
        change(array)
        with pytest.raises(DataError) as caught:
            y.numpy()
        assert "shares the memory of an array (float64[2000, 3])" in caught.value.asked
        assert "changed after" in caught.value.found
        assert "fg.constant" in caught.value.remedy
        y = use(array)
        np.testing.assert_array_equal(y.numpy().shape, (2000, 3))  # made anew, it is right again


def test_a_change_after_the_first_run_is_noticed_too() -> None:
    array = np.ones(1000)
    x = fg.asarray(array)
    assert float(fg.reduce_sum(x)) == 1000.0
    array += 1
    with pytest.raises(DataError):
        fg.reduce_sum(x * 2.5).numpy()


def test_a_change_of_a_copy_is_no_change() -> None:
    array = np.ones(1000)
    for tensor in (
        fg.constant(array),
        fg.asarray(array, dtype="float32"),
        fg.Variable(array),
        fg.asarray(array.tolist()),
    ):
        y = tensor * 2.5
        array += 1
        assert float(y[0]) == 2.5 * float(tensor[0])
        array[:] = 1


def test_arrays_that_nobody_can_change_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgraph import leaves

    monkeypatch.setattr(leaves, "_sample", lambda array: pytest.fail("it was looked at"))
    frozen = np.ones(1000)
    frozen.flags.writeable = False
    assert float(fg.reduce_sum(fg.asarray(frozen))) == 1000.0
    assert float(fg.reduce_sum(fg.asarray(np.ones(SHARED_BYTES // 8 - 1)))) == SHARED_BYTES // 8 - 1
    assert float(fg.reduce_sum(fg.constant(np.ones(1000)))) == 1000.0


# The cache of programs.


@pytest.mark.usefixtures("fresh_programs")
def test_a_changed_number_compiles_nothing() -> None:
    x = fg.constant([1.0, 2.0])
    (x * 0.1).numpy()
    before = COMPILED.misses, BINDINGS.misses
    for rate in (0.2, 0.3, 1e-9, 7, -3.5, np.float64(0.7)):
        np.testing.assert_allclose((x * rate).numpy(), np.array([1, 2], np.float32) * np.float32(rate))
    assert (COMPILED.misses, BINDINGS.misses) == before


@pytest.mark.usefixtures("fresh_programs")
@pytest.mark.parametrize("number", [-1, 0, 0.5, 1, 2])
def test_some_numbers_are_structure(number: float) -> None:
    x = fg.constant([3.0, 4.0])
    (x * 0.1).numpy()
    before = COMPILED.misses
    (x * number).numpy()
    assert COMPILED.misses == before + 1


@pytest.mark.usefixtures("fresh_programs")
def test_exponents_are_structure() -> None:
    x, before = fg.constant([3.0, 4.0]), COMPILED.misses
    for exponent in (2, 3, 0.5, -1.5):
        np.testing.assert_allclose((x**exponent).numpy(), np.array([3.0, 4.0]) ** exponent, rtol=1e-6)
    assert COMPILED.misses == before + 4


def test_zero_and_minus_zero_are_two_numbers() -> None:
    x = fg.constant([1.0, 2.0])
    assert np.signbit((x * -0.0).numpy()).all()
    assert not np.signbit((x * 0.0).numpy()).any()
    assert np.signbit((x * -0.0).numpy()).all()


@pytest.mark.usefixtures("fresh_programs")
def test_the_number_of_rows_compiles_nothing() -> None:
    w = fg.Variable(np.ones((3, 2), np.float32))
    before = COMPILED.misses, BINDINGS.misses
    for rows in (7, 8, 9, 100, 20_000):
        value = fg.reduce_mean(fg.constant(np.ones((rows, 3), np.float32)) @ w, axis=0)
        assert value.numpy().tolist() == [3.0, 3.0]
    assert (COMPILED.misses - before[0], BINDINGS.misses - before[1]) == (1, 5)


def test_types_and_attributes_are_structure() -> None:
    x = np.array([[1.5, -2.5], [3.5, 4.5]])
    for dtype in ("float32", "float64", "float32"):
        assert (fg.constant(x, dtype=dtype) * 2.5).dtype == np.dtype(dtype)
        assert (fg.constant(x, dtype=dtype) * 2.5).numpy().dtype == np.dtype(dtype)
    for axis in (0, 1, 0, None):
        np.testing.assert_array_equal(fg.constant(x).sum(axis=axis).numpy(), x.sum(axis=axis))
    assert fg.constant(x).T.sum(axis=0).numpy().tolist() == x.T.sum(axis=0).tolist()


@pytest.mark.usefixtures("fresh_programs")
def test_the_cache_holds_no_arrays() -> None:
    refs = []

    def work() -> None:
        array, weight = np.random.default_rng(0).standard_normal((500, 40)), fg.Variable(np.ones((40, 1)))
        loss = fg.reduce_mean(fg.square(fg.asarray(array) @ weight))
        step = fg.function(lambda x: fg.reduce_mean(fg.square(x @ weight)))
        assert float(loss) == float(step(array))
        refs.extend(map(weakref.ref, (array, weight.numpy(), weight, step)))

    work()
    gc.collect()
    assert [ref() for ref in refs] == [None] * 4
    assert len(COMPILED._entries) > 0


def test_the_cache_drops_what_was_used_least_recently() -> None:
    cache, made = Cache(size=2), []

    def get(key: str) -> str:
        return str(cache.get(key, lambda: (made.append(key), key.upper())[1]))

    assert [get(key) for key in ("a", "b", "a", "c", "a", "b")] == ["A", "B", "A", "C", "A", "B"]
    assert made == ["a", "b", "c", "b"]
    assert cache.misses == 4
    cache.clear()
    get("a")
    assert made[-1] == "a"


def test_an_entry_that_can_not_be_made_is_not_kept() -> None:
    cache = Cache(size=2)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 // 0)
    assert cache.get("a", lambda: 5) == 5


def test_equal_graphs_share_a_program(runs: list[Program]) -> None:
    for offset in (0.25, 0.75):
        x = fg.constant(np.ones((4, 2), np.float32) * offset)
        (fg.exp(x) @ x.T).numpy()
    assert runs[0] is runs[1]


# Small things.


def test_values_on_handles_die_with_them() -> None:
    y = fg.constant(np.ones(1000)) * 2.5
    ref = weakref.ref(y.numpy())
    del y
    gc.collect()
    assert ref() is None


def test_deep_graphs_need_no_deep_stack() -> None:
    y = fg.constant(1.0)
    for _ in range(900):
        y = y * 1.0001 + 0.5
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        value = float(y)
    finally:
        sys.setrecursionlimit(limit)
    assert value > 450


WITHOUT_SESSIONS = """
import sys, numpy as np, flowgraph as fg
@fg.function
def f(x):
    return fg.sum(fg.constant([1.0, 2.0], name="c") * fg.square(x, name="s"))
x = fg.Variable([1.0, 3.0])
assert f(x).numpy() == 19
assert fg.grad(lambda v: fg.sum(v * v))(x).tolist() == [2, 6]
assert fg.vmap(lambda v: v * 2)(fg.ones((2, 3))).shape == (2, 3)
assert fg.scan(lambda c, v: c + v, fg.constant([1.0, 2.0]), 0.0).tolist() == [1, 3]
assert fg.ones((2, 3)).get_shape().as_list() == [2, 3]
assert not hasattr(fg.ones(2), "op") and not hasattr(fg.ones(2), "name")
try:
    fg.ones(2).eval()
except fg.errors.UsageError as error:
    assert "no session" in str(error)
assert "flowgraph.session" not in sys.modules
"""


def test_programs_without_deferred_graphs_never_import_sessions() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_SESSIONS], check=True)


def test_reading_elements_one_by_one_makes_no_program_for_each() -> None:
    values = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    x = fg.constant(values)
    places = list(np.ndindex(3, 4))
    waiting = (x + 1)[0, 0] * 2  # one that is computed together with its operand
    assert float(waiting) == 2.0
    before = eager.COMPILED.misses
    y = x * 3
    unread = [y[place] for place in places]  # made while y is not known
    for place in places:
        z = x + 1
        assert float(z[place]) == values[place] + 1
        assert bool(y[place] == x[place] * 3)
    for place, one in zip(places, unread, strict=True):
        assert float(one + 1) == values[place] * 3 + 1
    assert eager.COMPILED.misses - before <= 4


def test_an_element_of_what_was_computed_has_a_gradient() -> None:
    x = fg.constant([1.0, 2.0, 3.0])
    with fg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        part = y[1]
        assert float(part) == 4.0
        total = part * y[2]
    assert tape.gradient(total, x).tolist() == [0.0, 36.0, 24.0]


def test_true_is_no_index() -> None:
    x = fg.constant([[1.0, 2.0], [3.0, 4.0]])
    assert x[1].shape == (2,)  # 1 equals True, and what was found for it is kept
    with pytest.raises(UsageError, match="indices are integers"):
        x[True]
    assert x[1:].shape == (1, 2)
    with pytest.raises(UsageError, match="indices are integers"):
        x[True:]
