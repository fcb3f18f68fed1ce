"""What makes a verdict: each demand in turn, and a reason in words for each that is not met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.contract import Refused
from slimline.measure.evaluation import EvaluationRecord, Interval
from slimline.measure.slices import holm_bounds
from slimline.trust.dsse import check_form
from slimline.trust.strict import read_object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slimline.gate.spec import Gate
    from slimline.measure.evaluation import StageNumbers

_CLOSE = 1e-9
"""Two margins that differ by less were written as the same number."""


def read_evaluation(path: Path) -> EvaluationRecord:
    """Read `evaluation.json`, strictly.

    Raises:
        Refused: when it is missing, malformed, or holds what is not a finite number.
    """
    file = path / "evaluation.json"
    if not file.is_file():
        msg = "evaluation.json is missing: nothing was measured"
        raise Refused(msg)
    data = read_object(file.read_bytes(), "evaluation.json")
    record = check_form(EvaluationRecord, data, "evaluation.json")
    if not record.stages:
        msg = "the evaluation is empty: it holds no stage"
        raise Refused(msg)
    return record


def judge(job: Gate, digest: str, record: EvaluationRecord) -> tuple[str, ...]:
    """The reasons against a candidate; none means that it passes.

    Args:
        job: the demands.
        digest: of the candidate's `Model` artifact.
        record: what was measured.
    """
    misfits = tuple(_unusable(job, digest, record))
    return misfits or tuple(_unmet(job, record))


def numbers_of(record: EvaluationRecord) -> dict[str, Any]:
    """The numbers that are judged, for the verdict and the task's table."""
    candidate, baseline, paired = record.stages[-1], record.stages[0], record.non_inferiority
    results = {"score": candidate.score, "accuracy": candidate.accuracy}
    told = {key: found for key, found in results.items() if found is not None}
    more = {"robustness": record.robustness, "ece": record.calibration}
    return {
        **{key: found.value for key, found in told.items()},
        **{f"{key}_low": found.low for key, found in told.items()},
        **{f"{key}_high": found.high for key, found in told.items()},
        **{
            f"baseline_{key}": before.value
            for key in told
            if (before := getattr(baseline, key)) is not None
        },
        **{f"{key}_drop_upper_bound": s.upper_bound for key, s in more.items() if s is not None},
        "drop": paired.drop,
        "drop_upper_bound": paired.upper_bound,
        "confidence": paired.confidence,
        "worst_class_drop": max((drop for _, drop in _class_drops(record)), default=0.0),
        "bytes": candidate.bytes,
        "latency_ms": candidate.latency_ms.value,
        "memory_mb": candidate.memory_mb,
        "shrink": candidate.shrink,
        "speedup": candidate.speedup,
        "speedup_low": (candidate.speedup_interval or _point(candidate.speedup)).low,
        "test_examples": paired.examples,
    }


def _unusable(job: Gate, digest: str, record: EvaluationRecord) -> Iterator[str]:
    """Why the evaluation says nothing about these bytes on unseen data."""
    if record.dataset_split != "test":
        yield f"the evaluation used the {record.dataset_split} split, only test counts"
    if record.candidate_digest != digest or record.stages[-1].model_digest != digest:
        measured = record.candidate_digest[:12]
        yield f"the evaluation is of other bytes: {measured}, the candidate is {digest[:12]}"
    if record.non_inferiority.examples < 1:
        yield "the evaluation is empty: it holds no test example"
    if record.non_inferiority.metric != job.metric:
        about = record.non_inferiority.metric
        yield f"the evaluation is about {about}, the gate judges {job.metric}"
    if abs(record.non_inferiority.margin - job.margin) > _CLOSE * max(1.0, job.margin):
        theirs = record.non_inferiority.margin
        yield f"the evaluation was made for margin {theirs:g}, the gate's is {job.margin:g}"
    if record.non_inferiority.confidence < job.confidence - _CLOSE:
        theirs = record.non_inferiority.confidence
        yield f"the evaluation's confidence is {theirs:g}, at least {job.confidence:g} is demanded"
    first, last = _classes(record.stages[0]), _classes(record.stages[-1])
    if first != last or (not last and record.stages[-1].accuracy is not None):
        yield f"the evaluation misses classes: the candidate has {len(last)}, baseline {len(first)}"


