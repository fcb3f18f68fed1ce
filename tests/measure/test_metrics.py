import numpy as np
import pytest
from sklearn import metrics as theirs

from slimline.contract import BadData, BadParameters
from slimline.measure.detection import overlaps
from slimline.measure.metrics import NAMES, find_metric, task_of

DRAW = np.random.default_rng(1)
LOGITS = DRAW.standard_normal((300, 8)).astype(np.float32) * 2
CLASSES = np.where(DRAW.random(300) < 0.6, LOGITS.argmax(1), DRAW.integers(0, 8, 300))
SURE = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
NUMBERS = DRAW.standard_normal((300, 2)).astype(np.float32) * 3 + 50
GUESSES = (NUMBERS + DRAW.standard_normal((300, 2)) * 0.5).astype(np.float32)


def value(name, answers, targets, reference=None, *, classes=8, batches=3):
    """Measured in batches, as an evaluation does."""
    metric = find_metric(name, classes)
    reference = answers if reference is None else reference
    parts = [np.array_split(a, batches) for a in (answers, targets, reference)]
    return metric.value(np.concatenate([metric.rows(*p) for p in zip(*parts, strict=True)]))


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("accuracy", theirs.accuracy_score(CLASSES, LOGITS.argmax(1))),
        ("top5", theirs.top_k_accuracy_score(CLASSES, LOGITS, k=5)),
        ("macro_f1", theirs.f1_score(CLASSES, LOGITS.argmax(1), average="macro")),
        ("balanced_accuracy", theirs.balanced_accuracy_score(CLASSES, LOGITS.argmax(1))),
        ("log_loss", theirs.log_loss(CLASSES, SURE)),
        ("brier", ((SURE - np.eye(8)[CLASSES]) ** 2).sum(1).mean()),
    ],
)
def test_metrics_of_classes_are_those_of_scikit_learn(name, due):
    assert value(name, LOGITS, CLASSES) == pytest.approx(due, rel=1e-5)


def test_a_class_that_is_only_answered_counts_in_macro_f1_as_in_scikit_learn():
    answers, targets = np.eye(3)[[0, 0, 2]], np.array([0, 0, 0])
    due = theirs.f1_score(targets, answers.argmax(1), average="macro", zero_division=0)
    assert value("macro_f1", answers, targets) == pytest.approx(due)
    assert value("balanced_accuracy", answers, targets) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("mae", theirs.mean_absolute_error(NUMBERS, GUESSES)),
        ("rmse", theirs.mean_squared_error(NUMBERS, GUESSES) ** 0.5),
        ("r2", theirs.r2_score(NUMBERS, GUESSES)),
    ],
)
def test_metrics_of_numbers_are_those_of_scikit_learn(name, due):
    assert value(name, GUESSES, NUMBERS) == pytest.approx(due, rel=1e-5)


def test_one_output_may_have_an_axis_or_none():
    due = theirs.r2_score(NUMBERS[:, 0], GUESSES[:, 0])
    assert value("r2", GUESSES[:, :1], NUMBERS[:, 0]) == pytest.approx(due, rel=1e-5)


def test_r2_of_a_target_that_never_changes_is_a_number():
    flat = np.ones((9, 1))
    assert value("r2", flat, flat) == 1
    assert value("r2", flat + 1, flat) == 0


def test_probabilities_are_not_put_through_softmax_again():
    assert value("log_loss", SURE, CLASSES) == pytest.approx(theirs.log_loss(CLASSES, SURE))


def test_calibration_error_by_hand():
    # Two bins: three answers at 0.8, two of them right; one at 0.6, right.
    sure = np.array([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.4, 0.6]])
    found = value("ece", sure, np.array([0, 1, 1, 1]))
    assert found == pytest.approx(3 / 4 * abs(2 / 3 - 0.8) + 1 / 4 * 0.4)


