"""Special functions, most of them from scipy.special, which is imported when one is first used."""

from __future__ import annotations

__all__: list[str] = []
