"""The interface of prune."""

from __future__ import annotations

from typing import ClassVar, Literal

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
from slimline.models.healing import Healing
from slimline.models.settings import FitSettings

_SINGLE_WEIGHTS = ("magnitude", "n_m")
_RANK_WEIGHTS = ("l1", "l2", "taylor", "random")


class Prune(Component, Healing):
    """Cut channels, blocks or single weights of a torch model and heal it.

    Channels that depend on one another fall together: the groups are read from the graph that
    `torch.export` gives, as in DepGraph (Fang et al. 2023, arXiv:2301.12900) without its sparse
    training. What cannot be grouped is left alone, and the report says why. Blocks go in the order
    of the loss that skipping them costs. Healing follows the uncut model's logits. In several steps
    each cut is healed before the next one (Zhu and Gupta 2017, arXiv:1710.01878), and a killed job
    goes on from the step and epoch that it reached.
    """

    image: ClassVar[str] = "torch"
    needs: ClassVar[Resources] = Resources(cpu=4, memory="8Gi", timeout_minutes=24 * 60)
    access: ClassVar[tuple[Access, ...]] = (
        Access("store", "delete", "artifacts/*"),
    )  # checkpoints

    model: Input[Model] = Field(description="The torch model to cut.")
    train: Input[Dataset] = Field(
        description="The training split, for healing and for what is measured to choose."
    )
    selection: Input[Dataset] = Field(description="The split that chooses the epoch.")
    pruned: Output[Model] = output("The cut model.")
    report: Output[Report] = output("What was cut, what was left alone and why.")

    stage: str = Field("pruned", pattern=r"^[\w.-]{1,64}$", description="Name of this step.")
    method: Literal["structured", "blocks", "magnitude", "n_m"] = Field(
        "structured",
        description="structured removes whole channels, blocks whole residual blocks or layers, "
        "magnitude sets single weights to zero, n_m keeps n of every m weights.",
    )
    target: Literal["ratio", "macs", "parameters", "latency"] = Field(
        "ratio",
        description="What must fall, for channels and blocks: their share, the multiply-"
        "accumulates, the parameters, or the latency measured in ONNX Runtime.",
    )
    ratio: float = Field(
        0.5, gt=0, lt=1, description="Share of the target, or of the weights, that goes."
    )
    max_latency_ms: float = Field(
        0, ge=0, le=1e6, description="Target latency: at most so many milliseconds; 0 for none."
    )
    speedup: float = Field(
        0,
        ge=0,
        le=1000,
        description="Target latency: so many times as fast as the uncut model; 0 for none.",
    )
    threshold: float = Field(
        0,
        ge=0,
        le=1e6,
        description="Method magnitude: weights below it go, in place of a ratio; 0 for none.",
    )
    n: int = Field(2, ge=1, le=63, description="Method n_m: weights that stay in each block.")
    m: int = Field(
        4, ge=2, le=64, description="Method n_m: weights in a block, along a layer's input."
    )
    importance: Literal["l1", "l2", "taylor", "fpgm", "bn_scale", "random"] = Field(
        "l2",
        description="What ranks them: a norm of the weights, the first-order change of the loss, "
        "the distance to the other filters, the scale of the batch norm, or chance. The norm of a "
        "single weight is its magnitude.",
    )
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
    samples: int = Field(
        512,
        ge=2,
        le=100_000,
        description="Training examples that taylor, blocks and batch norm statistics are measured "
        "on.",
    )
    reestimate: bool = Field(
        default=True,
        description="Measure batch norm statistics anew after a cut; kept where that helps.",
    )
    steps: int = Field(
        1, ge=1, le=100, description="Cuts on the way to the target, each one healed."
    )
    schedule: Literal["linear", "cubic"] = Field(
        "cubic",
        description="How the cuts are spread: in equal parts, or large ones first.",
    )
    epochs: int = Field(
        10, ge=0, le=10_000, description="Epochs of healing after each cut; 0 heals nothing."
    )
    learning_rate: float = Field(
        0.002, gt=0, le=10, description="Highest learning rate of healing."
    )
    find_learning_rate: bool = Field(
        default=False,
        description="Find the highest learning rate of each healing; see train.",
    )
    learning_rate_schedule: Literal["cosine", "one_cycle", "constant"] = Field(
        "one_cycle", description="Learning rate of a healing over time; see train."
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="What heals; see train.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="Pull of the weights towards zero.")

    @model_validator(mode="after")
    def _fits_together(self) -> Prune:
        """A parameter that would have no effect is an error, not a surprise."""
        latency = (self.max_latency_ms > 0) + (self.speedup > 0)
        wrong = {
            f"target {self.target} is for the methods structured and blocks": self.target != "ratio"
            and self.method in _SINGLE_WEIGHTS,
            "target latency takes one of max_latency_ms and speedup, other targets none": latency
            != (self.target == "latency"),
            f"speedup {self.speedup:g} must be above 1": 0 < self.speedup <= 1,
            "threshold is for the method magnitude": self.threshold > 0
            and self.method != "magnitude",
            f"n ({self.n}) must be below m ({self.m})": self.n >= self.m,
            "steps is 1 for the method n_m: its pattern is reached at once": self.steps > 1
            and self.method == "n_m",
            f"importance {self.importance} ranks channels; single weights take "
            f"{', '.join(_RANK_WEIGHTS)}": self.importance not in _RANK_WEIGHTS
            and self.method in _SINGLE_WEIGHTS,
            f"importance {self.importance} has no effect where a threshold or measured loss "
            "chooses: leave it at l2": self.importance not in {"l1", "l2"}
            and (self.threshold > 0 or self.method == "blocks"),
            "scope global is for the methods structured and magnitude": self.scope == "global"
            and self.method in {"blocks", "n_m"},
        }
        for why, is_so in wrong.items():
            if is_so:
                raise ValueError(why)
        return self

    def healing_settings(self, epochs: int) -> FitSettings:
        """The settings of the fit; `schedule` is there what `learning_rate_schedule` is here."""
        named = set(type(self).model_fields) & set(FitSettings.model_fields) - {"schedule"}
        own = self.model_dump(include=named) | {"schedule": self.learning_rate_schedule}
        return FitSettings.model_validate({**own, "epochs": epochs})
