"""What is to be fitted, stated so that it can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from slimline.models.fake_quantize_plan import FakeQuantization
    from slimline.models.info import ModelInfo
    from slimline.models.settings import FitSettings
    from slimline.models.tensors import Batchable


@dataclass(frozen=True)
class Guide:
    """A teacher to follow: its model artifact, and how closely (see `distillation_loss`)."""

    path: Path
    temperature: float
    alpha: float


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
