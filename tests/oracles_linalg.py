"""What the operations of linear algebra mean, by numpy and scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg


def put_diagonal(x: Any, offset: int, matrix: Any) -> Any:
    result = np.zeros((*x.shape[:-1], *matrix), x.dtype)
    for place in np.ndindex(x.shape[:-1]):
        for number, value in enumerate(x[place]):
            result[(*place, number + max(-offset, 0), number + max(offset, 0))] = value
    return result


def band_part(x: Any, num_lower: int, num_upper: int) -> Any:
    result = x.copy() if num_lower < 0 else np.triu(x, -num_lower)
    return result if num_upper < 0 else np.tril(result, num_upper)


def triangular_solve(x: Any, y: Any, lower: bool = True, adjoint: bool = False, unit_diagonal: bool = False) -> Any:
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    result = np.empty((*batch, *y.shape[-2:]))
    x, y = np.broadcast_to(x, (*batch, *x.shape[-2:])), np.broadcast_to(y, result.shape)
    for place in np.ndindex(*batch):
        triangle = np.tril(x[place]) if lower else np.triu(x[place])
        if unit_diagonal:
            np.fill_diagonal(triangle, 1)
        result[place] = np.linalg.solve(triangle.T if adjoint else triangle, y[place])
    return result


def cholesky(x: Any, upper: bool = False) -> Any:
    if not x.size:
        return x
    flat = [scipy.linalg.cholesky((one + one.T) / 2, lower=not upper) for one in x.reshape(-1, *x.shape[-2:])]
    return np.reshape(flat, x.shape)


def adjugate(x: Any) -> Any:
    """By cofactors."""
    result, side = np.empty_like(x), x.shape[-1]
    for place in np.ndindex(x.shape[:-2]):
        for i, j in np.ndindex(side, side):
            minor = np.delete(np.delete(x[place], i, 0), j, 1)
            result[(*place, j, i)] = (-1) ** (i + j) * np.linalg.det(minor)
    return result


def solve(x: Any, y: Any) -> Any:
    if y.ndim == 1:
        return np.linalg.inv(x) @ y
    return np.linalg.inv(x) @ y


def expm(x: Any) -> Any:
    """By the series, of a matrix so small that few terms do, squared again."""
    small, term = x / 2**8, np.broadcast_to(np.eye(x.shape[-1]), x.shape)
    total = term.copy()
    for k in range(1, 15):
        term = term @ small / k
        total += term
    for _ in range(8):
        total = total @ total
    return total


ORACLES: dict[str, Callable[..., Any]] = {
    "diagonal": lambda x, offset=0: np.diagonal(x, offset, -2, -1),
    "put_diagonal": put_diagonal,
    "band_part": band_part,
    "einsum": lambda x, y, subscripts: np.einsum(subscripts, x, y),
    "cross": np.cross,
    "solve": solve,
    "triangular_solve": triangular_solve,
    "inv": lambda x: np.linalg.solve(x, np.broadcast_to(np.eye(x.shape[-1]), x.shape)),
    "adjugate": adjugate,
    "det": np.linalg.det,
    "slogdet": lambda x: (np.sign(np.linalg.det(x)), np.log(np.abs(np.linalg.det(x)))),
    "pinv_within": lambda x, rtol: np.linalg.pinv(
        np.broadcast_to(x, (*np.broadcast_shapes(x.shape[:-2], np.shape(rtol)), *x.shape[-2:])), rtol=rtol
    ),
    "pinv": lambda x, rtol=None: np.linalg.pinv(x, rcond=1e-15 if rtol is None else rtol),
    "cholesky": cholesky,
    "expm": expm,
    "eigh": lambda x: tuple(np.linalg.eigh(x)),
    "eigvalsh": lambda x: np.linalg.eigvals(x).real if not x.size else np.sort(np.linalg.eigvals(x).real, axis=-1),
    "qr": lambda x, mode="reduced": tuple(np.linalg.qr(x, mode)),
    "svd": lambda x, full_matrices=True: tuple(np.linalg.svd(x, full_matrices)),
    "svdvals": lambda x: np.linalg.svd(x)[1],
}

NOT_PUBLIC: dict[str, str] = {
    "put_diagonal": "linalg.diag, for square matrices",
    "pinv_within": "linalg.pinv, with a tensor as rtol",
    "adjugate": "the gradient of det",
}
