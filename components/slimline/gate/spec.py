"""What the gate reads and what it demands."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from slimline.contract import (
    Component,
    Evaluation,
    Input,
    Model,
    Output,
    Resources,
    Verdict,
    output,
)


class Gate(Component):
    """Judge a candidate by its evaluation, and sign the verdict.

    A refused model is no crash: the job ends well, and the verdict says no with its reasons.
    """

    image: ClassVar[str] = "ship"
    needs: ClassVar[Resources] = Resources(cpu=1, memory="1Gi", timeout_minutes=10)
    secrets: ClassVar[tuple[str, ...]] = ("signing",)

    candidate: Input[Model] = Field(description="The ONNX model that wants to leave.")
    evaluation: Input[Evaluation] = Field(description="Its numbers on the test split.")
    verdict: Output[Verdict] = output("The signed verdict about the candidate's digest.")

    metric: str = Field(
        "accuracy", description="What the evaluation must be about; see validate's metric."
    )
    margin: float = Field(
        0.01,
        ge=0,
        le=1e9,
        description="Largest drop in the metric accepted, a fraction or in its unit; the margin of "
        "the evaluation.",
    )
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="Least confidence, one-sided, that the bound of the drop must have.",
    )
    min_accuracy: float | None = Field(
        None, ge=0, le=1, description="Least accuracy, as a fraction."
    )
    per_class_max_drop: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest drop observed in the accuracy of any class, a fraction: a point, no "
        "bound; slice_max_drop is surer.",
    )
    slice_max_drop: float | None = Field(
        None,
        ge=0,
        le=1e9,
        description="Largest drop that any class or slice may really have: the upper bound counts, "
        "at the evaluation's confidence for all of them together (Holm).",
    )
    max_robustness_drop: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest drop of mean accuracy on corrupted images, a fraction; the upper "
        "bound counts.",
    )
    max_ece_rise: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest rise of the expected calibration error, a fraction; the upper bound "
        "counts.",
    )
    max_bytes: int | None = Field(None, ge=1, description="Most bytes of model.onnx.")
    max_latency_ms: float | None = Field(
        None, gt=0, description="Longest median latency at batch 1, in milliseconds."
    )
    max_memory_mb: float | None = Field(
        None, gt=0, description="Most memory the model adds, in MB of 10**6 bytes."
    )
    min_shrink: float | None = Field(
        None, gt=0, description="Least ratio of the baseline's bytes to the candidate's."
    )
    min_speedup: float | None = Field(
        None,
        gt=0,
        description="Least ratio of the baseline's latency to the candidate's; the lower end of "
        "its interval counts, so 1 refuses a candidate that is not surely faster.",
    )
    min_test_examples: int | None = Field(
        None, ge=1, description="Fewest test examples that can carry a verdict."
    )
