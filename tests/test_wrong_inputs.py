"""Wrong inputs: each gives one error that says what was asked, what was found and what to do; none is numpy's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import walk
from test_ops import public_of

import flowgraph as fg
from flowgraph.errors import BoundsError, DTypeError, FlowgraphError, RunError, ShapeError, UsageError
from flowgraph.op import OPS, Op

X = fg.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
NONE = fg.zeros((0, 3))
INTS = fg.constant([1, 2])
SINGULAR = fg.zeros((2, 2))

CASES: dict[str, tuple[Callable[[], Any], type[FlowgraphError], str]] = {
    # Shapes that do not meet.
    "add": (lambda: X + fg.zeros(4), ShapeError, "length 3"),
    "matmul": (lambda: X @ fg.zeros((4, 2)), ShapeError, "length 3"),
    "concat": (lambda: fg.concat([X, fg.zeros((2, 2))], axis=0), ShapeError, "length 3"),
    "concat of none": (lambda: fg.concat([]), UsageError, "nothing to join"),
    "stack": (lambda: fg.stack([X, fg.zeros(3)]), ShapeError, "shapes differ"),
    "einsum": (lambda: fg.einsum("ij,jk", X, X), ShapeError, "lengths 3 and 2"),
    "einsum of two": (lambda: fg.einsum("ij", X, X), UsageError, "names 1 operands"),
    "broadcast_to": (lambda: fg.broadcast_to(X, (3, 3)), ShapeError, "length 2"),
    "split": (lambda: fg.split(X, 2, axis=1), ShapeError, "come out even"),
    "add_n": (lambda: fg.add_n([X, INTS]), ShapeError, "differ in shape"),
    # Impossible shapes.
    "reshape": (lambda: fg.reshape(X, (4, 2)), ShapeError, "6 elements"),
    "reshape to two unknowns": (lambda: fg.reshape(X, (-1, -1)), ShapeError, "two lengths -1"),
    "reshape to parts": (lambda: fg.reshape(X, (-1, 4)), ShapeError, "do not divide"),
    "reshape to -2": (lambda: fg.reshape(X, (-2, 3)), UsageError, "-2 is no length"),
    "zeros of -1": (lambda: fg.zeros((-1,)), UsageError, "-1 is no length"),
    "ones of 1.5": (lambda: fg.ones((2, 1.5)), UsageError, "1.5 is no length"),
    "eye": (lambda: fg.eye(-2), UsageError, "-2 is no length"),
    "linspace": (lambda: fg.linspace(0, 1, -3), UsageError, "-3 is no length"),
    "one_hot": (lambda: fg.one_hot([1], (2, 3)), UsageError, "no length"),
    "unsorted_segment_sum": (lambda: fg.unsorted_segment_sum(INTS, [0, 1], -1), UsageError, "no integer from 0"),
    "unsorted_segment_max": (lambda: fg.unsorted_segment_max(INTS, [0, 1], ()), UsageError, "no length"),
    "squeeze": (lambda: fg.squeeze(X, axis=0), ShapeError, "its length is 2"),
    "max_pool": (lambda: fg.nn.max_pool(fg.zeros((1, 4, 4, 1)), 1.5, 1, "VALID"), UsageError, "ksize"),
    # Axes and places.
    "axis beyond": (lambda: fg.sum(X, axis=2), BoundsError, "axes go from -2 to 1"),
    "axis twice": (lambda: fg.sum(X, axis=(0, 0)), UsageError, "occurs twice"),
    "axis twice, counted from the end": (lambda: fg.sum(X, axis=(0, -2)), UsageError, "occurs twice"),
    "axis by name": (lambda: fg.sum(X, axis="rows"), UsageError, "an axis is an integer"),
    "transpose": (lambda: fg.transpose(X, (0, 0)), UsageError, "named once"),
    "permute_dims": (lambda: fg.permute_dims(X, 1), UsageError, "no list"),
    "expand_dims": (lambda: fg.expand_dims(X, axis=5), BoundsError, "axes go from"),
    "index": (lambda: X[5], BoundsError, "lies outside"),
    "index of a known element": (lambda: X[0, -4], BoundsError, "lies outside"),
    "too many indices": (lambda: X[0, 0, 0], ShapeError, "has 2 axes"),
    "take": (lambda: fg.take(X, [7], axis=0), ShapeError, "length 2"),
    "fftn by an int": (lambda: fg.fft.fftn(X, axes=1), UsageError, "no list"),
    "fftn of a length": (lambda: fg.fft.fftn(X, s=4), UsageError, "no list"),
    "fft of no norm": (lambda: fg.fft.irfft(X, norm=["ortho"]), UsageError, "norm="),
    "tensordot": (lambda: fg.tensordot(X, X, axes=1.5), UsageError, "no list"),
    "tensordot of one list": (lambda: fg.tensordot(X, X, axes=([0],)), UsageError, "two tensors"),
    "diag": (lambda: fg.diag(INTS, k="1"), UsageError, "no integer"),
    "trace": (lambda: fg.trace(X, offset=None), UsageError, "no integer"),
    "triu": (lambda: fg.triu(X, k=1.5), UsageError, "no integer"),
    "diff": (lambda: fg.diff(INTS, n=[1]), UsageError, "no integer"),
    "gather": (lambda: fg.gather(X, [0], batch_dims={}), UsageError, "no integer"),
    # Reductions of nothing.
    "max": (lambda: fg.max(NONE), ShapeError, "there is none"),
    "min": (lambda: fg.min(NONE, axis=0), ShapeError, "there is none"),
    "argmax": (lambda: fg.argmax(fg.zeros(0)), ShapeError, "there is none"),
    "quantile": (lambda: fg.quantile(fg.zeros(0), 0.5), ShapeError, "at least one element"),
    # Values that are known and do not fit.
    "300 as int8": (lambda: fg.constant(300, "int8"), DTypeError, "can not hold"),
    "[300] as int8": (lambda: fg.asarray([1, 300], dtype="int8"), DTypeError, "can not hold"),
    "-1 as uint8": (lambda: fg.constant(-1, "uint8"), DTypeError, "can not hold"),
    "int8 + 300": (lambda: fg.constant([1], "int8") + 300, DTypeError, "can not hold"),
    "full of 300": (lambda: fg.full((2,), 300, dtype="int8"), DTypeError, "can not hold"),
    "1.5 as int8": (lambda: fg.constant(1.5, "int8"), DTypeError, "fractions"),
    "text": (lambda: fg.constant("text"), DTypeError, "not numbers"),
    "ragged": (lambda: fg.constant([[1], [2, 3]]), ShapeError, "different lengths"),
    "a dtype of no number": (lambda: fg.cast(X, "datetime64[s]"), DTypeError, "tensors hold"),
    "the dtype of a shape": (lambda: fg.shape(X, out_type=99), DTypeError, "tensors hold"),
    "quantiles of text": (lambda: fg.quantile(X, "half"), UsageError, "no real number"),
    "correction": (lambda: fg.std(X, correction=(1,)), UsageError, "no real number"),
    "label_smoothing": (
        lambda: fg.keras.losses.binary_crossentropy(X, X, label_smoothing=(1,)),
        UsageError,
        "it is a share",
    ),
    "huber": (lambda: fg.keras.losses.huber(X, X, delta=[1]), UsageError, "Give delta above 0"),
    "step 0": (lambda: fg.arange(0, 1, 0), UsageError, "never end"),
    "device": (lambda: fg.zeros(2, device=np.zeros(2)), UsageError, "only 'cpu'"),
    # What is no operand, no list, no function.
    "one_hot of floats": (lambda: fg.one_hot([1.0], 3), UsageError, "places are integers"),
    "shift of floats": (lambda: fg.bitwise_left_shift(X, 1), DTypeError, "places to shift"),
    "squared_difference": (lambda: fg.squared_difference(X, {}), DTypeError, "not numbers"),
    "add_n of a number": (lambda: fg.add_n(3), UsageError, "no list"),
    "global_norm": (lambda: fg.linalg.global_norm(3), UsageError, "no list"),
    "from_blocks": (lambda: fg.from_blocks(None), UsageError, "no list"),
    "from_dlpack": (lambda: fg.from_dlpack([1]), UsageError, "DLPack"),
    "custom_gradient": (lambda: fg.custom_gradient(X), UsageError, "can not be called"),
    "map_fn": (lambda: fg.map_fn(X, X), UsageError, "can not be called"),
    "scan": (lambda: fg.scan("add", X), UsageError, "can not be called"),
    "while_loop": (lambda: fg.while_loop(True, lambda x: x, X), UsageError, "can not be called"),
    "the turns of a while_loop": (
        lambda: fg.while_loop(lambda x: x < 1, lambda x: x, 0, maximum_iterations={}),
        UsageError,
        "no integer from 0",
    ),
    # What only a run can tell.
    "inv": (lambda: fg.linalg.inv(SINGULAR).numpy(), RunError, "Singular"),
    "solve": (lambda: fg.linalg.solve(SINGULAR, fg.ones(2)).numpy(), RunError, "Singular"),
    "cholesky": (lambda: fg.linalg.cholesky(-fg.eye(2)).numpy(), RunError, "positive definite"),
    "power": (lambda: np.asarray(INTS ** fg.constant([-1, 1])), RunError, "negative integer powers"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_input_is_refused_in_three_sentences(name: str) -> None:
    wrong, kind, words = CASES[name]
    with pytest.raises(kind) as raised:
        wrong()
    error = raised.value
    assert words in str(error)
    assert error.asked and error.found and error.remedy
    assert error.remedy[0].isupper() or error.remedy[0] == "`"


@pytest.mark.parametrize("name", ["inv", "solve", "cholesky"])
def test_what_fails_in_a_run_names_the_operation_and_the_line(name: str) -> None:
    with pytest.raises(RunError) as raised:
        CASES[name][0]()
    assert f"compute {name}" in raised.value.asked
    assert "test_wrong_inputs.py:" in raised.value.asked


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64"])
def test_integers_divided_by_zero_are_zero_without_a_warning(dtype: str) -> None:
    x, y = fg.constant([5, 6], dtype), fg.constant([0, 4], dtype)
    assert (x // y).tolist() == [0, 1]
    assert (x % y).tolist() == [0, 2]
    assert (x // 0).tolist() == [0, 0]


def test_functions_outside_their_domain_are_nan() -> None:
    """Also of numbers that are folded into the program: nan is not equal to itself, and no constant."""
    for function in (fg.acosh, fg.log, fg.sqrt):
        assert np.isnan(float(function(-1)))
        assert np.isnan(fg.function(lambda x, f=function: x + f(-1))(X).numpy()).all()


# Every op of the table with wrong operands and attributes.

DTYPES = ("bool", "int32", "uint8", "float32", "complex64")
JUNK = (None, "text", [[1], [2, 3]], {})
WRONG = (99, -99, (0, 0), (0, -99), 1.5, "text", None, -1, (), [[1]], {})


def changed(array: Any) -> Iterator[Any]:
    """`array` in other ranks, lengths and dtypes, and what is no array."""
    yield from (array[None], array.reshape(-1)[:1].reshape(()), np.zeros((3, 5, 7), array.dtype)) if array.size else ()
    yield from (array[:0], np.concatenate([array, array[:1]])) if array.ndim else ()
    with np.errstate(all="ignore"):
        yield from [array.real.astype(dtype) for dtype in DTYPES]
    yield from JUNK


def wrong_calls(op: Op, public: Any) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """Calls of an op with one thing changed."""
    sample = walk.samples(op)[0]
    arrays = sample.draw()
    if public is not op and any(one.dtype == np.uint64 for one in arrays):  # keys are nobody's arguments
        arrays = []
    signature = inspect.signature(public).parameters
    attrs = {name: value for name, value in sample.attrs.items() if public is op or name in signature}
    for index, array in enumerate(arrays):
        for other in changed(array):
            yield [*arrays[:index], other, *arrays[index + 1 :]], attrs
    fixed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for name, parameter in signature.items():
        if parameter.kind not in fixed and name != "seed":
            for value in WRONG:
                yield list(arrays), attrs | {name: value}


def is_wrong_call(error: TypeError) -> bool:
    """Whether Python itself refused a call of a function: too few, too many or unknown arguments."""
    return any(words in str(error) for words in ("positional argument", "keyword argument", "multiple values"))


@pytest.mark.parametrize("name", [name for name in OPS if public_of(name) is not None])
def test_an_op_works_or_refuses_in_its_own_words(name: str) -> None:
    public = public_of(name)
    for operands, attrs in wrong_calls(OPS[name], public):
        try:
            result = public(*[fg.constant(one) if isinstance(one, np.ndarray) else one for one in operands], **attrs)
            for one in result if isinstance(result, tuple | list) else (result,):
                assert one.numpy().shape == one.shape
        except FlowgraphError:
            continue
        except TypeError as error:
            assert is_wrong_call(error), f"{name}(*{operands}, **{attrs}): {error!r}"
