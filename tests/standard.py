"""Calls that are drawn for flowgraph and for `array_api_strict`, and the comparison of what they give.

Operands are few, small and odd: empty axes, no axes, infinities, NaN, zeros of both signs. Where a result has a dtype
by default, ours is 32 bits wide and theirs 64, so only the kinds are compared.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache, reduce
from itertools import chain, product
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import strategies as st

import flowgraph as fg
from flowgraph.errors import FlowgraphError

FINITE = (0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.0, 7.0)
VALUES: dict[str, tuple[Any, ...]] = {
    "b": (False, True),
    "i": (-3, -1, 0, 1, 2, 5, 7),
    "u": (0, 1, 2, 5, 7),
    "f": (*FINITE, np.nan, np.inf, -np.inf),
    "c": tuple(complex(a, b) for a in FINITE for b in FINITE),
}
DTYPES = {
    "b": ("bool",),
    "i": ("int8", "int16", "int32", "int64"),
    "u": ("uint8", "uint16", "uint32", "uint64"),
    "f": ("float32", "float64"),
    "c": ("complex64", "complex128"),
}
REFUSALS = (ValueError, IndexError, np.linalg.LinAlgError)
"""What is wrong with lengths, axes and values. A TypeError of theirs says nothing: dtypes mix freely here."""

Draw = Callable[[Any], Any]
Case = tuple[tuple[Any, ...], dict[str, Any]]


# Drawing. A draw takes longer than most of the calls, so what can be one draw is one.


@cache
def kinds_of(kinds: str) -> Any:
    return st.sampled_from(kinds)


@cache
def dtypes(kinds: str) -> Any:
    return st.sampled_from([np.dtype(name) for kind in kinds for name in DTYPES[kind]])


@cache
def shapes(least: int = 0, most: int = 3, sides: Sequence[int] = range(4)) -> Any:
    """All shapes of so many axes with such lengths; each number of axes is as likely."""
    found = [[*product(sides, repeat=rank)] * len(sides) ** (most - rank) for rank in range(least, most + 1)]
    return st.sampled_from(list(chain(*found)))


@cache
def stretched_to(shape: tuple[int, ...], least: int) -> Any:
    """All shapes of at least so many axes that broadcast to `shape`; half of them is `shape` itself."""
    own = [shape[len(shape) - rank :] for rank in range(least, len(shape) + 1)]
    found = [
        tuple(1 if one else a for a, one in zip(some, ones, strict=True))
        for some in own
        for ones in product((0, 1), repeat=len(some))
    ]
    return st.sampled_from([shape] * len(found) + found)


def array(draw: Draw, kinds: str, shape: Any = None, *, finite: bool = False, least: int = 0) -> Any:
    """An array of odd values."""
    dtype = draw(dtypes(kinds))
    values = odd_values(dtype, finite)
    places = numbers(draw, draw(shapes(least)) if shape is None else shape, len(values))
    return np.asarray(values[places])


def numbers(draw: Draw, shape: Sequence[int], below: int) -> Any:
    """Whole numbers from 0 on."""
    count = math.prod(shape)
    return (np.frombuffer(draw(st.binary(min_size=count, max_size=count)), np.uint8) % below).reshape(shape)


@cache
def odd_values(dtype: np.dtype[Any], finite: bool) -> Any:
    return np.array(FINITE if finite and dtype.kind == "f" else VALUES[dtype.kind], dtype)


def several(draw: Draw, kinds: str, count: int, *, least: int = 0, **options: Any) -> list[Any]:
    """Arrays of one kind that broadcast together."""
    kind, shape = draw(kinds_of(kinds)), draw(shapes(least))
    return [array(draw, kind, draw(stretched_to(shape, least)), **options) for _ in range(count)]


def axis_of(draw: Draw, x: Any) -> int:
    """An axis, sometimes one that `x` has not."""
    return int(draw(st.integers(-x.ndim - 1, x.ndim)))


def axes_of(draw: Draw, x: Any) -> Any:
    """None, one axis or several; axes of what has none are refused here, and only by chance there."""
    if not x.ndim:
        return draw(st.sampled_from([None, ()]))
    if draw(st.booleans()):
        return draw(st.none() | st.just(axis_of(draw, x)))
    return tuple(draw(st.lists(st.integers(0, x.ndim - 1), unique=True, max_size=x.ndim)))


# Comparing.


def function(module: Any, name: str) -> Any:
    return reduce(getattr, name.split("."), module)


def given_to(module: Any, value: Any) -> Any:
    if isinstance(value, list):
        return [given_to(module, one) for one in value]
    if isinstance(value, np.dtype):
        return getattr(module, value.name)
    return module.asarray(value) if isinstance(value, np.ndarray) else value


def computed(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [computed(one) for one in value]
    if isinstance(value, fg.Tensor):
        return value.numpy()
    return np.asarray(value._array) if hasattr(value, "_array") else value


def call(module: Any, name: str, case: Case) -> Any:
    operands, attrs = case
    found = function(module, name)(
        *[given_to(module, one) for one in operands], **{key: given_to(module, one) for key, one in attrs.items()}
    )
    return computed(found)


def assert_same(found: Any, expected: Any, *, defaults: bool, signs: bool) -> None:
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, defaults=defaults, signs=signs)
        return
    assert found.shape == expected.shape
    assert found.dtype.kind == expected.dtype.kind
    assert defaults or found.dtype == expected.dtype
    if expected.dtype.kind not in "fc":
        np.testing.assert_array_equal(found, expected)
        return
    eps = max(np.finfo(found.dtype).eps, np.finfo(expected.dtype).eps)
    np.testing.assert_allclose(found, expected, rtol=200 * eps, atol=200 * eps)
    if signs and found.dtype.kind == "f":
        zero = expected == 0
        np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(expected[zero]))


def compare(name: str, case: Case, *, defaults: bool = False, signs: bool = False) -> None:
    """Both libraries give the same, or both refuse."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = call(strict, name, case)
    except TypeError:
        return
    except REFUSALS:
        with pytest.raises((FlowgraphError, *REFUSALS)):
            call(fg, name, case)
        return
    assert_same(call(fg, name, case), expected, defaults=defaults, signs=signs)
