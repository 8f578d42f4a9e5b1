"""How many steps a window of `fit` has: from how long the last ones took, and what a run costs by itself."""

from __future__ import annotations

import pytest

from flowgraph.train import pace as paces


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(paces, "time", found)
    return found


def run(pace: paces.Pace, clock: Clock, windows: int, overhead: float, a_step: float) -> None:
    for _ in range(windows):
        with pace.of(pace.steps):
            clock.now += overhead + a_step * pace.steps


def test_windows_take_about_a_tenth_of_a_second(clock: Clock) -> None:
    for a_step in (1e-6, 1e-4, 1e-2):
        pace = paces.Pace(None)
        run(pace, clock, 40, 1e-4, a_step)
        assert 0.04 <= pace.steps * a_step <= 0.21
    run(pace, clock, 40, 1e-4, 10.0)
    assert pace.steps == 1


@pytest.mark.parametrize("overhead", [0.06, 0.14, 0.5, 3.0])
def test_a_slow_place_does_not_make_them_short(clock: Clock, overhead: float) -> None:
    pace = paces.Pace(None)
    run(pace, clock, 40, overhead, 1e-3)
    assert pace.steps * 1e-3 >= 0.4 * overhead
    assert overhead + pace.steps * 1e-3 <= 6.1 * max(overhead, paces.WINDOW_SECONDS)


def test_they_recover_from_a_pause(clock: Clock) -> None:
    pace = paces.Pace(None)
    run(pace, clock, 20, 0.01, 1e-3)
    usual = pace.steps
    for seconds in (30.0, 20.0, 10.0, 5.0, 2.0, 1.0, 1.0, 0.5):  # a worker was killed, and comes back
        with pace.of(pace.steps):
            clock.now += seconds
    run(pace, clock, 40, 0.01, 1e-3)
    assert usual / 4 <= pace.steps <= usual * 4


def test_given_windows_and_last_ones_of_a_buffer_say_nothing(clock: Clock) -> None:
    fixed = paces.Pace(7)
    run(fixed, clock, 5, 9.0, 9.0)
    assert fixed.steps == 7
    pace = paces.Pace(None)
    with pace.of(3):
        clock.now += 100
    assert pace.steps == paces.FIRST_WINDOW
