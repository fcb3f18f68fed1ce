from statistics import NormalDist

import numpy as np
import pytest

from slimline.measure.exact import error_rate, exact_confidence, outcomes, statistics
from slimline.measure.intervals import tango_statistic, tango_upper


def test_the_statistic_of_arrays_is_that_of_one_outcome():
    lost, won = np.meshgrid(np.arange(0, 40, 7), np.arange(0, 40, 5))
    found = statistics(lost, won, 300, 0.02)
    for i in np.ndindex(lost.shape):
        due = tango_statistic(int(lost[i]), int(won[i]), 300, 0.02)
        assert found[i] == pytest.approx(due, abs=1e-9)


@pytest.mark.parametrize("share", [0.0101, 0.05, 0.6, 1.0])
def test_the_chances_of_all_outcomes_are_one(share):
    assert outcomes(400, 0.01, share)[1].sum() == pytest.approx(1, abs=1e-9)


def test_the_error_rate_is_what_simulation_finds():
    draw = np.random.default_rng(0)
    pairs = draw.multinomial(300, (0.035, 0.025, 0.94), 200_000)
    accepted = (statistics(pairs[:, 0], pairs[:, 1], 300, 0.01) <= -1.6448536).mean()
    assert error_rate(300, 0.01, 0.06, 0.95) == pytest.approx(accepted, abs=0.002)


@pytest.mark.parametrize(("count", "margin"), [(60, 0.05), (200, 0.02), (500, 0.01), (1500, 0.01)])
def test_no_share_of_differing_pairs_makes_the_test_err_more_than_agreed(count, margin):
    confidence = exact_confidence(count, margin, 0.95)
    assert 0.95 <= confidence < 0.975
    draw = np.random.default_rng(1)
    shares = margin + (1 - margin) * draw.random(40) ** 3  # not those of the grid
    assert max(error_rate(count, margin, s, confidence) for s in shares) <= 0.05


def test_the_score_test_alone_errs_more_than_agreed_so_the_level_matters():
    assert error_rate(500, 0.01, 1.0, 0.95) > 0.053
    assert error_rate(500, 0.01, 1.0, exact_confidence(500, 0.01, 0.95)) <= 0.05


def test_a_bound_within_the_margin_is_a_statistic_beyond_its_level():
    confidence = exact_confidence(500, 0.02, 0.95)
    z, accepted = NormalDist().inv_cdf(confidence), []
    for lost in range(12):
        accepted.append(tango_upper(lost, 5, 500, confidence) <= 0.02)
        assert accepted[-1] is (tango_statistic(lost, 5, 500, 0.02) <= -z)
    assert accepted == sorted(accepted, reverse=True)
    assert 0 < sum(accepted) < 12


@pytest.mark.parametrize("margin", [0.0005, 0.3, 0.5])
def test_any_margin_that_a_recipe_may_have_gives_a_confidence(margin):
    assert 0.95 <= exact_confidence(100, margin, 0.95) < 1