def test_a_classifier_that_is_as_sure_as_it_is_right_has_no_calibration_error():
    p = DRAW.random(200_000) * 0.5 + 0.5
    answers = np.stack([1 - p, p], axis=1)
    assert value("ece", answers, (DRAW.random(200_000) < p).astype(int)) < 0.01


def test_intersection_over_union_by_hand():
    targets = np.array([[[0, 0], [1, -1]], [[1, 1], [0, 0]]])
    found = np.array([[[0, 1], [1, 0]], [[1, 1], [1, 0]]])
    answers = np.moveaxis(np.eye(3)[found], -1, 1)
    # Class 0: 2 shared of 4; class 1: 3 shared of 5; class 2 is nowhere; the pixel -1 is nothing.
    assert value("mean_iou", answers, targets, classes=3) == pytest.approx((2 / 4 + 3 / 5) / 2)
    metric = find_metric("mean_iou", 3)
    by_class = metric.per_class(metric.rows(answers, targets, None))
    assert by_class[:2] == pytest.approx([0.5, 0.6])
    assert np.isnan(by_class[2])


def test_intersection_over_union_is_jaccard_over_all_pixels():
    targets, found = DRAW.integers(0, 4, (2, 20, 6, 6))
    due = theirs.jaccard_score(targets.ravel(), found.ravel(), average="macro")
    answers = np.moveaxis(np.eye(4)[found], -1, 1)
    assert value("mean_iou", answers, targets, classes=4) == pytest.approx(due)


def boxes(*rows, width, pad=4):
    made = np.full((pad, width), -1.0)
    made[: len(rows)] = rows
    return made


TRUTH = np.stack(
    [boxes((0, 0, 10, 10, 0), (20, 20, 30, 30, 0), width=5), boxes((5, 5, 9, 9, 0), width=5)]
)


def test_perfect_boxes_have_precision_one():
    answers = np.insert(TRUTH, 4, 0.9, axis=2)
    assert value("map", answers, TRUTH, classes=1, batches=1) == pytest.approx(1)


def test_overlap_of_boxes_by_hand():
    found = overlaps(np.array([[0, 0, 2, 2], [0, 0, 0, 0]]), np.array([[1, 1, 3, 3], [5, 5, 6, 6]]))
    assert found == pytest.approx(np.array([[1 / 7, 0], [0, 0]]))


def test_average_precision_by_hand():
    # Surest first: right, wrong, right; three targets. Precision 1 up to recall 1/3 (recalls 0 to
    # 0.33: 34 of them), 2/3 up to recall 2/3 (33 more), then none.
    answers = np.stack(
        [
            boxes((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.8, 0), width=6),
            boxes((5, 5, 9, 9, 0.7, 0), width=6),
        ]
    )
    due = (34 * 1 + 33 * 2 / 3) / 101
    assert value("map50", answers, TRUTH, classes=1, batches=1) == pytest.approx(due)


def test_a_target_is_found_once_and_a_loose_box_fails_the_high_thresholds():
    # Overlap 0.8: right at the 7 thresholds 0.5 to 0.8; the second answer finds the target taken.
    target = np.stack([boxes((0, 0, 10, 10, 0), width=5)])
    answers = np.stack([boxes((0, 0, 10, 8, 0.9, 0), (0, 0, 10, 10, 0.8, 0), width=6)])
    metric = find_metric("map", 1)
    row = metric.rows(answers, target, None)[0, : 2 * 12].reshape(2, 12)
    assert row[0, 2:].tolist() == [1] * 7 + [0] * 3
    assert row[1, 2:].tolist() == [0] * 7 + [1] * 3
    assert value("map", answers, target, classes=1, batches=1) == pytest.approx((7 + 3 / 2) / 10)


def test_boxes_of_another_class_do_not_match():
    answers = np.insert(TRUTH, 4, 0.9, axis=2)
    answers[..., 5] = np.where(answers[..., 5] == 0, 1, -1)
    assert value("map50", answers, TRUTH, classes=2, batches=1) == 0


