"""What all commands share: errors as one message and an exit code, interrupts, and options that say what was wrong."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from flowgraph.errors import FlowgraphError, UsageError

_DEBUG = "flowgraph.debug"
_INTERRUPTED, _TERMINATED, _IO_ERROR = 130, 143, 74

Command = TypeVar("Command", bound=Callable[..., Any])


class _Terminated(KeyboardInterrupt):
    """SIGTERM, taken like Ctrl-C so that the same hands clean up."""


class Commands(click.Group):
    """A group of commands whose errors are told in three lines: asked, found, remedy.

    The errors are taken here and not in `main`, because `dask flowgraph` calls the group from a group of its own.
    """

    @staticmethod
    def set_debug(context: click.Context) -> None:
        """Returns nothing; makes errors of this call show their traceback."""
        context.meta[_DEBUG] = True

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """The context; a wrong option of the group itself exits with our code for wrong usage, not click's."""
        try:
            return super().make_context(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            error.exit_code = UsageError.exit_code  # type: ignore[misc]
            raise
        except click.UsageError as error:
            raise _Refused(_as_ours(error, "flowgraph")) from error

    def invoke(self, context: click.Context) -> Any:
        """The result of the command; errors end it with a message and an exit code."""
        try:
            with _signals_as_interrupts():
                return super().invoke(context)
        except (_Refused, click.exceptions.Exit, click.exceptions.NoArgsIsHelpError, BrokenPipeError):
            raise
        except KeyboardInterrupt as error:
            terminated = isinstance(error, _Terminated)
            _tell(context, "terminated" if terminated else "interrupted", ["Nothing was written."])
            raise click.exceptions.Exit(_TERMINATED if terminated else _INTERRUPTED) from None
        except click.UsageError as error:
            _fail(context, _as_ours(error, _path(context)))
        except FlowgraphError as error:
            _fail(context, error)
        except OSError as error:
            remedy = "Check the place, its permissions and the space left on it."
            _fail(context, FlowgraphError(f"run {_path(context)}", str(error), remedy), _IO_ERROR)
        except Exception as error:  # noqa: BLE001 - the last hand before the user
            found = f"flowgraph failed where it should not: {type(error).__name__}: {error}"
            remedy = "Please report this, with what --debug prints."
            _fail(context, FlowgraphError(f"run {_path(context)}", found, remedy))


class _Refused(click.ClickException):
    """A wrong option of the group itself, found before there is a command to blame."""

    exit_code = UsageError.exit_code

    def __init__(self, error: UsageError) -> None:
        super().__init__(str(error))
        self.error = error

    def show(self, file: Any = None) -> None:
        """Prints the three lines."""
        click.echo(_message("flowgraph", "error", _parts(self.error)), file=file, err=True)


def _path(context: click.Context) -> str:
    """The words by which the command was called."""
    return f"{context.command_path} {context.invoked_subcommand or ''}".strip()


def _as_ours(error: click.UsageError, path: str) -> UsageError:
    path = error.ctx.command_path if error.ctx is not None else path
    return UsageError(f"run {path}", error.format_message(), f"See {path} --help.")


def _fail(context: click.Context, error: FlowgraphError, code: int | None = None) -> NoReturn:
    if context.meta.get(_DEBUG):
        click.echo(_escaped(traceback.format_exc()), err=True)
    _tell(context, "error", _parts(error))
    raise click.exceptions.Exit(error.exit_code if code is None else code) from None


def _parts(error: FlowgraphError) -> list[str]:
    parts = (("asked:", error.asked), ("found:", error.found), ("remedy:", error.remedy))
    lines = []
    for label, text in parts:
        first, *rest = text.splitlines() or [""]  # of several lines, as a table has them, the others stand below
        lines += [f"{label:<8}{first}", *(f"{'':<8}{line}" for line in rest)]
    return lines


def _tell(context: click.Context, kind: str, lines: list[str]) -> None:
    click.echo(_message(_path(context), kind, lines), err=True)


def _message(command: str, kind: str, lines: list[str]) -> str:
    return "\n".join([f"{command}: {kind}", *(f"  {_escaped(line)}" for line in lines)])


def _escaped(text: str) -> str:
    from flowgraph.data.source import printable

    return "\n".join(printable(line) for line in text.split("\n"))


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    handlers: dict[int, Any] = {signal.SIGTERM: _raising(_Terminated)}
    if not _deaf():
        handlers[signal.SIGINT] = _raising(KeyboardInterrupt)
    _RAISED.clear()
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python


_RAISED: list[type[KeyboardInterrupt]] = []
"""What a signal has raised since the command began."""


def _raising(kind: type[KeyboardInterrupt]) -> Callable[..., NoReturn]:
    """A handler of a signal. The first one begins to clean up; one that comes meanwhile ends the process quietly.

    A second KeyboardInterrupt may arise where nobody waits for one any more, and would end it with a traceback.
    """

    def handler(number: int, frame: object) -> NoReturn:
        if _RAISED:
            sys.exit(_TERMINATED if kind is _Terminated else _INTERRUPTED)
        _RAISED.append(kind)
        raise kind

    return handler


def raise_if_lost() -> None:
    """Raise again what a signal has raised: it met a destructor or a library that takes any exception, and got lost."""
    if _RAISED:
        raise _RAISED[0]


def _deaf() -> bool:
    """Whether whoever started this process had it ignore Ctrl-C, as a shell does in the background."""
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@contextmanager
def quiet_interrupts() -> Iterator[None]:
    """A context for all that a process does: Ctrl-C ends it without a traceback where no command runs.

    After the context it is ignored: what is left to do takes a moment, and its exit code is known.
    """
    if not _deaf():
        signal.signal(signal.SIGINT, lambda *_: sys.exit(_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Python kills itself in the end if the last text that it ran was left by a KeyboardInterrupt, though somebody
        # has caught that: the text of a dataclass in a library that is imported. This is a later text.
        exec("")


class Checked(click.ParamType[Any]):
    """An option whose text `parse` turns into a value; what it can not is told in our form, before anything is read."""

    def __init__(self, name: str, parse: Callable[[str], Any], wanted: str, example: str) -> None:
        self.name = name
        self._parse, self._wanted, self._example = parse, wanted, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; raises UsageError."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError:
            option = max(param.opts, key=len) if param is not None else self.name
            found = f"it must be {self._wanted}"
            raise UsageError(f"run with {option} {value!r}", found, f"Use {option} {self._example}, say.") from None


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def _penalty(text: str) -> float:
    number = float(text)
    return number if number == 0 else _positive(text)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _seed(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _names(text: str) -> tuple[str, ...]:
    import csv

    rows = list(csv.reader([text], strict=True))
    if len(rows) != 1 or not all(rows[0]):
        raise ValueError(text)
    return tuple(rows[0])


def _place(text: str) -> Path:
    if not text:
        raise ValueError(text)
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own refuses an unknown user


def _delimiter(text: str) -> str:
    named = {"tab": "\t", r"\t": "\t"}
    return named.get(text, text)


POSITIVE = Checked("number", _positive, "a number above 0, and finite", "0.05")
PENALTY = Checked("number", _penalty, "a number, 0 or above, and finite", "0.001")
COUNT = Checked("count", _count, "a whole number above 0", "1000")
SEED = Checked("seed", _seed, "a whole number, 0 or above", "0")
NAMES = Checked("columns", _names, "the names of columns with commas between them", "age,height")
PLACE = Checked("path", _place, "a name", "results")
DELIMITER = Checked("sign", _delimiter, "one character, or 'tab'", "';'")


def shared_options(command: Command) -> Command:
    """The command with the options of how files are read and how much is said."""
    options = [
        click.option("--delimiter", "--sep", type=DELIMITER, default=",", help="Between two cells; 'tab' works. [,]"),
        click.option("--decimal", default=".", metavar="SIGN", help="The decimal point of numbers. [.]"),
        click.option("--encoding", default="utf-8", help="What the files are written in. [utf-8]"),
        click.option(
            "--missing",
            type=click.Choice(["refuse", "drop"]),
            default="refuse",
            help="Rows with empty or infinite cells: an error, or left out. [refuse]",
        ),
        click.option("--force", is_flag=True, help="Replace an earlier output."),
        click.option("--quiet", "-q", is_flag=True, help="No progress, no notes: results and errors only."),
        debug_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _note_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        Commands.set_debug(context)


debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_note_debug,
    help="Show the Python traceback of an error.",
)


@contextmanager
def bar(quiet: bool, **options: Any) -> Iterator[Any]:
    """Yields a tqdm bar on the standard error: quick on a terminal, seldom in a log."""
    from tqdm import tqdm

    seconds = 0.1 if sys.stderr.isatty() else 5.0
    with tqdm(disable=quiet, file=sys.stderr, mininterval=seconds, dynamic_ncols=True, **options) as shown:
        try:
            yield shown
        except BaseException:
            shown.leave = not sys.stderr.isatty()  # a log keeps it: erased, it would leave a line of blanks
            raise


def read(quiet: bool, paths: tuple[str, ...], **options: Any) -> Any:
    """The ingested rows of the files, read under a progress bar."""
    from flowgraph.data import find_files, ingest_csv

    files = find_files(paths)
    with bar(
        quiet, total=sum(file.stat().st_size for file in files), desc="reading", unit="B", unit_scale=True
    ) as shown:

        def progress(done: int) -> None:
            raise_if_lost()
            shown.update(done - shown.n)

        return ingest_csv(files, progress=progress, **options)


def note(quiet: bool, text: str) -> None:
    """Returns nothing; says something on the standard error that is no result."""
    if not quiet:
        click.echo(_escaped(text), err=True)
