"""The command line: `flowgraph fit | predict | doctor`, also as `dask flowgraph ...`.

Dask loads this file for every one of its commands, so it imports nothing heavy; each command imports what it needs.
"""

from __future__ import annotations

import click

from flowgraph.cli.base import Commands, quiet_interrupts
from flowgraph.cli.doctor import doctor_command
from flowgraph.cli.fit import fit_command
from flowgraph.cli.predict import predict_command

__all__ = ["cli", "main"]


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from flowgraph.machine import version_of

        click.echo(f"flowgraph {version_of('flowgraph') or '0+unknown'}")
        context.exit()


@click.group(
    "flowgraph",
    cls=Commands,
    commands={"fit": fit_command, "predict": predict_command, "doctor": doctor_command},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Tensor graphs with automatic gradients on Dask: regression on CSV files of any size."""
    if debug:
        Commands.set_debug(context)


def main() -> None:
    """Run the command line of this process, and exit."""
    with quiet_interrupts():
        cli(prog_name="flowgraph")
