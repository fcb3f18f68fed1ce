"""Small questions to a network: does it fit the task, how large is it, what does a call cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.models.info import ModelInfo


def example_input(info: ModelInfo, batch: int = 1) -> Tensor:
    """Zeros as raw input, preprocessed: what the network takes."""
    import numpy as np
    import torch

    raw = np.zeros((batch, *info.preprocessing.shape), info.preprocessing.dtype)
    return torch.from_numpy(info.preprocessing.apply(raw))


def check_classes(module: nn.Module, info: ModelInfo) -> None:
    """Ask a network once whether it takes the input and answers with one logit for each label.

    Raises:
        BadParameters: names the factory and what it must do.
    """
    import torch

    x, call = example_input(info, batch=2), info.factory.call if info.factory else info.name
    try:
        with torch.no_grad():
            answer = module.eval()(x)
    except (RuntimeError, TypeError, ValueError) as error:
        msg = f"factory {call}: the network does not take input {list(x.shape)}: {error}"
        raise BadParameters(msg) from error
    wanted = (2, len(info.labels))
    if not isinstance(answer, torch.Tensor) or answer.shape != wanted:
        given = list(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        msg = f"factory {call}: the network answers {given}, {list(wanted)} is needed: set classes"
        raise BadParameters(msg)


def parameter_count(module: nn.Module) -> int:
    """Trainable numbers in a network."""
    return sum(p.numel() for p in module.parameters())


def mac_count(module: nn.Module, info: ModelInfo) -> int:
    """Multiply-accumulates of one example, counted by torch: half its floating point operations."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(example_input(info))
    return int(counter.get_total_flops()) // 2
