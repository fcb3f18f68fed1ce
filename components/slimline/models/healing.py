"""The parameters of healing, stated once for the rooms that change a network: pydantic only."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from slimline.models.settings import Augmentation, FitSettings


class Healing(BaseModel):
    """How a changed network is brought back to what the unchanged one answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    batch_size: int = Field(64, ge=2, le=65_536, description="Examples in one step of healing.")
    learning_rate: float = Field(
        0.002, gt=0, le=10, description="Highest learning rate of healing (AdamW, one cycle)."
    )
    augmentation: Augmentation = Field(
        "none", description="Random changes of images while healing; see train."
    )
    precision: Literal["32", "bf16"] = Field("32", description="Precision of healing; see train.")
    temperature: float = Field(4.0, gt=0, le=100, description="Softens the answers; see distill.")
    alpha: float = Field(
        0.9, ge=0, le=1, description="Weight of the old model's answers; the rest is the labels'."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of order, augmentation and choices.")
    devices: str = Field(
        "auto",
        pattern=r"^(auto|[1-9]\d?)$",
        coerce_numbers_to_str=True,
        description="Processes to heal with; see train.",
    )

    def healing_settings(self, epochs: int) -> FitSettings:
        """The settings of the fit: these, and whatever else of a fit's a room lets one choose."""
        own = self.model_dump(include=set(type(self).model_fields) & set(FitSettings.model_fields))
        return FitSettings.model_validate({**own, "epochs": epochs})
