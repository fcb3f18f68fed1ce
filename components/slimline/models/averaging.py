"""Weights averaged over training, which answer better than those of any single step.

`ema`: after each step the average moves towards the weights by 1 - decay (Polyak and Juditsky
1992); faster in the first steps, so that it does not stay at the start.
`swa`: the mean of the weights at the end of each of the last epochs (stochastic weight averaging,
Izmailov et al. 2018, arXiv:1803.05407); batch norm's statistics are measured anew for it.

The average is judged on the selection split and kept in place of the epoch's own weights; training
goes on from its own. It does not change what a step does.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor, nn

    from slimline.models.settings import FitSettings

_LAST_SHARE = 0.25
"""Of the epochs, those whose weights swa averages."""
_COUNT = ".count"
"""A name that no weight has."""


class Average:
    """The average, by the names of the network's state; empty before there is one."""

    def __init__(self, settings: FitSettings, state: Mapping[str, Tensor]) -> None:
        """Go on with an average that was kept, on the network's device."""
        self.settings = settings
        self.count = int(state[_COUNT]) if state else 0
        self.state = {k: v for k, v in state.items() if k != _COUNT}

    def step(self, module: nn.Module) -> None:
        """Count the weights after a step (ema)."""
        if self.settings.averaging == "ema":
            decay = min(self.settings.averaging_decay, (1 + self.count) / (10 + self.count))
            self._move(module, decay)

    def epoch(self, module: nn.Module, number: int) -> None:
        """Count the weights at the end of an epoch, numbered from 1 (swa)."""
        if self.settings.averaging == "swa":
            first = self.settings.epochs - max(1, round(_LAST_SHARE * self.settings.epochs)) + 1
            if number >= first:
                self._move(module, self.count / (self.count + 1))

    def kept(self) -> dict[str, Tensor]:
        """What another try goes on with."""
        import torch

        return {**self.state, _COUNT: torch.tensor(self.count)} if self.state else {}

    @contextmanager
    def shown(self, module: nn.Module, inputs: Iterable[Tensor]) -> Iterator[None]:
        """Inside the block the network has the averaged weights, if there are any.

        Args:
            module: the network.
            inputs: training batches that batch norm is measured on (swa).
        """
        if not self.state:
            yield
            return
        own = {k: v.detach().clone() for k, v in module.state_dict().items()}
        module.load_state_dict(self.state)
        if self.settings.averaging == "swa":
            _measure_batch_norm(module, inputs)
        try:
            yield
        finally:
            module.load_state_dict(own)

    def _move(self, module: nn.Module, decay: float) -> None:
        """All weights in one call, as each costs a GPU the same."""
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        current = {k: v.detach() for k, v in module.state_dict().items()}
        self.count += 1
        if not self.state:
            self.state = {k: v.clone() for k, v in current.items()}
            return
        moving = [k for k, v in current.items() if v.is_floating_point()]
        towards = [current.pop(k) for k in moving]
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move([self.state[k] for k in moving], towards, None)
        self.state |= {k: v.clone() for k, v in current.items()}


def _measure_batch_norm(module: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Mean and variance of batch norm over some batches, in place of those of other weights."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for x in inputs:
            module(x)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    module.eval()
