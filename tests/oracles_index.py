"""What setting elements means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowgraph.ops.index import numpy_key


def set_slice(x: Any, value: Any, key: Any) -> Any:
    result = x.copy()
    result[numpy_key(key)] = value
    return result


ORACLES: dict[str, Callable[..., Any]] = {"set_slice": set_slice}

NOT_PUBLIC = {"set_slice": "x[...] = y"}
