"""`flowgraph fit`: CSV files in; a table, a model and pictures out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from flowgraph.cli.base import (
    COUNT,
    NAMES,
    PENALTY,
    PLACE,
    POSITIVE,
    SEED,
    bar,
    note,
    raise_if_lost,
    read,
    shared_options,
)
from flowgraph.cli.cluster import check_cluster, connected, is_local
from flowgraph.errors import UsageError


@click.command("fit", short_help="Fit a linear model to CSV files.")
@click.argument("data", nargs=-1, required=True, metavar="DATA.csv...")
@click.option("--target", required=True, metavar="COLUMN", help="The column to predict.")
@click.option("--features", type=NAMES, metavar="A,B", help="The columns to learn from. [all that hold numbers]")
@click.option("--exclude", type=NAMES, metavar="A,B", help="Columns to leave out.")
@click.option("--loss", type=click.Choice(["mse", "mae", "huber"]), default="mse", help="What to make small. [mse]")
@click.option(
    "--delta",
    type=POSITIVE,
    metavar="NUMBER",
    help="Where huber turns from squares to absolute values, in units of the target. [one standard deviation]",
)
@click.option(
    "--ridge", type=PENALTY, default="0", metavar="NUMBER", help="Penalty on squared standardised coefficients. [0]"
)
@click.option("--optimizer", type=click.Choice(["adam", "sgd"]), default="adam", help="How to make it small. [adam]")
@click.option("--learning-rate", type=POSITIVE, metavar="NUMBER", help="Of the first step; it falls to 0. [0.1]")
@click.option("--steps", type=COUNT, metavar="N", help="Steps at most. [500]")
@click.option("--epochs", type=COUNT, metavar="N", help="Passes over the rows, instead of --steps.")
@click.option("--batch-size", type=COUNT, metavar="N", help="Rows a step. [all]")
@click.option("--seed", type=SEED, default="0", metavar="N", help="Of the order of batches. [0]")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float64", help="Of the rows. [float64]")
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Run on a Dask cluster: tcp://host:8786, or local:2 for two processes of this machine. [threads]",
)
@click.option("--out", type=PLACE, metavar="DIR", help="A new directory for model and plots.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@shared_options
def fit_command(**options: Any) -> None:
    """Fit a linear model: predict the column --target from the other columns of CSV files.

    DATA may be several files and patterns such as 'part-*.csv'. The table of results is printed; with --out the model,
    a plot of the fit and a plot of the loss are written too, for `flowgraph predict DIR`.

    Columns are standardised and freed of their correlations inside, and results are in the units of the files: there
    is nothing to scale by hand, and the default learning rate suits most data.
    """
    _fit(options)


def _fit(options: dict[str, Any]) -> None:
    from flowgraph.regression import fit_linear
    from flowgraph.regression.report import facts, table

    quiet, out, spec = options["quiet"], options["out"], options["cluster"]
    _check(options)
    with ExitStack() as stack:
        folder = stack.enter_context(_output(out, options["force"]))
        if not is_local(spec):  # an address that does not answer is told before hours of reading
            client = stack.enter_context(connected(spec, quiet))
        data = _read(options, stack.enter_context(tempfile.TemporaryDirectory(prefix="flowgraph-")))
        if is_local(spec):
            client = stack.enter_context(connected(spec, quiet))
        names = ("loss", "delta", "ridge", "optimizer", "learning_rate", "steps", "epochs", "batch_size", "seed")
        with _fitting(quiet) as progress:
            model = fit_linear(data, client=client, progress=progress, **{name: options[name] for name in names})
        written = _write(model, data, folder, quiet) if folder is not None else []
    if options["as_json"]:
        left_out = {"dropped_rows": data.dropped_rows, "skipped_columns": list(data.skipped)}
        output = {"out": str(out) if out is not None else None, "files": written}
        click.echo(json.dumps({**facts(model), **left_out, **output}, indent=1))
        return
    click.echo(table(model))
    if out is None:
        note(quiet, "nothing was written: --out DIR keeps the model and draws it")
    else:
        note(quiet, f"written to {out}: {', '.join(written)}")


def _check(options: dict[str, Any]) -> None:
    """Returns nothing; refuses what can be refused before a byte is read."""
    from flowgraph.store import check_installed

    check_cluster(options["cluster"])
    if options["steps"] is not None and options["epochs"] is not None:
        raise UsageError("run with --steps and --epochs", "both say how long to train", "Give one of them.")
    if options["delta"] is not None and options["loss"] != "huber":
        raise UsageError(f"run with --delta and --loss {options['loss']}", "only huber has one", "Add --loss huber.")
    if options["out"] is not None:
        check_installed()


def _output(out: Path | None, force: bool) -> Any:
    """The context of a directory that becomes `out` when all is well, or of None."""
    from flowgraph.regression.plots import FIT_PLOT, LOSS_PLOT
    from flowgraph.store import new_directory

    return nullcontext() if out is None else new_directory(out, force, (FIT_PLOT, LOSS_PLOT))


def _read(options: dict[str, Any], folder: str) -> Any:
    data = read(
        options["quiet"],
        options["data"],
        target=options["target"],
        features=options["features"],
        exclude=options["exclude"] or (),
        missing=options["missing"],
        dtype=options["dtype"],
        directory=Path(folder) / "rows",
        delimiter=options["delimiter"],
        decimal_point=options["decimal"],
        encoding=options["encoding"],
        allow_few_rows=options["ridge"] > 0,
    )
    from flowgraph.data.source import counted, listed

    if data.skipped:
        note(options["quiet"], f"columns without numbers or without a name are left out: {listed(data.skipped)}")
    if data.dropped_rows:
        note(options["quiet"], f"left out: {counted(data.dropped_rows, 'row')} with missing or infinite cells")
    assert data.target_moments is not None
    if data.target_moments.minimum == data.target_moments.maximum:
        note(options["quiet"], f"the target {listed([data.target_name])} is the same in all rows")
    return data


@contextmanager
def _fitting(quiet: bool) -> Iterator[Any]:
    """Yields what `fit_linear` calls with its progress; it draws a bar."""
    with bar(quiet, desc="fitting", unit="step") as shown:

        def progress(done: int, planned: int, loss: float) -> None:
            raise_if_lost()
            shown.total = planned
            shown.set_postfix_str(f"loss {loss:.6g}", refresh=False)
            shown.update(done - shown.n)

        yield progress
        shown.total = shown.n  # it may have ended early
        shown.refresh()


def _write(model: Any, data: Any, folder: Path, quiet: bool) -> list[str]:
    """Returns the names of the files written into `folder`."""
    from flowgraph.regression.plots import write_plots

    model.write(folder)
    try:
        write_plots(model, data, folder)
    except UsageError as error:
        note(quiet, f"no plots: {error.found}. {error.remedy}")
    return sorted(path.name for path in folder.iterdir())
