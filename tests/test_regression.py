"""Linear models: the engine's answer against other solvers, in units of the data, and what no model is made of."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flowgraph.data import Ingested, ingest_csv
from flowgraph.errors import (
    DataError,
    DivergedError,
    FlowgraphError,
    InputNotFoundError,
    OutputExistsError,
    ShapeError,
    UsageError,
)
from flowgraph.regression import LinearModel, fit_linear
from flowgraph.regression.plots import FIT_PLOT, LOSS_PLOT, fit_figure, loss_figure, sample, write_plots
from flowgraph.regression.report import facts, table
from flowgraph.store import save_state

pytest.importorskip("pyarrow")

EXAMPLE = Path(__file__).parent.parent / "examples" / "student_scores.csv"

Table = NDArray[np.float64]


def ingested(folder: Path, features: Any, target: Any, **options: Any) -> Ingested:
    columns = np.column_stack([features, target])
    names = [*(f"x{number}" for number in range(columns.shape[1] - 1)), "y"]
    lines = [",".join(names), *(",".join(map(repr, row)) for row in columns.tolist())]
    (folder / "rows.csv").write_text("\n".join(lines))
    return ingest_csv(folder / "rows.csv", target="y", **options)


def rows_of(seed: int, rows: int, columns: int, noise: float = 1.0) -> tuple[Table, Table]:
    """Correlated columns of very different units and means, and a target with heavy tails."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(rows, columns)) @ random.normal(size=(columns, columns))
    features = mixed * 10.0 ** random.integers(-6, 7, columns)
    features += features.std(axis=0) * random.normal(scale=30, size=columns)
    target = mixed @ random.normal(size=columns) + noise * random.standard_t(3, size=rows) + 1000
    return features, target


