"""A teacher answers with logits, be it a torch model or an ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.measure.runtime import logits, session
from slimline.models.build import load_torch_model
from slimline.models.info import load_model_info
from slimline.models.threads import threads_of_each

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

_BATCH = 1024


def open_teacher(path: Path, processes: int = 1) -> Callable[[Tensor], Tensor]:
    """Load a model artifact as a function from preprocessed input to logits, float32.

    Args:
        path: of the model, torch or ONNX.
        processes: how many share the cores.

    Raises:
        BadData: when the artifact cannot be loaded.
    """
    if load_model_info(path).format == "onnx":
        return _onnx_teacher(path, threads_of_each(processes))
    return _torch_teacher(path)


def _torch_teacher(path: Path) -> Callable[[Tensor], Tensor]:
    import torch

    module, _ = load_torch_model(path)

    @torch.no_grad()
    def answer(x: Tensor) -> Tensor:
        module.to(x.device)
        return torch.cat([module(part).float() for part in torch.split(x, _BATCH)])

    return answer


def _onnx_teacher(path: Path, threads: int) -> Callable[[Tensor], Tensor]:
    import torch

    loaded = session(path / "model.onnx", threads=threads)

    def answer(x: Tensor) -> Tensor:
        return torch.from_numpy(logits(loaded, x.detach().cpu().numpy())).to(x.device)

    return answer
