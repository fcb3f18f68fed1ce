import pytest

from slimline.models.finder import steepest

RATES = [10 ** (-5 + i / 10) for i in range(50)]


def test_the_rate_of_the_steepest_fall_is_found_and_what_comes_after_the_lowest_point_is_not():
    losses = [2.0] * 20 + [1.9, 1.8, 1.4, 1.2, 1.1, 1.05, 1.04, 1.03, 1.02, 3.0, 2.0, 1.03]
    found = steepest(RATES[: len(losses)], losses)
    assert RATES[20] <= found <= RATES[23]


@pytest.mark.parametrize("losses", [[1.0] * 20, [float(i) for i in range(20)], [1.0, 0.5]])
def test_a_loss_that_never_falls_has_no_rate(losses):
    assert steepest(RATES[: len(losses)], losses) is None
