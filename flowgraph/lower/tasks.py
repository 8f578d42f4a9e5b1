"""Tasks: entries of a task graph, what they are called, and how one takes the results of others.

A task is named ("flowgraph-<stage>-<run>", step, shard); it holds a kernel and arrays, never a node or a tensor.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from flowgraph.lower.calls import assemble, pick, task_name

OTHER = "other tasks"
"""The stage of tasks that are none of ours: those of a dask array."""


class Result(NamedTuple):
    """Where a value is found after a run, or by another task."""

    keys: tuple[Any, ...]
    """The tasks that have it: one, or one for each shard."""
    item: int | None = None
    """Which of the results of these tasks it is; None if it is all they return."""
    axis: int | None = None
    """The axis along which shards are joined."""


class Tasks:
    """The tasks of one run so far."""

    def __init__(self, run: str, step: int) -> None:
        from dask import task_spec  # half of the time that `import flowgraph` may take

        self.spec = task_spec
        self.run, self.step = run, step
        self.graph: dict[Any, Any] = {}
        self._names: dict[str, str] = {}
        self._stages: dict[str, str] = {}

    def key(self, name: str, shard: int) -> Any:
        """The key of a task."""
        return (self._named(name), self.step, shard)

    def lasting(self, name: str, shard: int) -> Any:
        """The key of a task that all steps share: no step has its number."""
        return (self._named(name), -1, shard)

    def _named(self, name: str) -> str:
        if name not in self._names:
            text = self._names[name] = task_name(name, self.run)
            self._stages[text] = name.partition("-")[0]
        return self._names[name]

    def stage_of(self, key: Any) -> str:
        """The stage that a task belongs to: the name of its kernel, `input`, or OTHER for tasks that were there."""
        return self._stages.get(key[0] if isinstance(key, tuple) else key, OTHER)

    def of_step(self, step: int) -> set[Any]:
        """The tasks of a step."""
        return {key for key in self.graph if isinstance(key, tuple) and key[0] in self._stages and key[1] == step}

    def single_key(self, result: Result, key: Any) -> Any:
        """The key of a task whose result is the value of an output, all in one."""
        keys = self.spec.List(*map(self.spec.TaskRef, result.keys))
        return self.task(key, assemble, keys, result.item, result.axis)

    def refs(self, found: Result) -> Any:
        """What tasks found as an argument of another."""
        return self.spec.List(*[self.ref(key, found.item) for key in found.keys])

    def ref(self, key: Any, item: int | None) -> Any:
        """The result of a task, or one of its results, as an argument of another."""
        ref = self.spec.TaskRef(key)
        return ref if item is None else self.spec.Task(None, pick, ref, item)

    def listed(self, parts: list[Any]) -> Any:
        """The pieces of several operands as one argument of a task."""
        return parts if all(type(one) is list for one in parts) else self.spec.List(*parts)

    def task(self, key: Any, function: Any, *args: Any) -> Any:
        """Emit a task that calls `function`; its key."""
        self.graph[key] = self.spec.Task(key, function, *args)
        return key

    def shared(self, name: str, number: int, value: Any) -> Any:
        """A value that many tasks take, as a task of its own, so that it travels once."""
        key = self.lasting(name, number)
        if key not in self.graph:
            self.graph[key] = self.spec.DataNode(key, value)
        return self.spec.TaskRef(key)
