"""Optimizers of deferred graphs, as in TensorFlow 1's `train`: `minimize` is an operation that takes one step a run.

They are the rules of `train.optimizers` on variables whose values live in sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from flowgraph.apply import convert
from flowgraph.errors import UsageError
from flowgraph.session.building import gradients, group
from flowgraph.session.default_graph import building, get_default_graph, init_scope
from flowgraph.session.graph_variable import GraphKeys, GraphVariable
from flowgraph.session.graphs import Graph
from flowgraph.session.operation import Operation
from flowgraph.tensor import Tensor
from flowgraph.train import optimizers
from flowgraph.train.packing import pack, unpack
from flowgraph.types import is_float

Pairs = Sequence[tuple[Any, GraphVariable]]


class GraphOptimizer:
    """The base of the optimizers of deferred graphs. `minimize` gives the operation that takes a step."""

    slot_names: tuple[str, ...] = ()
    """What is kept for each variable, by the names of TensorFlow 1."""
    counts = False
    """Whether the rule asks for the number of the step."""

    def __init__(self, learning_rate: Any, name: str) -> None:
        self.learning_rate, self.name = learning_rate, name
        self._slots: dict[GraphVariable, dict[str, GraphVariable]] = {}
        self._steps: dict[Graph, GraphVariable] = {}

    def rule(self, rate: Callable[[Tensor], Any]) -> tuple[optimizers.Optimizer, dict[str, str]]:
        """The rule whose rate is a function of the step, and for each of its slots the name in `slot_names`."""
        raise NotImplementedError

    def minimize(
        self,
        loss: Any,
        global_step: GraphVariable | None = None,
        var_list: Sequence[GraphVariable] | None = None,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Operation:
        """The operation that changes variables so that `loss` becomes smaller, and counts in `global_step`.

        `var_list` is all trainable variables of the graph if not given.
        """
        return self.apply_gradients(self.compute_gradients(loss, var_list, grad_loss), global_step, name)

    def compute_gradients(
        self, loss: Any, var_list: Sequence[GraphVariable] | None = None, grad_loss: Any = None
    ) -> list[tuple[Tensor | None, GraphVariable]]:
        """Pairs (gradient of `loss`, variable); None for a gradient where the loss does not depend on the variable."""
        variables = list(var_list if var_list is not None else self._trainable())
        _check_variables(variables)
        return list(zip(gradients(loss, variables, grad_loss), variables, strict=True))

    def _trainable(self) -> list[GraphVariable]:
        found = get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES)
        return [one for one in found if is_float(one.dtype)]

    def apply_gradients(
        self, grads_and_vars: Iterable[Any], global_step: GraphVariable | None = None, name: str | None = None
    ) -> Operation:
        """The operation that takes a step by (gradient, variable) pairs; pairs without a gradient are left out."""
        pairs = [(g, v) for g, v in grads_and_vars]
        _check_variables([v for _, v in pairs])
        graph = pairs[0][1].graph if pairs else get_default_graph()
        with graph.building():
            given = optimizers.given_gradients(self.name, pairs)
        with graph.building(), graph.name_scope(self.name):
            done = self._assignments(graph, given)
            if global_step is not None:
                with graph.control_dependencies(done):
                    done.append(global_step.assign_add(1).op)
            with graph.name_scope(None):
                operation = group(*done, name=name or self.name)
        graph.add_to_collection(GraphKeys.TRAIN_OP, operation)
        return operation

    def _assignments(self, graph: Graph, given: Pairs) -> list[Any]:
        """The assignments of a step: all of variables of one dtype are computed together."""
        step = self._step(graph) if self.counts else None
        groups: dict[Any, list[tuple[Any, GraphVariable]]] = {}
        for g, v in given:
            groups.setdefault(v.dtype, []).append((g, v))
        done: list[Any] = []
        for pairs in groups.values():
            done += self._update(pairs, convert(step) if step is not None else convert(np.int64(0)))
        if step is not None:
            done.append(step.assign_add(1).op)
        return done

    def _update(self, pairs: Pairs, step: Tensor) -> list[Any]:
        variables = [v for _, v in pairs]
        types = [v.type for v in variables]
        rate = self.learning_rate() if callable(self.learning_rate) else self.learning_rate
        with init_scope():  # the rule alone is wanted: its own counter and rate belong to no session
            rule, names = self.rule(lambda _: rate)
        kept = {own: [self._slot(v, name) for v in variables] for own, name in names.items()}
        new, new_slots = rule.rule(
            pack([convert(v) for v in variables]),
            pack([g for g, _ in pairs]),
            {own: pack([convert(slot) for slot in slots]) for own, slots in kept.items()},
            step,
        )
        done = [v.assign(value).op for v, value in zip(variables, unpack(new, types), strict=True)]
        for own, slots in kept.items():
            done += [s.assign(value).op for s, value in zip(slots, unpack(new_slots[own], types), strict=True)]
        return done

    def _slot(self, variable: GraphVariable, name: str) -> GraphVariable:
        own = self._slots.setdefault(variable, {})
        if name not in own:
            graph = variable.graph
            with graph.control_dependencies(None), graph.name_scope(None):
                number = sorted(self.slot_names).index(name)
                label = f"{variable.op.name}/{self.name}" + (f"_{number}" if number else "")
                own[name] = GraphVariable(np.zeros(variable.shape, variable.dtype), trainable=False, name=label)
        return own[name]

    def _step(self, graph: Graph) -> GraphVariable:
        if graph not in self._steps:
            with graph.control_dependencies(None), graph.name_scope(None):
                self._steps[graph] = GraphVariable(np.int64(0), trainable=False, name=f"{self.name}/step")
        return self._steps[graph]

    def get_slot_names(self) -> list[str]:
        """The names of what is kept for each variable."""
        return sorted(self.slot_names)

    def get_slot(self, var: GraphVariable, name: str) -> GraphVariable | None:
        """What is kept for `var` under `name`; None before a step was built."""
        return self._slots.get(var, {}).get(name)

    def variables(self) -> list[GraphVariable]:
        """All that is kept: slots and the counter of steps."""
        return [*self._steps.values(), *(slot for own in self._slots.values() for slot in own.values())]


def _check_variables(variables: Sequence[Any]) -> None:
    for one in variables:
        if not isinstance(one, GraphVariable):
            raise UsageError(
                f"to train {one!r:.200}", "it is no variable of a graph", "Make it while a graph is built."
            )
    if not variables:
        building("an optimizer of a graph")
    optimizers.check_variables(variables)


class GradientDescentOptimizer(GraphOptimizer):
    """Gradient descent: p - rate * g. The learning rate is a number, a tensor, or a function that makes one.

    >>> import flowgraph as fg
    >>> with fg.Graph().as_default(), fg.Session() as session:
    ...     v = fg.Variable(1.0)
    ...     step = fg.train.GradientDescentOptimizer(0.1).minimize(v * v)
    ...     session.run(fg.global_variables_initializer())
    ...     session.run(step)
    ...     round(float(session.run(v)), 6)
    0.8
    """

    def __init__(self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent") -> None:
        super().__init__(learning_rate, name)

    def rule(self, rate: Callable[[Tensor], Any]) -> tuple[optimizers.Optimizer, dict[str, str]]:
        """See the class."""
        return optimizers.SGD(rate), {}


class _Momentum(optimizers.SGD):
    """Momentum as TensorFlow 1 has it: the rate is no part of what is accumulated."""

    def rule(self, p: Tensor, g: Tensor, slots: Any, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class of deferred graphs."""
        rate = self.rate(step).astype(p.dtype)
        momentum = convert(np.float64(self.momentum)).astype(p.dtype)
        accumulated = slots["momentum"] * momentum + g
        down = g + accumulated * momentum if self.nesterov else accumulated
        return p - down * rate, {"momentum": accumulated}


