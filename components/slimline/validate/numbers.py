"""From answers and times to the numbers of `evaluation.json`."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from slimline.measure.evaluation import NonInferiority, StageNumbers
from slimline.measure.intervals import TANGO, tango_upper, wilson
from slimline.measure.runtime import import_onnxruntime

if TYPE_CHECKING:
    from slimline.data.dataset import Examples
    from slimline.measure.latency import Latency
    from slimline.validate.stages import Stage


def compare(baseline: Stage, candidate: Stage, margin: float, confidence: float) -> NonInferiority:
    """The paired comparison, by Tango's score bound (see `measure.intervals.tango_upper`)."""
    count = len(baseline.right)
    lost = int((baseline.right & ~candidate.right).sum())
    won = int((~baseline.right & candidate.right).sum())
    return NonInferiority(
        method=TANGO,
        margin=margin,
        confidence=confidence,
        drop=(lost - won) / count,
        upper_bound=tango_upper(lost, won, count, confidence),
        only_baseline_right=lost,
        only_candidate_right=won,
        examples=count,
    )


def stage_numbers(
    stage: Stage,
    examples: Examples,
    *,
    baseline_bytes: int,
    latency: Latency,
    memory_mb: float,
    confidence: float,
) -> StageNumbers:
    """The numbers of one model; a class that the test split lacks has no accuracy."""
    labels = enumerate(examples.info.labels)
    return StageNumbers(
        stage=stage.info.stage,
        model_digest=stage.digest,
        accuracy=wilson(int(stage.right.sum()), len(examples), confidence),
        per_class={
            label: float(stage.right[examples.y == index].mean())
            for index, label in labels
            if (examples.y == index).any()
        },
        bytes=stage.bytes,
        latency_ms=latency.median_ms,
        memory_mb=round(memory_mb, 3),
        speedup=latency.speedup.value,
        shrink=baseline_bytes / stage.bytes,
        latency_min_ms=latency.minimum_ms,
        speedup_interval=latency.speedup,
    )


def runtime_note(threads: int) -> str:
    """The runtime, as `evaluation.json` names it."""
    plural = "" if threads == 1 else "s"
    version = import_onnxruntime().__version__
    return f"onnxruntime {version}, CPUExecutionProvider, {threads} thread{plural}"


def machine_note(load_before: float, load_after: float) -> str:
    """Processor, cores and load: a figure from a busy machine is an upper bound."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, load average {load_before:.2f} before and "
        f"{load_after:.2f} after the timing"
    )
