"""Reductions over axes."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.context import Hooks
from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Call, Monoid, Op, define
from flowgraph.ops import numerics, rules
from flowgraph.ops.complex import conj
from flowgraph.ops.elementwise import exp, maximum, power, sqrt, where
from flowgraph.ops.scanning import cumulative_prod, summed_dtype, whole_axis
from flowgraph.ops.shape import broadcast_like, expand_dims, size
from flowgraph.tensor import Tensor
from flowgraph.types import as_dtype, normal_axes, normal_axis

__all__ = [
    "all",
    "any",
    "count_nonzero",
    "logsumexp",
    "max",
    "mean",
    "min",
    "prod",
    "softmax",
    "std",
    "sum",
    "var",
]


def _factors(types: Any, attrs: Any) -> str:
    """For axes (1,) of three: "a b c -> a c", or "a b c -> a 1 c" with keepdims."""
    names = [f"a{axis}" for axis in range(types[0].ndim)]
    kept = [("1" if attrs["keepdims"] else "") if axis in attrs["axes"] else name for axis, name in enumerate(names)]
    return f"{' '.join(names)} -> {' '.join(filter(None, kept))}"


def _attrs(x: Any, /, axis: Any = None, keepdims: bool = False, *, axes: Any = None) -> dict[str, Any]:
    return {"axes": normal_axes(axis if axes is None else axes, x.ndim), "keepdims": bool(keepdims)}


def spread(g: Tensor, x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """`g`, the result of a reduction of `x` over `axes`, stretched to the shape of `x` again."""
    return broadcast_like(g if keepdims or not axes else expand_dims(g, axes), x)  # type: ignore[no-any-return]


def _samples() -> Any:
    return [
        (((3, 4),), {}),
        (((3, 4),), {"axis": 0}),
        (((3, 4),), {"axis": -1, "keepdims": True}),
        (((5, 3, 4),), {"axis": (0, 2)}),
        (((5, 3, 4),), {"axis": 1}),
    ]


def _sum_call(types: Any, attrs: Any) -> Call:
    """Sums of floats go through BLAS: a product with ones is up to 5 times faster than add.reduce (measured)."""
    (x,) = types
    axes = attrs["axes"]
    use = {"dot": numerics.DOT, "reduce": np.add.reduce}
    if x.dtype.kind == "f" and x.dtype.itemsize >= 4 and axes:
        if len(axes) == x.ndim:
            flat = "{0}" if x.ndim == 1 else "{0}.ravel()"
            return Call(f"dot({{ones}}, {flat}, {'{out}.reshape(())' if attrs['keepdims'] else '{out}'})", use)
        if axes == tuple(range(len(axes))):
            return Call("dot({ones}, {0}.reshape({ones}.size, {out}.size), {out}.reshape(-1))", use)
        if axes == tuple(range(x.ndim - len(axes), x.ndim)):
            return Call("dot({0}.reshape({out}.size, {ones}.size), {ones}, {out}.reshape(-1))", use)
    return Call(f"reduce({{0}}, {axes}, None, {{out}}, {attrs['keepdims']})", use)


def _summed_attrs(
    x: Any, /, axis: Any = None, keepdims: bool = False, *, dtype: Any = None, axes: Any = None
) -> dict[str, Any]:
    attrs = _attrs(x, axis, keepdims, axes=axes)
    return attrs if dtype is None else attrs | {"dtype": as_dtype(dtype)}


def _sum(x: Any, axes: Any, keepdims: bool) -> Any:
    return np.sum(x, axis=axes, dtype=x.dtype, keepdims=keepdims)


sum = define(
    "sum",
    _factors,
    _sum,
    attrs=_summed_attrs,
    dtype=summed_dtype,
    combine="add",
    call=_sum_call,
    gradient=lambda g, out, x, axes, keepdims: (spread(g, x, axes, keepdims),),
    samples=lambda: [*_samples(), (((3, 4),), {"axis": 0, "dtype": np.dtype(np.float64)}), (((3, 0),), {"axis": 1})],
    doc="The sum over `axis`: an int, a tuple of ints, or None for all axes. Booleans are counted.",
)


def _prod(x: Any, axes: Any, keepdims: bool) -> Any:
    return np.prod(x, axis=axes, dtype=x.dtype, keepdims=keepdims)


def _reduce_call(ufunc: np.ufunc) -> Any:
    """The call of reductions that numpy does well."""
    return lambda types, attrs: Call(
        f"reduce({{0}}, {attrs['axes']}, None, {{out}}, {attrs['keepdims']})", {"reduce": ufunc.reduce}
    )


def _others(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """For each element the product of all others over `axes`, without a division: elements may be 0."""
    *rest, last = axes
    before, after = (cumulative_prod(x, axis=last, exclusive=True, reverse=reverse) for reverse in (False, True))
    own: Tensor = before * after
    return own * _others(prod(x, axis=last, keepdims=True), tuple(rest)) if rest else own


prod: Op = define(
    "prod",
    _factors,
    _prod,
    attrs=_summed_attrs,
    dtype=summed_dtype,
    combine="multiply",
    call=_reduce_call(np.multiply),
    gradient=lambda g, out, x, axes, keepdims: (
        (spread(g, x, axes, keepdims) * conj(_others(x, axes)) if axes else g),
    ),
    samples=lambda: [
        *_samples(),
        (((3, 4),), {"axis": ()}),
        (((3, 0),), {"axis": 1}),
        ((np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 4.0], [1.0, 5.0, 2.0]]),), {"axis": 1}),
        ((np.array([[2.0, 0.0, 3.0], [1.0, 5.0, 2.0]]),), {}),
    ],
    doc="The product over `axis`: an int, a tuple of ints, or None for all axes.",
)


def _any(x: Any, axes: Any, keepdims: bool) -> Any:
    return np.any(x, axis=axes, keepdims=keepdims)


def _all(x: Any, axes: Any, keepdims: bool) -> Any:
    return np.all(x, axis=axes, keepdims=keepdims)


def _truth(name: str, kernel: Any, ufunc: np.ufunc, combine: str) -> Op:
    return define(
        name,
        _factors,
        kernel,
        attrs=_attrs,
        dtype=lambda types, attrs: ((np.dtype(np.bool_),), np.dtype(np.bool_)),
        combine=combine,
        call=_reduce_call(ufunc),
        gradient=lambda g, out, x: (None,),
        samples=lambda: [*_samples(), (((3, 0),), {"axis": 1}), ((np.eye(3),), {"axis": 0})],
        doc=f"Whether {name} element over `axis` is true: not 0.",
    )


any = _truth("any", _any, np.logical_or, "or")
all = _truth("all", _all, np.logical_and, "and")


def count_nonzero(x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """How many elements over `axis` are not 0, as the default integer or as `dtype`.

    >>> import flowgraph as fg
    >>> int(fg.count_nonzero(fg.constant([0.0, 2.0, -1.0])))
    2
    """
    return sum(convert(x).astype(np.bool_), axis=axis, keepdims=keepdims, dtype=dtype)  # type: ignore[no-any-return]


def _extreme_gradient(g: Tensor, out: Tensor, x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Any:
    """Equal extreme elements share the gradient, as in TensorFlow."""
    hit = (x == spread(out, x, axes, keepdims)).astype(g.dtype)
    share = g / sum(hit, axis=axes, keepdims=keepdims)
    return (hit * spread(share, x, axes, keepdims),)


def _max(x: Any, axes: Any, keepdims: bool) -> Any:
    return np.max(x, axis=axes, keepdims=keepdims)


def _min(x: Any, axes: Any, keepdims: bool) -> Any:
    return np.min(x, axis=axes, keepdims=keepdims)


def _extreme(name: str, kernel: Any, ufunc: np.ufunc, word: str) -> Op:
    def checked_attrs(x: Any, /, axis: Any = None, keepdims: bool = False, *, axes: Any = None) -> dict[str, Any]:
        attrs = _attrs(x, axis, keepdims, axes=axes)
        if builtins.any(x.shape[one] == 0 for one in attrs["axes"]):
            raise ShapeError(
                f"the {word} element of {x}", "there is none", "Give a tensor with at least one element along the axis."
            )
        return attrs

    return define(
        name,
        _factors,
        kernel,
        attrs=checked_attrs,
        dtype=rules.real,
        combine=ufunc.__name__,
        call=_reduce_call(ufunc),
        gradient=_extreme_gradient,
        samples=_samples,
        doc=f"The {word} element over `axis`; equal ones share the gradient.",
    )


max = _extreme("max", _max, np.maximum, "largest")
min = _extreme("min", _min, np.minimum, "smallest")

logsumexp = define(
    "logsumexp",
    _factors,
    numerics.logsumexp,
    attrs=_attrs,
    dtype=rules.real_float,
    combine=Monoid(numerics.logsumexp_partial, numerics.logsumexp_merge, numerics.logsumexp_finish),
    gradient=lambda g, out, x, axes, keepdims: (
        spread(g, x, axes, keepdims) * exp(x - spread(where(out == -np.inf, 0, out), x, axes, keepdims)),
    ),
    flops=12,
    samples=_samples,
    doc="log(sum(exp(x))) over `axis`, without overflow.",
)


def _var_attrs(x: Any, /, axis: Any = None, keepdims: bool = False, correction: Any = 0, *, axes: Any = None) -> Any:
    if isinstance(correction, bool) or not isinstance(correction, int | float):
        raise UsageError(f"correction={correction!r}", "it is no real number", "Give 0, or 1 for a sample.")
    return _attrs(x, axis, keepdims, axes=axes) | {"correction": correction}


def _var_gradient(g: Tensor, out: Tensor, x: Tensor, axes: Any, keepdims: bool, correction: float) -> Any:
    count = size(x, axes=axes, dtype=x.dtype)
    deviation = x - mean(x, axis=axes, keepdims=True)
    freedom = maximum(count - correction, 0) if correction else count
    return (spread(g * 2 / freedom, x, axes, keepdims) * deviation,)


var = define(
    "var",
    _factors,
    numerics.variance,
    attrs=_var_attrs,
    dtype=rules.real_float,
    combine=Monoid(numerics.variance_partial, numerics.variance_merge, numerics.variance_finish),
    gradient=_var_gradient,
    flops=4,
    samples=lambda: [*_samples(), (((3, 4),), {"axis": 0, "correction": 1})],
    doc="The variance over `axis`: squared deviations from the mean, summed and divided by (count - correction).",
)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis`: the sum divided by the count. Integers are averaged as floats.

    >>> import flowgraph as fg
    >>> float(fg.mean(fg.constant([1.0, 2.0, 6.0])))
    3.0
    """
    x = rules.floats(x)
    axes = normal_axes(axis, x.ndim)
    return sum(x, axis=axes, keepdims=keepdims) / size(x, axes=axes, dtype=x.dtype)  # type: ignore[no-any-return]


