"""The interface of prune."""

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


class Prune(Component):
    """Cut channels or single weights of a torch model and heal it.

    Channels that depend on one another fall together: the groups are read from the graph that
    `torch.export` gives. What cannot be grouped is left alone, and the report says why. Importance
    is a norm of all weights that hang on a channel, as in DepGraph (Fang et al. 2023,
    arXiv:2301.12900) without its sparse training. Healing follows the uncut model's logits.
    """

    image: ClassVar[str] = "torch"
    needs: ClassVar[Resources] = Resources(cpu=4, memory="8Gi", timeout_minutes=24 * 60)
    access: ClassVar[tuple[Access, ...]] = (
        Access("store", "delete", "artifacts/*"),
    )  # checkpoints

    model: Input[Model] = Field(description="The torch model to cut.")
    train: Input[Dataset] = Field(description="The training split, for healing.")
    selection: Input[Dataset] = Field(description="The split that chooses the epoch.")
    pruned: Output[Model] = output("The cut model.")
    report: Output[Report] = output("What was cut, what was left alone and why.")

    stage: str = Field("pruned", pattern=r"^[\w.-]{1,64}$", description="Name of this step.")
    method: Literal["structured", "magnitude"] = Field(
        "structured",
        description="structured removes whole channels, magnitude sets single weights to zero.",
    )
    ratio: float = Field(
        0.5, gt=0, lt=1, description="Share of channels, or of weights, that goes."
    )
    importance: Literal["l1", "l2"] = Field("l2", description="Norm that ranks them.")
    scope: Literal["local", "global"] = Field(
        "local",
        description="local takes the ratio of each group or layer, global ranks the whole network.",
    )
    round_to: int = Field(
        8,
        ge=1,
        le=256,
        description="Widths stay multiples of this; 16 is fast for int8, tiny networks need less.",
    )
    epochs: int = Field(10, ge=0, le=10_000, description="Epochs of healing; 0 heals nothing.")
    batch_size: int = Field(64, ge=2, le=65_536, description="Examples in one step of healing.")
    learning_rate: float = Field(
        0.002, gt=0, le=10, description="Highest learning rate of healing (AdamW, one cycle)."
    )
    augmentation: Literal["none", "shift", "flip_crop"] = Field(
        "none", description="Random changes of images while healing; see train."
    )
    precision: Literal["32", "bf16"] = Field("32", description="Precision of healing; see train.")
    temperature: float = Field(4.0, gt=0, le=100, description="Softens the answers; see distill.")
    alpha: float = Field(
        0.9, ge=0, le=1, description="Weight of the uncut model's answers; the rest is the labels'."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of order and augmentation.")
    devices: str = Field(
        "auto",
        pattern=r"^(auto|[1-9]\d?)$",
        coerce_numbers_to_str=True,
        description="Processes to heal with; see train.",
    )
