"""ResNet-20 for CIFAR-10 (He et al. 2015, arXiv:1512.03385) in plain torch, for tools that take it.

Option A as it is mostly written: the shortcut drops every second pixel and pads with zero channels
by `F.pad`. Names of parameters are those of the published weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path


class Block(nn.Module):
    """Two convolutions beside a shortcut without parameters."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.stride, self.more = (1, 0) if before == width else (2, width // 4)
        self.conv1 = nn.Conv2d(before, width, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride > 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more))
        return F.relu(out + x)


class ResNet20(nn.Module):
    """Three stages of three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(before, width), Block(width, width), Block(width, width))
            for before, width in [(16, 16), (16, 32), (32, 64)]
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
        answer: Tensor = self.linear(x.mean((2, 3)))
        return answer


def published(inputs: Path) -> ResNet20:
    """The network with the published weights, in evaluation mode."""
    module = ResNet20()
    with np.load(inputs / "weights.npz") as arrays:
        weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    missing, unknown = module.load_state_dict(weights, strict=False)
    wrong = [*unknown, *(name for name in missing if not name.endswith("num_batches_tracked"))]
    if wrong:
        raise ValueError(f"weights.npz does not fit: {wrong}")
    return module.eval()


def to_onnx(module: nn.Module, target: Path) -> None:
    """Export with a dynamic batch, by the exporter that torch recommends."""
    torch.onnx.export(
        module,
        (torch.zeros(2, 3, 32, 32),),
        target,
        dynamo=True,
        external_data=False,
        input_names=["input"],
        output_names=["logits"],
        dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
        opset_version=20,
        verbose=False,
    )
