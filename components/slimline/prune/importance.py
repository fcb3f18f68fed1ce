"""How much each channel, or each single weight, matters to a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from slimline.models.tensors import Batchable
    from slimline.prune.spec import Prune
    from slimline.prune.units import Group

_NO_BATCH_NORM = "no batch norm scales its channels"
_NO_FILTERS = "no layer makes its channels from filters of one size"


class Unranked(Exception):
    """A kind of importance does not apply to a group; says why."""


def rank_units(
    module: nn.Module, groups: Sequence[Group], job: Prune, samples: Batchable | None
) -> tuple[list[Tensor], dict[str, str]]:
    """Score the channels of each group; the larger the score, the more they matter.

    - `l1`, `l2`: the norm of all weights that hang on a channel, each tensor's scaled to a mean
      of 1, averaged over the tensors (DepGraph, Fang et al. 2023, arXiv:2301.12900).
    - `taylor`: the squared first-order change of the loss when the channel goes (Molchanov et al.
      2019, arXiv:1906.10771): the sum of gradient times weight over the weights that read it.
    - `fpgm`: the distance to all other filters, so that what lies near the geometric median of a
      layer, and can be stood in for, goes first (He et al. 2019, arXiv:1811.00250).
    - `bn_scale`: the scale that batch norm gives the channel (network slimming, Liu et al. 2017,
      arXiv:1708.06519, without its training under a penalty).
    - `random`: drawn from the seed, the baseline.

    Args:
        module: in evaluation mode.
        groups: of the module.
        job: which importance, its seed and batch size.
        samples: training examples, for `taylor`.

    Returns:
        For each group a tensor (channels), and by group why it is ranked by l2 instead.

    Raises:
        BadParameters: when the importance applies to no group at all.
    """
    if job.importance == "taylor":
        return _taylor(module, groups, _given(samples), job.batch_size), {}
    if job.importance == "random":
        return _random(groups, job.seed), {}
    parameters = dict(module.named_parameters(remove_duplicate=False))
    ways: dict[str, Callable[[Group], Tensor]] = {
        "l1": lambda group: _norm(group, parameters, "l1"),
        "l2": lambda group: _norm(group, parameters, "l2"),
        "fpgm": lambda group: _fpgm(module, group, parameters),
        "bn_scale": lambda group: _batch_norm_scale(module, group, parameters),
    }
    return _ranked(groups, job.importance, ways[job.importance], ways["l2"])


def rank_weights(
    module: nn.Module, weights: Mapping[str, Tensor], job: Prune, samples: Batchable | None
) -> dict[str, Tensor]:
    """Score single weights: by magnitude, by Taylor's first order, or by chance.

    The norm of a single weight is its magnitude, so `l1` and `l2` are the same here.
    """
    import torch

    if job.importance == "random":
        draw = torch.Generator().manual_seed(job.seed)
        return {name: torch.rand(w.shape, generator=draw) for name, w in weights.items()}
    if job.importance != "taylor":
        return {name: weight.detach().abs() for name, weight in weights.items()}
    scores = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for changes in _changes(module, _given(samples), job.batch_size):
        for name in scores:
            scores[name] += changes[name].square()
    return scores


def _given(samples: Batchable | None) -> Batchable:
    if samples is None:
        msg = "importance taylor needs training examples: give some, or use l2"
        raise BadParameters(msg)
    return samples


def _ranked(
    groups: Sequence[Group],
    name: str,
    way: Callable[[Group], Tensor],
    instead: Callable[[Group], Tensor],
) -> tuple[list[Tensor], dict[str, str]]:
    """Scores by one way; where it does not apply, another way's, brought to the same mean."""
    import torch

    scores: list[Tensor | None] = []
    unranked: dict[str, str] = {}
    for group in groups:
        try:
            scores.append(way(group))
        except Unranked as why:
            scores.append(None)
            unranked[group.name] = str(why)
    found = [score for score in scores if score is not None]
    if groups and not found:
        msg = f"importance {name} ranks no group of channels here: {unranked[groups[0].name]}"
        raise BadParameters(msg + "; use l2")
    mean = torch.cat(found).mean() if found else torch.ones(())
    pairs = zip(groups, scores, strict=True)
    made = [instead(g) * mean if score is None else score for g, score in pairs]
    return made, {name: f"ranked by l2: {why}" for name, why in unranked.items()}


def _random(groups: Sequence[Group], seed: int) -> list[Tensor]:
    import torch

    draw = torch.Generator().manual_seed(seed)
    return [torch.rand(len(group.units), generator=draw) for group in groups]


