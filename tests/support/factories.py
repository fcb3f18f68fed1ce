"""Factories that a test names in SLIMLINE_FACTORY_MODULES: odd and difficult networks."""

from __future__ import annotations

import torch
from torch import nn


class Branching(nn.Module):
    """Looks at its data to choose what to compute."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.linear(x.flatten(1))
        return x if x.sum() > 0 else -x


class Fixed(nn.Module):
    """Has a batch of two in a constant."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(x.reshape(2, 64))


class FixedToOne(nn.Module):
    """Takes one example a call."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(x.reshape(1, 64))


class Noisy(nn.Module):
    """Answers otherwise each time."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.linear(x.flatten(1))
        return x + torch.rand_like(x)


def branching() -> nn.Module:
    return Branching()


def fixed() -> nn.Module:
    return Fixed()


def fixed_to_one() -> nn.Module:
    return FixedToOne()


def noisy() -> nn.Module:
    return Noisy()


def mixed() -> nn.Module:
    """Layers that exporters write in many operators."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.GELU(),
        nn.Flatten(),
        nn.LayerNorm(512),
        nn.Linear(512, 10),
    )


def without_weights() -> nn.Module:
    """Nothing that could be quantized."""
    return nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Softmax(1))


def tiny() -> nn.Module:
    """So small that scales outweigh weights."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 10)
    )


def linear() -> nn.Module:
    """No convolution."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
