"""Every file of `examples/` runs as a script and prints what it should."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import run_script
from matplotlib import image

import flowgraph as fg

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]?\d+)?")


def output_of(path: Path, folder: Path) -> str:
    """What the script prints; it runs in an empty folder, and warnings are errors."""
    done = run_script(path, folder=folder, errors=[UserWarning, RuntimeWarning])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def numbers(text: str) -> list[float]:
    return [float(one) for one in NUMBER.findall(text)]


def check_custom_op(lines: list[str], folder: Path) -> None:
    first, last = numbers(lines[0])
    assert first > 1
    assert last < 1e-6
    np.testing.assert_allclose(numbers(lines[1]), [1.0, -2.0, 0.5], atol=2e-3)


ARTICLE_OUTPUT = """\
<fg.Tensor: shape=(2, 3), dtype=int32, numpy=
array([[3, 3, 3],
       [3, 3, 3]], dtype=int32)>
<fg.Variable 'Variable' shape=(6,) dtype=float32, numpy=array([1., 2., 3., 4., 5., 6.], dtype=float32)>
<fg.Variable 'Variable_1' shape=(1,) dtype=float32, numpy=array([1.], dtype=float32)>
<fg.Tensor: shape=(1,), dtype=int32, numpy=array([3], dtype=int32)>
<fg.Tensor: shape=(2,), dtype=int32, numpy=array([4, 6], dtype=int32)>
<fg.Tensor: shape=(2, 2), dtype=int32, numpy=
array([[ 6,  8],
       [10, 12]], dtype=int32)>
<fg.Tensor: shape=(2, 3), dtype=float32, numpy=
array([[1., 2., 3.],
       [4., 5., 6.]], dtype=float32)>
<fg.Tensor: shape=(4, 4), dtype=float32, numpy=
array([[2., 2., 2., 2.],
       [2., 2., 2., 2.],
       [2., 2., 2., 2.],
       [2., 2., 2., 2.]], dtype=float32)>
