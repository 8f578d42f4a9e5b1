"""Variables, and traced functions."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph import eager
from flowgraph.context import ACTIVE
from flowgraph.errors import DataError, DTypeError, GradientError, RunError, ShapeError, UsageError
from flowgraph.graph import Node
from flowgraph.program import Program
from flowgraph.state import Function, trace_into
from flowgraph.tensor import Tensor


class Count:
    """Counts the calls of a method of a class while a test runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.calls = 0
        original = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Count:
    return Count(monkeypatch, Program, "run")


def count_tensors() -> int:
    gc.collect()
    return sum(isinstance(one, Node | Tensor) for one in gc.get_objects())


# Variables: what they are made of.


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(1.5, "float32"), (2, "int32"), (True, "bool"), ([1, 2], "int32"), (np.float64(2.0), "float64"),
     (np.arange(3, dtype=np.int16), "int16"), (fg.constant([1.0, 2.0]), "float32"), ([[1.0], [2.0]], "float32")],
)  # fmt: skip
def test_a_variable_has_the_dtype_of_its_value(value: Any, dtype: str) -> None:
    variable = fg.Variable(value)
    assert variable.dtype == np.dtype(dtype)
    assert variable.shape == np.shape(variable.numpy())
    np.testing.assert_array_equal(variable.numpy(), np.asarray(value))


def test_a_dtype_may_stand_in_the_place_of_trainable() -> None:
    variable = fg.Variable([1.0], np.float64)
    assert variable.dtype == np.float64
    assert variable.trainable
    assert fg.Variable([1.0], "float64").dtype == np.float64
    assert fg.Variable([1.0], np.float32, dtype=np.float64).dtype == np.float64
    assert not fg.Variable([1.0], False).trainable
    assert not fg.Variable([1.0], np.bool_(0)).trainable


def test_a_variable_can_be_made_by_a_function_or_of_a_variable() -> None:
    first = fg.Variable(lambda: fg.constant([1.0, 2.0]))
    second = fg.Variable(first, dtype="float64")
    first.assign([5.0, 6.0])
    assert second.numpy().tolist() == [1.0, 2.0]
    assert second.dtype == np.float64


def test_a_variable_checks_its_shape() -> None:
    assert fg.Variable([1.0, 2.0], shape=(2,)).shape == (2,)
    with pytest.raises(ShapeError, match=r"a variable of shape \(3,\)"):
        fg.Variable([1.0, 2.0], shape=(3,))


def test_names_occur_once() -> None:
    names = [fg.Variable(0.0, name="once").name for _ in range(3)]
    assert names == ["once", "once_1", "once_2"]
    taken = [fg.Variable(0.0, name=name).name for name in ("mine_1", "mine", "mine", "mine_1", "mine")]
    assert len(set(taken)) == 5
    assert taken[:2] == ["mine_1", "mine"]
    assert fg.Variable(0.0).name.startswith("Variable")


def test_names_occur_once_in_threads_too() -> None:
    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(lambda _: fg.Variable(0.0, name="threaded").name, range(200)))
    assert len(set(names)) == 200


# Variables: assignment.


def test_assignments() -> None:
    variable = fg.Variable([1.0, 2.0])
    assert variable.assign([3, 4]) is variable
    assert variable.numpy().tolist() == [3.0, 4.0]
    assert variable.assign_add([1.0, 1.0]).numpy().tolist() == [4.0, 5.0]
    assert variable.assign_sub(fg.constant([0.5, 0.5])).numpy().tolist() == [3.5, 4.5]
    assert variable.assign(variable * 2).numpy().tolist() == [7.0, 9.0]
    assert variable.assign(fg.Variable([0.0, 1.0])).numpy().tolist() == [0.0, 1.0]
    assert variable.assign(np.array([1.0, 2.0])).numpy().tolist() == [1.0, 2.0]
    assert variable.dtype == np.float32


def test_a_number_keeps_its_precision() -> None:
    assert fg.Variable(0.0, dtype="float64").assign(0.1).numpy() == 0.1
    assert fg.Variable(0.0, dtype="float64").assign(1e300).numpy() == 1e300
    assert fg.Variable([0, 0], dtype="int64").assign([2**40, 1]).numpy().tolist() == [2**40, 1]
    assert fg.Variable(0, dtype="uint8").assign(200).numpy() == 200


