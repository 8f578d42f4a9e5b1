"""Factor strings: one line of text that says how the axes of an operation's operands and results belong together.

    matmul    "... i k, ... k j -> ... i j"     k is contracted; `...` are axes that broadcast
    softmax   "... [k] -> ... [k]"              [k] must be whole: it is never cut
    reshape   "(i j) k -> i (j k)"              a compound axis; cuts follow its first factor
    slice     "<i> j -> <i> j"                  an interval factor: an interval of the result needs one of the operand
    cumsum    "{i} j -> {i} j"                  a running factor: a piece needs what those before it hand on
    keepdims  "i j -> 1 j"                      an axis of length 1
    fill      "~ i j, -> i j"                   `~`: the operand gives its lengths only, its values are not read

From the string follow the shape of the result, the legal cuts, which factors are summed when they are cut, and the
size of the work. The notation is that of Shardy and of einsum; only `...` broadcasts, all else must match.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from flowgraph.errors import ShapeError, UsageError
from flowgraph.types import Dim, Shape, Size, product


class Axis(NamedTuple):
    """One axis of an operand: the factors it is made of and what may be done to it."""

    factors: tuple[str, ...]
    """The factors, the slowest first; empty for an axis of length 1."""
    kind: str = "free"
    """`free`: may be cut; `whole`: must not be; `interval`: a cut needs neighbours; `running`: a piece needs what those
    before it hand on; `ellipsis`: stands for many."""


ELLIPSIS = Axis((), "ellipsis")


class Rule(NamedTuple):
    """A parsed factor string."""

    text: str
    """The string as written."""
    operands: tuple[tuple[Axis, ...], ...]
    """The axes of each operand."""
    results: tuple[tuple[Axis, ...], ...]
    """The axes of each result."""
    sizes_only: frozenset[int]
    """The positions of operands whose values are not read."""


class Binding(NamedTuple):
    """A rule met with the shapes of its operands: every axis has its factors, every factor its length."""

    operands: tuple[tuple[Axis, ...], ...]
    """The axes of each operand, one for every axis of its shape (no ellipsis left)."""
    results: tuple[tuple[Axis, ...], ...]
    """The axes of each result."""
    sizes: dict[str, Size]
    """The length of each factor."""
    shapes: tuple[Shape, ...]
    """The shape of each result."""

    def cuttable(self) -> tuple[str, ...]:
        """The factors that may be cut, in the order of their first appearance: free and leading wherever they occur."""
        return _cuttable(self.operands, self.results)

    def running(self) -> frozenset[str]:
        """The factors along which the op runs, from one piece to the next."""
        return _running(self.operands, self.results)

    def contracted(self) -> frozenset[str]:
        """The factors that operands have and no result has."""
        return _contracted(self.operands, self.results)

    def points(self) -> int:
        """The number of points in the box of all factors: the size of the work. A Dim counts as 1."""
        return math.prod(size for size in self.sizes.values() if isinstance(size, int))


# What follows from the axes alone is the same for operations of all sizes.


@lru_cache(maxsize=4096)
def _cuttable(operands: tuple[tuple[Axis, ...], ...], results: tuple[tuple[Axis, ...], ...]) -> tuple[str, ...]:
    seen: dict[str, bool] = {}
    for axes in (*operands, *results):
        for axis in axes:
            for position, factor in enumerate(axis.factors):
                legal = axis.kind == "free" and position == 0
                seen[factor] = seen.get(factor, True) and legal
        doubled = [axis.factors[0] for axis in axes if axis.factors]
        for factor in doubled:
            if doubled.count(factor) > 1:  # a diagonal: the two axes can not be cut apart
                seen[factor] = False
    if len(results) > 1:  # all results are cut, or none
        held = [{factor for axis in axes for factor in axis.factors} for axes in results]
        seen = {f: legal and len({f in one for one in held}) == 1 for f, legal in seen.items()}
    return tuple(factor for factor, legal in seen.items() if legal)


@lru_cache(maxsize=4096)
def _running(operands: tuple[tuple[Axis, ...], ...], results: tuple[tuple[Axis, ...], ...]) -> frozenset[str]:
    axes = [axis for axes in (*operands, *results) for axis in axes]
    return frozenset(axis.factors[0] for axis in axes if axis.kind == "running")


@lru_cache(maxsize=4096)
def _contracted(operands: tuple[tuple[Axis, ...], ...], results: tuple[tuple[Axis, ...], ...]) -> frozenset[str]:
    of_operands = {factor for axes in operands for axis in axes for factor in axis.factors}
    return frozenset(of_operands - {factor for axes in results for axis in axes for factor in axis.factors})


_TOKEN = r"\s*(\.\.\.|[\[\](){}<>~]|[A-Za-z][A-Za-z0-9_]*|1|\S)"
_PAIRS = {"[": "]", "<": ">", "(": ")", "{": "}"}
_KINDS = {"[": "whole", "<": "interval", "{": "running"}


def _mistake(text: str, found: str, remedy: str) -> UsageError:
    return UsageError(f"the factor string {text!r}", found, remedy)


def _parse_axis(tokens: list[str], text: str) -> Axis:
    token = tokens.pop(0)
    if token == "...":
        return ELLIPSIS
    if token == "1":
        return Axis(())
    if token in _KINDS:
        inner = _parse_axis(tokens, text) if tokens else ELLIPSIS
        if not tokens or tokens.pop(0) != _PAIRS[token] or not inner.factors or inner.kind != "free":
            raise _mistake(text, f"{token!r} does not enclose exactly one factor", f"Write {token}k{_PAIRS[token]}.")
        return Axis(inner.factors, _KINDS[token])
    if token == "(":
        names = []
        while tokens and tokens[0] != ")":
            names.append(tokens.pop(0))
        if not tokens or not names or not all(name.isidentifier() for name in names):
            raise _mistake(text, "a '(' is not closed or encloses something else than factors", "Write (i j).")
        tokens.pop(0)
        return Axis(tuple(names))
    if not token.isidentifier():
        raise _mistake(text, f"{token!r} is no factor", "Factors are names such as i, j or k.")
    return Axis((token,))


def _parse_operand(part: str, text: str) -> tuple[tuple[Axis, ...], bool]:
    tokens = re.findall(_TOKEN, part)
    sizes_only = bool(tokens) and tokens[0] == "~"
    if sizes_only:
        tokens.pop(0)
    axes = []
    while tokens:
        axes.append(_parse_axis(tokens, text))
    if axes.count(ELLIPSIS) > 1:
        raise _mistake(text, "an operand holds '...' twice", "Name the axes of one of them.")
    return tuple(axes), sizes_only


@lru_cache(maxsize=4096)
def parse(text: str) -> Rule:
    """The rule that a factor string stands for.

    Raises UsageError, quoting the string, for anything that is not in the notation.

    >>> parse("i k, k j -> i j").results
    ((Axis(factors=('i',), kind='free'), Axis(factors=('j',), kind='free')),)
    """
    left, arrow, right = text.partition("->")
    if not arrow or "->" in right:
        raise _mistake(text, "there is not exactly one '->'", "Write operands -> results.")
    operands = [_parse_operand(part, text) for part in left.split(",")] if left.strip() else []
    results = [_parse_operand(part, text) for part in right.split(",")]
    if any(sizes_only for _, sizes_only in results):
        raise _mistake(text, "a result is marked with '~'", "Only operands can be read for their lengths alone.")
    if any(ELLIPSIS in axes for axes, _ in results) and not any(ELLIPSIS in axes for axes, _ in operands):
        raise _mistake(text, "'...' stands in a result and in no operand", "Name the axes of the result.")
    return Rule(
        text,
        tuple(axes for axes, _ in operands),
        tuple(axes for axes, _ in results),
        frozenset(index for index, (_, sizes_only) in enumerate(operands) if sizes_only),
    )


@lru_cache(maxsize=4096)
def _expand(axes: tuple[Axis, ...], rank: int, widest: int, text: str) -> tuple[Axis, ...]:
    """`axes` with its ellipsis replaced by as many factors as `rank` leaves room for, named from the right."""
    named = len(axes) - (ELLIPSIS in axes)
    count = rank - named
    if count < 0 or (count and ELLIPSIS not in axes):
        raise ShapeError(
            f"an operand of {rank} axes for the factor string {text!r}",
            f"the string gives it {named} axes{' or more' if ELLIPSIS in axes else ''}",
            "Add or drop axes with `fg.expand_dims`, `fg.squeeze` or `fg.reshape`.",
        )
    filled: list[Axis] = []
    for axis in axes:
        if axis is ELLIPSIS:
            filled += [Axis((f".{widest - 1 - back}",)) for back in reversed(range(count))]
        else:
            filled.append(axis)
    return tuple(filled)


def bind(
    rule: Rule, shapes: Sequence[Shape], wanted: Shape | None = None, each: Sequence[Shape] | None = None
) -> Binding:
    """What `rule` says of operands of `shapes`; `wanted` is the shape of the result where operands leave it open.

    Where there are several results, `each` gives the shape of each.

    Raises ShapeError where a factor would have two lengths.

    >>> bind(parse("... i k, ... k j -> ... i j"), [(5, 2, 3), (3, 4)]).shapes
    ((5, 2, 4),)
    """
    if not rule.operands and len(shapes) == 1:  # "-> 1 1" may also mean one scalar operand
        rule = rule._replace(operands=((),))
    if len(shapes) != len(rule.operands):
        raise UsageError(
            f"{len(shapes)} operands for the factor string {rule.text!r}",
            f"it takes {len(rule.operands)}",
            "Give as many tensors as the operation takes.",
        )
    spans = [len(shape) - len(axes) + 1 for axes, shape in zip(rule.operands, shapes, strict=True) if ELLIPSIS in axes]
    widest = max(spans, default=0)
    sizes: dict[str, Size] = {}
    operands = []
    for axes, shape in zip(rule.operands, shapes, strict=True):
        expanded = _expand(axes, len(shape), widest, rule.text)
        operands.append(tuple(_bind_axis(axis, shape, at, sizes, rule) for at, axis in enumerate(expanded)))
    results = []
    for number, axes in enumerate(rule.results):
        rank = len(axes) + (widest - 1 if ELLIPSIS in axes else 0)
        expanded = _expand(axes, rank, widest, rule.text)
        own = wanted if each is None else each[number]
        if own is not None:
            expanded = tuple(_bind_axis(axis, own, at, sizes, rule) for at, axis in enumerate(expanded))
        results.append(expanded)
    _solve_compounds(rule, operands, shapes, results, wanted, sizes)
    for factor in [axis.factors[0] for axes in results for axis in axes if axis.factors]:
        if factor[0] == ".":
            sizes.setdefault(factor, 1)  # an ellipsis axis that has length 1 in every operand
    result_shapes = tuple(tuple(_length(axis, sizes, rule) for axis in axes) for axes in results)
    return Binding(tuple(operands), tuple(results), sizes, result_shapes)


def _bind_axis(axis: Axis, shape: Shape, at: int, sizes: dict[str, Size], rule: Rule) -> Axis:
    """`axis` after the lengths of its factors have been written into `sizes`; length 1 in an ellipsis has no factor."""
    length = shape[at]
    if not axis.factors or len(axis.factors) > 1:
        if not axis.factors and length != 1:
            raise _differ(rule, shape, at, "1", 1, length)
        return axis
    (factor,) = axis.factors
    if factor[0] == ".":
        if length == 1:
            return Axis(())
        known = sizes.get(factor, 1)
        if known == 1 or isinstance(known, Dim):
            sizes[factor] = length
            return axis
    known = sizes.setdefault(factor, length)
    if known != length:
        if isinstance(known, int) and isinstance(length, int):
            raise _differ(rule, shape, at, factor, known, length)
        if isinstance(length, int):  # a Dim that turns out to be known here
            sizes[factor] = length
    return axis


def _differ(rule: Rule, shape: Shape, at: int, factor: str, known: Size, length: Size) -> ShapeError:
    name = f"axes aligned at {factor}" if factor[0] == "." else f"factor {factor}"
    return ShapeError(
        f"an operand of shape {shape} in {rule.text!r}",
        f"{name} has length {known}, but axis {at} of this operand has {length}",
        "Make the two lengths equal: check which axis of which operand is meant.",
    )


def _solve_compounds(
    rule: Rule,
    operands: list[tuple[Axis, ...]],
    shapes: Sequence[Shape],
    results: list[tuple[Axis, ...]],
    wanted: Shape | None,
    sizes: dict[str, Size],
) -> None:
    """Write into `sizes` the last unknown factor of each compound axis whose length is known."""
    known = list(zip(operands, shapes, strict=True))
    if wanted is not None:
        known += [(axes, wanted) for axes in results]
    compound = [
        (axis, length)
        for axes, shape in known
        for axis, length in zip(axes, shape, strict=True)
        if len(axis.factors) > 1
    ]
    for axis, length in compound:
        open_factors = [factor for factor in axis.factors if factor not in sizes]
        product = math.prod(s for f in axis.factors if isinstance(s := sizes.get(f, 1), int))
        if len(open_factors) == 1 and isinstance(length, int) and product and length % product == 0:
            sizes[open_factors[0]] = length // product


def _length(axis: Axis, sizes: dict[str, Size], rule: Rule) -> Size:
    lengths = []
    for factor in axis.factors:
        if factor not in sizes:
            raise UsageError(
                f"the factor string {rule.text!r}",
                f"the length of factor {factor} follows from no operand and no attribute",
                "Name it in an operand, or give the operation a `shape` attribute.",
            )
        lengths.append(sizes[factor])
    return lengths[0] if len(lengths) == 1 else product(tuple(lengths))
