"""What is to be fitted, stated so that it can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - read when a task's files are
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from slimline.models.fake_quantize_plan import FakeQuantization
    from slimline.models.info import ModelInfo
    from slimline.models.settings import FitSettings
    from slimline.models.tensors import Batchable


@dataclass(frozen=True)
class Guide:
    """A teacher to follow: its model artifact, and how closely; or several teachers."""

    path: Path
    temperature: float
    alpha: float
    """Weight of the teacher; the rest is the labels'."""
    method: Literal["logits", "decoupled", "hints", "attention"] = "logits"
    beta: float = 8.0
    """Of method decoupled; see `decoupled_loss`."""
    warmup_epochs: int = 0
    """Epochs in which the teacher's weight rises from 0."""
    feature_weight: float = 1.0
    """Of what methods hints and attention add to the loss."""
    layers: tuple[str, ...] = ()
    """Pairs `student=teacher` of module names, for hints and attention; found by size if none."""
    further: tuple[Path, ...] = ()
    """More teachers, whose answers are averaged with those of the first."""
    ensemble: Literal["probability", "logit"] = "probability"
    """Of what the average is taken."""
    shares: tuple[float, ...] = ()
    """Weight of each teacher, the first included; equal if none."""
    answers: Path | None = None
    """Where all answers to the views of the training split lie already."""

    @property
    def teachers(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.path, *self.further)

    @property
    def needs_features(self) -> bool:
        """Whether the method looks inside the teacher."""
        return self.method in {"hints", "attention"}


@dataclass(frozen=True)
class Task:
    """What is fitted, to what, and how; all of it can be sent to another process."""

    what: str
    """A word for logs: train, distill, heal."""
    info: ModelInfo
    """Its factory and edits build the network."""
    weights: Mapping[str, Tensor]
    """Where it starts."""
    train: Batchable
    selection: Batchable
    settings: FitSettings
    guide: Guide | None = None
    frozen: str = ""
    """Regular expression; parameters whose name it finds keep their values."""
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """Where a parameter must stay zero, by name: 0 there, 1 elsewhere."""
    quantization: FakeQuantization | None = None
    """Layers that compute in levels; `weights` are then those of the network with quantizers."""