@pytest.mark.parametrize("value", [[1.0], 1.0, np.zeros((2, 1)), [[1.0, 2.0]], fg.constant([1.0, 2.0, 3.0])])
def test_a_value_of_another_shape_is_refused(value: Any) -> None:
    variable = fg.Variable([1.0, 2.0], name="pair")
    with pytest.raises(ShapeError, match="'pair"):
        variable.assign(value)
    assert variable.numpy().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [fg.constant([1, 2]), fg.constant([1.0, 2.0], dtype="float64"), fg.Variable([1, 2])])
def test_a_tensor_of_another_dtype_is_refused(value: Any) -> None:
    with pytest.raises(DTypeError, match="Cast the value"):
        fg.Variable([1.0, 2.0]).assign(value)


@pytest.mark.parametrize("value", [[1.5, 2.5], 1.5, np.array([1.0, 2.0])])
def test_real_numbers_are_not_cut_to_integers(value: Any) -> None:
    with pytest.raises((DTypeError, ShapeError)):
        fg.Variable([1, 2]).assign(value)
    with pytest.raises(DTypeError):
        fg.Variable(1).assign_add(1.5)


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DTypeError):
        fg.Variable(1, dtype="int8").assign(300)
    with pytest.raises(DTypeError):
        fg.Variable([1, 2], dtype="uint8").assign([1, -1])
    with pytest.raises(ShapeError):
        fg.Variable([1.0]).assign([[1.0], [1.0, 2.0]])
    with pytest.raises(DTypeError):
        fg.Variable(1.0).assign("one")


def test_a_variable_shares_no_memory_with_what_it_was_given() -> None:
    array = np.zeros(3)
    made, assigned, of_tensor = fg.Variable(array), fg.Variable(np.ones(3)), fg.Variable(np.ones(3))
    assigned.assign(array)
    of_tensor.assign(fg.asarray(array))
    array[:] = 7
    for variable in (made, assigned, of_tensor):
        assert variable.numpy().tolist() == [0.0, 0.0, 0.0]


def test_reading_gives_the_value_of_that_moment() -> None:
    variable = fg.Variable(1.0)
    before, later = variable.value(), variable * 10
    variable.assign(2.0)
    assert float(before) == 1.0
    assert float(later) == 10.0
    assert float(variable.read_value()) == 2.0


def test_a_value_is_one_tensor_until_it_is_replaced() -> None:
    variable = fg.Variable(1.0)
    assert variable.value() is variable.value()
    first = variable.value()
    variable.assign(1.0)
    assert variable.value() is not first


# Variables: as tensors, as arrays.

V = fg.Variable([[1.0, -2.0], [3.0, 4.0]])
A = V.numpy().copy()
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "x + 1": lambda x: x + 1, "1 + x": lambda x: 1 + x, "x - 2": lambda x: x - 2, "2 - x": lambda x: 2 - x,
    "x * x": lambda x: x * x, "3 * x": lambda x: 3 * x, "x / 2": lambda x: x / 2, "2 / x": lambda x: 2 / x,
    "x ** 2": lambda x: x**2, "2 ** x": lambda x: 2**x, "x @ x": lambda x: x @ x, "-x": lambda x: -x,
    "+x": lambda x: +x, "abs": abs, "<": lambda x: x < 2, "<=": lambda x: x <= 1, ">": lambda x: x > 2,
    ">=": lambda x: x >= 3,
    "==": lambda x: x == 3, "!=": lambda x: x != 3, "x[0]": lambda x: x[0], "x[:, 1]": lambda x: x[:, 1],
    "T": lambda x: x.T, "sum": lambda x: x.sum(), "mean": lambda x: x.mean(axis=0), "max": lambda x: x.max(),
    "reshape": lambda x: x.reshape(4), "astype": lambda x: x.astype("float64"), "np.add": lambda x: np.add(x, 1),
    "array + x": lambda x: np.ones((2, 2), np.float32) + x, "array @ x": lambda x: A @ x, "np.sum": np.sum,
    "np.exp": np.exp, "rows": lambda x: [row * 1 for row in x][1],
}  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_a_variable_can_be_used_like_its_value(operation: Callable[[Any], Any]) -> None:
    got = operation(V)
    assert isinstance(got, Tensor)
    np.testing.assert_allclose(got.numpy(), operation(A), rtol=1e-6)


