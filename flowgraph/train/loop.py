"""The fit loop: steps in windows, each a run whose state goes in and comes out.

A window is committed to the variables when it is done and its losses are finite; what fails in a window leaves the
state as it was before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgraph.context import Hooks
from flowgraph.errors import DivergedError, ShapeError, UsageError
from flowgraph.kernel import Kernel, Rows, clean
from flowgraph.lower import lower_call, new_token
from flowgraph.run import Executor, resolve
from flowgraph.sources import portable, type_of
from flowgraph.state import Variable, value_of
from flowgraph.train.batches import Batches, Buffer, Part, buffer_pieces, load, portable_part
from flowgraph.train.given import given, held, row_count
from flowgraph.train.optimizers import Optimizer
from flowgraph.train.pace import Bar, Pace
from flowgraph.train.step import Step
from flowgraph.types import is_count
from flowgraph.watch import get_watched, watching

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class History:
    """What a fit did."""

    losses: Array
    """The loss of each step, before its update."""
    seconds: float
    """How long it took."""

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.losses)


def fit(
    loss: Callable[..., Any],
    data: Any = (),
    *,
    variables: Sequence[Variable],
    optimizer: Optimizer,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    window: int | None = None,
    client: Any = None,
    scheduler: Any = None,
    progress: bool | Callable[[int, float], Any] = False,
    stop: Callable[[int, Array], bool] | None = None,
) -> History:
    """Make `loss` small by steps of `optimizer` on `variables`; returns the history of losses.

    `loss(*batch)` returns a scalar tensor; random draws in it are new in every step. `data` is an array, tensor or
    source, or a tuple of them with equally many rows; each step sees all of it, or `batch_size` rows. How long:
    `steps`, or `epochs` over the data (one if neither is given). Mini-batches are a function of `seed`, epoch, number
    of rows and batch size alone; with `shuffle=False` they come in order. `window` is the number of steps in a run
    (chosen by time if None); it has no influence on the result. `progress` shows a bar, or is called with (steps done,
    last loss) after each window; `stop` with (steps done, losses of the window) and ends the fit by returning True.

    On a cluster whose workers have too little memory for the variables and the optimizer's state, they are cut as
    `fg.plan` finds best; wishes of the model and a mesh in force (or a plan) come first.

    Raises DivergedError, naming the step, when the loss or a variable is no longer finite: the variables then have the
    values from before the window.

    >>> import numpy as np, flowgraph as fg
    >>> w = fg.Variable(0.0)
    >>> history = fg.fit(
    ...     lambda x, y: fg.keras.losses.mse(y, w * x),
    ...     (np.ones(4, "f4"), np.full(4, 3, "f4")),
    ...     variables=[w],
    ...     optimizer=fg.keras.optimizers.SGD(0.25),
    ...     steps=20,
    ... )
    >>> round(float(w), 3)
    3.0
    """
    wish = _Wish(batch_size, shuffle, seed)
    variables = list(variables)
    with Hooks.placed(loss, data, variables, optimizer, client, scheduler):
        return _Fit(loss, data, variables, optimizer, wish, client, scheduler).run(
            steps, epochs, window, progress, stop
        )


@dataclass(frozen=True)
class _Wish:
    """What the caller said about mini-batches."""

    size: int | None
    shuffle: bool
    seed: int


def run_steps(kernel: Kernel, starts: Any, totals: Any, wanted: Any, parts: Any) -> tuple[Array, list[Any]]:
    """A window of steps in one call: (losses, new state). Runs here or as a task on a worker."""
    fed = []
    for part, (cut, dtype) in zip(parts, wanted, strict=True):
        if isinstance(part, list | tuple):
            pieces, intervals, seed, rows = part
            part = load(pieces, Buffer(tuple(intervals), seed, rows).order()) if intervals else load(pieces, None)
        fed.append(clean(part, dtype) if cut is None else Rows([part], dtype, *cut))
    history = np.empty(len(starts), np.float64)
    state = kernel(len(starts), starts, history, *totals, *fed)
    return history, list(state)


class _Fit:
    """One call of `fit`."""

    def __init__(
        self, loss: Any, data: Any, variables: Any, optimizer: Any, batches: _Wish, client: Any, scheduler: Any
    ) -> None:
        nodes, wishes = given(data)
        self.values = list(map(value_of, nodes))
        self.rows = row_count(self.values)
        self.step = Step(loss, [type_of(one) for one in self.values], list(variables), optimizer, wishes)
        self.batches = None
        if batches.size is not None:
            if not self.values:
                raise UsageError(f"batch_size={batches.size!r}", "there is no data to take batches of", "Leave it out.")
            self.batches = Batches(self.rows, batches.size, bool(batches.shuffle), batches.seed)
        self.executor: Executor = resolve(client, scheduler)
        self.values = [held(one, self.executor) for one in self.values]
        self.state, outside = self.step.inputs()
        self.captured = [held(one, self.executor) for one in outside]
        self._check_outside_rows()

    def _check_outside_rows(self) -> None:
        """Refuse rows that meet those of a batch and do not come with it: they would pair with other rows each time."""
        program, first = self.step.program, len(self.values)
        values = [*self.state, *self.captured]
        for cut, value in zip(program.input_cuts[first:], values, strict=True):
            if cut is None or cut[1].mesh not in self.step.batch_meshes:
                continue
            count = type_of(value).shape[cut[0]] // cut[1].times
            if self.batches is not None or count != self.rows:
                raise ShapeError(
                    f"to train on {self.rows} rows" + (" in batches" if self.batches is not None else ""),
                    f"the loss also reads {count} rows from outside, one beside each row of the data",
                    "Give them as a part of `data`, so that they come with their batch.",
                )

    def run(self, steps: Any, epochs: Any, window: Any, progress: Any, stop: Any) -> History:
        total = self._total(steps, epochs)
        if window is not None and not is_count(window):
            raise UsageError(f"fit with window={window!r}", "it must be a whole number above 0", "Give window=100.")
        began = time.perf_counter()
        losses: list[Array] = []
        done = 0
        with self._reachable(), Bar(progress, total) as bar:
            for own in self._windows(total, Pace(window)):
                self._check(own, done)
                losses.append(own)
                self.step.commit(self.state)
                done += len(own)
                bar.update(done, float(own[-1]))
                if stop is not None and stop(done, own):
                    break
        return History(np.concatenate(losses) if losses else np.empty(0), time.perf_counter() - began)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """A context in which workers can read the data: once for all steps, not once a step."""
        if self.executor.shares_memory:
            yield
            return
        with portable(self.values) as self.values, portable(self.captured) as self.captured:
            yield

    def _total(self, steps: Any, epochs: Any) -> int:
        per_epoch = self.batches.steps_per_epoch if self.batches is not None else 1
        for name, value in (("steps", steps), ("epochs", epochs)):
            if value is not None and not is_count(value):
                raise UsageError(f"fit with {name}={value!r}", "it must be a whole number above 0", f"Give {name}=100.")
        if steps is not None and epochs is not None:
            raise UsageError("fit with steps and epochs", "both say how long to train", "Give one of them.")
        return int(steps) if steps is not None else per_epoch * int(epochs if epochs is not None else 1)

    def _check(self, losses: Array, before: int) -> None:
        """Raise DivergedError if a loss of the last window, or a value after it, is not finite."""
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            found = f"the loss at step {before + int(bad[0]) + 1} is {losses[bad[0]]}"
        elif not all(np.isfinite(one).all() for one in self.state):
            found = f"a variable or a slot of the optimizer is not finite after step {before + len(losses)}"
        else:
            return
        remedy = "Lower the learning rate, or scale the data; the variables are as they were before this window."
        raise DivergedError("to train", found, remedy)

    def _windows(self, total: int, pace: Pace) -> Iterator[Array]:
        """The losses of each window; `state` moves on with it."""
        batches = self._batches() if self.batches is not None else self._same_batch(total)
        for values, starts, size in batches:
            while starts and total > 0:
                count = min(pace.steps, total, len(starts))
                with pace.of(count):
                    yield self._window(values, starts[:count], size)
                starts, total = starts[count:], total - count
            if total <= 0:
                return

    def _same_batch(self, total: int) -> Iterator[tuple[Any, list[int], int]]:
        """Full batches: all rows in every step."""
        yield self.values, [0] * total, self.rows

    def _batches(self) -> Iterator[tuple[Any, list[int], int]]:
        """Mini-batches: for each buffer of rows, the first row of each batch and the rows of a batch."""
        assert self.batches is not None
        size, epoch = self.batches.batch_size, 0
        while True:
            for buffer in self.batches.epoch(epoch):
                values: list[Any] = [Part(buffer_pieces(one, buffer), buffer) for one in self.values]
                if self.executor.shares_memory and not any(one.tasks() for one in self._sources()):
                    values = [one.load() for one in values]  # once for all windows of the buffer
                short = buffer.rows % size
                yield values, list(range(0, buffer.rows - size + 1, size)), size
                if short:
                    yield values, [buffer.rows - short], short
            epoch += 1

    def _window(self, values: Sequence[Any], starts: Sequence[int], size: int) -> Array:
        """The losses of a window of steps: one call of a kernel if a batch fits a tile, else tasks over shards."""
        program, step = self.step.program, self.step
        types = [*self.values, *self.state, *self.captured]
        counts = program.row_counts(types, step.entry.rows, of_inputs=False) | dict.fromkeys(step.batch_meshes, size)
        if program.is_small(counts):
            return self._window_in_one(values, starts, counts)
        if self.batches is None:
            return self._window_over_shards(values, len(starts), counts)
        loaded = [one.load() if isinstance(one, Part) else one for one in values]
        return np.concatenate([self._window_over_shards([v[s : s + size] for v in loaded], 1, counts) for s in starts])

    def _window_in_one(self, values: Sequence[Any], starts: Sequence[int], counts: Any) -> Array:
        program = self.step.program
        kernel = self.step.full_window if self.batches is None else self.step.window
        totals = [counts[mesh] for mesh in program.meshes]
        wanted = [
            (None if cut is None else (cut[0], cut[1].times), node.type.dtype)
            for node, cut in zip(program.parts.graph.inputs, program.input_cuts, strict=True)
        ]
        parts = [*map(portable_part, values), *self.state, *map(portable_part, self.captured)]
        arguments = (kernel, list(starts), totals, wanted, parts)
        if self.executor.shares_memory and not watching() and not any(one.tasks() for one in self._sources()):
            history, self.state = run_steps(*arguments)
        else:
            graph, key = lower_call(run_steps, arguments, "window", new_token(), self._sources())
            ((history, self.state),), spans = get_watched(self.executor, graph, [key])
            program.note(spans, lambda key: "program", len(starts))
        return history

    def _sources(self) -> list[Any]:
        return [one for one in (*self.values, *self.captured) if not isinstance(one, np.ndarray)]

    def _window_over_shards(self, values: Sequence[Any], count: int, counts: Any) -> Array:
        given = [*values, *self.state, *self.captured]
        history, self.state = self.step.program.run_steps(given, counts, self.executor, self.step.updates, count)
        return np.array(history, np.float64)
