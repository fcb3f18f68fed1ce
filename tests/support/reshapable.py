"""Small networks with something planted that reshaping must find; 8x8 images, ten classes."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


def merging() -> nn.Module:
    """Every second layer could be one with the next; the last two are cheaper as two."""
    return _row(
        conv1=nn.Conv2d(1, 16, 3, padding=1),
        conv2=nn.Conv2d(16, 4, 1),
        relu1=nn.ReLU(),
        expand=nn.Conv2d(4, 16, 1, bias=False),
        conv3=nn.Conv2d(16, 8, 3, padding=1, stride=2),
        relu2=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        linear1=nn.Linear(8, 32),
        linear2=nn.Linear(32, 24),
        relu3=nn.ReLU(),
        narrow=nn.Linear(24, 2),
        linear3=nn.Linear(2, 10),
    )


def twins() -> nn.Module:
    """Convolution and linear layer of which some units say the same as others."""
    made = dead_weight()
    with torch.no_grad():
        for layer, lost, into, factor in ((made.conv1, 3, 0, 2.0), (made.linear1, 7, 5, 1.0)):
            layer.weight[lost] = factor * layer.weight[into]
            layer.bias[lost] = factor * layer.bias[into]
    return made


def dead_weight() -> nn.Module:
    """A plain network, all of it alive; tests plant dead and constant units into it."""
    made = _row(
        conv1=nn.Conv2d(1, 8, 3),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(8, 8, 3, bias=False),
        bn2=nn.BatchNorm2d(8),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        linear1=nn.Linear(32, 12),
        relu3=nn.ReLU(),
        linear2=nn.Linear(12, 10, bias=False),
    )
    nn.init.constant_(made.linear1.bias, 1.0)
    return made


def dense_head() -> nn.Module:
    """Nearly all weights lie behind the flatten."""
    return _row(
        conv=nn.Conv2d(1, 16, 3, padding=1),
        bn=nn.BatchNorm2d(16),
        relu=nn.ReLU(),
        flatten=nn.Flatten(),
        linear1=nn.Linear(16 * 64, 32),
        relu1=nn.ReLU(),
        dropout=nn.Dropout(0.5),
        linear2=nn.Linear(32, 10),
    )


def gelus() -> nn.Module:
    """Activations that take exponentials."""
    return _row(
        conv1=nn.Conv2d(1, 8, 3, padding=1),
        act1=nn.GELU(),
        conv2=nn.Conv2d(8, 8, 3, padding=1),
        act2=nn.GELU(),
        flatten=nn.Flatten(),
        linear=nn.Linear(512, 10),
    )


def thick() -> nn.Module:
    """A kernel of rank 2 in both of its channel axes, and a matrix of rank 2."""
    made = _row(
        stem=nn.Conv2d(1, 16, 3, padding=1),
        relu=nn.ReLU(),
        conv=nn.Conv2d(16, 16, 3, padding=1, stride=2),
        relu1=nn.ReLU(),
        flatten=nn.Flatten(),
        linear1=nn.Linear(256, 32),
        relu2=nn.ReLU(),
        linear2=nn.Linear(32, 10),
    )
    with torch.no_grad():
        core = torch.randn(2, 2, 3, 3)
        made.conv.weight.copy_(
            torch.einsum("or,rshw,si->oihw", torch.randn(16, 2), core, torch.randn(2, 16)) / 20
        )
        made.linear1.weight.copy_(torch.randn(32, 2) @ torch.randn(2, 256) / 20)
    return made


def separable() -> nn.Module:
    """A kernel that is a row after a column."""
    made = thick()
    with torch.no_grad():
        column, row = torch.randn(2, 16, 3), torch.randn(16, 2, 3)
        made.conv.weight.copy_(torch.einsum("rih,orw->oihw", column, row) / 20)
    return made


class Tangled(nn.Module):
    """What is not plain: a shared layer, a function, a layer whose weights are used without it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.shared, self.unused = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.last_bn, self.linear = nn.BatchNorm2d(8), nn.Linear(8, 10)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.bn(x) + x
        x = nn.functional.gelu(self.shared(x))
        x = self.act(self.shared(x))
        x = nn.functional.conv2d(x, self.unused.weight)
        return self.linear(self.last_bn(x).mean([2, 3]))


def tangled() -> nn.Module:
    return Tangled()


def silenced() -> nn.Module:
    """With a dead unit, and a constant one whose layer is taken by one without a bias."""
    made = dead_weight()
    with torch.no_grad():
        made.conv1.bias[2] = -50
        made.linear1.weight[4] = 0
    return made


def waking() -> nn.Module:
    """A unit that only bright images wake."""
    made = dead_weight()
    with torch.no_grad():
        made.conv1.weight[2], made.conv1.bias[2] = 1, -2.25
        made.conv2.weight[:, 2] = 1
    return made


class Branching(nn.Module):
    """Looks at its data to choose what to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x.flatten(1))
        return x if x.sum() > 0 else -x


def branching() -> nn.Module:
    return Branching()


def _row(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))
