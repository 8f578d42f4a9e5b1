"""A kernel: source text, the objects that it names, and the function that they make."""

from __future__ import annotations

import itertools
import linecache
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from flowgraph.context import Hooks, describe_line
from flowgraph.errors import FlowgraphError, RunError
from flowgraph.kernel.host import FUNCTIONS
from flowgraph.kernel.rows import ones, owned
from flowgraph.types import TensorType


class Note(NamedTuple):
    """What a line of a kernel computes; put into words where an error asks for it, or where it is sent away."""

    op: str
    type: TensorType
    where: Any
    """The origin of the node."""

    def __str__(self) -> str:
        return f"{self.op} ({self.type}), made at {describe_line(self.where)}"


@dataclass(eq=False)
class Kernel:
    """A function of arrays, as readable source. It is compiled where it is first called, once in each process."""

    name: str
    """The function's name, such as `loop_0`."""
    source: str
    """The whole text of the function."""
    names: Mapping[str, Any]
    """What the text refers to: numpy functions, constants, functions of the user's own ops."""
    notes: Sequence[tuple[int, Note | str]] = ()
    """(line number, what the line computes and where the user wrote it)."""
    allocated: Sequence[tuple[str, int]] = ()
    """What a call takes for itself: (number of elements as text, bytes of each). It does not travel."""
    _function: Callable[..., Any] | None = field(default=None, repr=False)
    _blas: bool = field(default=True, repr=False)
    _pickled: tuple[str, bytes] | None = field(default=None, repr=False)
    """(digest, blob): made once, as a scheduler pickles a kernel anew for each task that it sends."""

    def __call__(self, *args: Any) -> Any:
        """What the source returns; errors in it come out as RunError, which names the operation and the user's line."""
        function = self._function if self._function is not None else self.function()
        if self._blas:
            _BLAS.enter()
        try:
            with np.errstate(all="ignore"):
                return function(*args)
        except FlowgraphError:
            raise
        except Exception as error:
            raise self._explained(error) from error
        finally:
            if self._blas:
                _BLAS.leave()

    def function(self) -> Callable[..., Any]:
        """The compiled function."""
        if self._function is None:
            self._blas = not all(map(_is_elementwise, self.names.values()))
            self._function = compile_source(self.name, self.source, self.names)
        return self._function

    def _explained(self, error: Exception) -> RunError:
        """What failed, from the inside out: an operation in the body of a loop is named before the loop."""
        lines, trace = [], error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.function().__code__.co_filename:
                lines.append(trace.tb_lineno)
            trace = trace.tb_next
        lines.reverse()
        result = RunError(
            f"to compute {self.named(lines)}",
            f"{type(error).__name__}: {error}",
            "Check the values that reach this operation; `program.source()` shows the kernel.",
        )
        result.kernel, result.lines = self.source, tuple(lines)
        return result

    def named(self, lines: Sequence[int]) -> str:
        """What some lines of the source compute, and where the user wrote it."""
        known = dict(self.notes)
        return ", inside ".join(str(known.get(line, f"line {line} of kernel {self.name}")) for line in lines)

    def __reduce__(self) -> Any:
        if self._pickled is None:
            import hashlib

            import cloudpickle

            notes = [(line, str(note)) for line, note in self.notes]
            blob = cloudpickle.dumps((self.name, self.source, dict(self.names), notes))
            self._pickled = hashlib.sha256(blob).hexdigest(), blob
        return load, self._pickled


def _is_elementwise(named: Any) -> bool:
    """Whether something that a kernel names is sure to call no BLAS."""
    if isinstance(named, np.ufunc):
        return named.signature is None
    return not callable(named) or named in _PLAIN


_PLAIN: tuple[Any, ...] = (np.empty, np.array, np.copyto, np.broadcast_to, ones, owned, *FUNCTIONS)
_LOADED: dict[str, Kernel] = {}
_LOADED_LIMIT = 256
_COMPILED: dict[str, Any] = {}
_LOCK = threading.Lock()


def load(digest: str, blob: bytes) -> Kernel:
    """The kernel of a pickle; the same object whenever a process meets the same kernel, so that it compiles once."""
    with _LOCK:
        kernel = _LOADED.pop(digest, None)
        if kernel is None:
            import cloudpickle

            kernel = Kernel(*cloudpickle.loads(blob))
            kernel._pickled = digest, blob
        _LOADED[digest] = kernel
        while len(_LOADED) > _LOADED_LIMIT:
            del _LOADED[next(iter(_LOADED))]
        return kernel


