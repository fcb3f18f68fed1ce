"""From rows of metrics and times to the numbers of `evaluation.json`."""

from __future__ import annotations

import math
import os
import platform
from typing import TYPE_CHECKING, Any

from slimline.measure.bootstrap import BOOTSTRAP, intervals, paired_bound
from slimline.measure.evaluation import (
    Interval,
    NonInferiority,
    ReliabilityBin,
    Shift,
    StageNumbers,
)
from slimline.measure.exact import MOST_PAIRS, exact_confidence
from slimline.measure.intervals import TANGO, tango_upper, wilson
from slimline.measure.runtime import import_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slimline.data.dataset import Examples
    from slimline.measure.latency import Latency
    from slimline.measure.metric import Metric
    from slimline.validate.answers import Answers
    from slimline.validate.spec import Validate
    from slimline.validate.stages import Stage


def compare(job: Validate, metric: Metric, baseline: Answers, candidate: Answers) -> NonInferiority:
    """The paired comparison: Tango's bound where answers are right or wrong, else a bootstrap.

    See `measure.intervals.tango_upper`, `measure.exact` and `measure.bootstrap.paired_bound`.
    """
    first, last = baseline.rows[metric.name], candidate.rows[metric.name]
    common: dict[str, Any] = {
        "margin": job.margin,
        "confidence": job.confidence,
        "examples": len(first),
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
    }
    if metric.binary:
        lost, won = int((first > last).sum()), int((first < last).sum())
        method, confidence = TANGO, job.confidence
        if job.exact and len(first) <= MOST_PAIRS:
            method = f"{TANGO}, its level exact at the margin (Chan 1998)"
            confidence = exact_confidence(len(first), job.margin, job.confidence)
        return NonInferiority(
            **common,
            method=method,
            drop=(lost - won) / len(first),
            upper_bound=tango_upper(lost, won, len(first), confidence),
            only_baseline_right=lost,
            only_candidate_right=won,
        )
    bound = paired_bound(metric, first, last, **_bootstrap(job))
    method = f"{BOOTSTRAP}, {job.resamples} resamples"
    return NonInferiority(**common, method=method, drop=bound.drop, upper_bound=bound.upper)


def calibration(job: Validate, ece: Metric, baseline: Answers, candidate: Answers) -> Shift:
    """How much less well calibrated the candidate is, by its expected calibration error."""
    first, last = baseline.rows["ece"], candidate.rows["ece"]
    bound = paired_bound(ece, first, last, **_bootstrap(job))
    return Shift(
        method=BOOTSTRAP,
        confidence=job.confidence,
        baseline=ece.value(first),
        candidate=ece.value(last),
        drop=bound.drop,
        upper_bound=bound.upper,
        examples=len(first),
    )


def scores(job: Validate, metric: Metric, answered: Sequence[Answers]) -> list[Interval]:
    """The evaluation's metric of each model, with its interval."""
    tables = [found.rows[metric.name] for found in answered]
    if metric.binary:
        return [wilson(int(rows.sum()), len(rows), job.confidence) for rows in tables]
    found = intervals(metric, tables, **_bootstrap(job))
    return [Interval(value=value, low=low, high=high) for value, low, high in found]


def quality(
    job: Validate,
    examples: Examples,
    metrics: Mapping[str, Metric],
    answered: Sequence[Answers],
) -> list[dict[str, Any]]:
    """For each model the fields of `StageNumbers` that say how good its answers are."""
    metric = metrics[job.metric]
    found: list[dict[str, Any]] = []
    for answers, score in zip(answered, scores(job, metric, answered), strict=True):
        fields: dict[str, Any] = {"score": score, "per_class": {}}
        if "accuracy" in metrics:
            right = answers.right
            fields |= {
                "accuracy": wilson(int(right.sum()), len(right), job.confidence),
                "per_class": {
                    label: float(right[examples.y == index].mean())
                    for index, label in enumerate(examples.info.labels)
                    if (examples.y == index).any()
                },
                "ece": metrics["ece"].value(answers.rows["ece"]),
                "brier": metrics["brier"].value(answers.rows["brier"]),
                "reliability": reliability(answers),
            }
        elif metric.per_class is not None:
            values = metric.per_class(answers.rows[metric.name]).tolist()
            labelled = zip(examples.info.labels, values, strict=True)
            fields["per_class"] = {n: v for n, v in labelled if math.isfinite(v)}
        if job.metric == "accuracy":
            fields["score"] = None
        found.append(fields)
    return found


def reliability(answers: Answers) -> tuple[ReliabilityBin, ...]:
    """The bins of a reliability diagram that hold an example."""
    gap, confidence, count = answers.rows["ece"].sum(axis=0).reshape(3, -1)
    return tuple(
        ReliabilityBin(confidence=c / n, accuracy=(c + g) / n, examples=int(n))
        for g, c, n in zip(gap.tolist(), confidence.tolist(), count.tolist(), strict=True)
        if n > 0
    )


def stage_numbers(
    stage: Stage,
    fields: Mapping[str, Any],
    *,
    baseline_bytes: int,
    latency: Latency,
    batch: int | None,
    in_batches: Latency | None,
    memory_mb: float,
) -> StageNumbers:
    """The numbers of one model; a class that the test split lacks has no accuracy."""
    more: dict[str, Any] = {}
    if in_batches is not None:
        more = {
            "batch": batch,
            "batch_latency_ms": in_batches.median_ms,
            "batch_speedup": in_batches.speedup,
        }
    return StageNumbers(
        stage=stage.info.stage,
        model_digest=stage.digest,
        **fields,
        bytes=stage.bytes,
        latency_ms=latency.median_ms,
        memory_mb=round(memory_mb, 3),
        speedup=latency.speedup.value,
        shrink=baseline_bytes / stage.bytes,
        latency_min_ms=latency.minimum_ms,
        speedup_interval=latency.speedup,
        latency_p95_ms=latency.p95_ms,
        cpu_ms=latency.cpu_ms,
        **more,
    )


def runtime_note(threads: int) -> str:
    """The runtime, as `evaluation.json` names it."""
    plural = "" if threads == 1 else "s"
    version = import_onnxruntime().__version__
    return f"onnxruntime {version}, CPUExecutionProvider, {threads} thread{plural}"


def machine_note(load_before: float, load_after: float, pinning: str) -> str:
    """Processor, cores and load: a figure from a busy machine is an upper bound."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, load average {load_before:.2f} before and "
        f"{load_after:.2f} after the timing, {pinning}"
    )


def _bootstrap(job: Validate) -> dict[str, Any]:
    return {"confidence": job.confidence, "resamples": job.resamples, "seed": job.seed}
