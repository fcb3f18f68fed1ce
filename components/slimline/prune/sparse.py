"""Magnitude pruning: the smallest weights become zero, and stay so while the rest heals.

By a share of each layer's or of all weights (Han et al. 2015, arXiv:1506.02626), or by a threshold.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.prune.importance import rank_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from slimline.models.tensors import Batchable
    from slimline.prune.spec import Prune


def magnitude_masks(
    module: nn.Module, job: Prune, samples: Batchable | None = None, share: float = 1.0
) -> dict[str, Tensor]:
    """Choose the weights that go: those of convolutions and linear layers, never biases or norms.

    Args:
        module: whose weights they are.
        job: ratio and scope, or threshold; what ranks the weights.
        samples: training examples, for importance `taylor`.
        share: how far on the way to the ratio or the threshold to go, 0 to 1.

    Returns:
        By parameter name a tensor of its shape and dtype: 0 where the weight goes, else 1.

    Raises:
        BadData: when the network has no such weights.
    """
    import torch

    weights = prunable_weights(module)
    if job.threshold:
        return {n: (w.abs() >= job.threshold * share).to(w.dtype) for n, w in weights.items()}
    scores = rank_weights(module, weights, job, samples)
    # What is zero already goes first: it went in an earlier step.
    scores = {n: score.masked_fill(weights[n] == 0, -1) for n, score in scores.items()}
    ratio = job.ratio * share
    if job.scope == "local":
        return {n: _mask(score, ratio).to(weights[n].dtype) for n, score in scores.items()}
    together = torch.cat([score.flatten() for score in scores.values()])
    masks = _mask(together, ratio).split([s.numel() for s in scores.values()])  # type: ignore[no-untyped-call]
    return {n: m.view_as(w).to(w.dtype) for (n, w), m in zip(weights.items(), masks, strict=True)}


def prunable_weights(module: nn.Module) -> dict[str, Tensor]:
    """The weights of convolutions and linear layers, by parameter name.

    Raises:
        BadData: when there are none.
    """
    weights = {n: p.detach() for n, p in module.named_parameters() if p.ndim > 1}
    if not weights:
        msg = "the network has no convolution or linear layer whose weights could be pruned"
        raise BadData(msg)
    return weights


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


def stored_bytes(module: nn.Module) -> tuple[int, int]:
    """Size of a network's tensors as they are, and coded sparse where that is smaller.

    Coded sparse, a tensor is a bit for each weight that says whether it is there, and the values of
    those that are, both packed with zlib: what zeros really save in a package.
    """
    tensors = [t.detach().cpu() for t in module.state_dict().values()]
    return sum(t.numel() * t.element_size() for t in tensors), sum(map(_coded, tensors))


def _coded(tensor: Tensor) -> int:
    import numpy as np

    values = tensor.contiguous().numpy()
    dense = len(zlib.compress(values.tobytes()))
    there = values != 0
    sparse = zlib.compress(np.packbits(there).tobytes()), zlib.compress(values[there].tobytes())
    return min(dense, sum(map(len, sparse)))


def _mask(score: Tensor, ratio: float) -> Tensor:
    import torch

    gone = score.flatten().argsort(stable=True)[: round(ratio * score.numel())]
    mask = torch.ones(score.numel())
    mask[gone] = 0
    return mask.view_as(score)
