"""Optimizers: how gradients change variables.

An optimizer is a pure rule on one flat vector (`rule`): all variables of a dtype are packed into it, so an update is a
dozen numpy calls however many variables there are. `apply_gradients` and `minimize` run the rule on variables; `fit`
takes it into its windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowgraph import tree
from flowgraph.eager import Compiled, compiled, evaluate
from flowgraph.errors import GradientError, UsageError
from flowgraph.graph import Graph, make_input
from flowgraph.ops.elementwise import sqrt, square
from flowgraph.ops.shape import concat, reshape
from flowgraph.reverse import GradientTape
from flowgraph.session import Variable, tracing
from flowgraph.tensor import Tensor, convert, scalar, tensor_of
from flowgraph.types import TensorType, tensor_type

STEP_TYPE = tensor_type((), np.int64)
Slots = dict[str, Tensor]


def _double(value: float) -> Tensor:
    """A hyperparameter in double precision: float32 powers of beta would ruin Adam's bias correction."""
    return tensor_of(scalar(float(value), np.dtype(np.float64)))


def pack(tensors: Sequence[Tensor]) -> Tensor:
    """All elements of `tensors` as one flat vector."""
    flat = [reshape(one, (-1,)) for one in tensors]
    return flat[0] if len(flat) == 1 else concat(flat)


def unpack(flat: Tensor, types: Sequence[TensorType]) -> list[Tensor]:
    """The inverse of `pack`: tensors of `types` from a flat vector."""
    result, start = [], 0
    for one in types:
        count = math.prod(int(length) for length in one.shape)  # type: ignore[arg-type]
        result.append(reshape(flat if len(types) == 1 else flat[start : start + count], one.shape))
        start += count
    return result


