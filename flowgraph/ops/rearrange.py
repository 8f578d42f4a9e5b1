"""Operations that put elements in other places: flip, roll, repeat, stack, pad, triangles."""

from __future__ import annotations

__all__: list[str] = []
