"""Batch norm over all processes, so that a step normalises as one process would.

torch's own `SyncBatchNorm` is for GPUs alone. On CPUs the same is done here with torch's CPU
kernels: mean and variance are those of the whole batch, however unevenly it is shared out, and so
are their gradients.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor, nn
    from torch.nn.modules.batchnorm import _BatchNorm


def share_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Let every batch norm of a network count all processes' examples; parameters stay the same."""
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    if device.type == "cuda":
        shared: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return shared
    normalize = _function()
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.forward = partial(_forward, layer, layer.forward, normalize)  # type: ignore[method-assign]
    return module


def _forward(
    layer: _BatchNorm,
    alone: Callable[[Tensor], Tensor],
    normalize: Callable[..., Tensor],
    x: Tensor,
) -> Tensor:
    """What the layer answers to this process's share `x` (examples, channels, ...)."""
    import torch

    if not layer.training:
        return alone(x)
    values = x.float()
    count, mean, variance = _moments(values.detach())
    _track(layer, count, mean, variance)
    weight = torch.ones_like(mean) if layer.weight is None else layer.weight
    bias = torch.zeros_like(mean) if layer.bias is None else layer.bias
    return normalize(values, weight, bias, mean, variance, count, layer.eps).to(x.dtype)


def _moments(x: Tensor) -> tuple[int, Tensor, Tensor]:
    """Values of a channel in all processes: how many, their mean and their (biased) variance."""
    import torch
    from torch import distributed

    mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
    own = torch.stack([torch.full_like(mean, x.numel() // x.shape[1]), mean, variance])
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, own)
    counts, means, variances = torch.stack(parts).double().unbind(1)
    shares = counts / counts.sum(0)
    together = (shares * means).sum(0)
    spread = (shares * (variances + (means - together).square())).sum(0)
    return int(counts[:, 0].sum()), together.float(), spread.float()


def _track(layer: _BatchNorm, count: int, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics as torch does: unbiased variance, momentum or the plain mean."""
    if layer.running_mean is None or layer.running_var is None:
        return
    assert layer.num_batches_tracked is not None  # noqa: S101 - kept beside the two
    layer.num_batches_tracked.add_(1)
    momentum = layer.momentum
    if momentum is None:
        momentum = 1 / int(layer.num_batches_tracked)
    layer.running_mean.lerp_(mean, momentum)
    layer.running_var.lerp_(variance * (count / max(1, count - 1)), momentum)


def _function() -> Callable[..., Tensor]:
    """The differentiable normalisation; a class of torch's, so it is made when torch is needed.

    Mean and variance depend on `x` too. That part of the gradient is the mean of the gradients and
    of their products with the normalised values, over all processes (Ioffe and Szegedy 2015,
    arXiv:1502.03167, section 3); the rest is torch's kernel for fixed statistics.
    """
    import torch
    from torch import distributed

    class Normalize(torch.autograd.Function):
        @staticmethod
        def forward(  # noqa: PLR0917 - autograd takes no keywords
            ctx: Any,
            x: Tensor,
            weight: Tensor,
            bias: Tensor,
            mean: Tensor,
            variance: Tensor,
            count: int,
            eps: float,
        ) -> Tensor:
            ctx.save_for_backward(x, weight, mean, variance)
            ctx.count, ctx.eps = count, eps
            return torch.nn.functional.batch_norm(x, mean, variance, weight, bias, eps=eps)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            x, weight, mean, variance = ctx.saved_tensors
            fixed, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
                gradient,
                x,
                weight,
                mean,
                variance,
                save_mean=None,
                save_invstd=None,
                train=False,
                eps=ctx.eps,
                output_mask=[True] * 3,
            )
            means = torch.stack([by_weight, by_bias])
            distributed.all_reduce(means)
            means /= ctx.count
            scale = torch.rsqrt(variance + ctx.eps)
            slope = weight * scale * scale * means[0]
            offset = weight * scale * means[1] - slope * mean
            shape = (1, -1) + (1,) * (x.ndim - 2)
            through_moments = torch.addcmul(offset.view(shape), x, slope.view(shape))
            return fixed.sub_(through_moments), by_weight, by_bias, None, None, None, None

    applied: Callable[..., Tensor] = Normalize.apply
    return applied
