"""What a metric is: rows of numbers for examples, and a value of rows with weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Rows = Callable[[Any, Any, Any], Any]
"""(answers, targets, the baseline's answers) of a batch -> float64 (batch, k)."""
Values = Callable[[Any, Any], Any]
"""(rows (examples, k), weights (resamples, examples)) -> float64 (resamples,)."""


@dataclass(frozen=True)
class Metric:
    """One metric; see `measure.metrics` for how it is used."""

    name: str
    rows: Rows
    values: Values
    higher_is_better: bool = True
    binary: bool = False
    """Each row is 0 or 1 and the metric their mean: a score interval of proportions holds."""
    discrete: bool = False
    """Few rows may differ between two models: a bootstrap alone would be too sure."""
    per_class: Callable[[Any], Any] | None = None
    """Rows -> a value for each class, NaN for one that does not occur; None: has none."""

    def value(self, rows: NDArray[np.float64]) -> float:
        """The metric of all examples."""
        import numpy as np

        return float(self.values(rows, np.ones((1, len(rows))))[0])


def mean_of(rows: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means of each column: (resamples, k)."""
    means: NDArray[np.float64] = weights @ rows / weights.sum(axis=1, keepdims=True)
    return means


def first_mean(rows: Any, weights: Any) -> Any:
    """The mean of the one column."""
    return mean_of(rows, weights).mean(axis=1)
