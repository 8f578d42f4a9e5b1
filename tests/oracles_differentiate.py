"""What the operations mean that compute nothing and say how gradients pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ORACLES: dict[str, Callable[..., Any]] = {
    "identity": lambda x: x,
    "stop_gradient": lambda x: x,
    "barrier": lambda x, other: x,
    "custom_gradient": lambda x, **attrs: x,
}

NOT_PUBLIC = {"barrier": "what keeps recompute_grad from being undone"}
