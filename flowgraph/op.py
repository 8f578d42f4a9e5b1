"""The record of an operation, and `define`, which makes one: everything the project knows of an op stands in one call.

    cube = define("cube", "... -> ...", lambda x: x * x * x, gradient=lambda g, out, x: g * 3 * x * x, doc="x cubed.")

From the table `OPS` come the public functions, the reverse pass, the partition, the kernels and the tests that walk it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from flowgraph.attrs import Attrs, told_apart
from flowgraph.errors import DTypeError, UsageError
from flowgraph.factors import Binding, Rule, bind, parse
from flowgraph.types import DEFAULT_FLOAT, TensorType, is_float, promote, tensor_type

Types = tuple[TensorType, ...]

COMBINES: dict[str, np.ufunc] = {
    "add": np.add,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "and": np.logical_and,
    "or": np.logical_or,
}
"""The named ways in which partial results of a cut contraction become one."""


class Monoid(NamedTuple):
    """A way to reduce pieces one by one where the result alone is not enough to go on (a variance, a logsumexp).

    All four are module-level functions; a state is a tuple of arrays, whose lengths may differ from piece to piece: the
    best 10 of 3 rows are 3. It is also how pieces of an op with several results become one.
    """

    partial: Callable[..., tuple[Any, ...]]
    """`(*operands, **attrs) -> state`: the state of one piece."""
    merge: Callable[[tuple[Any, ...], tuple[Any, ...]], tuple[Any, ...]]
    """`(left, right) -> state`: the state of two neighbouring pieces together."""
    finish: Callable[..., Any]
    """`(state, **attrs) -> result`; a tuple of them where the op has several."""
    identity: Callable[..., tuple[Any, ...]] | None = None
    """`(*operands of no rows, **attrs) -> state` of no piece at all; None where there is none."""


class Carry(NamedTuple):
    """How an op goes on from piece to piece of a running axis: what each hands to those behind it."""

    pieces: Monoid
    """`partial` gives what one piece hands on, `merge` joins that of neighbours along a new first axis, and `finish` is
    what enters each piece but the first, of which the kernel takes one entry, or none, as `before`."""
    backward: Callable[[Mapping[str, Any]], bool]
    """Whether, with these attributes, the last piece is the first."""


class Call(NamedTuple):
    """How a kernel writes an operation: a line of Python over `{0}`, `{1}` (operands), `{out}`, the names in `use`."""

    text: str
    """For instance "{f}({0}, {1}, {out})"; a text without `{out}` is an expression whose value is the result."""
    use: Mapping[str, Any] = {}
    """The functions that the text names, such as {"f": np.add}."""
    in_place: bool = False
    """Whether `{out}` may be the memory of an operand of the same shape and dtype."""


class Inferred(NamedTuple):
    """What an op makes of operands of given types."""

    attrs: Attrs
    """The attributes in canonical form, sorted by name."""
    casts: tuple[tuple[int, np.dtype[Any]], ...]
    """(number, dtype) of each operand that must be cast to that dtype by the caller."""
    types: Types
    """The type of each result."""
    binding: Binding
    """The factor string met with the operands' shapes."""
    unread: frozenset[int]
    """The positions of operands that give only their lengths."""


