"""Is the candidate as good on each class and each slice? Many questions at once, answered as one.

With twenty slices, one of them looks worse by chance alone. Holm's step-down procedure asks of the
surest slice a bound at level alpha / m, of the next one alpha / (m - 1), and so on; what it calls
non-inferior is so for all of them together with probability 1 - alpha, however they depend.

Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
Statistics 6 (1979), 65-70. Standard library only: the gate, which has no NumPy, uses it too.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

from slimline.measure.intervals import tango_upper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slimline.measure.evaluation import SliceComparison


def upper_bound(part: SliceComparison, confidence: float) -> float:
    """One-sided upper bound of a slice's drop.

    By Tango's method where right and wrong are counted, else drop + z times the bootstrap's
    standard error: a quantile far out in the tail needs more resamples than one can make.
    """
    if part.only_baseline_right is not None and part.only_candidate_right is not None:
        lost, won = part.only_baseline_right, part.only_candidate_right
        return tango_upper(lost, won, part.examples, confidence)
    return part.drop + NormalDist().inv_cdf(confidence) * part.standard_error


def holm_bounds(
    parts: Sequence[SliceComparison], limit: float, confidence: float
) -> dict[str, float]:
    """Corrected upper bounds: what is at most `limit` is so for all slices at once.

    A slice that Holm's procedure accepts has its bound at the step that accepts it; those that
    are left have theirs at the step where it stopped.

    Args:
        parts: the slices, of different names.
        limit: largest drop that is still accepted.
        confidence: of the statement about all of them.
    """
    left = list(parts)
    bounds: dict[str, float] = {}
    while left:
        level = 1 - (1 - confidence) / len(left)
        found = {part.name: upper_bound(part, level) for part in left}
        best = min(found, key=lambda name: found[name])
        if found[best] > limit:
            return bounds | found
        bounds[best] = found[best]
        left = [part for part in left if part.name != best]
    return bounds
