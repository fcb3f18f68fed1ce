"""Find layers and units that do nothing, and take them out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from slimline.contract import BadParameters
from slimline.models.info import Replace
from slimline.reshape.bench import Bench, Change
from slimline.reshape.describe import identity, layer_like
from slimline.reshape.graph import LeftAloneError
from slimline.reshape.observe import per_unit, watch
from slimline.reshape.units import cuts, inputs_of, kept_units

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimline.models.info import Edit
    from slimline.reshape.graph import Chain
    from slimline.reshape.spec import Reshape

_CONSTANT = 1e-6
"""A spread of this, over the layer's largest value, is rounding."""


@dataclass
class _Range:
    """Smallest and largest value of each unit, where they are taken."""

    low: Tensor | None = None
    high: Tensor | None = None

    def see(self, chain: Chain, x: Tensor, _: Tensor | None) -> None:
        import torch

        values = per_unit(chain, x)
        low, high = values.amin((0, 2)), values.amax((0, 2))
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)


@dataclass
class _Apart:
    """How far a layer's output is from its input; infinite where they cannot be compared."""

    apart: float = 0.0
    size: float = 0.0

    def see(self, x: Tensor, y: Tensor | None) -> None:
        if y is None or y.shape != x.shape:
            self.apart = math.inf
        else:
            self.apart = max(self.apart, float((y - x).abs().max()))
            self.size = max(self.size, float(x.abs().max()))


def rate_bound(examples: int, confidence: float) -> float:
    """Upper bound of how often something happens that never did in so many examples.

    If it happened at rate p, nothing in n examples has probability (1 - p)^n; p is bounded where
    that is 1 - confidence: 1 - (1 - confidence)^(1/n), about 3/n at 95 %, the rule of three
    (Hanley and Lippman-Hand 1983, JAMA 249, 1743-1745).
    """
    return 1 - float((1 - confidence) ** (1 / examples))


def remove_redundancy(bench: Bench, job: Reshape, x: Tensor) -> None:
    """Take out what changes no answer: layers, then units.

    A layer or block whose output is its input becomes an identity. A unit goes that is zero at the
    layer that takes it on every example (dead), or that this layer multiplies by zero; a unit that
    is the same on every example goes and leaves its value in the bias of the layer that takes it.
    That the data never woke a unit says something of other data: the share of examples on which it
    may yet be active is bounded (see `rate_bound`), unit by unit, and must be at most `max_rate`.
    Dead units: "dying ReLU", Lu et al. 2019, arXiv:1903.06733; units that
    are rarely active go first in Hu et al. 2016 (network trimming), arXiv:1607.03250.

    Raises:
        BadParameters: when the examples are too few for the bound; says how many are needed.
    """
    bound = rate_bound(len(x), job.confidence)
    if bound > job.max_rate:
        needed = math.ceil(math.log(1 - job.confidence) / math.log1p(-job.max_rate))
        msg = (
            f"{len(x)} examples bound the rate of a dead unit by {bound:.4f} at confidence "
            f"{job.confidence}, max_rate is {job.max_rate}: give {needed} samples, or a larger "
            "max_rate"
        )
        raise BadParameters(msg)
    _drop_layers(bench, job, x)
    _drop_units(bench, job, x, f"rate below {bound:.4f} at confidence {job.confidence}")


def _drop_layers(bench: Bench, job: Reshape, x: Tensor) -> None:
    from torch import nn

    candidates = {
        path: _Apart()
        for path, layer in bench.module.named_modules()
        if path and bench.wants(path) and any(True for _ in layer.parameters())
    }
    watch(bench.module, x, {path: apart.see for path, apart in candidates.items()})
    for path, seen in candidates.items():
        inside = any(path.startswith(f"{done}.") for done in bench.changed)
        nothing = seen.size > 0 and seen.apart <= job.tolerance * seen.size
        if nothing and not inside and not isinstance(bench.module.get_submodule(path), nn.Identity):
            edits = (Replace(module=path, layer=identity()),)
            bench.attempt(Change(path, "removed: its output is its input", edits))


