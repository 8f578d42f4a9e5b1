"""Losses of classes and of distributions, by Keras's names and definitions; the classes weigh and reduce as `Loss`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flowgraph.apply import convert
from flowgraph.errors import UsageError
from flowgraph.ops.elementwise import divide, log, maximum, softplus, square, where
from flowgraph.ops.normalisation import (
    l2_normalize,
    one_of,
    sigmoid_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits,
    sparse_softmax_cross_entropy_with_logits,
)
from flowgraph.ops.reduce import all as every, mean, sum
from flowgraph.ops.rounding import clip
from flowgraph.ops.shape import size, squeeze
from flowgraph.tensor import Tensor
from flowgraph.train.losses import Loss, pair

EPSILON = 1e-7
"""How close to 0 and to 1 a probability may come, as in Keras."""


def _smoothing(label_smoothing: Any, name: str) -> float:
    if not isinstance(label_smoothing, int | float) or not 0 <= label_smoothing <= 1:
        raise UsageError(f"{name} with label_smoothing={label_smoothing!r}", "it is a share", "Give 0 to 1.")
    return float(label_smoothing)


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """-y log(p) - (1 - y) log(1 - p), averaged over `axis`; p are probabilities, or logits if `from_logits`.

    Label smoothing draws the labels towards 1/2 by its share.

    >>> import flowgraph as fg
    >>> round(float(fg.keras.losses.binary_crossentropy([1.0, 0.0], [0.5, 0.5])), 4)
    0.6931
    """
    true, pred = pair(y_true, y_pred, "binary_crossentropy")
    smooth = _smoothing(label_smoothing, "binary_crossentropy")
    true = true * (1 - smooth) + 0.5 * smooth if smooth else true
    if from_logits:
        return mean(sigmoid_cross_entropy_with_logits(true, pred), axis=axis)
    near = clip(pred, EPSILON, 1 - EPSILON)
    return mean(-(true * log(near) + (1 - true) * log(1 - near)), axis=axis)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """-sum(y log(p)) along `axis`; p are probabilities, divided by their sum, or logits if `from_logits`.

    >>> import flowgraph as fg
    >>> round(float(fg.keras.losses.categorical_crossentropy([0.0, 1.0], [0.5, 0.5])), 4)
    0.6931
    """
    true, pred = pair(y_true, y_pred, "categorical_crossentropy")
    smooth = _smoothing(label_smoothing, "categorical_crossentropy")
    true = true * (1 - smooth) + smooth / size(true, axes=(axis,), dtype=true.dtype) if smooth else true
    if from_logits:
        return softmax_cross_entropy_with_logits(true, pred, axis=axis)
    share = clip(pred / sum(pred, axis=axis, keepdims=True), EPSILON, 1 - EPSILON)
    return -sum(true * log(share), axis=axis)  # type: ignore[no-any-return]


def sparse_categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Tensor:
    """-log(p) of the class that `y_true` names, classes along the last axis; p are probabilities, or logits.

    >>> import flowgraph as fg
    >>> round(float(fg.keras.losses.sparse_categorical_crossentropy(1, [0.5, 0.5])), 4)
    0.6931
    """
    true, pred = class_numbers(y_true, y_pred), convert(y_pred)
    if from_logits:
        return sparse_softmax_cross_entropy_with_logits(true, pred)
    share = clip(pred / sum(pred, axis=-1, keepdims=True), EPSILON, 1 - EPSILON)
    matches = one_of(true, share)
    costs = sum(where(matches, -log(share), 0), axis=-1)
    return where(sum(matches, axis=-1) == 1, costs, math.nan)  # type: ignore[no-any-return]


def class_numbers(y_true: Any, y_pred: Any) -> Tensor:
    """The numbers of classes in `y_true` as integers, without a last axis of length 1 that `y_pred` has its classes in.

    >>> class_numbers([[1.0], [0.0]], [[0.5, 0.5], [0.5, 0.5]]).tolist()
    [1, 0]
    """
    true, pred = convert(y_true), convert(y_pred)
    if true.ndim and true.ndim == pred.ndim and true.shape[-1] == 1:
        true = squeeze(true, axis=-1)
    return true if true.dtype.kind in "iu" else true.astype("int64")


def _signs(true: Tensor) -> Tensor:
    """Labels of 0 and 1 as -1 and 1; others, which are -1 and 1 already, as they are."""
    return where(every((true == 0) | (true == 1)), 2 * true - 1, true)  # type: ignore[no-any-return]


def hinge(y_true: Any, y_pred: Any) -> Tensor:
    """The mean of max(1 - y_true * y_pred, 0) over the last axis; labels are -1 and 1, or 0 and 1.

    >>> import flowgraph as fg
    >>> float(fg.keras.losses.hinge([0.0, 1.0], [-2.0, 0.0]))
    0.5
    """
    true, pred = pair(y_true, y_pred, "hinge")
    return mean(maximum(1 - _signs(true) * pred, 0), axis=-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """The mean of max(1 - y_true * y_pred, 0)**2 over the last axis; labels are -1 and 1, or 0 and 1.

    >>> import flowgraph as fg
    >>> float(fg.keras.losses.squared_hinge([0.0, 1.0], [1.0, 1.0]))
    2.0
    """
    true, pred = pair(y_true, y_pred, "squared_hinge")
    return mean(square(maximum(1 - _signs(true) * pred, 0)), axis=-1)


def log_cosh(y_true: Any, y_pred: Any) -> Tensor:
    """The mean of log(cosh(y_pred - y_true)) over the last axis, without overflow: r + softplus(-2 r) - log(2).

    >>> import flowgraph as fg
    >>> round(float(fg.keras.losses.log_cosh([0.0], [1000.0])), 2)
    999.31
    """
    true, pred = pair(y_true, y_pred, "log_cosh")
    error = pred - true
    return mean(error + softplus(-2 * error) - math.log(2), axis=-1)


def kl_divergence(y_true: Any, y_pred: Any) -> Tensor:
    """The sum of y_true log(y_true / y_pred) over the last axis.

    >>> import flowgraph as fg
    >>> float(fg.keras.losses.kl_divergence([0.5, 0.5], [0.5, 0.5]))
    0.0
    """
    true, pred = pair(y_true, y_pred, "kl_divergence")
    true, pred = clip(true, EPSILON, 1), clip(pred, EPSILON, 1)
    return sum(true * log(divide(true, pred)), axis=-1)  # type: ignore[no-any-return]


def poisson(y_true: Any, y_pred: Any) -> Tensor:
    """The mean of y_pred - y_true log(y_pred) over the last axis.

    >>> import flowgraph as fg
    >>> round(float(fg.keras.losses.poisson([3.0], [1.0])), 4)
    1.0
    """
    true, pred = pair(y_true, y_pred, "poisson")
    return mean(pred - true * log(pred + EPSILON), axis=-1)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Minus the cosine of the angle between the vectors along `axis`: -1 for vectors of one direction.

    >>> import flowgraph as fg
    >>> float(fg.keras.losses.cosine_similarity([0.0, 2.0], [0.0, 3.0]))
    -1.0
    """
    true, pred = pair(y_true, y_pred, "cosine_similarity")
    return -sum(l2_normalize(true, axis=axis) * l2_normalize(pred, axis=axis), axis=axis)  # type: ignore[no-any-return]


