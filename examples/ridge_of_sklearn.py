"""scikit-learn's ridge regression on tensors, through the Python array API standard.

`array_api_dispatch` makes scikit-learn ask its operands for their functions. It needs SCIPY_ARRAY_API=1 in the
environment before scipy is imported.
"""

from __future__ import annotations

import os

os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np
import sklearn
from sklearn.linear_model import Ridge

import flowgraph as fg


def data() -> tuple[np.ndarray, np.ndarray]:
    """Rows of five features, and a target that depends on them linearly but for some noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 5)).astype(np.float32)
    y = x @ np.array([1, -2, 3, 0, 0.5], np.float32) + 4 + rng.normal(scale=0.1, size=1000).astype(np.float32)
    return x, y.astype(np.float32)


if __name__ == "__main__":
    x, y = data()
    with sklearn.config_context(array_api_dispatch=True):
        model = Ridge(alpha=0.1, solver="svd").fit(fg.constant(x), fg.constant(y))
        predicted = model.predict(fg.constant(x[:3]))
    by_numpy = Ridge(alpha=0.1, solver="svd").fit(x, y)
    print("kinds:", type(model.coef_).__name__, type(predicted).__name__)
    print("coefficients on tensors:", model.coef_.tolist(), float(model.intercept_))
    print("coefficients on arrays: ", by_numpy.coef_.tolist(), float(by_numpy.intercept_))
    print("predictions on tensors:", predicted.tolist())
    print("predictions on arrays: ", by_numpy.predict(x[:3]).tolist())
