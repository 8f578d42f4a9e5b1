"""Metrics of predictions that are right or wrong: counts of both, for labels that are 1 and labels that are 0.

A prediction is positive at a threshold where it lies above. The state holds, for the labels that are 1 and for those
that are 0, the weight of the predictions that lie above so many thresholds: how many there are costs no work a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from flowgraph.errors import UsageError
from flowgraph.keras.metrics.means import Metric, weights_of
from flowgraph.ops.comparison import isnan
from flowgraph.ops.create import cast
from flowgraph.ops.elementwise import log, maximum, where
from flowgraph.ops.reduce import sum
from flowgraph.ops.scanning import cumulative_sum
from flowgraph.ops.segments import unsorted_segment_sum
from flowgraph.ops.shape import broadcast_like, reshape
from flowgraph.ops.sorting import searchsorted
from flowgraph.spellings.numbers import divide_no_nan
from flowgraph.tensor import Tensor
from flowgraph.train.losses import pair
from flowgraph.types import is_count

EPSILON = 1e-7
"""How far the outermost thresholds of a curve lie outside of 0 and 1."""


class Confusion(Metric):
    """The weights of true and false positives and negatives at each of some thresholds (0.5 if None)."""

    def __init__(self, thresholds: Any, name: str, dtype: Any = np.float32) -> None:
        several = isinstance(thresholds, Sequence) or np.ndim(thresholds) > 0
        found = np.atleast_1d(np.asarray(0.5 if thresholds is None else thresholds, np.float64))
        if found.ndim > 1 or not found.size or np.isnan(found).any() or any(a >= b for a, b in pairwise(found)):
            raise UsageError(f"{name} with thresholds={thresholds!r}", "they do not rise", "Give numbers that rise.")
        self.thresholds, self.several = found, several
        super().__init__(name, dtype, ones=(len(found) + 1,), zeros=(len(found) + 1,))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in labels (0 or 1) and predictions, with a weight for each sample where given. Returns nothing."""
        true, pred = pair(y_true, y_pred, self.name)
        weights = reshape(broadcast_like(weights_of(sample_weight, pred, self.name), pred), (-1,))
        true, pred = reshape(true, (-1,)), reshape(pred, (-1,))
        above = where(isnan(pred), 0, searchsorted(self.thresholds.astype(pred.dtype), pred))
        for part, chosen in (("ones", true != 0), ("zeros", true == 0)):
            found = unsorted_segment_sum(where(chosen, weights, 0), above, len(self.thresholds) + 1)
            self.state[part].assign_add(found)

    def above(self, part: str) -> Tensor:
        """The weight of the predictions above each threshold, among labels that are `ones` or `zeros`."""
        return sum(self.state[part].value()) - self.below(part)  # type: ignore[no-any-return]

    def below(self, part: str) -> Tensor:
        """The weight of the predictions that are not."""
        return cumulative_sum(self.state[part].value())[:-1]  # type: ignore[no-any-return]

    def figure(self) -> Tensor:
        """The figure at each threshold."""
        raise NotImplementedError

    def result(self) -> Tensor:
        """The figure over all that the state has seen; a vector where several thresholds were given."""
        found = self.figure()
        return cast(found if self.several else found[0], self.dtype)


class TruePositives(Confusion):
    """The weight of the samples with label 1 whose prediction lies above the threshold."""

    def __init__(self, thresholds: Any = None, name: str = "true_positives", dtype: Any = np.float32) -> None:
        super().__init__(thresholds, name, dtype)

    def figure(self) -> Tensor:
        """See the class."""
        return self.above("ones")


class FalsePositives(Confusion):
    """The weight of the samples with label 0 whose prediction lies above the threshold."""

    def __init__(self, thresholds: Any = None, name: str = "false_positives", dtype: Any = np.float32) -> None:
        super().__init__(thresholds, name, dtype)

    def figure(self) -> Tensor:
        """See the class."""
        return self.above("zeros")


class TrueNegatives(Confusion):
    """The weight of the samples with label 0 whose prediction does not lie above the threshold."""

    def __init__(self, thresholds: Any = None, name: str = "true_negatives", dtype: Any = np.float32) -> None:
        super().__init__(thresholds, name, dtype)

    def figure(self) -> Tensor:
        """See the class."""
        return self.below("zeros")


