import itertools

import numpy as np
import pytest

from slimline.search.front import choose, dominates, front_of, non_dominated, promising
from slimline.search.result import drop_of, upper_of

from .conftest import result, settings

BASELINE = result()


def test_a_front_holds_what_nothing_dominates_and_all_of_it():
    points = [tuple(p) for p in np.random.default_rng(0).integers(0, 6, (60, 3)).tolist()]
    front = non_dominated(points)
    for i, point in enumerate(points):
        dominated = any(dominates(other, point) for other in points)
        assert (i in front) is not dominated
    assert not any(dominates(points[a], points[b]) for a, b in itertools.permutations(front, 2))


def test_the_promising_are_sorted_by_front_and_its_ends_come_first():
    points = [(5.0, 5.0), (0.0, 4.0), (4.0, 0.0), (1.9, 2.0), (2.0, 1.9), (6.0, 6.0)]
    order = promising(points)
    assert set(order[:2]) == {1, 2}
    assert set(order[2:4]) == {3, 4}
    assert order[4:] == [0, 5]


def test_what_breaks_a_limit_is_not_on_the_front():
    large, fast = result(speed=3, size=5000, lost=1), result(speed=2, size=900, lost=3)
    assert front_of([large, fast], settings()) == [large, fast]
    assert front_of([large, fast], settings(max_bytes=1000)) == [fast]


@pytest.mark.parametrize(("prefer", "index"), [("speed", 0), ("size", 1), ("accuracy", 2)])
def test_the_choice_is_the_best_of_those_that_keep_the_budget(prefer, index):
    able = [
        result(speed=4, size=3000, lost=3),
        result(speed=3, size=1000, lost=2),
        result(speed=2, size=5000, lost=0),
    ]
    over = result(speed=9, size=100, lost=20)
    choice = choose([over, *able], BASELINE, settings(max_drop=0.1), prefer)
    assert choice.passed
    assert choice.result is able[index]
    assert "of 3 that keep the drop under 10 points at 95 % confidence" in choice.reason


def test_an_upper_bound_and_not_the_estimate_keeps_the_budget():
    near = result(speed=2, size=100, lost=4)  # 4 points of 100 examples: up to 9 at 95 %
    assert upper_of(near.answers, settings()) > 0.08
    assert not choose([near], BASELINE, settings(max_drop=0.05), "speed").passed
    assert choose([near], BASELINE, settings(max_drop=0.1), "speed").passed


def test_when_none_keeps_the_budget_the_nearest_is_given_and_has_not_passed():
    near, far = result(speed=2, lost=20), result(speed=4, lost=40)
    choice = choose([far, near], BASELINE, settings(max_drop=0.01), "speed")
    assert (choice.result, choice.passed) == (near, False)
    assert choice.reason.startswith("none of 2 within the limits is sure to keep the drop under 1 ")


def test_a_network_that_is_no_faster_is_not_chosen_for_speed():
    slow = result(speed=0.8, size=100)
    choice = choose([slow], BASELINE, settings(max_drop=0.1), "speed")
    assert (choice.result, choice.passed) == (BASELINE, False)
    assert choose([slow], BASELINE, settings(max_drop=0.1), "size").passed


def test_when_none_keeps_the_limits_the_teacher_itself_is_given():
    choice = choose([result(size=9999)], BASELINE, settings(max_bytes=1), "size")
    assert (choice.result, choice.passed) == (BASELINE, False)


def test_of_a_teacher_that_has_seen_the_examples_its_known_accuracy_counts():
    able = result(speed=2, lost=8)  # beside a teacher that is always right here: 92 of 100
    known = settings(max_drop=0.1, teacher_accuracy=0.93)
    assert not choose([able], BASELINE, settings(max_drop=0.1), "speed").passed
    assert choose([able], BASELINE, known, "speed").passed
    assert drop_of(able.answers, known) == pytest.approx(0.01)
    # Wilson's bound of 92 of 100 at 95 %, one-sided, is 0.8634.
    assert upper_of(able.answers, known) == pytest.approx(0.93 - 0.8634, abs=1e-3)