def root(total: Tensor, p: float) -> Tensor:
    """The p-th root, with the gradient 0 where `total` is 0."""
    safe = where(total == 0, 1, total)
    return where(total == 0, 0, sqrt(safe) if p == 2 else power(safe, 1 / p))  # type: ignore[no-any-return]


def std(x: Any, axis: Any = None, keepdims: bool = False, correction: float = 0) -> Tensor:
    """The standard deviation over `axis`: the square root of `var`.

    Its gradient at equal numbers is 0, as that of `norm` at 0 and as in PyTorch; TensorFlow and JAX give nan there.

    >>> import flowgraph as fg
    >>> float(fg.std(fg.constant([1.0, 3.0])))
    1.0
    """
    return root(var(x, axis=axis, keepdims=keepdims, correction=correction), 2)


softmax = define(
    "softmax",
    whole_axis,
    numerics.softmax,
    attrs=lambda x, /, axis=-1: {"axis": normal_axis(axis, x.ndim)},
    dtype=rules.real_float,
    call=lambda types, attrs: Call(f"{{f}}({{0}}, {attrs['axis']}, {{out}})", {"f": numerics.softmax}),
    gradient=lambda g, out, x, axis: (out * (g - sum(g * out, axis=axis, keepdims=True)),),
    flops=12,
    samples=lambda: [(((3, 4),), {}), (((5, 3, 4),), {"axis": 1}), (((4,),), {"axis": 0})],
    doc="exp(x) / sum(exp(x)) along `axis`.",
)

Hooks.mean = staticmethod(mean)
