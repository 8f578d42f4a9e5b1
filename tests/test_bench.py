"""scripts/bench.py runs every job at a tiny size, finds what numpy finds, and says what is wrong where something is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
JOBS = "linear logistic mlp_small mlp_wide three_loops memory small_steps minibatch compile".split()
JOBS += "processes cluster_step out_of_core lowering simulated".split()
FEW = {
    "memory": "memory_linear,memory_mlp_small",
    "cluster_step": "cluster_steps",
    "lowering": "lowering_10,planning_10000",
    "simulated": "simulated_64_10",
}
"""Cases that stand for those of their job: the others differ in a number, or in what they take of the same run."""


def bench(*given: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPTS / "bench.py", *given],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.fixture
def program(tmp_path: Path) -> Any:
    """Makes a shell script that stands for an interpreter."""

    def make(text: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import jobs, machine, report, rounds

    class Modules:
        pass

    Modules.jobs, Modules.machine, Modules.report, Modules.rounds = jobs, machine, report, rounds
    return Modules


def test_the_list_names_every_job() -> None:
    done = bench("--list")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line and not line.startswith(" ")] == JOBS


@pytest.mark.parametrize(
    "job", [*(FEW.get(job, job) for job in JOBS), *(pytest.param(job, marks=pytest.mark.slow) for job in FEW)]
)
def test_a_job_runs_and_agrees_with_numpy(job: str, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    done = bench(
        *("--jobs", job, "--contenders", "flowgraph,numpy,read,decode", "--scale", "0.001", "--rounds", "1"),
        *("--json", str(file), "--markdown"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads(file.read_text(encoding="utf-8"))["cases"]
    for case in cases:
        assert not case["failed"]
        assert not case["left out"]
        assert case["contenders"]["flowgraph"]["value"] >= 0
        assert f"| {case['title']} | **" in done.stdout
        for contender in case["contenders"].values():
            assert len(contender["turns"]) == 1
        if "numpy" in case["contenders"]:
            assert case["contenders"]["flowgraph"]["off"] is not None


def test_a_peer_that_is_not_installed_is_left_out(program: Any, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import a_module_that_nobody_has\n", encoding="utf-8")
    python = program(f'PYTHONPATH="{tmp_path}:$PYTHONPATH" exec "{sys.executable}" "$@"')
    done = bench("--jobs", "linear", "--contenders", "torch", "--scale", "0.001", "--rounds", "1", "--python", python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out: torch (no module a_module_that_nobody_has in peers Python)" in done.stdout


def test_a_peer_that_breaks_is_reported(program: Any) -> None:
    python = program("echo these are the last words >&2\nexit 3")
    done = bench("--jobs", "linear", "--contenders", "jax", "--scale", "0.001", "--rounds", "1", "--python", python)
    assert done.returncode == 1
    assert "FAILED: jax" in done.stdout
    assert "these are the last words" in done.stdout


@pytest.mark.parametrize("given", [("--jobs", "nothing"), ("--scale", "2"), ("--rounds", "0"), ("--python", "no/such")])
def test_wrong_options_are_refused(given: tuple[str, str]) -> None:
    done = bench(*given)
    assert done.returncode == 2
    assert given[1] in done.stderr


def test_what_slows_children_down_is_not_passed_on(benchmarks: Any) -> None:
    given = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "1", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "here"}
    own = benchmarks.machine.child_environment(2, given)
    assert own["HOME"] == "here"
    assert own["OMP_NUM_THREADS"] == "2"
    assert not {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE"} & set(own)
    assert [line.partition(" ")[0] for line in benchmarks.machine.complaints(given)] == list(given)[:3]


def test_targets_are_judged(benchmarks: Any) -> None:
    jobs = benchmarks.jobs
    assert jobs.faster(2).judge(1.0, 3.0) == (3.0, True)
    assert jobs.faster(2).judge(2.0, 3.0) == (1.5, False)
    assert jobs.within(1.5, "read").judge(1.4, 1.0) == (1.4, True)
    assert jobs.within(1.5, "read").judge(1.6, 1.0) == (1.6, False)
    assert jobs.at_most(1e-5).judge(1e-5, 0.0) == (1e-5, True)
    assert jobs.at_most(1e-5).text(jobs.MICROSECONDS) == "at most 10 us"


def test_who_finds_something_else_is_named(benchmarks: Any) -> None:
    rounds = benchmarks.rounds

    def entry(loss: float, gradient: float) -> Any:
        found = {"loss": {"head": [loss], "top": abs(loss)}, "array 1": {"head": [gradient, 1.0], "top": 1.0}}
        return rounds.Entry(times=[1.0], found=found)

    outcome = rounds.Outcome(benchmarks.jobs.LINEAR)
    outcome.entries = {"flowgraph": entry(2.0, 0.5), "numpy": entry(2.0, 0.5), "torch": entry(2.0, 0.6)}
    rounds.compare(outcome.entries)
    assert outcome.disagreeing == ["torch"]
    assert not outcome.sound
    assert "DISAGREES" in benchmarks.report.case_text(outcome, 1)
    outcome.entries = {"flowgraph": entry(float("nan"), 0.5), "numpy": entry(2.0, 0.5)}
    rounds.compare(outcome.entries)
    assert outcome.disagreeing == ["flowgraph", "numpy"]
