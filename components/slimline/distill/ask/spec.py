"""The interface of ask."""

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


class Ask(Component):
    """Keep what teachers answer in one epoch, for all students that are shown the same.

    `distill` runs it inside itself where it shows fixed views. Its result depends on nothing of the
    student, so a search, or a second try with another student, finds the answers in the store.
    """

    image: ClassVar[str] = "torch"
    needs: ClassVar[Resources] = Resources(cpu=4, memory="8Gi", timeout_minutes=24 * 60)
    access: ClassVar[tuple[Access, ...]] = (
        Access("store", "delete", "artifacts/*"),
    )  # checkpoints

    teachers: Input[tuple[Model, ...]] = Field(description="Who is asked, torch or ONNX.")
    train: Input[Dataset] = Field(description="The training split.")
    answers: Output[Report] = output("answers.f16: logits (examples, classes), float16.")

    turn: int = Field(
        0, ge=0, lt=1000, description="The epoch, from 0: it says which view each example shows."
    )
    augmentation: str = Field("none", description="As the student's.")
    augmentation_views: int = Field(0, ge=0, le=1000, description="As the student's.")
    seed: int = Field(0, ge=0, lt=2**32, description="As the student's: it draws the views.")
    precision: Literal["32", "bf16"] = Field("32", description="Of torch models.")
    ensemble: Literal["probability", "logit"] = Field(
        "probability", description="What of several teachers' answers is averaged."
    )
    teacher_weights: tuple[Annotated[float, Field(ge=0, le=1e6)], ...] = Field(
        default=(), description="Share of each teacher; equal if none."
    )
