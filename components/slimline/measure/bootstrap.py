"""How much worse a candidate may be by any metric: a paired bootstrap over the same examples.

Every resample draws examples with replacement, once for all models, so what models share cancels.
The one-sided bound is bias-corrected and accelerated (BCa).

Source: B. Efron and R. J. Tibshirani, "An introduction to the bootstrap" (1993), chapter 14.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from slimline.measure.metric import Metric

BOOTSTRAP = "paired bootstrap over examples, BCa (Efron and Tibshirani 1993)"
_ROOM = 1_000_000
"""Weights in memory at once."""
_GROUPS = 200
"""Groups of the jackknife: its skewness, in units of its own spread, is that of single examples."""


@dataclass(frozen=True)
class Bound:
    """How much worse, and how much worse it may be; more is worse, whatever the metric."""

    drop: float
    upper: float
    standard_error: float


def paired_bound(
    metric: Metric,
    baseline: NDArray[np.float64],
    candidate: NDArray[np.float64],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> Bound:
    """One-sided upper bound of the candidate's loss.

    Where two models differ on few examples, no resample holds what was not seen; for a discrete
    metric the bound is therefore at least the drop and z^2 / (n + z^2), which Tango's bound gives
    to n pairs of which none differs.

    Args:
        metric: which; its orientation is minded.
        baseline: rows of each example.
        candidate: rows of the same examples.
        confidence: one-sided, such as 0.95.
        resamples: how many; 1,000 or more for a bound at 0.95.
        seed: draws the examples.
    """
    import numpy as np

    sign = 1 if metric.higher_is_better else -1

    def drops(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = sign * (
            metric.values(baseline, weights) - metric.values(candidate, weights)
        )
        return found

    count = len(baseline)
    observed = float(drops(np.ones((1, count)))[0])
    draws = np.concatenate([drops(w) for w in draw_weights(count, resamples, seed)])
    upper = bca_bound(observed, draws, jackknife(drops, count), confidence)
    if metric.discrete:
        z2 = NormalDist().inv_cdf(confidence) ** 2
        upper = max(upper, observed + z2 / (count + z2))
    return Bound(observed, max(upper, observed), float(draws.std()))


def intervals(
    metric: Metric,
    tables: Sequence[NDArray[np.float64]],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> list[tuple[float, float, float]]:
    """For the rows of each model, its value and a two-sided percentile interval around it."""
    import numpy as np

    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    draws: list[list[Any]] = [[] for _ in tables]
    for weights in draw_weights(len(tables[0]), resamples, seed):
        for table, row in zip(tables, draws, strict=True):
            row.append(metric.values(table, weights))
    found = []
    for table, row in zip(tables, draws, strict=True):
        value = metric.value(table)
        low, high = np.quantile(np.concatenate(row), tails).tolist()
        found.append((value, min(value, low), max(value, high)))
    return found


def draw_weights(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each example is drawn, in pieces of shape (some resamples, count)."""
    import numpy as np

    draw = np.random.default_rng(seed)
    step = max(1, _ROOM // count)
    for start in range(0, resamples, step):
        some = min(step, resamples - start)
        chosen = draw.integers(0, count, (some, count))
        chosen += np.arange(some)[:, None] * count
        drawn = np.bincount(chosen.ravel(), minlength=some * count)
        yield drawn.reshape(some, count).astype(np.float64)


def jackknife(drops: Callable[[Any], Any], count: int) -> NDArray[np.float64]:
    """The drop without one group of examples, for each of at most 200 interleaved groups."""
    import numpy as np

    groups = min(_GROUPS, count)
    mine = np.arange(count) % groups
    step = max(1, _ROOM // count)
    parts = [
        drops((mine[None] != np.arange(start, min(start + step, groups))[:, None]).astype(float))
        for start in range(0, groups if count > 1 else 0, step)
    ]
    return np.concatenate(parts) if parts else np.zeros(1)


def bca_bound(
    observed: float, draws: NDArray[np.float64], left_out: NDArray[np.float64], confidence: float
) -> float:
    """Upper end of the BCa interval: a quantile of the draws, moved for their bias and skewness."""
    import numpy as np

    normal = NormalDist()
    least = 0.5 / len(draws)
    below = float(np.mean(draws < observed) + 0.5 * np.mean(draws == observed))
    bias = normal.inv_cdf(min(max(below, least), 1 - least))
    away = left_out.mean() - left_out
    spread = float((away**2).sum())
    acceleration = float((away**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    moved = bias + normal.inv_cdf(confidence)
    scale = 1 - acceleration * moved
    level = normal.cdf(bias + moved / scale) if scale > 0 else 1.0
    return float(np.quantile(draws, min(max(level, 0.0), 1.0))) if math.isfinite(level) else 1.0
