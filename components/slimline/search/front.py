"""The Pareto front of what was measured, the order of the promising, and the choice.

Source of sorting and crowding: Deb, Pratap, Agarwal and Meyarivan 2002, "A fast and elitist
multiobjective genetic algorithm: NSGA-II", IEEE Transactions on Evolutionary Computation 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.search.result import drop_of, upper_of, violations
from slimline.search.settings import LIMITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slimline.search.result import TrialResult
    from slimline.search.settings import SearchSettings

Point = tuple[float, ...]


def dominates(a: Point, b: Point) -> bool:
    """Whether `a` is at no place worse than `b` and somewhere better; less is better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def non_dominated(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other one dominates."""
    return [
        i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)
    ]


def promising(points: Sequence[Point]) -> list[int]:
    """Indices, the best first: by front, within a front those that stand most alone.

    So a part that goes on holds the fast and the exact, and not one of these alone.
    """
    left, order = list(range(len(points))), []
    while left:
        best = [left[i] for i in non_dominated([points[i] for i in left])]
        alone = _crowding([points[i] for i in best])
        order += [i for i, _ in sorted(zip(best, alone, strict=True), key=lambda p: (-p[1], p[0]))]
        left = [i for i in left if i not in best]
    return order


def _crowding(points: Sequence[Point]) -> list[float]:
    """How far each point is from its neighbours in each objective; the ends are infinitely far."""
    distance = [0.0] * len(points)
    for axis in range(len(points[0])):
        order = sorted(range(len(points)), key=lambda i: (points[i][axis], i))
        span = points[order[-1]][axis] - points[order[0]][axis]
        distance[order[0]] = distance[order[-1]] = math.inf
        if span > 0:
            for before, here, after in zip(order, order[1:], order[2:], strict=False):
                distance[here] += (points[after][axis] - points[before][axis]) / span
    return distance


def front_of(results: Sequence[TrialResult], settings: SearchSettings) -> list[TrialResult]:
    """The trained networks within the limits that no other such network dominates, fastest first.

    The accuracy budget is no limit here: the front shows what more or less accuracy would buy.
    """
    able = [r for r in results if r.answers and not violations(r, settings, surely=False)]
    chosen = [able[i] for i in non_dominated([r.objectives() for r in able])]
    return sorted(chosen, key=lambda r: r.objectives()[1])


@dataclass(frozen=True)
class Choice:
    """The network that was chosen, whether it keeps everything, and why it is this one."""

    result: TrialResult
    passed: bool
    reason: str


_BETTER = {"speed": "faster", "size": "smaller", "accuracy": "faster or smaller"}
_BEST = {"speed": "fastest", "size": "smallest", "accuracy": "most accurate"}
_AXIS = {"accuracy": 0, "speed": 1, "size": 2}


def choose(
    results: Sequence[TrialResult],
    baseline: TrialResult,
    settings: SearchSettings,
    prefer: str,
) -> Choice:
    """Choose among trained networks.

    Those that keep all limits, whose drop is surely within the budget, and that are surely better
    than the teacher in what is preferred, stand to choose from; the other objectives decide where
    two are equal. If there is none, the nearest is given, and it has not passed: of those within
    the limits the one with the least drop, else the teacher itself.
    """
    able = [r for r in results if r.answers and not violations(r, settings, surely=False)]
    kept = [r for r in able if _upper(r, settings) <= settings.max_drop]
    better = [r for r in kept if _is_better(r, baseline, prefer)]
    budget = _budget(settings)
    if better:
        axis = _AXIS[prefer]
        best = min(better, key=lambda r: (r.objectives()[axis], r.objectives()))
        limits = " and all limits" if any(getattr(settings, n) is not None for n in LIMITS) else ""
        words = f"{_BEST[prefer]} of {len(better)} that {budget}{limits}"
        return Choice(best, passed=True, reason=f"{words}: {_told(best, baseline, settings)}")
    if kept or not able:
        told = f"is {_BETTER[prefer]} than the teacher" if kept else "keeps the limits"
        of = f"{len(kept)} that {budget}" if kept else f"{len(results)} trained networks"
        words = f"none of {of} {told}; this is the teacher itself"
        return Choice(baseline, passed=False, reason=words)
    best = min(able, key=lambda r: (_upper(r, settings), r.objectives()))
    words = f"none of {len(able)} within the limits is sure to {budget}; the nearest"
    return Choice(best, passed=False, reason=f"{words}: {_told(best, baseline, settings)}")


def _budget(settings: SearchSettings) -> str:
    drop, confidence = 100 * settings.max_drop, 100 * settings.confidence
    return f"keep the drop under {drop:g} points at {confidence:g} % confidence"


def _is_better(result: TrialResult, baseline: TrialResult, prefer: str) -> bool:
    """Whether a network surely has what is preferred; for accuracy, whether it gains anything."""
    here, before = result.measured, baseline.measured
    if here is None or before is None:
        return False
    faster, smaller = here.speedup.low > 1, here.bytes < before.bytes
    return {"speed": faster, "size": smaller, "accuracy": faster or smaller}[prefer]


def _upper(result: TrialResult, settings: SearchSettings) -> float:
    return upper_of(result.answers, settings) if result.answers else 1.0


def _told(result: TrialResult, baseline: TrialResult, settings: SearchSettings) -> str:
    assert result.measured is not None  # noqa: S101 - a trained network was measured
    assert result.answers is not None  # noqa: S101
    assert baseline.measured is not None  # noqa: S101
    drop = 100 * drop_of(result.answers, settings)
    return (
        f"{result.measured.speedup.value:.2f} times as fast, "
        f"{baseline.measured.bytes / result.measured.bytes:.2f} times smaller "
        f"({result.measured.bytes:,} bytes), drop {drop:.2f} points on "
        f"{result.answers.examples} examples"
    )
