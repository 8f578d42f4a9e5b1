"""Which rows are cut: the choice of row factors, and the graph in which their lengths are unknown."""

from __future__ import annotations

from collections.abc import Mapping

from flowgraph.errors import FlowgraphError
from flowgraph.graph import Graph, Node, make_node, operations, value_bytes
from flowgraph.partition.layout import Cut, Layout, Layouts, cut_along, propagate
from flowgraph.types import Dim, Shape, affine, tensor_type

SECOND_FACTOR_BYTES = 1 << 20
"""A further row factor is worth a loop of its own from so many bytes on."""

PARAMETER_SHARE = 64
"""A variable must have so many times the rows of the data to be cut in its place."""

WORK_SHARE = 16
"""Data is what at least such a part of the work is done along."""

Candidate = tuple[Node, int, float]
"""A node that may be cut, its axis of rows, and the length that this counts as."""

MESHES = tuple(Dim(f"rows{number}" if number else "rows") for number in range(8))
"""The row factors of a program in the order of their size; their names are the mesh axes."""


def choose_rows(graph: Graph) -> Layouts:
    """The layouts after the longest data, cut by rows, has spread; then the longest that it has not reached, and so on.

    Candidates are leaves and sources of many elements (random numbers, ranges). Variables and parameters count for
    little: they are replicated, unless there is nothing else to cut. What most of the work is not done along is not the
    data, however long it is: a table that is only looked up.
    """
    candidates = sorted(_candidates(graph), key=lambda found: -found[2])
    if not candidates:
        return propagate(graph, {})
    seeds, layouts = _leader(graph, candidates)
    for node, axis, _ in candidates:
        if len(seeds) == len(MESHES) or value_bytes(node.type) < SECOND_FACTOR_BYTES or any(layouts.produced(node)):
            continue
        mesh = MESHES[len(seeds)].name
        wished = {**seeds, node: cut_along(node.type.ndim, axis, mesh)}
        spread = propagate(graph, wished)
        if _is_worked_on(spread, mesh):
            seeds, layouts = wished, spread
    return layouts


def _leader(graph: Graph, candidates: list[Candidate]) -> tuple[Mapping[Node, Layout], Layouts]:
    """The cut of the candidate to be cut first, and the layouts after it has spread.

    It is the first along which enough of the work is done, else the one along which most is, else the first. A length
    that is not known can not be weighed: it is enough that anything is done along it.
    """
    weight = {node: _work(node) for node in graph.nodes() if not node.is_leaf}
    enough = sum(weight.values()) / WORK_SHARE
    most = -1.0
    reached: list[Layouts] = []
    for node, axis, rows in candidates:
        if len(reached) == len(MESHES):
            break
        if any(any(spread.produced(node)) for spread in reached):
            continue  # it is cut together with one that was weighed
        cut = {node: cut_along(node.type.ndim, axis, MESHES[0].name)}
        spread = propagate(graph, cut)
        work = sum(weight[user] for user in spread.choices)
        if work > most:
            best, most = (cut, spread), work
        if work >= max(enough, 1) or (work and rows == float("inf")):
            break
        reached.append(spread)
    return best


def _work(node: Node) -> float:
    """The operations that a node takes and the bytes that it writes, as one number; none for a view."""
    return 0.0 if node.op.view is not None else operations(node) + sum(map(value_bytes, node.types))


def _is_worked_on(layouts: Layouts, mesh: str) -> bool:
    """Whether anything but views works on pieces of a mesh axis; a tensor that is only gathered need not be cut."""
    return any(choice.cut.mesh == mesh and node.op.view is None for node, choice in layouts.choices.items())


