"""The functions of the array API standard against `array_api_strict`: values, shapes, dtypes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from standard import Case, Draw, array, axes_of, axis_of, compare, dtypes, numbers, several, shapes

# Element by element.

UNARY = {
    **dict.fromkeys("abs negative positive sign square".split(), "iufc"),
    **dict.fromkeys("acos acosh asin asinh atan atanh cos cosh exp expm1 log log10 log1p log2".split(), "fc"),
    **dict.fromkeys("reciprocal sin sinh sqrt tan tanh".split(), "fc"),
    **dict.fromkeys("ceil floor round trunc".split(), "iuf"),
    **dict.fromkeys("isfinite isinf isnan".split(), "iufc"),
    **dict.fromkeys("conj imag real".split(), "c"),
    "bitwise_invert": "biu",
    "logical_not": "b",
    "signbit": "f",
}
BINARY = {
    **dict.fromkeys("add multiply subtract equal not_equal".split(), "iufc"),
    **dict.fromkeys("atan2 copysign hypot logaddexp nextafter".split(), "f"),
    **dict.fromkeys("bitwise_and bitwise_or bitwise_xor".split(), "biu"),
    **dict.fromkeys("greater greater_equal less less_equal maximum minimum remainder floor_divide".split(), "iuf"),
    **dict.fromkeys("logical_and logical_or logical_xor".split(), "b"),
    "divide": "fc",
    "pow": "iuf",
}


@pytest.mark.parametrize("name", UNARY)
@settings(max_examples=15)
@given(data=st.data())
def test_of_one_operand(name: str, data: Any) -> None:
    compare(name, ((array(data.draw, UNARY[name]),), {}), signs=True)


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=20)
@given(data=st.data())
def test_of_two_operands(name: str, data: Any) -> None:
    finite = name == "floor_divide"  # with infinities numpy does not follow the standard
    compare(name, (tuple(several(data.draw, BINARY[name], 2, finite=finite)), {}), signs=True)


@pytest.mark.parametrize("name", ["bitwise_left_shift", "bitwise_right_shift"])
@settings(max_examples=20)
@given(data=st.data())
def test_shifts(name: str, data: Any) -> None:
    x, y = several(data.draw, "iu", 2)
    compare(name, ((x, np.abs(y)), {}))


# All others: how a call of each is drawn.


def _one(kinds: str, **options: Any) -> Callable[[Draw], Case]:
    return lambda draw: ((array(draw, kinds, **options),), {})


def _reduction(kinds: str, **options: Any) -> Callable[[Draw], Case]:
    def drawn(draw: Draw) -> Case:
        x = array(draw, kinds, **options)
        return (x,), {"axis": axes_of(draw, x), "keepdims": draw(st.booleans())}

    return drawn


def _along(kinds: str, *options: str, **kept: Any) -> Callable[[Draw], Case]:
    """Calls with one axis, and options that are true or false."""

    def drawn(draw: Draw) -> Case:
        x = array(draw, kinds, least=1, **kept)
        return (x,), {"axis": axis_of(draw, x), **{one: draw(st.booleans()) for one in options}}

    return drawn


def _arg(draw: Draw) -> Case:
    x = array(draw, "iuf")
    axis = draw(st.none() | st.just(axis_of(draw, x))) if x.ndim else None
    return (x,), {"axis": axis, "keepdims": draw(st.booleans())}


def _clip(draw: Draw) -> Case:
    x, low, high = several(draw, "iuf", 3, finite=True)
    low, high = (low, low) if low.shape != high.shape else (np.minimum(low, high), np.maximum(low, high))
    return (x, draw(st.sampled_from([None, low])), draw(st.sampled_from([None, high]))), {}


def _where(draw: Draw) -> Case:
    condition, x, y = several(draw, "iufc", 3)
    return (condition != 0, x, y), {}


def _take(draw: Draw) -> Case:
    x = array(draw, "biufc", least=1)
    axis = axis_of(draw, x)
    length = x.shape[axis] if -x.ndim <= axis < x.ndim else 1
    places = draw(st.lists(st.integers(0, length - 1), max_size=4)) if length else []
    return (x, np.array(places, np.int64)), {"axis": axis}


def _take_along(draw: Draw) -> Case:
    x = array(draw, "f", draw(shapes(1, sides=range(1, 4))))
    axis = int(draw(st.integers(-x.ndim, x.ndim - 1)))
    shape = [draw(st.integers(0, 3)) if at == axis % x.ndim else length for at, length in enumerate(x.shape)]
    return (x, numbers(draw, shape, x.shape[axis]).astype(np.int64)), {"axis": axis}


def _searchsorted(draw: Draw) -> Case:
    kind = draw(st.sampled_from("iuf"))
    x, y = array(draw, kind, (draw(st.integers(0, 4)),), finite=True), array(draw, kind, finite=True)
    return (np.sort(x), y), {"side": draw(st.sampled_from(["left", "right"]))}


def _joined(draw: Draw) -> Case:
    kind, shape = draw(st.sampled_from("biufc")), list(draw(shapes(1)))
    axis = int(draw(st.integers(0, len(shape) - 1)))
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        lengths = [draw(st.integers(0, 3)) if at == axis else length for at, length in enumerate(shape)]
        if draw(st.integers(0, 9)) == 0:
            lengths[0] += 1
        parts.append(array(draw, kind, tuple(lengths)))
    return (parts,), {"axis": draw(st.sampled_from([axis, axis - len(shape), None]))}


def _stacked(draw: Draw) -> Case:
    kind, shape = draw(st.sampled_from("biufc")), draw(shapes())
    parts = [array(draw, kind, shape) for _ in range(draw(st.integers(1, 3)))]
    return (parts,), {"axis": draw(st.integers(-len(shape) - 2, len(shape) + 1))}


def _squeeze(draw: Draw) -> Case:
    x = array(draw, "biufc", draw(shapes(1, sides=range(1, 3))))
    return (x, draw(st.just(axis_of(draw, x)) | st.just(tuple(at for at in range(x.ndim) if x.shape[at] == 1)))), {}


def _expand(draw: Draw) -> Case:
    x = array(draw, "biufc")
    return (x,), {"axis": draw(st.integers(-x.ndim - 2, x.ndim + 1))}


def _roll(draw: Draw) -> Case:
    x = array(draw, "biufc", least=1)
    if draw(st.booleans()):
        return (x, draw(st.integers(-4, 4))), {"axis": draw(st.none() | st.just(axis_of(draw, x)))}
    axes = tuple(range(x.ndim))
    return (x, tuple(draw(st.integers(-4, 4)) for _ in axes)), {"axis": axes}


def _permuted(draw: Draw) -> Case:
    x = array(draw, "biufc")
    return (x, tuple(draw(st.permutations(range(x.ndim))))), {}


def _moved(draw: Draw) -> Case:
    x = array(draw, "biufc", least=1)
    if draw(st.booleans()):
        return (x, axis_of(draw, x), axis_of(draw, x)), {}
    orders = [tuple(draw(st.permutations(range(x.ndim)))) for _ in range(2)]
    return (x, *orders), {}


def _reshaped(draw: Draw) -> Case:
    x = array(draw, "biufc")
    wanted = draw(st.sampled_from([(-1,), (x.size,), (1, *x.shape[::-1]), (x.size, -1), (2, -1), (-1, 1), (5,), ()]))
    return (x, wanted), {}


def _repeated(draw: Draw) -> Case:
    x = array(draw, "biufc", least=1)
    axis = draw(st.none() | st.integers(0, x.ndim - 1))
    length = x.size if axis is None else x.shape[axis]
    counts = numbers(draw, (length,), 4).astype(np.int64)
    return (x, draw(st.sampled_from([0, 1, 3, counts]))), {"axis": axis}


def _tiled(draw: Draw) -> Case:
    return (array(draw, "biufc"), tuple(draw(st.lists(st.integers(0, 2), max_size=4)))), {}


def _spread(draw: Draw) -> Case:
    return (array(draw, "biufc"), tuple(draw(shapes()))), {}


def _diff(draw: Draw) -> Case:
    x = array(draw, "if", least=1, finite=True)
    n = draw(st.integers(0, 3))
    ends = {one: x for one in ("prepend", "append") if draw(st.booleans())}
    return (x,), {"axis": axis_of(draw, x) if n else -1, "n": n, **ends}


def _triangle(draw: Draw) -> Case:
    return (array(draw, "biufc", least=1),), {"k": draw(st.integers(-4, 4))}


def _product(draw: Draw) -> Case:
    kind = draw(st.sampled_from("iufc"))
    m, n, k = (draw(st.integers(0, 3)) for _ in range(3))
    batch = draw(st.sampled_from([(), (2,), (1,), (0,)]))
    left = draw(st.sampled_from([(n,), (m, n), (*batch, m, n), (m, n + 1), ()]))
    right = draw(st.sampled_from([(n,), (n, k), (*batch, n, k)]))
    return (array(draw, kind, left, finite=True), array(draw, kind, right, finite=True)), {}


def _vecdot(draw: Draw) -> Case:
    x, y = several(draw, "iufc", 2, least=1, finite=True)
    return (x, y), {"axis": draw(st.integers(-min(x.ndim, y.ndim), -1))}


def _tensordot(draw: Draw) -> Case:
    kind, axes = draw(st.sampled_from("iufc")), draw(st.integers(0, 2))
    x = array(draw, kind, finite=True)
    shape = x.shape[x.ndim - axes :] if axes <= x.ndim else (2,)
    return (x, array(draw, kind, (*shape, *draw(shapes(0, 1))), finite=True)), {"axes": axes}


def _grid(draw: Draw) -> Case:
    dtype = draw(dtypes("iufc"))
    parts = [array(draw, "i", (draw(st.integers(0, 3)),)).astype(dtype) for _ in range(draw(st.integers(1, 3)))]
    return tuple(parts), {"indexing": draw(st.sampled_from(["xy", "ij"]))}


CALLS: dict[str, Callable[[Draw], Case]] = {
    "max": _reduction("iuf"),
    "min": _reduction("iuf"),
    "mean": _reduction("f"),
    "std": _reduction("f", finite=True),
    "var": _reduction("f", finite=True),
    "all": _reduction("biufc"),
    "any": _reduction("biufc"),
    "clip": _clip,
    "where": _where,
    "sort": _along("iuf", "descending", "stable", finite=True),
    "flip": _along("biufc"),
    "unstack": _along("biufc"),
    "take": _take,
    "take_along_axis": _take_along,
    "concat": _joined,
    "stack": _stacked,
    "squeeze": _squeeze,
    "expand_dims": _expand,
    "roll": _roll,
    "permute_dims": _permuted,
    "moveaxis": _moved,
    "reshape": _reshaped,
    "repeat": _repeated,
    "tile": _tiled,
    "broadcast_to": _spread,
    "broadcast_arrays": lambda draw: (tuple(several(draw, "biufc", 3)), {}),
    "diff": _diff,
    "tril": _triangle,
    "triu": _triangle,
    "matmul": _product,
    "vecdot": _vecdot,
    "tensordot": _tensordot,
    "matrix_transpose": _one("biufc"),
    "meshgrid": _grid,
    "zeros_like": _one("biufc"),
    "ones_like": _one("biufc"),
    "unique_values": _one("biuf"),
}
BY_DEFAULT: dict[str, Callable[[Draw], Case]] = {
    "sum": _reduction("iufc"),
    "prod": _reduction("iufc", finite=True),
    "cumulative_sum": _along("iuf", "include_initial", finite=True),
    "cumulative_prod": _along("iuf", "include_initial", finite=True),
    "argmax": _arg,
    "argmin": _arg,
    "count_nonzero": _reduction("biufc"),
    "argsort": _along("iuf", "descending", finite=True),
    "searchsorted": _searchsorted,
    "nonzero": _one("biufc"),
    "unique_all": _one("biuf"),
    "unique_counts": _one("biuf"),
    "unique_inverse": _one("biuf"),
}


NO_SIGNS = ("max", "min", "mean", "matmul", "vecdot", "tensordot", "unique_values")
"""Which zero it is depends on the order of equals."""


@pytest.mark.parametrize("name", [*CALLS, *BY_DEFAULT])
@settings(max_examples=40)
@given(data=st.data())
def test_of_whole_arrays(name: str, data: Any) -> None:
    if name in CALLS:
        compare(name, CALLS[name](data.draw), signs=name not in NO_SIGNS)
    else:
        compare(name, BY_DEFAULT[name](data.draw), defaults=True)
