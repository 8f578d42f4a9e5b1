"""Running sums and products, differences, sums over segments."""

from __future__ import annotations

__all__: list[str] = []
