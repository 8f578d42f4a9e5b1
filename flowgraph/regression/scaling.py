"""The scales in which a linear model is trained: columns without mean, unit and correlation.

    prediction = (x - mean) @ (basis @ p) + b        p, b: what is trained; the target has mean 0 and deviation 1

`basis` turns the centred columns into uncorrelated ones of deviation 1. It is applied to the parameters, so the rows
are never copied, and gradient descent finds the same way down whatever the units and correlations of the columns: with
squares as the loss every direction is equally steep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowgraph.data import Ingested
from flowgraph.data.source import counted, listed, quoted
from flowgraph.errors import DataError
from flowgraph.state import function
from flowgraph.tensor import Tensor

WIDEST = 2048
"""With more columns than that their correlations are left alone: the matrix of them would cost more than it saves."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scaling:
    """What turns parameters into coefficients. Numbers are rounded to the dtype of the rows, as the rows see them."""

    mean: _Floats
    """Of the features, shape `(features,)`."""
    deviation: _Floats
    """Of the features, shape `(features,)`."""
    basis: _Floats
    """Shape `(features, features)`, or `(features,)` for a diagonal one."""
    target_mean: float
    target_deviation: float
    """1 for a target that never changes."""

    def slopes(self, parameters: Any, basis: Any) -> Any:
        """The coefficients of the centred columns for the scaled target; arrays or tensors, shape `(features,)`."""
        return basis @ parameters if self.basis.ndim == 2 else basis * parameters


def scaling_of(data: Ingested, rows: Tensor, ridge: float, client: Any = None, scheduler: Any = None) -> Scaling:
    """Returns the scaling for the ingested rows; `rows`: their features as a tensor.

    Raises DataError for columns that are sums of others, unless there is a `ridge`, and for numbers that can not be
    standardised.
    """
    assert data.target_moments is not None
    dtype = rows.dtype
    mean, deviation = data.moments.mean.astype(dtype), np.sqrt(data.moments.variance).astype(dtype)
    target_mean, target_deviation = (
        float(np.asarray(one, dtype)) for one in (data.target_moments.mean, np.sqrt(data.target_moments.variance))
    )
    _check_size(data, deviation, target_deviation)
    basis = 1 / deviation.astype(np.float64)
    if 1 < len(mean) <= WIDEST:
        correlation = _correlation(rows, mean, (1 / deviation).astype(dtype), client, scheduler)
        values, vectors = np.linalg.eigh(correlation)
        _check_rank(data, values, vectors, dtype, ridge)
        basis = basis[:, None] * vectors / np.sqrt(values + ridge)
    return Scaling(
        mean.astype(np.float64),
        deviation.astype(np.float64),
        np.ascontiguousarray(basis.astype(dtype).astype(np.float64)),
        target_mean,
        target_deviation if target_deviation > 0 else 1.0,
    )


def _correlation(rows: Tensor, mean: Any, inverse: Any, client: Any, scheduler: Any) -> _Floats:
    """The correlations of the columns, shape `(features, features)`, by one pass of the engine."""

    def product(x: Tensor) -> Tensor:
        standard = (x - mean) * inverse
        result: Tensor = standard.mT @ standard
        return result

    found = function(product, client=client, scheduler=scheduler)(rows).numpy().astype(np.float64)
    result: _Floats = found / rows.shape[0]
    return result


def _check_size(data: Ingested, deviation: Any, target_deviation: float) -> None:
    assert data.target_moments is not None
    deviations = [*deviation.tolist(), target_deviation]
    names = [*data.feature_names, data.target_name]
    wrong = [name for name, one in zip(names, deviations, strict=True) if not np.isfinite(one)]
    if wrong:
        found = f"the squares of the numbers in {listed(wrong)} are beyond floating point"
        raise DataError("standardise the columns", found, "Divide these columns by a large number first.")
    if target_deviation == 0 and data.target_moments.minimum != data.target_moments.maximum:
        found = f"the squares of the differences in {quoted(data.target_name)} are too small for {deviation.dtype}"
        raise DataError("standardise the columns", found, "Multiply this column by a large number first.")
    resolution = 64 * float(np.finfo(deviation.dtype).eps) * np.abs(data.moments.mean)
    wrong = [name for name, one in zip(data.feature_names, deviation <= resolution, strict=True) if one]
    if wrong:
        found = f"beside its mean, {listed(wrong)} changes too little for the digits of {deviation.dtype}"
        remedy = "Subtract a constant from such a column first"
        remedy += ", or use dtype='float64' (`--dtype float64`)." if deviation.dtype == np.float32 else "."
        raise DataError("standardise the columns", found, remedy)


def _check_rank(data: Ingested, values: _Floats, vectors: _Floats, dtype: Any, ridge: float) -> None:
    """Returns nothing; raises DataError if a column is a weighted sum of others, to the precision of the rows."""
    dependent = values <= 64 * len(values) * float(np.finfo(dtype).eps)
    if ridge > 0 or not dependent.any():
        return
    involved = np.abs(vectors[:, dependent]).max(axis=1) > 1e-3
    named = [name for name, one in zip(data.feature_names, involved, strict=True) if one]
    asked = f"learn {quoted(data.target_name)} from {len(values)} features"
    rank = int((~dependent).sum())
    found = f"only {counted(rank, 'independent one')}: {listed(named)} determine one another"
    if data.rows <= len(values):
        found = f"only {counted(data.rows, 'row')}, so many answers fit equally well"
    remedy = f"Leave one out (`--exclude {named[-1]!r}`), or add a penalty, say ridge=1e-6 (`--ridge 1e-6`)."
    raise DataError(asked, found, remedy)