def test_conditions_of_variables() -> None:
    flags = fg.Variable([True, False])
    assert (flags & [True, True]).numpy().tolist() == [True, False]
    assert (fg.constant([False, False]) | flags).numpy().tolist() == [True, False]
    assert (~flags).numpy().tolist() == [False, True]


def test_a_variable_as_a_python_number() -> None:
    variable = fg.Variable(2.5)
    assert (float(variable), int(variable), complex(variable), bool(variable)) == (2.5, 2, 2.5 + 0j, True)
    assert ["a", "b", "c"][fg.Variable(1)] == "b"
    assert f"{variable:.3f}" == "2.500"
    assert len(V) == 2
    with pytest.raises(UsageError):
        len(variable)


def test_numpy_takes_a_variable() -> None:
    np.testing.assert_array_equal(np.asarray(V), A)
    assert np.asarray(V, dtype=np.float64).dtype == np.float64
    copied = np.array(V)
    copied[0, 0] = 100
    assert float(V[0, 0]) == 1.0


def test_there_are_no_operators_in_place() -> None:
    variable = fg.Variable([1.0, 2.0])
    assert not [
        name for name in ("iadd", "isub", "imul", "itruediv", "ipow", "imatmul") if hasattr(variable, f"__{name}__")
    ]
    name = variable
    name += 1  # makes a tensor, as with every class that has none
    assert isinstance(name, Tensor)
    assert variable.numpy().tolist() == [1.0, 2.0]


def test_variables_are_told_apart_by_identity() -> None:
    one, other = fg.Variable(1.0), fg.Variable(1.0)
    assert len({one, other, one}) == 2
    with pytest.raises(AttributeError):
        one.no_such_method  # noqa: B018


def test_the_text_of_a_variable() -> None:
    assert repr(fg.Variable([1.5], name="text")).endswith(
        "shape=(1,) dtype=float32, numpy=array([1.5], dtype=float32)>"
    )
    assert repr(fg.Variable(2, name="text")).endswith("shape=() dtype=int32, numpy=2>")
    seen: list[str] = []
    fg.function(lambda: seen.append(repr(V)))()
    assert seen[0].endswith("symbolic>")


@pytest.mark.parametrize("clone", [lambda v: pickle.loads(pickle.dumps(v)), copy.deepcopy, copy.copy])
def test_a_copy_of_a_variable_is_another_variable(clone: Callable[[Any], Any]) -> None:
    variable = fg.Variable(np.array([1.0, 2.0]), trainable=False, name="original")
    other = clone(variable)
    variable.assign([5.0, 6.0])
    assert other.numpy().tolist() == [1.0, 2.0]
    assert (other.dtype, other.trainable) == (np.float64, False)
    assert other.name != variable.name


# Variables under a tape.


def test_a_tape_watches_trainable_variables_only() -> None:
    w, fixed, count = fg.Variable(2.0), fg.Variable(3.0, trainable=False), fg.Variable(4)
    with fg.GradientTape(persistent=True) as tape:
        y = w * fixed * fg.cast(count, "float32")
    assert float(tape.gradient(y, w)) == 12.0
    assert tape.gradient(y, fixed) is None
    assert tape.watched_variables() == (w,)
    with fg.GradientTape() as tape:
        tape.watch(fixed)
        y = w * fixed
    assert float(tape.gradient(y, fixed)) == 2.0


def test_a_tape_that_watches_nothing_by_itself() -> None:
    w = fg.Variable(2.0)
    with fg.GradientTape(watch_accessed_variables=False) as tape:
        y = w * w
    assert tape.gradient(y, w) is None


# Functions: tracing.


def traced_with(log: list[Any]) -> Function:
    @fg.function
    def double(x: Any, *rest: Any, **named: Any) -> Any:
        log.append((x, rest, named))
        return x * 2.5

    assert isinstance(double, Function)
    return double


