"""Picking and scattering elements by index tensors."""

from __future__ import annotations

__all__: list[str] = []
