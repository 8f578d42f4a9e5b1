"""The errors a user can cause. Each says what was asked, what was found, and what to do about it.

Mistakes of ours are not here: those are `AssertionError`s raised by `Graph.check()`.
"""

from __future__ import annotations

from typing import ClassVar


class FlowgraphError(Exception):
    """The base of every error that flowgraph raises on purpose.

    `asked` is what the caller wanted, `found` what stood in the way, `remedy` what to do next: one sentence each.

    >>> print(FlowgraphError("add x of shape (3,) and y of shape (4,)", "3 and 4 differ", "Reshape one of them."))
    asked: add x of shape (3,) and y of shape (4,)
    found: 3 and 4 differ
    remedy: Reshape one of them.
    """

    exit_code: ClassVar[int] = 70
    """What the command line exits with when this error ends it (the numbers of BSD's sysexits)."""

    def __init__(self, asked: str, found: str, remedy: str) -> None:
        super().__init__(asked, found, remedy)
        self.asked, self.found, self.remedy = asked, found, remedy

    def __str__(self) -> str:
        return f"asked: {self.asked}\nfound: {self.found}\nremedy: {self.remedy}"


class UsageError(FlowgraphError, ValueError):
    """An argument that can not be used: a wrong name, a wrong value, a wrong call."""

    exit_code = 64


class ShapeError(UsageError):
    """Shapes that do not fit the operation, found when the graph is built."""


class BoundsError(ShapeError, IndexError):
    """An axis that a tensor has not, or an index outside an axis: an IndexError too, as in numpy and the standard."""


class DTypeError(UsageError, TypeError):
    """Dtypes that do not fit the operation, found when the graph is built."""


class DataError(FlowgraphError, ValueError):
    """Input data that can not be used as it is."""

    exit_code = 65


class DivergedError(FlowgraphError, ArithmeticError):
    """A training run whose loss is no longer finite."""

    exit_code = 65


class InputNotFoundError(FlowgraphError, FileNotFoundError):
    """A file or a pattern of files that is not there."""

    exit_code = 66

    def __str__(self) -> str:  # FileNotFoundError has a __str__ of its own
        return FlowgraphError.__str__(self)


class OutputExistsError(FlowgraphError, FileExistsError):
    """An output that would overwrite something."""

    exit_code = 73

    def __str__(self) -> str:  # FileExistsError has a __str__ of its own
        return FlowgraphError.__str__(self)


class GradientError(UsageError):
    """A gradient that does not exist or can no longer be computed."""


class RunError(FlowgraphError, RuntimeError):
    """An operation that failed while a program ran; names the operation and the user's line."""

    exit_code = 70
    kernel: str = ""
    """The source of the kernel in which it failed ..."""
    lines: tuple[int, ...] = ()
    """... and the lines of it, from the inside out."""


class ClusterError(FlowgraphError, RuntimeError):
    """A cluster that does not answer, or whose workers do not fit the driver."""

    exit_code = 75
