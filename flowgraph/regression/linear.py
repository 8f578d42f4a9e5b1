"""Linear regression: the rows of an ingest pass in, a LinearModel out, all passes over the rows by the engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowgraph.data import Ingested
from flowgraph.data.source import counted, nearest, quoted
from flowgraph.errors import DivergedError, UsageError
from flowgraph.ops.create import asarray, cast, from_blocks
from flowgraph.ops.elementwise import square
from flowgraph.ops.reduce import mean, sum
from flowgraph.regression.model import LinearModel
from flowgraph.regression.scaling import Scaling, scaling_of
from flowgraph.state import Variable, function
from flowgraph.tensor import Tensor
from flowgraph.train import History, fit
from flowgraph.train.losses import huber, mae, mse
from flowgraph.train.optimizers import SGD, Adam, Optimizer

LOSSES = ("mse", "mae", "huber")
OPTIMIZERS = ("adam", "sgd")
STEPS = 500
LEARNING_RATE = 0.1
_FLAT_STEPS = 50
_HOPELESS = 2.0
_BYTES_A_SECOND = 1e9
_WINDOW_SECONDS = 0.5

Progress = Callable[[int, int, float], object]


@dataclass(frozen=True)
class Options:
    """How to fit; see `fit_linear`."""

    loss: str
    optimizer: str
    learning_rate: float
    steps: int
    batch_size: int | None
    delta: float | None
    ridge: float
    seed: int


def fit_linear(
    data: Ingested,
    *,
    loss: str = "mse",
    optimizer: str = "adam",
    learning_rate: float | str | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    delta: float | None = None,
    ridge: float = 0.0,
    seed: int = 0,
    client: Any = None,
    scheduler: Any = None,
    progress: Progress | None = None,
) -> LinearModel:
    """Returns the linear model that makes the mean `loss` over the rows of `data` small.

    `loss`: "mse", "mae" or "huber"; `delta`: where huber goes from squares to absolute values, in units of the target
    (one standard deviation of it if None). `ridge`: so many times the sum of the squared coefficients is added to the
    loss, both as they are for standardised columns and a standardised target.
    `optimizer`: "adam" or "sgd"; `learning_rate`: of the first step (0.1 if None), it falls to 0 over the steps.
    Columns are standardised and freed of their correlations inside, so it need not be fitted to the data.
    `steps` (500 if None) or `epochs`: when to stop, at the latest. Without `batch_size` each step sees all rows, and
    the fit ends when the loss no longer changes. Batches are drawn by `seed`.
    `client`, `scheduler`: where to run. `progress`: called with (steps done, steps planned, loss).

    Raises UsageError for arguments that can not be used, DataError for columns that determine one another, and
    DivergedError if the loss is not finite, or ends far above where it began.

    >>> from flowgraph.data import ingest_csv
    >>> model = fit_linear(ingest_csv("examples/student_scores.csv", target="Scores"))
    >>> round(model.intercept, 4), model.coefficients.round(4)
    (2.4837, array([9.7758]))
    """
    options = _checked(data, loss, optimizer, learning_rate, steps, epochs, batch_size, delta, ridge, seed)
    x, y = _tensor(data.features), _tensor(data.target)
    scaling = scaling_of(data, x, options.ridge, client, scheduler)
    return _Fit(data, options, scaling, client, scheduler).run(x, y, progress)


class _Fit:
    def __init__(self, data: Ingested, options: Options, scaling: Scaling, client: Any, scheduler: Any) -> None:
        self.data, self.options, self.scaling = data, options, scaling
        self.client, self.scheduler = client, scheduler
        self.dtype = data.features[0].dtype
        self.unit = scaling.target_deviation if options.loss == "mae" else scaling.target_deviation**2
        """What one unit of the loss is worth outside."""
        self.weights = Variable(np.zeros(scaling.basis.shape[-1], self.dtype), name="weights")
        self.bias = Variable(np.zeros((), self.dtype), name="bias")
        self._mean, self._basis, self._deviation = (
            one.astype(self.dtype) for one in (scaling.mean, scaling.basis, scaling.deviation)
        )

    def run(self, x: Tensor, y: Tensor, progress: Progress | None) -> LinearModel:
        before, _ = self._measure(x, y)
        history = self._train(x, y, progress)
        after, squares = self._measure(x, y)
        self._check(before, after)
        assert self.data.target_name is not None and self.data.target_moments is not None
        varies = bool(self.data.target_moments.minimum != self.data.target_moments.maximum)
        coefficients = self.scaling.slopes(self.weights.numpy().astype(np.float64), self.scaling.basis)
        coefficients = coefficients * self.scaling.target_deviation
        intercept = self.scaling.target_mean + self.scaling.target_deviation * float(self.bias.numpy())
        return LinearModel(
            feature_names=self.data.feature_names,
            target_name=self.data.target_name,
            coefficients=coefficients,
            intercept=intercept - float(self.scaling.mean @ coefficients),
            loss_name=self.options.loss,
            delta=self.options.delta,
            ridge=self.options.ridge,
            loss=after * self.unit,
            r2=1 - squares if varies else None,
            rows=self.data.rows,
            steps=history.steps,
            planned_steps=self.options.steps,
            seconds=history.seconds,
            losses=history.losses.astype(np.float64) * self.unit,
        )

    def _train(self, x: Tensor, y: Tensor, progress: Progress | None) -> History:
        options, steps = self.options, self.options.steps
        made: Callable[..., Optimizer] = Adam if options.optimizer == "adam" else SGD
        told = (lambda done, value: progress(done, steps, value * self.unit)) if progress is not None else False
        try:
            return fit(
                self._objective,
                (x, y),
                variables=[self.weights, self.bias],
                optimizer=made(Cooling(options.learning_rate, steps)),
                steps=steps,
                batch_size=options.batch_size,
                seed=options.seed,
                window=self._window() if options.batch_size is None else None,
                client=self.client,
                scheduler=self.scheduler,
                progress=told,
                stop=_Plateau(self.dtype) if options.batch_size is None else None,
            )
        except DivergedError as error:
            raise self._diverged(error.found) from error

    def _window(self) -> int:
        """Steps a run: of those numbers that meet every `_FLAT_STEPS` the largest that shows progress now and then."""
        seconds = self.data.rows * (len(self.data.feature_names) + 1) * self.dtype.itemsize / _BYTES_A_SECOND
        return next((count for count in (50, 25, 10, 5, 2) if count * seconds <= _WINDOW_SECONDS), 1)

    def _prediction(self, x: Tensor) -> Tensor:
        """Of the scaled target, shape `(rows,)`."""
        result: Tensor = (x - self._mean) @ self.scaling.slopes(self.weights, self._basis) + self.bias
        return result

    def _scaled(self, y: Tensor) -> Tensor:
        result: Tensor = (y - self.scaling.target_mean) * (1 / self.scaling.target_deviation)
        return result

    def _loss(self, true: Tensor, predicted: Tensor) -> Tensor:
        if self.options.loss == "huber":
            assert self.options.delta is not None
            # Half squares, as everywhere; units of the target outside, of its deviation in here.
            return huber(true, predicted, self.options.delta / self.scaling.target_deviation)
        return mse(true, predicted) if self.options.loss == "mse" else mae(true, predicted)

    def _objective(self, x: Tensor, y: Tensor) -> Tensor:
        value = self._loss(self._scaled(y), self._prediction(x))
        if self.options.ridge > 0:
            standard = self.scaling.slopes(self.weights, self._basis) * self._deviation
            value = value + sum(square(standard)) * self.options.ridge
        return value

    def _measure(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        """The mean loss and the mean square of the residuals, of the scaled target, by one pass of the engine."""

        def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            true, predicted = self._scaled(y), self._prediction(x)
            return self._loss(true, predicted), mean(square(true - predicted))

        loss, squares = function(both, client=self.client, scheduler=self.scheduler)(x, y)
        return float(loss), float(squares)

    def _check(self, before: float, after: float) -> None:
        if not after <= _HOPELESS * before + float(np.finfo(self.dtype).eps):
            first, last, steps = before * self.unit, after * self.unit, self.options.steps
            raise self._diverged(f"the loss went from {first:.6g} to {last:.6g} in {counted(steps, 'step')}")

    def _diverged(self, found: str) -> DivergedError:
        options = self.options
        asked = (
            f"fit {quoted(self.data.target_name)} by {options.optimizer} with learning rate {options.learning_rate:g}"
        )
        remedy = f"Lower the learning rate (`--learning-rate`); {LEARNING_RATE} suits most data, whatever their units."
        return DivergedError(asked, found, remedy)


class Cooling:
    """The learning rate of a step: `first` at step 0, 0 after `steps`, level at both ends.

    Losses with a kink, and batches, never settle at a constant rate.

    >>> [round(float(Cooling(1.0, 4)(step)), 3) for step in range(5)]
    [1.0, 0.844, 0.5, 0.156, 0.0]
    """

    def __init__(self, first: float, steps: int) -> None:
        self.first, self.steps = first, steps

    def __call__(self, step: Any) -> Any:
        """The rate of a step, in double precision."""
        left = 1 - cast(step, np.float64) * (1 / self.steps)
        return self.first * left * left * (3 - 2 * left)


class _Plateau:
    """Whether the last losses are all the same, but for rounding: then further steps would change nothing.

    It answers at fixed steps only. Asked after each run of steps, whose number is a matter of time, it would make the
    result one too.
    """

    def __init__(self, dtype: Any) -> None:
        self._tolerance = 8 * float(np.finfo(dtype).eps)
        self._last: list[float] = []

    def __call__(self, done: int, losses: NDArray[Any]) -> bool:
        self._last = [*self._last, *losses[-_FLAT_STEPS:].tolist()][-_FLAT_STEPS:]
        high, low = max(self._last), min(self._last)
        # Below the floor a fit is exact for every purpose, and its loss would shrink for ever.
        flat = high - low <= self._tolerance * max(high, 1e-8)
        return flat and done % _FLAT_STEPS == 0 and len(self._last) == _FLAT_STEPS


def _tensor(blocks: Sequence[NDArray[Any]]) -> Tensor:
    """The rows of all blocks; a single one as it is, which spares small data the way of the large."""
    return asarray(np.asarray(blocks[0])) if len(blocks) == 1 else from_blocks(blocks)


def _checked(
    data: Any, loss: str, optimizer: str, learning_rate: Any, steps: Any, epochs: Any, batch_size: Any,
    delta: Any, ridge: Any, seed: Any,
) -> Options:  # fmt: skip
    if not isinstance(data, Ingested):
        remedy = "Read the rows first: fit_linear(ingest_csv(files, target=...))."
        raise UsageError("fit a linear model", f"the rows are a {type(data).__name__}", remedy)
    if data.target_moments is None:
        raise UsageError("fit a linear model", "the rows have no target", "Read them with a target column.")
    for name, value, known in (("loss", loss, LOSSES), ("optimizer", optimizer, OPTIMIZERS)):
        if value not in known:
            found = f"there is no such {name}; there are {', '.join(known)}"
            raise UsageError(f"fit with {name}={value!r}", found, f"{nearest(str(value), known)}Use one of these.")
    if steps is not None and epochs is not None:
        raise UsageError("fit with steps and epochs", "both say how long to train", "Give one of them.")
    size = None if batch_size is None else count_of("batch_size", batch_size)
    planned = STEPS if steps is None else count_of("steps", steps)
    if epochs is not None:
        planned = count_of("epochs", epochs) * (1 if size is None else -(-data.rows // size))
    rate = LEARNING_RATE if learning_rate is None else positive_of("learning_rate", learning_rate)
    deviation = math.sqrt(float(data.target_moments.variance)) or 1.0
    if loss == "huber":
        delta = deviation if delta is None else positive_of("delta", delta)
    elif delta is not None:
        raise UsageError(f"fit with loss={loss!r} and delta={delta!r}", "only huber has a delta", "Use loss='huber'.")
    penalty = 0.0 if _number(ridge) == 0 else positive_of("ridge", ridge)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"fit with seed={seed!r}", "it must be a whole number, 0 or above", "Use seed=0, say.")
    return Options(loss, optimizer, rate, planned, size, delta, penalty, int(seed))


def count_of(name: str, value: Any) -> int:
    """Returns `value`, a whole number above 0; raises UsageError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise UsageError(f"fit with {name}={value!r}", "it must be a whole number above 0", f"Use {name}=100, say.")
    return int(value)


def positive_of(name: str, value: Any) -> float:
    """Returns `value`, a number or the text of one, as a float above 0; raises UsageError for anything else."""
    number = _number(value)
    if not (math.isfinite(number) and number > 0):
        found = "that is no number" if math.isnan(number) else "it must be a number above 0, and finite"
        raise UsageError(f"fit with {name}={value!r}", found, f"Use {name}=0.1, say.")
    return number


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan
