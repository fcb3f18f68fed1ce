from __future__ import annotations

import json

import pytest
from support.packages import tiny_evaluation, tiny_model

from slimline.contract import BadParameters, Evaluation, Model, Refused
from slimline.gate.spec import Gate
from slimline.measure.evaluation import Interval, Shift, SliceComparison
from slimline.trust.keys import TrustedKeys, generate_key
from slimline.trust.verdict import read_verdict, require_passed

PRIVATE, PUBLIC = generate_key()
TRUSTED = TrustedKeys.of(PUBLIC)
FACTS = {"margin": 0.02}


@pytest.fixture(autouse=True)
def signing(monkeypatch):
    monkeypatch.setenv("SLIMLINE_SECRET_SIGNING", PRIVATE)


@pytest.fixture
def candidate(tmp_path):
    tiny_model(tmp_path / "model")
    return Model.at(tmp_path / "model")


@pytest.fixture
def judge(candidate, tmp_path):
    """Judge the candidate by an evaluation, given as a record or as text."""

    def run(evaluation=None, **demands):
        found = evaluation if evaluation is not None else tiny_evaluation(candidate.digest)
        text = found if isinstance(found, str) else found.model_dump_json()
        place = tmp_path / "evaluation"
        place.mkdir(exist_ok=True)
        (place / "evaluation.json").write_text(text)
        job = Gate(candidate=candidate, evaluation=Evaluation.at(place), **{**FACTS, **demands})
        outcome = job.run()
        envelope = (outcome["verdict"].path / "verdict.dsse.json").read_bytes()
        record = read_verdict(envelope, candidate.digest, TRUSTED)
        numbers = outcome.manifest.numbers
        assert numbers["passed"] is record.passed
        assert tuple(numbers["reasons"]) == record.reasons
        assert record.passed is not bool(record.reasons)
        return record, envelope

    return run


def _text(candidate, change):
    """The evaluation as JSON text, changed where Python objects would not allow it."""
    value = json.loads(tiny_evaluation(candidate.digest).model_dump_json())
    change(value)
    return json.dumps(value)


def test_a_good_candidate_passes_and_the_verdict_holds_what_it_was_judged_by(judge, candidate):
    record, envelope = judge(min_accuracy=0.9, max_bytes=20_000)
    assert record.passed
    assert record.thresholds["min_accuracy"] == 0.9
    assert record.thresholds["margin"] == 0.02
    assert record.thresholds["max_latency_ms"] is None
    assert record.numbers["accuracy"] == 0.96
    assert record.numbers["drop_upper_bound"] == 0.015
    assert record.dataset_digest == "d" * 64
    assert require_passed(envelope, candidate.digest, TRUSTED) == record


def test_a_verdict_is_the_same_bytes_for_the_same_job(judge):
    assert judge()[1] == judge()[1]


def test_a_verdict_holds_for_the_candidate_alone(judge):
    _, envelope = judge()
    with pytest.raises(Refused, match="for other bytes"):
        read_verdict(envelope, "0" * 64, TRUSTED)


@pytest.mark.parametrize(
    ("demand", "reason"),
    [
        ({"min_accuracy": 0.97}, "accuracy is 0.96, at least 0.97 is demanded"),
        ({"max_bytes": 9_999}, "size in bytes is 10000, at most 9999 is allowed"),
        ({"max_latency_ms": 0.04}, "latency in ms is 0.05, at most 0.04 is allowed"),
        ({"max_memory_mb": 1.0}, "memory in MB is 1.5, at most 1 is allowed"),
        ({"min_shrink": 5}, "shrink is 4, at least 5 is demanded"),
        ({"min_speedup": 5}, "speedup is 4, at least 5 is demanded"),
        ({"min_test_examples": 361}, "number of test examples is 360, at least 361 is demanded"),
        ({"per_class_max_drop": 0.005}, "accuracy of class 3 dropped by 0.0100, at most 0.005"),
    ],
)
def test_each_unmet_demand_has_a_reason_with_number_and_threshold(judge, demand, reason):
    record, _ = judge(**demand)
    assert not record.passed
    assert any(reason in given for given in record.reasons)


@pytest.mark.parametrize(
    "demand",
    [
        {"min_accuracy": 0.96},
        {"max_bytes": 10_000},
        {"max_latency_ms": 0.05},
        {"max_memory_mb": 1.5},
        {"min_shrink": 4},
        {"min_speedup": 4},
        {"min_test_examples": 360},
        {"per_class_max_drop": 0.011},
    ],
)
def test_a_demand_that_is_just_met_passes(judge, demand):
    assert judge(**demand)[0].passed


def test_all_reasons_are_told_at_once(judge):
    record, _ = judge(min_accuracy=0.99, max_bytes=1, min_speedup=9)
    assert len(record.reasons) == 3


def _paired(candidate, **changes):
    good = tiny_evaluation(candidate.digest)
    return tiny_evaluation(
        candidate.digest,
        non_inferiority=good.non_inferiority.model_copy(update=changes),
    )


