"""The interface of validate."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from slimline.contract import (
    Component,
    Dataset,
    Evaluation,
    Input,
    Model,
    Output,
    Report,
    Resources,
    output,
)


class Validate(Component):
    """Measure baseline, stages and candidate side by side on the test split; judge nothing."""

    image: ClassVar[str] = "onnx"
    needs: ClassVar[Resources] = Resources(cpu=2, memory="4Gi")

    baseline: Input[Model] = Field(description="The ONNX model that all are compared with.")
    candidate: Input[Model] = Field(description="The ONNX model that is to be shipped.")
    stages: Input[tuple[Model, ...]] = Field(
        default=(), description="The ONNX models between them, in the order they were made."
    )
    test: Input[Dataset] = Field(description="The test split.")
    evaluation: Output[Evaluation] = output("All numbers, as evaluation.json.")
    report: Output[Report] = output("The same for people, one index.html that needs no network.")

    margin: float = Field(
        default=0.01,
        gt=0,
        le=0.5,
        description="Largest drop in accuracy that is still accepted, as a fraction.",
    )
    confidence: float = Field(
        default=0.95,
        ge=0.5,
        le=0.999,
        description="Of every interval, and one-sided of the bound of the drop.",
    )
    latency_rounds: int = Field(
        default=200, ge=20, le=10_000, description="Rounds in which every model is timed."
    )
    latency_seconds: int = Field(
        default=120,
        ge=1,
        le=3600,
        description="No round is begun after this time, but 11 are made.",
    )
    threads: int = Field(default=1, ge=1, le=64, description="Threads inside one operator.")
    seed: int = Field(default=0, ge=0, description="Draws the order of models within a round.")
