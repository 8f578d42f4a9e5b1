"""Mesh: names for the directions in which a program is cut, and how many pieces each has."""

from __future__ import annotations

import threading
from typing import Any, Self

from flowgraph.errors import UsageError
from flowgraph.types import is_count


class Mesh:
    """A grid of places with named axes: `Mesh(data=8, model=2)` has 16.

    Inside `with mesh:` the names stand for these numbers of pieces in `shard` and in programs that run; outside of any
    mesh a name means no cut. So one model file runs on one thread and spread over a cluster.

    How often rows are cut (`rows="data"`) never changes a bit. A cut of another axis (`axes={1: "model"}`) belongs to
    the program: bits follow its number of pieces, and not who carries them.

    >>> import flowgraph as fg
    >>> mesh = fg.Mesh(data=8, model=2)
    >>> mesh["model"], mesh.size
    (2, 16)
    >>> w = fg.ones((4, 6))
    >>> with mesh:
    ...     float(fg.sum(fg.shard(w, axes={1: "model"})))
    24.0

    Raises UsageError for an axis of less than one piece, and for a name that is none in Python.
    """

    def __init__(self, **axes: Any) -> None:
        for name, pieces in axes.items():
            if not name.isidentifier():  # it becomes part of the names of tasks; shard keeps numbers for itself
                raise UsageError(f"a mesh with an axis {name!r}", "that is no name", "Use letters, digits and _.")
            if not is_count(pieces):
                raise UsageError(
                    f"a mesh with {name}={pieces!r}", "an axis has at least one piece", f"Give {name}=1 for no cut."
                )
        self.axes: dict[str, int] = dict(axes)
        """The number of pieces of each axis."""

    @property
    def size(self) -> int:
        """The number of places."""
        result = 1
        for pieces in self.axes.values():
            result *= pieces
        return result

    def __getitem__(self, name: str) -> int:
        if name not in self.axes:
            known = ", ".join(self.axes) or "none"
            raise UsageError(f"the axis {name!r} of a mesh", f"the mesh has {known}", f"Add it: Mesh(..., {name}=2).")
        return self.axes[name]

    def __enter__(self) -> Self:
        _IN_FORCE.meshes.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _IN_FORCE.meshes.pop()

    def __repr__(self) -> str:
        return f"Mesh({', '.join(f'{name}={pieces}' for name, pieces in self.axes.items())})"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Mesh) and other.axes == self.axes

    def __hash__(self) -> int:
        return hash(tuple(self.axes.items()))


class Placement(Mesh):
    """A mesh that also knows what is to be cut and where: a plan in force.

    What it says of variables holds inside its `with` block only; wishes that the model itself makes come first.
    """

    recompute = False
    """Whether rows that a later loop needs are computed again, where they could be stored."""
    rows: int | None = None
    """Into how many shards rows are cut where nobody wishes anything; None: as without a plan."""

    places: int | None = None
    """How many tasks are to work at a time; None: as many as can."""

    def wish_of(self, variable: Any) -> dict[int, int | str] | None:
        """How a variable is to be cut: for each axis, the axis of the mesh."""
        return None

    def lane_of(self, variable: Any) -> tuple[str, int] | None:
        """The lane in which work begins where a function first reads a variable."""
        return None

    def __eq__(self, other: Any) -> bool:
        return self is other

    __hash__ = object.__hash__


class _InForce(threading.local):
    def __init__(self) -> None:
        self.meshes: list[Mesh] = []


_IN_FORCE = _InForce()


def current_mesh() -> Mesh | None:
    """The mesh whose `with` block this thread is in, or None."""
    return _IN_FORCE.meshes[-1] if _IN_FORCE.meshes else None


def current_placement() -> Placement | None:
    """The plan in force, or None: the innermost mesh, if it is one."""
    mesh = current_mesh()
    return mesh if isinstance(mesh, Placement) else None


def places_in_force(workers: int) -> int:
    """How many of `workers` are to work at a time: as many as the plan in force says, else all."""
    planned = current_placement()
    return workers if planned is None or planned.places is None else planned.places


def pieces_of(name: str) -> int | None:
    """The number of pieces of an axis of the mesh in force; None outside of any mesh, where names mean no cut."""
    mesh = current_mesh()
    return None if mesh is None else mesh[name]
