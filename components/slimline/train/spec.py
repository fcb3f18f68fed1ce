"""The interface of train."""

from __future__ import annotations

from typing import ClassVar

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
from slimline.models.settings import FitSettings, FreshWeights


class Train(FitSettings, FreshWeights, Component):
    """Train a network from a factory, keeping the weights that are best on the selection split."""

    image: ClassVar[str] = "torch"
    needs: ClassVar[Resources] = Resources(cpu=4, memory="8Gi", timeout_minutes=24 * 60)
    access: ClassVar[tuple[Access, ...]] = (
        Access("store", "delete", "artifacts/*"),
    )  # checkpoints

    train: Input[Dataset] = Field(description="The training split.")
    selection: Input[Dataset] = Field(description="The split that chooses the epoch.")
    initial: Input[Model | None] = Field(
        None, description="A torch model whose weights are taken where name and shape agree."
    )
    model: Output[Model] = output("The trained network.")
    report: Output[Report] = output("The training curve and its numbers.")

    name: str = Field("model", pattern=r"^[\w.-]{1,64}$", description="Name of the model.")
    stage: str = Field("teacher", pattern=r"^[\w.-]{1,64}$", description="Name of this step.")
    factory: Factory = Field(
        Factory(call="slimline.models.zoo:small_cnn"),
        description="What builds the network; classes and channels are filled in from the data.",
    )
    normalize: bool = Field(
        default=True, description="Bring each channel of the input to mean 0 and deviation 1."
    )
    freeze: str = Field(
        "", max_length=1000, description="Regular expression of parameter names that stay fixed."
    )

    def outside(self) -> dict[str, str]:
        """The source of a factory of your own, as it is now."""
        from slimline.models.build import factory_source  # noqa: PLC0415 - brings in the zoo

        return factory_source(self.factory)
