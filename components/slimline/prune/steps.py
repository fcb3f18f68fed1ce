"""Several cuts on the way to the target, and what a killed job leaves to its next try.

A step is a cut and its healing. The cut's result is kept in the job's checkpoint before the healing
starts, beside which `fit` keeps its own state; so a try that goes on never cuts twice, and what it
heals is what the killed one would have healed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from slimline.models.answers import ANSWERS_FILE
from slimline.models.info import ModelInfo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from slimline.contract.job import Checkpoint

_WORDS, _TENSORS = "step.json", "step.safetensors"


class Step(BaseModel):
    """A step whose cut is made, and what is to be told of it and of those before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = 0
    """From 1; 0 before the first."""
    info: ModelInfo
    rows: dict[str, dict[str, Any]] = {}
    """By step: the numbers of its cut and its healing."""
    widths: dict[str, str] = {}
    left_alone: dict[str, str] = {}
    notes: dict[str, str] = {}
    probes: tuple[dict[str, float], ...] = ()


def share_done(step: int, steps: int, schedule: str) -> float:
    """Which part of the whole cut is done after a step.

    `cubic` cuts much first, while there is much to spare, and ever less towards the end (Zhu and
    Gupta 2017, arXiv:1710.01878).
    """
    left = 1 - step / steps
    return 1 - left**3 if schedule == "cubic" else 1 - left


def together(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Widths `a -> b` over several steps: the first width and the last."""
    joined = {
        name: f"{before.get(name, width).split(' -> ')[0]} -> {width.split(' -> ')[1]}"
        for name, width in now.items()
    }
    return {**before, **joined}


def keep_step(
    saved: Checkpoint, step: Step, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> None:
    """Keep a cut in the job's checkpoint, in place of the step before and of its healing.

    What the teacher answered stays: it is the same in all steps.
    """
    from safetensors.torch import save_file

    for left in saved.path.iterdir():
        if left.name != ANSWERS_FILE:
            left.unlink()
    tensors = {f"weights.{k}": v for k, v in weights.items()}
    tensors |= {f"masks.{k}": v for k, v in masks.items()}
    save_file(
        {k: v.detach().contiguous().clone() for k, v in tensors.items()}, saved.path / _TENSORS
    )
    (saved.path / _WORDS).write_text(step.model_dump_json())
    saved.save()


def kept_step(path: Path) -> tuple[Step, dict[str, Tensor], dict[str, Tensor]] | None:
    """What `keep_step` kept last: the step, its weights and its masks; None at the start."""
    from safetensors.torch import load_file

    if not (path / _WORDS).is_file():
        return None
    step = Step.model_validate_json((path / _WORDS).read_text())
    tensors = load_file(path / _TENSORS)
    weights, masks = (
        {k.removeprefix(p): v for k, v in tensors.items() if k.startswith(p)}
        for p in ("weights.", "masks.")
    )
    return step, weights, masks