def test_a_function_is_traced_once_for_each_signature() -> None:
    log: list[Any] = []
    double = traced_with(log)
    vector = fg.constant([1.0, 2.0])
    for _ in range(3):
        assert double(vector).numpy().tolist() == [2.5, 5.0]
    assert double(np.array([3.0, 4.0], np.float32)).numpy().tolist() == [7.5, 10.0]
    assert double(vector * 2).numpy().tolist() == [5.0, 10.0]
    assert len(log) == 1
    signatures: list[Any] = [
        (fg.constant([1.0, 2.0, 3.0]),), (fg.constant([1, 2]),), (fg.constant([[1.0, 2.0]]),), (vector, 1),
        (vector, 1.0), (vector, True), (vector, "one"), (vector, None), (vector, vector), (vector, (vector,)),
        (vector, [vector]), (vector, {"a": vector}),
        (vector, {"b": vector}), (vector, 0.0), (vector, -0.0),
        (vector, float("nan")),
        (vector, MappingProxyType({"a": 1})), (vector, MappingProxyType({"b": 1})), (vector, V),
    ]  # fmt: skip
    for number, signature in enumerate(signatures, 2):
        double(*signature)
        double(*signature)
        assert len(log) == number, signature
    double(vector, scale=1)
    double(vector, scale=1)
    assert len(log) == len(signatures) + 2


def test_side_effects_happen_while_tracing(capsys: pytest.CaptureFixture[str]) -> None:
    @fg.function
    def noisy(x: Any) -> Any:
        print("tracing")  # noqa: T201
        return x + 1

    noisy(fg.constant(1.0))
    noisy(fg.constant(2.0))
    assert capsys.readouterr().out == "tracing\n"


def test_one_program_serves_all_numbers_of_rows() -> None:
    @fg.function
    def loss(x: Any, w: Any) -> Any:
        return fg.reduce_mean(fg.square(x @ w))

    w = np.ones((3, 1), np.float32)
    loss(np.ones((4, 3), np.float32), w)
    before = eager.COMPILED.misses
    for rows in (5, 6, 50, 5000):
        assert float(loss(np.ones((rows, 3), np.float32), w)) == 9.0
    assert eager.COMPILED.misses == before
    assert len({id(one.entry.program) for one in loss.traces.values()}) == 1


Pair = namedtuple("Pair", "first second")


def test_nested_structures() -> None:
    @fg.function
    def mixed(tree: Any, scale: float, *, flag: bool) -> Any:
        total = tree["pair"].first + tree["list"][0] * scale
        return {
            "total": total,
            "none": None,
            "pair": Pair(total, [tree["list"][1], (None, total * 2.0)]),
            "flag": int(flag),
        }

    tree = {"pair": Pair(fg.constant(1.0), "text"), "list": [fg.constant(2.0), np.float32(3.0)]}
    out = mixed(tree, 10.0, flag=True)
    assert list(out) == ["total", "none", "pair", "flag"]
    assert out["none"] is None
    assert isinstance(out["pair"], Pair)
    assert isinstance(out["pair"].second, list)
    assert isinstance(out["pair"].second[1], tuple)
    assert out["pair"].second[1][0] is None
    assert [float(one) for one in (out["total"], out["pair"].second[0], out["pair"].second[1][1], out["flag"])] == [
        21,
        3,
        42,
        1,
    ]


def test_a_function_may_return_nothing() -> None:
    assert fg.function(lambda x: None)(fg.constant(1.0)) is None
    assert fg.function(lambda: None)() is None
    assert fg.function(lambda x: [])(fg.constant(1.0)) == []


def test_keywords_and_defaults() -> None:
    @fg.function
    def difference(x: Any, y: Any = 10.0, *, z: Any = None) -> Any:
        return x - y if z is None else x - y - z

    one = fg.constant(1.0)
    assert float(difference(one)) == -9.0
    assert float(difference(y=one, x=fg.constant(5.0))) == 4.0
    assert float(difference(fg.constant(5.0), one, z=one)) == 3.0
    assert difference.__name__ == "difference"


def test_arguments_that_can_not_be_told_apart_are_refused() -> None:
    with pytest.raises(UsageError, match="neither a tensor nor hashable"):
        fg.function(lambda x, s: x)(fg.constant(1.0), {1, 2})


def test_what_is_no_tensor_can_not_be_returned() -> None:
    with pytest.raises(DTypeError):
        fg.function(lambda x: "text")(fg.constant(1.0))
    assert ACTIVE.traces == []


