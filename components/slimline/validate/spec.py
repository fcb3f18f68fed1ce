"""The interface of validate."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

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
from slimline.measure.metrics import NAMES, UNBOUNDED

_LARGEST_FRACTION = 0.5


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

    metric: str = Field(
        default="accuracy",
        pattern=rf"^({'|'.join(NAMES)}|[\w.]+:\w+)$",
        description="What the comparison is about: accuracy, top5, macro_f1, balanced_accuracy, "
        "log_loss, brier, ece; mae, rmse, r2; mean_iou; map, map50; cosine (with the baseline's "
        "embedding); or module:function of a package you trust.",
    )
    slices: tuple[str, ...] = Field(
        default=(),
        description="Parts of the test split to compare on as well, by its columns: night (where "
        "true, or each value), light=dark, age>=65.",
    )
    margin: float = Field(
        default=0.01,
        gt=0,
        le=1e9,
        description="Largest drop that is still accepted: a fraction, at most 0.5; of log_loss, "
        "mae, rmse, r2 and a metric of your own in its unit.",
    )
    confidence: float = Field(
        default=0.95,
        ge=0.5,
        le=0.999,
        description="Of every interval, and one-sided of the bound of the drop.",
    )
    exact: bool = Field(
        default=True,
        description="Set the level of the score bound exactly, so that at the margin no more than "
        "1 - confidence of candidates are accepted; up to 20,000 examples.",
    )
    resamples: int = Field(
        default=2000,
        ge=200,
        le=100_000,
        description="Resamples of the bootstrap, where it is needed.",
    )
    robustness_examples: int = Field(
        default=500,
        ge=0,
        description="Images, at most, that are corrupted in fifteen ways to compare accuracy; 0: "
        "none.",
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
    batch: int | None = Field(
        default=None, ge=2, le=4096, description="Time calls with so many examples too."
    )
    threads: int = Field(default=1, ge=1, le=64, description="Threads inside one operator.")
    seed: int = Field(
        default=0,
        ge=0,
        description="Draws the order of models within a round, resamples and noise.",
    )

    @model_validator(mode="after")
    def _margin_fits_the_metric(self) -> Self:
        is_fraction = self.metric in NAMES and self.metric not in UNBOUNDED
        if is_fraction and self.margin > _LARGEST_FRACTION:
            msg = f"margin {self.margin:g} of {self.metric} is a fraction: give 0.5 at most"
            raise ValueError(msg)
        return self

    def outside(self) -> dict[str, str]:
        """The source of a metric of your own, as it is now."""
        if ":" not in self.metric:
            return {}
        from slimline.models.build import factory_source  # noqa: PLC0415 - brings in the zoo
        from slimline.models.info import Factory  # noqa: PLC0415

        return {"metric": factory_source(Factory(call=self.metric)).get("factory", "")}
