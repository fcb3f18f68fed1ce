"""Take units out of a chain of layers, or put further ones in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.models.info import Cut, Replace
from slimline.reshape.describe import layer_like

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from slimline.models.info import Edit
    from slimline.reshape.graph import Chain


def kept_units(gone: Sequence[int], units: int, round_to: int) -> tuple[int, ...]:
    """What stays when units may go, the width being a multiple of `round_to` as it was before.

    Of those that may go, the first ones in `gone` do; one unit always stays.
    """
    least = max(1, -(-(units - len(gone)) // round_to) * round_to)
    lost = set(gone[: max(0, units - least)])
    return tuple(i for i in range(units) if i not in lost)


def cuts(module: nn.Module, chain: Chain, keep: Sequence[int]) -> tuple[Edit, ...]:
    """The edits that leave only some units of a chain."""
    kept, inputs = tuple(keep), tuple(inputs_of(chain, keep))
    edits = [
        Cut(parameter=f"{path}.{name}", axis=0, keep=kept)
        for path in (chain.maker, *chain.between)
        for name, tensor in module.get_submodule(path).state_dict().items()
        if tensor.ndim > 0
    ]
    return (*edits, Cut(parameter=f"{chain.taker}.weight", axis=1, keep=inputs))


def inputs_of(chain: Chain, units: Sequence[int]) -> list[int]:
    """The taker's inputs that belong to units, in their order."""
    return [unit * chain.run + i for unit in units for i in range(chain.run)]


def copies(
    module: nn.Module, chain: Chain, origin: Sequence[int], shares: Tensor
) -> tuple[tuple[Edit, ...], dict[str, Tensor]]:
    """Edits and weights that give a chain as many units as `origin` has, each a copy.

    Args:
        module: the network.
        chain: whose units.
        origin: for each new unit, the old one it copies.
        shares: for each new unit, its share of what the taker made of the old one.
    """
    index, edits, weights = list(origin), list[Replace](), dict[str, "Tensor"]()
    for path in (chain.maker, *chain.between):
        layer: Any = module.get_submodule(path)
        edits.append(Replace(module=path, layer=layer_like(layer, **_width(layer, len(index)))))
        for name, tensor in layer.state_dict().items():
            if tensor.ndim > 0:
                weights[f"{path}.{name}"] = tensor[index]
    taker: Any = module.get_submodule(chain.taker)
    inputs = inputs_of(chain, index)
    takes = "in_channels" if hasattr(taker, "in_channels") else "in_features"
    edits.append(Replace(module=chain.taker, layer=layer_like(taker, **{takes: len(inputs)})))
    share = shares.repeat_interleave(chain.run).view(-1, *[1] * (taker.weight.ndim - 2))
    weights[f"{chain.taker}.weight"] = taker.weight.detach()[:, inputs] * share
    if taker.bias is not None:
        weights[f"{chain.taker}.bias"] = taker.bias.detach()
    return tuple(edits), weights


def _width(layer: Any, width: int) -> dict[str, int]:
    if hasattr(layer, "num_features"):
        return {"num_features": width}
    if not hasattr(layer, "out_channels"):
        return {"out_features": width}
    if layer.groups > 1:
        return {"out_channels": width, "in_channels": width, "groups": width}
    return {"out_channels": width}
