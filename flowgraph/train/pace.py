"""How many steps a window of a fit has, and what is shown of it."""

from __future__ import annotations

import time
from typing import Any

FIRST_WINDOW = 32
WINDOW_SECONDS = 0.1
"""Windows grow until they take about so long: often enough for a progress bar, long enough to cost nothing."""


class Pace:
    """Chooses how many steps a window has, from how long the last ones took.

    What a run costs by itself, however many steps it has, shows where the number of steps has just changed. A window
    takes a few times as long: on a busy cluster this can be a second, and shorter windows would only make it worse.
    """

    def __init__(self, steps: int | None) -> None:
        self.fixed = steps is not None
        self.steps = steps if steps is not None else FIRST_WINDOW
        self._began = 0.0
        self._count = self.steps
        self._before: tuple[int, float] | None = None
        self._overhead = 0.0

    def of(self, count: int) -> Pace:
        """A context for a window of `count` steps."""
        self._count = count
        return self

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if not self.fixed and self._count == self.steps:  # the last window of a buffer may have fewer
            self._adapt(time.perf_counter() - self._began)

    def _adapt(self, seconds: float) -> None:
        if self._before is not None and self._before[0] != self.steps:
            count, took = self._before
            a_step = max((seconds - took) / (self.steps - count), 0.0)
            self._overhead = max(min(seconds, took) - a_step * min(self.steps, count), 0.0)
        first, self._before = self._before is None, (self.steps, seconds)
        wanted = max(WINDOW_SECONDS, 3 * self._overhead)
        if seconds > wanted * 2 and self.steps > 1:
            self.steps //= 2
        elif seconds < wanted / 2 or (first and seconds < wanted * 2):  # the second window has to be another
            self.steps *= 2


class Bar:
    """A progress bar, a callback, or nothing."""

    def __init__(self, progress: Any, total: int) -> None:
        self.progress, self.total = progress, total
        self.bar: Any = None

    def __enter__(self) -> Bar:
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
