"""Times flowgraph beside its peers, checks that they find the same, and compares with the targets the project has set.

    python scripts/bench.py --list                              what there is
    python scripts/bench.py --jobs linear,mlp_small             some jobs, with those peers that are installed
    python scripts/bench.py --scale 0.02 --rounds 2             a smoke run: numbers mean nothing, failures do
    python scripts/bench.py --json now.json --markdown          everything: figures in a file, a table for the README

The peers: `pip install -e ".[bench]"` brings torch, jax and scikit-learn; TensorFlow (tensorflow-cpu) goes into an
environment of its own, as it and the others disturb one another. Every contender runs in a process of its own, so the
peers may live in other environments than flowgraph: `--python` names the interpreter of torch, jax and scikit-learn,
`--tensorflow-python` that of TensorFlow. Who is not installed is left out, and the report says so.

Contenders take turns: A B C, A B C, ...; a turn is a call that does not count, then one or more that do; a number is
the median of the turns. All use the same processors (two, `--threads`) and so many threads. Compare ratios within a
run, not times between runs, and use a machine on which nothing else runs: "spread" says how far the turns of one
contender lie apart. The data of all contenders of a case are in memory together: up to 16 GB for `linear` with
everybody, less with `--contenders`. `out_of_core` writes two times 6 GB, one after the other, to a temporary folder
(TMPDIR tells where) and removes them; less with `--scale`.

Exit status: 0; 1 if a contender failed or results differ; a missed target is a finding, no failure.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine, report
from benchmarks.jobs import CASES, CONTENDERS, JOBS
from benchmarks.rounds import Options, Outcome, measure


def names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A parser of `a,b`, where each is one of `known`."""

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if wrong := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: not among {', '.join(known)}")
        return names

    return parse


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: not a whole number above 0")
    return int(text)


def share(text: str) -> float:
    """A number above 0 and up to 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text}: not above 0 and up to 1")
    return number


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """What the caller wants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peers = os.environ.get("FLOWGRAPH_BENCH_PYTHON", sys.executable)
    tensorflow = os.environ.get("FLOWGRAPH_BENCH_TENSORFLOW_PYTHON")
    add = parser.add_argument
    add("--jobs", type=names_of(list(CASES)), default=list(JOBS), metavar="A,B", help="which jobs or cases (all)")
    add("--contenders", type=names_of(list(CONTENDERS)), default=list(CONTENDERS), metavar="A,B", help="who (all)")
    add("--rounds", type=positive, default=5, metavar="N", help="how many turns each has (5)")
    add("--scale", type=share, default=1.0, metavar="X", help="the share of rows and steps (1)")
    add("--threads", type=positive, default=2, metavar="N", help="processors and threads for each (2)")
    add("--python", default=peers, metavar="PATH", help="the peers' interpreter, or $FLOWGRAPH_BENCH_PYTHON (this one)")
    add(
        "--tensorflow-python",
        default=tensorflow,
        metavar="PATH",
        help="TensorFlow's interpreter, or $FLOWGRAPH_BENCH_TENSORFLOW_PYTHON (the peers')",
    )
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    add("--markdown", action="store_true", help="print one table in Markdown at the end")
    add("--list", action="store_true", help="print the jobs, contenders and targets, and end")
    asked = parser.parse_args(given)
    asked.tensorflow_python = asked.tensorflow_python or asked.python
    for path in (asked.python, asked.tensorflow_python):
        if shutil.which(path) is None:
            parser.error(f"{path}: no program of this name")
    return asked


def say(text: str) -> None:
    """Progress, apart from the report."""
    print(text, file=sys.stderr, flush=True)


def main(given: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    asked = arguments(given)
    if asked.list:
        print(report.listing())
        return 0
    pythons = {"own": sys.executable, "peers": asked.python, "tensorflow": asked.tensorflow_python}
    used = machine.processors(asked.threads)
    options = Options(pythons, used, asked.rounds, asked.scale, 0.2 * min(1.0, asked.scale))
    about = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), **machine.describe(used)}
    for line in machine.complaints():
        say(f"note: {line}")
    if len(used) < asked.threads:
        say(f"note: only {len(used)} of {asked.threads} processors may be used")

    outcomes: list[Outcome] = []
    for case in [case for name in asked.jobs for case in CASES[name]]:
        outcomes.append(measure(case, asked.contenders, options, say))
        print(report.case_text(outcomes[-1], asked.scale), end="\n\n", flush=True)
    about |= report.versions(outcomes)
    settings = {"scale": asked.scale, "rounds": asked.rounds, "threads": options.threads}
    print(report.summary(outcomes), end="\n\n")
    print("\n".join(f"{name}: {value}" for name, value in {**about, **settings}.items()))
    if asked.markdown:
        print(f"\n{report.markdown(outcomes, about, asked.scale)}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(report.as_json(outcomes, about, settings), indent=1) + "\n", encoding="utf-8")
    return 0 if all(one.sound for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
