"""The interface of reshape."""

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
from slimline.models.healing import Healing

Method = Literal[
    "fold_batch_norm",
    "merge_linear",
    "merge_similar",
    "average_pool_head",
    "swap_activations",
    "low_rank",
    "remove_redundancy",
    "grow",
]
PRESERVING = frozenset({"fold_batch_norm", "merge_linear", "remove_redundancy", "grow"})
"""Methods whose network answers as before: proven on the selection split, else refused."""
Activation = Literal[
    "relu",
    "relu6",
    "leaky_relu",
    "hardswish",
    "hardsigmoid",
    "hardtanh",
    "silu",
    "gelu",
    "mish",
    "elu",
    "softplus",
    "sigmoid",
    "tanh",
]
_HEALING_EPOCHS = 10


class Reshape(Healing, Component):
    """Give a torch model another form by one method, and prove or heal what it answers.

    fold_batch_norm, merge_linear, remove_redundancy and grow keep the function: the answers on the
    selection split agree within `tolerance`, else the model is refused. merge_similar,
    average_pool_head, swap_activations and low_rank change it, and are healed by the old model's
    logits. A layer that a method cannot treat is left alone, and the report says why.
    """

    image: ClassVar[str] = "torch"
    needs: ClassVar[Resources] = Resources(cpu=4, memory="8Gi", timeout_minutes=24 * 60)
    access: ClassVar[tuple[Access, ...]] = (
        Access("store", "delete", "artifacts/*"),
    )  # checkpoints

    model: Input[Model] = Field(description="The torch model to reshape.")
    train: Input[Dataset] = Field(description="The training split: activations, and healing.")
    selection: Input[Dataset] = Field(
        description="The split that proves the answers and chooses the epoch of healing."
    )
    reshaped: Output[Model] = output("The reshaped model.")
    report: Output[Report] = output("What was changed, what was left alone and why.")

    stage: str = Field("reshaped", pattern=r"^[\w.-]{1,64}$", description="Name of this step.")
    method: Method = Field(
        "fold_batch_norm", description="What is done; a recipe lists a pass for each."
    )
    layers: str = Field(
        "",
        max_length=1000,
        description="Regular expression of layer names; only those are changed; empty: all.",
    )
    tolerance: float = Field(
        1e-4,
        gt=0,
        le=0.01,
        description="Largest difference of a logit, over the largest logit, that is rounding.",
    )
    samples: int = Field(
        512, ge=1, le=1_000_000, description="Training examples on which activations are seen."
    )
    round_to: int = Field(
        8, ge=1, le=256, description="New widths and ranks are multiples of this; see prune."
    )
    similarity: float = Field(
        0.99,
        ge=0.5,
        le=1,
        description="merge_similar: least cosine of two units' activations for them to be one.",
    )
    swap_from: Activation = Field("silu", description="swap_activations: the one that goes.")
    swap_to: Activation = Field("hardswish", description="swap_activations: the one that comes.")
    convolution: Literal["tucker", "spatial"] = Field(
        "tucker",
        description="low_rank: tucker is 1x1, kxk, 1x1; spatial is kx1, 1xk; linear layers and "
        "1x1 convolutions take a singular value decomposition.",
    )
    energy: float = Field(
        0.95, gt=0, le=1, description="low_rank: share of the squared singular values to keep."
    )
    rank: float | None = Field(
        None, gt=0, le=1, description="low_rank: share of the full rank, in place of energy."
    )
    confidence: float = Field(
        0.95, ge=0.5, lt=1, description="remove_redundancy: confidence that a unit is dead."
    )
    max_rate: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="remove_redundancy: share of examples on which a dead unit may yet be active.",
    )
    growth: Literal["widen", "deepen"] = Field(
        "widen", description="grow: more units in each layer, or more layers."
    )
    factor: float = Field(1.5, gt=1, le=8, description="grow: times as many units.")
    noise: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="grow: how unevenly copies share their weights, so that "
        "training can tell them apart.",
    )
    epochs: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="Epochs of healing; 0 heals nothing; if not given, 0 where the function is "
        "kept and 10 elsewhere.",
    )
    latency_rounds: int = Field(
        50,
        ge=0,
        le=10_000,
        description="Rounds of latency in ONNX Runtime, old and new interleaved; 0 measures none.",
    )

    @property
    def healing_epochs(self) -> int:
        """Epochs of healing, the method's own where none are given."""
        own = 0 if self.method in PRESERVING else _HEALING_EPOCHS
        return own if self.epochs is None else self.epochs
