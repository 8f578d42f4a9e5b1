"""What things are called in the source of a kernel: functions, constants, lengths."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from types import BuiltinMethodType
from typing import Any

import numpy as np

from flowgraph.kernel import host
from flowgraph.kernel.rows import ones, owned
from flowgraph.partition import MESHES

MESH_NUMBER = {dim.name: number for number, dim in enumerate(MESHES)}
"""The number that stands for a mesh axis in names: N0 rows in all, n0 in a tile, the first of them at0."""

_RESERVED = (
    "[A-Za-z]{1,2}[0-9]+|x[0-9]+_[0-9]+|(?:acc|state|history|body)[0-9]+|(?:bool|complex)[0-9]*|"
    "start|rows|leaf_tiles|stack|push|size|low|steps?|starts|one|program|window|(?:loop|whole)_.*|Stack|MERGES|"
    "range|min|float|tuple|zip|dtype|" + "|".join(keyword.kwlist)
)
"""Names that kernels give to things of their own, or expect to mean what they always mean."""


class Names:
    """The objects that a kernel's source names: functions, constants. Equal programs name them equally."""

    def __init__(self) -> None:
        common: tuple[Any, ...] = (np.empty, np.array, np.copyto, np.broadcast_to, ones, owned, *host.FUNCTIONS)
        self.objects: dict[str, Any] = {one.__name__: one for one in common}
        self._by_id: dict[int, str] = {}
        self._values: dict[str, int] = {}
        self._bodies = 0

    def function(self, function: Any) -> str:
        """The name of `function`: its own, unless the kernel uses that for something else."""
        if id(function) not in self._by_id:
            base = getattr(function, "__name__", "f")
            base = base if base.isidentifier() and not base.startswith("<") else "f"
            base = f"f_{base}" if re.fullmatch(_RESERVED, base) else base
            name, number = base, 1
            while name in self.objects and not _is_same(self.objects[name], function):
                number += 1
                name = f"{base}_{number}"
            self.objects[name] = function
            self._by_id[id(function)] = name
        return self._by_id[id(function)]

    def body(self) -> str:
        """A name for a function inside the kernel."""
        self._bodies += 1
        return f"body{self._bodies - 1}"

    def value(self, value: Any, letter: str) -> str:
        """A name for a value, numbered in the order of asking."""
        number = self._values[letter] = self._values.get(letter, -1) + 1
        name = f"{letter}{number}"
        self.objects[name] = value
        return name

    def dtype(self, dtype: Any) -> str:
        """The name of a dtype, such as f4."""
        own = np.dtype(dtype)
        # Buffers are b0, b1, ... and constants c0, c1, ..., so bool and complex are not called b1 and c8.
        name = own.name if own.kind in "bc" else own.str.lstrip("<>|=")
        self.objects[name] = own
        return str(name)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two functions are one. A method such as `np.add.reduce` is a new object whenever it is looked up."""
    return one is other or (isinstance(one, BuiltinMethodType) and one == other)


def affine_text(name: str, times: int, plus: int) -> str:
    """`times` x name + `plus`, as short as it can be written."""
    text = name if times == 1 else f"{name}*{times}"
    return f"{text}{plus:+d}" if plus else text


def tuple_text(parts: Sequence[str]) -> str:
    """A tuple display of the given expressions."""
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
