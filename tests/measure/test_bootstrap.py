import numpy as np
import pytest
from scipy.stats import bootstrap as theirs

from slimline.measure.bootstrap import draw_weights, intervals, paired_bound
from slimline.measure.metrics import find_metric


def bound(name, baseline, candidate, *, seed=0, confidence=0.95, resamples=2000):
    return paired_bound(
        find_metric(name, 2),
        baseline,
        candidate,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def test_every_resample_draws_as_many_examples_as_there_are():
    weights = np.concatenate(list(draw_weights(50, 300, 0)))
    assert weights.shape == (300, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert weights.var() == pytest.approx(1, abs=0.05)


def test_the_bound_is_that_of_scipy():
    draw = np.random.default_rng(7)
    first = draw.exponential(size=(80, 1))
    second = first + draw.exponential(0.3, size=(80, 1)) - 0.1
    ours = bound("mae", first, second, resamples=20_000)
    due = theirs(
        ((second - first)[:, 0],),
        np.mean,
        confidence_level=0.9,
        n_resamples=20_000,
        method="BCa",
        rng=1,
    )
    assert ours.drop == pytest.approx((second - first).mean())
    assert ours.upper == pytest.approx(due.confidence_interval.high, rel=0.02)
    assert ours.standard_error == pytest.approx(due.standard_error, rel=0.03)


def test_less_is_better_for_an_error_so_a_rise_is_a_drop():
    draw = np.random.default_rng(0)
    good, bad = np.abs(draw.standard_normal((2, 500, 1))) * np.array([1, 2])[:, None, None]
    assert bound("rmse", good, bad).drop > 0.3
    assert bound("rmse", bad, good).upper < 0


@pytest.mark.parametrize(("name", "width"), [("mae", 1), ("rmse", 1), ("r2", 2)])
def test_the_bound_covers_the_true_drop_as_often_as_it_says(name, width):
    draw, inside, tries = np.random.default_rng(11), 0, 300
    metric = find_metric(name, 0)

    def sample(count):
        y = draw.standard_normal((count, 1)) * 2
        shared = draw.standard_normal((count, 1))
        first, second = y + shared, y + 1.1 * shared + 0.3 * draw.standard_normal((count, 1))
        return metric.rows(first, y, None), metric.rows(second, y, None)

    many = sample(400_000)
    assert many[0].shape[1] == width
    sign = 1 if metric.higher_is_better else -1
    true = sign * (metric.value(many[0]) - metric.value(many[1]))
    for i in range(tries):
        inside += bound(name, *sample(120), seed=i, resamples=400).upper >= true
    # Binomial: 0.95 less four of its standard errors.
    assert 0.90 <= inside / tries <= 0.995


def test_models_that_never_differ_are_not_proven_equal_by_a_discrete_metric():
    rows = np.stack([np.arange(100) % 2] * 2, axis=1).astype(float)
    found = bound("macro_f1", rows, rows)
    assert found.drop == 0
    assert found.upper == pytest.approx(2.7055 / 102.7055, rel=1e-3)


def test_equal_seeds_give_equal_bounds_and_others_nearly():
    draw = np.random.default_rng(3)
    first, second = np.abs(draw.standard_normal((2, 400, 1)))
    same = [bound("mae", first, second, seed=s).upper for s in (1, 1, 2)]
    assert same[0] == same[1] != same[2]
    assert same[0] == pytest.approx(same[2], abs=0.01)


def test_more_confidence_is_a_higher_bound():
    draw = np.random.default_rng(3)
    first, second = np.abs(draw.standard_normal((2, 400, 1)))
    found = [bound("mae", first, second, confidence=c).upper for c in (0.6, 0.9, 0.99)]
    assert found == sorted(found)


def test_one_example_gives_a_bound_that_is_a_number():
    assert bound("mae", np.ones((1, 1)), np.zeros((1, 1))).upper == -1


def test_an_interval_holds_the_value():
    draw = np.random.default_rng(3)
    tables = [np.abs(draw.standard_normal((400, 1))) for _ in range(2)]
    found = intervals(find_metric("rmse", 0), tables, confidence=0.95, resamples=500, seed=0)
    for (value, low, high), table in zip(found, tables, strict=True):
        assert value == pytest.approx(np.sqrt(table.mean()))
        assert low < value < high < low + 0.2