def test_a_returned_argument_is_a_copy() -> None:
    array = np.zeros(5)
    for function in (fg.function(lambda x: x), fg.function(lambda x: x, scheduler="sync")):
        result = function(array)
        assert not np.shares_memory(result.numpy(), array)


# Functions: what they take from outside.


def test_a_captured_tensor_keeps_its_value() -> None:
    waiting, known = fg.constant([1.0, 2.0]) * 3.5, fg.constant([1.0, 1.0])
    add = fg.function(lambda x: x + waiting + known)
    assert add(fg.constant([0.0, 0.0])).numpy().tolist() == [4.5, 8.0]
    assert waiting.numpy().tolist() == [3.5, 7.0]
    assert add(fg.constant([1.0, 1.0])).numpy().tolist() == [5.5, 9.0]


def test_a_captured_draw_is_the_one_that_was_made() -> None:
    noise = fg.random.normal([3])  # not computed yet when the function is traced
    same = fg.function(lambda x: x + noise)
    zero = fg.constant([0.0, 0.0, 0.0])
    first, second = same(zero).numpy(), same(zero).numpy()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, noise.numpy())


def test_a_captured_variable_is_read_when_the_function_is_called() -> None:
    v = fg.Variable(2.0)
    scale = fg.function(lambda x: x * v)
    assert float(scale(fg.constant(3.0))) == 6.0
    v.assign(10.0)
    assert float(scale(fg.constant(3.0))) == 30.0


def test_a_captured_value_of_a_variable_does_not_change() -> None:
    v = fg.Variable(2.0)
    old = v.value() * 1.5
    scale = fg.function(lambda x: x * old)
    v.assign(10.0)
    assert float(scale(fg.constant(1.0))) == 3.0


def test_a_captured_array_must_not_change() -> None:
    array = np.ones(1000)
    total = fg.function(lambda x: fg.reduce_sum(x * array))
    assert float(total(fg.constant(2.0, dtype="float64"))) == 2000.0
    array[:] = 5
    with pytest.raises(DataError, match="changed after"):
        total(fg.constant(2.0, dtype="float64"))


def test_numbers_in_a_function_are_part_of_it() -> None:
    scale = 2.0
    function = fg.function(lambda x: x * scale)
    assert float(function(fg.constant(1.0))) == 2.0
    scale = 3.0
    assert float(function(fg.constant(1.0))) == 2.0


# Functions: variables.


def test_assignments_take_effect_together_when_the_call_ends() -> None:
    a, b = fg.Variable(1.0), fg.Variable(2.0)

    @fg.function
    def swap() -> None:
        old = a.value()
        a.assign(b)
        b.assign(old)

    swap()
    assert (float(a), float(b)) == (2.0, 1.0)
    swap()
    assert (float(a), float(b)) == (1.0, 2.0)


def test_a_function_sees_its_own_assignments() -> None:
    v = fg.Variable(1.0)

    @fg.function
    def count() -> Any:
        before = v.value()
        v.assign_add(1.0)
        v.assign_add(v * 10.0)
        return before, v.value(), v

    results = count()
    assert [float(one) for one in results] == [1.0, 22.0, 22.0]
    assert float(v) == 22.0


