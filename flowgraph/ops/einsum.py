"""Sums of products over named axes, two operands at a time: einsum, tensordot, vecdot, inner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from flowgraph.apply import convert, together
from flowgraph.errors import ShapeError, UsageError
from flowgraph.op import Op, define
from flowgraph.ops.complex import conj
from flowgraph.ops.diagonals import diagonal
from flowgraph.ops.linalg import matmul
from flowgraph.ops.reduce import sum
from flowgraph.ops.shape import numbers_dtype, transpose
from flowgraph.tensor import Tensor
from flowgraph.types import Size, listed, normal_axis

Array = np.ndarray[Any, Any]

__all__ = [
    "einsum",
    "tensordot",
    "vecdot",
]


# The op: two operands, each axis of one in the other or in the result.


def _parts(subscripts: str) -> tuple[str, str, str]:
    left, right = subscripts.split("->")
    x, y = left.split(",")
    return x, y, right


def _factors(types: Any, attrs: Any) -> str:
    """The factor string: "...ab,bc->...ac" becomes "... a b, b c -> ... a c"."""
    x, y, out = (" ".join(["..."] * ("." in part) + list(part.lstrip("."))) for part in _parts(attrs["subscripts"]))
    return f"{x}, {y} -> {out}"


def contract(x: Array, y: Array, subscripts: str) -> Array:
    """The sum of products by one matrix product: axes are sorted into batch, left, summed and right."""
    xs, ys, out = _parts(subscripts)
    if "." in ys and "." not in xs:  # so that free axes are the left operand's, where they become rows
        return contract(y, x, f"{ys},{xs}->{out}")
    a, b, c = (part.lstrip(".") for part in (xs, ys, out))
    batch = [name for name in c if name in a and name in b]
    left = [name for name in c if name in a and name not in b]
    right = [name for name in c if name in b and name not in a]
    summed = [name for name in a if name not in c]
    sizes = dict(zip(a, x.shape[x.ndim - len(a) :], strict=True)) | dict(
        zip(b, y.shape[y.ndim - len(b) :], strict=True)
    )
    p = _sorted(x, a, [*batch, *left, *summed])
    q = _sorted(y, b, [*batch, *summed, *right])
    outer = p.shape[: x.ndim - len(a)]
    rows, inner, columns = (math.prod(sizes[name] for name in names) for names in (left, summed, right))
    together = [sizes[name] for name in batch]
    if "." not in ys and not batch:
        product = p.reshape(math.prod(outer) * rows, inner) @ q.reshape(inner, columns)
    else:
        p = p.reshape(*outer, *together, rows, inner)
        q = q.reshape(*q.shape[: y.ndim - len(b)], *together, inner, columns)
        product = p @ q if summed else p * q
        outer = product.shape[: product.ndim - len(batch) - 2]
    product = product.reshape((*outer, *(sizes[name] for name in (*batch, *left, *right))))
    return _sorted(product, "".join((*batch, *left, *right)), c)


def _sorted(x: Array, names: Sequence[str], order: Sequence[str]) -> Array:
    """`x`, whose last axes are `names`, with these in another order."""
    first = x.ndim - len(names)
    return x.transpose(*range(first), *(first + names.index(name) for name in order))


def _gradient(g: Tensor, out: Tensor, x: Tensor, y: Tensor, subscripts: str) -> Any:
    """The result takes the place of the operand; the driver undoes broadcasting, for which dots lead everywhere."""
    a, b, c = _parts(subscripts)
    return (
        lambda: _pair(g, conj(y), c, b, _dotted(a, b, c)),
        lambda: _pair(conj(x), g, a, c, _dotted(b, a, c)),
    )


def _dotted(part: str, other: str, out: str) -> str:
    """`part` with the dots that the product of the other two has."""
    return part if part.startswith(".") or "." not in (other + out) else f"...{part}"


einsum_op: Op = define(
    "einsum",
    _factors,
    contract,
    attrs=lambda x, y, /, subscripts: {"subscripts": subscripts},
    dtype=numbers_dtype,
    combine="add",
    gradient=_gradient,
    flops=2,
    samples=lambda: [
        (((3, 4), (4, 2)), {"subscripts": "ab,bc->ca"}),
        (((5, 3, 4), (5, 4, 2)), {"subscripts": "nab,nbc->nac"}),
        (((5, 3, 4), (3, 4)), {"subscripts": "...ab,ab->..."}),
        (((3, 4), (5, 1, 3, 4)), {"subscripts": "ab,...ab->..."}),
        (((5, 1, 3, 4), (2, 4, 3)), {"subscripts": "...ab,...ba->..."}),
        (((5, 3), (5, 2)), {"subscripts": "na,nb->nba"}),
        (((5, 3), (4,)), {"subscripts": "na,b->anb"}),
        (((0, 3), (0, 2)), {"subscripts": "na,nb->ab"}),
    ],
    doc="The sum of products of two tensors over the axes that `subscripts` names in both and not in the result.",
)


# From any einsum to steps of two operands.

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class _Operand(NamedTuple):
    """A tensor, and a letter for each of its last axes; those before are the ellipsis."""

    tensor: Tensor
    names: str

    @property
    def dots(self) -> int:
        return self.tensor.ndim - len(self.names)


def _pair(x: Tensor, y: Tensor, a: str, b: str, out: str) -> Tensor:
    """The op on two operands, by way of `matmul` where it is one: there kernels have their fastest calls."""
    a, b, out = (part if "." not in part else part.lstrip(".") + "." for part in (a, b, out))
    names = a.rstrip("."), b.rstrip("."), out.rstrip(".")
    left = [name for name in names[0] if name not in names[1]]
    right = [name for name in names[1] if name not in names[0]]
    summed = [name for name in names[0] if name in names[1]]
    plain = len(summed) == 1 and summed[0] not in names[2]
    if plain and len(left) == len(right) == 1:
        x = x if names[0] == left[0] + summed[0] else x.mT
        y = y if names[1] == summed[0] + right[0] else y.mT
        product: Tensor = matmul(x, y)
        return product if names[2] == left[0] + right[0] else product.mT
    if plain and len(left) + len(right) == 1 and "." not in a + b:
        if left:
            return matmul(x if names[0] == left[0] + summed[0] else x.mT, y)  # type: ignore[no-any-return]
        return matmul(x, y if names[1] == summed[0] + right[0] else y.mT)  # type: ignore[no-any-return]
    text = ["..." * (one.endswith(".")) + one.rstrip(".") for one in (a, b, out)]
    return einsum_op(x, y, subscripts=f"{text[0]},{text[1]}->{text[2]}")  # type: ignore[no-any-return]


def _mistake(equation: str, found: str, remedy: str) -> UsageError:
    return UsageError(f"einsum {equation!r}", found, remedy)


def _parse(equation: str, count: int) -> tuple[list[str], str | None]:
    """The subscripts of each operand, with '.' for '...', and those of the result."""
    left, arrow, right = equation.replace(" ", "").replace("...", ".").partition("->")
    terms = left.split(",")
    for term in [*terms, right]:
        strange = [sign for sign in term if not (sign == "." or sign in _LETTERS)]
        if strange or term.count(".") > 1:
            raise _mistake(equation, f"{strange[0] if strange else '...'!r} stands where no letter is expected",
                           "Write letters for axes and at most one '...' an operand: '...ij,jk->...ik'.")  # fmt: skip
    if len(terms) != count:
        raise _mistake(equation, f"it names {len(terms)} operands, {count} are given", "Give one tensor for each term.")
    if not arrow:
        return terms, None
    for name in right.replace(".", ""):
        if right.count(name) > 1 or name not in left:
            raise _mistake(equation, f"the result has {name!r} twice, or no operand has it", "Name each axis once.")
    return terms, right


def _operand(x: Tensor, term: str, equation: str) -> _Operand:
    """`x` with its ellipsis first, and the axes of a repeated letter replaced by their diagonal."""
    names = term.replace(".", "")
    dots = x.ndim - len(names)
    if dots < 0 or (dots and "." not in term):
        raise ShapeError(
            f"einsum {equation!r} of an operand {x.type}",
            f"{term.replace('.', '...')!r} names {len(names)} axes, it has {x.ndim}",
            "Write a letter for each axis, or '...' for the rest.",
        )
    before = term.find(".") if dots else 0
    if before:
        x = transpose(x, axes=(*range(before, before + dots), *range(before), *range(before + dots, x.ndim)))
    while len(set(names)) < len(names):
        name = next(one for one in names if names.count(one) > 1)
        first, second = [place for place, one in enumerate(names) if one == name][:2]
        rest = [place for place in range(len(names)) if place not in (first, second)]
        x = _diagonal_of(x, (*range(dots), *(dots + place for place in (*rest, first, second))), equation)
        names = "".join(names[place] for place in rest) + name
    return _Operand(x, names)


def _diagonal_of(x: Tensor, axes: tuple[int, ...], equation: str) -> Tensor:
    if x.shape[axes[-1]] != x.shape[axes[-2]]:
        raise ShapeError(
            f"einsum {equation!r} of an operand {x.type}",
            f"one letter names axes of lengths {x.shape[axes[-2]]} and {x.shape[axes[-1]]}",
            "A letter has one length.",
        )
    return diagonal(transpose(x, axes=axes))  # type: ignore[no-any-return]


def _without(one: _Operand, keep: str) -> _Operand:
    """The operand summed over the axes that nothing else needs."""
    gone = tuple(one.dots + place for place, name in enumerate(one.names) if name not in keep)
    if not gone:
        return one
    return _Operand(sum(one.tensor, axis=gone), "".join(name for name in one.names if name in keep))


def _check_lengths(operands: Sequence[_Operand], equation: str) -> dict[str, Size]:
    sizes: dict[str, Size] = {}
    for one in operands:
        for name, length in zip(one.names, one.tensor.shape[one.dots :], strict=True):
            known = sizes.setdefault(name, length)
            if isinstance(known, int) and isinstance(length, int) and known != length:
                raise ShapeError(
                    f"einsum {equation!r}",
                    f"axis {name!r} has lengths {known} and {length}",
                    "A letter has one length.",
                )
    return sizes


def _path(operands: Sequence[_Operand], out: str) -> list[tuple[int, ...]]:
    """Which operands meet, step by step; lengths that are not known yet count as long."""
    if len(operands) < 3:
        return [tuple(range(len(operands)))]
    stand_ins = [
        np.broadcast_to(np.float32(0), [length if isinstance(length, int) else 10_000 for length in one.tensor.shape])
        for one in operands
    ]
    text = ",".join("..." * bool(one.dots) + one.names for one in operands)
    dots = "..." * any(one.dots for one in operands)
    found = np.einsum_path(f"{text}->{dots}{out}", *stand_ins, optimize="greedy")
    return [tuple(step) for step in found[0][1:]]


def _meet(x: _Operand, y: _Operand, keep: str) -> _Operand:
    """The product of two operands, summed over what is not in `keep`."""
    x, y = _without(x, keep + y.names), _without(y, keep + x.names)
    names = "".join(dict.fromkeys(name for name in x.names + y.names if name in keep))
    ordered = "".join(name for name in keep if name in names)  # the order of the result, where it is the last step
    a, b = ("." * bool(one.dots) + one.names for one in (x, y))
    return _Operand(_pair(x.tensor, y.tensor, a, b, "." * bool(x.dots or y.dots) + ordered), ordered)


def einsum(equation: Any, *operands: Any) -> Tensor:
    """The sum of products of tensors in Einstein's notation, as numpy and TensorFlow write it.

    A letter names an axis; those that the result does not name are summed over; '...' are axes that broadcast. Several
    operands meet two at a time, in an order with few operations.

    >>> import flowgraph as fg
    >>> fg.einsum("ij,j->i", [[1, 2], [3, 4]], [1, 1]).tolist()
    [3, 7]
    """
    if not isinstance(equation, str) or not operands:
        raise UsageError("einsum", "the equation comes first, then the tensors", "Write einsum('ij,jk->ik', x, y).")
    tensors = together(operands)
    terms, out = _parse(equation, len(tensors))
    rest = [_operand(x, term, equation) for x, term in zip(tensors, terms, strict=True)]
    _check_lengths(rest, equation)
    dots = any(one.dots for one in rest)
    if out is None:
        letters = "".join(terms).replace(".", "")
        out = "." * dots + "".join(sorted(name for name in set(letters) if letters.count(name) == 1))
    if dots and "." not in out:
        raise _mistake(equation, "the axes of '...' are missing in the result", "Write '...' in the result as well.")
    letters = out.replace(".", "")
    _, common = numbers_dtype([one.type for one in tensors], {})
    for step in _path(rest, letters):
        chosen = [rest[place] for place in step]
        rest = [one for place, one in enumerate(rest) if place not in step]
        met = chosen.pop(0)
        while chosen:
            other = chosen.pop(0)
            needed = "".join([letters, *(one.names for one in (*rest, *chosen))])
            met = _meet(met, other, "".join(dict.fromkeys(needed)))
        rest.append(met)
    (last,) = rest
    return _finished(_without(last, letters), out, common)


def _finished(one: _Operand, out: str, common: Any) -> Tensor:
    """The axes in the order that `out` names; sums of small integers in their own dtype again."""
    names, result = out.replace(".", ""), one.tensor
    before = max(out.find("."), 0)
    axes = [one.dots + one.names.index(name) for name in names]
    order = (*axes[:before], *range(one.dots), *axes[before:])
    if order != tuple(range(len(order))):
        result = transpose(result, axes=order)
    return result if result.dtype == common else result.astype(common)


# What is an einsum by another name.


def tensordot(x1: Any, x2: Any, /, axes: Any = 2) -> Tensor:
    """The sum of products of two tensors over the last `axes` axes of one and the first of the other.

    `axes` may also be two lists, of axes of x1 and of those of x2 that they meet.

    >>> import flowgraph as fg
    >>> int(fg.tensordot([1, 2], [3, 4], axes=1))
    11
    """
    x, y = convert(x1), convert(x2)
    if isinstance(axes, int | np.integer):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ShapeError(f"tensordot over {axes} axes of {x.type} and {y.type}", "they have fewer", "Give fewer.")
        pair: Any = (range(x.ndim - int(axes), x.ndim), range(int(axes)))
    else:
        pair = [[one] if isinstance(one, int | np.integer) else listed(one, "axes") for one in listed(axes, "axes")]
        if len(pair) != 2:
            raise UsageError(f"tensordot over axes={axes}", "there are two tensors", "Give a list of axes for each.")
    first, second = ([normal_axis(axis, one.ndim) for axis in part] for one, part in zip((x, y), pair, strict=True))
    if len(first) != len(second) or len(set(first)) < len(first) or len(set(second)) < len(second):
        raise UsageError(f"tensordot over axes={axes}", "axes do not come in pairs", "Name as many of x1 as of x2.")
    letters = iter(_LETTERS)
    a = list(islice(letters, x.ndim))
    b = [a[first[second.index(axis)]] if axis in second else next(letters) for axis in range(y.ndim)]
    out = [name for axis, name in enumerate(a) if axis not in first]
    out += [name for axis, name in enumerate(b) if axis not in second]
    return einsum(f"{''.join(a)},{''.join(b)}->{''.join(out)}", x, y)


def vecdot(x1: Any, x2: Any, /, *, axis: Any = -1) -> Tensor:
    """The dot products of the vectors along `axis`; other axes broadcast. The first operand is conjugated.

    >>> import flowgraph as fg
    >>> fg.vecdot([[1, 2], [3, 4]], [1, 1]).tolist()
    [3, 7]
    """
    x, y = convert(x1), convert(x2)
    rank = min(x.ndim, y.ndim)
    if not isinstance(axis, int | np.integer) or not -rank <= axis <= -1:
        raise ShapeError(
            f"vecdot of {x.type} and {y.type} along axis {axis}",
            f"axes are counted from the end, for others broadcast: from -{rank} to -1" if rank else "one is a scalar",
            "Give a negative axis that both have.",
        )
    x, y = (_last(one, int(axis)) for one in (conj(x), y))
    return einsum("...k,...k->...", x, y)


def _last(x: Tensor, axis: int) -> Tensor:
    """`x` with `axis`, counted from the end, as the last one."""
    at = x.ndim + axis
    return x if axis == -1 else transpose(x, axes=(*(one for one in range(x.ndim) if one != at), at))


def inner(a: Any, b: Any) -> Tensor:
    """The sums of products over the last axes of two tensors, for every pair of their vectors.

    >>> import flowgraph as fg
    >>> fg.linalg.inner([[1, 0], [0, 1]], [3, 4]).tolist()
    [3, 4]
    """
    x, y = convert(a), convert(b)
    return tensordot(x, y, axes=([x.ndim - 1], [y.ndim - 1])) if x.ndim and y.ndim else x * y
