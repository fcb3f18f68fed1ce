"""The level of the paired score test, set exactly: no wrong acceptance beyond what was agreed.

Tango's bound is asymptotic: with 500 pairs it may accept a candidate at the margin 5.4 times in 100
where 5 were agreed. Here the test's error is summed over every possible outcome, for the worst
share of differing pairs, and the confidence that keeps it within the agreed one is found.

Source: I. S. F. Chan, "Exact tests of equivalence and efficacy with a non-zero lower bound for
comparative studies", Statistics in Medicine 17 (1998), 1403-1413: an unconditional test by the
score statistic, its error maximised over the nuisance parameter; here on a grid of 72 shares.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_PAIRS = 20_000
"""Beyond this the two differ by less than one can tell, and the sum takes long."""
_FINE, _COARSE, _DENSE_UP_TO = 60, 12, 0.2
_SAME = 1e-12
_SLACK = 0.995
"""Between two shares of the grid the error may be higher by less than a two-hundredth."""
_WIDTH = 8
"""Standard deviations of counts that are looked at; what lies beyond counts as an error."""


@lru_cache(maxsize=64)
def exact_confidence(count: int, margin: float, confidence: float) -> float:
    """The confidence at which Tango's bound errs at the margin in no more than 1 - `confidence`.

    Args:
        count: pairs, at most `MOST_PAIRS`.
        margin: drop at which accepting is an error, between 0 and 0.5.
        confidence: agreed, such as 0.95.

    Returns:
        At least `confidence`.
    """
    least = -NormalDist().inv_cdf(confidence)
    for share in _shares(margin):
        statistic, chance = outcomes(count, margin, share)
        least = min(least, _level(statistic, chance, _SLACK * (1 - confidence)))
    return NormalDist().cdf(-least)


def error_rate(count: int, margin: float, share: float, confidence: float) -> float:
    """How often Tango's bound of this confidence accepts when the true drop is the margin.

    Args:
        count: pairs.
        margin: the true drop, and the accepted one.
        share: of pairs that differ, at least `margin`.
        confidence: of the bound.
    """
    statistic, chance = outcomes(count, margin, share)
    return float(chance[statistic <= -NormalDist().inv_cdf(confidence) + _SAME].sum())


def outcomes(count: int, margin: float, share: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Tango's statistic of "the drop is the margin", and its chance then, for every outcome."""
    import numpy as np

    lost, won = ((share + margin) / 2, (share - margin) / 2)
    rows, columns = _around(count, lost)[:, None], _around(count, won)[None]
    rest = count - rows - columns
    possible = rest >= 0
    rest = np.where(possible, rest, 0)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    log_chance = logs[count] - logs[rows] - logs[columns] - logs[rest]
    for outcome, chance in ((rows, lost), (columns, won), (rest, 1 - share)):
        log_chance = log_chance + _times_log(outcome, chance)
    found = np.where(possible, np.exp(np.minimum(log_chance, 0)), 0)
    return statistics(rows, columns, count, margin).ravel(), found.ravel()


def statistics(lost: Any, won: Any, count: int, margin: float) -> NDArray[np.float64]:
    """`intervals.tango_statistic` of whole arrays of outcomes; the margin is above 0."""
    import numpy as np

    b = -lost - won + (2 * count - lost + won) * margin
    c = -won * margin * (1 - margin)
    only_won = (np.sqrt(np.maximum(0.0, b * b - 8 * count * c)) - b) / (4 * count)
    variance = count * (2 * only_won + margin * (1 - margin))
    found: NDArray[np.float64] = (lost - won - count * margin) / np.sqrt(variance)
    return found


def _shares(margin: float) -> list[float]:
    import numpy as np

    # Below the margin no share of differing pairs can be.
    edge = max(_DENSE_UP_TO, min(1.0, 2 * margin))
    fine = np.geomspace(margin * 1.0001, edge, _FINE)
    return [float(s) for s in (*fine, *np.linspace(edge, 1, _COARSE + 1)[1:])]


def _around(count: int, chance: float) -> NDArray[np.int64]:
    import numpy as np

    middle, spread = count * chance, _WIDTH * (count * chance * (1 - chance)) ** 0.5 + _WIDTH
    return np.arange(max(0, int(middle - spread)), min(count, int(middle + spread)) + 1)


def _times_log(times: Any, chance: float) -> Any:
    """`times * log(chance)`, 0 for no times."""
    import numpy as np

    if chance <= 0:
        return np.where(times > 0, -np.inf, 0.0)
    return times * np.log(chance)


def _level(statistic: NDArray[Any], chance: NDArray[Any], error: float) -> float:
    """The highest value at or below which the statistic falls in no more than `error` of cases."""
    import numpy as np

    order = np.argsort(statistic)
    ordered, beyond = statistic[order], max(0.0, 1 - float(chance.sum()))
    # Outcomes of one statistic are accepted together or not at all.
    last = np.append(np.diff(ordered) > _SAME, True)
    below = (np.cumsum(chance[order]) + beyond)[last]
    allowed = int(np.searchsorted(below, error, side="right"))
    values = ordered[last]
    return float(values[allowed - 1]) if allowed else float(values[0]) - 1.0
