"""A window: many steps of a program, each on data of one tile, in one kernel.

The state lies in arrays that the steps write over; what does not change from step to step is computed before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowgraph.graph import Node, read_operands
from flowgraph.kernel.emit import Block
from flowgraph.kernel.host import is_host_type
from flowgraph.kernel.kernel import Kernel
from flowgraph.kernel.names import MESH_NUMBER, tuple_text
from flowgraph.kernel.source import Emitter, indented


def window(
    emitter: Emitter, results: Sequence[Node], updates: Mapping[Node, Node], batch_meshes: Sequence[str]
) -> Kernel:
    """`kernel(steps, starts, rows of a step, histories, *totals, *inputs) -> new states`: steps in one task.

    `updates` says which node becomes the new value of which input; `results` (scalars) are written into one history
    array each, one element a step. Inputs that are no states and have no batch rows are the same in every step, and so
    is all that depends on them alone.
    """
    return _Window(emitter, updates, batch_meshes).kernel(results)


class _Window:
    def __init__(self, emitter: Emitter, updates: Mapping[Node, Node], batch_meshes: Sequence[str]) -> None:
        self.emitter, self.updates, self.batch_meshes = emitter, updates, batch_meshes
        self.block: Block = emitter.block_of_one_tile()

    def kernel(self, results: Sequence[Node]) -> Kernel:
        block, emitter, updates = self.block, self.emitter, self.updates
        inputs, needed = emitter.parts.graph.inputs, emitter.phases.needed
        for node in inputs:
            self._bind(node)
        changing = self._changing()
        invariant = [node for node in needed if node not in changing and not node.is_leaf]
        for state, new in updates.items():
            if new in changing and not is_host_type(new):
                block.carried[new] = state
        block.run(needed, pinned=[*results, *updates.values()], invariant=invariant)
        for number, node in enumerate(results):
            value = block.numbers_of_host.get(node) or block.array(node)
            block.body.append((f"history{number}[step] = {value}", node))
        self._carry()
        body = [
            *block.pre,
            ("for step in range(steps):", None),
            ("    low = starts[step]", None),
            *indented(block.body, 1),
            (f"return {tuple_text([self._final(state) for state in updates])}", None),
        ]
        histories = [f"history{number}" for number in range(len(results))]
        parameters = ["steps", "starts", *histories, *emitter.totals(), *map(emitter.parameter, inputs)]
        return emitter.kernel("window", parameters, body, block)

    def _bind(self, node: Node) -> None:
        """Let an input be known: as it is before the first step, or the rows of each."""
        block, mesh, name = self.block, self.emitter.parts.mesh(node), self.emitter.variable(node)
        if mesh is None:
            self.emitter.bind_arguments(block, [node])
            if node not in self.updates:
                return
            if is_host_type(node):  # the number is what changes
                block.stable.discard(node)
                del block.text[node]
            else:
                block.pre.append((f"{name} = {name}.copy()", node))
            return
        block.text[node] = name
        rows, number = self.emitter.parameter(node), MESH_NUMBER[mesh]
        if mesh in self.batch_meshes:
            block.body.append((f"{name} = {rows}.tile(low, n{number})", node))
        else:
            copy = ".copy()" if node in self.updates else ""
            block.pre.append((f"{name} = {rows}.tile(0, n{number}){copy}", node))
            block.stable.add(node)

    def _changing(self) -> set[Node]:
        """The nodes whose values differ from step to step."""
        parts, phases = self.emitter.parts, self.emitter.phases
        changing = {
            node for node in parts.graph.inputs if node in self.updates or parts.mesh(node) in self.batch_meshes
        }
        for node in phases.needed:
            if any(one in changing for one in read_operands(node)):
                changing.add(node)
        return changing

    def _carry(self) -> None:
        """At the end of a step the new values become the states of the next.

        A new value may be another state, or a view of one: it is copied aside before any state is written to.
        """
        block, updates = self.block, self.updates
        states = {state for state in updates if state not in block.numbers_of_host}
        hosts = [(state, new) for state, new in updates.items() if state not in states]
        if hosts:
            left = ", ".join(block.numbers_of_host[state] for state, _ in hosts)
            right = ", ".join(self._number(new) for _, new in hosts)
            block.body.append((f"{left} = {right}", None))
        copies = []
        for number, (state, new) in enumerate(updates.items()):
            text, source = block.text.get(state), block.array(new) if state in states else ""
            if state not in states or text == source:
                continue
            if block.root.get(new, new) in states:
                block.body.append((f"t{number} = {source}.copy()", new))
                source = f"t{number}"
            copies.append((f"copyto({text}, {source})", new))
        block.body += copies

    def _number(self, node: Node) -> str:
        return self.block.numbers_of_host.get(node) or f"{self.block.array(node)}.item()"

    def _final(self, state: Node) -> str:
        block = self.block
        if state in block.numbers_of_host:
            return f"array({block.numbers_of_host[state]}, {block.names.dtype(state.type.dtype)})"
        return block.text[state]
