"""`flowgraph predict`: a model and CSV files in, a CSV file out."""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import click

from flowgraph.cli.base import PLACE, bar, note, read, shared_options
from flowgraph.errors import OutputExistsError, UsageError

_GROUP_BLOCKS = 16


@click.command("predict", short_help="Predict from CSV files with a model that `fit` wrote.")
@click.argument("model", type=PLACE, metavar="DIR")
@click.argument("data", nargs=-1, required=True, metavar="DATA.csv...")
@click.option(
    "--out", type=PLACE, default="predictions.csv", metavar="FILE", help="Where to; - is the screen. [predictions.csv]"
)
@shared_options
def predict_command(model: Path, data: tuple[str, ...], out: Path, force: bool, quiet: bool, **options: Any) -> None:
    """Write the predictions of the model in DIR, as `flowgraph fit --out DIR` wrote it, for the rows of CSV files.

    The columns are found by name; others may be there. Each line of the output holds the features of a row and, last,
    its prediction.
    """
    from flowgraph.data import find_files
    from flowgraph.data.source import counted
    from flowgraph.regression import LinearModel

    fitted = LinearModel.load(model)
    files = find_files(data)
    _check_header(fitted, files, options)
    target = None if out == Path("-") else out
    if target is not None:
        _check_free(target, force, files)
    with tempfile.TemporaryDirectory(prefix="flowgraph-") as folder:
        rows = read(
            quiet,
            tuple(map(os.fspath, files)),
            target=None,
            features=fitted.feature_names,
            missing=options["missing"],
            directory=Path(folder) / "rows",
            delimiter=options["delimiter"],
            decimal_point=options["decimal"],
            encoding=options["encoding"],
        )
        if rows.dropped_rows:
            note(quiet, f"left out: {counted(rows.dropped_rows, 'row')} with missing or infinite cells")
        if target is None:
            if isinstance(sys.stdout, TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8")  # as in a file, whatever the terminal can show
            _write(fitted, rows, sys.stdout, True)
            return
        with _new_file(target, force, files) as file:
            _write(fitted, rows, file, quiet)
    note(quiet, f"{counted(rows.rows, 'prediction')} of {fitted.target_name} written to {target}")


def _check_header(model: Any, files: Sequence[Path], options: dict[str, Any]) -> None:
    from flowgraph.data.columns import check_delimiter
    from flowgraph.data.csv import Dialect, read_header
    from flowgraph.data.source import quoted
    from flowgraph.regression.model import check_columns

    dialect = Dialect(options["delimiter"], options["decimal"], options["encoding"])
    for path in files:
        file = read_header(path, dialect)
        check_delimiter(file, model.feature_names)
        check_columns(model, file.names, quoted(path))


def _check_free(path: Path, force: bool, files: Sequence[Path]) -> None:
    asked = f"write predictions to {str(path)!r}"
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise OutputExistsError(asked, "it is a directory", "Name a file, for example with --out predictions.csv.")
    if any(path.resolve() == file.resolve() for file in files):
        raise UsageError(asked, "it is one of the files to read", "Name another file with --out.")
    if not force:
        raise OutputExistsError(asked, "it exists already", "Name another file with --out, or replace it with --force.")


@contextmanager
def _new_file(path: Path, force: bool, files: Sequence[Path]) -> Iterator[TextIO]:
    """Yields a temporary file beside `path` that takes its name when all is written."""
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _check_free(path, force, files)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(model: Any, data: Any, file: TextIO, quiet: bool) -> None:
    """Writes the header, then features and prediction of each row, so that reading them gives the same bits."""
    import numpy as np

    name = f"predicted_{model.target_name}"
    while name in model.feature_names:
        name += "_"
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([harmless(one) for one in (*model.feature_names, name)])
    with bar(quiet, total=data.rows, desc="predicting", unit="row", unit_scale=True) as shown:
        for first in range(0, len(data.features), _GROUP_BLOCKS):
            blocks = data.features[first : first + _GROUP_BLOCKS]
            table = np.concatenate(blocks) if len(blocks) > 1 else np.asarray(blocks[0])
            # Python's floats are written with as many digits as tell them apart.
            writer.writerows(np.column_stack([table, model.predict(table)]).tolist())
            shown.update(len(table))


def harmless(text: str) -> str:
    """Returns the text as a cell that no spreadsheet takes for a formula.

    >>> harmless("=1+1"), harmless("age")
    ("'=1+1", 'age')
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