class FalseNegatives(Confusion):
    """The weight of the samples with label 1 whose prediction does not lie above the threshold."""

    def __init__(self, thresholds: Any = None, name: str = "false_negatives", dtype: Any = np.float32) -> None:
        super().__init__(thresholds, name, dtype)

    def figure(self) -> Tensor:
        """See the class."""
        return self.below("ones")


class Precision(Confusion):
    """The share of the positive predictions whose label is 1; 0 where no prediction is positive.

    >>> import flowgraph as fg
    >>> float(fg.keras.metrics.Precision()([0, 1, 1, 1], [0.9, 0.2, 0.8, 0.7]))  # two of three
    0.6666666865348816
    """

    def __init__(self, thresholds: Any = None, name: str = "precision", dtype: Any = np.float32) -> None:
        super().__init__(thresholds, name, dtype)

    def figure(self) -> Tensor:
        """See the class."""
        right = self.above("ones")
        return divide_no_nan(right, right + self.above("zeros"))


class Recall(Confusion):
    """The share of the labels that are 1 whose prediction is positive; 0 where no label is 1.

    >>> import flowgraph as fg
    >>> float(fg.keras.metrics.Recall()([0, 1, 1, 1, 1], [0.9, 0.2, 0.8, 0.7, 0.6]))
    0.75
    """

    def __init__(self, thresholds: Any = None, name: str = "recall", dtype: Any = np.float32) -> None:
        super().__init__(thresholds, name, dtype)

    def figure(self) -> Tensor:
        """See the class."""
        right = self.above("ones")
        return divide_no_nan(right, right + self.below("ones"))


class AUC(Confusion):
    """The area under the curve of recall over false alarms ("ROC"), or of precision over recall ("PR").

    The curve has a point for each of `num_thresholds` thresholds from 0 to 1, and straight lines between them; that of
    precision is drawn through the counts between the points (Davis and Goadrich 2006).

    >>> import flowgraph as fg
    >>> float(fg.keras.metrics.AUC()([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
    0.75
    """

    def __init__(
        self, num_thresholds: int = 200, curve: str = "ROC", name: str = "auc", dtype: Any = np.float32
    ) -> None:
        if curve not in ("ROC", "PR"):
            raise UsageError(f"AUC(curve={curve!r})", "there is no such curve", "Give 'ROC' or 'PR'.")
        if not is_count(num_thresholds, 2):
            raise UsageError(f"AUC(num_thresholds={num_thresholds!r})", "a curve has two ends", "Give at least 2.")
        self.curve = curve
        inner = np.arange(1, num_thresholds - 1) / (num_thresholds - 1)
        super().__init__([-EPSILON, *inner, 1 + EPSILON], name, dtype)

    def result(self) -> Tensor:
        """The area, from 0 to 1."""
        found = self._under_roc() if self.curve == "ROC" else self._under_precision()
        return cast(found, self.dtype)

    def _under_roc(self) -> Tensor:
        recall, alarms = (
            divide_no_nan(self.above(part), self.above(part) + self.below(part)) for part in ("ones", "zeros")
        )
        return sum((alarms[:-1] - alarms[1:]) * (recall[:-1] + recall[1:]) / 2)  # type: ignore[no-any-return]

    def _under_precision(self) -> Tensor:
        """The integral of (a + slope * x) / x over the true positives x between two points, divided by the labels."""
        right, positive = self.above("ones"), self.above("ones") + self.above("zeros")
        step, slope = right[:-1] - right[1:], divide_no_nan(right[:-1] - right[1:], positive[:-1] - positive[1:])
        start = right[1:] - slope * positive[1:]
        both = (positive[:-1] > 0) & (positive[1:] > 0)
        span = where(both, divide_no_nan(positive[:-1], maximum(positive[1:], 0)), 1.0)
        labels = self.above("ones")[1:] + self.below("ones")[1:]
        return sum(divide_no_nan(slope * (step + start * log(span)), labels))  # type: ignore[no-any-return]
