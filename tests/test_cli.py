"""The command line, in this process and in processes of its own: what it prints, writes, refuses, and leaves behind."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shlex
import signal
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import flowgraph
from flowgraph import machine
from flowgraph.cli import base, cli, cluster
from flowgraph.cli.doctor import BRAKES, brakes_in
from flowgraph.cli.fit import fit_command
from flowgraph.cli.predict import harmless
from flowgraph.errors import ClusterError
from flowgraph.machine import usable_processors
from flowgraph.regression import LOSSES, OPTIMIZERS, LinearModel

pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "student_scores.csv"
SCORES = EXAMPLE.read_text()
FIT = ["fit", "scores.csv", "--target", "Scores"]
FILES = ["fit.png", "loss.png", "manifest.json", "state.safetensors"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scores.csv").write_text(SCORES)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), prog_name="flowgraph")


def good(*arguments: str) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def names(folder: str | Path = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flowgraph.cli", *arguments]


# What works


def test_fit_prints_a_table_and_writes_a_directory() -> None:
    pytest.importorskip("matplotlib")
    result = good(*FIT, "--out", "model")
    lines = result.stdout.splitlines()
    assert lines[:6] == [
        "Scores by a linear model",
        "",
        "  term         coefficient",
        "  (intercept)      2.48367",
        "  Hours            9.77580",
        "",
    ]
    figures = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in lines[6:])
    assert figures.pop("seconds")
    assert figures.pop("steps")
    assert figures == {"loss (mean squared error)": "28.8827", "R2": "0.952948", "rows": "25"}
    assert "fitting" in result.stderr
    assert "loss 28.8827" in result.stderr
    assert f"written to model: {', '.join(FILES)}" in result.stderr
    assert names() == ["model", "scores.csv"]
    assert names("model") == FILES
    assert all(Path("model", name).read_bytes().startswith(b"\x89PNG") for name in FILES[:2])
    assert round(LinearModel.load("model").intercept, 4) == 2.4837


def test_json_holds_every_digit() -> None:
    result = good(*FIT, "--json", "--quiet", "--out", "model")
    found = json.loads(result.stdout)
    model = LinearModel.load("model")
    assert result.stderr == ""
    assert found["coefficients"] == {"Hours": model.coefficients[0]}
    assert (found["intercept"], found["loss"], found["r2"]) == (model.intercept, model.loss, model.r2)
    assert (found["rows"], found["out"], found["skipped_columns"]) == (25, "model", [])
    assert set(found["files"]) >= {"manifest.json", "state.safetensors"}


def test_without_out_nothing_is_written() -> None:
    assert "nothing was written" in good(*FIT).stderr
    assert good(*FIT, "--quiet").stderr == ""
    assert names() == ["scores.csv"]


def test_several_files_patterns_and_columns() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(60, 3))
    target = rows @ [1.0, 2.0, -3.0] + 4
    for part in range(3):
        own = slice(20 * part, 20 * part + 20)
        lines = [f"{a},{b},{c},t{a},{y}" for (a, b, c), y in zip(rows[own].tolist(), target[own].tolist(), strict=True)]
        Path(f"part-{part}.csv").write_text("\n".join(['a,"b, c",d,text,y', *lines]))
    result = good("fit", "part-0.csv", "part-[12].csv", "--target", "y", "--json")
    found = json.loads(result.stdout)
    assert found["coefficients"] == pytest.approx({"a": 1, "b, c": 2, "d": -3})
    assert (found["rows"], found["skipped_columns"]) == (60, ["text"])
    assert "columns without numbers or without a name are left out: 'text'" in result.stderr
    named = json.loads(good("fit", "part-*.csv", "--target", "y", "--features", 'd,"b, c"', "--json").stdout)
    assert list(named["coefficients"]) == ["d", "b, c"]
    fewer = json.loads(good("fit", "part-*.csv", "--target", "y", "--exclude", '"b, c"', "--json").stdout)
    assert list(fewer["coefficients"]) == ["a", "d"]


@pytest.mark.parametrize(
    "options",
    [
        ["--loss", "mae"],
        ["--loss", "huber", "--delta", "5"],
        ["--optimizer", "sgd", "--learning-rate", "1e-1"],
        ["--batch-size", "10", "--epochs", "30", "--seed", "3"],
        ["--dtype", "float32", "--steps", "300"],
        ["--ridge", "0.001"],
    ],
    ids=" ".join,
)
def test_options(options: list[str]) -> None:
    found = json.loads(good(*FIT, "--json", *options).stdout)
    assert found["coefficients"]["Hours"] == pytest.approx(9.7758, rel=0.05)
    assert found["r2"] > 0.94


def test_dialects_and_missing_cells() -> None:
    Path("euro.csv").write_text("x;y\n1,5;2\n;3\n2,5;4,5\n3;5\n")
    result = good("fit", "euro.csv", "--target", "y", "--sep", ";", "--decimal", ",", "--missing", "drop", "--json")
    assert (json.loads(result.stdout)["rows"], json.loads(result.stdout)["dropped_rows"]) == (3, 1)
    assert "left out: 1 row with missing or infinite cells" in result.stderr
    Path("tabs.csv").write_text("x\ty\n1\t2\n2\t3\n4\t6\n")
    good("fit", "tabs.csv", "--target", "y", "--delimiter", "tab")


def test_a_constant_target_is_told() -> None:
    Path("flat.csv").write_text("x,y\n1,5\n2,5\n4,5\n")
    result = good("fit", "flat.csv", "--target", "y", "--out", "model")
    assert "the target 'y' is the same in all rows" in result.stderr
    assert "undefined" in result.stdout


def test_force_replaces_what_fit_wrote() -> None:
    good(*FIT, "--out", "model")
    good(*FIT, "--out", "model", "--force", "--loss", "mae")
    assert LinearModel.load("model").loss_name == "mae"
    assert names() == ["model", "scores.csv"]


def test_without_matplotlib_the_fit_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = good(*FIT, "--out", "model")
    assert "no plots: matplotlib, which draws, is not installed. Install it: pip install" in result.stderr
    assert names("model") == FILES[2:]


def test_strange_names_drive_no_terminal() -> None:
    Path("strange.csv").write_text('"x\x1b[31m$",$y$\n1,2\n2,3\n4,7\n')
    result = good("fit", "strange.csv", "--target", "$y$", "--out", "model")
    assert r"x\x1b[31m$" in result.stdout
    refused = run("fit", "strange.csv", "--target", "z\x1b[0m\r")
    assert refused.exit_code == 64
    for text in (result.output, refused.output):
        assert "\x1b[31m" not in text
        assert "\x1b[0m" not in text


# Predictions


def predictions(path: str = "predictions.csv") -> list[list[str]]:
    with Path(path).open(newline="") as file:
        return list(csv.reader(file))


def test_predictions_come_back_to_the_bit() -> None:
    good(*FIT, "--out", "model", "--quiet")
    Path("new.csv").write_text("id,Hours\na,1.5\nb,0.1\n=c,-3\n")
    result = good("predict", "model", "new.csv")
    assert "3 predictions of Scores written to predictions.csv" in result.stderr
    header, *rows = predictions()
    assert header == ["Hours", "predicted_Scores"]
    assert [float(row[0]) for row in rows] == [1.5, 0.1, -3.0]
    expected = LinearModel.load("model").predict([[1.5], [0.1], [-3.0]])
    assert [float(row[1]) for row in rows] == expected.tolist()
    shown = good("predict", "model", "new.csv", "--out", "-")
    assert shown.stdout == Path("predictions.csv").read_text()
    good("predict", "model", "new.csv", "--out", "deep.csv", "--quiet")
    assert Path("deep.csv").read_text() == shown.stdout


def test_predictions_for_a_screen_that_knows_no_umlaut() -> None:
    Path("rows.csv").write_text("größe,y\n1,1\n2,2\n3,4\n", encoding="utf-8")
    good("fit", "rows.csv", "--target", "y", "--out", "model", "-q")
    call = command("predict", "model", "rows.csv", "--out", "-", "-q")
    done = subprocess.run(call, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.stdout.decode("utf-8").startswith("größe,predicted_y\n1.0,")


def test_predictions_drop_rows_only_when_asked() -> None:
    good(*FIT, "--out", "model", "--quiet")
    Path("gaps.csv").write_text("Hours,note\n1,a\n,b\n3,c\n")
    refused = run("predict", "model", "gaps.csv")
    assert refused.exit_code == 65
    assert "missing values: 1 in column 'Hours' (first: line 3" in refused.stderr
    good("predict", "model", "gaps.csv", "--missing", "drop")
    assert [row[0] for row in predictions()] == ["Hours", "1.0", "3.0"]


def test_no_cell_is_a_formula() -> None:
    Path("formula.csv").write_text("=1+1,@y\n1,2\n2,3\n4,7\n")
    good("fit", "formula.csv", "--target", "@y", "--out", "model", "--quiet")
    good("predict", "model", "formula.csv")
    assert predictions()[0] == ["'=1+1", "predicted_@y"]
    assert [harmless(sign + "a")[0] for sign in "=+-@\t\r"] == ["'"] * 6


def test_nothing_is_overwritten_by_predictions() -> None:
    good(*FIT, "--out", "model", "--quiet")
    Path("predictions.csv").write_text("precious")
    refused = run("predict", "model", "scores.csv")
    assert (refused.exit_code, Path("predictions.csv").read_text()) == (73, "precious")
    good("predict", "model", "scores.csv", "--force")
    assert len(predictions()) == 26
    refused = run("predict", "model", "scores.csv", "--out", "scores.csv", "--force")
    assert (refused.exit_code, Path("scores.csv").read_text()) == (64, SCORES)
    assert run("predict", "model", "scores.csv", "--out", "model", "--force").exit_code == 73
    assert run("predict", "model", "scores.csv", "--out", "no/where.csv").exit_code == 74
    assert names() == ["model", "predictions.csv", "scores.csv"]


# What is refused: one message, an exit code, and nothing left behind


@dataclass(frozen=True)
class Bad:
    name: str
    code: int
    asked: str
    found: str
    remedy: str
    arguments: list[str]
    files: dict[str, str] = field(default_factory=dict)


def rows(content: str, *options: str, target: str = "y") -> tuple[list[str], dict[str, str]]:
    return ["fit", "rows.csv", "--target", target, "--out", "out", *options], {"rows.csv": content}


GOOD = "x,z,y\n1,5,1\n2,3,2\n4,4,3\n5,1,4\n"
PREDICT = ["predict", "model", "scores.csv"]
BAD = [
    Bad("missing file", 66, "'score.csv'", "no such file", "'scores.csv'", ["fit", "score.csv", "--target", "y"]),
    Bad("pattern of nothing", 66, "'*.tsv'", "matches no file", "pattern", ["fit", "*.tsv", "--target", "y"]),
    Bad("directory", 66, "'.'", "is a directory", "*.csv", ["fit", ".", "--target", "y"]),
    Bad("same file twice", 64, "2 files", "the same file", "once", ["fit", "scores.csv", "s*.csv", "--target", "y"]),
    Bad("empty file", 65, "rows.csv", "the file is empty", "first line", *rows("")),
    Bad("header only", 65, "rows.csv", "only a header", "Add rows", *rows("x,y\n")),
    Bad("unknown target", 64, "'Score' as target", "no such column", "'Scores'", [*FIT[:-1], "Score"]),
    Bad("unknown feature", 64, "'hours' as feature", "no such column", "'Hours'", [*FIT, "--features", "hours"]),
    Bad("target among the features", 64, "'Scores'", "target too", "Take it out", [*FIT, "--features", "Scores"]),
    Bad("unknown column left out", 64, "leave out the column 'w'", "no such", "letter", *rows(GOOD, "--exclude", "w")),
    Bad("target left out", 64, "leave out the column 'y'", "the target", "one place", *rows(GOOD, "--exclude", "y")),
    Bad("all left out", 65, "besides the target", "no other column", "--sep", *rows(GOOD, "--exclude", "x,z")),
    Bad("text in a numeric column", 65, "column 'x'", "'oops' in column 'x', line 4 of", "Correct",
        *rows("x,y\n1,1\n2,2\noops,3\n")),
    Bad("text target", 65, "column 'y'", "'a' in column 'y', line 2", "Correct", *rows("x,y\n1,a\n2,b\n")),
    Bad("missing values", 65, "'x', 'y'", "missing values: 2 in column 'x' (first: line 3", "--missing drop",
        *rows("x,y\n1,1\n,2\nNA,3\n")),
    Bad("infinite values", 65, "'x', 'y'", "infinite or beyond float64: 1 in column 'y'", "--missing drop",
        *rows("x,y\n1,1\n2,inf\n3,3\n")),
    Bad("ragged rows", 65, "rows.csv", "line 3 has 3 fields where the header has 2", "','",
        *rows("x,y\n1,1\n2,2,2\n")),
    Bad("duplicate columns", 65, "rows.csv", "more than one column is called 'x'", "own name",
        *rows("x,x,y\n1,2,3\n")),
    Bad("constant column", 65, "learn 'y'", "constant over 3 rows: 'z'", "--exclude 'z'",
        *rows("x,z,y\n1,5,1\n2,5,2\n3,5,4\n")),
    Bad("dependent columns", 65, "learn 'y' from 2", "'x', 'z' determine one another", "--exclude 'z'",
        *rows("x,z,y\n1,2,1\n2,4,2\n3,6,4\n4,8,1\n")),
    Bad("equal columns", 65, "learn 'y' from 2", "only 1 independent one: 'x', 'z'", "--exclude 'z'",
        *rows("x,z,y\n1,1,1\n2,2,2\n3,3,4\n4,4,1\n")),
    Bad("one row", 65, "learn 'y' from 1 feature", "only 1 row, so many answers", "Add rows", *rows("x,y\n1,2\n")),
    Bad("thousands", 65, "column 'x'", "a notation that is not read: '1,000'", "between thousands write none",
        *rows('x,y\n"1,000",1\n"2,000",2\n"3,000",4\n')),
    Bad("standard input", 66, "read '-'", "only once", "a regular file", ["fit", "-", "--target", "y"]),
    Bad("file without a name", 66, "read ''", "is empty", "a regular file", ["fit", "", "--target", "y"]),
    Bad("output without a name", 64, "--out ''", "must be a name", "--out results", [*FIT, "--out", ""]),
    Bad("option without its value", 64, "flowgraph fit", "'--steps' requires", "fit --help", [*FIT, "--steps"]),
    Bad("fewer rows than features", 65, "from 3 features", "only 2 rows", "--ridge",
        *rows("a,b,c,y\n1,2,3,4\n3,2,1,4\n")),
    Bad("semicolons", 65, "rows.csv", "the header is one column", "`--sep ';'`", *rows("x;y\n1;2\n")),
    Bad("no header", 65, "rows.csv", "numbers, not names", "first", *rows("1,2\n3,4\n", target="2")),
    *(Bad(f"learning rate {rate}", 64, f"--learning-rate '{rate}'", "a number above 0", "--learning-rate 0.05",
          [*FIT, "--learning-rate", rate]) for rate in ("0", "-1", "nan", "inf", "fast", "")),
    *(Bad(f"{option} {value}", 64, f"{option} '{value}'", "whole number above 0", f"{option} 1000",
          [*FIT, option, value]) for option in ("--steps", "--epochs", "--batch-size") for value in ("0", "1.5", "x")),
    Bad("seed", 64, "--seed 'x'", "whole number", "--seed 0", [*FIT, "--seed", "x"]),
    Bad("ridge", 64, "--ridge '-1'", "0 or above", "--ridge 0.001", [*FIT, "--ridge", "-1"]),
    Bad("features of nothing", 64, "--features ','", "names of columns", "age,height", [*FIT, "--features", ","]),
    Bad("steps and epochs", 64, "--steps and --epochs", "both", "one", [*FIT, "--steps", "1", "--epochs", "1"]),
    Bad("delta of squares", 64, "--delta and --loss mse", "only huber", "--loss huber", [*FIT, "--delta", "1"]),
    Bad("unknown loss", 64, "flowgraph fit", "'l1' is not one of 'mse'", "fit --help", [*FIT, "--loss", "l1"]),
    Bad("unknown option", 64, "flowgraph fit", "No such option '--los'", "fit --help", [*FIT, "--los", "mse"]),
    Bad("no target", 64, "flowgraph fit", "Missing option '--target'", "fit --help", ["fit", "scores.csv"]),
    Bad("no data", 64, "flowgraph fit", "Missing argument", "fit --help", ["fit", "--target", "y"]),
    Bad("unknown command", 64, "flowgraph", "No such command 'fti'", "flowgraph --help", ["fti"]),
    Bad("unknown option of the group", 64, "flowgraph", "No such option '--fast'", "--help", ["--fast"]),
    Bad("delimiter", 64, "delimiter='||'", "part of a cell", "one character", [*FIT, "--delimiter", "||"]),
    Bad("encoding", 64, "'utf-9'", "unknown encoding", "latin-1", [*FIT, "--encoding", "utf-9"]),
    Bad("divergence", 65, "learning rate 1e+06", "the loss at step", "--learning-rate",
        [*FIT, "--optimizer", "sgd", "--learning-rate", "1e6", "--out", "out"]),
    Bad("output that exists", 73, "taken'", "exists already", "--force", [*FIT, "--out", "taken"],
        {"taken/manifest.json": "{}"}),
    Bad("output of somebody else", 73, "taken'", "did not write: 'thesis.tex'", "nothing of yours",
        [*FIT, "--out", "taken", "--force"], {"taken/thesis.tex": "precious"}),
    Bad("output that is a file", 73, "taken'", "no directory", "Name another",
        [*FIT, "--out", "taken", "--force"], {"taken": "precious"}),
    Bad("output inside a file", 74, "flowgraph fit", "scores.csv", "the place", [*FIT, "--out", "scores.csv/model"]),
    Bad("cluster of nothing", 64, "cluster ''", "neither local:N", "local:2", [*FIT, "--cluster", ""]),
    Bad("cluster without workers", 64, "'local:0'", "neither", "local:2", [*FIT, "--cluster", "local:0"]),
    Bad("cluster without a port", 64, "'tcp://a'", "neither", "tcp://host:8786", [*FIT, "--cluster", "tcp://a"]),
    Bad("no model", 66, "'model'", "no such directory", "fit --out", PREDICT),
    Bad("a model that is none", 66, "'model'", "no file 'manifest.json'", "fit --out", PREDICT, {"model/a": ""}),
    Bad("a manifest that is none", 65, "'model'", "not one of flowgraph's", "fit --out", PREDICT,
        {"model/manifest.json": "{}"}),
    Bad("prediction of nothing", 64, "flowgraph predict", "Missing argument", "predict --help", ["predict", "model"]),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_bad_input_has_one_clear_error(bad: Bad) -> None:
    for name, content in bad.files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = run(*bad.arguments)
    assert result.exit_code == bad.code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    error = re.search(r"^flowgraph.*: error\n  asked:  (.+)\n  found:  (.+)\n  remedy: (.+)\n\Z", result.stderr, re.M)
    assert error is not None, result.stderr
    assert bad.asked in error[1]
    assert bad.found in error[2]
    assert bad.remedy in error[3]
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert not Path("out").exists()


def test_packed_files_are_named() -> None:
    Path("rows.csv.gz").write_bytes(gzip.compress(GOOD.encode()))
    result = run("fit", "rows.csv.gz", "--target", "y")
    assert (result.exit_code, "it is a gzip file" in result.stderr) == (65, True), result.stderr


def test_a_tilde_that_the_shell_has_left_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd() / "home"))
    Path("home").mkdir()
    Path("home/rows.csv").write_text(GOOD)
    good("fit", "~/rows.csv", "--target", "y", "--out", "~/model", "-q")
    good("predict", "~/model", "~/*.csv", "--out", "~/predictions.csv")
    assert names() == ["home", "scores.csv"]
    assert names("home") == ["model", "predictions.csv", "rows.csv"]


def test_a_table_in_an_error_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise ClusterError("run on 2 workers", "they differ:\n       here  there\nnumpy  2.4   2.3", "Make them alike.")

    monkeypatch.setattr("flowgraph.data.find_files", refuse)
    assert run(*FIT).stderr.splitlines() == [
        "flowgraph fit: error",
        "  asked:  run on 2 workers",
        "  found:  they differ:",
        "                 here  there",
        "          numpy  2.4   2.3",
        "  remedy: Make them alike.",
    ]


def test_a_column_without_a_name_is_not_called_text() -> None:
    Path("rows.csv").write_text(",x,y\n0,1,1\n1,2,2\n2,3,4\n")
    assert (
        "columns without numbers or without a name are left out: ''" in good("fit", "rows.csv", "--target", "y").stderr
    )


def test_a_model_of_other_features() -> None:
    good(*FIT, "--out", "model", "--quiet")
    Path("new.csv").write_text("Hours;Age\n1;2\n")
    assert "Did you mean delimiter=';'" in run("predict", "model", "new.csv").stderr
    Path("new.csv").write_text("hours,Age\n1,2\n")
    result = run("predict", "model", "new.csv")
    assert result.exit_code == 65
    assert "has no column 'Hours'; it has 'hours', 'Age'" in result.stderr
    assert "Did you mean 'hours'?" in result.stderr
    assert "predictions.csv" not in names()


def test_a_damaged_model() -> None:
    good(*FIT, "--out", "model", "--quiet")
    state = Path("model/state.safetensors")
    state.write_bytes(state.read_bytes()[:-8])
    result = run("predict", "model", "scores.csv")
    assert result.exit_code == 65
    assert "'state.safetensors' has" in result.stderr


def test_without_safetensors_nothing_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    result = run(*FIT, "--out", "model")
    assert result.exit_code == 64
    assert "pip install 'flowgraph[files]'" in result.stderr
    assert "fitting" not in result.stderr
    good(*FIT)


def test_our_own_mistakes_ask_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a \x1b[31m mistake")

    monkeypatch.setattr("flowgraph.regression.fit_linear", broken)
    result = run(*FIT)
    assert result.exit_code == 70
    assert "Traceback" not in result.stderr
    assert "AssertionError: a \\x1b[31m mistake" in result.stderr
    for arguments in ([*FIT, "--debug"], ["--debug", *FIT]):
        result = run(*arguments)
        assert result.exit_code == 70
        assert "Traceback" in result.stderr
        assert "in broken" in result.stderr


def test_debug_shows_where_an_error_comes_from() -> None:
    result = run(*FIT[:-1], "Score", "--debug")
    assert result.exit_code == 64
    assert "Traceback" in result.stderr
    assert "select_columns" in result.stderr


def test_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster.ANSWER_SECONDS < 10
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 1)
    result = run(*FIT, "--cluster", "tcp://127.0.0.1:9", "--out", "out")
    assert result.exit_code == 75
    assert "no scheduler answers within 1 seconds" in result.stderr
    assert names() == ["scores.csv"]


def test_a_server_that_is_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 2)
    with socketserver.TCPServer(("127.0.0.1", 0), Chatter) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = run(*FIT, "--cluster", f"tcp://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert result.exit_code == 75
    assert "no scheduler answers" in result.stderr
    assert "Traceback" not in result.stderr


# Clusters


class Chatter(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)


def many_rows() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(20_000, 2))
    table = np.column_stack([features, features @ [1.0, 2.0] + random.normal(size=20_000)])
    np.savetxt("many.csv", table, delimiter=",", header="a,b,y", comments="")


@pytest.mark.cluster
def test_a_local_cluster_gives_the_same_bits() -> None:
    many_rows()
    arguments = ["fit", "many.csv", "--target", "y", "--steps", "20"]
    good(*arguments, "--out", "here")
    result = good(*arguments, "--out", "there", "--cluster", "local:2")
    assert "running on 2 processes of this machine" in result.stderr
    assert re.search(r"dashboard: http://127\.0\.0\.1:\d+|no dashboard: bokeh is not installed", result.stderr)
    assert Path("here/state.safetensors").read_bytes() == Path("there/state.safetensors").read_bytes()


@pytest.mark.cluster
def test_a_cluster_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 2)
    no_dashboard = {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    with LocalCluster(n_workers=0, host="127.0.0.1", **no_dashboard) as empty:
        result = run(*FIT, "--cluster", empty.scheduler_address)
    assert result.exit_code == 75
    assert "the scheduler answers, but it has no workers" in result.stderr


@pytest.mark.cluster
def test_a_cluster_by_its_address(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address = cluster.scheduler.address
    result = good(*FIT, "--cluster", address, "--json")
    assert f"running on 2 workers of {address}" in result.stderr
    assert round(json.loads(result.stdout)["intercept"], 4) == 2.4837
    monkeypatch.setattr(machine, "version_of", lambda package: "0.0.1")
    refused = run(*FIT, "--cluster", address)
    assert refused.exit_code == 75
    assert re.search(r"here +tcp://\S+ and 1 more\n {10}flowgraph +0\.0\.1 ", refused.stderr)


# Processes of its own


def test_as_a_command_of_its_own_and_of_dask() -> None:
    plain = {**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "80"}
    for start in (command(), [sys.executable, "-c", "from dask.__main__ import main; main()", "flowgraph"]):
        done = subprocess.run([*start, *FIT, "--quiet"], env=plain, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert "9.77580" in done.stdout
        wrong = subprocess.run(
            [*start, *FIT[:-1], "Score", "--quiet"], env=plain, check=False, capture_output=True, text=True
        )
        assert wrong.returncode == 64
        assert wrong.stderr.count("\n") == 4
        assert "Did you mean 'Scores'?" in wrong.stderr


def interrupted(
    number: int, *options: str, after: bytes = b"fitting", seconds: float = 0.3, times: int = 1
) -> tuple[int, str]:
    """Exit code and the rest of the standard error of a fit that got the signal `seconds` after it wrote `after`."""
    start = command(*FIT, "--out", "out", "--steps", "100000000", "--batch-size", "5", *options)
    # A shell in the background sets Ctrl-C to be ignored, and Python then leaves it so.
    reset = f"import os, signal, sys; signal.signal({number}, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", reset, *start], stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stderr is not None
        seen = b""
        while after not in seen:
            part = os.read(process.stderr.fileno(), 1000)
            assert part, seen
            seen += part
        time.sleep(seconds)
        assert [name for name in names() if name.endswith(".tmp")]
        for again in range(times):
            time.sleep(0.1 * again)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        rest = process.stderr.read().decode()
        return process.wait(), rest


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing(number: int, code: int) -> None:
    found, rest = interrupted(number)
    assert found == code
    assert re.search(r"^flowgraph fit: (interrupted|terminated)\n  Nothing was written\.\n\Z", rest, re.M)
    assert "Traceback" not in rest
    assert names() == ["scores.csv"]


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_an_interrupt_is_one_while_libraries_are_imported(seconds: float) -> None:
    found, rest = interrupted(signal.SIGINT, after=b"reading", seconds=seconds)
    assert found == 130
    assert "Traceback" not in rest
    assert names() == ["scores.csv"]


def test_pyarrow_imports_nothing_by_itself() -> None:
    """It would take a Ctrl-C in the middle of importing pandas for a pandas that is missing, and go on."""
    code = (
        "import sys; from flowgraph.data.csv import load_pyarrow, to_floats; arrow, *_ = load_pyarrow(); "
        "before = set(sys.modules); to_floats(arrow.array(['1', 'x', None]), '.'); print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupt_that_a_library_takes_is_raised_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    with base._signals_as_interrupts():
        base.raise_if_lost()
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            base.raise_if_lost()
        with pytest.raises(SystemExit, match="130"):  # the second one
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(("context", "code"), [("quiet_interrupts", 0), ("nullcontext", -signal.SIGINT)])
def test_an_interrupt_in_a_text_that_is_run_does_not_decide_the_exit_code(context: str, code: int) -> None:
    text = (
        "from contextlib import nullcontext, suppress; from flowgraph.cli.base import quiet_interrupts\n"
        f"with {context}():\n with suppress(KeyboardInterrupt):\n  exec('raise KeyboardInterrupt')"
    )
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == code


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_impatient_interrupt_is_one() -> None:
    found, rest = interrupted(signal.SIGINT, times=4)
    assert found == 130
    assert "Traceback" not in rest
    assert names() == ["scores.csv"]


@pytest.mark.cluster
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(
    ("after", "seconds", "times"),
    [(b"reading", 1.0, 1), (b"running on", 0.0, 1), (b"fitting", 0.3, 1), (b"fitting", 0.3, 3)],
)
def test_an_interrupt_stops_the_local_cluster_quietly(after: bytes, seconds: float, times: int) -> None:
    found, rest = interrupted(signal.SIGINT, "--cluster", "local:2", after=after, seconds=seconds, times=times)
    assert found == 130
    if times == 1:
        assert re.search(r"^flowgraph fit: interrupted\n  Nothing was written\.\n\Z", rest, re.M)
    assert "Traceback" not in rest
    assert names() == ["scores.csv"]


def test_a_reader_that_leaves_early_is_no_mistake() -> None:
    good(*FIT, "--out", "model", "--quiet")
    lines = "".join(f"{row}\n" for row in range(200_000))
    Path("long.csv").write_text("Hours\n" + lines)
    shell = f"{shlex.join(command('predict', 'model', 'long.csv', '--out', '-', '--quiet'))} | head -2"
    done = subprocess.run(["bash", "-c", shell], check=False, capture_output=True, text=True)
    assert done.stdout.count("\n") == 2
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


# doctor, help, examples


def test_doctor_reports_versions_and_kernels() -> None:
    text = good("doctor").stdout
    for name in ("flowgraph", "python", "numpy", "dask", "distributed", "pyarrow", "safetensors", "bokeh", "BLAS"):
        assert re.search(rf"^{name} +\S", text, re.M), name
    found = json.loads(good("doctor", "--json").stdout)
    assert found["packages"]["numpy"] == np.__version__
    assert found["blas"] == [] or found["blas"][0]["kernels"]


def test_doctor_names_what_slows_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for brake in BRAKES:
        monkeypatch.delenv(brake.name, raising=False)
    assert "nothing in it slows flowgraph down" in good("doctor").stdout
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott\x1b[31m")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    text = good("doctor").stdout
    assert r"OPENBLAS_CORETYPE=Prescott\x1b[31m" in text
    assert "remedy: unset OPENBLAS_CORETYPE" in text
    assert "remedy: unset PYTHONDONTWRITEBYTECODE" in text
    assert {one["name"] for one in json.loads(good("doctor", "--json").stdout)["environment"]} == {
        "OPENBLAS_CORETYPE",
        "PYTHONDONTWRITEBYTECODE",
    }


def test_only_values_that_slow_are_named() -> None:
    slow = {
        "OPENBLAS_L2_SIZE": "1",
        "NPY_DISABLE_CPU_FEATURES": "AVX2",
        "PYTHONDEVMODE": "1",
        "PYTHONMALLOC": "debug",
        "DASK_SCHEDULER": "sync",
    }
    fine = {
        "PYTHONDEVMODE": "",
        "PYTHONMALLOC": "pymalloc",
        "PYTHONTRACEMALLOC": "0",
        "DASK_SCHEDULER": "threads",
        "OMP_NUM_THREADS": str(usable_processors()),
        "GLIBC_TUNABLES": "glibc.malloc.arena_max=1",
    }
    assert {brake.name for brake, _ in brakes_in(slow)} == set(slow)
    assert brakes_in(fine) == []
    if usable_processors() > 1:
        assert [brake.name for brake, _ in brakes_in({"OMP_NUM_THREADS": "1,2"})] == ["OMP_NUM_THREADS"]


def test_versions_and_help() -> None:
    assert good("--version").stdout == f"flowgraph {flowgraph.__version__}\n"
    assert set(cli.commands) == {"fit", "predict", "doctor"}
    assert cli.name == "flowgraph"
    for name, one in cli.commands.items():
        text = good(name, "--help").stdout
        assert all(len(line) <= 100 for line in text.splitlines())
        options = [option for option in one.params if isinstance(option, click.Option)]
        assert all(option.help for option in options), name
        assert text == good(name, "-h").stdout
    # Spelled out there, because the command line imports nothing heavy before it has to.
    choices = {one.name: one.type.choices for one in fit_command.params if isinstance(one.type, click.Choice)}
    assert (tuple(choices["loss"]), tuple(choices["optimizer"])) == (LOSSES, OPTIMIZERS)


def test_the_examples_show_what_is_printed() -> None:
    text = (ROOT / "examples" / "command_line.md").read_text(encoding="utf-8")
    Path("examples").mkdir()
    Path("scores.csv").rename("examples/student_scores.csv")
    blocks = re.findall(r"^```console\n\$ flowgraph (.*?)\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) >= 3
    for line, output in blocks:
        result = good(*shlex.split(line))
        shown, expected = (re.sub(r"(seconds) .*", r"\1 ...", one.strip()) for one in (result.stdout, output))
        assert shown == expected, line
