"""What `evaluation.json` of an `Evaluation` artifact says: numbers on held-out data."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slimline.contract import BadData

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Interval(BaseModel):
    """An estimate with its two-sided confidence interval."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    low: float
    high: float


class ReliabilityBin(BaseModel):
    """Examples whose confidence is about the same, and how many of them were right."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    confidence: float
    accuracy: float
    examples: int


class StageNumbers(BaseModel):
    """One model, measured beside the others in the same run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stage: str
    model_digest: str
    """Digest of the `Model` artifact."""
    accuracy: Interval | None = None
    """Of a classifier; None for any other task."""
    per_class: dict[str, float]
    """Accuracy of each class; intersection over union, or average precision, of other tasks."""
    bytes: int
    """Size of `model.onnx`."""
    latency_ms: Interval
    """Median of one call at batch 1, one thread, interleaved with the baseline."""
    memory_mb: float
    """Growth of resident memory when the model is loaded and run, in MB of 10**6 bytes."""
    speedup: float
    """Median over rounds of the baseline's latency over this one's in the same round."""
    shrink: float
    """Baseline's bytes over this one's."""
    latency_min_ms: float | None = None
    """Fastest round: what the machine can do when nobody else uses it."""
    speedup_interval: Interval | None = None
    """`speedup` again, with the order-statistic interval of the median."""
    score: Interval | None = None
    """The metric that the evaluation is about, where that is not accuracy."""
    latency_p95_ms: float | None = None
    """95 of 100 single calls took no longer."""
    cpu_ms: float | None = None
    """Processor time of one call, all threads: at a fixed clock, energy grows with it. No joules
    were measured."""
    batch: int | None = None
    """Examples in a call of `batch_latency_ms`."""
    batch_latency_ms: Interval | None = None
    """Median of one call with `batch` examples."""
    batch_speedup: Interval | None = None
    ece: float | None = None
    """Expected calibration error, of a classifier."""
    brier: float | None = None
    reliability: tuple[ReliabilityBin, ...] = ()

    @property
    def measured(self) -> Interval:
        """The metric that the evaluation is about."""
        found = self.score or self.accuracy
        assert found is not None  # noqa: S101 - the validator saw to it
        return found

    @model_validator(mode="after")
    def _has_a_result(self) -> Self:
        if self.score is None and self.accuracy is None:
            msg = "a stage has accuracy or score: give one of them"
            raise ValueError(msg)
        return self


class NonInferiority(BaseModel):
    """The paired comparison of candidate and baseline on the same examples."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str
    margin: float
    """Largest drop that is still accepted: a fraction, or in the metric's own unit."""
    confidence: float
    drop: float
    """How much worse the candidate is: its fall, or its rise where less is better."""
    upper_bound: float
    """One-sided upper confidence bound of the drop."""
    only_baseline_right: int = 0
    only_candidate_right: int = 0
    examples: int
    metric: str = "accuracy"
    higher_is_better: bool = True


class SliceComparison(BaseModel):
    """The same for one class, or for some of the examples; see `measure.slices` for its bound."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    """`class cat`, or the condition: `light=dark`."""
    metric: str
    examples: int = Field(ge=1)
    baseline: float
    candidate: float
    drop: float
    only_baseline_right: int | None = None
    only_candidate_right: int | None = None
    """Where right and wrong can be counted."""
    standard_error: float = Field(default=0.0, ge=0)
    """Of the drop, by a paired bootstrap, where they cannot."""


class Condition(BaseModel):
    """Accuracy of both under one corruption."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    corruption: str
    severity: int
    baseline: float
    candidate: float


class Shift(BaseModel):
    """How much worse the candidate is in something besides the metric, on the same examples."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str
    confidence: float
    baseline: float
    candidate: float
    drop: float
    """More is worse."""
    upper_bound: float
    """One-sided."""
    examples: int
    conditions: tuple[Condition, ...] = ()


class EvaluationRecord(BaseModel):
    """The whole of `evaluation.json`; `stages[0]` is the baseline, `stages[-1]` the candidate."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset_digest: str
    dataset_split: str
    candidate_digest: str
    stages: tuple[StageNumbers, ...]
    non_inferiority: NonInferiority
    runtime: str
    """`onnxruntime 1.31.1, CPUExecutionProvider, 1 thread`."""
    machine: str = ""
    """Processor, cores, and how busy it was while latency was measured."""
    rounds: int = 0
    """Rounds of the latency measurement."""
    task: Literal["classification", "regression", "segmentation", "detection"] = "classification"
    slices: tuple[SliceComparison, ...] = ()
    """Classes first, then slices; judged together."""
    robustness: Shift | None = None
    """Accuracy on corrupted images; None where it was not measured."""
    calibration: Shift | None = None
    """Expected calibration error."""


def speed_in_words(stage: StageNumbers, baseline: str) -> str:
    """A stage's speed against the baseline's, said plainly: faster, slower, or not told apart."""
    interval = stage.speedup_interval
    if interval is None:
        low = high = stage.speedup
    else:
        low, high = interval.low, interval.high
    if low > 1:
        return f"{stage.speedup:.2f} times as fast as {baseline}"
    if high < 1:
        return f"SLOWER than {baseline}: {1 / stage.speedup:.2f} times its time"
    return f"no faster and no slower than {baseline} as far as was measured"


def slower_steps(stages: Sequence[StageNumbers]) -> tuple[str, ...]:
    """A sentence for each stage that is surely slower than the one before it.

    A candidate may be faster than its baseline and yet slower than what it was made from.
    """
    return tuple(
        f"{after.stage} is slower than {before.stage}, which it was made from: "
        f"{after.latency_ms.value:.4g} against {before.latency_ms.value:.4g} ms."
        for before, after in itertools.pairwise(stages)
        if after.latency_ms.low > before.latency_ms.high
    )


def save_evaluation(record: EvaluationRecord, target: Path) -> None:
    """Write `evaluation.json` into the directory of an output artifact."""
    (target / "evaluation.json").write_text(record.model_dump_json(indent=1))


def load_evaluation(source: Path) -> EvaluationRecord:
    """Read `evaluation.json`; NaN and infinity do not pass.

    Raises:
        BadData: when the artifact is no evaluation.
    """
    try:
        return EvaluationRecord.model_validate_json((source / "evaluation.json").read_bytes())
    except (OSError, ValidationError) as error:
        msg = f"{source} holds no evaluation: give an artifact that validate wrote ({error})"
        raise BadData(msg) from error