def least_squares(features: Table, target: Table) -> Table:
    """Coefficients and, last, the intercept; by QR on centred and scaled columns."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    design = np.column_stack([(features - mean) / deviation, np.ones(len(target))])
    found = np.linalg.lstsq(design, target, rcond=None)[0]
    slopes = found[:-1] / deviation
    return np.append(slopes, found[-1] - slopes @ mean)


def scaled_error(model: LinearModel, expected: Table, features: Table, target: Table) -> float:
    """The largest error of a coefficient, in deviations of the target per deviation of the feature."""
    return float(np.abs((model.coefficients - expected[:-1]) * features.std(axis=0)).max() / target.std())


# Against other solvers


def test_the_example() -> None:
    hours, scores = np.loadtxt(EXAMPLE, delimiter=",", skiprows=1).T
    slope, intercept = np.polyfit(hours, scores, 1)
    model = fit_linear(ingest_csv(EXAMPLE, target="Scores"))
    assert round(model.intercept, 4) == 2.4837
    assert round(float(model.coefficients[0]), 4) == 9.7758
    assert model.coefficients[0] == pytest.approx(slope, rel=1e-8)
    assert model.intercept == pytest.approx(intercept, rel=1e-7)
    residuals = scores - hours * slope - intercept
    assert model.loss == pytest.approx(np.mean(residuals**2), rel=1e-12)
    assert model.r2 == pytest.approx(1 - residuals.var() / scores.var(), rel=1e-12)
    assert (model.feature_names, model.target_name, model.rows) == (("Hours",), "Scores", 25)
    assert model.losses[0] == pytest.approx(scores.var())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(("rows", "columns"), [(12, 3), (300, 1), (500, 10)])
def test_squares_end_at_least_squares(tmp_path: Path, optimizer: str, rows: int, columns: int) -> None:
    features, target = rows_of(rows, rows, columns)
    model = fit_linear(ingested(tmp_path, features, target), optimizer=optimizer)
    assert scaled_error(model, least_squares(features, target), features, target) < 1e-7
    assert model.steps < model.planned_steps
    assert model.steps % 50 == 0  # where it stops must not depend on how quick the machine is
    predicted = features @ model.coefficients + model.intercept
    assert model.r2 == pytest.approx(1 - np.mean((target - predicted) ** 2) / target.var(), abs=1e-9)


def test_exact_data_are_found_exactly(tmp_path: Path) -> None:
    features, target = rows_of(4, 50, 4, noise=0)
    model = fit_linear(ingested(tmp_path, features, target))
    assert scaled_error(model, least_squares(features, target), features, target) < 1e-9
    assert model.r2 == pytest.approx(1, abs=1e-12)


# Longley (1967): six columns so close to one another that many programs of its time had no digit right.
LONGLEY = """
60323 83.0 234289 2356 1590 107608 1947
61122 88.5 259426 2325 1456 108632 1948
60171 88.2 258054 3682 1616 109773 1949
61187 89.5 284599 3351 1650 110929 1950
63221 96.2 328975 2099 3099 112075 1951
63639 98.1 346999 1932 3594 113270 1952
64989 99.0 365385 1870 3547 115094 1953
63761 100.0 363112 3578 3350 116219 1954
66019 101.2 397469 2904 3048 117388 1955
67857 104.6 419180 2822 2857 118734 1956
68169 108.4 442769 2936 2798 120445 1957
66513 110.8 444546 4681 2637 121950 1958
68655 112.6 482704 3813 2552 123366 1959
69564 114.2 502601 3931 2514 125368 1960
69331 115.7 518173 4806 2572 127852 1961
70551 116.9 554894 4007 2827 130081 1962
"""
CERTIFIED = [
    15.0618722713733, -0.358191792925910e-01, -2.02022980381683, -1.03322686717359, -0.511041056535807e-01,
    1829.15146461355, -3482258.63459582,
]  # fmt: skip


def test_certified_values(tmp_path: Path) -> None:
    rows = np.array(LONGLEY.split(), np.float64).reshape(16, 7)
    model = fit_linear(ingested(tmp_path, rows[:, 1:], rows[:, 0]))
    assert [*model.coefficients, model.intercept] == pytest.approx(CERTIFIED, rel=1e-6)


def test_powers_of_one_column(tmp_path: Path) -> None:
    x = np.arange(21.0)
    powers = np.column_stack([x**power for power in range(1, 6)])
    model = fit_linear(ingested(tmp_path, powers, 1 + powers.sum(axis=1)))
    assert [*model.coefficients, model.intercept] == pytest.approx([1] * 6, rel=1e-4)


def test_absolute_values_end_at_the_linear_program(tmp_path: Path) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    features, target = rows_of(7, 200, 3)
    design = np.column_stack([(features - features.mean(axis=0)) / features.std(axis=0), np.ones(200)])
    # Minimise the sum of t over w and t, where -t <= design @ w - target <= t.
    costs = np.concatenate([np.zeros(4), np.full(200, 1 / 200)])
    bounds = np.block([[design, -np.eye(200)], [-design, -np.eye(200)]])
    best = optimize.linprog(
        costs, bounds, np.concatenate([target, -target]), bounds=[(None, None)] * 4 + [(0, None)] * 200
    )
    for optimizer in ("adam", "sgd"):
        model = fit_linear(ingested(tmp_path, features, target), loss="mae", optimizer=optimizer)
        assert best.fun <= model.loss * (1 + 1e-12)
        assert model.loss < best.fun * (1 + 1e-4)


@pytest.mark.parametrize("delta", [None, 0.7, 1e6])
def test_huber_ends_at_its_minimum(tmp_path: Path, delta: float | None) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    features, target = rows_of(8, 200, 3)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    design = np.column_stack([standard, np.ones(200)])
    bend = target.std() if delta is None else delta

    def loss(w: Table) -> tuple[float, Table]:
        errors = design @ w - target
        near = np.clip(errors, -bend, bend)
        return float(np.mean(near * (errors - near / 2))), design.T @ near / len(target)

    start = np.append(np.zeros(3), np.median(target))
    best = optimize.minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-10})
    model = fit_linear(ingested(tmp_path, features, target), loss="huber", delta=delta)
    assert model.delta == pytest.approx(bend)
    assert model.loss == pytest.approx(best.fun, rel=1e-6)
    assert model.coefficients * features.std(axis=0) == pytest.approx(best.x[:-1], rel=1e-3, abs=1e-3)


def test_a_penalty(tmp_path: Path) -> None:
    features, target = rows_of(9, 100, 3)
    features = np.column_stack([features, features[:, 0] * 2])  # one answer of many, but for the penalty
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    scaled = (target - target.mean()) / target.std()
    expected = np.linalg.solve(standard.T @ standard / 100 + 0.1 * np.eye(4), standard.T @ scaled / 100)
    model = fit_linear(ingested(tmp_path, features, target), ridge=0.1)
    assert model.coefficients * features.std(axis=0) / target.std() == pytest.approx(expected, abs=1e-7)
    predicted = features @ model.coefficients + model.intercept
    assert model.loss == pytest.approx(np.mean((target - predicted) ** 2), rel=1e-6)


def test_fewer_rows_than_features_with_a_penalty(tmp_path: Path) -> None:
    features, target = rows_of(10, 4, 6)
    model = fit_linear(ingested(tmp_path, features, target, allow_few_rows=True), ridge=0.01)
    assert np.isfinite(model.coefficients).all()
    assert model.r2 is not None
    assert model.r2 > 0.5


def test_batches(tmp_path: Path) -> None:
    features, target = rows_of(11, 2000, 4)
    data = ingested(tmp_path, features, target)
    models = [fit_linear(data, batch_size=100, epochs=20, seed=seed) for seed in (1, 1, 2)]
    assert models[0].steps == 400
    for model in models:
        assert scaled_error(model, least_squares(features, target), features, target) < 0.05
    assert models[0].coefficients.tobytes() == models[1].coefficients.tobytes()
    assert models[0].coefficients.tobytes() != models[2].coefficients.tobytes()


def test_float32(tmp_path: Path) -> None:
    random = np.random.default_rng(12)
    features = random.normal(size=(500, 3)) + 3
    target = features @ [1.0, -2.0, 3.0] + random.normal(size=500)
    model = fit_linear(ingested(tmp_path, features, target, dtype="float32"))
    assert scaled_error(model, least_squares(features, target), features, target) < 1e-4


def test_a_target_that_never_changes(tmp_path: Path) -> None:
    model = fit_linear(ingested(tmp_path, [[1.0], [2.0], [4.0]], [7.0, 7.0, 7.0]))
    assert (model.r2, model.intercept, model.loss) == (None, 7.0, 0.0)
    assert model.coefficients == pytest.approx([0.0])
    assert "undefined" in table(model)


def test_no_executor_changes_a_bit(tmp_path: Path) -> None:
    features, target = rows_of(13, 40_000, 3)  # more rows than a tile
    data = ingested(tmp_path, features, target, block_rows=15_000)
    models = [fit_linear(data, steps=20, scheduler=scheduler) for scheduler in ("threads", "threads", "synchronous")]
    for model in models[1:]:
        assert model.coefficients.tobytes() == models[0].coefficients.tobytes()
        assert model.losses.tobytes() == models[0].losses.tobytes()
        assert (model.intercept, model.loss, model.r2) == (models[0].intercept, models[0].loss, models[0].r2)


@pytest.mark.cluster
def test_a_cluster_changes_no_bit(tmp_path: Path, cluster: Any) -> None:
    features, target = rows_of(14, 40_000, 3)
    data = ingested(tmp_path, features, target)
    here, there = fit_linear(data, steps=12), fit_linear(data, steps=12, client=cluster)
    assert here.coefficients.tobytes() == there.coefficients.tobytes()
    assert here.losses.tobytes() == there.losses.tobytes()


def test_progress_is_told_in_units_of_the_data(tmp_path: Path) -> None:
    told: list[tuple[int, int, float]] = []
    model = fit_linear(
        ingest_csv(EXAMPLE, target="Scores"), progress=lambda done, planned, loss: told.append((done, planned, loss))
    )
    assert told[-1][0] == model.steps
    assert {planned for _, planned, _ in told} == {model.planned_steps}
    assert told[-1][2] == pytest.approx(model.loss)


# What is refused


def test_columns_that_determine_one_another(tmp_path: Path) -> None:
    features, target = rows_of(15, 100, 3)
    features = np.column_stack([features[:, :2], features[:, 0] * 3 - features[:, 1] / 7, features[:, 2]])
    with pytest.raises(DataError) as caught:
        fit_linear(ingested(tmp_path, features, target))
    assert caught.value.found == "only 3 independent ones: 'x0', 'x1', 'x2' determine one another"
    assert "--exclude 'x2'" in caught.value.remedy
    assert "--ridge" in caught.value.remedy


def test_as_many_features_as_rows(tmp_path: Path) -> None:
    features, target = rows_of(16, 4, 4)
    with pytest.raises(DataError, match="only 4 rows"):
        fit_linear(ingested(tmp_path, features, target))


@pytest.mark.parametrize("rate", [30, 1e6, 1e300])
def test_a_learning_rate_that_is_too_large(rate: float) -> None:
    with pytest.raises(DivergedError) as caught:
        fit_linear(ingest_csv(EXAMPLE, target="Scores"), optimizer="sgd", learning_rate=rate)
    assert "step" in caught.value.found
    assert "--learning-rate" in caught.value.remedy
    assert caught.value.exit_code == 65


def test_an_end_far_above_the_start() -> None:
    with pytest.raises(DivergedError, match=r"the loss went from 613\.85 to .* in 1 step"):
        fit_linear(ingest_csv(EXAMPLE, target="Scores"), learning_rate=1000, steps=1)


def test_a_target_whose_squares_vanish_is_no_constant(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="in 'y' are too small for float64"):
        fit_linear(ingested(tmp_path, [[1.0], [2.0]], [1e-200, 2e-200]))


def test_columns_beyond_floating_point(tmp_path: Path) -> None:
    wide = ingested(tmp_path, [[1e300], [-1e300], [1e200]], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="'x0' are beyond floating point"):
        fit_linear(wide)
    narrow = ingested(tmp_path, [[1e6], [1e6 + 0.1], [1e6 + 0.2]], [1.0, 2.0, 3.0], dtype="float32")
    with pytest.raises(DataError, match="changes too little for the digits of float32") as caught:
        fit_linear(narrow)
    assert "--dtype float64" in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"loss": "l1"}, "no such loss"),
        ({"optimizer": "Adam"}, "no such optimizer"),
        ({"learning_rate": 0}, "above 0"),
        ({"learning_rate": -0.1}, "above 0"),
        ({"learning_rate": float("nan")}, "no number"),
        ({"learning_rate": float("inf")}, "finite"),
        ({"learning_rate": "fast"}, "no number"),
        ({"learning_rate": True}, "no number"),
        ({"steps": 0}, "whole number"),
        ({"steps": 1.5}, "whole number"),
        ({"epochs": -1}, "whole number"),
        ({"batch_size": "all"}, "whole number"),
        ({"steps": 1, "epochs": 1}, "both say"),
        ({"delta": 1.0}, "only huber"),
        ({"loss": "huber", "delta": 0}, "above 0"),
        ({"ridge": -1}, "above 0"),
        ({"seed": "x"}, "whole number"),
    ],
    ids=str,
)
def test_options_that_can_not_be_used(options: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError) as caught:
        fit_linear(ingest_csv(EXAMPLE, target="Scores"), **options)
    assert found in caught.value.found


def test_numbers_may_be_texts() -> None:
    data = ingest_csv(EXAMPLE, target="Scores")
    assert fit_linear(data, learning_rate="1e-1").coefficients == fit_linear(data, learning_rate=0.1).coefficients


def test_rows_without_a_target() -> None:
    with pytest.raises(UsageError, match="no target"):
        fit_linear(ingest_csv(EXAMPLE, target=None))
    with pytest.raises(UsageError, match="the rows are a str"):
        fit_linear("scores.csv")  # type: ignore[arg-type]


# Prediction, and the model as files


@pytest.fixture(scope="module")
def model() -> LinearModel:
    return fit_linear(ingest_csv(EXAMPLE, target="Scores"))


def test_predictions(model: LinearModel) -> None:
    expected = model.intercept + model.coefficients[0] * np.array([1.0, 2.0])
    assert model.predict([[1], [2]]) == pytest.approx(expected)
    assert model.predict(np.zeros((0, 1))).shape == (0,)
    with pytest.raises(ShapeError, match="'Hours'"):
        model.predict([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"\(1, 2\)"):
        model.predict([[1.0, 2.0]])
    for cells in ([["1h"]], [[1j]]):
        with pytest.raises(DataError, match="not all real numbers"):
            model.predict(cells)


def test_predictions_for_tables_go_by_name(model: LinearModel) -> None:
    pandas = pytest.importorskip("pandas")
    rows = pandas.DataFrame({"other": ["a", "b"], "Hours": [1.0, 2.0]})
    assert model.predict(rows) == pytest.approx(model.predict([[1.0], [2.0]]))
    with pytest.raises(DataError, match="Did you mean 'hours'"):
        model.predict(rows.rename(columns={"Hours": "hours"}))


def test_a_model_comes_back(model: LinearModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    found = LinearModel.load(tmp_path / "model")
    assert facts(found) == facts(model)
    assert found.losses.tobytes() == model.losses.tobytes()
    assert found.predict([[3.0]]).tobytes() == model.predict([[3.0]]).tobytes()
    with pytest.raises(OutputExistsError):
        model.save(tmp_path / "model")
    model.save(tmp_path / "model", replace=True)


def test_what_is_no_model(model: LinearModel, tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError):
        LinearModel.load(tmp_path)
    save_state(tmp_path / "other", {}, {"kind": "checkpoint"})
    with pytest.raises(DataError, match="holds the state of 'checkpoint'"):
        LinearModel.load(tmp_path / "other")
    save_state(tmp_path / "parts", {}, {"kind": "linear regression"})
    with pytest.raises(DataError, match="its parts are"):
        LinearModel.load(tmp_path / "parts")
    model.save(tmp_path / "model")
    state = tmp_path / "model" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"\0")
    with pytest.raises(FlowgraphError):
        LinearModel.load(tmp_path / "model")


# The report and the pictures

STRANGE = ("price $x$", "_b", "c\x1b[31m\nd", "日本", "e" * 200)


def strange_model(features: int = len(STRANGE)) -> tuple[LinearModel, Table, Table]:
    model = LinearModel(
        feature_names=STRANGE[:features],
        target_name="y $$_^{\x07",
        coefficients=np.linspace(-1e-7, 1e7, features),
        intercept=12345.678,
        loss_name="huber",
        delta=0.5,
        ridge=0.25,
        loss=0.5,
        r2=0.87654321,
        rows=40,
        steps=5,
        planned_steps=50,
        seconds=1.25,
        losses=np.geomspace(1e6, 0.5, 5),
    )
    rows = np.random.default_rng(0).normal(size=(40, features))
    return model, rows, rows.sum(axis=1)


def test_the_table_is_aligned_and_safe() -> None:
    model, _, _ = strange_model()
    lines = table(model).splitlines()
    assert r"c\x1b[31m\nd" in table(model)
    assert "\x1b" not in table(model)
    assert max(map(len, lines)) < 100
    coefficients = lines[2:9]
    assert len({len(line) for line in coefficients}) == 1
    figures = {line.split("  ")[1]: line.split("  ")[-1].strip() for line in lines[10:]}
    assert figures == {
        "loss (Huber loss, delta 0.5)": "0.5",
        "R2": "0.876543",
        "ridge": "0.25",
        "rows": "40",
        "steps": "5 of 50 (the loss no longer changed)",
        "seconds": "1.25",
    }


def test_figures_take_any_name(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for features in (1, len(STRANGE)):
        model, rows, target = strange_model(features)
        for name, figure in (("fit", fit_figure(model, rows, target)), ("loss", loss_figure(model))):
            figure.savefig(tmp_path / name)
            axes = figure.axes[0]
            assert axes.get_xlabel()
            assert "$$" in axes.get_ylabel()
            assert axes.get_title()
    assert fit_figure(*strange_model(1)).axes[0].get_xlabel() == "price $x$"
    assert fit_figure(*strange_model()).axes[0].get_xlabel() == r"y $$_^{\x07, actual"
    assert loss_figure(model).axes[0].get_yscale() == "log"
    assert "matplotlib.pyplot" not in sys.modules


def test_a_part_of_many_rows_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    random = np.random.default_rng(1)
    values = random.normal(size=12_000)
    data = ingested(tmp_path, values[:, None], values * 2, block_rows=5000)
    rows, target = sample(data)
    assert rows.shape == (5000, 1)
    assert np.array_equal(target, rows[:, 0] * 2)
    assert (rows[0, 0], rows[-1, 0]) == (values[0], values[-1])
    places = {value: place for place, value in enumerate(values.tolist())}
    assert set(np.diff([places[value] for value in rows[:, 0].tolist()]).tolist()) == {2, 3}
    model = fit_linear(data, steps=50)
    write_plots(model, data, tmp_path)
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in (FIT_PLOT, LOSS_PLOT))
    assert "5,000 of 12,000 rows shown" in fit_figure(model, rows, target).axes[0].get_title()


def test_without_matplotlib_the_remedy_is_an_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'flowgraph\[plots\]'"):
        loss_figure(strange_model()[0])
