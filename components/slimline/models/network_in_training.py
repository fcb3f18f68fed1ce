"""The network as training needs it: its weights, what of it is frozen, its optimizer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slimline.contract import BadData, BadParameters
from slimline.models.build import build, load_weights
from slimline.models.fake_quantize import attach, parameter_groups

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from slimline.models.task import Task


def make_network(task: Task) -> tuple[nn.Module, Optimizer]:
    """The network with the weights it starts from, and what moves those that are free."""
    import torch

    if task.info.factory is None:
        msg = f"model {task.info.name} has no factory: only a torch model can be trained"
        raise BadData(msg)
    module = build(task.info.factory, task.info.edits)
    if task.quantization is not None:
        attach(module, task.quantization)
    load_weights(module, task.weights, f"model {task.info.name}")
    if task.train.is_images:
        for weight in module.parameters():
            if weight.ndim == 4:  # noqa: PLR2004 - of convolutions
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    _freeze(module, task.frozen)
    settings = task.settings
    free = parameter_groups(module, settings.weight_decay)
    made: Optimizer
    if settings.optimizer == "sgd":
        made = torch.optim.SGD(
            free, settings.learning_rate, 0.9, weight_decay=settings.weight_decay, nesterov=True
        )
    else:
        made = torch.optim.AdamW(free, settings.learning_rate, weight_decay=settings.weight_decay)
    return module, made


def _freeze(module: nn.Module, pattern: str) -> None:
    if not pattern:
        return
    try:
        found = [p for n, p in module.named_parameters() if re.search(pattern, n)]
    except re.error as error:
        msg = f"freeze {pattern!r} is no regular expression: {error}"
        raise BadParameters(msg) from error
    if not 0 < len(found) < len(list(module.parameters())):
        names = ", ".join(n for n, _ in list(module.named_parameters())[:4])
        msg = f"freeze {pattern!r} finds {len(found)} parameters of {names} ...: find some, not all"
        raise BadParameters(msg)
    for parameter in found:
        parameter.requires_grad = False


def training_mode(module: nn.Module) -> None:
    """Training mode, but not for batch norm that is frozen: its statistics stay too."""
    module.train()
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            layer.eval()
