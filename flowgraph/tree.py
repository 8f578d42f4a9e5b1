"""Nested structures: lists, tuples, named tuples and dicts of values, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1024)
def _kind(of: Any) -> str:
    """How structures of a type are made: mapping, named, sequence; "" for a leaf. Checks against ABCs are slow."""
    if issubclass(of, Mapping):
        return "mapping"
    if issubclass(of, tuple) and hasattr(of, "_fields"):
        return "named"
    return "sequence" if issubclass(of, list | tuple) else ""


def flatten(structure: Any) -> list[Any]:
    """The leaves of `structure`, from left to right; a dict's in the order of its keys' insertion.

    >>> flatten({"w": [1, 2], "b": (3,)})
    [1, 2, 3]
    """
    leaves: list[Any] = []
    map_structure(leaves.append, structure)
    return leaves


def map_structure(function: Callable[[Any], Any], structure: Any) -> Any:
    """`structure` with each leaf replaced by `function(leaf)`.

    >>> map_structure(str, {"w": [1, 2]})
    {'w': ['1', '2']}
    """
    kind = _kind(structure.__class__)
    if not kind:
        return function(structure)
    if kind == "mapping":
        return {key: map_structure(function, value) for key, value in structure.items()}
    parts = [map_structure(function, value) for value in structure]
    return type(structure)(*parts) if kind == "named" else type(structure)(parts)


def form(structure: Any, leaf: Callable[[Any], Any]) -> Any:
    """A hashable key of `structure`: its form, with `leaf(value)` in the place of each leaf.

    >>> form({"w": [1, 2]}, str)
    (<class 'dict'>, ('w', (<class 'list'>, '1', '2')))
    """
    kind = _kind(structure.__class__)
    if not kind:
        return leaf(structure)
    if kind == "mapping":
        return (dict, *[(key, form(value, leaf)) for key, value in structure.items()])
    return (type(structure), *[form(value, leaf) for value in structure])


def unflatten(structure: Any, leaves: list[Any]) -> Any:
    """A structure of the form of `structure` with `leaves` in the places of its own.

    >>> unflatten({"w": [1, 2]}, ["a", "b"])
    {'w': ['a', 'b']}
    """
    rest = iter(leaves)
    return map_structure(lambda leaf: next(rest), structure)
