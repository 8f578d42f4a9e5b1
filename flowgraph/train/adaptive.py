"""Optimizers that measure each parameter's gradients, and give each a rate of its own, as Keras 3 writes them.

`t` counts steps from 1. Roots and powers are of each parameter by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flowgraph.ops.elementwise import abs as absolute, maximum, sign, sqrt, square
from flowgraph.tensor import Tensor
from flowgraph.train.optimizers import Adam, Optimizer, Slots, double, fraction, positive

Rate = float | Callable[[Tensor], Any]


def _not_negative(name: str, value: Any) -> float:
    return 0.0 if not isinstance(value, bool) and value == 0 else positive(name, value)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): p shrinks by rate * weight_decay * p first.

    >>> import flowgraph as fg
    >>> v = fg.Variable(1.0)
    >>> _ = fg.keras.optimizers.AdamW(0.1, weight_decay=0.5).minimize(lambda: v * v, var_list=[v])
    >>> round(float(v), 6)
    0.85
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "AdamW",
        shard: str | int | None = None,
    ) -> None:
        self.weight_decay = _not_negative("weight_decay", weight_decay)
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name, shard)

    def rule(self, p: Tensor, g: Tensor, slots: Mapping[str, Tensor], step: Tensor) -> tuple[Tensor, Slots]:
        """See the class."""
        return super().rule(p - p * (self.rate(step) * double(self.weight_decay)).astype(p.dtype), g, slots, step)


class Adamax(Optimizer):
    """Adam by the largest gradient (Kingma and Ba 2015, section 7.1).

        m = m + (1 - beta_1) * (g - m)            u = max(beta_2 * u, |g|)
        p = p - rate / (1 - beta_1**t) * m / (u + epsilon)

    >>> import flowgraph as fg
    >>> v = fg.Variable(1.0)
    >>> _ = fg.keras.optimizers.Adamax(0.1).minimize(lambda: v * v, var_list=[v])
    >>> round(float(v), 6)
    0.9
    """

    slot_names = ("m", "u")

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "Adamax",
        shard: str | int | None = None,
    ) -> None:
        self.beta_1, self.beta_2 = fraction("beta_1", beta_1), fraction("beta_2", beta_2)
        self.epsilon = positive("epsilon", epsilon)
        super().__init__(learning_rate, name, shard)

    def rule(self, p: Tensor, g: Tensor, slots: Mapping[str, Tensor], step: Tensor) -> tuple[Tensor, Slots]:
        """See the class."""
        beta_1, t = double(self.beta_1), step.astype(np.float64) + 1
        m = slots["m"] + (g - slots["m"]) * (1 - beta_1).astype(p.dtype)
        u = maximum(slots["u"] * double(self.beta_2).astype(p.dtype), absolute(g))
        rate = (self.rate(step) / (1 - beta_1**t)).astype(p.dtype)
        return p - m * rate / (u + double(self.epsilon).astype(p.dtype)), {"m": m, "u": u}


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of squares (Hinton 2012).

        v = rho * v + (1 - rho) * g**2            s = rate * g / sqrt(v + epsilon)            p = p - s

    With `centered`, v less the square of the running mean of g stands under the root; with `momentum`, m = momentum * m
    + s stands in the place of s.

    >>> import flowgraph as fg
    >>> v = fg.Variable(1.0)
    >>> _ = fg.keras.optimizers.RMSprop(0.1, rho=0.75).minimize(lambda: v * v, var_list=[v])
    >>> round(float(v), 6)
    0.8
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        name: str = "RMSprop",
        shard: str | int | None = None,
    ) -> None:
        self.rho, self.momentum = fraction("rho", rho), fraction("momentum", momentum)
        self.epsilon, self.centered = positive("epsilon", epsilon), bool(centered)
        self.slot_names = ("v", *(["mean"] if self.centered else []), *(["momentum"] if self.momentum else []))
        super().__init__(learning_rate, name, shard)

    def rule(self, p: Tensor, g: Tensor, slots: Mapping[str, Tensor], step: Tensor) -> tuple[Tensor, Slots]:
        """See the class."""
        rho, rest = (double(one).astype(p.dtype) for one in (self.rho, 1 - self.rho))
        new = {"v": slots["v"] * rho + square(g) * rest}
        under = new["v"]
        if self.centered:
            new["mean"] = slots["mean"] * rho + g * rest
            under = under - square(new["mean"])
        down = g * self.rate(step).astype(p.dtype) / sqrt(under + double(self.epsilon).astype(p.dtype))
        if self.momentum:
            down = new["momentum"] = slots["momentum"] * double(self.momentum).astype(p.dtype) + down
        return p - down, new


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squares so far (Duchi, Hazan and Singer 2011).

        total = total + g**2            p = p - rate * g / sqrt(initial_accumulator_value + total + epsilon)

    >>> import flowgraph as fg
    >>> v = fg.Variable(1.0)
    >>> _ = fg.keras.optimizers.Adagrad(0.1, initial_accumulator_value=0.0).minimize(lambda: v * v, var_list=[v])
    >>> round(float(v), 6)
    0.9
    """

    slot_names = ("total",)

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        name: str = "Adagrad",
        shard: str | int | None = None,
    ) -> None:
        self.initial_accumulator_value = _not_negative("initial_accumulator_value", initial_accumulator_value)
        self.epsilon = positive("epsilon", epsilon)
        super().__init__(learning_rate, name, shard)

    def rule(self, p: Tensor, g: Tensor, slots: Mapping[str, Tensor], step: Tensor) -> tuple[Tensor, Slots]:
        """See the class."""
        total = slots["total"] + square(g)
        floor = double(self.initial_accumulator_value + self.epsilon).astype(p.dtype)
        return p - g * self.rate(step).astype(p.dtype) / sqrt(total + floor), {"total": total}


