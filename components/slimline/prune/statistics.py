"""Batch norm statistics after a cut: what reaches a layer is not what it was trained on."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from slimline.models.fit import accuracy

if TYPE_CHECKING:
    from torch import nn

    from slimline.models.tensors import Batchable


def reestimated(module: nn.Module, samples: Batchable, batch: int) -> nn.Module | None:
    """A copy whose batch norms have the mean and variance that they meet now.

    Forward passes alone, seconds where healing takes minutes; they win back most of what a cut
    costs before any healing (EagleEye, Li et al. 2020, arXiv:2007.02491).

    Args:
        module: the cut network.
        samples: training examples.
        batch: examples in one pass; all passes count alike, so a smaller last one is left out.

    Returns:
        None when the network has no batch norm that keeps statistics.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    made = copy.deepcopy(module).eval()
    norms = [n for n in made.modules() if isinstance(n, _BatchNorm) and n.track_running_stats]
    if not norms:
        return None
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    size = min(batch, len(samples))
    with torch.no_grad():
        for piece in samples.pieces(size):
            if len(piece) == size:
                made(piece.x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return made.eval()


def better_of(module: nn.Module, other: nn.Module, selection: Batchable) -> nn.Module:
    """The network that is right more often on the selection split; the second one of equals."""
    return other if accuracy(other, selection) >= accuracy(module, selection) else module