def _drop_units(bench: Bench, job: Reshape, x: Tensor, bound: str) -> None:
    chains = bench.chains()
    ranges = {chain.taker: _Range() for chain in chains}
    see = {chain.taker: partial(ranges[chain.taker].see, chain) for chain in chains}
    watch(bench.module, x, see)
    for chain in chains:
        try:
            bench.attempt(_without(bench.module, chain, ranges[chain.taker], job.round_to, bound))
        except LeftAloneError as why:
            bench.leave(chain.maker, why)


def _without(module: nn.Module, chain: Chain, seen: _Range, round_to: int, bound: str) -> Change:
    """The change that takes dead and constant units out; raises LeftAloneError."""
    import torch

    if seen.low is None or seen.high is None:
        msg = f"{chain.taker} is passed by in evaluation"
        raise LeftAloneError(msg)
    taker: Any = module.get_submodule(chain.taker)
    size = torch.maximum(seen.low.abs(), seen.high.abs())
    rounding = _CONSTANT * float(size.max())
    weights = taker.weight.detach().movedim(1, 0).reshape(chain.units, -1)
    ignored = (weights == 0).all(1)
    dead = (size <= rounding * _CONSTANT) | ignored
    steady = (seen.high - seen.low <= rounding) & ~dead
    value = torch.where(steady, (seen.low + seen.high) / 2, torch.zeros_like(size))
    padded = bool(steady.any()) and _pads(taker)
    gone = dead.nonzero().flatten().tolist()
    gone += [] if padded else steady.nonzero().flatten().tolist()
    keep = kept_units(gone, chain.units, round_to)
    if len(keep) == chain.units:
        raise LeftAloneError(_why_none(len(gone), round_to, chain, padded=padded))
    lost = sorted(set(range(chain.units)) - set(keep))
    folded = [i for i in lost if steady[i]]
    dropped = f"{len(lost) - len(folded)} dead, {len(folded)} constant"
    said = f"{chain.units} -> {len(keep)} units: {dropped} ({bound})"
    if not folded:
        return Change(chain.maker, said, cuts(module, chain, keep))
    shift = (weights[folded].view(len(folded), chain.run, len(taker.weight), -1)).sum((1, 3)).T
    return _with_bias(module, chain, keep, shift @ value[folded], said)


def _with_bias(
    module: nn.Module, chain: Chain, keep: tuple[int, ...], shift: Tensor, said: str
) -> Change:
    """The cut of a chain that leaves what the lost units gave in the taker's bias."""
    taker: Any = module.get_submodule(chain.taker)
    bias = shift if taker.bias is None else taker.bias.detach() + shift
    edits: tuple[Edit, ...] = cuts(module, chain, keep)
    weights = {f"{chain.taker}.bias": bias}
    if taker.bias is None:
        inputs = inputs_of(chain, keep)
        takes = "in_channels" if hasattr(taker, "in_channels") else "in_features"
        made = layer_like(taker, bias=True, **{takes: len(inputs)})
        edits = (*edits[:-1], Replace(module=chain.taker, layer=made))
        weights[f"{chain.taker}.weight"] = taker.weight.detach()[:, inputs]
    return Change(chain.maker, said, edits, weights)


def _pads(layer: Any) -> bool:
    padding = getattr(layer, "padding", 0)
    return padding == "same" if isinstance(padding, str) else any(_tuple(padding))


def _tuple(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _why_none(gone: int, round_to: int, chain: Chain, *, padded: bool) -> str:
    if padded and not gone:
        return f"its constant units meet the zero padding of {chain.taker}"
    if gone:
        return f"its {gone} units that do nothing are less than round_to {round_to} lets go"
    return "every unit does something"
