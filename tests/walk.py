"""The checks that every operation must pass, as functions of one call of an op. `test_ops.py` walks the table by them.

samples(op)        the calls to make: from `Op.samples`, else from the factor string
each               one check of several samples: thousands of tests would each cost more than what they check
check_types        kernels return the shapes and dtypes that the definition says
check_value        reference and program agree with an oracle
check_gradient     first and second derivatives agree with central differences
check_cuts         every legal cut of every factor agrees with the whole
check_shards       any number of shards gives the same bits
check_unmutated    no operand is written to
check_in_place     operands that are results of other ops may lend their memory
"""

from __future__ import annotations

import itertools
import math
import operator
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from typing import Any

import numpy as np

import flowgraph as fg
from flowgraph import eager, schedule
from flowgraph.errors import FlowgraphError
from flowgraph.factors import ELLIPSIS, Axis, Rule, parse
from flowgraph.graph import Graph, Node, call_kernel, interpret, make_input, toposort
from flowgraph.op import COMBINES, Op, kernel_parameters, monoid_of
from flowgraph.partition.layout import legal_factors
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.types import TensorType, tensor_type

Array = np.ndarray[Any, Any]

FLOATS = (np.float64, np.float32)
DOUBLES = (np.float64, np.complex128)
DTYPES = (*FLOATS, np.int32, np.uint8, np.bool_)
TOLERANCE = {2: 4e-3, 4: 4e-6, 8: 1e-12, 16: 1e-12}
"""By the bytes of a real number: about thirty roundings."""


# Samples.


@dataclass(frozen=True)
class Sample:
    """One call of an op."""

    op: Op
    operands: tuple[Any, ...]
    """For each operand a shape, a TensorType or an array."""
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        shown = [f"{one.dtype}{list(one.shape)}" if hasattr(one, "dtype") else str(list(one)) for one in self.operands]
        return f"{self.op.name}({', '.join([*shown, *(f'{key}={value}' for key, value in self.attrs.items())])})"

    def case(self, dtype: Any = np.float64) -> Case:
        """This call on operands of `dtype`, made once for all checks of it."""
        if dtype not in self._cases:
            arrays = self.draw(dtype)
            self._cases[dtype] = Case(arrays, call(self, types_of(arrays)))
        return self._cases[dtype]

    @cached_property
    def _cases(self) -> dict[Any, Case]:
        return {}

    def draw(self, dtype: Any = np.float64, seed: int = 0) -> list[Array]:
        """Read-only operands: shapes are filled with numbers of `dtype` from the op's domain."""
        rng = np.random.default_rng([zlib.crc32(str(self).encode()), seed])
        arrays = []
        for one in self.operands:
            if isinstance(one, np.ndarray):
                array = one.copy()
            elif isinstance(one, TensorType):
                array = _numbers(rng, one.shape, one.dtype, self.op.domain)
            else:
                array = _numbers(rng, one, np.dtype(dtype), self.op.domain)
            array.flags.writeable = False
            arrays.append(array)
        return arrays


def _numbers(rng: np.random.Generator, shape: Any, dtype: np.dtype[Any], domain: tuple[float, float]) -> Array:
    low, high = domain
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind == "f":
        return np.asarray(rng.uniform(low, high, shape), dtype)
    if dtype.kind == "c":
        return np.asarray(rng.uniform(low, high, shape) + 1j * rng.uniform(low, high, shape), dtype)
    if dtype == np.uint64:
        return np.asarray(rng.integers(0, 2**63, shape, dtype))
    first = max(math.ceil(low), 0) if dtype.kind == "u" else math.ceil(low)
    return np.asarray(rng.integers(first, math.floor(high) + 1, shape), dtype)


def samples(op: Op) -> list[Sample]:
    """The calls of `op` to check: its own samples, else what its factor string allows."""
    if op.samples is not None:
        return [Sample(op, tuple(operands), attrs) for operands, attrs in op.samples()]
    if not isinstance(op.factors, str):
        raise AssertionError(f"the factors of {op.name} depend on its attributes: define it with `samples=`")
    return [Sample(op, shapes) for shapes in shapes_of(parse(op.factors))]


