import json

import numpy as np
import pytest
from support.tasks import linear, split

from slimline.contract import BadData, BadParameters
from slimline.measure.evaluation import load_evaluation
from slimline.validate.spec import Validate

DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((300, 12)).astype(np.float32)
W = DRAW.standard_normal((12, 1))


def validated(tmp_path, models, test, **parameters):
    job = Validate(
        baseline=models[0], candidate=models[-1], test=test, latency_rounds=20, **parameters
    )
    made = job.run(work_dir=tmp_path / "work")
    page = (made["report"].path / "index.html").read_text()
    return load_evaluation(made["evaluation"].path), page, made.manifest.numbers


@pytest.fixture
def regression(tmp_path):
    y = (X @ W)[:, 0] + 0.1 * DRAW.standard_normal(300)
    night = np.arange(300) % 3 == 0
    models = linear(tmp_path / "a", W), linear(tmp_path / "b", W * 1.1, stage="pruned")
    return models, split(tmp_path / "t", "regression", X, y, (), night=night), y


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2"])
def test_a_regression_is_compared_in_its_own_unit(tmp_path, regression, metric):
    models, test, y = regression
    record, page, numbers = validated(
        tmp_path, models, test, metric=metric, margin=0.8, slices=("night",)
    )
    off = {"mae": np.abs, "rmse": np.square}.get(metric)
    if off is not None:
        due = [off((X @ W)[:, 0] * s - y).mean() for s in (1, 1.1)]
        due = np.sqrt(due) if metric == "rmse" else due
        found = [s.measured.value for s in record.stages]
        assert found == pytest.approx(due, rel=1e-4)
        assert record.non_inferiority.drop == pytest.approx(due[1] - due[0], rel=1e-3)
        assert not record.non_inferiority.higher_is_better
    paired = record.non_inferiority
    assert (paired.metric, paired.examples, record.task) == (metric, 300, "regression")
    assert 0 < paired.drop < paired.upper_bound < 0.8
    assert "bootstrap" in paired.method
    assert record.stages[0].measured.low < record.stages[0].measured.high
    assert record.stages[0].accuracy is None
    assert (record.robustness, record.calibration) == (None, None)
    [night] = record.slices
    assert (night.name, night.examples, night.metric) == ("night", 100, metric)
    assert night.standard_error > 0
    assert numbers[metric] == record.stages[-1].measured.value
    assert f"{numbers[metric]:.4g}" in page
    assert "Confusion" not in page


def test_a_margin_of_a_fraction_that_is_none_is_refused(regression):
    models, test, _ = regression
    values = {"baseline": models[0].uri, "candidate": models[1].uri, "test": test.uri}
    with pytest.raises(BadParameters, match=r"margin 0\.8 of accuracy is a fraction"):
        Validate.parse({**values, "margin": 0.8})
    Validate.parse({**values, "margin": 0.8, "metric": "rmse"})


def test_a_metric_of_another_task_is_refused_with_both(tmp_path, regression):
    models, test, _ = regression
    with pytest.raises(BadParameters, match=r"accuracy is of classification.* of regression"):
        validated(tmp_path, models, test)


def test_a_model_of_more_outputs_than_targets_is_refused(tmp_path, regression):
    _, test, _ = regression
    wide = linear(tmp_path / "w", np.ones((12, 2)))
    with pytest.raises(BadData, match=r"answers \[256, 2\] to targets \[256\]"):
        validated(tmp_path, (wide, wide), test, metric="rmse")


def test_a_segmentation_is_compared_by_intersection_over_union(tmp_path):
    labels = ("sky", "road", "car")
    weights = DRAW.standard_normal((12, 3 * 4))
    y = (X @ weights).reshape(-1, 3, 2, 2).argmax(1)
    test = split(tmp_path / "t", "segmentation", X, y, labels)
    good = linear(tmp_path / "a", weights, labels, (3, 2, 2))
    worse = weights + 0.3 * DRAW.standard_normal(weights.shape)
    bad = linear(tmp_path / "b", worse, labels, (3, 2, 2), "pruned")
    record, page, _ = validated(tmp_path, (good, bad), test, metric="mean_iou", margin=0.3)
    assert record.stages[0].measured.value == 1
    assert 0.5 < record.stages[1].measured.value < 1
    assert set(record.stages[1].per_class) == set(labels)
    mean = np.mean(list(record.stages[1].per_class.values()))
    assert mean == pytest.approx(record.stages[1].measured.value)
    assert "mean_iou of each stage" in page


def test_a_detection_is_compared_by_mean_average_precision(tmp_path):
    x = np.zeros((40, 12), np.float32)
    x[:, 0] = 1
    y = np.full((40, 2, 5), -1)
    y[:, 0] = (10, 10, 30, 30, 0)
    rows = np.zeros((12, 3 * 6))
    rows[0] = (10, 10, 30, 30, 0.9, 0, 50, 50, 60, 60, 0.5, 0, 0, 0, 0, 0, 0, -1)
    shifted = rows.copy()
    shifted[0, [0, 2]] += 5
    test = split(tmp_path / "t", "detection", x, y, ("cat",))
    models = (
        linear(tmp_path / "a", rows, ("cat",), (3, 6)),
        linear(tmp_path / "b", shifted, ("cat",), (3, 6), "pruned"),
    )
    record, _, _ = validated(tmp_path, models, test, metric="map", margin=0.5, resamples=200)
    # Moved by 5 of 20: the overlap is 0.6, so 0.5, 0.55 and 0.6 of ten thresholds hold.
    assert [s.measured.value for s in record.stages] == pytest.approx([1, 0.3])
    assert record.stages[1].per_class == {"cat": pytest.approx(0.3)}