def _norm(group: Group, parameters: Mapping[str, Tensor], norm: str) -> Tensor:
    import torch

    sizes = []
    for position, (name, axis) in enumerate(group.tensors):
        if name not in parameters:  # a buffer, or a padding
            continue
        rows = _rows(parameters[name], axis)
        power = rows.abs().sum(1) if norm == "l1" else rows.square().sum(1)
        summed = _per_unit(group, position, power)
        sizes.append(_mean_of_one(summed if norm == "l1" else summed.sqrt()))
    return torch.stack(sizes).mean(0) if sizes else torch.ones(len(group.units))


def _fpgm(module: nn.Module, group: Group, parameters: Mapping[str, Tensor]) -> Tensor:
    import torch

    sums = []
    for position, (name, axis) in enumerate(group.tensors):
        if name not in parameters or parameters[name].ndim < 2 or reads(module, name, axis):  # noqa: PLR2004 - a vector holds no filters
            continue
        places = [unit[position].indices for unit in group.units]
        if len({len(indices) for indices in places}) > 1:
            continue
        filters = _rows(parameters[name], axis)[torch.tensor(places)].flatten(1)
        exact = "donot_use_mm_for_euclid_dist"
        sums.append(_mean_of_one(torch.cdist(filters, filters, compute_mode=exact).sum(1)))
    if not sums:
        raise Unranked(_NO_FILTERS)
    return torch.stack(sums).mean(0)


def _batch_norm_scale(module: nn.Module, group: Group, parameters: Mapping[str, Tensor]) -> Tensor:
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    scales = []
    for position, (name, _) in enumerate(group.tensors):
        owner, _, attribute = name.rpartition(".")
        if attribute == "weight" and isinstance(module.get_submodule(owner), _BatchNorm):
            if name not in parameters:
                continue
            scales.append(_per_unit(group, position, parameters[name].detach().abs()))
    if not scales:
        raise Unranked(_NO_BATCH_NORM)
    return torch.stack(scales).mean(0)


def _taylor(
    module: nn.Module, groups: Sequence[Group], samples: Batchable, batch: int
) -> list[Tensor]:
    import torch

    scores = [torch.zeros(len(group.units)) for group in groups]
    readers = [_readers(module, group) for group in groups]
    for changes in _changes(module, samples, batch):
        for number, (group, positions) in enumerate(zip(groups, readers, strict=True)):
            total = torch.zeros_like(scores[number])
            for position in positions:
                name, axis = group.tensors[position]
                if name in changes:
                    total += _per_unit(group, position, _rows(changes[name], axis).sum(1))
            scores[number] += total.square()
    return scores


def _readers(module: nn.Module, group: Group) -> list[int]:
    """Places of the weights that read a group's channels; of all that make them if none does.

    To set the weights that read a channel to zero is to remove it, so their change of the loss is
    that of the channel.
    """
    tensors = list(enumerate(group.tensors))
    found = [i for i, (name, axis) in tensors if reads(module, name, axis)]
    return found or [i for i, _ in tensors]


def reads(module: nn.Module, name: str, axis: int) -> bool:
    """Whether an axis of a parameter is a layer's input."""
    from torch import nn

    layer = module.get_submodule(name.rpartition(".")[0])
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return axis == 0 and name.endswith(".weight")
    known = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.RNNBase, nn.MultiheadAttention)
    return isinstance(layer, known) and axis == 1


def _changes(module: nn.Module, samples: Batchable, batch: int) -> Iterator[dict[str, Tensor]]:
    """For each batch, by parameter: its gradient times its value."""
    import torch
    from torch.nn import functional

    module.eval()
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for piece in samples.pieces(batch):
        loss = functional.cross_entropy(module(piece.x), piece.y)
        gradients = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        yield {
            name: (gradient * parameter).detach()
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
        }


def _rows(weight: Tensor, axis: int) -> Tensor:
    """A matrix with one row for each index of an axis, float32."""
    moved = weight.detach().float().movedim(axis, 0)
    return moved.reshape(len(moved), -1)


def _per_unit(group: Group, position: int, values: Tensor) -> Tensor:
    """Sum what the indices of one tensor's axis have, by unit."""
    import torch

    places = [unit[position].indices for unit in group.units]
    owner = torch.tensor([number for number, indices in enumerate(places) for _ in indices])
    index = torch.tensor([i for indices in places for i in indices])
    return torch.zeros(len(places)).index_add(0, owner, values.float()[index])


def _mean_of_one(values: Tensor) -> Tensor:
    return values / values.mean().clamp_min(1e-12)