def test_a_drop_that_may_exceed_the_margin_is_refused(judge, candidate):
    record, _ = judge(_paired(candidate, upper_bound=0.0201))
    assert record.reasons == (
        "the drop in accuracy may be as large as 0.0201 (at 95% confidence), margin is 0.02",
    )


def test_an_evaluation_for_another_margin_is_refused(judge):
    record, _ = judge(margin=0.05)
    assert record.reasons == ("the evaluation was made for margin 0.02, the gate's is 0.05",)


def test_an_evaluation_of_other_bytes_is_refused(judge):
    record, _ = judge(tiny_evaluation("e" * 64))
    assert record.reasons[0].startswith("the evaluation is of other bytes: eeeeeeeeeeee")


def test_an_evaluation_that_names_another_candidate_than_it_measured_is_refused(judge, candidate):
    good = tiny_evaluation(candidate.digest)
    mixed = good.model_copy(update={"candidate_digest": "e" * 64})
    assert judge(mixed)[0].reasons[0].startswith("the evaluation is of other bytes: eeeeeeeeeeee")


def test_a_last_stage_that_is_not_the_candidate_is_refused(judge, candidate):
    good = tiny_evaluation(candidate.digest)
    turned = tiny_evaluation(candidate.digest, stages=good.stages[::-1])
    assert "of other bytes" in judge(turned)[0].reasons[0]


@pytest.mark.parametrize("split", ["train", "selection", ""])
def test_only_the_test_split_counts(judge, candidate, split):
    record, _ = judge(tiny_evaluation(candidate.digest, split=split))
    assert record.reasons == (f"the evaluation used the {split} split, only test counts",)


def test_an_empty_evaluation_is_refused(judge, candidate):
    assert "holds no stage" in judge(tiny_evaluation(candidate.digest, stages=()))[0].reasons[0]
    assert "no test example" in judge(_paired(candidate, examples=0))[0].reasons[0]


def test_a_class_that_was_not_measured_is_refused(judge, candidate):
    def drop_one(value):
        value["stages"][-1]["per_class"].pop("7")

    assert "misses classes" in judge(_text(candidate, drop_one))[0].reasons[0]


NUMBERS = [
    ("stages", -1, "accuracy", "value"),
    ("stages", -1, "latency_ms", "value"),
    ("stages", -1, "bytes"),
    ("stages", -1, "shrink"),
    ("stages", 0, "per_class", "3"),
    ("non_inferiority", "upper_bound"),
    ("non_inferiority", "margin"),
]


@pytest.mark.parametrize("path", NUMBERS, ids=lambda path: ".".join(map(str, path)))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None, "NaN", "high"])
def test_a_number_that_is_none_is_refused_with_a_signed_reason(judge, candidate, path, value):
    def put(whole):
        *way, last = path
        for key in way:
            whole = whole[key]
        whole[last] = value

    record, _ = judge(_text(candidate, put))
    assert not record.passed
    assert len(record.reasons) == 1
    assert record.reasons[0].startswith(("evaluation.json holds", "evaluation.json is malformed"))


@pytest.mark.parametrize("path", NUMBERS, ids=lambda path: ".".join(map(str, path)))
def test_a_missing_number_is_refused(judge, candidate, path):
    def remove(whole):
        *way, last = path
        for key in way:
            whole = whole[key]
        del whole[last]

    record, _ = judge(_text(candidate, remove))
    assert not record.passed


@pytest.mark.parametrize("text", ["{}", "[]", "", "null", '{"stages": []}', '{"a": 1, "a": 2}'])
def test_a_malformed_evaluation_is_refused(judge, text):
    record, _ = judge(text)
    assert not record.passed
    assert record.reasons[0].startswith("evaluation.json is malformed")


def test_a_missing_evaluation_is_refused(candidate, tmp_path):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "other.json").write_text("{}")
    job = Gate(candidate=candidate, evaluation=Evaluation.at(tmp_path / "e"))
    numbers = job.run().manifest.numbers
    assert numbers["passed"] is False
    assert numbers["reasons"] == ["evaluation.json is missing: nothing was measured"]


def test_without_a_signing_key_there_is_no_verdict(judge, monkeypatch):
    monkeypatch.delenv("SLIMLINE_SECRET_SIGNING")
    with pytest.raises(BadParameters, match="secret 'signing' is not there"):
        judge()


def test_the_signing_key_is_in_no_file_and_no_number(candidate, tmp_path):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "evaluation.json").write_text(
        tiny_evaluation(candidate.digest).model_dump_json()
    )
    job = Gate(candidate=candidate, evaluation=Evaluation.at(tmp_path / "e"), **FACTS)
    outcome = job.run(work_dir=tmp_path / "work")
    secret_line = PRIVATE.splitlines()[1]
    assert secret_line not in outcome.manifest.model_dump_json()
    files = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert files
    assert all(secret_line.encode() not in path.read_bytes() for path in files)