class Adadelta(Optimizer):
    """Steps in the units of the parameters (Zeiler 2012): running means of squares of gradients and of steps.

        v = rho * v + (1 - rho) * g**2            s = sqrt((d + epsilon) / (v + epsilon)) * g
        d = rho * d + (1 - rho) * s**2            p = p - rate * s

    >>> import flowgraph as fg
    >>> v = fg.Variable(1.0)
    >>> _ = fg.keras.optimizers.Adadelta(1.0, rho=0.75, epsilon=0.01).minimize(lambda: v * v, var_list=[v])
    >>> round(float(v), 4)
    0.801
    """

    slot_names = ("v", "d")

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        name: str = "Adadelta",
        shard: str | int | None = None,
    ) -> None:
        self.rho, self.epsilon = fraction("rho", rho), positive("epsilon", epsilon)
        super().__init__(learning_rate, name, shard)

    def rule(self, p: Tensor, g: Tensor, slots: Mapping[str, Tensor], step: Tensor) -> tuple[Tensor, Slots]:
        """See the class."""
        rho, rest, epsilon = (double(one).astype(p.dtype) for one in (self.rho, 1 - self.rho, self.epsilon))
        v = slots["v"] * rho + square(g) * rest
        down = g * sqrt(slots["d"] + epsilon) / sqrt(v + epsilon)
        return p - down * self.rate(step).astype(p.dtype), {"v": v, "d": slots["d"] * rho + square(down) * rest}


class Lion(Optimizer):
    """Steps of one length, in the direction of a running mean (Chen et al. 2023).

        p = p - rate * sign(beta_1 * m + (1 - beta_1) * g)            m = beta_2 * m + (1 - beta_2) * g

    >>> import flowgraph as fg
    >>> v = fg.Variable(1.0)
    >>> _ = fg.keras.optimizers.Lion(0.1).minimize(lambda: v * v, var_list=[v])
    >>> round(float(v), 6)
    0.9
    """

    slot_names = ("m",)

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        name: str = "Lion",
        shard: str | int | None = None,
    ) -> None:
        self.beta_1, self.beta_2 = fraction("beta_1", beta_1), fraction("beta_2", beta_2)
        super().__init__(learning_rate, name, shard)

    def rule(self, p: Tensor, g: Tensor, slots: Mapping[str, Tensor], step: Tensor) -> tuple[Tensor, Slots]:
        """See the class."""
        m, rate = slots["m"], self.rate(step).astype(p.dtype)
        one, own = (double(beta).astype(p.dtype) for beta in (self.beta_1, 1 - self.beta_1))
        two, new = (double(beta).astype(p.dtype) for beta in (self.beta_2, 1 - self.beta_2))
        return p - sign(m * one + g * own) * rate, {"m": m * two + g * new}