def test_a_call_that_fails_assigns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = dict(fg.OPS)
    fails = fg.define("fails_in_session", "... -> ...", lambda x: 1 // 0, gradient=lambda g, out, x: (g,), doc="Fails.")
    try:
        a, b = fg.Variable(1.0), fg.Variable(2.0)

        @fg.function
        def update() -> None:
            a.assign(5.0)
            b.assign(fails(b.value()))

        for tape in (False, True):
            with pytest.raises(RunError):
                if tape:
                    with fg.GradientTape():
                        update()
                else:
                    update()
            assert (float(a), float(b)) == (1.0, 2.0)
    finally:
        fg.OPS.clear()
        fg.OPS.update(ops)


def test_a_variable_is_itself_as_an_argument() -> None:
    v, w = fg.Variable(3.0), fg.Variable(4.0)

    @fg.function
    def grow(variable: Any, x: Any) -> Any:
        with fg.GradientTape() as tape:
            y = variable * variable * x
        variable.assign_add(1.0)
        return tape.gradient(y, variable)

    one = fg.constant(1.0)
    assert float(grow(v, one)) == 6.0
    assert float(grow(v, one)) == 8.0
    assert float(grow(w, one)) == 8.0
    assert (float(v), float(w)) == (5.0, 5.0)


def test_a_variable_made_while_tracing_is_made_once() -> None:
    made: list[Any] = []

    @fg.function
    def counter() -> Any:
        if not made:
            made.append(fg.Variable(0.0))
        return made[0].assign_add(1.0).value()

    assert [float(counter()) for _ in range(3)] == [1.0, 2.0, 3.0]


def test_assignments_in_a_trace_check_shapes_and_dtypes() -> None:
    v = fg.Variable([1.0, 2.0])
    with pytest.raises(ShapeError):
        fg.function(v.assign)(fg.constant([1.0]))
    with pytest.raises(DTypeError):
        fg.function(v.assign)(fg.constant([1, 2]))
    assert ACTIVE.traces == []
    assert v.numpy().tolist() == [1.0, 2.0]


# Functions: methods.


class Model:
    def __init__(self, weight: float) -> None:
        self.weight = fg.Variable(weight)
        self.traces = 0

    @fg.function
    def __call__(self, x: Any) -> Any:
        self.traces += 1
        return x * self.weight

    @fg.function
    def train(self, x: Any) -> Any:
        return self.weight.assign_sub(x).value()


def test_methods_belong_to_their_instance() -> None:
    one, other = Model(2.0), Model(5.0)
    x = fg.constant(3.0)
    assert [float(model(x)) for model in (one, other, one, other)] == [6.0, 15.0, 6.0, 15.0]
    assert (one.traces, other.traces) == (1, 1)
    assert float(one.train(x)) == -1.0
    assert float(one(x)) == -3.0
    assert float(other(x)) == 15.0


@dataclass(frozen=True)
class Scaled:
    """Two of these may be equal."""

    name: str
    factor: Any

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    @fg.function
    def apply(self, x: Any) -> Any:
        return x * self.factor


class Slotted:
    __slots__ = ("factor",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, factor: float) -> None:
        self.factor = factor

    @fg.function
    def apply(self, x: Any) -> Any:
        return x * self.factor


@pytest.mark.parametrize("make", [lambda f: Scaled("same", f), Slotted])
def test_methods_of_equal_and_of_odd_instances(make: Any) -> None:
    objects = [make(2.0), make(3.0)]
    x = fg.constant(1.0)
    assert [float(one.apply(x)) for one in (*objects, *objects)] == [2.0, 3.0, 2.0, 3.0]


def test_an_instance_goes_with_its_traces() -> None:
    model = Model(2.0)
    model(fg.constant(1.0))
    bound, ref = model.train, weakref.ref(model)
    assert float(bound(fg.constant(0.5))) == 1.5
    del model
    gc.collect()
    assert ref() is not None  # the bound method holds it
    del bound
    gc.collect()
    assert ref() is None
    assert not Model.__dict__["train"]._of_instances


def test_a_function_on_the_class_takes_the_instance() -> None:
    assert isinstance(Model.train, Function)
    assert float(Model.train(Model(1.0), fg.constant(0.25))) == 0.75


# Functions in functions, and under tapes.


def test_functions_in_functions() -> None:
    log: list[str] = []

    @fg.function
    def inner(x: Any) -> Any:
        log.append("inner")
        return x * x

    @fg.function
    def outer(x: Any) -> Any:
        log.append("outer")
        return inner(x) + inner(x + 1.0)

    assert float(outer(fg.constant(3.0))) == 25.0
    assert float(outer(fg.constant(4.0))) == 41.0
    assert log == ["outer", "inner"]


def test_a_function_inside_may_use_what_is_outside_it() -> None:
    @fg.function
    def outer(x: Any) -> Any:
        y = x * 2.5
        noise = fg.random.normal([2])

        @fg.function
        def inner(z: Any) -> Any:
            return z + y, noise

        total, again = inner(x)
        return total, noise - again

    for value in (1.0, 2.0):
        total, nothing = outer(fg.constant([value, value]))
        assert total.numpy().tolist() == [3.5 * value, 3.5 * value]
        assert nothing.numpy().tolist() == [0.0, 0.0]


def test_variables_in_functions_in_functions() -> None:
    v = fg.Variable(1.0)

    @fg.function
    def inner() -> Any:
        return v.assign_add(1.0).value()

    @fg.function
    def outer() -> Any:
        first = inner()
        v.assign(v * 10.0)
        return first, inner()

    first, second = outer()
    assert (float(first), float(second), float(v)) == (2.0, 21.0, 21.0)


def test_gradients_flow_through_functions() -> None:
    w = fg.Variable(3.0)

    @fg.function
    def cube(x: Any) -> Any:
        return w * x * x * x

    x = fg.constant(2.0)
    with fg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = cube(x) * 2
    assert (float(tape.gradient(y, x)), float(tape.gradient(y, w))) == (72.0, 16.0)
    assert float(fg.grad(fg.grad(cube))(2.0)) == 36.0
    assert float(cube(x)) == 24.0


def test_a_gradient_inside_a_function_and_a_tape_around_it() -> None:
    w = fg.Variable(3.0)

    @fg.function
    def slope() -> Any:
        with fg.GradientTape() as tape:
            y = w * w * w
        return tape.gradient(y, w)

    assert float(slope()) == 27.0
    with fg.GradientTape() as tape:
        s = slope()
    assert float(tape.gradient(s, w)) == 18.0


def test_a_tape_from_outside_does_not_see_the_trace() -> None:
    w = fg.Variable(2.0)
    log: list[int] = []

    @fg.function
    def square(x: Any) -> Any:
        log.append(len(ACTIVE.tapes))
        return x * w

    with fg.GradientTape() as tape:
        y = square(fg.constant(5.0))
    assert log == [0]
    assert float(tape.gradient(y, w)) == 5.0


def test_a_result_of_a_function_has_forgotten_its_past() -> None:
    w = fg.Variable(2.0)
    y = fg.function(lambda: w * w)()
    with pytest.raises(GradientError, match="GradientTape"):
        fg.gradient(y * 2.0, w)


# Functions: random draws.


def test_draws_are_new_in_every_call() -> None:
    draw = fg.function(lambda: (fg.random.normal([4]), fg.random.uniform([4])))
    values = [one.numpy().tolist() for _ in range(3) for one in draw()]
    assert len({tuple(one) for one in values}) == 6


def test_draws_can_be_repeated() -> None:
    draw = fg.function(lambda: fg.random.normal([4]))
    draw()
    runs_of = []
    for _ in range(2):
        fg.set_seed(5)
        runs_of.append([draw().numpy().tolist() for _ in range(3)])
    assert runs_of[0] == runs_of[1]
    seeded = fg.function(lambda: fg.random.normal([4], seed=3))
    assert seeded().numpy().tolist() == seeded().numpy().tolist() == fg.random.normal([4], seed=3).numpy().tolist()


def test_draws_are_new_in_functions_in_functions_and_under_tapes() -> None:
    draw = fg.function(lambda: fg.random.normal([4]))
    twice = fg.function(lambda: (draw(), draw()))
    values = [one.numpy().tolist() for _ in range(2) for one in twice()]
    with fg.GradientTape():
        values += [draw().numpy().tolist() for _ in range(2)]
    assert len({tuple(one) for one in values}) == 6


# Functions: errors leave nothing behind.


def use_numpy(x: Any) -> Any:
    return x.numpy()


def use_bool(x: Any) -> Any:
    return x if x > 1 else -x


def use_float(x: Any) -> Any:
    return float(x)


def use_asarray(x: Any) -> Any:
    return np.asarray(x)


def use_format(x: Any) -> Any:
    raise ValueError(f"{x} {x!r}")


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (use_numpy, UsageError, "while|being traced"),
        (use_bool, UsageError, "fg.where"),
        (use_float, UsageError, "being traced"),
        (use_asarray, UsageError, "being traced"),
        (use_format, ValueError, "symbolic"),
        (lambda x: x @ x, ShapeError, "scalar"),
        (lambda x: {}["missing"], KeyError, "missing"),
    ],
)
def test_an_error_while_tracing_leaves_nothing_behind(function: Any, error: Any, text: str) -> None:
    v = fg.Variable(1.0)
    traced = fg.function(lambda x: (v.assign(9.0), function(x)))
    with fg.GradientTape() as tape:
        for _ in range(2):
            with pytest.raises(error, match=text):
                traced(fg.constant(2.0))
        assert ACTIVE.tapes == [tape]
    assert ACTIVE.traces == []
    assert ACTIVE.tapes == []
    assert ACTIVE.where is None
    assert traced.traces == {}
    assert float(v) == 1.0
    assert float(fg.constant(2.0) * 3.0) == 6.0


