"""The functions of the Array API's extension `fft`, made of the ops in fourier.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.ops.fourier import check_transform, fftn_op, fit_op, irfftn_op, rfftn_op
from flowgraph.ops.shape import concat
from flowgraph.tensor import Tensor, check_device
from flowgraph.types import DEFAULT_FLOAT, Dim, as_dtype, is_float, listed, normal_axis

__all__: list[str] = []


def _axes_and_lengths(x: Tensor, s: Any, axes: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """The axes, counted from the front, and the lengths they are to have; without `axes` as many of the last as s."""
    s = s if s is None else listed(s, "s")
    if axes is None:
        axes = range(x.ndim) if s is None else range(x.ndim - len(s), x.ndim)
    places = tuple(normal_axis(axis, x.ndim) for axis in listed(axes, "axes"))
    if not places or len(set(places)) < len(places):
        raise UsageError(f"a Fourier transform over axes={tuple(axes)}", "none, or one twice", "Name each axis once.")
    lengths = tuple(x.shape[axis] for axis in places) if s is None else s
    if len(lengths) != len(places):
        raise UsageError(f"a Fourier transform with s={s} over axes={axes}", "they differ in number", "Pair them.")
    for length in lengths:
        if not isinstance(length, int | np.integer | Dim) or isinstance(length, bool):
            raise UsageError(f"a Fourier transform of length {length!r}", "it is no integer", "Give integers.")
    return places, lengths


def _fitted(x: Tensor, axes: tuple[int, ...], lengths: tuple[Any, ...]) -> Tensor:
    changed = [(axis, int(n)) for axis, n in zip(axes, lengths, strict=True) if x.shape[axis] != n]
    if not changed:
        return x
    check_transform(x.type, axes, "backward", [length for _, length in changed])
    chosen, counts = (tuple(part) for part in zip(*changed, strict=True))
    return fit_op(x, axes=chosen, lengths=counts)  # type: ignore[no-any-return]


def _full(x: Any, s: Any, axes: Any, norm: str, inverse: bool) -> Tensor:
    x = convert(x)
    places, lengths = _axes_and_lengths(x, s, axes)
    return fftn_op(_fitted(x, places, lengths), axes=places, inverse=inverse, norm=norm)  # type: ignore[no-any-return]


def _to_half(x: Any, s: Any, axes: Any, norm: str, inverse: bool) -> Tensor:
    x = convert(x)
    x = x if is_float(x.dtype) else x.astype(DEFAULT_FLOAT)
    places, lengths = _axes_and_lengths(x, s, axes)
    return rfftn_op(_fitted(x, places, lengths), axes=places, inverse=inverse, norm=norm)  # type: ignore[no-any-return]


def _from_half(x: Any, s: Any, axes: Any, norm: str, inverse: bool) -> Tensor:
    x = convert(x)
    places, lengths = _axes_and_lengths(x, s, axes)
    last = lengths[-1]
    if s is None:
        if isinstance(last, Dim):
            raise ShapeError(f"a transform of {x.type}", f"the length {last} is not known yet", "Give n or s.")
        last = 2 * (last - 1)
    check_transform(x.type, places, norm, [last])
    x = _fitted(x, places, (*lengths[:-1], last // 2 + 1))
    return irfftn_op(x, axes=places, count=int(last), inverse=inverse, norm=norm)  # type: ignore[no-any-return]


def _one(n: Any) -> Any:
    return None if n is None else (n,)


def fft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The Fourier transform along `axis`, of `n` elements: zeros are added, or elements dropped, at the end.

    `norm` says which direction is divided by n: "backward" the inverse, "forward" this one, "ortho" both by sqrt(n).

    >>> import flowgraph as fg
    >>> fg.fft.fft([1.0, 1.0]).tolist()
    [(2+0j), 0j]
    """
    return _full(x, _one(n), (axis,), norm, inverse=False)


def ifft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `fft`.

    >>> import flowgraph as fg
    >>> fg.fft.ifft([2.0, 0.0]).tolist()
    [(1+0j), (1+0j)]
    """
    return _full(x, _one(n), (axis,), norm, inverse=True)


def fftn(x: Any, /, *, s: Any = None, axes: Any = None, norm: str = "backward") -> Tensor:
    """The Fourier transform over several axes (all if None), of the lengths `s`.

    >>> import flowgraph as fg
    >>> fg.fft.fftn([[1.0, 1.0], [1.0, 1.0]]).tolist()
    [[(4+0j), 0j], [0j, 0j]]
    """
    return _full(x, s, axes, norm, inverse=False)


def ifftn(x: Any, /, *, s: Any = None, axes: Any = None, norm: str = "backward") -> Tensor:
    """The inverse of `fftn`.

    >>> import flowgraph as fg
    >>> fg.fft.ifftn([[4.0, 0.0], [0.0, 0.0]]).tolist()
    [[(1+0j), (1+0j)], [(1+0j), (1+0j)]]
    """
    return _full(x, s, axes, norm, inverse=True)


def rfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The Fourier transform of real numbers: n // 2 + 1 frequencies, the others being their conjugates.

    >>> import flowgraph as fg
    >>> fg.fft.rfft([1.0, 1.0, 1.0, 1.0]).tolist()
    [(4+0j), 0j, 0j]
    """
    return _to_half(x, _one(n), (axis,), norm, inverse=False)


def irfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `rfft`: `n` real numbers (2 (m - 1) for m frequencies, if None).

    >>> import flowgraph as fg
    >>> fg.fft.irfft([4.0, 0.0, 0.0]).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    return _from_half(x, _one(n), (axis,), norm, inverse=True)


def rfftn(x: Any, /, *, s: Any = None, axes: Any = None, norm: str = "backward") -> Tensor:
    """The Fourier transform of real numbers over several axes, of which the last has half of the frequencies.

    >>> import flowgraph as fg
    >>> fg.fft.rfftn([[1.0, 1.0], [1.0, 1.0]]).tolist()
    [[(4+0j), 0j], [0j, 0j]]
    """
    return _to_half(x, s, axes, norm, inverse=False)


def irfftn(x: Any, /, *, s: Any = None, axes: Any = None, norm: str = "backward") -> Tensor:
    """The inverse of `rfftn`; `s` are the lengths of the result.

    >>> import flowgraph as fg
    >>> fg.fft.irfftn([[4.0, 0.0], [0.0, 0.0]]).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    return _from_half(x, s, axes, norm, inverse=True)


def hfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The (real) Fourier transform of a signal of which the first half is given, the other being its conjugate.

    >>> import flowgraph as fg
    >>> fg.fft.hfft([1.0, 1.0]).tolist()
    [2.0, 0.0]
    """
    return _from_half(x, _one(n), (axis,), norm, inverse=False)


def ihfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `hfft`.

    >>> import flowgraph as fg
    >>> [abs(one) for one in fg.fft.ihfft([2.0, 0.0]).tolist()]
    [1.0, 1.0]
    """
    return _to_half(x, _one(n), (axis,), norm, inverse=True)


def _frequencies(n: Any, d: Any, dtype: Any, make: Any) -> Tensor:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise UsageError(
            f"the frequencies of {n!r} samples", "it is no number of samples", "Give an integer from 1 on."
        )
    kind = DEFAULT_FLOAT if dtype is None else as_dtype(dtype)
    if kind.kind != "f":
        raise DTypeError(f"frequencies of dtype {kind}", "they are real", "Use float32 or float64.")
    return convert(make(int(n), float(d)).astype(kind))


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies of `fft`, in cycles per unit of time, for `n` samples at a distance `d`.

    >>> import flowgraph as fg
    >>> fg.fft.fftfreq(4).tolist()
    [0.0, 0.25, -0.5, -0.25]
    """
    check_device(device)
    return _frequencies(n, d, dtype, np.fft.fftfreq)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies of `rfft`, in cycles per unit of time, for `n` samples at a distance `d`.

    >>> import flowgraph as fg
    >>> fg.fft.rfftfreq(4).tolist()
    [0.0, 0.25, 0.5]
    """
    check_device(device)
    return _frequencies(n, d, dtype, np.fft.rfftfreq)


def _shift(x: Any, axes: Any, first: Any) -> Tensor:
    """`x` cut at `first(length)` along each of `axes`, with the two parts exchanged."""
    x = convert(x)
    given: Any = range(x.ndim) if axes is None else (axes,) if isinstance(axes, int | np.integer) else axes
    for axis in [normal_axis(one, x.ndim) for one in listed(given, "axes")]:
        length = x.shape[axis]
        if isinstance(length, Dim):
            raise ShapeError(f"to shift {x.type}", f"the length {length} is not known yet", "Shift along other axes.")
        if length > 1:
            before, at = (slice(None),) * axis, first(length)
            x = concat([x[(*before, slice(at, None))], x[(*before, slice(None, at))]], axis=axis)
    return x  # type: ignore[no-any-return]


def fftshift(x: Any, /, *, axes: Any = None) -> Tensor:
    """`x` with the frequency 0 in the middle of `axes` (all if None).

    >>> import flowgraph as fg
    >>> fg.fft.fftshift([0, 1, -2, -1]).tolist()
    [-2, -1, 0, 1]
    """
    return _shift(x, axes, lambda length: (length + 1) // 2)


def ifftshift(x: Any, /, *, axes: Any = None) -> Tensor:
    """The inverse of `fftshift`.

    >>> import flowgraph as fg
    >>> fg.fft.ifftshift([-2, -1, 0, 1]).tolist()
    [0, 1, -2, -1]
    """
    return _shift(x, axes, lambda length: length // 2)