class Op:
    """One operation, which never changes. Calling it with tensors gives a tensor. Make it with `define`."""

    name: str
    """The key in OPS and the public name."""
    factors: str | Callable[[Types, Mapping[str, Any]], str]
    """The factor string, or a function of operand types and attributes that gives it."""
    kernel: Callable[..., Any]
    """A numpy function or a module-level function of arrays: the reference meaning of the op."""
    attrs: Callable[..., Mapping[str, Any]] | None = None
    """`(*operand types, **what the caller wrote) -> canonical attributes`; its signature is the public one."""
    dtype: str | Callable[[Types, Mapping[str, Any]], tuple[tuple[np.dtype[Any], ...], Any]] = "promote"
    """`promote`, `float`, `bool`, `keep`, or a function that gives the operands' dtypes and the result's."""
    combine: str | Monoid | None = None
    """How partial results become one when a contracted factor is cut; None: such factors stay whole.

    Of several results, each becomes one in the named way; a monoid's state is that of all.
    """
    carry: Carry | None = None
    """What pieces of a running factor, `{a}`, hand on; None: such factors stay whole."""
    gradient: Callable[..., Any] | None = None
    """`(g, out, *operands, **attributes it names) -> gradient of each operand`: tensors, or functions that make them.

    None where there is none. The gradient of a single operand needs no tuple around it.
    """
    flops: float = 1.0
    """Floating-point operations for each point of the box of factors."""
    domain: tuple[float, float] = (-2.0, 2.0)
    """The interval in which tests draw operands."""
    doc: str = ""
    """One sentence: what the op returns."""
    call: Callable[[Types, Mapping[str, Any]], Call] | None = None
    """The numpy call that kernels emit, chosen by operand types and attributes; None: derived from `kernel`."""
    view: Callable[[Types, Mapping[str, Any]], str] | None = None
    """For ops that move no data: an expression over `{0}` and `{shape}` that gives a view of the first operand."""
    host: str | None = None
    """A Python expression over `{0}`, `{1}` for the same op on scalars in double precision; None: arrays only."""
    structural: tuple[int, ...] = ()
    """The positions of operands that belong to the structure when they are Python scalars: exponents."""
    samples: Callable[[], Any] | None = None
    """For tests: the calls `(operands, attributes)` that walking tests make; None: derived from the factor string.

    An operand is a shape (floats are drawn in `domain`), a TensorType, or an array where the values matter.
    """
    pure: bool = True
    """Whether equal operands give equal results, so that two equal nodes may be one. Only leaves are not."""

    apply: ClassVar[Callable[..., Any]]
    """Makes the tensor of a call; filled by `flowgraph.apply`."""

    # Written out, for there are hundreds of ops in an import: Python makes a frozen record in ten times the time.
    def __init__(self, name: str, factors: Any, kernel: Callable[..., Any], **fields: Any) -> None:
        unknown = fields.keys() - _OPTIONAL.keys()
        if unknown:
            raise UsageError(
                f"to define the op {name!r}", f"an op has no {sorted(unknown)}", f"Its fields are {sorted(_OPTIONAL)}."
            )
        vars(self).update(_OPTIONAL, name=name, factors=factors, kernel=kernel)
        vars(self).update(fields)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"an op never changes: use `with_fields({name}=...)`, which makes another")

    def with_fields(self, **fields: Any) -> Op:
        """An op that is not in the table, and differs from this one in the given fields."""
        return Op(**(vars(self) | fields))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The tensor of this operation on `args`; a tuple of tensors where it has several results."""
        return Op.apply(self, args, kwargs)

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> Any:  # one record a process: equal ops are the same object
        return (_lookup, (self.name,)) if OPS.get(self.name) is self else object.__reduce__(self)

    @property
    def __name__(self) -> str:
        return self.name

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        rule = self.factors if isinstance(self.factors, str) else "depends on the attributes"
        return f"{self.doc}\n\nFactors: {rule}"

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.attrs if self.attrs is not None else self.kernel)

    def rule(self, types: Types, attrs: Mapping[str, Any]) -> Rule:
        """The parsed factor string for operands of `types`."""
        return parse(self.factors if isinstance(self.factors, str) else self.factors(types, attrs))


_OPTIONAL = {name: vars(Op)[name] for name in Op.__annotations__ if name in vars(Op)}
"""The fields that may be left out, and what they are then."""
OPS: dict[str, Op] = {}
"""All operations by name, in the order of their definition."""
_OURS: set[str] = set()
"""The names of those that flowgraph itself defines. Others may be defined again: the cell of a notebook runs twice."""


def _lookup(name: str) -> Op:
    return OPS[name]


def define(name: str, factors: str | Callable[..., str], kernel: Callable[..., Any], **fields: Any) -> Op:
    """The op `name`, entered into the table OPS; see `Op` for the fields.

    Optional fields may be left out: that can cost speed, never a wrong result. Raises UsageError for a definition that
    contradicts itself, so that a mistake shows where it is made.
    """
    op = Op(name, factors, kernel, **fields)
    if sys._getframe(1).f_globals.get("__name__", "").partition(".")[0] == "flowgraph":
        _OURS.add(name)  # tests check these definitions: an import need not
    else:
        check_definition(op)
        if name in _OURS:
            raise UsageError(
                f"to define the op {name!r}",
                "flowgraph has an op of that name, and its operators use it",
                "Choose another.",
            )
    OPS[name] = op
    return op


def check_definition(op: Op) -> None:
    """Raise UsageError for a definition that contradicts itself."""

    def refuse(found: str, remedy: str) -> UsageError:
        return UsageError(f"to define the op {op.name!r}", found, remedy)

    if not op.name.isidentifier():
        raise refuse("the name is no identifier", "Give it the name of a function.")
    if not callable(op.kernel):
        raise refuse("the kernel can not be called", "Give a numpy function or a function of arrays.")
    if isinstance(op.combine, str) and op.combine not in COMBINES:
        hint = "A mean is a sum divided by a count." if op.combine == "mean" else f"One of {', '.join(COMBINES)}."
        raise refuse(f"combine={op.combine!r} is not known", hint)
    if isinstance(op.dtype, str) and op.dtype not in ("promote", "float", "bool", "keep"):
        raise refuse(f"dtype={op.dtype!r} is no dtype rule", "One of promote, float, bool, keep, or a function.")
    if not isinstance(op.factors, str):
        return
    rule = parse(op.factors)
    if not rule.operands and isinstance(op.dtype, str):
        raise refuse(f"dtype={op.dtype!r} takes the dtype from operands, and there are none", "Give a function.")
    if op.gradient is not None:
        parameters = inspect.signature(op.gradient).parameters.values()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        open_ended = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        expected = 2 + len(rule.operands)
        fits = len(positional) == expected or (len(positional) > expected and op.attrs is not None)  # attributes follow
        if not fits and not open_ended:
            raise refuse(
                f"the gradient takes {len(positional)} tensors, {op.factors!r} has {len(rule.operands)} operands",
                f"Write gradient=lambda g, out, {', '.join('xyzuvw'[: len(rule.operands)])}: ...",
            )


@cache
def kernel_parameters(function: Callable[..., Any]) -> frozenset[str]:
    """The keyword names that a kernel or gradient rule asks for by its signature."""
    if isinstance(function, np.ufunc):
        return frozenset()
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return frozenset()
    return frozenset(p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD))


def is_placed(op: Op) -> bool:
    """Whether the kernel asks where its piece of the whole lies, or how long the pieces of others are."""
    return not kernel_parameters(op.kernel).isdisjoint(("at", "operand_shapes", "result_shapes"))


def monoid_of(op: Op, results: int) -> Monoid | None:
    """The monoid by which pieces of `op` are reduced, given its number of results; None: by a ufunc alone, or not."""
    if isinstance(op.combine, str):
        return _of_each(op) if results > 1 else None
    return op.combine


@cache
def _of_each(op: Op) -> Monoid:
    return Monoid(op.kernel, partial(_merge_each, COMBINES[str(op.combine)]), tuple)


def _merge_each(ufunc: np.ufunc, left: tuple[Any, ...], right: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([ufunc(a, b) for a, b in zip(left, right, strict=True)])


def infer(op: Op, types: Types, given: Attrs) -> Inferred:
    """The canonical attributes, operand dtypes, result types and binding of `op` on operands of `types`.

    Raises ShapeError, DTypeError or UsageError for operands that do not fit.
    """
    return inferred(op, types, told_apart(given))


@lru_cache(maxsize=65_536)
def inferred(op: Op, types: Types, given: Attrs) -> Inferred:
    """`infer` for attributes that went through `told_apart`."""
    attrs = dict(given)
    if op.attrs is not None:
        try:
            attrs = dict(op.attrs(*types, **attrs))
        except TypeError:
            try:
                inspect.signature(op.attrs).bind(*types, **attrs)
            except TypeError as error:
                raise UsageError(
                    f"{op.name} of {', '.join(map(str, types))} with {attrs}", str(error), f"See help({op.name})."
                ) from None
            raise
    elif attrs:
        raise UsageError(f"{op.name} with {attrs}", f"{op.name} takes no keyword arguments", f"See help({op.name}).")
    rule = op.rule(types, attrs)
    binding = bind(rule, [one.shape for one in types], attrs.get("shape"), attrs.get("shapes"))
    casts, dtypes = _dtypes(op, types, attrs)
    if len(dtypes) < len(binding.shapes):
        dtypes = dtypes * len(binding.shapes)
    results = tuple(tensor_type(shape, dtype) for shape, dtype in zip(binding.shapes, dtypes, strict=True))
    differing = tuple((n, dtype) for n, dtype in enumerate(casts) if types[n].dtype != dtype)
    return Inferred(told_apart(tuple(sorted(attrs.items()))), differing, results, binding, rule.sizes_only)


@cache
def _keeps_bool(kernel: np.ufunc) -> bool:
    """Whether `kernel` maps booleans to booleans."""
    return f"{'?' * kernel.nin}->?" in kernel.types


@cache
def _takes_complex(kernel: np.ufunc) -> bool:
    """Whether `kernel` is defined for complex numbers."""
    return any(one.startswith("D" * kernel.nin) for one in kernel.types)


def _dtypes(
    op: Op, types: Types, attrs: Mapping[str, Any]
) -> tuple[tuple[np.dtype[Any], ...], tuple[np.dtype[Any], ...]]:
    """The dtype each operand must be cast to, and that of each result."""
    if callable(op.dtype):
        casts, result = op.dtype(types, attrs)
        return casts, result if isinstance(result, tuple) else (result,)
    if op.dtype == "keep":
        return tuple(one.dtype for one in types), (types[0].dtype,)
    common = types[0].dtype
    for one in types[1:]:
        common = promote(common, one.dtype)
    if op.dtype == "float" and not is_float(common):
        common = DEFAULT_FLOAT
    if common.kind == "b" and op.dtype == "promote" and isinstance(op.kernel, np.ufunc) and not _keeps_bool(op.kernel):
        raise DTypeError(f"{op.name} of booleans", "it is not defined for them", "Cast them, or use `!=`, `&`, `|`.")
    if common.kind == "c" and isinstance(op.kernel, np.ufunc) and not _takes_complex(op.kernel):
        raise DTypeError(
            f"{op.name} of complex numbers", "it is defined for real ones alone", "Take `fg.real` or `fg.imag` first."
        )
    return (common,) * len(types), (np.dtype(np.bool_) if op.dtype == "bool" else common,)
