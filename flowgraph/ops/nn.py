"""Convolutions, pooling, normalisation, dropout, look-ups."""

from __future__ import annotations

__all__: list[str] = []