gradient of x*x at -1.0: -2.0
gradient of x*x at 1.0: 2.0
gradient of x*x at 0.0: 0.0
"""


def check_tensorflow_article(lines: list[str], folder: Path) -> None:
    text = "\n".join(lines) + "\n"
    assert text.startswith(ARTICLE_OUTPUT)
    images = [
        int(one) for one in re.findall(r"(?<=[\[ ])\d+(?=[,\]])", text[len(ARTICLE_OUTPUT) : text.index("loss every")])
    ]
    assert len(images) == 4 + 12
    assert all(0 <= one < 255 for one in images)
    at_rates = [float(line) for line in lines[-4:-2]]
    np.testing.assert_allclose(at_rates, [1.6664679, 0.29396924], rtol=1e-6)
    expected = [
        39.094223616, 30.128930221, 29.732165607, 29.052301452, 28.905815545, 28.888535872, 28.886223356, 28.886659233,
        28.884825672, 28.882883962,
    ]  # fmt: skip
    np.testing.assert_allclose(numbers(lines[-2]), expected, rtol=2e-5)
    np.testing.assert_allclose(numbers(lines[-1]), [2.4898539525, 9.7748928098], rtol=2e-5)
    picture = image.imread(folder / "student_scores.png")
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 10  # not empty


def check_rnn(lines: list[str], folder: Path) -> None:
    first, last = numbers(lines[0])
    assert first > 0.3
    assert last < 0.01
    first, last = numbers(lines[1])
    assert first > 0.3
    assert last < 0.05
    (after,) = numbers(lines[2])
    assert after < last


def check_newton(lines: list[str], folder: Path) -> None:
    _, residual = numbers(lines[0])
    assert residual < 1e-12
    through, implicit = numbers(lines[1])
    np.testing.assert_allclose(through, implicit, rtol=1e-9)
    np.testing.assert_allclose(numbers(lines[2]), numbers(lines[3]), rtol=1e-6)


def check_ridge_of_sklearn(lines: list[str], folder: Path) -> None:
    assert lines[0] == "kinds: Tensor Tensor"
    np.testing.assert_allclose(numbers(lines[1]), numbers(lines[2]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numbers(lines[1]), [1, -2, 3, 0, 0.5, 4], atol=0.02)
    np.testing.assert_allclose(numbers(lines[3]), numbers(lines[4]), rtol=1e-4)


def check_data_parallel(lines: list[str], folder: Path) -> None:
    first, last = numbers(lines[0])
    assert last < 0.7 * first
    assert lines[1:] == [f"{shards} shards on 2 processes: same bits True" for shards in (2, 5)]


def check_tensor_parallel(lines: list[str], folder: Path) -> None:
    assert lines[0] == "a weight of 34 MB on workers of 280MB"
    assert lines[1] == "whole: 1 workers died while they had it"
    _, first, last = numbers(lines[2])
    assert last < first
    assert lines[3] == "same bits as on one thread: True"


def check_pipeline(lines: list[str], folder: Path) -> None:
    for stage, line in enumerate(lines[:4]):
        assert line.startswith(f"stage {stage}: ")
        order = line.split(": ")[1].split()
        assert sorted(order) == [f"{letter}{batch}" for letter in "BF" for batch in range(8)]
        inside = 0
        for one in order:
            inside += 1 if one[0] == "F" else -1
            assert inside <= 4 - stage
    first, last = numbers(lines[4])
    assert last < first
    assert lines[5] == "same bits as on one thread: True"


def check_gradient_of_dask(lines: list[str], folder: Path) -> None:
    assert lines[0] == "lazy: True, chunks read so far: 0"
    assert lines[1] == "chunks: 7, read: 7, rows read: 200000"
    assert numbers(lines[3])[0] < 1e-9
    assert lines[4] == "same bits as on one thread: True"


CHECKS: dict[str, Any] = {
    "custom_op": check_custom_op,
    "data_parallel": check_data_parallel,
    "gradient_of_dask": check_gradient_of_dask,
    "newton": check_newton,
    "ridge_of_sklearn": check_ridge_of_sklearn,
    "pipeline": check_pipeline,
    "rnn": check_rnn,
    "tensor_parallel": check_tensor_parallel,
    "tensorflow_article": check_tensorflow_article,
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_should(path: Path, tmp_path: Path) -> None:
    lines = output_of(path, tmp_path).splitlines()
    assert path.stem in CHECKS, "a new example needs a check of what it prints"
    start = next((number for number, line in enumerate(lines) if line.startswith("stage  ")), len(lines))
    CHECKS[path.stem](lines[:start], tmp_path)
    said = re.search(rf"\(examples/{path.stem}\.py\) prints at its end:\n\n```text\n(.*?)\n```", README, re.DOTALL)
    assert exact(lines[start:]) == exact(said[1].splitlines() if said else [])


def exact(table: list[str]) -> list[list[str]]:
    """What is alike on all machines of a table: names of stages, tasks, operations, notes, and the peak of the total.

    Other bytes may be those of kernels, in which the path of the example stands.
    """
    wide = [re.split("  +", line) for line in table if "predicted roughly" not in line]
    return [[*cells[:3], *(cells[4:5] if cells[0] == "total" else [])] for cells in wide]


# What TensorFlow 2 calls by these names too.
TENSORFLOW = {
    "constant", "Variable", "add", "multiply", "matmul", "ones", "reshape", "cast", "GradientTape", "float32", "Tensor",
    "random.uniform", "keras.losses.mse", "keras.optimizers.Adam",
}  # fmt: skip


def dotted(node: ast.AST) -> str:
    """`tf.keras.losses.mse` as text; "" for what is no name."""
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr}" if left else ""
    return node.id if isinstance(node, ast.Name) else ""


def test_only_the_import_differs_from_tensorflow() -> None:
    source = (ROOT / "examples" / "tensorflow_article.py").read_text(encoding="utf-8")
    assert source.count("flowgraph") == 1
    assert "import flowgraph as tf\n" in source
    tree = ast.parse(source)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used = {dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and id(node) not in inner}
    names = {one.removeprefix("tf.") for one in used if one.startswith("tf.")}
    names |= set(re.findall(r"tf\.(\w+)(?=[,\]\"])", source)) - {"keras", "random"}
    assert names <= TENSORFLOW
    assert {"GradientTape", "keras.losses.mse", "keras.optimizers.Adam", "random.uniform"} <= names
    for name in TENSORFLOW:
        value: Any = fg
        for part in name.split("."):
            value = getattr(value, part)


def test_the_reference_in_the_readme_is_that_of_the_table() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "reference.py", "--check"], check=False, cwd=ROOT)
    assert done.returncode == 0, "run `python scripts/reference.py`"
