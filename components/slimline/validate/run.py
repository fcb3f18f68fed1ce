"""Validate: run all models on the test split, time them side by side, write numbers and report."""

from __future__ import annotations

import os
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from slimline.contract import BadParameters, Numbers, get_logger
from slimline.measure import latency
from slimline.measure.evaluation import (
    EvaluationRecord,
    save_evaluation,
    slower_steps,
    speed_in_words,
)
from slimline.measure.memory import growth_mb
from slimline.measure.metrics import find_metric, task_of
from slimline.validate.answers import answer_all
from slimline.validate.numbers import (
    calibration,
    compare,
    machine_note,
    quality,
    runtime_note,
    stage_numbers,
)
from slimline.validate.page import Evidence, render
from slimline.validate.parts import compare_parts, slice_masks
from slimline.validate.robustness import measure_robustness
from slimline.validate.stages import Stage, load_stage, load_test

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slimline.data.dataset import Examples
    from slimline.measure.latency import Latency
    from slimline.measure.metric import Metric
    from slimline.validate.spec import Validate

log = get_logger(__name__)

_OF_A_CLASSIFIER = ("accuracy", "ece", "brier")


def run(job: Validate) -> Numbers:
    """Write `evaluation.json` and `index.html`.

    Raises:
        BadData: when there is nothing to test on, or a model does not fit the test split.
        BadParameters: when the metric is not one of the data's task, or a slice not of its columns.
    """
    examples = load_test(job.test.path)
    metrics = choose_metrics(job, examples)
    slice_masks(examples, job.slices)
    models = (job.baseline, *job.stages, job.candidate)
    classifies = "accuracy" in metrics
    stages = [load_stage(m, examples, job.threads, classifies=classifies) for m in models]
    times, in_batches, machine = time_stages(job, stages)
    answered = answer_all(stages, examples, list(metrics.values()))
    evidence = Evidence(examples, stages, answered, times, in_batches)
    record = evaluate(job, metrics, evidence, machine)
    save_evaluation(record, job.evaluation.path)
    page = render(record, evidence)
    (job.report.path / "index.html").write_text(page, encoding="utf-8")
    return numbers(record)


def choose_metrics(job: Validate, examples: Examples) -> dict[str, Metric]:
    """The metric that was asked for, and those that belong to every classifier.

    Raises:
        BadParameters: when it is none of the data's task.
    """
    task, needed = examples.info.task, task_of(job.metric)
    if needed not in {None, task}:
        msg = f"metric {job.metric} is of {needed}, the test split is of {task}: give one of {task}"
        raise BadParameters(msg)
    classifies = task == "classification" and job.metric != "cosine"
    names = dict.fromkeys((job.metric, *(_OF_A_CLASSIFIER if classifies else ())))
    return {name: find_metric(name, len(examples.info.labels)) for name in names}


def time_stages(
    job: Validate, stages: list[Stage]
) -> tuple[list[Latency], list[Latency] | None, str]:
    """Latency at batch 1, and at the batch that was asked for, and what the machine was like."""
    load_before = os.getloadavg()[0]
    sessions = [stage.session for stage in stages]
    with latency.pinned(job.threads) as pinning:
        one, many = (
            latency.measure(
                sessions,
                [np.repeat(stage.first_input, batch, axis=0) for stage in stages],
                rounds=job.latency_rounds,
                seconds=job.latency_seconds,
                confidence=job.confidence,
                seed=job.seed,
            )
            if batch
            else None
            for batch in (1, job.batch)
        )
    assert one is not None  # noqa: S101 - batch 1 is always timed
    return one, many, machine_note(load_before, os.getloadavg()[0], pinning)


def evaluate(
    job: Validate, metrics: Mapping[str, Metric], evidence: Evidence, machine: str
) -> EvaluationRecord:
    """All numbers; memory is measured here, one child process for each model."""
    examples, stages, answered = evidence.examples, evidence.stages, evidence.answered
    found = zip(
        stages,
        quality(job, examples, metrics, answered),
        evidence.times,
        evidence.in_batches or repeat(None, len(stages)),
        strict=True,
    )
    measured = [
        stage_numbers(
            stage,
            fields,
            baseline_bytes=stages[0].bytes,
            latency=time,
            batch=job.batch if many else None,
            in_batches=many,
            memory_mb=growth_mb(stage.path, stage.first_input.shape[1:], job.threads),
        )
        for stage, fields, time, many in found
    ]
    first, last, classifies = answered[0], answered[-1], "accuracy" in metrics
    robustness = measure_robustness(job, stages[0], stages[-1], examples) if classifies else None
    return EvaluationRecord(
        dataset_digest=job.test.digest,
        dataset_split=examples.info.split,
        candidate_digest=job.candidate.digest,
        stages=tuple(measured),
        non_inferiority=compare(job, metrics[job.metric], first, last),
        runtime=runtime_note(job.threads),
        machine=machine,
        rounds=len(evidence.times[0].rounds_ms),
        task=examples.info.task,
        slices=compare_parts(job, examples, metrics[job.metric], answered, metrics.get("accuracy")),
        robustness=robustness,
        calibration=calibration(job, metrics["ece"], first, last) if classifies else None,
    )


def numbers(record: EvaluationRecord) -> Numbers:
    """What the manifest keeps, also told in the log."""
    baseline, candidate, paired = record.stages[0], record.stages[-1], record.non_inferiority
    log.info(
        "%s %.4f -> %.4f, worse by at most %.4f (%.4g %%), %.2fx smaller, %s",
        paired.metric,
        baseline.measured.value,
        candidate.measured.value,
        paired.upper_bound,
        100 * paired.confidence,
        candidate.shrink,
        speed_in_words(candidate, baseline.stage),
    )
    slower = slower_steps(record.stages)
    for sentence in slower:
        log.warning("%s", sentence)
    told: Numbers = {
        "metric": paired.metric,
        paired.metric: candidate.measured.value,
        f"baseline_{paired.metric}": baseline.measured.value,
        "drop": paired.drop,
        "upper_bound": paired.upper_bound,
        "speedup": candidate.speedup,
        "slower_steps": list(slower),
        "baseline_latency_ms": baseline.latency_ms.value,
        "shrink": candidate.shrink,
        "latency_ms": candidate.latency_ms.value,
        "bytes": candidate.bytes,
        "memory_mb": candidate.memory_mb,
        "examples": paired.examples,
    }
    if record.robustness:
        told["robustness_drop"] = record.robustness.drop
    if record.calibration:
        told["ece_rise"] = record.calibration.drop
    return told
