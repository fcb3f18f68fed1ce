"""Heal a network that was cut or reshaped: fit it to what the old one answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.models.build import load_weights
from slimline.models.fit import fit
from slimline.models.task import Guide, Task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from slimline.models.fit import Fitted
    from slimline.models.healing import Healing
    from slimline.models.info import ModelInfo
    from slimline.models.tensors import Batchable


def heal(
    module: nn.Module,
    info: ModelInfo,
    teacher: Path,
    data: tuple[Batchable, Batchable],
    how: Healing,
    *,
    epochs: int,
    masks: Mapping[str, Tensor] | None = None,
) -> Fitted:
    """Fit a changed network to the old one's logits, and fill it with its best weights.

    Args:
        module: the changed network; its weights are where healing starts.
        info: its factory and edits rebuild it.
        teacher: the model artifact it was made from.
        data: the training split, and the one that chooses the epoch.
        how: the room's parameters.
        epochs: at least 1.
        masks: where a parameter stays zero, by name.
    """
    weights = {k: v.clone() for k, v in module.state_dict().items()}
    guide = Guide(teacher, how.temperature, how.alpha)
    settings = how.healing_settings(epochs)
    task = Task("heal", info, weights, *data, settings, guide, masks=masks or {})
    healed = fit(task)
    load_weights(module, healed.weights, f"model {info.name}")
    return healed
