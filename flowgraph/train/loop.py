"""The fit loop: steps in windows, each a run whose state goes in and comes out.

A window is committed to the variables when it is done and its losses are finite; what fails in a window leaves the
state as it was before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgraph.errors import DivergedError, ShapeError, UsageError
from flowgraph.kernel import Rows
from flowgraph.program import clean
from flowgraph.run import Executor, resolve
from flowgraph.session import Variable
from flowgraph.tensor import Tensor, convert
from flowgraph.train.batches import Batches, buffer_pieces, load
from flowgraph.train.optimizers import Optimizer
from flowgraph.train.step import Step

FIRST_WINDOW = 32
WINDOW_SECONDS = 0.1
"""Windows grow until they take about so long: often enough for a progress bar, long enough to cost nothing."""


@dataclass(frozen=True)
class History:
    """What a fit did."""

    losses: np.ndarray[Any, Any]
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
    stop: Callable[[int, np.ndarray[Any, Any]], bool] | None = None,
) -> History:
    """Make `loss` small by steps of `optimizer` on `variables`; returns the history of losses.

    `loss(*batch)` returns a scalar tensor. `data` is an array, tensor or source, or a tuple of them with equally many
    rows; each step sees all of it, or `batch_size` rows. How long: `steps`, or `epochs` over the data (one if neither is
    given). Mini-batches are a function of `seed`, epoch, number of rows and batch size alone; with `shuffle=False` they
    come in order. `window` is the number of steps in a run (chosen by time if None); it has no influence on the result.
    `progress` shows a bar, or is called with (steps done, last loss) after each window; `stop` with (steps done, losses
    of the window) and ends the fit by returning True.

    Raises DivergedError, naming the step, when the loss is no longer finite: the variables then have the values from
    before the window.

    >>> import numpy as np, flowgraph as fg
    >>> w = fg.Variable(0.0)
    >>> history = fg.fit(
    ...     lambda x, y: fg.keras.losses.mse(y, w * x), (np.ones(4, "f4"), np.full(4, 3, "f4")),
    ...     variables=[w], optimizer=fg.keras.optimizers.SGD(0.25), steps=20)
    >>> round(float(w), 3)
    3.0
    """
    return _Fit(loss, data, variables, optimizer, batch_size, shuffle, seed, client, scheduler).run(
        steps, epochs, window, progress, stop
    )


class _Fit:
    def __init__(
        self, loss: Any, data: Any, variables: Any, optimizer: Any, batch_size: Any, shuffle: bool, seed: int, client: Any, scheduler: Any
    ) -> None:
        self.values = _values(data)
        self.rows = _row_count(self.values)
        types = [convert(one).type if isinstance(one, Tensor) else _type(one) for one in self.values]
        self.step = Step(loss, types, list(variables), optimizer)
        self.batches = None
        if batch_size is not None:
            self.batches = Batches(self.rows, batch_size, bool(shuffle), int(seed))
        self.executor: Executor = resolve(client, scheduler)
        self.client, self.scheduler = client, scheduler
        self.state = self.step.state_values()
        self.captured = self.step.captured_values()

    def run(self, steps: Any, epochs: Any, window: Any, progress: Any, stop: Any) -> History:
        total = self._total(steps, epochs)
        began = time.perf_counter()
        losses: list[np.ndarray[Any, Any]] = []
        done = 0
        with _Bar(progress, total) as bar:
            for own in self._windows(total, window):
                self._check(own, done)
                losses.append(own)
                self.step.commit(self.state)
                done += len(own)
                bar.update(done, float(own[-1]))
                if stop is not None and stop(done, own):
                    break
        return History(np.concatenate(losses) if losses else np.empty(0), time.perf_counter() - began)

    def _total(self, steps: Any, epochs: Any) -> int:
        per_epoch = self.batches.steps_per_epoch if self.batches is not None else 1
        for name, value in (("steps", steps), ("epochs", epochs)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"fit with {name}={value!r}", "it must be a whole number above 0", f"Give {name}=100.")
        if steps is not None and epochs is not None:
            raise UsageError("fit with steps and epochs", "both say how long to train", "Give one of them.")
        return int(steps) if steps is not None else per_epoch * int(epochs if epochs is not None else 1)

    def _check(self, losses: np.ndarray[Any, Any], before: int) -> None:
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            step = before + int(bad[0]) + 1
            raise DivergedError(
                "to train",
                f"the loss at step {step} is {losses[bad[0]]}",
                "Lower the learning rate, or scale the data; the variables are as they were before this window.",
            )

    def _windows(self, total: int, window: int | None) -> Iterator[np.ndarray[Any, Any]]:
        """The losses of each window; `state` moves on with it."""
        if self.batches is None:
            yield from self._full_batch(total, window)
        else:
            done = epoch = 0
            while done < total:
                for own in self._epoch(epoch, total - done, window):
                    done += len(own)
                    yield own
                epoch += 1

    def _full_batch(self, total: int, window: int | None) -> Iterator[np.ndarray[Any, Any]]:
        pace = _Pace(window)
        arrays = all(isinstance(one, np.ndarray) for one in self.values)
        meshes = self.step.batch_meshes
        fits = all(self.rows <= self.step.program.plan.tile[mesh] for mesh in meshes)
        in_loop = fits and arrays and self.executor.shares_memory and self._captured_fit()
        while total > 0:
            count = min(pace.steps if in_loop else 1, total)
            with pace:
                yield self._steps_here(self.values, [0] * count, self.rows) if in_loop else self._one_step(self.values)
            total -= count

    def _captured_fit(self) -> bool:
        """Whether everything else that the step reads by rows fits a tile too."""
        program = self.step.program
        counts = program.row_counts(self._inputs(self.values), self.step.entry.rows)
        return all(count <= program.plan.tile[mesh] for mesh, count in counts.items())

    def _epoch(self, epoch: int, most: int, window: int | None) -> Iterator[np.ndarray[Any, Any]]:
        assert self.batches is not None
        size = self.batches.batch_size
        pace = _Pace(window)
        for buffer in self.batches.epoch(epoch):
            order = buffer.order()
            values = [load(buffer_pieces(one, buffer), order) for one in self.values]
            fits = all(size <= self.step.program.plan.tile[mesh] for mesh in self.step.batch_meshes)
            starts = list(range(0, buffer.rows - size + 1, size))
            while starts and most > 0:
                count = min(pace.steps if fits else 1, most, len(starts))
                own, starts = starts[:count], starts[count:]
                with pace:
                    yield self._batch_steps(values, own, size, fits)
                most -= count
            short = buffer.rows % size
            if short and most > 0:
                yield self._batch_steps(values, [buffer.rows - short], short, fits)
                most -= 1
            if most <= 0:
                return

    def _batch_steps(self, values: Sequence[Any], starts: Sequence[int], size: int, fits: bool) -> np.ndarray[Any, Any]:
        if fits:
            return self._steps_here(values, starts, size)
        return np.concatenate([self._one_step([one[start : start + size] for one in values]) for start in starts])

    def _inputs(self, values: Sequence[Any]) -> list[Any]:
        return [*values, *self.state, *self.captured]

    def _steps_here(self, values: Sequence[Any], starts: Sequence[int], size: int) -> np.ndarray[Any, Any]:
        """A window as one call of the kernel that loops over steps."""
        program, step = self.step.program, self.step
        counts = program.row_counts(self._inputs(values), self.step.entry.rows, of_inputs=False)
        counts |= dict.fromkeys(step.batch_meshes, size)
        fed: list[Any] = []
        for node, cut, value in zip(program.parts.graph.inputs, program.input_cuts, self._inputs(values), strict=True):
            dtype = node.type.dtype
            fed.append(clean(value, dtype) if cut is None else Rows([np.asarray(value)], dtype, cut[0], cut[1].times))
        history = np.empty(len(starts), np.float64)
        kernel = step.full_window if self.batches is None else step.window
        self.state = list(kernel(len(starts), starts, history, *(counts[m] for m in program.meshes), *fed))
        return history

    def _one_step(self, values: Sequence[Any]) -> np.ndarray[Any, Any]:
        """A step as a run of the program: over shards, on any executor."""
        results = self.step.program.run(
            self._inputs(values), self.client, self.scheduler, self.step.entry.rows
        )
        self.state = results[1:]
        return np.array([results[0]], np.float64)


class _Pace:
    """Chooses how many steps a window has, from how long the last ones took."""

    def __init__(self, steps: int | None) -> None:
        self.fixed = steps is not None
        self.steps = steps if steps is not None else FIRST_WINDOW
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if not self.fixed:
            seconds = time.perf_counter() - self._began
            if seconds < WINDOW_SECONDS / 2:
                self.steps *= 2
            elif seconds > WINDOW_SECONDS * 2 and self.steps > 1:
                self.steps //= 2


class _Bar:
    """A progress bar, a callback, or nothing."""

    def __init__(self, progress: Any, total: int) -> None:
        self.progress, self.total = progress, total
        self.bar: Any = None

    def __enter__(self) -> _Bar:
        if self.progress is True:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=self.total, unit="step")
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, done: int, loss: float) -> None:
        """Show that `done` steps are done."""
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.6g}", refresh=False)
            self.bar.update(done - self.bar.n)
        elif callable(self.progress):
            self.progress(done, loss)


def _values(data: Any) -> list[Any]:
    """The arrays and sources of the data, computed if they are tensors that wait."""
    parts = data if isinstance(data, tuple | list) else (data,)
    values = []
    for one in parts:
        tensor = convert(one)
        if tensor.node.memo is None:
            tensor.numpy()
        values.append(tensor.node.memo)
    return values


def _type(value: Any) -> Any:
    return convert(value).type if isinstance(value, np.ndarray) else value.type


def _row_count(values: Sequence[Any]) -> int:
    counts = []
    for value in values:
        shape = _type(value).shape
        if not shape:
            raise ShapeError("data for fit", "a scalar has no rows", "Give arrays with one row a sample.")
        counts.append(shape[0])
    if len(set(counts)) > 1:
        raise ShapeError(
            "data for fit", f"its parts have {', '.join(map(str, counts))} rows", "Give parts with equally many rows."
        )
    if counts and counts[0] == 0:
        raise ShapeError("data for fit", "it has no rows", "Give at least one row.")
    return counts[0] if counts else 0
