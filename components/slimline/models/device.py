"""Where a job that is one process computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def own_device() -> torch.device:
    """The first GPU, or the CPU where there is none; what Fabric chooses for one process."""
    import torch

    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
