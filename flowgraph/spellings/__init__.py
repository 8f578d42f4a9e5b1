"""TensorFlow's spellings: one table of aliases, looked up when a name is asked for.

`table.TABLE` has a row for each alias. A module whose names it extends says `__getattr__, __dir__ = lookups(__name__)`,
so that importing flowgraph makes none of them. `compat.v2` has all of them, also those whose name the Array API
standard gives to something else at top level.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

from flowgraph.op import Op

__all__ = ["WIDER", "Namespace", "find", "has", "lookups", "names", "public", "public_names", "resolve", "take"]

WIDER = ("concat", "expand_dims", "matmul", "reshape", "squeeze", "stack", "tile", "transpose", "where")
"""Aliases that take all that flowgraph's function of this name takes, and more: at top level they replace it."""

_ROOTS: list[ModuleType] = []
_REPLACED: dict[str, Any] = {}


def take(package: ModuleType) -> None:
    """Have the package hand itself in, for it is below this room; `WIDER` is looked up here from now on.

    Returns nothing.
    """
    _ROOTS.append(package)
    _REPLACED.update({name: vars(package).pop(name) for name in WIDER})


def resolve(name: str) -> Any:
    """What flowgraph calls `name`, a dotted name such as "linalg.norm"; raises AttributeError where there is none."""
    first, *rest = name.split(".")
    found = _REPLACED[first] if first in _REPLACED else public(first)
    for part in rest:
        found = getattr(found, part)
    return found


def public(name: str) -> Any:
    """What the package has by this name; raises AttributeError where there is nothing."""
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(_ROOTS[0], name)


def public_names() -> list[str]:
    """All names of the package that are not private."""
    return [name for name in dir(_ROOTS[0]) if not name.startswith("_")]


def _table() -> Mapping[str, Any]:
    """The rows; the table is imported when it is first asked for a name."""
    from flowgraph.spellings.table import TABLE

    return TABLE


def has(name: str) -> bool:
    """Whether the table has a row for this dotted name."""
    return name in _table()


@cache
def find(name: str) -> Any:
    """The function of the row `name` of the table: it takes TensorFlow's arguments, by position or by name."""
    row = _table()[name]
    if not isinstance(row, str):
        return row
    target, *words = row.split()
    function = resolve(target)
    return _renamed(name, function, words) if words else taking_name(name, function)


@cache
def taking_name(full: str, found: Any) -> Any:
    """`found`, called `full`: a function of ours that takes no `name=` as one that does, and anything else as it is."""
    ours = isinstance(found, FunctionType) and found.__module__.startswith("flowgraph.ops.")
    return _renamed(full, found, []) if ours and "name" not in inspect.signature(found).parameters else found


def names(prefix: str = "") -> list[str]:
    """The aliases directly below `prefix`, which is "" or ends in a dot."""
    return [name[len(prefix) :] for name in _table() if name.startswith(prefix) and "." not in name[len(prefix) :]]


def _renamed(alias: str, target: Any, words: list[str]) -> Callable[..., Any]:
    """`target` with operands by other names; a word is the name of an operand, or "theirs=ours" of another argument.

    It takes `name=`, the name of an operation in a deferred graph.
    """
    operands = [word for word in words if "=" not in word]
    others = dict(word.split("=") for word in words if "=" in word)
    labelled = isinstance(target, Op)  # ops take `name=`; for functions it says nothing here, see compat.v1

    def call(*args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            return target(*args)
        given = list(args)
        for operand in operands[len(args) :]:
            if operand not in kwargs:
                break
            given.append(kwargs.pop(operand))
        if not labelled:
            kwargs.pop("name", None)
        return target(*given, **{others.get(name, name): value for name, value in kwargs.items()})

    call.__signature__ = _signature(target, operands)  # type: ignore[attr-defined]
    call.__name__ = alias.rpartition(".")[2]
    call.__module__, call.__qualname__ = "flowgraph.compat.v2", alias  # where pickle finds every alias
    arguments = ", ".join([*operands, *(f"{theirs} (here: {ours})" for theirs, ours in others.items()), "name"])
    call.__doc__ = f"{target.__doc__}\n\nThis is TensorFlow's spelling; its arguments are called {arguments}."
    return call


def _signature(target: Any, operands: list[str]) -> inspect.Signature:
    """The signature of `target` with other names of its operands, which may be given by name, and with `name`."""
    own = inspect.signature(target)
    parameters = list(own.parameters.values())
    for index, name in enumerate(operands):
        parameters[index] = parameters[index].replace(name=name, kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if "name" not in own.parameters:
        parameters.append(inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, default=None))
    return own.replace(parameters=parameters)


def lookups(module: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of the module of flowgraph with this `__name__`."""
    prefix = f"{module}.".partition(".")[2]

    def get(name: str) -> Any:
        if has(f"{prefix}{name}"):
            return find(f"{prefix}{name}")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return get, lambda: sorted({*vars(sys.modules[module]), *names(prefix)})


class Namespace:
    """The names below a prefix: the table's first, then flowgraph's own; functions as `wrap(full name, function)`."""

    def __init__(self, prefix: str, wrap: Callable[[str, Any], Any] = taking_name) -> None:
        self._prefix, self._wrap = prefix, wrap

    def __getattr__(self, name: str) -> Any:
        """The alias `name`, else what flowgraph has by this name."""
        full = f"{self._prefix}{name}"
        if name.startswith("__"):
            raise AttributeError(name)
        found = find(full) if has(full) else resolve(full)
        if isinstance(found, ModuleType):
            return Namespace(f"{full}.", self._wrap) if found.__name__.startswith("flowgraph.") else found
        return self._wrap(full, found) if callable(found) else found

    def __dir__(self) -> list[str]:
        own = public_names() if not self._prefix else dir(resolve(self._prefix[:-1]))
        return sorted({*own, *names(self._prefix)})
