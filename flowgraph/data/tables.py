"""CSV files as rows of a tensor: parsed and checked once, into blocks that every run reads."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from flowgraph.data.ingest import ingest_csv
from flowgraph.ops.create import asarray, from_blocks
from flowgraph.tensor import Tensor


def read_csv(
    paths: str | Path | Iterable[str | Path],
    columns: str | Sequence[str] | None = None,
    *,
    dtype: DTypeLike = np.float32,
    missing: Literal["refuse", "drop"] = "refuse",
    delimiter: str = ",",
    decimal_point: str = ".",
    encoding: str = "utf-8",
    memory_limit_bytes: int = 1 << 30,
) -> Tensor:
    r"""A tensor of the rows of CSV files, of shape `(rows, columns)`; `(rows,)` if `columns` is one name.

    The files are parsed now, once: until then nobody knows how many rows they have. Above `memory_limit_bytes` the rows
    go into a file where Dask has its temporary files; it is mapped into memory by whoever reads rows, and goes with the
    last tensor. To read features and a target, name all columns and take parts: `x, y = t[:, :3], t[:, 3:]`.

    `paths`: file names and patterns. `columns`: which, in this order; None for all that hold numbers. `dtype`: float32
    or float64. `missing`: "refuse" raises for missing, infinite and nan cells, "drop" leaves out their rows.

    Raises InputNotFoundError, UsageError for columns that are not there, and DataError for cells that are no numbers.

    >>> import tempfile, flowgraph as fg
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "rows.csv").write_text("height,city,weight\n1.5,Oslo,50\n2,Rome,90\n")
    ...     x = fg.read_csv(folder + "/*.csv")
    >>> x.tolist()
    [[1.5, 50.0], [2.0, 90.0]]
    """
    place = Path(tempfile.mkdtemp(prefix="flowgraph-csv-", dir=_temporary_directory()))
    try:
        found = ingest_csv(
            paths,
            target=None,
            features=columns,
            missing=missing,
            dtype=dtype,
            directory=place,
            memory_limit_bytes=memory_limit_bytes,
            delimiter=delimiter,
            decimal_point=decimal_point,
            encoding=encoding,
        )
        table = _memory_map(found.features[0])
    except BaseException:
        shutil.rmtree(place)
        raise
    if table is None:
        place.rmdir()
        result = from_blocks(found.features)
    else:
        weakref.finalize(table, shutil.rmtree, place, ignore_errors=True)
        result = asarray(table)
    return result[:, 0] if isinstance(columns, str) else result


def _temporary_directory() -> str | None:
    from dask import config

    return config.get("temporary-directory", None)  # type: ignore[no-any-return]


def _memory_map(block: Any) -> np.memmap[Any, Any] | None:
    """The map of the whole file that `block` is a part of, if it is one."""
    while isinstance(block.base, np.ndarray):
        block = block.base
    return block if isinstance(block, np.memmap) else None
