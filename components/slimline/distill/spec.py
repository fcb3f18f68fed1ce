"""The interface of distill."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

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
from slimline.contract.code import code_digest
from slimline.distill.ask.spec import Ask
from slimline.models.info import Factory
from slimline.models.settings import FitSettings, FreshWeights


class Distill(FitSettings, FreshWeights, Component):
    """Train a smaller network to follow a teacher.

    Method `logits`: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network"
    (arXiv:1503.02531). `decoupled`: Zhao et al. 2022 (arXiv:2203.08679). `hints`: Romero et al.
    2014, "FitNets" (arXiv:1412.6550). `attention`: Zagoruyko and Komodakis 2016 (arXiv:1612.03928).
    `inherit`: Sanh et al. 2019, "DistilBERT" (arXiv:1910.01108).
    """

    image: ClassVar[str] = "torch"
    needs: ClassVar[Resources] = Resources(cpu=4, memory="8Gi", timeout_minutes=24 * 60)
    access: ClassVar[tuple[Access, ...]] = (
        Access("store", "delete", "artifacts/*"),
    )  # checkpoints

    teacher: Input[Model] = Field(description="The model to follow, torch or ONNX.")
    teachers: Input[tuple[Model, ...]] = Field(
        default=(), description="More teachers; the answers of all are averaged."
    )
    train: Input[Dataset] = Field(description="The training split.")
    selection: Input[Dataset] = Field(description="The split that chooses the epoch.")
    student: Output[Model] = output("The smaller network; its preprocessing is the teacher's.")
    report: Output[Report] = output("The training curve and its numbers.")

    stage: str = Field("student", pattern=r"^[\w.-]{1,64}$", description="Name of this step.")
    factory: Factory = Field(
        Factory(call="slimline.models.zoo:small_cnn", arguments={"widths": [8, 16, 32]}),
        description="What builds the student; classes and channels are filled in from the data.",
    )
    inherit: bool = Field(
        default=False,
        description="Start with the teacher's own weights where names and shapes fit, rows of "
        "blocks spread evenly, in place of fresh ones.",
    )
    method: Literal["logits", "decoupled", "hints", "attention"] = Field(
        "logits",
        description="What of the teacher is followed: its answers; these with the classes that are "
        "not right weighed for themselves; or also features of its layers, or where they look.",
    )
    temperature: float = Field(
        4.0, gt=0, le=100, description="Softens the answers of both, so that small ones count."
    )
    alpha: float = Field(
        0.9, ge=0, le=1, description="Weight of the teacher's answers; the rest is the labels'."
    )
    beta: float = Field(
        8.0,
        ge=0,
        le=1000,
        description="Method decoupled: weight of the classes that are not right, against 1.",
    )
    warmup_epochs: int = Field(
        0, ge=0, le=10_000, description="Epochs in which the teacher's weight rises from 0."
    )
    feature_weight: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="Methods hints and attention: weight of the features' distance.",
    )
    layers: tuple[Annotated[str, Field(pattern=r"^[\w.]+=[\w.]+$")], ...] = Field(
        default=(),
        description="Methods hints and attention: pairs student=teacher of layer names; the last "
        "layers of each common image size if none.",
    )
    ensemble: Literal["probability", "logit"] = Field(
        "probability", description="What of several teachers' answers is averaged."
    )
    teacher_weights: tuple[Annotated[float, Field(ge=0, le=1e6)], ...] = Field(
        default=(), description="Share of each teacher, the first included; equal if none."
    )

    def outside(self) -> dict[str, str]:
        """The code of what runs inside, and of a factory of your own, as it is now."""
        from slimline.models.build import factory_source  # noqa: PLC0415 - brings in the zoo

        return {"code of ask": code_digest(Ask), **factory_source(self.factory)}