def each(some: Iterable[Sample], check: Callable[[Sample], object]) -> None:
    """Make `check` of all samples; an error says in a note whose it is."""
    for sample in some:
        try:
            check(sample)
        except BaseException as error:  # pytest's own kinds of failure are not Exceptions
            error.add_note(f"the sample: {sample}")
            raise


ELLIPSES: dict[int, tuple[tuple[Any, ...], ...]] = {
    0: ((),),
    1: (((),), ((5,),), ((5, 4),), ((5, 3, 4),), ((0, 3),)),
    2: (
        ((5, 4), (5, 4)),
        ((5, 4), (4,)),
        ((), (5, 4)),
        ((5, 1), (1, 4)),
        ((3, 1, 4), (5, 1)),
        ((), ()),
        ((0, 3), (3,)),
    ),
    3: (((5, 4), (5, 4), (5, 4)), ((5, 4), (4,), ()), ((5, 1), (1, 4), (5, 4))),
}
"""What the ellipses of so many operands may stand for."""
LENGTHS = (5, 3, 4, 2, 6)


def shapes_of(rule: Rule) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Operand shapes for a factor string, every factor with a length of its own."""
    names = list(dict.fromkeys(name for axes in rule.operands for axis in axes for name in axis.factors))
    lengths = dict(zip(names, itertools.cycle(LENGTHS), strict=False))
    count = sum(ELLIPSIS in axes for axes in rule.operands)
    for filling in ELLIPSES.get(count, ([(5, 4)] * count,)):
        rest = iter(filling)
        yield tuple(tuple(_lengths(axes, lengths, next(rest) if ELLIPSIS in axes else ())) for axes in rule.operands)


def _lengths(axes: Sequence[Axis], lengths: Mapping[str, int], ellipsis: Sequence[int]) -> Iterator[int]:
    for axis in axes:
        if axis is ELLIPSIS:
            yield from ellipsis
        else:
            yield math.prod(lengths[name] for name in axis.factors)


# Graphs and programs.


@dataclass
class Call:
    """A sample as a graph, on operands of given types."""

    leaves: list[Node]
    results: list[Node]

    @cached_property
    def graph(self) -> Graph:
        return graph_of(self.results, self.leaves)


@dataclass
class Case:
    """A sample on operands that were drawn for it."""

    arrays: list[Array]
    call: Call

    @property
    def graph(self) -> Graph:
        return self.call.graph

    @cached_property
    def feeds(self) -> list[Any]:
        return values_of(self.graph, self.arrays)

    @cached_property
    def reference(self) -> list[Any]:
        """What the reference evaluator computes."""
        return interpret(self.graph, self.feeds)

    @cached_property
    def entry(self) -> eager.Compiled:
        """What runs it in tiles of the usual size."""
        return compiled(self.graph)


def graph_of(outputs: Sequence[Node], leaves: Sequence[Node]) -> Graph:
    """The graph of `outputs`; its inputs are `leaves`, and after them the scalars that the expression holds."""
    others = [node for node in toposort(outputs) if node.is_leaf and node not in leaves]
    return Graph.of(outputs, [*leaves, *others])


def values_of(graph: Graph, arrays: Sequence[Array]) -> list[Any]:
    """What to feed `graph`: `arrays`, and after them the values of the scalars that the expression holds."""
    return [*arrays, *(node.memo for node in graph.inputs[len(arrays) :])]


def call(sample: Sample, types: Sequence[TensorType], data: int | None = None) -> Call:
    """The nodes of `sample`. Operand number `data` is data, the others are variables; None: all are data."""
    leaves = []
    for number, one in enumerate(types):
        kind = "key" if one.dtype == np.uint64 else "data" if data in (None, number) else "variable"
        leaves.append(make_input(one, kind))
    result = sample.op(*[tensor_of(leaf) for leaf in leaves], **sample.attrs)
    tensors = result if isinstance(result, tuple) else (result,)
    return Call(leaves, [tensor.node for tensor in tensors])


def types_of(arrays: Sequence[Array]) -> list[TensorType]:
    return [tensor_type(array.shape, array.dtype) for array in arrays]


def differentiable(dtype: Any) -> bool:
    return np.dtype(dtype).kind in "fc"


@contextmanager
def tiles(low: int, high: int) -> Iterator[None]:
    """A context in which tiles have between `low` and `high` rows, so that small data has several."""
    before = schedule.TILE_ROWS, schedule.HEAVY_ROWS
    schedule.TILE_ROWS, schedule.HEAVY_ROWS = (low, high), high
    eager.COMPILED.clear()
    try:
        yield
    finally:
        schedule.TILE_ROWS, schedule.HEAVY_ROWS = before
        eager.COMPILED.clear()


def compiled(graph: Graph) -> eager.Compiled:
    """The program of `graph`, made anew."""
    eager.COMPILED.clear()
    return eager.compiled(graph)


def run(entry: eager.Compiled, feeds: Sequence[Any], shards: Any = None) -> list[Array]:
    """What the program computes: at once, or with every row factor cut into `shards`."""
    program = entry.program
    if shards is None:
        return [np.asarray(one) for one in program.run(feeds, rows=entry.rows)]
    program.wishes = dict.fromkeys(program.meshes, shards)
    return [np.asarray(one) for one in program.run(feeds, scheduler="synchronous", rows=entry.rows)]


def same(got: Any, wanted: Any, what: str) -> None:
    """Assert that two lists of arrays have equal bits."""
    for number, (a, b) in enumerate(zip(got, wanted, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype, f"{what}, result {number}: {a.dtype} and {b.dtype}"
        assert a.shape == b.shape, f"{what}, result {number}: {a.shape} and {b.shape}"
        assert a.tobytes() == b.tobytes(), f"{what}, result {number}: other bits\n{a}\n{b}"


def close(got: Any, wanted: Any, what: str, factor: float = 1.0, floor: float = 0.0) -> None:
    """Assert that two lists of arrays agree to the precision of the first, relative to the largest element.

    `floor` is the size of the numbers on the way, where they may cancel.
    """
    for number, (a, b) in enumerate(zip(got, wanted, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        where = f"{what}, result {number}"
        assert a.shape == b.shape, f"{where}: {a.shape} and {b.shape}"
        if a.dtype.kind not in "fc":
            assert np.array_equal(a, b), f"{where}: {a} and {b}"
            continue
        rtol = TOLERANCE[np.finfo(a.dtype).dtype.itemsize] * factor
        scale = np.abs(b[np.isfinite(b)]).max(initial=floor)
        with np.errstate(all="ignore"):
            near = np.all(np.abs(a - b) <= rtol * (scale + np.abs(b)))
        if not near:  # or infinite in the same places: numpy looks closer, which takes ten times as long
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=where)


# The checks.


def check_types(sample: Sample, dtype: Any) -> None:
    """Kernels return arrays of the shape and dtype that the definition infers, without any cast behind them."""
    case = sample.case(dtype)
    graph = case.graph.check()
    values: dict[Node, Any] = dict(zip(graph.inputs, case.feeds, strict=True))
    for node in graph:
        if node.is_leaf:
            continue
        with np.errstate(all="ignore"):
            results = call_kernel(node, [values[one] for one in node.inputs])
        values[node] = results if len(results) > 1 else np.asarray(results[0])
        assert len(results) == len(node.types), f"{node}: {len(results)} results, {len(node.types)} were inferred"
        for result, of_type in zip(results, node.types, strict=True):
            assert np.shape(result) == of_type.shape, f"{node}: the kernel returns shape {np.shape(result)}"
            assert np.asarray(result).dtype == of_type.dtype, f"{node}: returns {np.asarray(result).dtype}"


def check_value(sample: Sample, dtype: Any, oracle: Callable[..., Any]) -> None:
    """The reference evaluator and the compiled program agree with `oracle(*operands, **attributes)`."""
    case = sample.case(dtype)
    exact = case.arrays
    if all(one.dtype.kind in "fc" for one in case.reference):  # the oracle has all the precision there is
        exact = [
            one if one.dtype == np.uint64 else one.astype(np.complex128 if one.dtype.kind == "c" else np.float64)
            for one in exact
        ]
    with np.errstate(all="ignore"):
        wanted = oracle(*exact, **sample.attrs)
    wanted = list(wanted) if isinstance(wanted, tuple) else [wanted]
    close(case.reference, wanted, f"interpret {sample}")
    found = run(case.entry, case.feeds)
    close(found, wanted, f"program {sample}")
    assert [one.dtype for one in found] == [one.dtype for one in case.reference]


def check_gradient(sample: Sample, dtype: Any = np.float64) -> bool:
    """First and second derivatives in random directions against central differences; False where there are none.

    That of a real number L by a complex one is dL/dx + i dL/dy, so along d it rises by the real part of conj(d) * it.
    """
    case = sample.case(dtype)
    arrays, made = case.arrays, case.call
    places = [number for number, one in enumerate(made.leaves) if differentiable(one.type.dtype)]
    outputs = [node for node in made.results if differentiable(node.type.dtype)]
    if not places or not outputs or any(made.leaves[number].type.dtype not in DOUBLES for number in places):
        return False
    rng = np.random.default_rng(1)
    leaves = list(made.leaves)
    extra: list[Array] = []

    def weighed(tensors: Sequence[Tensor]) -> tuple[Tensor, list[Array]]:
        """A sum of all elements, with random weights, and the weights."""
        weights = [_weights(rng, one) for one in tensors]
        extra.extend(weights)
        inputs = [make_input(tensor_type(one.shape, one.dtype), "data") for one in weights]
        leaves.extend(inputs)
        parts = [fg.real(fg.conj(tensor_of(w)) * x).sum() for w, x in zip(inputs, tensors, strict=True)]
        return reduce(operator.add, parts), weights

    total, _ = weighed([tensor_of(node) for node in outputs])
    xs = [tensor_of(made.leaves[number]) for number in places]
    try:
        grads = fg.gradient(total, xs, unconnected_gradients="zero")
    except fg.errors.GradientError:
        if sample.op.gradient is None:
            return False
        raise
    slope, first = weighed(grads)
    bend, second = weighed(fg.gradient(slope, xs, unconnected_gradients="zero"))
    for x, g in zip(xs, grads, strict=True):
        assert g.type == x.type, f"{sample}: the gradient of {x.type} is {g.type}"
    graph = graph_of([total.node, slope.node, bend.node], leaves).check()

    def change(node: Node, direction: Sequence[Array]) -> Any:
        own, h = graph_of([node], leaves), 1e-5
        values = []
        for step in (h, -h):
            moved = list(arrays)
            for number, along in zip(places, direction, strict=True):
                moved[number] = arrays[number] + step * along
            values += interpret(own, values_of(own, [*moved, *extra]))
        return (values[0] - values[1]) / (2 * h)

    feeds = values_of(graph, [*arrays, *extra])
    here = interpret(graph, feeds)
    by_first, by_second = change(total.node, first), change(slope.node, second)
    np.testing.assert_allclose(here[1], by_first, rtol=1e-6, atol=1e-7, err_msg=f"{sample}: gradient")
    np.testing.assert_allclose(here[2], by_second, rtol=1e-6, atol=1e-7, err_msg=f"{sample}: second derivative")
    close(run(compiled(graph), feeds), here, f"program of the gradient of {sample}", 10)
    return True


def _weights(rng: np.random.Generator, x: Tensor) -> Array:
    weights = rng.uniform(0.5, 1.5, x.shape)
    return np.asarray(weights + 1j * rng.uniform(0.5, 1.5, x.shape) if x.dtype.kind == "c" else weights)


def check_cuts(sample: Sample, dtype: Any = np.float64) -> int:
    """Every factor that may be cut, cut by hand into uneven pieces; returns how many factors that were."""
    case = sample.case(dtype)
    graph = case.graph
    values: dict[Node, Any] = dict(zip(graph.inputs, case.feeds, strict=True))
    count = 0
    with np.errstate(all="ignore"):
        for node in graph:
            if node.is_leaf:
                continue
            operands = [values[one] for one in node.inputs]
            whole = call_kernel(node, operands)
            values[node] = whole if len(whole) > 1 else np.asarray(whole[0], node.type.dtype)
            if node.op is not sample.op:
                continue
            binding = node.inferred().binding
            for factor in sorted(legal_factors(node, binding)):
                length = binding.sizes[factor]
                assert isinstance(length, int)
                for marks in ([1], [length // 2], [1, length - 1]) if length > 1 else ():
                    pieces = list(itertools.pairwise(sorted({0, *marks, length})))
                    close(_by_pieces(node, operands, factor, pieces), whole, f"{sample} cut along {factor}")
                    count += 1
    return count


def _by_pieces(node: Node, operands: Sequence[Array], factor: str, pieces: Sequence[tuple[int, int]]) -> list[Any]:
    """The results of `node`, computed from consecutive pieces of `factor`."""
    binding = node.inferred().binding

    def span(axis: Axis, length: int, piece: tuple[int, int]) -> tuple[int, int, int]:
        if not axis.factors or axis.factors[0] != factor:
            return 0, length, length
        inner = math.prod(binding.sizes[name] for name in axis.factors[1:])  # type: ignore[misc]
        return piece[0] * inner, piece[1] * inner, length

    def spans(axes: Sequence[Axis], shape: Any, piece: tuple[int, int]) -> Any:
        return tuple(span(axis, length, piece) for axis, length in zip(axes, shape, strict=True))

    def lengths(axes: Sequence[Axis], shape: Any, piece: tuple[int, int]) -> tuple[int, ...]:
        return tuple(stop - start for start, stop, _ in spans(axes, shape, piece))

    def cut(array: Array, axes: Sequence[Axis], piece: tuple[int, int]) -> Array:
        part = array[tuple(slice(start, stop) for start, stop, _ in spans(axes, array.shape, piece))]
        return np.ascontiguousarray(part).reshape(lengths(axes, array.shape, piece))

    parts = []
    monoid = monoid_of(node.op, len(node.types))
    contracted = factor in binding.contracted()
    cuts_of = [
        [cut(one, axes, piece) for one, axes in zip(operands, binding.operands, strict=True)] for piece in pieces
    ]
    entering = _entering(node, cuts_of) if factor in binding.running() else [{}] * len(pieces)
    for piece, cuts, before in zip(pieces, cuts_of, entering, strict=True):
        if contracted and monoid is not None:
            plain = monoid.partial is node.op.kernel
            parts.append(call_kernel(node, cuts) if plain else monoid.partial(*cuts, **_keywords(node, monoid.partial)))
            continue
        at = spans(binding.results[0], node.type.shape, piece)
        shape = tuple(stop - start for start, stop, _ in at)
        kernel = node.op.with_fields(kernel=partial(node.op.kernel, **before)) if before else node.op
        own = Node(kernel, node.inputs, node.attrs, node.types)
        parts.append([np.asarray(one) for one in call_kernel(own, cuts, shape, at)])
        for part, axes, of_type in zip(parts[-1], binding.results, node.types, strict=True):
            assert part.shape == lengths(axes, of_type.shape, piece), f"{node} cut along {factor}: shape {part.shape}"
    if not contracted:
        where = [next(n for n, axis in enumerate(axes) if axis.factors[:1] == (factor,)) for axes in binding.results]
        return [np.concatenate(some, axis) for some, axis in zip(zip(*parts, strict=True), where, strict=True)]
    if monoid is not None:
        state = parts[0]
        for part in parts[1:]:
            state = monoid.merge(state, part)
        result = monoid.finish(state, **_keywords(node, monoid.finish))
        results = result if len(node.types) > 1 else [result]
        return [np.asarray(one, of_type.dtype) for one, of_type in zip(results, node.types, strict=True)]
    assert isinstance(node.op.combine, str)
    (total,) = parts[0]
    for (part,) in parts[1:]:
        total = COMBINES[node.op.combine](total, part)
    return [total]


def _entering(node: Node, cuts: Sequence[Sequence[Array]]) -> list[dict[str, Any]]:
    """What the kernel of `node`, which runs along a cut axis, is given for each piece."""
    carry = node.op.carry
    assert carry is not None
    own = [carry.pieces.partial(*one, **_keywords(node, carry.pieces.partial)) for one in cuts]
    found = carry.pieces.finish(reduce(carry.pieces.merge, own), **_keywords(node, carry.pieces.finish))
    assert len(found) == len(cuts) - 1
    behind = carry.backward(dict(node.attrs))
    return [{"before": found[k : k + 1] if behind else found[max(k - 1, 0) : k]} for k in range(len(cuts))]


def _keywords(node: Node, function: Any) -> dict[str, Any]:
    return {name: value for name, value in node.attrs if name in kernel_parameters(function)}


def check_shards(sample: Sample, dtype: Any = np.float32) -> int:
    """Each operand in turn as the data whose rows are cut: any number of shards gives the bits of one."""
    case, count = sample.case(dtype), 0
    for number in [index for index, one in enumerate(case.arrays) if one.ndim] or [None]:
        graph = call(sample, types_of(case.arrays), data=number).graph
        feeds = values_of(graph, case.arrays)
        with tiles(2, 2):
            entry = compiled(graph)
            assert set(entry.program.plan.tile.values()) <= {2}, "tiles are no longer as small as this test wants them"
            one = run(entry, feeds, 1)
            close(one, case.reference, f"{sample} in tiles")
            for shards in (2, 3, (0, 1, 0, 3)):
                same(run(entry, feeds, shards), one, f"{sample} in {shards} shards")
            count += bool(entry.program.meshes)
    return count


def check_unmutated(sample: Sample, dtype: Any = np.float64) -> None:
    """Neither the kernel nor the program writes to an operand."""
    case = sample.case(dtype)
    arrays = [one.copy() for one in case.arrays]
    before = [one.tobytes() for one in arrays]
    feeds = values_of(case.graph, arrays)
    interpret(case.graph, feeds)
    assert [one.tobytes() for one in arrays] == before, f"{sample}: the kernel writes to an operand"
    results = run(case.entry, feeds)
    assert [one.tobytes() for one in arrays] == before, f"{sample}: the program writes to an operand"
    for result in results:
        assert not any(np.shares_memory(result, one) for one in arrays), f"{sample}: a result is memory of an operand"


def check_in_place(sample: Sample, dtype: Any = np.float64) -> None:
    """The program is right where operands are results of other ops, which die here and whose memory may be reused."""
    case = sample.case(dtype)
    types = types_of(case.arrays)
    leaves = [make_input(one, "key" if one.dtype == np.uint64 else "data") for one in types]
    zeros = [make_input(one) for one in types]
    operands = [
        tensor_of(x) if x.attr("kind") == "key" else tensor_of(x) + tensor_of(zero)
        for x, zero in zip(leaves, zeros, strict=True)
    ]
    result = sample.op(*operands, **sample.attrs)
    results = [one.node for one in (result if isinstance(result, tuple) else (result,))]
    graph = graph_of(results, [*leaves, *zeros])
    feeds = values_of(graph, [*case.arrays, *map(np.zeros_like, case.arrays)])
    close(run(compiled(graph), feeds), case.reference, f"{sample} after an op")


def takes(sample: Sample, dtype: Any) -> bool:
    """Whether the op accepts operands of `dtype`."""
    try:
        sample.case(dtype)
    except FlowgraphError:
        return False
    return True