DEFAULT_REDUCTION = "sum_over_batch_size"


class _Crossentropy(Loss):
    """The base of the cross-entropies that take labels as probabilities."""

    entropy: Callable[..., Tensor]

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = DEFAULT_REDUCTION,
        name: str | None = None,
    ) -> None:
        entropy = type(self).entropy
        super().__init__(
            lambda true, pred: entropy(true, pred, from_logits, label_smoothing, axis),
            reduction,
            entropy.__name__ if name is None else name,
        )


class BinaryCrossentropy(_Crossentropy):
    """The binary cross-entropy of samples.

    >>> import flowgraph as fg
    >>> round(float(fg.keras.losses.BinaryCrossentropy(from_logits=True)([[1.0]], [[0.0]])), 4)
    0.6931
    """

    entropy = staticmethod(binary_crossentropy)


class CategoricalCrossentropy(_Crossentropy):
    """The cross-entropy of samples whose classes are given as probabilities."""

    entropy = staticmethod(categorical_crossentropy)


class SparseCategoricalCrossentropy(Loss):
    """The cross-entropy of samples whose classes are given as numbers."""

    def __init__(
        self,
        from_logits: bool = False,
        reduction: str | None = DEFAULT_REDUCTION,
        name: str = "sparse_categorical_crossentropy",
    ) -> None:
        super().__init__(lambda true, pred: sparse_categorical_crossentropy(true, pred, from_logits), reduction, name)


class CosineSimilarity(Loss):
    """Minus the cosine similarity of samples."""

    def __init__(
        self, axis: int = -1, reduction: str | None = DEFAULT_REDUCTION, name: str = "cosine_similarity"
    ) -> None:
        super().__init__(lambda true, pred: cosine_similarity(true, pred, axis), reduction, name)


class _Plain(Loss):
    """The base of the losses that are a function without options."""

    of_samples: Callable[..., Tensor]

    def __init__(self, reduction: str | None = DEFAULT_REDUCTION, name: str | None = None) -> None:
        function = type(self).of_samples
        super().__init__(function, reduction, function.__name__ if name is None else name)


class Hinge(_Plain):
    """The hinge loss of samples."""

    of_samples = staticmethod(hinge)


class SquaredHinge(_Plain):
    """The squared hinge loss of samples."""

    of_samples = staticmethod(squared_hinge)


class LogCosh(_Plain):
    """The mean logarithm of the hyperbolic cosine of the errors of samples."""

    of_samples = staticmethod(log_cosh)


class KLDivergence(_Plain):
    """The Kullback-Leibler divergence of samples."""

    of_samples = staticmethod(kl_divergence)


class Poisson(_Plain):
    """The Poisson loss of samples."""

    of_samples = staticmethod(poisson)
