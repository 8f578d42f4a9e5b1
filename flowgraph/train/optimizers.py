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
from flowgraph.apply import convert
from flowgraph.context import ACTIVE
from flowgraph.eager import compiled, evaluate
from flowgraph.errors import GradientError, ShapeError, UsageError
from flowgraph.graph import make_input
from flowgraph.leaves import scalar
from flowgraph.mesh import pieces_of
from flowgraph.ops.elementwise import sqrt, square
from flowgraph.reverse import GradientTape
from flowgraph.session.building import control_dependencies
from flowgraph.state import Trace, Variable, trace_into, tracing
from flowgraph.tensor import Tensor, tensor_of
from flowgraph.train.packing import pack, unpack
from flowgraph.train.recorded import StepProgram, step_of
from flowgraph.types import TensorType, is_count, is_float, tensor_type

STEP_TYPE = tensor_type((), np.int64)
PROGRAMS = 64
"""How many programs of a step an optimizer keeps: one for each set of variables and hyperparameters."""
Slots = dict[str, Tensor]
Pairs = Sequence[tuple[Tensor, "Variable"]]


def double(value: float) -> Tensor:
    """A hyperparameter in double precision: float32 powers of beta would ruin Adam's bias correction."""
    return tensor_of(scalar(float(value), np.dtype(np.float64)))


