"""What array libraries ask one another: the namespace of an array, its device, and memory without a copy (DLPack)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowgraph.apply import own
from flowgraph.errors import DTypeError, UsageError
from flowgraph.tensor import CPU, Tensor, check_device
from flowgraph.types import DEFAULT_FLOAT, DEFAULT_INT

__all__ = ["__array_namespace_info__", "from_dlpack"]


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of `x`, an array of any library that speaks DLPack; a copy of it with `copy=True`.

    Raises DTypeError for elements that no tensor holds.

    >>> import numpy as np, flowgraph as fg
    >>> fg.from_dlpack(np.arange(3)).tolist()
    [0, 1, 2]
    """
    check_device(device)
    if not hasattr(x, "__dlpack__"):
        raise UsageError(f"from_dlpack of {type(x).__name__}", "it does not speak DLPack", "Use fg.asarray.")
    array = np.from_dlpack(x)
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"a tensor of {array.dtype}", "its elements are no numbers", "Convert them first.")
    return own(array.copy() if copy else array)


_REAL = ("int8", "int16", "int32", "int64"), ("uint8", "uint16", "uint32", "uint64"), ("float32", "float64")
_KINDS: Mapping[str, tuple[str, ...]] = {
    "bool": ("bool",),
    "signed integer": _REAL[0],
    "unsigned integer": _REAL[1],
    "integral": _REAL[0] + _REAL[1],
    "real floating": _REAL[2],
    "complex floating": ("complex64", "complex128"),
    "numeric": _REAL[0] + _REAL[1] + _REAL[2] + ("complex64", "complex128"),
}


class Info:
    """What the standard's inspection functions tell of a namespace."""

    def capabilities(self) -> dict[str, Any]:
        """What depends on values is allowed where a value can be asked for; an array may have 64 axes, as numpy's."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """The device of a tensor for which none is named."""
        return CPU

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype[Any]]:
        """The dtypes of what has none of its own: TensorFlow's, float32 and int32; indices are int64, as numpy's."""
        check_device(device)
        return {
            "real floating": DEFAULT_FLOAT,
            "complex floating": np.dtype(np.complex64),
            "integral": DEFAULT_INT,
            "indexing": np.dtype(np.int64),
        }

    def dtypes(self, *, device: Any = None, kind: str | tuple[str, ...] | None = None) -> dict[str, np.dtype[Any]]:
        """The dtypes of a kind ("bool", "integral", "real floating", ...), of several, or all, by name."""
        check_device(device)
        kinds = ("bool", "numeric") if kind is None else (kind,) if isinstance(kind, str) else kind
        unknown = [one for one in kinds if one not in _KINDS]
        if unknown:
            raise UsageError(f"dtypes of the kind {unknown[0]!r}", "there is none", f"One of {', '.join(_KINDS)}.")
        return {name: np.dtype(name) for one in kinds for name in _KINDS[one]}

    def devices(self) -> list[str]:
        """All devices: one."""
        return [CPU]


def __array_namespace_info__() -> Info:  # noqa: N807 - the standard calls it so
    """The inspection functions of the array API standard.

    >>> import flowgraph as fg
    >>> fg.__array_namespace_info__().default_dtypes()["integral"]
    dtype('int32')
    """
    return Info()
