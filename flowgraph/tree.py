"""Nested structures: lists, tuples, named tuples and dicts of values, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


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
    if isinstance(structure, Mapping):
        return {key: map_structure(function, value) for key, value in structure.items()}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*[map_structure(function, value) for value in structure])
    if isinstance(structure, list | tuple):
        return type(structure)(map_structure(function, value) for value in structure)
    return function(structure)


def unflatten(structure: Any, leaves: list[Any]) -> Any:
    """A structure of the form of `structure` with `leaves` in the places of its own.

    >>> unflatten({"w": [1, 2]}, ["a", "b"])
    {'w': ['a', 'b']}
    """
    rest = iter(leaves)
    return map_structure(lambda leaf: next(rest), structure)
