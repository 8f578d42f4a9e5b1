"""Rounding, signs, remainders, and what kind of number an element is."""

from __future__ import annotations

__all__: list[str] = []
