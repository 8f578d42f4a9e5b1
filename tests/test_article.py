"""The numbers of the article that the losses and optimizers were checked against."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning import Adam, losses

import flowgraph as fg

# The numbers of the article.

ARTICLE = [
    39.094223616, 30.128930221, 29.732165607, 29.052301452, 28.905815545, 28.888535872, 28.886223356, 28.886659233,
    28.884825672, 28.882883962,
]  # fmt: skip


def article() -> Any:
    path = Path(__file__).resolve().parent.parent / "examples" / "tensorflow_article.py"
    spec = importlib.util.spec_from_file_location("article_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 2e-5)])
def test_the_article(dtype: Any, rtol: float) -> None:
    found, intercept, slope = article().train(dtype)
    np.testing.assert_allclose(found, ARTICLE, rtol=rtol)
    np.testing.assert_allclose([float(intercept), float(slope)], [2.4898539525, 9.7748928098], rtol=rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 2e-5)])
def test_the_article_by_fit(dtype: Any, rtol: float) -> None:
    hours, scores, _ = article().load(dtype)
    intercept, slope = fg.Variable(1.0, dtype=dtype), fg.Variable(10.0, dtype=dtype)
    history = fg.fit(
        lambda x, y: losses.mse(y, intercept + x * slope),
        (hours, scores),
        variables=[intercept, slope],
        optimizer=Adam(0.5),
        steps=100,
    )
    np.testing.assert_allclose(history.losses[1::10], ARTICLE, rtol=rtol)
    np.testing.assert_allclose([float(intercept), float(slope)], [2.4898539525, 9.7748928098], rtol=rtol)
