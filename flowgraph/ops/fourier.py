"""Discrete Fourier transforms, by numpy's, which keep single precision.

Three linear ops do them all: complex to complex, real to half-complex, half-complex to real. Each is the adjoint of
another up to weights, so their gradients are again transforms. The gradient of a real number by a complex one is the
conjugate of the derivative, as in TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.tensor import Tensor
from flowgraph.types import Dim

Array = np.ndarray[Any, Any]

__all__: list[str] = []

_OTHER_NORM = {"backward": "forward", "ortho": "ortho", "forward": "backward"}
"""The norm by which a transform in the other direction has the same scale."""


def _whole(types: Any, axes: Sequence[int], result: dict[int, str] | None = None) -> str:
    """The factor string in which `axes` are whole; `result` renames those whose length changes."""
    names = {axis: f"[a{axis}]" if axis in axes else f"a{axis}" for axis in range(types[0].ndim)}
    return f"{' '.join(names.values())} -> {' '.join((names | (result or {})).values())}"


def check_transform(x: Any, axes: Sequence[int], norm: Any, lengths: Sequence[Any]) -> None:
    if not isinstance(norm, str) or norm not in _OTHER_NORM:
        found = "there are three: backward, ortho and forward"
        raise UsageError(f"a Fourier transform with norm={norm!r}", found, "Give one of them.")
    for length in lengths:
        if isinstance(length, Dim) or length < 1:
            raise ShapeError(
                f"a Fourier transform of {x} along axes {tuple(axes)}",
                f"one of them would have the length {length}",
                "A transform needs one element or more, and a length that is known.",
            )


def _complex(types: Any) -> np.dtype[Any]:
    return np.result_type(_real(types), np.complex64)


def _real(types: Any) -> np.dtype[Any]:
    """The precision of a transform: single, unless the data is of double precision."""
    return np.dtype(np.float64 if types[0].dtype in (np.float64, np.complex128) else np.float32)


def _numbers(*shape: int, seed: int = 3) -> Array:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, shape) + 1j * rng.uniform(-1, 1, shape)


# Lengths


def _fit_attrs(x: Any, /, axes: Any, lengths: Any, *, shape: Any = None) -> dict[str, Any]:
    fitted = dict(zip(axes, lengths, strict=True))
    return {
        "axes": axes,
        "lengths": lengths,
        "shape": tuple(fitted.get(axis, length) for axis, length in enumerate(x.shape)),
    }


def _fit(x: Array, axes: Any, lengths: Any) -> Array:
    for axis, length in zip(axes, lengths, strict=True):
        if length <= x.shape[axis]:
            x = x[(slice(None),) * axis + (slice(length),)]
        else:
            x = np.pad(x, [(0, length - x.shape[axis]) if one == axis else (0, 0) for one in range(x.ndim)])
    return x


fit_op: Op = define(
    "fft_fit",
    lambda types, attrs: _whole(types, attrs["axes"], {axis: f"[b{axis}]" for axis in attrs["axes"]}),
    _fit,
    attrs=_fit_attrs,
    dtype="keep",
    gradient=lambda g, out, x, axes: (fit_op(g, axes=axes, lengths=tuple(x.shape[axis] for axis in axes)),),
    flops=0,
    samples=lambda: [
        (((5, 4),), {"axes": (1,), "lengths": (6,)}),
        (((5, 4, 3),), {"axes": (1, 2), "lengths": (3, 5)}),
        (((5, 4),), {"axes": (0,), "lengths": (2,)}),
    ],
    doc="x with zeros behind its elements along `axes`, or the last of them dropped, so that it has `lengths`.",
)


def _halves(count: int, dtype: Any, middle: float) -> Array:
    """1 for the frequencies that stand for themselves (the first, and the last of an even length), else `middle`."""
    weights = np.full(count // 2 + 1, middle, dtype)
    weights[0] = 1
    if count % 2 == 0:
        weights[-1] = 1
    return weights


def _weigh(x: Array, axis: int, count: int, middle: float) -> Array:
    weights = _halves(count, x.real.dtype, middle)
    return x * weights.reshape([-1 if one == axis else 1 for one in range(x.ndim)])


weigh_op: Op = define(
    "fft_weigh",
    lambda types, attrs: _whole(types, (attrs["axis"],)),
    _weigh,
    attrs=lambda x, /, axis, count, middle: {"axis": axis, "count": count, "middle": middle},
    dtype="keep",
    gradient=lambda g, out, x, axis, count, middle: (weigh_op(g, axis=axis, count=count, middle=middle),),
    samples=lambda: [
        ((_numbers(5, 3),), {"axis": 1, "count": 4, "middle": 0.5}),
        ((_numbers(3, 5),), {"axis": 0, "count": 5, "middle": 2.0}),
    ],
    doc="Half of a spectrum with `middle` times the frequencies that stand for two.",
)

# The transforms


def _fftn_attrs(x: Any, /, axes: Any, inverse: bool = False, norm: str = "backward") -> dict[str, Any]:
    check_transform(x, axes, norm, [x.shape[axis] for axis in axes])
    return {"axes": axes, "inverse": inverse, "norm": norm}


def _fftn(x: Array, axes: Any, inverse: bool, norm: Any) -> Array:
    return (np.fft.ifftn if inverse else np.fft.fftn)(x, axes=axes, norm=norm)


fftn_op: Op = define(
    "fft_fftn",
    lambda types, attrs: _whole(types, attrs["axes"]),
    _fftn,
    attrs=_fftn_attrs,
    dtype=lambda types, attrs: ((_complex(types),), _complex(types)),
    gradient=lambda g, out, x, axes, inverse, norm: (
        fftn_op(g, axes=axes, inverse=not inverse, norm=_OTHER_NORM[norm]),
    ),
    flops=20,
    samples=lambda: [
        ((_numbers(5, 4),), {"axes": (1,)}),
        ((_numbers(5, 3, 4),), {"axes": (0, 2), "inverse": True, "norm": "ortho"}),
        ((_numbers(5, 1),), {"axes": (1,), "norm": "forward"}),
        ((_numbers(7).astype(np.complex64),), {"axes": (0,), "inverse": True}),
        ((_numbers(0, 3),), {"axes": (1,)}),
    ],
    doc="The Fourier transform over `axes`.",
)


def _rfftn_attrs(
    x: Any, /, axes: Any, inverse: bool = False, norm: str = "backward", *, shape: Any = None
) -> dict[str, Any]:
    if x.dtype.kind == "c":
        raise DTypeError(f"a real Fourier transform of {x}", "it is complex", "Use fft, or take the real part.")
    check_transform(x, axes, norm, [x.shape[axis] for axis in axes])
    last = axes[-1]
    shape = (*x.shape[:last], x.shape[last] // 2 + 1, *x.shape[last + 1 :])
    return {"axes": axes, "inverse": inverse, "norm": norm, "shape": shape}


def _rfftn(x: Array, axes: Any, inverse: bool, norm: Any) -> Array:
    if inverse:
        norm = _OTHER_NORM[norm]
        return np.conj(np.fft.rfftn(x, axes=axes, norm=norm))
    return np.fft.rfftn(x, axes=axes, norm=norm)


def _rfftn_gradient(g: Tensor, out: Tensor, x: Tensor, axes: Any, inverse: bool, norm: str) -> Any:
    """The real part of the transform back; that of half a spectrum counts the middle twice."""
    count = x.shape[axes[-1]]
    halved = weigh_op(g, axis=axes[-1], count=count, middle=0.5)
    return (irfftn_op(halved, axes=axes, count=count, inverse=not inverse, norm=_OTHER_NORM[norm]),)


rfftn_op: Op = define(
    "fft_rfftn",
    lambda types, attrs: _whole(types, attrs["axes"], {attrs["axes"][-1]: "[half]"}),
    _rfftn,
    attrs=_rfftn_attrs,
    dtype=lambda types, attrs: ((_real(types),), _complex(types)),
    gradient=_rfftn_gradient,
    flops=10,
    samples=lambda: [
        (((5, 4),), {"axes": (1,)}),
        (((5, 3, 4),), {"axes": (2, 1), "inverse": True, "norm": "ortho"}),
        (((5, 3, 4),), {"axes": (0, 1), "norm": "forward"}),
        (((5, 1),), {"axes": (1,), "inverse": True}),
        (((0, 3),), {"axes": (1,)}),
    ],
    doc="The first half of the Fourier transform of real numbers over `axes`; the last of these is halved.",
)


def _irfftn_attrs(
    x: Any, /, axes: Any, count: int, inverse: bool = True, norm: str = "backward", *, shape: Any = None
) -> dict[str, Any]:
    check_transform(x, axes, norm, [*(x.shape[axis] for axis in axes[:-1]), count])
    last = axes[-1]
    shape = (*x.shape[:last], count, *x.shape[last + 1 :])
    return {"axes": axes, "count": count, "inverse": inverse, "norm": norm, "shape": shape}


def _irfftn(x: Array, axes: Any, count: int, inverse: bool, norm: Any) -> Array:
    lengths = [*(x.shape[axis] for axis in axes[:-1]), count]
    if inverse:
        return np.fft.irfftn(x, lengths, axes, norm)
    return np.fft.irfftn(np.conj(x), lengths, axes, _OTHER_NORM[norm])  # type: ignore[arg-type]


def _irfftn_gradient(g: Tensor, out: Tensor, x: Tensor, axes: Any, count: int, inverse: bool, norm: str) -> Any:
    half = rfftn_op(g, axes=axes, inverse=not inverse, norm=_OTHER_NORM[norm])
    return (weigh_op(half, axis=axes[-1], count=count, middle=2.0),)


irfftn_op: Op = define(
    "fft_irfftn",
    lambda types, attrs: _whole(types, attrs["axes"], {attrs["axes"][-1]: "[full]"}),
    _irfftn,
    attrs=_irfftn_attrs,
    dtype=lambda types, attrs: ((_complex(types),), _real(types)),
    gradient=_irfftn_gradient,
    flops=10,
    samples=lambda: [
        ((_numbers(5, 3),), {"axes": (1,), "count": 4}),
        ((_numbers(5, 3, 4),), {"axes": (2, 1), "count": 5, "inverse": False, "norm": "ortho"}),
        ((_numbers(3, 4, 5).astype(np.complex64),), {"axes": (1, 0), "count": 4, "norm": "forward"}),
        ((_numbers(0, 2),), {"axes": (1,), "count": 3}),
        ((_numbers(5, 1),), {"axes": (1,), "count": 1, "inverse": False}),
    ],
    doc="Real numbers from the first half of their spectrum: the inverse of the real Fourier transform.",
)