def _kept(programs: dict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    """The program kept under `key`, made if there is none; all go when they are too many."""
    if key not in programs:
        if len(programs) >= PROGRAMS:
            programs.clear()
        programs[key] = make()
    return programs[key]


class Optimizer:
    """The base of all optimizers. A subclass says which slots it keeps (`slot_names`) and how a step goes (`rule`).

    `learning_rate` is a number above 0, or a function of the step (a scalar tensor, 0 for the first) that gives one.
    It may be changed between steps.

    `shard`, the name of an axis of the mesh or a number, cuts slots and update into so many pieces while `fit` trains,
    also where weights are whole: each piece is updated by a task of its own, from its part of the gradient alone, and
    its slots stay there. What it costs is that the weights are gathered in every step. Weights that `fg.shard` has cut
    keep that cut.
    """

    slot_names: tuple[str, ...] = ()

    def __init__(
        self, learning_rate: float | Callable[[Tensor], Any], name: str, shard: str | int | None = None
    ) -> None:
        self.name = name
        if shard is not None and not isinstance(shard, str) and not is_count(shard):
            raise UsageError(
                f"{name}(shard={shard!r})",
                "that is no number of pieces",
                "Give the name of an axis of the mesh, or how many pieces.",
            )
        self.shard = shard
        self._rate = Variable(0.0, trainable=False, dtype=np.float64, name=f"{name}/learning_rate")
        self.learning_rate = learning_rate
        self.iterations = Variable(0, trainable=False, dtype=np.int64, name=f"{name}/iterations")
        self._slots: dict[Variable, dict[str, Variable]] = {}
        self._programs: dict[Any, StepProgram] = {}
        self._recorded: dict[Any, StepProgram | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_programs": {}, "_recorded": {}}

    @property
    def learning_rate(self) -> float | Callable[[Tensor], Any]:
        """The learning rate, or the function that gives it."""
        return self._schedule if self._schedule is not None else float(self._rate)

    @learning_rate.setter
    def learning_rate(self, value: float | Callable[[Tensor], Any]) -> None:
        self._schedule: Callable[[Tensor], Any] | None = value if callable(value) else None
        if not callable(value):
            self._rate.set(np.array(positive("learning_rate", value)))

    def rule(self, p: Tensor, g: Tensor, slots: Slots, step: Tensor) -> tuple[Tensor, Slots]:
        """The parameters and slots after a step: `p` and `g` are flat vectors, `step` counts from 0."""
        raise NotImplementedError

    def rate(self, step: Tensor) -> Tensor:
        """The learning rate of a step, in double precision."""
        if self._schedule is not None:
            return convert(self._schedule(step)).astype(np.float64)
        return self._rate.value()

    @property
    def pieces(self) -> int:
        """How many pieces slots and update are cut into, by `shard` and the mesh in force."""
        found = pieces_of(self.shard) if isinstance(self.shard, str) else self.shard
        return 1 if found is None else found

    def slots(self, variables: Sequence[Variable]) -> dict[str, list[Variable]]:
        """For each slot name the slots of `variables`, of their shapes and zero at first.

        A variable has its own, whichever others it is trained with.
        """
        for variable in variables:
            own = self._slots.setdefault(variable, {})
            for name in self.slot_names:
                if name not in own:
                    zeros = np.zeros(variable.shape, variable.dtype)
                    own[name] = Variable(zeros, trainable=False, name=f"{self.name}/{name}/{variable.name}")
        return {name: [self._slots[variable][name] for variable in variables] for name in self.slot_names}

    @property
    def variables(self) -> list[Variable]:
        """The state of the optimizer: the step counter and all slots."""
        return [self.iterations, *(slot for own in self._slots.values() for slot in own.values())]

    def minimize(self, loss: Any, var_list: Any, tape: GradientTape | None = None) -> Variable:
        """One step that makes `loss` smaller; returns the step counter.

        `loss` is a function without arguments that returns a scalar, or a tensor recorded by `tape`.
        """
        variables = tree.flatten(var_list() if callable(var_list) else var_list)
        check_variables(variables)
        if callable(loss):
            own = GradientTape()
            with own:
                target = loss()
            if not ACTIVE.tapes and not tracing() and self._recorded_step(own, target, variables):
                return self.iterations
        elif tape is None:
            raise UsageError("minimize of a tensor", "it takes the tape that recorded it", "Give tape=, or a function.")
        else:
            own, target = tape, loss
        grads = own.gradient(target, variables)
        return self._apply(list(zip(grads, variables, strict=True)), target)

    def _recorded_step(self, tape: GradientTape, target: Any, variables: Sequence[Variable]) -> bool:
        done = step_of(self, tape, target, variables)
        if done:
            self.iterations.set(self.iterations.numpy() + 1)
        return done

    def recorded(self, key: Any, make: Callable[[], StepProgram | None]) -> StepProgram | None:
        """The step kept for losses of one structure, with the hyperparameters as they are now."""
        return _kept(self._recorded, (key, self._hyperparameters()), make)  # type: ignore[no-any-return]

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Variable:
        """One step with given (gradient, variable) pairs; pairs without a gradient are left out.

        Raises GradientError if no pair has one, ShapeError for a gradient of another shape than its variable.
        """
        pairs = list(grads_and_vars)
        check_variables([v for _, v in pairs])
        return self._apply(pairs, None)

    def _apply(self, pairs: Sequence[tuple[Any, Variable]], target: Any) -> Variable:
        given = given_gradients(self.name, pairs)
        groups: dict[Any, list[tuple[Tensor, Variable]]] = {}
        for g, v in given:
            groups.setdefault(v.dtype, []).append((g, v))
        if tracing() or any(g.node.symbolic for g, _ in given):
            done = [one for group in groups.values() for one in self._step_in_trace(group)]
            with control_dependencies(done):  # in a deferred graph what is returned runs the step
                return self.iterations.assign_add(1)
        else:
            evaluate([g.node for g, _ in given] + ([target.node] if target is not None else []))
            done = [self._step_now(group) for group in groups.values()]
            for variable, value in [one for results in done for one in results]:
                variable.set(value)
            self.iterations.set(self.iterations.numpy() + 1)
        return self.iterations

    def _step_in_trace(self, group: Pairs) -> list[Any]:
        variables = [v for _, v in group]
        slots, types = self.slots(variables), [v.type for v in variables]
        new, new_slots = self.rule(
            pack([v.value() for v in variables]),
            pack([g for g, _ in group]),
            {name: pack([slot.value() for slot in own]) for name, own in slots.items()},
            self.iterations.value(),
        )
        done = [variable.assign(value) for variable, value in zip(variables, unpack(new, types), strict=True)]
        for name, own in slots.items():
            done += [slot.assign(value) for slot, value in zip(own, unpack(new_slots[name], types), strict=True)]
        return done

    def _step_now(self, group: Pairs) -> list[tuple[Variable, Any]]:
        """The variables and slots with their values after a step: one run of a program compiled for these types."""
        variables = [v for _, v in group]
        slots = [slot for own in self.slots(variables).values() for slot in own]
        update = self._update(tuple(v.type for v in variables))
        values = [
            *(v.numpy() for v in variables),
            *(g.numpy() for g, _ in group),
            *(slot.numpy() for slot in slots),
            self.iterations.numpy(),
        ]
        results = update.run(values)
        return list(zip([*variables, *slots], results, strict=True))

    def _hyperparameters(self) -> Any:
        """What the program of a step was made with; another value makes another program."""
        return tuple((k, v) for k, v in self.__dict__.items() if isinstance(v, int | float | str) or k == "_schedule")

    def _update(self, types: tuple[TensorType, ...]) -> StepProgram:
        return _kept(self._programs, (types, self._hyperparameters()), lambda: self._compiled(types))  # type: ignore[no-any-return]

    def _compiled(self, types: tuple[TensorType, ...]) -> StepProgram:
        params, grads = ([tensor_of(make_input(one, "variable")) for one in types] for _ in range(2))
        trace = Trace()
        with trace_into(trace):
            state, outputs = self.updated(params, grads)
        leaves = [one.node for one in (*params, *grads, *state)]
        graph, captured = trace.closed([one.node for one in outputs], [*leaves, *trace.variables.values()])
        return StepProgram(compiled(graph), tuple(trace.variables), captured)

    def updated(self, params: Sequence[Tensor], grads: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """(inputs for the slots and the step counter, new parameters and slots) of variables of one dtype."""
        types = [one.type for one in params]
        slots = {name: [tensor_of(make_input(one, "variable")) for one in types] for name in self.slot_names}
        step = tensor_of(make_input(STEP_TYPE, "variable"))
        packed = {name: pack(own) for name, own in slots.items()}
        new, new_slots = self.rule(pack(params), pack(grads), packed, step)
        outputs = [*unpack(new, types), *(one for name in slots for one in unpack(new_slots[name], types))]
        return [*(one for own in slots.values() for one in own), step], outputs


def check_variables(variables: Sequence[Any]) -> None:
    """Raise UsageError unless these are different variables of real or complex numbers."""
    for one in variables:
        if not isinstance(one, Variable) or not is_float(one.dtype):
            raise UsageError(f"to train {one!r}", "it is no variable of real numbers", "Give a list of fg.Variable.")
    if len(set(variables)) < len(variables):
        names = ", ".join(repr(one.name) for one in variables)
        raise UsageError(f"to train the variables {names}", "one of them is named twice", "Name each once.")


def given_gradients(name: str, pairs: Sequence[tuple[Any, Any]]) -> list[tuple[Tensor, Any]]:
    """The pairs that have a gradient, each as a tensor of the type of its variable, for a step of the optimizer `name`.

    Raises GradientError if no pair has one, ShapeError for a gradient of another shape than its variable.
    """
    given = [(_gradient_for(g, v), v) for g, v in pairs if g is not None]
    if not given:
        names = ", ".join(repr(v.name) for _, v in pairs) or "none"
        raise GradientError(
            f"a step of {name} on the variables {names}",
            "no gradient reaches any of them",
            "Compute the loss from the variables, inside the function, the tape or the graph.",
        )
    return given


def _gradient_for(g: Any, variable: Any) -> Tensor:
    given = convert(g)
    if given.shape != variable.shape:
        raise ShapeError(
            f"a step on the variable {variable.name!r} of shape {variable.shape}",
            f"its gradient has shape {given.shape}",
            "Pair each variable with its own gradient.",
        )
    return given if given.dtype == variable.dtype else given.astype(variable.dtype)


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
        shard: str | int | None = None,
    ) -> None:
        self.momentum, self.nesterov = fraction("momentum", momentum), bool(nesterov)
        if self.momentum:
            self.slot_names = ("momentum",)
        super().__init__(learning_rate, name, shard)

    def rule(self, p: Tensor, g: Tensor, slots: Mapping[str, Tensor], step: Tensor) -> tuple[Tensor, Slots]:
        """See the class."""
        rate = self.rate(step).astype(p.dtype)
        if not self.momentum:
            return p - g * rate, {}
        momentum = double(self.momentum).astype(p.dtype)
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
        shard: str | int | None = None,
    ) -> None:
        self.beta_1, self.beta_2 = fraction("beta_1", beta_1), fraction("beta_2", beta_2)
        self.epsilon = positive("epsilon", epsilon)
        super().__init__(learning_rate, name, shard)

    def rule(self, p: Tensor, g: Tensor, slots: Mapping[str, Tensor], step: Tensor) -> tuple[Tensor, Slots]:
        """See the class."""
        t = step.astype(np.float64) + 1
        beta_1, beta_2 = double(self.beta_1), double(self.beta_2)
        rate = (self.rate(step) * sqrt(1 - beta_2**t) / (1 - beta_1**t)).astype(p.dtype)
        m, v = slots["m"], slots["v"]
        m = m + (g - m) * (1 - beta_1).astype(p.dtype)
        v = v + (square(g) - v) * (1 - beta_2).astype(p.dtype)
        return p - m * rate / (sqrt(v) + double(self.epsilon).astype(p.dtype)), {"m": m, "v": v}


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
        """The rate at `step`, in double precision."""
        exponent = convert(step).astype(np.float64) * (1 / self.decay_steps)
        return double(self.initial_learning_rate) * double(self.decay_rate) ** exponent
