"""Magnitude pruning: the smallest weights become zero, and stay so while the rest heals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadData

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from slimline.prune.spec import Prune


def magnitude_masks(module: nn.Module, job: Prune) -> dict[str, Tensor]:
    """Choose the weights that go: those of convolutions and linear layers, never biases or norms.

    The norm of a single weight is its magnitude, whatever `importance` says.

    Returns:
        By parameter name a tensor of its shape and dtype: 0 where the weight goes, else 1.
    """
    import torch

    weights = {n: p.detach() for n, p in module.named_parameters() if p.ndim > 1}
    if not weights:
        msg = "the network has no convolution or linear layer whose weights could be pruned"
        raise BadData(msg)
    if job.scope == "local":
        return {name: _mask(weight, job.ratio) for name, weight in weights.items()}
    together = torch.cat([weight.flatten() for weight in weights.values()])
    masks = _mask(together, job.ratio).split([w.numel() for w in weights.values()])  # type: ignore[no-untyped-call]
    return {n: m.view_as(w) for (n, w), m in zip(weights.items(), masks, strict=True)}


def apply_masks(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the chosen weights to zero."""
    import torch

    with torch.no_grad():
        for name, mask in masks.items():
            module.get_parameter(name).mul_(mask)


def sparsity(module: nn.Module) -> float:
    """Share of zeros in the weights of convolutions and linear layers."""
    weights = [p for p in module.parameters() if p.ndim > 1]
    zeros = sum(int((w == 0).sum()) for w in weights)
    return zeros / max(1, sum(w.numel() for w in weights))


def _mask(weight: Tensor, ratio: float) -> Tensor:
    import torch

    gone = weight.abs().flatten().argsort()[: round(ratio * weight.numel())]
    mask = torch.ones(weight.numel(), dtype=weight.dtype)
    mask[gone] = 0
    return mask.view_as(weight)