def test_embeddings_are_compared_with_the_baselines(tmp_path):
    weights = DRAW.standard_normal((12, 5))
    test = split(tmp_path / "t", "classification", X, np.zeros(300), ("a", "b"))
    models = (
        linear(tmp_path / "a", weights, ("a", "b")),
        linear(tmp_path / "b", weights + 0.2 * DRAW.standard_normal((12, 5)), ("a", "b")),
    )
    record, _, _ = validated(tmp_path, models, test, metric="cosine", margin=0.1)
    assert record.stages[0].measured.value == pytest.approx(1)
    ours, theirs = X @ weights, record.stages[1].measured.value
    assert 0.9 < theirs < 1
    assert record.non_inferiority.drop == pytest.approx(1 - theirs)
    assert ours.shape[1] != 2
    assert record.stages[0].per_class == {}


def test_a_metric_of_your_own_is_measured(tmp_path, regression, monkeypatch):
    monkeypatch.setenv("SLIMLINE_FACTORY_MODULES", "support")
    models, test, y = regression
    name = "support.own_metrics:half_error"
    record, page, _ = validated(tmp_path, models, test, metric=name, margin=2)
    due = np.abs((X @ W)[:, 0] - y).mean() / 2
    assert record.stages[0].measured.value == pytest.approx(due, rel=1e-4)
    assert record.non_inferiority.drop > 0
    assert name in page
    job = Validate(baseline=models[0], candidate=models[1], test=test, metric=name, margin=2)
    assert len(job.outside()["metric"]) == 64


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy", "top5", "log_loss"])
def test_a_classifier_is_judged_by_another_metric_and_still_has_its_accuracy(tmp_path, metric):
    weights, labels = DRAW.standard_normal((12, 7)), tuple("abcdefg")
    y = (X @ weights).argmax(1)
    test = split(tmp_path / "t", "classification", X, y, labels)
    worse = weights + 1.5 * DRAW.standard_normal(weights.shape)
    models = linear(tmp_path / "a", weights, labels), linear(tmp_path / "b", worse, labels)
    record, _, _ = validated(tmp_path, models, test, metric=metric, margin=0.4, resamples=300)
    assert record.stages[0].accuracy.value == 1
    assert record.stages[1].score.value != record.stages[1].accuracy.value
    assert record.non_inferiority.upper_bound > record.non_inferiority.drop > 0
    assert record.non_inferiority.metric == metric
    assert len([p for p in record.slices if p.name.startswith("class ")]) == len(set(y))


@pytest.fixture
def sliced(tmp_path):
    weights, labels = DRAW.standard_normal((12, 3)), ("a", "b", "c")
    y = (X @ weights).argmax(1)
    light = np.where(X[:, 0] > 0, "day", "night")
    age = np.arange(300)
    test = split(tmp_path / "t", "classification", X, y, labels, light=light, age=age)
    flipped = weights.copy()
    flipped[0] += 2.0
    models = linear(tmp_path / "a", weights, labels), linear(tmp_path / "b", flipped, labels)
    return models, test, light


def test_slices_are_parts_of_the_split_by_its_columns(tmp_path, sliced):
    models, test, light = sliced
    record, page, _ = validated(tmp_path, models, test, slices=("light", "age>=250", "light!=day"))
    parts = {p.name: p for p in record.slices if not p.name.startswith("class ")}
    assert {n: p.examples for n, p in parts.items()} == {
        "light=day": (light == "day").sum(),
        "light=night": (light == "night").sum(),
        "age>=250": 50,
        "light!=day": (light == "night").sum(),
    }
    night = parts["light=night"]
    lost = night.only_baseline_right - night.only_candidate_right
    assert night.drop == pytest.approx(lost / night.examples)
    for name in parts:
        assert name.replace(">", "&gt;") in page


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("weather", BadParameters, "no column 'weather'; it has light, age"),
        ("age", BadParameters, "300 values; compare it"),
        ("age>=old", BadParameters, "compares int64 with 'old'"),
        ("light=dusk", BadData, "no example of the test split is in 'light=dusk'"),
    ],
)
def test_a_slice_that_cannot_be_is_refused_before_anything_is_measured(
    tmp_path, sliced, text, error, match
):
    models, test, _ = sliced
    with pytest.raises(error, match=match):
        validated(tmp_path, models, test, slices=(text,))


def test_an_evaluation_from_before_metrics_is_still_read(tmp_path, sliced):
    models, test, _ = sliced
    record, _, _ = validated(tmp_path, models, test)
    old = record.model_dump(
        mode="json",
        exclude={"task": True, "slices": True, "robustness": True, "calibration": True}
        | {"non_inferiority": {"metric", "higher_is_better"}},
    )
    for stage in old["stages"]:
        for name in ("score", "latency_p95_ms", "cpu_ms", "batch", "batch_latency_ms"):
            del stage[name]
        for name in ("batch_speedup", "ece", "brier", "reliability"):
            del stage[name]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "evaluation.json").write_text(json.dumps(old))
    read = load_evaluation(tmp_path / "old")
    assert read.non_inferiority == record.non_inferiority
    assert read.stages[0].measured == record.stages[0].accuracy
