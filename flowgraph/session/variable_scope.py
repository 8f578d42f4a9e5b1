"""Variables by name: `get_variable` makes one or finds it again, as the scopes around it say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from flowgraph.errors import DTypeError, ShapeError, UsageError
from flowgraph.session.default_graph import building
from flowgraph.session.graph_variable import GraphKeys, GraphVariable
from flowgraph.session.graphs import Graph, checked_name
from flowgraph.session.initializers import glorot_uniform_initializer, zeros_initializer
from flowgraph.tensor import Tensor
from flowgraph.types import as_dtype, is_float


class Reuse(Enum):
    """What `get_variable` does where a variable of the name is there or is not."""

    AUTO_REUSE = "auto"


AUTO_REUSE = Reuse.AUTO_REUSE
"""Variables are found where they are there, and made where they are not."""


@dataclass(frozen=True)
class VariableScope:
    """What `get_variable` takes from the scopes around it."""

    name: str = ""
    """The prefix of names, without a slash at its end."""
    reuse: Any = False
    """False: variables are made; True: they are found; AUTO_REUSE: either."""
    initializer: Any = None
    regularizer: Any = None
    dtype: Any = np.float32
    original_name_scope: str = ""
    """The scope of names of operations that it opened."""


class _Settings:
    """The scope in force, which `reuse_variables` changes."""

    def __init__(self, scope: VariableScope) -> None:
        self.scope = scope


class CurrentScope:
    """The scope of variables in force at a place, as `variable_scope` and `get_variable_scope` hand it out."""

    def __init__(self, settings: _Settings) -> None:
        self._settings = settings

    @property
    def scope(self) -> VariableScope:
        """What it says by now."""
        return self._settings.scope

    @property
    def name(self) -> str:
        """The prefix of names."""
        return self.scope.name

    @property
    def reuse(self) -> Any:
        """Whether variables are found (True), made (False), or either (AUTO_REUSE)."""
        return self.scope.reuse

    @property
    def original_name_scope(self) -> str:
        """The scope of names of operations that it opened."""
        return self.scope.original_name_scope

    def reuse_variables(self) -> None:
        """From here on, in this scope, variables are found and not made."""
        self._settings.scope = replace(self.scope, reuse=True)

    def set_initializer(self, initializer: Any) -> None:
        """What variables without an initializer of their own begin with."""
        self._settings.scope = replace(self.scope, initializer=initializer)


def _settings(graph: Graph) -> _Settings:
    found = graph.here.variable_scope
    if found is None:
        found = graph.here.variable_scope = _Settings(VariableScope())
    return found  # type: ignore[no-any-return]


def get_variable_scope() -> CurrentScope:
    """The scope of variables in force."""
    return CurrentScope(_settings(building("a scope of variables")))


@contextmanager
def variable_scope(
    name_or_scope: Any,
    default_name: str | None = None,
    values: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    reuse: Any = None,
    dtype: Any = None,
    auxiliary_name_scope: bool = True,
) -> Iterator[CurrentScope]:
    """A context in which names of variables begin with `name_or_scope` and a slash, and which may find them again.

    `reuse` is True (variables are found, not made), AUTO_REUSE (either), or None or False (as around it). With None
    for a name, `default_name` is made unique. Names of operations begin so as well.

    >>> import flowgraph as fg
    >>> with fg.Graph().as_default():
    ...     with fg.variable_scope("layer"):
    ...         w = fg.get_variable("w", [2])
    ...     with fg.variable_scope("layer", reuse=True):
    ...         w.name, fg.get_variable("w", [2]) is w
    ('layer/w:0', True)
    """
    graph = building("a scope of variables")
    outer = _settings(graph)
    around = outer.scope
    if isinstance(name_or_scope, CurrentScope | VariableScope):  # it is entered again, whatever is around it
        base = name_or_scope.scope if isinstance(name_or_scope, CurrentScope) else name_or_scope
        full, short = base.name, base.name.rpartition("/")[2]
    else:
        if name_or_scope is None:
            if default_name is None:
                raise UsageError("a scope of variables", "it has no name", "Give name_or_scope, or default_name.")
            short = _unique(graph, around.name, checked_name(default_name))
        else:
            short = checked_name(name_or_scope)
        base, full = around, f"{around.name}/{short}" if around.name else short
    kept = around.reuse or base.reuse
    with graph.name_scope(short) if auxiliary_name_scope and short else graph.name_scope(graph.here.scope) as names:
        scope = VariableScope(
            full,
            kept if reuse in (None, False) else reuse,
            initializer if initializer is not None else base.initializer,
            regularizer if regularizer is not None else base.regularizer,
            dtype if dtype is not None else base.dtype,
            names,
        )
        inner = graph.here.variable_scope = _Settings(scope)
        try:
            yield CurrentScope(inner)
        finally:
            graph.here.variable_scope = outer


def _unique(graph: Graph, prefix: str, name: str) -> str:
    """`name`, with a number if there are variables in such a scope."""
    taken = set(graph.variables)
    candidate, count = name, 0
    while any(one.startswith(f"{prefix}/{candidate}/" if prefix else f"{candidate}/") for one in taken):
        count += 1
        candidate = f"{name}_{count}"
    return candidate


def get_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Callable[[Any], Any] | None = None,
    trainable: bool = True,
    collections: Sequence[Any] | None = None,
) -> GraphVariable:
    """The variable called `name` in the scope in force: made, or found where the scope says `reuse`.

    `initializer` is a function of (shape, dtype), a value, or a tensor; the scope's if not given, else Glorot's uniform
    numbers (zeros for integers). Raises UsageError for a name that is there and not to be reused, or the other way
    round, and ShapeError or DTypeError for one that is there with another type.
    """
    graph = building("a variable")
    scope = _settings(graph).scope
    full = f"{scope.name}/{checked_name(name)}" if scope.name else checked_name(name)
    wanted = as_dtype(dtype if dtype is not None else scope.dtype)
    found = graph.variables.get(full)
    if found is not None:
        return _found(found, full, scope, shape, None if dtype is None else wanted)
    if scope.reuse is True:
        raise UsageError(
            f"to find the variable {full!r}",
            "there is none, and the scope says reuse=True",
            "Make it before, or say reuse=AUTO_REUSE.",
        )
    value = _first_value(initializer if initializer is not None else scope.initializer, full, shape, wanted)
    with graph.name_scope(None):
        variable = GraphVariable(value, trainable, full, wanted, None, collections)
    graph.variables[full] = variable
    penalty = regularizer if regularizer is not None else scope.regularizer
    if penalty is not None:
        with graph.name_scope(f"{full}/Regularizer"):
            loss = penalty(variable)
        if loss is not None:
            graph.add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
    return variable


def _found(variable: GraphVariable, full: str, scope: VariableScope, shape: Any, dtype: Any) -> GraphVariable:
    if scope.reuse is False or scope.reuse is None:
        raise UsageError(
            f"to make the variable {full!r}",
            "there is one of this name",
            "Say reuse=True or reuse=AUTO_REUSE in its variable_scope to use it, or choose another name.",
        )
    lengths = None if shape is None else _lengths(shape)
    if lengths is not None and lengths != variable.shape:
        raise ShapeError(
            f"to find the variable {full!r} of shape {lengths}", f"it has shape {variable.shape}", "Make them agree."
        )
    if dtype is not None and dtype != variable.dtype:
        raise DTypeError(f"to find the variable {full!r} of {dtype}", f"it has {variable.dtype}", "Make them agree.")
    return variable


def _lengths(shape: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in (shape if isinstance(shape, list | tuple) else (shape,)))


def _first_value(initializer: Any, full: str, shape: Any, dtype: np.dtype[Any]) -> Any:
    """The first value of a variable, or a function that makes it."""
    if initializer is None:
        initializer = glorot_uniform_initializer() if is_float(dtype) else zeros_initializer()
    if isinstance(initializer, type):
        initializer = initializer()
    if not callable(initializer) or isinstance(initializer, Tensor):
        lengths = None if shape is None else _lengths(shape)
        if lengths is not None and np.shape(initializer) != lengths:
            raise ShapeError(
                f"the variable {full!r} of shape {lengths}",
                f"its initializer has shape {np.shape(initializer)}",
                "Give a value of that shape, or no shape.",
            )
        return initializer
    if shape is None:
        raise ShapeError(f"the variable {full!r}", "it was given no shape", "Give a shape: get_variable(name, [2, 3]).")
    lengths = _lengths(shape)
    return lambda: initializer(lengths, dtype=dtype)
