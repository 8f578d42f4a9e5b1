"""Decompositions of matrices and what follows from them."""

from __future__ import annotations

__all__: list[str] = []
