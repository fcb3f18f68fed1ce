"""From float weights to levels and back, in plain torch arithmetic with gradients through it.

Weights come as (channels, values of one), scales as (channels, 1). A rounded value has no useful
gradient; the straight-through estimator (Bengio et al. 2013, arXiv:1308.3432) passes the output's
gradient to the value as if nothing had been rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 - imported when a network is to compute in levels

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SCALE = 1e-8
"""Of a channel or an input that is zero everywhere."""
_TRIED_SCALES = 24


def largest(bits: int) -> int:
    """The largest of the symmetric integer levels; the least is its negative."""
    return int(2 ** (bits - 1)) - 1


def rounded(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
    """Round to `scale * (integer - zero_point)` with integers from `low` to `high`.

    The gradients are those of LSQ, learned step size quantization (Esser et al. 2019,
    arXiv:1902.08153): straight through to `x` where it is inside the range and none outside; to
    the scale by what rounding, or the range's end, made of each value. Its balancing factor is the
    caller's (`learned_scale`).
    """
    made: Tensor = _Rounding.apply(x, scale, zero_point, low, high)  # type: ignore[no-untyped-call]
    return made


def learned_scale(logarithm: Tensor, values: int, high: int) -> Tensor:
    """A scale from its logarithm, with LSQ's balance of its gradient against the weights'.

    The logarithm keeps a scale positive, and lets an optimizer that moves every parameter by about
    the same amount (Adam) move each scale by about the same share (as in Jain et al. 2019,
    arXiv:1903.08066). Plain gradients move it slowly and safely: divided by the scale, as LSQ's
    are relative to it, they were measured to explode.

    Args:
        logarithm: natural logarithm of the scales.
        values: how many values each scale rounds.
        high: the number of positive levels.
    """
    balanced = logarithm * (values * high) ** -0.5
    scale: Tensor = (logarithm.detach() + (balanced - balanced.detach())).exp()
    return scale


def best_scale(weight: Tensor, high: int) -> Tensor:
    """For each channel the scale, of some below the largest magnitude, that rounds it best."""
    most = weight.abs().amax(1, keepdim=True).clamp_min(LEAST_SCALE * high)
    best, least = most / high, torch.full_like(most, torch.inf)
    for tried in range(_TRIED_SCALES):
        scale = most / high * (1 - 0.03 * tried)
        error = ((weight / scale).round().clamp(-high, high) * scale - weight).square().sum(1)
        better = error[:, None] < least
        best, least = torch.where(better, scale, best), torch.where(better, error[:, None], least)
    return best


def binary(weight: Tensor, *, balance: bool) -> tuple[Tensor, Tensor]:
    """Signs, and the mean magnitude as scale: XNOR-Net's weights.

    Rastegari et al. 2016 (arXiv:1603.05279). With `balance` each channel is first centred, as in
    IR-Net (Qin et al. 2019, arXiv:1909.10788), so that a half of it is on each side.

    Returns:
        Levels -1 and 1, and the scales.
    """
    centred = weight - weight.mean(1, keepdim=True) if balance else weight
    levels = torch.where(centred < 0, -1.0, 1.0).to(weight.dtype)
    return levels, centred.abs().mean(1, keepdim=True).clamp_min(LEAST_SCALE)


def ternary(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Ternary weight networks, Li et al. 2016 (arXiv:1605.04711).

    What is above 0.7 of the mean magnitude keeps its sign, and its mean magnitude is the scale.

    Returns:
        Levels -1, 0 and 1, and the scales.
    """
    size = weight.abs()
    stays = size > 0.7 * size.mean(1, keepdim=True)
    mean = (size * stays).sum(1, keepdim=True) / stays.sum(1, keepdim=True).clamp_min(1)
    return weight.sign() * stays, mean.clamp_min(LEAST_SCALE)


def powers_of_two(bits: int) -> Tensor:
    """Levels 0 and plus or minus 1, 1/2, 1/4 ...: products with them are shifts.

    As in logarithmic quantization (Miyashita et al. 2016, arXiv:1603.01025) and INQ (Zhou et al.
    2017, arXiv:1702.03044), times a scale of each channel. Sorted.
    """
    positive = torch.exp2(-torch.arange(largest(bits), dtype=torch.float32))
    return torch.cat([-positive, positive, torch.zeros(1)]).sort().values


def clustered(weight: Tensor, bits: int, rounds: int = 20) -> Tensor:
    """Centroids of all weights, each channel's scaled to a largest magnitude of 1: k-means.

    They start evenly spread, which Han et al. 2015 (arXiv:1510.00149) found best; one that no
    weight is nearest to stays where it is. Sorted.
    """
    values = (weight / peak(weight)).flatten()
    centroids = torch.linspace(float(values.min()), float(values.max()), 2**bits)
    for _ in range(rounds):
        owner = nearest(values, centroids)
        count = torch.bincount(owner, minlength=len(centroids))
        total = torch.zeros_like(centroids).index_add(0, owner, values)
        centroids = torch.where(count > 0, total / count.clamp_min(1), centroids).sort().values
    return centroids


def nearest(values: Tensor, levels: Tensor) -> Tensor:
    """The index of the nearest of sorted levels, for each value."""
    return torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)


def peak(weight: Tensor) -> Tensor:
    """The largest magnitude of each channel."""
    return weight.abs().amax(1, keepdim=True).clamp_min(LEAST_SCALE)


class _Rounding(torch.autograd.Function):
    """One function with both gradients: its parts would take thrice the time and memory."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd takes no keywords
        ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int
    ) -> Tensor:
        ctx.save_for_backward(x, scale, zero_point)
        ctx.low, ctx.high = low, high
        level = (x / scale).round_().add_(zero_point).clamp_(low, high)
        return level.sub_(zero_point).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zero_point = ctx.saved_tensors
        exact = x / scale
        shifted, level = exact + zero_point, exact.round() + zero_point
        inside = (shifted >= ctx.low) & (shifted <= ctx.high)
        by_value = gradient * inside
        if not ctx.needs_input_grad[1]:
            return by_value, None, None, None, None
        level.clamp_(ctx.low, ctx.high).sub_(zero_point).sub_(exact.mul_(inside))
        by_scale = (gradient * level).sum_to_size(scale.shape)
        return by_value, by_scale, None, None, None