class Optimizer:
    """The base of all optimizers. A subclass says which slots it keeps (`slot_names`) and how a step goes (`rule`).

    `learning_rate` is a number above 0, or a function of the step (a scalar tensor, 0 for the first) that gives one.
    """

    slot_names: tuple[str, ...] = ()

    def __init__(self, learning_rate: float | Callable[[Tensor], Any], name: str) -> None:
        self.name = name
        self.learning_rate = learning_rate
        self.iterations = Variable(0, trainable=False, dtype=np.int64, name=f"{name}/iterations")
        self._slots: dict[Any, dict[str, Variable]] = {}
        self._programs: dict[Any, Compiled] = {}

    @property
    def learning_rate(self) -> float | Callable[[Tensor], Any]:
        """The learning rate, or the function that gives it."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float | Callable[[Tensor], Any]) -> None:
        if not callable(value):
            value = positive("learning_rate", value)
        self._learning_rate = value

    def rule(self, p: Tensor, g: Tensor, slots: Slots, step: Tensor) -> tuple[Tensor, Slots]:
        """The parameters and slots after a step: `p` and `g` are flat vectors, `step` counts from 0."""
        raise NotImplementedError

    def rate(self, step: Tensor) -> Tensor:
        """The learning rate of a step, in double precision."""
        if callable(self._learning_rate):
            return convert(self._learning_rate(step)).astype(np.float64)
        return _double(self._learning_rate)

    def slots(self, variables: Sequence[Variable]) -> dict[str, Variable]:
        """The slots of a group of variables of one dtype: flat vectors, zero at first."""
        key = tuple(id(one) for one in variables)
        if key not in self._slots:
            count = sum(math.prod(one.shape) for one in variables)
            made = {
                name: Variable(np.zeros(count, variables[0].dtype), trainable=False, name=f"{self.name}/{name}")
                for name in self.slot_names
            }
            made["__of__"] = variables  # type: ignore[assignment]  # keeps the ids alive
            self._slots[key] = made
        return {name: slot for name, slot in self._slots[key].items() if name != "__of__"}

    @property
    def variables(self) -> list[Variable]:
        """The state of the optimizer: the step counter and all slots."""
        own = [slot for group in self._slots.values() for name, slot in group.items() if name != "__of__"]
        return [self.iterations, *own]

    def minimize(self, loss: Any, var_list: Any, tape: GradientTape | None = None) -> Variable:
        """One step that makes `loss` smaller; returns the step counter.

        `loss` is a function without arguments that returns a scalar, or a tensor recorded by `tape`.
        """
        variables = [one for one in tree.flatten(var_list() if callable(var_list) else var_list)]
        if callable(loss):
            with GradientTape() as tape:
                target = loss()
        elif tape is None:
            raise UsageError("minimize of a tensor", "it takes the tape that recorded it", "Give tape=, or a function.")
        else:
            target = loss
        assert tape is not None
        grads = tape.gradient(target, variables)
        return self._apply(list(zip(grads, variables, strict=True)), target)

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Variable:
        """One step with given (gradient, variable) pairs; pairs without a gradient are left out.

        Raises GradientError if no pair has one.
        """
        return self._apply(list(grads_and_vars), None)

    def _apply(self, pairs: Sequence[tuple[Any, Variable]], target: Any) -> Variable:
        given = [(convert(g), v) for g, v in pairs if g is not None]
        if not given:
            names = ", ".join(repr(v.name) for _, v in pairs) or "none"
            raise GradientError(
                f"a step of {self.name} on the variables {names}",
                "no gradient reaches any of them",
                "Compute the loss from the variables, inside the function or the tape.",
            )
        groups: dict[Any, list[tuple[Tensor, Variable]]] = {}
        for g, v in given:
            groups.setdefault(v.dtype, []).append((g, v))
        if not tracing() and not any(g.node.symbolic for g, _ in given):
            evaluate([g.node for g, _ in given] + ([target.node] if target is not None else []))
            for group in groups.values():
                self._step_now(group)
            self.iterations.set(self.iterations.numpy() + 1)
        else:
            for group in groups.values():
                self._step_in_trace(group)
            self.iterations.assign_add(1)
        return self.iterations

    def _step_in_trace(self, group: Sequence[tuple[Tensor, Variable]]) -> None:
        variables = [v for _, v in group]
        slots = self.slots(variables)
        new, new_slots = self.rule(
            pack([v.value() for v in variables]),
            pack([g for g, _ in group]),
            {name: slot.value() for name, slot in slots.items()},
            self.iterations.value(),
        )
        for variable, value in zip(variables, unpack(new, [v.type for v in variables]), strict=True):
            variable.assign(value)
        for name, slot in slots.items():
            slot.assign(new_slots[name])

    def _step_now(self, group: Sequence[tuple[Tensor, Variable]]) -> None:
        """The step as one run of a program that is compiled once for these shapes."""
        variables = [v for _, v in group]
        slots = self.slots(variables)
        program, scalars = self._program(tuple(v.type for v in variables))
        values = [
            *(v.numpy() for v in variables),
            *(g.numpy() for g, _ in group),
            *(slot.numpy() for slot in slots.values()),
            self.iterations.numpy(),
            *scalars,
        ]
        results = program.program.run(values, rows=program.rows)
        for variable, value in zip([*variables, *slots.values()], results, strict=True):
            variable.set(value)

    def _hyperparameters(self) -> Any:
        """What the program of a step was made with; another value makes another program."""
        return {k: v for k, v in self.__dict__.items() if isinstance(v, float | bool) or k == "_learning_rate"}

    def _program(self, types: tuple[TensorType, ...]) -> tuple[Compiled, list[Any]]:
        key = (types, tuple(sorted(self._hyperparameters().items())))
        if key not in self._programs:
            params = [tensor_of(make_input(one, "variable")) for one in types]
            grads = [tensor_of(make_input(one, "variable")) for one in types]
            count = sum(math.prod(one.shape) for one in types)  # type: ignore[arg-type]
            flat = tensor_type((count,), types[0].dtype)
            slots = {name: tensor_of(make_input(flat, "variable")) for name in self.slot_names}
            step = tensor_of(make_input(STEP_TYPE, "variable"))
            new, new_slots = self.rule(pack(params), pack(grads), slots, step)
            outputs = [*unpack(new, types), *(new_slots[name] for name in slots)]
            graph, scalars = closed([*params, *grads, *slots.values(), step], outputs)
            self._programs[key] = (compiled(graph), scalars)  # type: ignore[assignment]
        return self._programs[key]  # type: ignore[return-value]


def closed(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[Graph, list[Any]]:
    """The graph of `outputs` on `inputs` and on the scalars that it holds; and the values of those scalars."""
    found = Graph.of([one.node for one in outputs])
    own = {one.node for one in inputs}
    scalars = [node for node in found.inputs if node not in own]
    values = [node.memo for node in scalars]
    return Graph(tuple([one.node for one in inputs] + scalars), found.outputs), values


def positive(name: str, value: Any) -> float:
    """`value` as a float above 0; raises UsageError for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise UsageError(f"{name}={value!r}", "it must be a finite number above 0", f"Give {name} such as 0.01.")
    return number


