"""The parameters of training, stated once for the rooms that train: pydantic only."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FreshWeights(BaseModel):
    """How a network starts that is not trained yet; see `slimline.models.initialize`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    initialization: Literal[
        "default",
        "kaiming_normal",
        "xavier_uniform",
        "orthogonal",
        "zero_residual",
        "data_dependent",
    ] = Field(
        "default",
        description="Fresh weights: as the factory makes them, drawn by one of three rules, with "
        "residual branches that start at zero, or scaled by the data layer by layer.",
    )


Augmentation = Literal["none", "shift", "flip_crop", "cutout"]


class FitSettings(BaseModel):
    """How weights are fitted; see `slimline.models.fit`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(30, ge=1, le=10_000, description="Times through the training split.")
    batch_size: int = Field(
        64, ge=2, le=65_536, description="Examples in one step, over all devices."
    )
    learning_rate: float = Field(0.005, gt=0, le=10, description="Highest learning rate.")
    find_learning_rate: bool = Field(
        default=False,
        description="Find the highest learning rate by a range test of at most 100 steps, in "
        "place of learning_rate.",
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="Pull of the weights towards zero.")
    optimizer: Literal["adamw", "sgd"] = Field(
        "adamw", description="AdamW, or SGD with Nesterov momentum 0.9."
    )
    schedule: Literal["cosine", "one_cycle", "constant"] = Field(
        "one_cycle",
        description="Learning rate over time: cosine warms up for 5 % of the steps, one_cycle for "
        "30 %, then both fall to 0 as a cosine.",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread over all classes."
    )
    clip_norm: float = Field(
        0.0, ge=0, le=1e6, description="Longest gradient over all weights of a step; 0 any."
    )
    augmentation: Augmentation = Field(
        "none",
        description="shift moves images by up to an eighth of their size; flip_crop also mirrors "
        "half of them; cutout also blanks a square of half their size.",
    )
    augmentation_views: int = Field(
        0,
        ge=0,
        le=1000,
        description="Fixed random views of each image that epochs take in turn, so that a "
        "teacher's answers are computed once; 0 draws afresh each time.",
    )
    mixup: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Blend pairs of examples by a share drawn from Beta(mixup, mixup); 0 does not.",
    )
    averaging: Literal["none", "ema", "swa"] = Field(
        "none",
        description="Weights that are kept: those of the epoch, their moving average over steps "
        "(ema), or the mean of the last quarter of the epochs (swa).",
    )
    averaging_decay: float = Field(
        0.999, ge=0.5, lt=1, description="What a step leaves of the moving average (ema)."
    )
    precision: Literal["32", "bf16"] = Field(
        "32", description="float32, or bfloat16 where it is safe (automatic mixed precision)."
    )
    patience: int = Field(
        0, ge=0, le=1000, description="Stop after so many epochs without a better one; 0 never."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of weights, order and augmentation.")
    devices: str = Field(
        "auto",
        pattern=r"^(auto|[1-9]\d?)$",
        coerce_numbers_to_str=True,
        description="Processes to train with: auto takes every GPU, or one process on a CPU.",
    )

    @property
    def repeats(self) -> bool:
        """Whether epochs show the same inputs again, so that what was said of them still holds."""
        fixed = self.augmentation == "none" or self.augmentation_views > 0
        return fixed and not self.mixup

    def fit_settings(self) -> FitSettings:
        """These alone, without what a component has besides."""
        return FitSettings.model_validate(self.model_dump(include=set(FitSettings.model_fields)))
