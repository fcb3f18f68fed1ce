"""See what reaches a layer when examples run through the network, a batch at a time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from slimline.reshape.graph import Chain

_BATCH = 64


def watch(
    module: nn.Module, x: Tensor, see: Mapping[str, Callable[[Tensor, Tensor | None], None]]
) -> None:
    """Run examples through a network and show layers' inputs and outputs.

    Args:
        module: in evaluation mode.
        x: the examples.
        see: by layer, what is called with its input and its output for each batch of examples.
    """
    import torch

    with ExitStack() as stack, torch.no_grad():
        for path, function in see.items():
            hook = module.get_submodule(path).register_forward_hook(_hook(function))
            stack.callback(hook.remove)
        for part in torch.split(x, _BATCH):
            module(part)


def per_unit(chain: Chain, x: Tensor) -> Tensor:
    """A taker's input as (examples, units, values of a unit in an example)."""
    if x.ndim > 2 and x.shape[1] != chain.units * chain.run:  # noqa: PLR2004 - channels last
        x = x.movedim(-1, 1)
    return x.reshape(len(x), chain.units, -1)


def _hook(function: Callable[[Tensor, Tensor | None], None]) -> Any:
    import torch

    def seen(_: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        (x, *_rest) = given or (None,)
        if isinstance(x, torch.Tensor):
            function(x.detach(), made.detach() if isinstance(made, torch.Tensor) else None)

    return seen
