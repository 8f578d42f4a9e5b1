"""The README's sentences, each as a test; the first to run."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowgraph as fg

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def space() -> dict[str, Any]:
    """The names that the examples leave, and under "told" what each printed."""
    names: dict[str, Any] = {}
    told = []
    for block in BLOCKS:
        with redirect_stdout(StringIO()) as out:
            exec(block, names)
        told.append(out.getvalue().splitlines())
    return {**names, "told": told}


def test_the_examples_print_what_they_say(space: dict[str, Any]) -> None:
    for block, told in zip(BLOCKS, space["told"], strict=True):
        assert told == [line.partition("# ")[2] for line in block.splitlines() if line.startswith("print(")]


def test_the_explanation_is_that_of_the_example(space: dict[str, Any]) -> None:
    call, said = re.findall(r"```text\n>>> (.*?)\n(.*?)```", README, flags=re.DOTALL)[0]
    with fg.Mesh(data=8, model=2):
        found = str(eval(call, space)).splitlines()
    exact = {tuple(re.split("  +", line)[:3]) for line in found}  # other figures are measured, or a matter of chance
    lines = [line for line in said.splitlines() if line != "..." and "predicted roughly" not in line]
    assert [line for line in lines if tuple(re.split("  +", line)[:3]) not in exact] == []


def test_the_import_can_be_changed() -> None:
    tf = fg
    x = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    assert tf.reduce_sum(tf.matmul(x, tf.ones([2, 2]))).numpy() == 20.0


def test_kernels_are_readable_and_pass_over_the_data_once() -> None:
    step = fg.function(fg.value_and_grad(lambda w: fg.mean(fg.square(fg.asarray(np.ones((40_000, 2), "f4")) @ w))))
    source = step.program(np.zeros((2, 1), "f4")).source()
    loop = source[source.index("def loop_0") :].partition("\n\n")[0]
    assert loop.count(".tile(") == 1
    assert loop.count("matmul(") == 2  # forward and backward in one loop


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 16])
def test_the_same_bits_however_rows_are_cut(shards: int) -> None:
    x = np.random.default_rng(0).standard_normal((200_000, 3)).astype("f4")
    w = np.array([[1.0], [2.0], [3.0]], "f4")

    def loss(w: fg.Tensor, data: fg.Tensor) -> fg.Tensor:
        return fg.mean(fg.square(data @ w - 1))

    value, slope = fg.value_and_grad(loss)(w, fg.shard(fg.asarray(x), rows=shards))
    expected, expected_slope = fg.value_and_grad(loss)(w, fg.asarray(x))
    assert value.numpy() == expected.numpy()
    assert np.array_equal(slope.numpy(), expected_slope.numpy())
    np.testing.assert_allclose(slope.numpy(), 2 * x.T @ (x @ w - 1) / len(x), rtol=1e-4)


def test_gradients_nest() -> None:
    assert float(fg.grad(fg.grad(lambda x: x**3))(2.0)) == 12.0


def test_errors_say_asked_found_and_remedy() -> None:
    with pytest.raises(fg.errors.ShapeError, match=r"asked: .*\nfound: .*\nremedy: "):
        fg.ones([2, 3]) @ fg.ones([2, 3])