def _candidates(graph: Graph) -> list[Candidate]:
    """The nodes that may be cut by hand of the planner, with their axis of rows and its length: the first axis.

    One row is no candidate: an axis of length 1 stretches where it meets a longer one, rows do not. Of much data in one
    row, such as a long signal, the second axis has the rows.
    """
    found = []
    for node in graph.nodes():
        axis = 0
        if node.is_leaf and node.type.shape[:1] == (1,) and value_bytes(node.type) >= SECOND_FACTOR_BYTES:
            axis = 1
        if node.type.ndim <= axis or node.type.shape[axis] == 1 or (node.is_leaf and node.attr("kind") == "key"):
            continue
        length = node.type.shape[axis]
        rows = float(length) if isinstance(length, int) else float("inf")
        if node.is_leaf:
            found.append((node, axis, rows if node.attr("kind") == "data" else rows / PARAMETER_SHARE))
        elif node.op.view is None and all(one.type.ndim == 0 or _is_key(one) for one in node.inputs):
            found.append((node, axis, rows))
    return found


def _is_key(node: Node) -> bool:
    return node.is_leaf and node.attr("kind") == "key"


def unknown_rows(graph: Graph, layouts: Layouts) -> tuple[Graph, Mapping[Node, Node]]:
    """The same graph with the length of every row factor unknown, and the new leaf of each old one.

    Programs that differ in their number of rows become equal by it. Where an op can not say its result's shape
    without the number, the graph comes back as it was.
    """
    dims = {dim.name: dim for dim in MESHES}
    leaves = {node: _unknown_leaf(node, layouts.produced(node), dims) for node in graph.inputs}
    new: dict[Node, Node] = dict(leaves)
    try:
        for node in graph.nodes():
            if node.is_leaf:
                continue
            inputs = tuple([new[one] for one in node.inputs])
            attrs = node.attrs
            if any(name == "shape" for name, _ in attrs):
                shape = _unknown_shape(node.attr("shape"), layouts.produced(node), dims)
                attrs = tuple(sorted((dict(attrs) | {"shape": shape}).items()))
            new[node] = _again(node, inputs, attrs)
            assert new[node].type.ndim == node.type.ndim, f"{node}: became {new[node]}"
    except FlowgraphError:
        return graph, {node: node for node in graph.inputs}
    return Graph(tuple(leaves[node] for node in graph.inputs), tuple(new[node] for node in graph.outputs)), leaves


def _again(node: Node, inputs: tuple[Node, ...], attrs: tuple[tuple[str, object], ...]) -> Node:
    if all(a.types == b.types for a, b in zip(inputs, node.inputs, strict=True)) and attrs == node.attrs:
        return Node(node.op, inputs, attrs, node.types, node.where)
    return make_node(node.op, inputs, attrs, node.where)


def _unknown_leaf(node: Node, layout: Layout, dims: Mapping[str, Dim]) -> Node:
    leaf = Node(node.op, (), node.attrs, (tensor_type(_unknown_shape(node.type.shape, layout, dims), node.type.dtype),))
    return leaf


def _unknown_shape(shape: Shape, layout: Layout, dims: Mapping[str, Dim]) -> Shape:
    return tuple(
        length if cut is None else affine(dims[cut.mesh], cut.times) for length, cut in zip(shape, layout, strict=True)
    )


def known_layouts(graph: Graph) -> Layouts:
    """The layouts of a graph whose row factors were made unknown: its Dims say how inputs and sources are cut."""
    seeds: dict[Node, Layout] = {}
    meshes = {dim: dim.name for dim in MESHES}
    # Inputs that no output needs any more may be all that tells the number of rows.
    for node in dict.fromkeys((*graph.inputs, *graph.nodes())):
        if not any(isinstance(length, Dim) for length in node.type.shape):
            continue
        made = range(node.type.ndim) if node.is_leaf else _made_axes(node)
        layout = tuple(
            Cut(meshes[length.base], length.times)
            if isinstance(length, Dim) and length.base in meshes and axis in made
            else None
            for axis, length in enumerate(node.type.shape)
        )
        if any(layout):
            seeds[node] = layout
    return propagate(graph, seeds)


def _made_axes(node: Node) -> list[int]:
    """The axes of a result that no operand has: those of random numbers, of ranges, of what is stretched."""
    binding = node.inferred().binding
    taken = {factor for axes in binding.operands for axis in axes for factor in axis.factors}
    return [number for number, axis in enumerate(binding.results[0]) if taken.isdisjoint(axis.factors)]
