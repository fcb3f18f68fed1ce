"""Which layers are trained in levels, and in which: plain data that another process can read."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from slimline.models.quantization import Kind

Method = Literal["lsq", "minmax"]


class LayerPlan(BaseModel):
    """How one convolution or linear layer computes while it is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    bits: int = Field(ge=1, le=8)
    balance: bool = False
    """Binary weights: around the channel's mean, so that both levels are used alike."""
    input: str | None = None
    """The layer whose input quantizer it shares: itself, or an earlier one that reads the same
    tensor; None where activations stay float."""


class FakeQuantization(BaseModel):
    """The layers by their path in the network.

    Attributes:
        method: `lsq` learns the steps of integer weights and activations, `minmax` takes them from
            the extremes: of the weights as they are, of the activations as calibration saw them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "lsq"
    layers: dict[str, LayerPlan] = Field(min_length=1)