def fraction(name: str, value: Any) -> float:
    """`value` as a float in [0, 1); raises UsageError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise UsageError(f"{name}={value!r}", "it must be a number from 0 to below 1", f"Give {name} such as 0.9.")
    return float(value)


class SGD(Optimizer):
    """Gradient descent: p - rate * g; with momentum, v = momentum * v - rate * g and p + v.

    With `nesterov`, p + momentum * v - rate * g (Nesterov's step, as Keras writes it).

    >>> import flowgraph as fg
    >>> v = fg.Variable(1.0)
    >>> _ = fg.keras.optimizers.SGD(0.1).minimize(lambda: v * v, var_list=[v])
    >>> round(float(v), 6)
    0.8
    """

    def __init__(
        self,
        learning_rate: float | Callable[[Tensor], Any] = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        name: str = "SGD",
    ) -> None:
        self.momentum, self.nesterov = fraction("momentum", momentum), bool(nesterov)
        if self.momentum:
            self.slot_names = ("momentum",)
        super().__init__(learning_rate, name)

    def rule(self, p: Tensor, g: Tensor, slots: Mapping[str, Tensor], step: Tensor) -> tuple[Tensor, Slots]:
        """See the class."""
        rate = self.rate(step).astype(p.dtype)
        if not self.momentum:
            return p - g * rate, {}
        momentum = _double(self.momentum).astype(p.dtype)
        down = g * rate
        velocity = slots["momentum"] * momentum - down
        new = p + velocity * momentum - down if self.nesterov else p + velocity
        return new, {"momentum": velocity}


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015) as in TensorFlow 2: the bias correction is in the rate, epsilon outside the root.

        m = m + (1 - beta_1) * (g - m)            v = v + (1 - beta_2) * (g**2 - v)
        p = p - rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon),   t = 1, 2, ...

    >>> import flowgraph as fg
    >>> v = fg.Variable(1.0)
    >>> _ = fg.keras.optimizers.Adam(0.1).minimize(lambda: v * v, var_list=[v])
    >>> round(float(v), 6)
    0.9
    """

    slot_names = ("m", "v")

    def __init__(
        self,
        learning_rate: float | Callable[[Tensor], Any] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "Adam",
    ) -> None:
        self.beta_1, self.beta_2 = fraction("beta_1", beta_1), fraction("beta_2", beta_2)
        self.epsilon = positive("epsilon", epsilon)
        super().__init__(learning_rate, name)

    def rule(self, p: Tensor, g: Tensor, slots: Mapping[str, Tensor], step: Tensor) -> tuple[Tensor, Slots]:
        """See the class."""
        t = step.astype(np.float64) + 1
        beta_1, beta_2 = _double(self.beta_1), _double(self.beta_2)
        rate = (self.rate(step) * sqrt(1 - beta_2**t) / (1 - beta_1**t)).astype(p.dtype)
        m, v = slots["m"], slots["v"]
        m = m + (g - m) * (1 - beta_1).astype(p.dtype)
        v = v + (square(g) - v) * (1 - beta_2).astype(p.dtype)
        return p - m * rate / (sqrt(v) + _double(self.epsilon).astype(p.dtype)), {"m": m, "v": v}


class ExponentialDecay:
    """A learning rate that falls by the factor `decay_rate` every `decay_steps` steps, smoothly.

    >>> import flowgraph as fg
    >>> rate = fg.keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)
    >>> round(float(rate(fg.constant(20))), 6)
    0.025
    """

    def __init__(self, initial_learning_rate: float, decay_steps: int, decay_rate: float) -> None:
        self.initial_learning_rate = positive("initial_learning_rate", initial_learning_rate)
        self.decay_steps = positive("decay_steps", decay_steps)
        self.decay_rate = positive("decay_rate", decay_rate)

    def __call__(self, step: Any) -> Tensor:
        exponent = convert(step).astype(np.float64) * (1 / self.decay_steps)
        return _double(self.initial_learning_rate) * _double(self.decay_rate) ** exponent
