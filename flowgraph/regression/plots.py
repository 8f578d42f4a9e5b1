"""Pictures of a fit: the fitted line or predicted against actual, and the loss of each step."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowgraph.data import Ingested
from flowgraph.data.source import counted
from flowgraph.errors import UsageError
from flowgraph.regression.model import LinearModel
from flowgraph.regression.report import shortened

FIT_PLOT, LOSS_PLOT = "fit.png", "loss.png"
MOST_POINTS = 5000
"""With more rows than that, so many are drawn, evenly spaced over the rows."""

_POINTS, _LINE, _QUIET = "#1f77b4", "#d62728", "#666666"


def write_plots(model: LinearModel, data: Ingested, directory: Path) -> None:
    """Returns nothing; writes both pictures as PNG into `directory`. Raises UsageError without matplotlib."""
    rows, target = sample(data)
    for name, figure in ((FIT_PLOT, fit_figure(model, rows, target)), (LOSS_PLOT, loss_figure(model))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a sign in the name of a column that the font has not
            figure.savefig(directory / name, dpi=150)


def sample(data: Ingested) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns features, of shape `(points, features)`, and target of at most `MOST_POINTS` rows."""
    wanted = np.unique(np.linspace(0, data.rows - 1, min(data.rows, MOST_POINTS)).round().astype(np.int64))
    blocks = wanted // data.block_rows
    parts = [(number, wanted[blocks == number] % data.block_rows) for number in np.unique(blocks).tolist()]
    features = np.concatenate([data.features[number][rows] for number, rows in parts])
    return features, np.concatenate([data.target[number][rows] for number, rows in parts])


def fit_figure(model: LinearModel, rows: NDArray[Any], target: NDArray[Any]) -> Any:
    """Returns a matplotlib figure: the line through the points for one feature, else predicted against actual."""
    figure, axes = _figure()
    fitted = rows.astype(np.float64) @ model.coefficients + model.intercept
    points: dict[str, Any] = {"s": 30 if len(rows) <= 200 else 8, "alpha": 0.75 if len(rows) <= 200 else 0.35}
    name = shortened(model.target_name, 40)
    if len(model.feature_names) == 1:
        x = rows[:, 0]
        ends = np.array([x.min(), x.max()], np.float64)
        axes.scatter(x, target, color=_POINTS, edgecolors="none", label="rows", **points)
        feature, slope = shortened(model.feature_names[0]), float(model.coefficients[0])
        line = f"{model.intercept:.5g} {'-' if slope < 0 else '+'} {abs(slope):.5g} × {shortened(feature, 24)}"
        axes.plot(ends, ends * slope + model.intercept, color=_LINE, lw=2, label=line)
        axes.set_xlabel(feature, parse_math=False)
        axes.set_ylabel(name, parse_math=False)
    else:
        ends = np.array([min(target.min(), fitted.min()), max(target.max(), fitted.max())], np.float64)
        axes.scatter(target, fitted, color=_POINTS, edgecolors="none", label="rows", **points)
        axes.plot(ends, ends, color=_LINE, lw=1.5, ls="--", label="predicted = actual")
        axes.set_xlabel(f"{name}, actual", parse_math=False)
        axes.set_ylabel(f"{name}, predicted", parse_math=False)
    r2 = "R² undefined" if model.r2 is None else f"R² = {model.r2:.4f}"
    shown = counted(model.rows, "row") if len(rows) == model.rows else f"{len(rows):,} of {model.rows:,} rows shown"
    axes.set_title(f"{name}: {r2}, {shown}", parse_math=False)
    for text in axes.legend(frameon=False).get_texts():
        text.set_parse_math(False)
    return figure


def loss_figure(model: LinearModel) -> Any:
    """Returns a matplotlib figure of the loss over the steps, on a log scale where it spans decades."""
    figure, axes = _figure()
    from matplotlib.ticker import LogLocator, NullFormatter

    steps = np.arange(1, len(model.losses) + 1)
    marker = "o" if len(steps) < 20 else None
    axes.plot(steps, model.losses, color=_POINTS, lw=1.8, marker=marker, label="loss")
    axes.axhline(model.loss, color=_QUIET, lw=1, ls=":", label=f"at the end: {model.loss:.6g}")
    low, high = min(float(model.losses.min()), model.loss), float(model.losses.max())
    if 0 < low < high / 100:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < low * 1e4 else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.02)
    unit = shortened(model.target_name, 40)
    axes.set_xlabel("step")
    axes.set_ylabel(
        f"{model.loss_name} [{unit}]" if model.loss_name == "mae" else f"{model.loss_name} [{unit}²]", parse_math=False
    )
    axes.set_title(f"{unit}: {model.loss_name} over {counted(len(steps), 'step')}", parse_math=False)
    axes.legend(frameon=False)
    return figure


def _figure() -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        remedy = "Install it: pip install 'flowgraph[plots]'"
        raise UsageError("draw the fit", "matplotlib, which draws, is not installed", remedy) from error
    # No pyplot: it would pick a window system, and keep every figure alive.
    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
