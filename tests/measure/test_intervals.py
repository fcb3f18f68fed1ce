import math
from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binomtest, norm

from slimline.measure.intervals import median_interval, tango_statistic, tango_upper, wilson


@pytest.mark.parametrize(("right", "count"), [(0, 10), (10, 10), (81, 263), (1, 3), (9990, 10000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_is_that_of_scipy(right, count, confidence):
    ours = wilson(right, count, confidence)
    theirs = binomtest(right, count).proportion_ci(confidence, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.low <= ours.value <= ours.high


def test_wilson_gives_the_published_example():
    # Newcombe, Statistics in Medicine 17 (1998), 857-872, table I: 81 of 263.
    ours = wilson(81, 263)
    assert (ours.low, ours.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_tango_gives_the_published_example():
    # Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014), 2850-2875: 1, 1, 7, 12;
    # Tango's interval of the difference is -0.517 to -0.026.
    assert tango_upper(7, 1, 21, 0.975) == pytest.approx(0.517, abs=5e-4)
    assert -tango_upper(1, 7, 21, 0.975) == pytest.approx(0.026, abs=5e-4)


def likelihood_bound(lost: int, won: int, count: int, confidence: float) -> float:
    """The same bound by brute force: the restricted estimate is searched, not solved."""

    def statistic(drop: float) -> float:
        def loss(only_won: float) -> float:
            only_lost, rest = only_won + drop, 1 - 2 * only_won - drop
            terms = ((lost, only_lost), (won, only_won), (count - lost - won, rest))
            return -sum(n * math.log(max(p, 1e-300)) for n, p in terms if n)

        span = (max(0.0, -drop), (1 - drop) / 2)
        found = minimize_scalar(loss, bounds=span, method="bounded", options={"xatol": 1e-12}).x
        variance = count * (2 * found + drop * (1 - drop))
        return (lost - won - count * drop) / math.sqrt(variance) + norm.ppf(confidence)

    return brentq(statistic, (lost - won) / count + 1e-9, 1 - 1e-9)


@pytest.mark.parametrize(
    ("lost", "won", "count"), [(7, 1, 21), (12, 9, 500), (3, 0, 60), (1, 6, 80)]
)
def test_tango_is_what_brute_force_finds(lost, won, count):
    assert tango_upper(lost, won, count) == pytest.approx(
        likelihood_bound(lost, won, count, 0.95), abs=1e-5
    )


def test_tango_with_no_discordant_pair_is_not_zero():
    z2 = norm.ppf(0.95) ** 2
    assert tango_upper(0, 0, 100) == pytest.approx(z2 / (100 + z2), abs=1e-9)


def test_tango_lies_between_the_drop_and_one_and_grows_with_confidence():
    for lost, won in product(range(6), range(6)):
        if lost + won <= 6:
            bounds = [tango_upper(lost, won, 6, c) for c in (0.5, 0.9, 0.99)]
            assert (lost - won) / 6 - 1e-9 <= bounds[0] <= bounds[1] <= bounds[2] <= 1


def test_the_statistic_is_zero_at_the_observed_drop():
    assert tango_statistic(9, 4, 200, 5 / 200) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("only_lost", "only_won"), [(0.02, 0.01), (0.05, 0.05), (0.1, 0.0)])
def test_tango_covers_the_true_drop_as_often_as_it_says(only_lost, only_won):
    # All outcomes of 200 pairs are drawn in proportion: no more than chance may lie outside.
    draw = np.random.default_rng(3)
    rest = 1 - only_lost - only_won
    samples = draw.multinomial(200, (only_lost, only_won, rest), size=4000)
    pairs, times = np.unique(samples[:, :2], axis=0, return_counts=True)
    bounds = np.array([tango_upper(int(a), int(b), 200, 0.95) for a, b in pairs])
    covered = times[bounds >= only_lost - only_won].sum() / 4000
    assert 0.93 <= covered <= 0.985


def test_the_median_interval_has_the_ranks_of_the_binomial_table():
    # n = 11: the 2nd and 10th value, 98.8 %; the 3rd and 9th would be 93.5 %.
    found = median_interval(range(1, 12))
    assert (found.low, found.value, found.high) == (2, 6, 10)


def test_the_median_interval_covers_the_true_median():
    draw = np.random.default_rng(4)
    inside = 0
    for _ in range(1000):
        found = median_interval(draw.exponential(size=51).tolist())
        inside += found.low <= math.log(2) <= found.high
    assert 0.94 <= inside / 1000 <= 0.99


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_values_give_their_whole_range(count):
    found = median_interval(list(range(count)))
    assert (found.low, found.high) == (0, count - 1)


def test_the_interval_of_a_median_takes_as_many_values_as_validate_may_measure():
    found = median_interval([float(n) for n in range(10_000)])

    # Normal approximation of the binomial ranks: 4999.5 -+ 1.96 * 50.
    assert found.low == pytest.approx(4999.5 - 98, abs=1.5)
    assert found.high == pytest.approx(4999.5 + 98, abs=1.5)
