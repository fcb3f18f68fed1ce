import numpy as np
import pytest
from scipy.stats import norm

from slimline.measure.evaluation import SliceComparison
from slimline.measure.intervals import tango_upper
from slimline.measure.slices import holm_bounds, upper_bound


def part(name, drop=0.0, error=0.01, **counts):
    return SliceComparison(
        name=name,
        metric="accuracy",
        examples=counts.pop("examples", 100),
        baseline=0.9,
        candidate=0.9 - drop,
        drop=drop,
        standard_error=error,
        **counts,
    )


def test_a_slice_of_right_and_wrong_has_tangos_bound():
    counted = part("a", only_baseline_right=5, only_candidate_right=2)
    assert upper_bound(counted, 0.99) == tango_upper(5, 2, 100, 0.99)


def test_another_slice_has_a_bound_by_its_standard_error():
    assert upper_bound(part("a", 0.02, 0.01), 0.95) == pytest.approx(0.02 + 1.644854 * 0.01)


def test_holm_corrects_the_surest_most_and_the_last_not_at_all():
    parts = [part("sure", 0.0), part("fair", 0.02), part("poor", 0.035)]
    found = holm_bounds(parts, limit=0.06, confidence=0.95)
    levels = {"sure": 0.05 / 3, "fair": 0.05 / 2, "poor": 0.05}
    for one in parts:
        assert found[one.name] == pytest.approx(one.drop + norm.isf(levels[one.name]) * 0.01)
    assert max(found.values()) <= 0.06


def test_holm_stops_at_the_first_that_fails():
    found = holm_bounds([part("a", 0.0), part("b", 0.2), part("c", 0.3)], 0.05, 0.95)
    assert found["a"] <= 0.05
    assert found["b"] == pytest.approx(0.2 + norm.isf(0.025) * 0.01)
    assert found["c"] == pytest.approx(0.3 + norm.isf(0.025) * 0.01)


def test_what_holm_accepts_is_what_its_p_values_reject():
    draw = np.random.default_rng(0)
    for _ in range(200):
        drops, errors = draw.normal(0.02, 0.02, 6), draw.uniform(0.005, 0.02, 6)
        p = norm.sf((0.05 - drops) / errors)
        accepted: set[int] = set()
        for rank, i in enumerate(np.argsort(p)):
            if p[i] > 0.05 / (6 - rank):
                break
            accepted.add(int(i))
        parts = [part(str(i), d, e) for i, (d, e) in enumerate(zip(drops, errors, strict=True))]
        found = holm_bounds(parts, 0.05, 0.95)
        assert {int(n) for n, b in found.items() if b <= 0.05} == accepted
        assert len(found) == 6


def test_of_many_slices_at_the_limit_any_is_accepted_at_most_as_often_as_alpha():
    # All ten true drops lie at the limit: accepting one of them is an error.
    draw, wrong = np.random.default_rng(1), 0
    for _ in range(2000):
        parts = [part(str(i), d) for i, d in enumerate(0.05 + 0.01 * draw.standard_normal(10))]
        wrong += any(b <= 0.05 for b in holm_bounds(parts, 0.05, 0.95).values())
    assert wrong / 2000 <= 0.05 + 4 * (0.05 * 0.95 / 2000) ** 0.5


def test_no_slice_is_no_bound():
    assert holm_bounds([], 0.05, 0.95) == {}
