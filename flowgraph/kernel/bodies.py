"""Bodies of branches and loops as functions inside a kernel's source: compiled once with it, called for every turn."""

from __future__ import annotations

from typing import Any

from flowgraph.graph import Node, read_operands, toposort
from flowgraph.kernel.host import is_host_type
from flowgraph.kernel.memory import Line, Memory
from flowgraph.kernel.names import tuple_text
from flowgraph.ops.body import Body
from flowgraph.partition import Layout, Partitioned, propagate
from flowgraph.schedule import Schedule, calls_of


def define_body(block: Memory, node: Node, body: Body) -> str:
    """The name of a function for `body`, an attribute of `node`, whose lines go where a kernel begins.

    It knows the kernel's numbers of rows as Python's inner functions do, so a piece of rows is a piece inside as well.
    """
    graph = body.graph
    seeds = {
        leaf: layout for leaf, layout in zip(graph.inputs, _layouts(block.parts, node), strict=True) if any(layout)
    }
    found = propagate(graph, seeds)
    everything = dict.fromkeys([*graph.inputs, *graph.nodes()])
    parts = Partitioned(graph, {one: found.produced(one) for one in everything}, {}, {})
    order = _needed(body)
    numbers = {one: number for number, one in enumerate(dict.fromkeys([*graph.inputs, *order]))}
    inner: Any = type(block)(parts, Schedule({}, {}, calls_of(graph)), numbers, block.names)
    for leaf in graph.inputs:
        name = inner.text[leaf] = f"v{numbers[leaf]}"
        inner.stable.add(leaf)
        if is_host_type(leaf):
            inner.pre.append((f"s{numbers[leaf]} = {name}.item()", leaf))
            inner.numbers_of_host[leaf] = f"s{numbers[leaf]}"
    inner.run(order, pinned=graph.outputs)
    answers = [_answer(inner, one) for one in graph.outputs]
    name = block.names.body()
    lines: list[Line] = [(f"def {name}({', '.join(f'v{numbers[leaf]}' for leaf in graph.inputs)}):", None)]
    lines += [(f"    {line}", one) for line, one in (*inner.pre, *inner.body)]  # errors name what fails inside
    block.pre += [*lines, (f"    return {tuple_text(answers)}", None)]
    return name


def _answer(inner: Any, node: Node) -> str:
    """The text of a result. A view is copied into C order, as everything that operations get."""
    text: str = inner.array(node)
    return f"{text}.copy()" if node.op.view is not None else text


def _layouts(parts: Partitioned, node: Node) -> list[Layout]:
    """How the operands of a body of `node` are cut: elements without the axis along which they lie."""
    layouts = [parts.layouts[one] for one in node.inputs]
    if node.op.name == "cond":
        return layouts[1:]
    first, elems = node.attr("states", 0), node.attr("elems", 0)
    return [one[1:] if first <= number < first + elems else one for number, one in enumerate(layouts)]


def _needed(body: Body) -> list[Node]:
    wanted = set(body.graph.outputs)
    order = []
    for node in reversed(toposort(body.graph.outputs)):
        if node in wanted:
            order.append(node)
            wanted.update(read_operands(node))
    return order[::-1]
