"""The interface of qat."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

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
from slimline.models.fake_quantize_plan import Method
from slimline.models.quantization import Kind
from slimline.models.settings import FitSettings

_MOST_POWERS = 6


class Qat(FitSettings, Component):
    """Train a torch model in the levels that it will be stored in (quantization-aware training).

    Steps of integer weights and activations are learned with them: LSQ (Esser et al. 2019,
    arXiv:1902.08153). Binary weights are XNOR-Net's (Rastegari et al. 2016, arXiv:1603.05279),
    ternary ones those of Li et al. 2016 (arXiv:1605.04711), powers of two as in INQ (Zhou et al.
    2017, arXiv:1702.03044), and a codebook's centroids are trained as in deep compression (Han et
    al. 2015, arXiv:1510.00149). Training follows the uncut model's logits. The result is a torch
    model whose weights lie on their levels, with a record of them that export carries into ONNX.
    """

    image: ClassVar[str] = "torch"
    needs: ClassVar[Resources] = Resources(cpu=4, memory="8Gi", timeout_minutes=24 * 60)
    access: ClassVar[tuple[Access, ...]] = (
        Access("store", "delete", "artifacts/*"),
    )  # checkpoints

    model: Input[Model] = Field(description="The torch model to train in levels.")
    train: Input[Dataset] = Field(description="The training split.")
    selection: Input[Dataset] = Field(description="The split that chooses the epoch.")
    teacher: Input[Model | None] = Field(
        default=None, description="What it follows, torch or ONNX; the model in float if none."
    )
    trained: Output[Model] = output("The model on its levels, and quantization.json.")
    report: Output[Report] = output("The training curve, the levels of each layer.")

    stage: str = Field("qat", pattern=r"^[\w.-]{1,64}$", description="Name of this step.")
    weights: Kind = Field(
        "integer",
        description="Levels of weights: evenly spaced integers; -1 and 1 (binary) or also 0 "
        "(ternary) times a scale; powers of two; a trained codebook. Each channel has its scale.",
    )
    weight_bits: int = Field(
        8,
        ge=2,
        le=8,
        description="Bits of integer, power_of_two (6 at most) and codebook weights.",
    )
    activation_bits: Literal[8, 32] = Field(
        8, description="8: inputs of the layers are unsigned integers too; 32: they stay float."
    )
    edge_bits: int = Field(
        8,
        ge=0,
        le=8,
        description="Integer bits of the first and the last layer where the others have fewer or "
        "no integers, for they bear less; 0 treats them as the others.",
    )
    exclude: str = Field(
        "", description="Regular expression; layers whose path it finds stay float."
    )
    method: Method = Field(
        "lsq",
        description="lsq learns the steps of integers; minmax takes them from the extremes.",
    )
    balance: bool = Field(
        default=False,
        description="Binary weights are centred first, so that both levels are used alike (IR-Net, "
        "Qin et al. 2019, arXiv:1909.10788).",
    )
    keep_zeros: bool = Field(
        default=False, description="Weights that are 0, as pruning left them, stay 0."
    )
    calibration_samples: int = Field(
        256, ge=1, le=100_000, description="Training examples that choose the first ranges."
    )
    epochs: int = Field(10, ge=1, le=10_000, description="Times through the training split.")
    learning_rate: float = Field(0.002, gt=0, le=10, description="Highest learning rate.")
    temperature: float = Field(4.0, gt=0, le=100, description="Softens the answers; see distill.")
    alpha: float = Field(
        0.9, ge=0, le=1, description="Weight of the teacher's answers; the rest is the labels'."
    )

    @model_validator(mode="after")
    def _check_choices(self) -> Self:
        """Refuse settings that would change nothing, or that numbers cannot hold."""
        if self.weights == "power_of_two" and self.weight_bits > _MOST_POWERS:
            msg = f"weight_bits is {self.weight_bits}: power_of_two takes 2 to {_MOST_POWERS}"
            raise ValueError(msg)
        if self.balance and self.weights != "binary":
            msg = f"balance is for binary weights, weights is {self.weights}: leave it out"
            raise ValueError(msg)
        if self.edge_bits == 1:
            msg = "edge_bits is 1: an integer has 2 bits or more; give 2 to 8, or 0"
            raise ValueError(msg)
        if self.keep_zeros and self.weights in {"binary", "codebook"}:
            msg = f"keep_zeros: {self.weights} weights have no level 0; take integer or ternary"
            raise ValueError(msg)
        return self