def test_a_speedup_that_may_be_none_is_refused_though_its_median_is_enough(judge, candidate):
    record = tiny_evaluation(candidate.digest)
    interval = Interval(value=1.1, low=0.9, high=1.3)
    last = record.stages[-1].model_copy(update={"speedup": 1.1, "speedup_interval": interval})
    noisy = record.model_copy(update={"stages": (record.stages[0], last)})

    judged, _ = judge(noisy, min_speedup=1)

    assert judged.reasons == ("lower bound of the speedup is 0.9, at least 1 is demanded",)
    assert judge(noisy, min_speedup=0.9)[0].passed


def test_a_bound_of_too_little_confidence_is_refused(judge, candidate):
    record = tiny_evaluation(candidate.digest)
    unsure = record.non_inferiority.model_copy(update={"confidence": 0.6})

    judged, _ = judge(record.model_copy(update={"non_inferiority": unsure}))

    assert judged.reasons == ("the evaluation's confidence is 0.6, at least 0.95 is demanded",)


def _with(candidate, **changes):
    return tiny_evaluation(candidate.digest).model_copy(update=changes)


def _part(name, lost, won=0, examples=500):
    return SliceComparison(
        name=name,
        metric="accuracy",
        examples=examples,
        baseline=0.9,
        candidate=0.9 - (lost - won) / examples,
        drop=(lost - won) / examples,
        only_baseline_right=lost,
        only_candidate_right=won,
    )


def test_a_slice_that_may_have_dropped_too_far_is_named_with_its_corrected_bound(judge, candidate):
    parts = (_part("class 3", 2), _part("light=night", 15), _part("class 4", 0))
    record, _ = judge(_with(candidate, slices=parts), slice_max_drop=0.03)
    [reason] = record.reasons
    assert reason.startswith("light=night may have dropped by 0.04")
    assert "(at 95% confidence for all 3 parts together), at most 0.03 is allowed" in reason
    assert judge(_with(candidate, slices=parts), slice_max_drop=0.06)[0].passed


def test_a_bound_that_is_enough_for_one_slice_is_not_for_many(judge, candidate):
    one = _part("light=night", 6)
    assert judge(_with(candidate, slices=(one,)), slice_max_drop=0.024)[0].passed
    many = (one, *(_part(f"class {i}", 6) for i in range(9)))
    record, _ = judge(_with(candidate, slices=many), slice_max_drop=0.024)
    assert len(record.reasons) == 10


def test_slices_that_were_not_compared_are_not_good(judge):
    record, _ = judge(slice_max_drop=0.05)
    assert record.reasons == ("no class and no slice was compared, slice_max_drop 0.05 needs one",)


def _shift(drop, upper_bound):
    return Shift(
        method="m",
        confidence=0.95,
        baseline=0.5,
        candidate=0.5,
        drop=drop,
        upper_bound=upper_bound,
        examples=100,
    )


@pytest.mark.parametrize(
    ("field", "demand", "what"),
    [
        ("robustness", "max_robustness_drop", "drop in accuracy on corrupted images"),
        ("calibration", "max_ece_rise", "rise of the expected calibration error"),
    ],
)
def test_robustness_and_calibration_are_judged_by_their_bounds(
    judge, candidate, field, demand, what
):
    measured = _with(candidate, **{field: _shift(0.01, 0.03)})
    record, _ = judge(measured, **{demand: 0.02})
    assert record.reasons == (f"{what} (upper bound) is 0.03, at most 0.02 is allowed",)
    assert judge(measured, **{demand: 0.03})[0].passed
    record, _ = judge(**{demand: 0.02})
    assert record.reasons == (f"{what} (upper bound) was not measured, at most 0.02 is allowed",)


def test_an_evaluation_by_another_metric_is_refused(judge, candidate):
    paired = _paired(candidate, metric="macro_f1")
    record, _ = judge(paired)
    assert record.reasons == ("the evaluation is about macro_f1, the gate judges accuracy",)
    assert judge(paired, metric="macro_f1")[0].passed


def test_an_error_is_judged_in_its_own_unit_and_has_no_accuracy(judge, candidate):
    good = tiny_evaluation(candidate.digest)
    stages = tuple(
        stage.model_copy(
            update={
                "accuracy": None,
                "score": Interval(value=120.0, low=110.0, high=130.0),
                "per_class": {},
            }
        )
        for stage in good.stages
    )
    facts = {"metric": "rmse", "margin": 50.0, "upper_bound": 40.0, "higher_is_better": False}
    paired = good.non_inferiority.model_copy(update=facts)
    record = good.model_copy(
        update={"stages": stages, "non_inferiority": paired, "task": "regression"}
    )
    judged, _ = judge(record, metric="rmse", margin=50.0)
    assert judged.passed
    assert judged.numbers["score"] == 120
    judged, _ = judge(record, metric="rmse", margin=50.0, min_accuracy=0.5)
    assert judged.reasons == ("accuracy was not measured, at least 0.5 is demanded",)
    worse = record.model_copy(
        update={"non_inferiority": paired.model_copy(update={"upper_bound": 60.0})}
    )
    judged, _ = judge(worse, metric="rmse", margin=50.0)
    assert judged.reasons[0].startswith("the rise in rmse may be as large as 60.0000")
