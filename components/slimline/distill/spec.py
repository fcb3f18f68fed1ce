"""The interface of distill."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slimline.contract import (
    Access,
    Component,
    Dataset,
    Input,
    Model,
    Output,
    Report,
    Resources,
    output,
)
from slimline.models.info import Factory
from slimline.models.settings import FitSettings


class Distill(FitSettings, Component):
    """Train a smaller network to follow a teacher's logits.

    Method `logits`: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network"
    (arXiv:1503.02531).
    """

    image: ClassVar[str] = "torch"
    needs: ClassVar[Resources] = Resources(cpu=4, memory="8Gi", timeout_minutes=24 * 60)
    access: ClassVar[tuple[Access, ...]] = (
        Access("store", "delete", "artifacts/*"),
    )  # checkpoints

    teacher: Input[Model] = Field(description="The model to follow, torch or ONNX.")
    train: Input[Dataset] = Field(description="The training split.")
    selection: Input[Dataset] = Field(description="The split that chooses the epoch.")
    student: Output[Model] = output("The smaller network; its preprocessing is the teacher's.")
    report: Output[Report] = output("The training curve and its numbers.")

    stage: str = Field("student", pattern=r"^[\w.-]{1,64}$", description="Name of this step.")
    factory: Factory = Field(
        Factory(call="slimline.models.zoo:small_cnn", arguments={"widths": [8, 16, 32]}),
        description="What builds the student; classes and channels are filled in from the data.",
    )
    method: Literal["logits"] = Field("logits", description="What of the teacher is followed.")
    temperature: float = Field(
        4.0, gt=0, le=100, description="Softens the answers of both, so that small ones count."
    )
    alpha: float = Field(
        0.9, ge=0, le=1, description="Weight of the teacher's answers; the rest is the labels'."
    )

    def outside(self) -> dict[str, str]:
        """The source of a factory of your own, as it is now."""
        from slimline.models.build import factory_source  # noqa: PLC0415 - brings in the zoo

        return factory_source(self.factory)
