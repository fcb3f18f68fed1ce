"""N:M sparsity: n weights stay in every block of m, so that a runtime can skip the others.

Blocks lie along a layer's input, as the sparse tensor cores of 2:4 need it (Mishra et al. 2021,
arXiv:2104.08378): for a convolution, m input channels at one place of the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadParameters
from slimline.prune.importance import rank_weights, reads
from slimline.prune.sparse import prunable_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.models.tensors import Batchable
    from slimline.prune.spec import Prune


def n_m_masks(
    module: nn.Module, job: Prune, samples: Batchable | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Choose the n most important weights of each block of m.

    Args:
        module: whose weights they are.
        job: n, m and what ranks the weights in a block.
        samples: training examples, for importance `taylor`.

    Returns:
        By parameter name a tensor of its shape and dtype: 0 where the weight goes, else 1; and by
        layer why it is left alone.

    Raises:
        BadParameters: when no layer's input is a multiple of m.
    """
    masks: dict[str, Tensor] = {}
    left_alone: dict[str, str] = {}
    scores = rank_weights(module, prunable_weights(module), job, samples)
    for name, score in scores.items():
        axis = next((a for a in (0, 1) if reads(module, name, a)), None)
        if axis is None:
            left_alone[name.removesuffix(".weight")] = "it multiplies no input by these weights"
        elif score.shape[axis] % job.m:
            why = f"its {score.shape[axis]} inputs are no multiple of {job.m}"
            left_alone[name.removesuffix(".weight")] = why
        else:
            masks[name] = _mask(score, axis, job.n, job.m).to(module.get_parameter(name).dtype)
    if not masks:
        reasons = "; ".join(f"{k}: {v}" for k, v in list(left_alone.items())[:5])
        msg = f"no layer can keep {job.n} of {job.m} weights: {reasons}; use another m"
        raise BadParameters(msg)
    return masks, left_alone


def _mask(score: Tensor, axis: int, n: int, m: int) -> Tensor:
    import torch

    moved = score.movedim(axis, -1)
    blocks = moved.reshape(-1, m)
    best = blocks.argsort(dim=1, descending=True, stable=True)[:, :n]
    mask = torch.zeros_like(blocks).scatter_(1, best, 1.0)
    return mask.view(moved.shape).movedim(-1, axis).contiguous()
