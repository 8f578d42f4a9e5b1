"""`minimize`: its steps run as one program each, whatever the loss does, and agree with a tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import flowgraph as fg

Array = np.ndarray[Any, Any]


def recorded_steps(optimizer: Any) -> int:
    return sum(one is not None for one in optimizer._recorded.values())


def trained(loss: Callable[[], Any], variables: Sequence[fg.Variable], through_tape: bool) -> list[Array]:
    """The variables after five steps of Adam: by `minimize`, or by a tape and `apply_gradients`."""
    optimizer = fg.keras.optimizers.Adam(0.1)
    for _ in range(5):
        if through_tape:
            with fg.GradientTape() as tape:
                value = loss()
            grads = tape.gradient(value, variables)
            optimizer.apply_gradients([(g, v) for g, v in zip(grads, variables, strict=True) if g is not None])
        else:
            optimizer.minimize(loss, var_list=variables)
    return [one.numpy().copy() for one in variables]


def losses_of_every_kind(case: str) -> tuple[Callable[[], Any], list[fg.Variable], bool]:
    """(loss, variables, whether `minimize` can find its program again)."""
    x = fg.constant([1.0, 2.0, -1.0])
    a, b = fg.Variable([0.5, -0.3, 0.2]), fg.Variable(2.0)
    count = fg.Variable(0.0, trainable=False)
    kept: list[Any] = []

    def watched_inside() -> Any:
        part = a * x
        kept.append(part)
        return fg.sum(fg.square(part - b))

    def looked_at_inside() -> Any:
        part = a * x
        assert part.numpy().shape == (3,)
        return fg.sum(fg.square(part - b))

    def assigns_inside() -> Any:
        first = fg.sum(a * a)
        a.assign(a * 0.5)
        return first + fg.sum(a * x) + b * b

    def counts() -> Any:
        count.assign_add(1.0)
        return fg.sum(fg.square(a * x - b)) * count

    traced = fg.function(lambda p, q: fg.sum(p * p) * q)
    outside = fg.exp(b * 0 + x)
    cases: dict[str, tuple[Callable[[], Any], bool]] = {
        "plain": (lambda: fg.sum(fg.square(a * x - b)), True),
        "a vector": (lambda: fg.square(a * x - b), True),
        "a tensor held": (watched_inside, True),
        "a tensor looked at": (looked_at_inside, False),
        "a variable assigned": (assigns_inside, False),
        "another variable assigned": (counts, True),
        "no gradient for one": (lambda: fg.sum(a * a), False),
        "a tensor from outside that waits": (lambda: fg.sum(a * outside) + b * b, False),
        "a traced function": (lambda: traced(a, x[0]) + b * b, True),
        "numbers that change": (lambda: fg.sum(a * a) * float(len(kept)) + b * b, True),
        "a part": (lambda: a[0] * a[0] + fg.sum(fg.square(a[1:] - b)), True),
        "a part of a part": (lambda: fg.square(a[1:][0] - 1.0) * b, True),
        "rows by their numbers": (lambda: fg.sum(fg.square(fg.gather(a, [2, 0, 2]) - b)), True),
    }
    loss, found = cases[case]
    return loss, [a, b], found


@pytest.mark.parametrize(
    "case",
    ["plain", "a vector", "a tensor held", "a tensor looked at", "a variable assigned", "another variable assigned",
     "no gradient for one", "a tensor from outside that waits", "a traced function", "numbers that change",
     "a part", "a part of a part", "rows by their numbers"],
)  # fmt: skip
def test_minimize_agrees_with_a_tape_whatever_the_loss_does(case: str) -> None:
    loss, variables, found = losses_of_every_kind(case)
    by_minimize = trained(loss, variables, through_tape=False)
    loss, variables, _ = losses_of_every_kind(case)
    by_tape = trained(loss, variables, through_tape=True)
    for one, other in zip(by_minimize, by_tape, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    optimizer = fg.keras.optimizers.Adam(0.1)
    loss, variables, _ = losses_of_every_kind(case)
    optimizer.minimize(loss, var_list=variables)
    assert recorded_steps(optimizer) == int(found)


def test_minimize_finds_its_program_again_with_other_numbers_and_rates() -> None:
    v = fg.Variable(1.0)
    optimizer = fg.keras.optimizers.SGD(0.1)
    for rate, factor in ((0.1, 3.0), (0.2, 5.0), (0.3, 7.0)):
        before = float(v)
        optimizer.learning_rate = rate
        optimizer.minimize(lambda factor=factor: v * factor, var_list=[v])
        assert float(v) == pytest.approx(before - rate * factor, rel=1e-6)
    assert recorded_steps(optimizer) == 1
    assert int(optimizer.iterations) == 3


def test_minimize_of_a_part_finds_its_program_again() -> None:
    table = fg.Variable(np.ones((4, 2), np.float32))
    optimizer = fg.keras.optimizers.SGD(0.5)
    for _ in range(3):
        optimizer.minimize(lambda: fg.sum(table[1]), var_list=[table])
    assert recorded_steps(optimizer) == 1
    assert table.numpy().tolist() == [[1.0, 1.0], [-0.5, -0.5], [1.0, 1.0], [1.0, 1.0]]


def test_a_tensor_that_the_loss_keeps_has_its_value_after_the_step() -> None:
    v, kept = fg.Variable(3.0), []

    def loss() -> Any:
        kept.append(v * v)
        return kept[-1]

    fg.keras.optimizers.SGD(0.1).minimize(loss, var_list=[v])
    assert kept[0].node.memo is not None
    assert float(kept[0]) == 9.0


def test_minimize_under_a_tape_can_be_differentiated() -> None:
    v, w = fg.Variable(3.0), fg.Variable(2.0)
    optimizer = fg.keras.optimizers.SGD(0.1)
    with fg.GradientTape() as tape:
        optimizer.minimize(lambda: v * v * w, var_list=[v])
        after = v * w
    assert float(tape.gradient(after, w)) == pytest.approx(3.0 - 0.1 * 12.0)
    assert recorded_steps(optimizer) == 0


def test_variables_of_two_dtypes_train_together() -> None:
    a, b = fg.Variable(1.0), fg.Variable(2.0, dtype=np.float64)
    optimizer = fg.keras.optimizers.SGD(0.1)
    optimizer.minimize(lambda: fg.cast(a * a, np.float64) + b * b, var_list=[a, b])
    assert (float(a), float(b)) == (pytest.approx(0.8), pytest.approx(1.6))
