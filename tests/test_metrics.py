"""keras.metrics and the losses of classes: values by hand in numpy, weights, state, gradients, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import ShapeError, UsageError

metrics, losses = fg.keras.metrics, fg.keras.losses
TRUE = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
PRED = np.array([[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]], np.float32)
SHARES = PRED.astype(np.float64)
EXPECTED: dict[str, Any] = {
    "binary_crossentropy": -(TRUE * np.log(SHARES) + (1 - TRUE) * np.log(1 - SHARES)).mean(-1),
    "categorical_crossentropy": -(TRUE * np.log(SHARES)).sum(-1),
    "cosine_similarity": -(TRUE * SHARES).sum(-1) / np.sqrt((SHARES**2).sum(-1)),
    "hinge": np.maximum(1 - (2 * TRUE - 1) * SHARES, 0).mean(-1),
    "squared_hinge": (np.maximum(1 - (2 * TRUE - 1) * SHARES, 0) ** 2).mean(-1),
    "kl_divergence": (TRUE * np.log(np.maximum(TRUE, 1e-7) / SHARES)).sum(-1),
    "log_cosh": np.log(np.cosh(SHARES - TRUE)).mean(-1),
    "poisson": (SHARES - TRUE * np.log(SHARES)).mean(-1),
}
CLASSES = {
    "binary_crossentropy": "BinaryCrossentropy",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "cosine_similarity": "CosineSimilarity",
    "hinge": "Hinge",
    "squared_hinge": "SquaredHinge",
    "kl_divergence": "KLDivergence",
    "log_cosh": "LogCosh",
    "poisson": "Poisson",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_losses_are_their_formulas(name: str) -> None:
    function, made = getattr(losses, name), getattr(losses, CLASSES[name])()
    np.testing.assert_allclose(function(TRUE, PRED).numpy(), EXPECTED[name], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(float(made(TRUE, PRED)), EXPECTED[name].mean(), rtol=1e-5, atol=2e-6)
    weighted = float(made(TRUE, PRED, sample_weight=[1.0, 0.0]))
    np.testing.assert_allclose(weighted, EXPECTED[name][0] / 2, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", EXPECTED)
def test_gradients_of_losses_are_differences(name: str) -> None:
    function = getattr(losses, name)
    found = fg.grad(lambda p: fg.sum(function(TRUE.astype(float), p)))(fg.constant(SHARES)).numpy()
    for place in np.ndindex(2, 3):
        step = np.zeros((2, 3))
        step[place] = 1e-6
        up, down = (float(fg.sum(function(TRUE.astype(float), SHARES + sign * step))) for sign in (1, -1))
        np.testing.assert_allclose(found[place], (up - down) / 2e-6, rtol=1e-5, atol=1e-6)


def test_logits_and_probabilities_agree() -> None:
    logits = np.log(SHARES)
    odds = np.log(SHARES / (1 - SHARES))
    for labels in ([1, 0], [[1.0], [0.0]]):
        sparse = losses.sparse_categorical_crossentropy(labels, SHARES)
        np.testing.assert_allclose(sparse.numpy(), EXPECTED["categorical_crossentropy"], rtol=1e-5)
        sparse = losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        np.testing.assert_allclose(sparse.numpy(), EXPECTED["categorical_crossentropy"], rtol=1e-5)
    found = losses.categorical_crossentropy(TRUE, logits, from_logits=True)
    np.testing.assert_allclose(found.numpy(), EXPECTED["categorical_crossentropy"], rtol=1e-5)
    found = losses.binary_crossentropy(TRUE, odds, from_logits=True)
    np.testing.assert_allclose(found.numpy(), EXPECTED["binary_crossentropy"], rtol=1e-5)
    assert np.isnan(losses.sparse_categorical_crossentropy([3, 0], SHARES).numpy()[0])


def test_labels_are_smoothed() -> None:
    found = losses.categorical_crossentropy(TRUE, SHARES, label_smoothing=0.3)
    np.testing.assert_allclose(found.numpy(), -((0.7 * TRUE + 0.1) * np.log(SHARES)).sum(-1), rtol=1e-5)
    found = losses.binary_crossentropy([1.0], [0.25], label_smoothing=0.5)
    np.testing.assert_allclose(float(found), -(0.75 * np.log(0.25) + 0.25 * np.log(0.75)), rtol=1e-5)
    with pytest.raises(UsageError, match="label_smoothing"):
        losses.binary_crossentropy([1.0], [0.5], label_smoothing=2.0)


def test_certain_predictions_cost_a_finite_number() -> None:
    assert 15 < float(losses.binary_crossentropy([1.0], [0.0])) < 17
    assert 15 < float(losses.categorical_crossentropy([1.0, 0.0], [0.0, 1.0])) < 17


CASES: dict[str, tuple[Any, Any, list[float]]] = {
    "MeanSquaredError": (TRUE, PRED, list(((TRUE - SHARES) ** 2).mean(-1))),
    "MeanAbsoluteError": (TRUE, PRED, list(np.abs(TRUE - SHARES).mean(-1))),
    "BinaryAccuracy": ([[1.0, 0.0], [1.0, 1.0]], [[0.9, 0.6], [0.7, 0.8]], [0.5, 1.0]),
    "CategoricalAccuracy": (TRUE, PRED, [1.0, 0.0]),
    "SparseCategoricalAccuracy": ([1, 0], PRED, [1.0, 0.0]),
    "Accuracy": ([1, 2], [1, 3], [1.0, 0.0]),
}


@pytest.mark.parametrize("name", CASES)
def test_metrics_are_weighted_means_over_batches(name: str) -> None:
    true, pred, each = CASES[name]
    metric = getattr(metrics, name)()
    assert float(metric.result()) == 0.0
    metric.update_state(true, pred)
    np.testing.assert_allclose(float(metric.result()), np.mean(each), rtol=1e-5)
    metric.update_state(true, pred, sample_weight=[3.0, 0.0])
    np.testing.assert_allclose(float(metric.result()), (4 * each[0] + each[1]) / 5, rtol=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0.0
    assert metric.result().dtype == np.float32


def test_root_of_the_mean_sum_and_mean() -> None:
    root = metrics.RootMeanSquaredError()
    root.update_state([[0.0], [0.0]], [[3.0], [1.0]], sample_weight=[[1.0], [3.0]])
    np.testing.assert_allclose(float(root.result()), np.sqrt(3.0))
    total, mean = metrics.Sum(), metrics.Mean(name="m")
    for batch in ([1.0, 2.0], [[3.0], [4.0]]):
        total.update_state(batch)
        mean.update_state(batch, sample_weight=[1.0, 0.0])
    assert float(total.result()) == 10.0
    assert float(mean.result()) == 2.0
    assert repr(mean) == "Mean(name='m')"
    mean.reset_state()
    mean.update_state([np.nan, 2.0], sample_weight=[0.0, 1.0])
    assert float(mean.result()) == 2.0
    with pytest.raises(ShapeError, match="sample_weight"):
        mean.update_state(1.0, sample_weight=[[1.0], [2.0]])


def test_a_metric_in_a_compiled_function() -> None:
    metric = metrics.Mean()

    @fg.function
    def step(x: Any) -> Any:
        metric.update_state(x)
        return fg.sum(x)

    for batch in ([1.0, 2.0], [3.0, 6.0]):
        step(fg.constant(batch))
    assert float(metric.result()) == 3.0


# Right and wrong.


def drawn_predictions() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, 300).astype(np.float32)
    pred = np.clip(0.3 * true + 0.8 * rng.random(300), 0, 1).astype(np.float32)
    weight = rng.random(300).astype(np.float32)
    pred[:20] = np.round(pred[:20], 1)
    weight[:100] = 1
    return true, pred, weight


# Of the same numbers, by TensorFlow 2.21.
CONFUSION: dict[str, tuple[Any, Any]] = {
    "TruePositives": (metrics.TruePositives, 82.68045),
    "FalsePositives": (metrics.FalsePositives, 38.57575),
    "TrueNegatives": (metrics.TrueNegatives, 49.4174),
    "FalseNegatives": (lambda: metrics.FalseNegatives([0.3, 0.4]), [2.0, 12.853252]),
    "Precision": (metrics.Precision, 0.6818658),
    "Precision of several": (lambda: metrics.Precision([0.2, 0.5, 0.9]), [0.62003106, 0.6818658, 1.0]),
    "Recall": (metrics.Recall, 0.75521606),
    "AUC": (metrics.AUC, 0.7912166),
    "AUC of few": (lambda: metrics.AUC(num_thresholds=10), 0.7906926),
    "AUC of precision": (lambda: metrics.AUC(curve="PR"), 0.8448831),
    "AUC of precision of few": (lambda: metrics.AUC(num_thresholds=5, curve="PR"), 0.78762496),
}


@pytest.mark.parametrize("name", CONFUSION)
def test_what_is_right_and_wrong(name: str) -> None:
    make, expected = CONFUSION[name]
    metric, (true, pred, weight) = make(), drawn_predictions()
    assert not np.any(metric.result().numpy())
    metric.update_state(true[:100], pred[:100])
    metric.update_state(true[100:, None], pred[100:, None], sample_weight=weight[100:])
    np.testing.assert_allclose(metric.result().numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(make()(true, fg.shard(pred, rows=3), weight).numpy(), expected, rtol=1e-6)
    metric.reset_state()
    assert not np.any(metric.result().numpy())


def test_the_area_is_that_of_all_pairs_where_the_thresholds_part_them() -> None:
    rng = np.random.default_rng(1)
    true, pred = rng.integers(0, 2, 150), rng.integers(0, 199, 150) / 199 + 0.5 / 199
    ones, zeros = pred[true == 1][:, None], pred[true == 0]
    pairs = np.mean((ones > zeros) + 0.5 * (ones == zeros))
    assert float(metrics.AUC()(true.astype(float), pred)) == pytest.approx(pairs, rel=1e-6)


def test_a_prediction_that_is_no_number_is_not_positive() -> None:
    assert float(metrics.TruePositives()([1.0, 1.0], [np.nan, 0.9])) == 1.0
    assert float(metrics.FalseNegatives()([1.0, 1.0], [np.nan, 0.9])) == 1.0


@pytest.mark.parametrize("wrong", [
    lambda: metrics.Precision([0.5, 0.2]), lambda: metrics.Recall([]), lambda: metrics.AUC(curve="ROCK"),
    lambda: metrics.AUC(num_thresholds=1), lambda: metrics.Recall(float("nan")),
])  # fmt: skip
def test_thresholds_and_curves_that_are_none(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()