def test_a_tape_that_fails_inside_a_trace_is_closed() -> None:
    def broken(x: Any) -> Any:
        with fg.GradientTape():
            raise ArithmeticError("stop")

    with pytest.raises(ArithmeticError):
        fg.function(broken)(fg.constant(1.0))
    assert ACTIVE.tapes == []


def test_a_tensor_that_escapes_a_trace_says_so() -> None:
    escaped: list[Any] = []
    fg.function(lambda x: escaped.append(x * 2.5))(fg.constant(1.0))
    with pytest.raises(UsageError, match="Return the tensor from the function"):
        escaped[0].numpy()
    assert "symbolic" in repr(escaped[0])
    with pytest.raises(UsageError, match="being traced"):
        fg.function(lambda x: x + escaped[0])(fg.constant(1.0))
    assert ACTIVE.traces == []


def test_a_trace_is_its_thread_s_own() -> None:
    entered, checked = threading.Event(), threading.Event()
    seen: list[Any] = []

    def slow(x: Any) -> Any:
        entered.set()
        assert checked.wait(30)
        return x + 1

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(lambda: float(fg.function(slow)(fg.constant(1.0))))
        assert entered.wait(30)
        seen += [list(ACTIVE.traces), float(V[0, 0])]
        checked.set()
        assert result.result() == 2.0
    assert seen == [[], 1.0]