def test_weights_of_boxes_are_what_repeating_images_is():
    draw = np.random.default_rng(5)
    corner = draw.random((12, 4, 2)) * 5
    truth = np.concatenate([corner, corner + 3, draw.integers(0, 2, (12, 4, 1))], axis=2)
    answers = np.insert(truth + draw.normal(0, 0.4, truth.shape), 4, draw.random((12, 4)), axis=2)
    answers[..., 5] = truth[..., 4]
    metric = find_metric("map", 2)
    rows, weights = metric.rows(answers, truth, None), draw.integers(0, 3, 12)
    again = np.repeat(rows, weights, axis=0)
    weighted = metric.values(rows, weights[None].astype(float))[0]
    assert 0.1 < metric.value(rows) < 0.9
    assert weighted == pytest.approx(metric.value(again))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in {"map", "map50", "mean_iou"}])
def test_weights_are_what_repeating_examples_is(name):
    numbers = task_of(name) == "regression"
    answers, targets = (GUESSES, NUMBERS) if numbers else (LOGITS, CLASSES)
    metric = find_metric(name, 8)
    rows = metric.rows(answers, targets, answers * 0.5 + 1)
    weights = np.random.default_rng(2).integers(0, 4, 300)
    due = metric.value(np.repeat(rows, weights, axis=0))
    assert metric.values(rows, weights[None].astype(float))[0] == pytest.approx(due)


def test_cosine_is_taken_with_the_baseline_and_zero_is_like_zero_alone():
    ours = np.array([[1.0, 0], [1, 1], [0, 0], [0, 0]])
    theirs_ = np.array([[2.0, 0], [1, -1], [0, 0], [1, 0]])
    assert value("cosine", ours, np.zeros(4), theirs_) == pytest.approx((1 + 0 + 1 + 0) / 4)


@pytest.fixture
def trusted(monkeypatch):
    monkeypatch.setenv("SLIMLINE_FACTORY_MODULES", "support")


@pytest.mark.usefixtures("trusted")
def test_a_metric_of_your_own_is_a_mean_or_what_it_combines():
    own = find_metric("support.own_metrics:half_error", 0)
    assert not own.higher_is_better
    found = own.value(own.rows(GUESSES, NUMBERS[:, 0], None))
    assert found == pytest.approx(np.abs(GUESSES[:, 0] - NUMBERS[:, 0]).mean() / 2)
    said = LOGITS.argmax(1) == 1
    found = value("support.own_metrics:precision_of_one", LOGITS, CLASSES)
    assert found == pytest.approx((CLASSES[said] == 1).mean())


@pytest.mark.usefixtures("trusted")
def test_a_metric_that_gives_no_row_for_each_example_is_refused():
    own = find_metric("support.own_metrics:a_number", 0)
    with pytest.raises(BadData, match="a row each"):
        own.rows(LOGITS, CLASSES, None)


def test_a_metric_of_a_package_that_is_not_trusted_is_refused():
    with pytest.raises(BadParameters, match="metric os:getcwd is of os, which is not trusted"):
        find_metric("os:getcwd", 0)


def test_a_metric_that_is_not_there_is_refused_with_the_names():
    with pytest.raises(BadParameters, match="no 'auc'; give one of accuracy, top5"):
        find_metric("auc", 2)


@pytest.mark.parametrize(
    ("name", "answers", "targets"),
    [
        ("accuracy", np.zeros((4, 3, 2)), np.zeros(4)),
        ("rmse", np.zeros((4, 2)), np.zeros((4, 3))),
        ("mean_iou", np.zeros((4, 2, 3, 3)), np.zeros((4, 6, 6), int)),
        ("map", np.zeros((4, 9, 5)), np.zeros((4, 2, 5))),
    ],
)
def test_answers_of_another_shape_are_refused_with_both_shapes(name, answers, targets):
    with pytest.raises(BadData, match=r"answers \[4, .*\] to \w+ \[4"):
        find_metric(name, 2).rows(answers, targets, answers)
