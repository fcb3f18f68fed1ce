"""What training lowers: cross-entropy, or the distance to a teacher."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Logit distillation of Hinton, Vinyals and Dean 2015 (arXiv:1503.02531).

    Args:
        student: logits (batch, classes).
        teacher: logits (batch, classes).
        labels: class indices (batch,), or shares of the classes (batch, classes).
        temperature: softens both distributions; their divergence is multiplied by its square, so
            that gradients keep their size.
        alpha: weight of the divergence; the rest is cross-entropy with the labels.
        label_smoothing: of the cross-entropy.
    """
    from torch.nn import functional

    soft = _divergence(student.float() / temperature, teacher.float() / temperature)
    hard = functional.cross_entropy(student.float(), labels, label_smoothing=label_smoothing)
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def decoupled_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
    beta: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Decoupled distillation of Zhao et al. 2022 (arXiv:2203.08679).

    The divergence falls into that of the share of the right class, and that among the other
    classes, which plain distillation weighs down where the teacher is sure. Here the second has a
    weight of its own.

    Args:
        student: logits (batch, classes).
        teacher: logits (batch, classes).
        labels: class indices (batch,).
        temperature: as in `distillation_loss`.
        alpha: weight of both divergences; the rest is cross-entropy with the labels.
        beta: weight of the divergence among the other classes, in relation to the first.
        label_smoothing: of the cross-entropy.
    """
    import torch
    from torch.nn import functional

    own, given = student.float() / temperature, teacher.float() / temperature
    right = functional.one_hot(labels, own.shape[1]).bool()
    target = _divergence(_target_or_not(own, right), _target_or_not(given, right))
    others = [part.masked_select(~right).view(len(part), -1) for part in (own, given)]
    among = _divergence(*others) if others[0].shape[1] > 1 else torch.zeros_like(target)
    hard = functional.cross_entropy(student.float(), labels, label_smoothing=label_smoothing)
    return alpha * temperature**2 * (target + beta * among) + (1 - alpha) * hard


def _target_or_not(logits: Tensor, right: Tensor) -> Tensor:
    """Logarithms of two shares (batch, 2): of the right class, and of all others together."""
    import torch

    shares = logits.log_softmax(1)
    others = shares.masked_fill(right, -torch.inf).logsumexp(1)
    return torch.stack([shares.masked_select(right), others], 1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of what two rows of logits say, mean over the batch."""
    from torch.nn import functional

    return functional.kl_div(
        functional.log_softmax(student, dim=1),
        functional.log_softmax(teacher, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def hint_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Hints of Romero et al. 2014 (arXiv:1412.6550): squared distance of feature to feature.

    Args:
        student: features, already brought to the teacher's channels.
        teacher: features (batch, channels, ...); larger images are pooled to the smaller size.

    Returns:
        The mean over values and pairs.
    """
    import torch
    from torch.nn import functional

    parts = [
        functional.mse_loss(*_of_one_size(s.float(), t.float()))
        for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(parts).mean()


def attention_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Attention transfer of Zagoruyko and Komodakis 2016 (arXiv:1612.03928).

    An attention map is the mean of the squared channels, brought to length 1; the loss is the
    squared distance of the maps, mean over batch and pairs, so between 0 and 2.

    Args:
        student: features (batch, channels, height, width).
        teacher: likewise; larger images are pooled to the smaller size.
    """
    import torch

    parts = []
    for s, t in zip(student, teacher, strict=True):
        own, given = (_attention(x) for x in _of_one_size(s.float(), t.float()))
        parts.append((own - given).square().sum(1).mean())
    return torch.stack(parts).mean()


def _attention(features: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.normalize(features.square().mean(1).flatten(1), dim=1)


def _of_one_size(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both pooled to the smaller height and width."""
    from torch.nn import functional

    if one.shape[2:] == other.shape[2:]:
        return one, other
    size = min(one.shape[2], other.shape[2]), min(one.shape[3], other.shape[3])
    return functional.adaptive_avg_pool2d(one, size), functional.adaptive_avg_pool2d(other, size)


def learning_rate_factor(schedule: str, step: int, steps: int) -> float:
    """Share of the highest learning rate at a step; see `FitSettings.schedule`."""
    if schedule == "constant":
        return 1.0
    warm = max(1, round(steps * (0.3 if schedule == "one_cycle" else 0.05)))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
