"""A teacher answers with logits, be it a torch model, an ONNX file, or several of them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from slimline.contract import BadData, BadParameters
from slimline.measure.runtime import logits, session
from slimline.models.build import load_torch_model
from slimline.models.info import load_model_info
from slimline.models.threads import threads_of_each

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from slimline.models.info import ModelInfo
    from slimline.models.task import Guide

_BATCH = 1024
_LEAST_SHARE = 1e-6
"""Below it, the logarithm of a probability says nothing a student could follow."""


def open_teacher(
    path: Path, processes: int = 1, precision: str = "32"
) -> Callable[[Tensor], Tensor]:
    """Load a model artifact as a function from preprocessed input to logits, float32.

    Args:
        path: of the model, torch or ONNX.
        processes: how many share the cores.
        precision: of a torch model, as `FitSettings.precision`.

    Raises:
        BadData: when the artifact cannot be loaded.
    """
    if load_model_info(path).format == "onnx":
        return _onnx_teacher(path, threads_of_each(processes))
    return _torch_teacher(load_torch_model(path)[0], precision)


def open_teachers(
    guide: Guide, processes: int = 1, precision: str = "32"
) -> Callable[[Tensor], Tensor]:
    """The teachers of a guide as one; see `open_teacher`."""
    each = [open_teacher(path, processes, precision) for path in guide.teachers]
    if len(each) == 1:
        return each[0]
    shares = guide.shares or (1.0,) * len(each)
    return lambda x: averaged([ask(x) for ask in each], shares, guide.ensemble)


def averaged(answers: Sequence[Tensor], shares: Sequence[float], how: str) -> Tensor:
    """One answer of several teachers.

    Args:
        answers: logits (batch, classes) of each.
        shares: weight of each; their sum counts as 1.
        how: `logit` takes the mean of the logits, `probability` that of what they say of each
            class, as Hinton et al. 2015 (arXiv:1503.02531) do with an ensemble; its logarithm is
            the answer.
    """
    import torch

    weights = torch.tensor(shares, device=answers[0].device)
    weights = (weights / weights.sum())[:, None, None]
    stacked = torch.stack(list(answers))
    if how == "logit":
        return (weights * stacked).sum(0)
    return (weights * stacked.softmax(2)).sum(0).clamp(min=_LEAST_SHARE).log()


def check_teachers(guide: Guide, info: ModelInfo) -> None:
    """Refuse teachers that cannot teach this student together, before anything is computed.

    Raises:
        BadData: when one has other labels or another preprocessing than the first.
        BadParameters: when there are not as many shares as teachers, or a method that looks inside
            the teacher is given several, or an ONNX file.
    """
    if guide.shares and (len(guide.shares) != len(guide.teachers) or sum(guide.shares) <= 0):
        msg = (
            f"teacher_weights {list(guide.shares)} are for {len(guide.shares)} teachers, here are "
            f"{len(guide.teachers)}: give one for each, teacher first, not all 0"
        )
        raise BadParameters(msg)
    for path in guide.teachers:
        other = load_model_info(path)
        if (other.labels, other.preprocessing) != (info.labels, info.preprocessing):
            msg = (
                f"teacher {other.name} ({other.stage}) has other labels or another preprocessing "
                f"than {info.name} ({info.stage}): use teachers of one task and one preprocessing"
            )
            raise BadData(msg)
        if guide.needs_features and other.format == "onnx":
            msg = (
                f"method {guide.method} looks inside the teacher, {other.name} ({other.stage}) is "
                "an ONNX file: give its torch model, or use method logits or decoupled"
            )
            raise BadParameters(msg)
    if guide.needs_features and guide.further:
        msg = f"method {guide.method} follows one teacher: leave teachers out, or use logits"
        raise BadParameters(msg)


def bfloat16(x: Tensor, precision: str) -> torch.autocast | nullcontext[None]:
    """Mixed precision where the settings ask for it."""
    import torch

    return torch.autocast(x.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _torch_teacher(module: nn.Module, precision: str) -> Callable[[Tensor], Tensor]:
    import torch

    @torch.no_grad()
    def answer(x: Tensor) -> Tensor:
        module.to(x.device)
        with bfloat16(x, precision):
            return torch.cat([module(part).float() for part in torch.split(x, _BATCH)])

    return answer


def _onnx_teacher(path: Path, threads: int) -> Callable[[Tensor], Tensor]:
    import torch

    loaded = session(path / "model.onnx", threads=threads)

    def answer(x: Tensor) -> Tensor:
        return torch.from_numpy(logits(loaded, x.detach().cpu().numpy())).to(x.device)

    return answer
