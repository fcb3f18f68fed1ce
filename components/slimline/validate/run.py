"""Validate: run all models on the test split, time them side by side, write numbers and report."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slimline.contract import Numbers, get_logger
from slimline.measure import latency
from slimline.measure.evaluation import (
    EvaluationRecord,
    save_evaluation,
    slower_steps,
    speed_in_words,
)
from slimline.measure.memory import growth_mb
from slimline.validate.numbers import compare, machine_note, runtime_note, stage_numbers
from slimline.validate.page import render
from slimline.validate.stages import Stage, load_stage, load_test

if TYPE_CHECKING:
    from slimline.data.dataset import Examples
    from slimline.measure.latency import Latency
    from slimline.validate.spec import Validate

log = get_logger(__name__)


def run(job: Validate) -> Numbers:
    """Write `evaluation.json` and `index.html`.

    Raises:
        BadData: when there is nothing to test on, or a model does not fit the test split.
    """
    examples = load_test(job.test.path)
    models = (job.baseline, *job.stages, job.candidate)
    stages = [load_stage(model, examples, job.threads) for model in models]
    load_before = os.getloadavg()[0]
    times = latency.measure(
        [stage.session for stage in stages],
        [stage.first_input for stage in stages],
        rounds=job.latency_rounds,
        seconds=job.latency_seconds,
        confidence=job.confidence,
        seed=job.seed,
    )
    machine = machine_note(load_before, os.getloadavg()[0])
    record = evaluate(job, examples, stages, times, machine)
    save_evaluation(record, job.evaluation.path)
    page = render(record, examples, stages, times)
    (job.report.path / "index.html").write_text(page, encoding="utf-8")
    return numbers(record)


def evaluate(
    job: Validate, examples: Examples, stages: list[Stage], times: list[Latency], machine: str
) -> EvaluationRecord:
    """All numbers; memory is measured here, one child process for each model."""
    measured = [
        stage_numbers(
            stage,
            examples,
            baseline_bytes=stages[0].bytes,
            latency=time,
            memory_mb=growth_mb(stage.path, stage.first_input.shape[1:], job.threads),
            confidence=job.confidence,
        )
        for stage, time in zip(stages, times, strict=True)
    ]
    return EvaluationRecord(
        dataset_digest=job.test.digest,
        dataset_split=examples.info.split,
        candidate_digest=job.candidate.digest,
        stages=tuple(measured),
        non_inferiority=compare(stages[0], stages[-1], job.margin, job.confidence),
        runtime=runtime_note(job.threads),
        machine=machine,
        rounds=len(times[0].rounds_ms),
    )


def numbers(record: EvaluationRecord) -> Numbers:
    """What the manifest keeps, also told in the log."""
    baseline, candidate, paired = record.stages[0], record.stages[-1], record.non_inferiority
    log.info(
        "accuracy %.4f -> %.4f, drop at most %.4f (%.4g %%), %.2fx smaller, %s",
        baseline.accuracy.value,
        candidate.accuracy.value,
        paired.upper_bound,
        100 * paired.confidence,
        candidate.shrink,
        speed_in_words(candidate, baseline.stage),
    )
    slower = slower_steps(record.stages)
    for sentence in slower:
        log.warning("%s", sentence)
    return {
        "accuracy": candidate.accuracy.value,
        "baseline_accuracy": baseline.accuracy.value,
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