def test_traces_are_left_in_order() -> None:
    from flowgraph.state import Trace

    outer, inner = Trace(), Trace()
    with trace_into(outer):
        with trace_into(inner):
            assert ACTIVE.traces == [outer, inner]
        assert ACTIVE.traces == [outer]
    assert ACTIVE.traces == []


# Functions: how they run.


def test_a_call_is_one_run(runs: Count) -> None:
    v = fg.Variable(np.ones(3, np.float32))

    @fg.function
    def step(x: Any) -> Any:
        loss = fg.reduce_sum(fg.square(x * v))
        v.assign_sub(x * 0.1)
        return loss, fg.exp(x)

    x = fg.constant([1.0, 2.0, 3.0])
    step(x)
    before = runs.calls
    loss, e = step(x)
    assert runs.calls == before + 1
    loss.numpy(), e.numpy(), v.numpy()
    assert runs.calls == before + 1


def test_a_function_runs_where_it_is_told_to(runs: Count) -> None:
    called: list[int] = []

    def get(graph: Any, keys: Any, **kwargs: Any) -> Any:
        from dask.local import get_sync

        called.append(len(graph))
        return get_sync(graph, keys, **kwargs)

    double = fg.function(scheduler=get)(lambda x: x * 2.5)
    assert double(fg.constant([1.0, 2.0])).numpy().tolist() == [2.5, 5.0]
    assert called


def test_the_program_of_a_function_can_be_looked_at() -> None:
    program = fg.function(fg.tanh).program(fg.constant([1.0]))
    assert "tanh(" in program.source()


def test_a_long_loop_of_calls_does_not_grow() -> None:
    v = fg.Variable(np.zeros(10, np.float32))
    step = fg.function(lambda x: v.assign_add(x).value() * 2)
    x = fg.constant(np.ones(10, np.float32))
    for _ in range(20):
        step(x)
    before = count_tensors()
    for _ in range(200):
        step(x)
    assert count_tensors() - before < 10
    assert len(step.traces) == 1


def test_the_order_of_keys_matters_to_the_result_only() -> None:
    total = fg.function(lambda d: d["a"] - d["b"])
    a, b = fg.constant(5.0), fg.constant(3.0)
    assert float(total({"a": a, "b": b})) == float(total(OrderedDict(b=b, a=a))) == 2.0
