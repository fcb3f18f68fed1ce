"""Intervals for what validate measures: an accuracy, a drop in accuracy, a median time.

Each is told with its source. Standard library only.
"""

from __future__ import annotations

import math
from statistics import NormalDist, median
from typing import TYPE_CHECKING

from slimline.measure.evaluation import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

TANGO = "Tango score interval for the difference of paired proportions (1998)"
WILSON = "Wilson score interval (1927)"
MEDIAN = "binomial order-statistic interval of the median"

_HALVINGS = 60
"""A bisection of [0, 1] ends far below the resolution of a float's last digits that matter."""


def wilson(successes: int, count: int, confidence: float = 0.95) -> Interval:
    """The Wilson score interval of a proportion, two-sided.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927), 209-212.

    Args:
        successes: how many were right.
        count: out of how many, at least 1.
        confidence: coverage, such as 0.95.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / count
    scale = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(
        value=share,
        low=max(0.0, min(share, centre - half)),
        high=min(1.0, max(share, centre + half)),
    )


def tango_upper(lost: int, won: int, count: int, confidence: float = 0.95) -> float:
    """One-sided upper bound of the drop between two paired proportions, by Tango's score method.

    It is the largest drop that the score test with the restricted maximum-likelihood estimate does
    not reject at level 1 - confidence. Unlike the Wald bound it stays sensible when few pairs
    differ: with none of n, it is z^2 / (n + z^2), not 0.

    Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design", Statistics in Medicine 17 (1998), 891-908.

    Args:
        lost: pairs where only the baseline is right.
        won: pairs where only the candidate is right.
        count: all pairs, at least 1.
        confidence: one-sided, such as 0.95.

    Returns:
        The bound of (lost - won) / count, between that drop and 1.
    """
    z = NormalDist().inv_cdf(confidence)
    low, high = (lost - won) / count, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if tango_statistic(lost, won, count, middle) > -z:
            low = middle
        else:
            high = middle
    return high


def tango_statistic(lost: int, won: int, count: int, drop: float) -> float:
    """Tango's score statistic of "the true drop is `drop`"; standard normal when it is true."""
    excess = lost - won - count * drop
    b = -lost - won + (2 * count - lost + won) * drop
    c = -won * drop * (1 - drop)
    only_won = (math.sqrt(max(0.0, b * b - 8 * count * c)) - b) / (4 * count)
    variance = count * (2 * only_won + drop * (1 - drop))
    if variance <= 0:
        return math.copysign(math.inf, excess) if excess else 0.0
    return excess / math.sqrt(variance)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The median and a distribution-free interval of it, from order statistics.

    The number of values below the true median is binomial(n, 1/2), so the k-th smallest and k-th
    largest value hold it between them with a known probability; k is the largest that keeps
    `confidence`. With fewer than six values at 0.95 the whole range is given, which covers less.
    Values must be independent: rounds in which a busy machine is slow for long make the interval
    narrower than it should be.

    Source: W. R. Thompson, "On confidence ranges for the median and other expectation
    distributions", Annals of Mathematical Statistics 7 (1936), 122-128.
    """
    ordered = sorted(values)
    count = len(ordered)
    # Whole numbers: 0.5**count is 0 and a binomial coefficient no float from some 1,000 values on.
    everything, ways = 2**count, 1
    below, k = 1, 0
    while k < (count - 1) // 2:
        ways = ways * (count - k) // (k + 1)
        below += ways
        if below / everything > (1 - confidence) / 2:
            break
        k += 1
    return Interval(value=median(ordered), low=ordered[k], high=ordered[count - 1 - k])
