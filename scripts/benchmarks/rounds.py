"""Runs a case: a child for each contender, turns in rounds (A B C, A B C, ...), and what they found compared."""

from __future__ import annotations

import json
import math
import select
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from .jobs import BEST_PEER, CONTENDERS, Case, Target
from .machine import child_environment

PAUSE = 0.05
"""Between turns, in seconds: threads of the last one that wait by spinning go to sleep."""
PATIENCE = 600
"""The longest that an answer may take, in seconds."""


@dataclass(frozen=True)
class Options:
    """How to run."""

    pythons: Mapping[str, str]
    """The interpreter for each kind of contender."""
    processors: Sequence[int]
    rounds: int = 5
    scale: float = 1.0
    turn_seconds: float = 0.2
    """A turn calls again until it has taken about so long."""
    folder: str = ""
    """For temporary files: one for each case, in TMPDIR or where the system has them; it is removed after the case."""

    @property
    def threads(self) -> int:
        """One a processor."""
        return len(self.processors)


@dataclass
class Entry:
    """What one contender did in one case."""

    times: list[float] = field(default_factory=list)
    """Seconds of each turn; bytes, where memory is measured; the figure, where one is asked for."""
    found: dict[str, Any] = field(default_factory=dict)
    """Parts of the results, to be compared."""
    about: dict[str, Any] = field(default_factory=dict)
    """Versions, BLAS, calls a turn."""
    off: float | None = None
    """The largest difference from what the contenders find in the middle; of two, from the other."""

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.times)


@dataclass
class Outcome:
    """What a case gave."""

    case: Case
    entries: dict[str, Entry] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Who could not take part, and why."""
    failed: dict[str, str] = field(default_factory=dict)
    """Whose process ended, and the last lines that it wrote."""

    @property
    def best_peer(self) -> str | None:
        """The quickest (or leanest) of those that count as peers."""
        peers = [name for name in self.entries if CONTENDERS[name].peer]
        return min(peers, key=lambda name: self.entries[name].value, default=None)

    @property
    def disagreeing(self) -> list[str]:
        """Those whose results are not those of the others."""
        limit = self.case.tolerance
        return [name for name, one in self.entries.items() if one.off is not None and not one.off <= limit]

    @property
    def sound(self) -> bool:
        """Whether flowgraph ran, nobody's process broke, and results agree."""
        return not self.failed and not self.disagreeing and "flowgraph" not in self.left_out

    def verdict(self, target: Target) -> tuple[str, float, bool] | None:
        """Whom flowgraph is compared with, by what number, and whether that is met; None if somebody is missing."""
        other = self.best_peer if target.of == BEST_PEER else target.of
        if "flowgraph" not in self.entries or other is None or (other and other not in self.entries):
            return None
        found, met = target.judge(self.entries["flowgraph"].value, self.entries[other].value if other else math.nan)
        return other, found, met


class ChildError(Exception):
    """A child's process ended, or did not answer in time."""


class Child:
    """The process of one contender."""

    def __init__(self, case: Case, name: str, options: Options) -> None:
        contender = CONTENDERS[name]
        task = {
            **{key: getattr(contender, key) for key in ("library", "suffix", "needs")},
            "work": case.work,
            "size": case.scaled(options.scale),
            "turn_seconds": options.turn_seconds,
            "threads": options.threads,
            "processors": list(options.processors),
        }
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # closed in `close`
        self.process = subprocess.Popen(
            [options.pythons[contender.python], "-P", "-m", f"{__package__}.child", json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=child_environment(options.threads) | {"TMPDIR": options.folder},
            text=True,
        )

    def ask(self, word: str) -> dict[str, Any]:
        """The answer to a word."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(word, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise ChildError(self._last_words()) from None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            raise ChildError(self._last_words() if ready else f"no answer in {PATIENCE} s")
        return json.loads(line)  # type: ignore[no-any-return]

    def _last_words(self) -> str:
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return "\n".join(lines[-12:]) or f"exit status {self.process.returncode}"

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


@contextmanager
def _child(case: Case, name: str, options: Options) -> Iterator[Child]:
    child = Child(case, name, options)
    try:
        yield child
    finally:
        child.close()


def measure(case: Case, names: Sequence[str], options: Options, say: Callable[[str], None]) -> Outcome:
    """Run `case` with those of its contenders that are in `names`."""
    outcome = Outcome(case)
    wanted = [name for name in case.contenders if name in names]
    with tempfile.TemporaryDirectory(prefix="flowgraph-bench-", ignore_cleanup_errors=True) as folder:
        (_times if case.measure == "time" else _once)(outcome, wanted, replace(options, folder=folder), say)
    compare(outcome.entries)
    return outcome


def _times(outcome: Outcome, wanted: Sequence[str], options: Options, say: Callable[[str], None]) -> None:
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        for name in wanted:
            say(f"{outcome.case.name}: {name} warms up")
            child = stack.enter_context(_child(outcome.case, name, options))
            if _take(outcome, name, child, "prepare"):
                children[name] = child
        for number in range(options.rounds):
            say(f"{outcome.case.name}: round {number + 1} of {options.rounds}")
            for name, child in list(children.items()):
                time.sleep(PAUSE)
                if not _take(outcome, name, child, "turn"):
                    del children[name]


def _once(outcome: Outcome, wanted: Sequence[str], options: Options, say: Callable[[str], None]) -> None:
    for name in wanted:
        say(f"{outcome.case.name}: {name}")
        with _child(outcome.case, name, options) as child:
            _take(outcome, name, child, outcome.case.measure)


def _take(outcome: Outcome, name: str, child: Child, word: str) -> bool:
    """Put the child's answer where it belongs; False if it takes no further part."""
    try:
        answer = child.ask(word)
    except ChildError as error:
        outcome.entries.pop(name, None)
        outcome.failed[name] = str(error)
        return False
    if "missing" in answer:
        outcome.left_out[name] = f"no module {answer['missing']} in {CONTENDERS[name].python} Python"
        return False
    entry = outcome.entries.setdefault(name, Entry())
    for key in ("seconds", "bytes", "figure"):
        if key in answer:
            entry.times.append(answer.pop(key))
    entry.found = answer.pop("found", entry.found)
    entry.about |= answer
    return True


def compare(entries: Mapping[str, Entry]) -> None:
    """Note how far the results of each are from the middle of all: sums in float32 differ, and none is beyond doubt."""
    found = {name: one.found for name, one in entries.items() if one.found}
    for name, own in found.items():
        others = list(found.values()) if len(found) > 2 else [one for other, one in found.items() if other != name]
        entries[name].off = difference(own, middle(others)) if others else None


def middle(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of every number."""
    names = [name for name in found[0] if all(name in one for one in found)]
    return {
        name: {
            "head": [statistics.median(numbers) for numbers in zip(*(one[name]["head"] for one in found), strict=True)],
            "top": statistics.median(one[name]["top"] for one in found),
        }
        for name in names
    }


def difference(found: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The largest difference of two numbers, relative to the largest entry of their array.

    An array of small entries is measured by a hundredth of the largest entry of all arrays instead: the gradient of an
    intercept may be 0 but for rounding.
    """
    floor = 0.01 * max((one["top"] for name, one in other.items() if name != "loss"), default=0.0)
    worst = 0.0
    for name, one in other.items():
        if name not in found:  # a script that does not look at the loss
            continue
        size = max(one["top"], 0.0 if name == "loss" else floor) or 1.0
        pairs = zip([*found[name]["head"], found[name]["top"]], [*one["head"], one["top"]], strict=True)
        for a, b in pairs:
            worst = max(worst, abs(a - b) / size if math.isfinite(a - b) else math.inf)
    return worst
