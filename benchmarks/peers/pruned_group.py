"""torch-pruning 1.6.1: channels by group norm at a ratio, fine-tuned, as float and as int8.

It cuts and no more: fine-tuning is left to its user, so it is done here with the optimizer, epochs,
augmentation and precision that our healing gets. It has no quantizer either: int8 is made by
onnxruntime's.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
import torch_pruning
from onnxruntime_defaults import U8S8
from onnxruntime_defaults import static as quantized
from peer_common import INPUTS, OUT, examples, points
from resnet20 import published, to_onnx

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

HEALING = json.loads(sys.argv[-1])
"""What our `prune` gets: epochs, batch_size, learning_rate, weight_decay, ratio."""


def pruned(target: Path) -> str:
    """Cut, fine-tune, export."""
    torch.manual_seed(0)
    try:
        module, note = _cut([]), "the whole network"
    except Exception as error:  # noqa: BLE001 - it is told
        module, note = _cut(_residual_stream()), f"inside blocks alone (else {error!s:.60})"
    parameters = sum(weight.numel() for weight in module.parameters())
    _heal(module)
    to_onnx(module, target)
    return f"BasePruner, GroupMagnitudeImportance(p=2), {note}; {parameters:,} parameters"


def int8(target: Path) -> str:
    """onnxruntime's quantizer on what was pruned."""
    quantized(OUT / "pruned.onnx", target, per_channel=True, **U8S8)
    return "the same, then onnxruntime U8S8 QDQ, a scale for each channel"


def _cut(ignored: list[str]) -> nn.Module:
    module = published(INPUTS)
    pruner = torch_pruning.pruner.BasePruner(
        module,
        torch.zeros(1, 3, 32, 32),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=HEALING["ratio"],
        ignored_layers=[module.get_submodule(name) for name in ["linear", *ignored]],
    )
    pruner.step()
    module(torch.zeros(2, 3, 32, 32))
    return module


def _residual_stream() -> list[str]:
    seconds = [f"layer{stage}.{block}.conv2" for stage in (1, 2, 3) for block in range(3)]
    return ["conv1", *seconds]


def _heal(module: nn.Module) -> None:
    """SGD with Nesterov momentum, one cycle, mirrored and moved images, bfloat16."""
    images, classes = (torch.from_numpy(part) for part in examples("train"))
    images = images.contiguous(memory_format=torch.channels_last)
    module.train()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    batch = HEALING["batch_size"]
    steps = HEALING["epochs"] * (len(images) // batch)
    optimizer = torch.optim.SGD(
        module.parameters(), 0.1, 0.9, weight_decay=HEALING["weight_decay"], nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, HEALING["learning_rate"], total_steps=steps, cycle_momentum=False
    )
    for _ in range(HEALING["epochs"]):
        for rows in torch.split(torch.randperm(len(images)), batch)[: len(images) // batch]:
            with torch.autocast("cpu", torch.bfloat16):
                answers = module(_augmented(images[rows]))
            loss = F.cross_entropy(answers.float(), classes[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    module.eval()
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _augmented(images: Tensor) -> Tensor:
    """Each moved by up to 4 pixels, the border repeated; half of them mirrored."""
    count, _, height, width = images.shape
    down, across = (
        (torch.arange(size) + torch.randint(-4, 5, (count, 1))).clamp(0, size - 1)
        for size in (height, width)
    )
    mirrored = torch.rand(count) < 0.5  # noqa: PLR2004 - half of them
    across[mirrored] = across[mirrored].flip(1)
    rows = torch.arange(count)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[rows, down[:, :, None], across[:, None, :]]
    return moved.permute(0, 3, 1, 2)


if __name__ == "__main__":
    points({"pruned": pruned, "pruned int8": int8})
