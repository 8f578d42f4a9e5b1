"""Plans that nobody asked for: where the workers of a client have too little memory to train without one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from flowgraph.apply import convert
from flowgraph.errors import UsageError
from flowgraph.graph import value_bytes
from flowgraph.mesh import current_mesh
from flowgraph.partition.cost import Grid
from flowgraph.planner.plan import Plan, machine_of
from flowgraph.planner.search import Machine, Search
from flowgraph.planner.subject import subject_of
from flowgraph.run import resolve

ENOUGH = 64
"""A worker that holds so many times the variables holds their state as well: nothing needs to be planned."""


def placed(loss: Any, data: Any, variables: Sequence[Any], optimizer: Any, client: Any) -> Any:
    """The context in which to train: a plan where memory forbids to train without one, else none at all."""
    wished = current_mesh() is not None or any(getattr(one, "_wish", None) is not None for one in variables)
    owner = getattr(client, "__self__", client)  # Dask hands out `client.get` for a client
    owner = owner if hasattr(owner, "nthreads") else None
    if wished or resolve(owner, client if owner is None else None).name != "cluster":
        return nullcontext()
    machine = machine_of(owner)
    if machine.memory is None or ENOUGH * sum(value_bytes(one.type) for one in variables) <= machine.memory:
        return nullcontext()
    parts = data if isinstance(data, tuple | list) else (data,)
    found = needed(loss, [convert(one) for one in parts], variables, optimizer, machine)
    return nullcontext() if found is None else found


def needed(loss: Any, data: Sequence[Any], variables: Sequence[Any], optimizer: Any, machine: Machine) -> Plan | None:
    """The plan to train by; None where every place can hold all of the state, or where nothing would fit at all."""
    subject = subject_of(loss, data, optimizer, variables)
    search = Search(subject, machine)
    if search.fits(Grid(data=machine.places)):
        return None
    try:
        return Plan(subject, machine, *search.best())
    except UsageError:  # the prediction is careful: what is predicted not to fit may fit
        return None
