"""What training lowers: cross-entropy, or the distance to a teacher."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        labels: class indices (batch,).
        temperature: softens both distributions; their divergence is multiplied by its square, so
            that gradients keep their size.
        alpha: weight of the divergence; the rest is cross-entropy with the labels.
        label_smoothing: of the cross-entropy.
    """
    from torch.nn import functional

    soft = functional.kl_div(
        functional.log_softmax(student.float() / temperature, dim=1),
        functional.log_softmax(teacher.float() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    hard = functional.cross_entropy(student.float(), labels, label_smoothing=label_smoothing)
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def learning_rate_factor(schedule: str, step: int, steps: int) -> float:
    """Share of the highest learning rate at a step; see `FitSettings.schedule`."""
    if schedule == "constant":
        return 1.0
    warm = max(1, round(steps * (0.3 if schedule == "one_cycle" else 0.05)))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
