"""Products over chosen axes: einsum, tensordot, outer, kron."""

from __future__ import annotations

__all__: list[str] = []