class MomentumOptimizer(GraphOptimizer):
    """Momentum: a = momentum * a + g; p - rate * a. With `use_nesterov`, p - rate * (g + momentum * a)."""

    slot_names = ("momentum",)

    def __init__(
        self,
        learning_rate: Any,
        momentum: float,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:
        super().__init__(learning_rate, name)
        self.momentum, self.use_nesterov = optimizers.fraction("momentum", momentum), bool(use_nesterov)

    def rule(self, rate: Callable[[Tensor], Any]) -> tuple[optimizers.Optimizer, dict[str, str]]:
        """See the class."""
        return _Momentum(rate, self.momentum, self.use_nesterov), {"momentum": "momentum"}


class AdamOptimizer(GraphOptimizer):
    """Adam (Kingma and Ba 2015), with the bias correction in the rate and epsilon outside the root."""

    slot_names = ("m", "v")
    counts = True

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        use_locking: bool = False,
        name: str = "Adam",
    ) -> None:
        super().__init__(learning_rate, name)
        self.beta1, self.beta2 = optimizers.fraction("beta1", beta1), optimizers.fraction("beta2", beta2)
        self.epsilon = optimizers.positive("epsilon", epsilon)

    def rule(self, rate: Callable[[Tensor], Any]) -> tuple[optimizers.Optimizer, dict[str, str]]:
        """See the class."""
        return optimizers.Adam(rate, self.beta1, self.beta2, self.epsilon), {"m": "m", "v": "v"}
