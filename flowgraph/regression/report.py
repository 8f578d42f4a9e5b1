"""What a fit is told as: a table for people, and facts for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowgraph.data.source import printable
from flowgraph.regression.model import LinearModel

_WIDEST = 60
_LOSS_WORDS = {"mse": "mean squared error", "mae": "mean absolute error", "huber": "Huber loss"}


def table(model: LinearModel) -> str:
    """Returns the coefficients and figures of a model as aligned lines of plain text."""
    names = ["(intercept)", *(shortened(name) for name in model.feature_names)]
    values = [model.intercept, *model.coefficients.tolist()]
    numbers = (f"{value:#.6g}".removesuffix(".") for value in values)
    head = [("term", "coefficient"), *zip(names, numbers, strict=True)]
    target = shortened(model.target_name)
    return "\n".join([f"{target} by a linear model", "", *_aligned(head), "", *_aligned(figures(model))])


def figures(model: LinearModel) -> list[tuple[str, str]]:
    """Returns the name and the text of each figure of a fit."""
    loss = _LOSS_WORDS[model.loss_name]
    if model.delta is not None:
        loss += f", delta {model.delta:.4g}"
    steps = f"{model.steps:,}"
    if model.steps < model.planned_steps:
        steps += f" of {model.planned_steps:,} (the loss no longer changed)"
    return [
        (f"loss ({loss})", f"{model.loss:.6g}"),
        ("R2", "undefined (the target never changes)" if model.r2 is None else f"{model.r2:.6f}"),
        *([("ridge", f"{model.ridge:g}")] if model.ridge else []),
        ("rows", f"{model.rows:,}"),
        ("steps", steps),
        ("seconds", f"{model.seconds:.3g}"),
    ]


def facts(model: LinearModel) -> dict[str, Any]:
    """Returns the same as numbers and texts that JSON can hold."""
    return {
        "target": model.target_name,
        "intercept": model.intercept,
        "coefficients": dict(zip(model.feature_names, model.coefficients.tolist(), strict=True)),
        "loss": model.loss,
        "loss_name": model.loss_name,
        "delta": model.delta,
        "ridge": model.ridge,
        "r2": model.r2,
        "rows": model.rows,
        "steps": model.steps,
        "stopped_early": model.steps < model.planned_steps,
        "seconds": model.seconds,
    }


def shortened(name: str, width: int = _WIDEST) -> str:
    """Returns the name of a column as one readable line: control characters escaped, and cut where it is too long."""
    shown = printable(name)
    return shown if len(shown) <= width else shown[: width - 3] + "..."


def _aligned(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Two columns, the numbers of the second with their points under one another where they have some."""
    left = max(len(name) for name, _ in pairs)
    right = max(len(text.split(" ")[0]) for _, text in pairs)
    return [f"  {name:<{left}}  {' ' * (right - len(text.split(' ')[0]))}{text}".rstrip() for name, text in pairs]