def _unmet(job: Gate, record: EvaluationRecord) -> Iterator[str]:
    paired, numbers = record.non_inferiority, numbers_of(record)
    if not paired.upper_bound <= job.margin:
        yield (
            f"the {'drop' if paired.higher_is_better else 'rise'} in {paired.metric} may be as "
            f"large as {paired.upper_bound:.4f} (at {paired.confidence:.0%} confidence), margin is "
            f"{job.margin:g}"
        )
    yield from _out_of_limits(job, numbers)
    for label, drop in _class_drops(record):
        if job.per_class_max_drop is not None and not drop <= job.per_class_max_drop:
            limit, what = job.per_class_max_drop, _by_class(record)
            yield f"{what} of class {label} dropped by {drop:.4f}, at most {limit:g} is allowed"
    if job.slice_max_drop is not None:
        yield from _worse_parts(job.slice_max_drop, record)


def _out_of_limits(job: Gate, numbers: dict[str, Any]) -> Iterator[str]:
    for what, key, least in (
        ("accuracy", "accuracy", job.min_accuracy),
        ("shrink", "shrink", job.min_shrink),
        ("lower bound of the speedup", "speedup_low", job.min_speedup),
        ("number of test examples", "test_examples", job.min_test_examples),
    ):
        if least is not None and key not in numbers:
            yield f"{what} was not measured, at least {least:g} is demanded"
        elif least is not None and not numbers[key] >= least:
            yield f"{what} is {numbers[key]:.6g}, at least {least:g} is demanded"
    for what, key, most in (
        ("size in bytes", "bytes", job.max_bytes),
        ("latency in ms", "latency_ms", job.max_latency_ms),
        ("memory in MB", "memory_mb", job.max_memory_mb),
        (
            "drop in accuracy on corrupted images (upper bound)",
            "robustness_drop_upper_bound",
            job.max_robustness_drop,
        ),
        (
            "rise of the expected calibration error (upper bound)",
            "ece_drop_upper_bound",
            job.max_ece_rise,
        ),
    ):
        if most is not None and key not in numbers:
            yield f"{what} was not measured, at most {most:g} is allowed"
        elif most is not None and not numbers[key] <= most:
            yield f"{what} is {numbers[key]:.6g}, at most {most:.10g} is allowed"


def _worse_parts(limit: float, record: EvaluationRecord) -> Iterator[str]:
    """A reason for each class or slice that is not shown to be good, all judged together."""
    if not record.slices:
        yield f"no class and no slice was compared, slice_max_drop {limit:g} needs one"
    paired = record.non_inferiority
    for name, bound in holm_bounds(record.slices, limit, paired.confidence).items():
        if not bound <= limit:
            yield (
                f"{name} may have dropped by {bound:.4f} (at {paired.confidence:.0%} confidence "
                f"for all {len(record.slices)} parts together), at most {limit:g} is allowed"
            )


def _by_class(record: EvaluationRecord) -> str:
    is_classifier = record.stages[-1].accuracy is not None
    return "accuracy" if is_classifier else record.non_inferiority.metric


def _point(value: float) -> Interval:
    """An estimate whose interval was not kept."""
    return Interval(value=value, low=value, high=value)


def _classes(stage: StageNumbers) -> set[str]:
    return set(stage.per_class)


def _class_drops(record: EvaluationRecord) -> list[tuple[str, float]]:
    baseline, candidate = record.stages[0].per_class, record.stages[-1].per_class
    return [(label, baseline[label] - candidate[label]) for label in baseline if label in candidate]
