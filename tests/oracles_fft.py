"""What Fourier transforms mean: numpy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

OTHER = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def fit(x: Any, axes: Any, lengths: Any) -> Any:
    for axis, length in zip(axes, lengths, strict=True):
        rows = [np.take(x, i, axis) if i < x.shape[axis] else np.take(x, 0, axis) * 0 for i in range(length)]
        x = np.stack(rows, axis)
    return x


def weigh(x: Any, axis: int, count: int, middle: float) -> Any:
    stands_for_itself = [2 * k % count == 0 for k in range(count // 2 + 1)]
    return np.moveaxis(np.moveaxis(x, axis, -1) * np.where(stands_for_itself, 1, middle), -1, axis)


def fftn(x: Any, axes: Any, inverse: bool = False, norm: Any = "backward") -> Any:
    return (np.fft.ifftn if inverse else np.fft.fftn)(x, axes=axes, norm=norm)


def rfftn(x: Any, axes: Any, inverse: bool = False, norm: Any = "backward") -> Any:
    """The first half of the whole transform."""
    whole = fftn(x + 0j, axes, inverse, norm)
    return np.take(whole, range(x.shape[axes[-1]] // 2 + 1), axes[-1])


def irfftn(x: Any, axes: Any, count: int, inverse: bool = True, norm: Any = "backward") -> Any:
    lengths = [*(x.shape[axis] for axis in axes[:-1]), count]
    if inverse:
        return np.fft.irfftn(x, lengths, axes, norm)
    return np.fft.irfftn(np.conj(x), lengths, axes, OTHER[norm])  # type: ignore[arg-type]


ORACLES: dict[str, Callable[..., Any]] = {
    "fft_fit": fit,
    "fft_weigh": weigh,
    "fft_fftn": fftn,
    "fft_rfftn": rfftn,
    "fft_irfftn": irfftn,
}

NOT_PUBLIC: dict[str, str] = {
    "fft_fit": "the argument n or s of a transform",
    "fft_weigh": "the gradient of transforms of real numbers",
}
