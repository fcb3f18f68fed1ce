"""Merge units whose outputs are alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from slimline.reshape.bench import Bench, Change
from slimline.reshape.graph import LeftAloneError
from slimline.reshape.observe import per_unit, watch
from slimline.reshape.units import cuts, inputs_of, kept_units

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.reshape.graph import Chain
    from slimline.reshape.spec import Reshape


@dataclass
class _Products:
    """Inner products of the units' values over all examples and positions, float64."""

    matrix: Tensor | None = None

    def see(self, chain: Chain, x: Tensor, _: Tensor | None) -> None:
        values = per_unit(chain, x).double().movedim(1, 0).reshape(chain.units, -1)
        product = values @ values.T
        self.matrix = product if self.matrix is None else self.matrix + product


def merge_similar(bench: Bench, job: Reshape, x: Tensor) -> None:
    """Merge units of a layer that say nearly the same.

    Units i and j whose activations have a cosine of at least `similarity` are collinear:
    x_j is about a x_i with a = <x_i, x_j> / <x_i, x_i>. Unit j goes, and the layer that takes both
    adds a times j's weights to i's (Srinivas and Babu 2015, arXiv:1507.06149, who compare weights;
    activations are compared here, where the next layer sees them). The strongest unit of a set of
    similar ones stays. Inner products are summed batch by batch, so memory does not grow with the
    examples.

    Whole layers that are alike are not shared: an ONNX file stores and runs each of two equal
    layers, so sharing their weights makes nothing smaller or faster once they are coded. A layer
    that hardly changes its input is taken out by remove_redundancy, a block by prune.
    """
    chains = bench.chains()
    products = {chain.taker: _Products() for chain in chains}
    see = {chain.taker: partial(products[chain.taker].see, chain) for chain in chains}
    watch(bench.module, x, see)
    for chain in chains:
        try:
            bench.attempt(_merge(bench.module, chain, products[chain.taker].matrix, job))
        except LeftAloneError as why:
            bench.leave(chain.maker, why)


def _merge(module: nn.Module, chain: Chain, products: Tensor | None, job: Reshape) -> Change:
    """The change that merges a chain's units; raises LeftAloneError."""
    if products is None:
        msg = f"{chain.taker} is passed by in evaluation"
        raise LeftAloneError(msg)
    merged, closest = _similar(products, job.similarity)
    keep = kept_units(list(merged), chain.units, job.round_to)
    if len(keep) == chain.units:
        msg = (
            f"{len(merged)} of {chain.units} units are alike (closest cosine {closest:.4f}), "
            f"round_to is {job.round_to}"
        )
        raise LeftAloneError(msg)
    taker: Any = module.get_submodule(chain.taker)
    weight = taker.weight.detach().double()
    for lost in sorted(set(range(chain.units)) - set(keep)):
        into = merged[lost]
        factor = products[into, lost] / products[into, into]
        weight[:, inputs_of(chain, [into])] += factor * weight[:, inputs_of(chain, [lost])]
    said = f"{chain.units} -> {len(keep)} units (cosine of at least {job.similarity:g})"
    weights = {f"{chain.taker}.weight": weight[:, inputs_of(chain, keep)].float()}
    return Change(chain.maker, said, cuts(module, chain, keep), weights)


def _similar(products: Tensor, similarity: float) -> tuple[dict[int, int], float]:
    """By unit that may go, the unit that stands for it, most alike first; and the closest cosine.

    A unit that stands for another never goes itself, and one that is always zero is like none.
    """
    import torch

    power = products.diagonal()
    scale = torch.where(power > 0, power, torch.inf).rsqrt()
    cosine = (products * scale * scale[:, None]).abs().fill_diagonal_(0)
    found: dict[int, tuple[float, int]] = {}
    for unit in power.argsort(descending=True, stable=True).tolist():
        if unit not in found:
            for other in (cosine[unit] >= similarity).nonzero().flatten().tolist():
                if other not in found and power[other] <= power[unit] and not _stands(found, other):
                    found[other] = (float(cosine[unit, other]), unit)
    ordered = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))
    return {unit: into for unit, (_, into) in ordered}, float(cosine.max())


def _stands(found: dict[int, tuple[float, int]], unit: int) -> bool:
    return any(into == unit for _, into in found.values())
