"""Errors in the bodies of branches and loops name the operation that failed, and the user's line of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import DTypeError, FlowgraphError, RunError, ShapeError
from flowgraph.program import Program

Z = np.zeros((3, 2, 2))


def inverse(m: Any) -> Any:
    return fg.linalg.inv(m) + 1


LINE = inverse.__code__.co_firstlineno + 1
RUNS: dict[str, tuple[str, Callable[[], Any]]] = {
    "map_fn": ("map_fn", lambda: fg.map_fn(inverse, Z).numpy()),
    "scan": ("scan", lambda: fg.scan(lambda s, m: inverse(m) + s, Z, Z[0]).numpy()),
    "foldl": ("scan", lambda: fg.foldl(lambda s, m: inverse(m) + s, Z, Z[0]).numpy()),
    "while_loop": (
        "while_loop",
        lambda: fg.function(lambda z: fg.while_loop(lambda m: fg.sum(m) < 3, inverse, z))(Z[0]).numpy(),
    ),
    "the test of a while_loop": (
        "while_loop",
        lambda: fg.function(lambda z: fg.while_loop(lambda m: fg.sum(inverse(m)) < 3, lambda m: m, z))(Z[0]).numpy(),
    ),
    "cond": (
        "cond",
        lambda: fg.function(lambda z: fg.cond(fg.sum(z) < 3, lambda: inverse(z), lambda: z))(Z[0]).numpy(),
    ),
    "a loop in a loop": ("map_fn", lambda: fg.map_fn(lambda zz: fg.map_fn(inverse, zz), Z[None]).numpy()),
    "vmap": ("", lambda: fg.vmap(inverse)(Z).numpy()),
    "vmap of a loop": ("map_fn", lambda: fg.vmap(lambda zz: fg.map_fn(inverse, zz))(Z[None]).numpy()),
}


@pytest.mark.parametrize("name", RUNS)
def test_when_a_program_runs(name: str) -> None:
    loop, call = RUNS[name]
    with pytest.raises(RunError, match="Singular matrix") as caught:
        call()
    asked = caught.value.asked
    assert asked.startswith("to compute inv (")
    assert f"made at {__file__}:{LINE}" in asked
    assert f"inside {loop}" in asked or not loop
    assert asked.count("inside") == (2 if name == "a loop in a loop" else len(loop) > 0)


def test_in_a_gradient() -> None:
    """The gradient of slogdet has an inverse, which singular matrices have not."""

    def body(i: Any, m: Any) -> Any:
        return i + 1, m * fg.linalg.slogdet(m).logabsdet

    f = fg.function(fg.grad(lambda z: fg.sum(fg.while_loop(lambda i, m: i < 1, body, (0, z))[1])))
    with pytest.raises(RunError, match=r"to compute inv .* inside while_back") as caught:
        f(Z[0])
    assert f"{__file__}:{body.__code__.co_firstlineno + 1}, inside" in caught.value.asked


def test_equal_bodies_of_other_lines() -> None:
    """The caches of bodies keep them apart."""

    def first(m: Any) -> Any:
        return fg.linalg.inv(m) * 5

    def second(m: Any) -> Any:
        return fg.linalg.inv(m) * 5

    fg.map_fn(first, np.stack([np.eye(2)])).numpy()
    good, bad = np.stack([np.eye(2)] * 2), np.stack([np.eye(2), np.zeros((2, 2))])

    def both(x: Any, y: Any) -> Any:
        return fg.map_fn(first, x), fg.map_fn(second, y)

    with pytest.raises(RunError) as caught:
        [one.numpy() for one in fg.function(both)(good, bad)]
    assert f"{__file__}:{second.__code__.co_firstlineno + 1}, inside" in caught.value.asked


@pytest.mark.parametrize("face", ["eager", "session"])
def test_an_error_names_its_line_by_one_compilation(face: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that was made for an equal graph of another line is compiled once more, to find the line."""

    def first(m: Any) -> Any:
        return fg.linalg.inv(m) * 11

    def second(m: Any) -> Any:
        return fg.linalg.inv(m) * 11

    def run(f: Callable[[Any], Any], m: Any) -> Any:
        if face == "eager":
            return f(fg.asarray(m)).numpy()
        with fg.Graph().as_default(), fg.Session() as session:
            x = fg.placeholder(fg.float64, [2, 2])
            return session.run(f(x), {x: m})

    run(first, np.eye(2))
    made: list[Any] = []
    plain = Program.__init__
    monkeypatch.setattr(Program, "__init__", lambda self, *given: made.append(self) or plain(self, *given))
    with pytest.raises(RunError) as caught:
        run(second, np.zeros((2, 2)))
    assert f"{__file__}:{second.__code__.co_firstlineno + 1}" in caught.value.asked
    assert len(made) == 1


def grown(m: Any) -> Any:
    return fg.concat([m, m])


def wrong(m: Any) -> Any:
    return m @ np.zeros((3, 3))


BUILDS: dict[str, tuple[type[FlowgraphError], str, Callable[..., Any], Callable[[Any], Any]]] = {
    "while_loop": (
        ShapeError, "concat", grown,
        lambda f: fg.function(lambda z: fg.while_loop(lambda m: fg.sum(m) < 3, f, z))(Z[0]),
    ),
    "while_loop at once": (
        ShapeError, "concat", grown, lambda f: fg.while_loop(lambda m: fg.sum(m) < 3, f, fg.constant(Z[0])),
    ),
    "scan": (ShapeError, "concat", grown, lambda f: fg.scan(lambda s, m: f(s), Z, Z[0])),
    "cond": (
        ShapeError, "concat", grown,
        lambda f: fg.function(lambda z: fg.cond(fg.sum(z) < 3, lambda: f(z), lambda: z))(Z[0]),
    ),
    "a dtype": (
        DTypeError, "astype", lambda m: fg.cast(m, "float32"), lambda f: fg.scan(lambda s, m: f(s), Z, Z[0]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BUILDS)
def test_a_body_of_the_wrong_type_names_what_made_it(name: str) -> None:
    error, op, body, call = BUILDS[name]
    offset = body.__code__.co_firstlineno + (body.__name__ != "<lambda>")
    with pytest.raises(error) as caught:
        call(body)
    assert f"by {op} at {__file__}:{offset}" in caught.value.found


@pytest.mark.parametrize(
    "call",
    [
        lambda: fg.map_fn(wrong, Z),
        lambda: fg.vmap(wrong)(Z),
        lambda: fg.scan(lambda s, m: s + wrong(m), Z, Z[0]),
        lambda: fg.function(lambda z: fg.cond(fg.sum(z) < 3, lambda: wrong(z), lambda: z))(Z[0]),
        lambda: fg.function(lambda z: fg.while_loop(lambda m: fg.sum(m) < 3, wrong, z))(Z[0]),
    ],
)
def test_an_operation_that_can_not_be_is_refused_on_its_line(call: Callable[[], Any]) -> None:
    try:
        call()
    except ShapeError as error:
        assert error.asked.startswith("matmul(")
        trace, codes = sys.exc_info()[2], []
        while trace is not None:
            codes.append((trace.tb_frame.f_code, trace.tb_lineno))
            trace = trace.tb_next
        assert (wrong.__code__, wrong.__code__.co_firstlineno + 1) in codes
    else:
        raise AssertionError("no error")
