"""Order: sorting, searching, sets, quantiles."""

from __future__ import annotations

__all__: list[str] = []