def compile_source(name: str, source: str, names: Mapping[str, Any]) -> Callable[..., Any]:
    """The function that `source` defines; the code is compiled once for each text and shown in tracebacks."""
    import hashlib

    file = f"<flowgraph {name} {hashlib.sha256(source.encode()).hexdigest()[:12]}>"
    with _LOCK:
        if file not in _COMPILED:
            _COMPILED[file] = compile(source, file, "exec")
            linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        code = _COMPILED[file]
    space = dict(names)
    exec(code, space)
    return space[name]  # type: ignore[no-any-return]


class _Blas:
    """Holds BLAS to one thread while any kernel runs: its bits depend on the number of threads.

    The limit is reference-counted, since limits that overlap would restore each other's setting. A BLAS that was built
    on OpenMP keeps a limit for each thread, so there the count is the thread's own.

    Libraries may be loaded at any time (scipy brings one), and to look for them takes milliseconds. They come with
    modules, so a changed number of modules is what calls for a look; inside a kernel `libraries_loaded` does.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.modules = 0
        self.known: dict[str, Any] = {}
        self.shared = _Limit()
        self.per_thread: list[Any] = []
        self.own = threading.local()

    def enter(self) -> None:
        """Begin a kernel."""
        with self.lock:
            if len(sys.modules) != self.modules:
                self._look()
            self.shared.enter()
        self._own().enter()

    def leave(self) -> None:
        """End a kernel."""
        self.own.limit.leave()
        with self.lock:
            self.shared.leave()

    def look(self) -> None:
        """Find libraries that were loaded since; those found now are held to one thread until the kernels end."""
        if len(sys.modules) != self.modules:
            with self.lock:
                self._look()
            self._own()

    def _look(self) -> None:
        from threadpoolctl import ThreadpoolController

        found = {one.filepath: one for one in ThreadpoolController().lib_controllers if one.user_api == "blas"}
        new = [one for path, one in found.items() if path not in self.known]
        self.known.update(found)
        self.per_thread = [*self.per_thread, *(one for one in new if _is_per_thread(one))]
        self.shared.extend([one for one in new if not _is_per_thread(one)])
        self.modules = len(sys.modules)

    def _own(self) -> _Limit:
        """The limit of this thread on libraries that keep one for each."""
        limit: _Limit | None = getattr(self.own, "limit", None)
        if limit is None:
            limit = self.own.limit = _Limit()
        if len(limit.calls) != len(self.per_thread):
            limit.extend(self.per_thread[len(limit.calls) :])
        return limit


class _Limit:
    """How many kernels want some libraries to use one thread, and how many threads these had before."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[[], int], Callable[[int], Any]]] = []
        self.running = 0
        self.before: list[int] = []

    def extend(self, libraries: Sequence[Any]) -> None:
        """Hold further libraries as well, at once if kernels run."""
        more = [_calls(one) for one in libraries]
        if self.running:
            self.before = [*self.before, *self._set_to_one(more)]
        self.calls = [*self.calls, *more]

    def enter(self) -> None:
        self.running += 1
        if self.running == 1:
            self.before = self._set_to_one(self.calls)

    def leave(self) -> None:
        self.running -= 1
        if self.running == 0:
            for (_, set_to), count in zip(self.calls, self.before, strict=True):
                if count != 1:
                    set_to(count)

    @staticmethod
    def _set_to_one(calls: Sequence[tuple[Callable[[], int], Callable[[int], Any]]]) -> list[int]:
        before = [get() for get, _ in calls]
        for (_, set_to), count in zip(calls, before, strict=True):
            if count != 1:
                set_to(1)
        return before


def _is_per_thread(library: Any) -> bool:
    return getattr(library, "threading_layer", None) == "openmp"


def _calls(library: Any) -> tuple[Callable[[], int], Callable[[int], Any]]:
    """The functions that read and set a library's number of threads.

    For OpenBLAS they are its own: threadpoolctl lets one thread of the process set the number, and ignores what all
    others ask without a word.
    """
    if library.internal_api == "openblas" and not _is_per_thread(library):
        for prefix, suffix in itertools.product(("", "scipy_"), ("", "64_", "_64")):
            names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all(hasattr(library.dynlib, name) for name in names):
                return getattr(library.dynlib, names[0]), getattr(library.dynlib, names[1])
    return library.get_num_threads, library.set_num_threads


_BLAS = _Blas()
Hooks.libraries_loaded = staticmethod(_BLAS.look)
