"""A fitted linear model: what it predicts, and how it is kept in a directory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowgraph.data.source import listed, nearest, quoted
from flowgraph.errors import DataError, ShapeError
from flowgraph.ops.create import asarray
from flowgraph.state import function
from flowgraph.store import load_state, new_directory, write_state
from flowgraph.tensor import Tensor

KIND = "linear regression"


@dataclass(frozen=True, eq=False)
class LinearModel:
    """target = features @ coefficients + intercept, in the units of the data, and how it was found."""

    feature_names: tuple[str, ...]
    """The columns, in the order of the coefficients."""
    target_name: str
    """The column that is predicted."""
    coefficients: NDArray[np.float64]
    """Of shape `(features,)`; units of the target per unit of the feature."""
    intercept: float
    """In units of the target."""
    loss_name: str
    """mse, mae or huber."""
    delta: float | None
    """Where huber goes from squares to absolute values, in units of the target; None for other losses."""
    ridge: float
    """The penalty on the squares of the coefficients of standardised columns."""
    loss: float
    """The mean loss over the rows, without the penalty, in units of the target (mse and huber: in squared ones)."""
    r2: float | None
    """The part of the target's variance that the model explains; None for a target that never changes."""
    rows: int
    """How many rows it was learned from."""
    steps: int
    """How many steps were taken."""
    planned_steps: int
    """How many would have been taken at most."""
    seconds: float
    """How long the training took."""
    losses: NDArray[np.float64]
    """The loss before each step, over the rows that it saw, penalty included; shape `(steps,)`."""

    def predict(self, rows: Any) -> NDArray[np.float64]:
        """Returns the predictions for `rows`, shape `(rows,)`.

        `rows`: an array of shape `(rows, features)`, or a pandas table, whose columns are taken by name.
        Raises ShapeError for another shape and DataError for a table without the columns and for cells of text.

        >>> from flowgraph.data import ingest_csv
        >>> from flowgraph.regression import fit_linear
        >>> model = fit_linear(ingest_csv("examples/student_scores.csv", target="Scores"))
        >>> model.predict([[0.0], [1.0]]).round(4)
        array([ 2.4837, 12.2595])
        """
        table = self._table(rows)
        if table.ndim != 2 or table.shape[1] != len(self.coefficients):
            asked = f"predict {quoted(self.target_name)} from an array of shape {table.shape}"
            found = f"the model has {len(self.coefficients)} features: {listed(self.feature_names)}"
            raise ShapeError(asked, found, "Give an array of two axes with one column a feature.")
        result: NDArray[np.float64] = _predict(
            asarray(np.ascontiguousarray(self._numbers(table))), self.coefficients, np.float64(self.intercept)
        ).numpy()
        return result

    def _numbers(self, table: NDArray[Any]) -> NDArray[np.float64]:
        if table.dtype.kind in "biufO":
            with suppress(TypeError, ValueError):
                return table.astype(np.float64, copy=False)
        asked = f"predict {quoted(self.target_name)} from cells of {table.dtype}"
        raise DataError(asked, "they are not all real numbers", "Convert them first.")

    def _table(self, rows: Any) -> NDArray[Any]:
        names = getattr(rows, "columns", None)
        if names is None:
            return np.asarray(rows)
        check_columns(self, [str(name) for name in names], "the table")
        return np.asarray(rows[list(self.feature_names)])

    def save(self, directory: str | Path, replace: bool = False) -> None:
        """Returns nothing; writes the model to the new `directory`, completely or not at all.

        Raises OutputExistsError if it is there; with `replace` a directory that holds such a model is replaced.
        """
        with new_directory(directory, replace) as made:
            self.write(made)

    def write(self, directory: Path) -> None:
        """Returns nothing; writes the files of the model into a directory that another hand completes."""
        arrays = {"coefficients": self.coefficients, "intercept": np.asarray(self.intercept), "losses": self.losses}
        content = {name: value for name, value in asdict(self).items() if name not in arrays}
        write_state(directory, arrays, {"kind": KIND, **content})

    @classmethod
    def load(cls, directory: str | Path) -> LinearModel:
        """Returns the model that `save` wrote.

        Raises InputNotFoundError if there is none, DataError if it is damaged or the state of something else.
        """
        arrays, content = load_state(directory)
        names = {field.name for field in fields(cls)}
        kind = content.pop("kind", None)
        asked = f"read the model in {quoted(Path(directory))}"
        remedy = "Name a directory that `flowgraph fit --out` wrote with this version."
        if kind != KIND:
            raise DataError(asked, f"it holds the state of {quoted(kind)}, not of a {KIND}", remedy)
        if {*arrays, *content} != names:
            raise DataError(asked, f"its parts are {listed(sorted({*arrays, *content}))}", remedy)
        content["feature_names"] = tuple(content["feature_names"])
        values: dict[str, Any] = {**content, **arrays, "intercept": float(arrays["intercept"])}
        model = cls(**values)
        if model.coefficients.shape != (len(model.feature_names),) or not np.isfinite(model.coefficients).all():
            raise DataError(asked, "its coefficients do not fit its features", remedy)
        return model


def check_columns(model: LinearModel, names: Sequence[str], where: str) -> None:
    """Returns nothing; raises DataError unless the columns `names` of `where` include all features of the model."""
    missing = [name for name in model.feature_names if name not in names]
    if missing:
        asked = f"predict {quoted(model.target_name)} from the columns {listed(model.feature_names)}"
        found = f"{where} has no column {listed(missing)}; it has {listed(names)}"
        remedy = f"{nearest(missing[0], names)}Rename its columns, or use a model that was fitted on these."
        raise DataError(asked, found, remedy)


@function
def _predict(rows: Tensor, coefficients: Tensor, intercept: Tensor) -> Tensor:
    result: Tensor = rows @ coefficients + intercept
    return result
