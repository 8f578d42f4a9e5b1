"""Attributes of operations, and what tells equal ones apart."""

from __future__ import annotations

import cmath
from functools import cached_property
from typing import Any

Attrs = tuple[tuple[str, Any], ...]


class ToldApart(Attrs):
    """Attributes of which 2, 2.0 and True are not equal, nor are 0.0 and -0.0: the key of every cache holds such."""

    @cached_property
    def kinds(self) -> Any:
        """What equal ones may differ in."""
        return _kinds_of(self)

    def __eq__(self, other: object) -> bool:
        if tuple.__eq__(self, other) is not True:
            return False
        return bool(self.kinds == (other.kinds if type(other) is ToldApart else _kinds_of(other)))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


def told_apart(attrs: Attrs) -> Attrs:
    """`attrs` as they are compared in caches."""
    if not attrs or type(attrs) is ToldApart:
        return attrs
    return ToldApart([(name, _equal_to_itself(value)) for name, value in attrs])


_NANS: dict[str, Any] = {}


def _equal_to_itself(value: Any) -> Any:
    """`value` with one and the same nan for each nan in it: two of them are not equal."""
    if type(value) is tuple:
        return tuple([_equal_to_itself(one) for one in value])
    if type(value) in (float, complex) and cmath.isnan(value):
        return _NANS.setdefault(repr(value), value)
    return value


def _kinds_of(attrs: Any) -> Any:
    """What the values of equal attributes may differ in."""
    return [_kinds(value) for _, value in attrs]


_PLAIN = frozenset({bool, int, str, type(None)})


def _kinds(value: Any) -> Any:
    """What equal values may differ in: the type, and the sign of a zero; of a tuple, those of what it holds.

    Bodies say themselves what tells equal ones apart.
    """
    kind = type(value)
    if kind in _PLAIN:
        return kind
    if isinstance(value, tuple):
        return tuple([_kinds(one) for one in value])
    if kind is float:
        return float if value else repr(value)
    return repr(value) if kind is complex else getattr(value, "told_apart", kind)
