"""Choose the channels that go, and state them as edits that can be replayed."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.contract import BadParameters
from slimline.models.edit import PADDING, apply_edits
from slimline.models.info import Cut
from slimline.prune.graph import find_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from slimline.prune.spec import Prune
    from slimline.prune.units import Group


@dataclass(frozen=True)
class CutNetwork:
    """A network cut to shape, the edits that did it, and what was left alone."""

    module: nn.Module
    edits: tuple[Cut, ...]
    widths: dict[str, str]
    """By group: width before and after."""
    left_alone: dict[str, str]
    """By layer: why."""


def cut_channels(module: nn.Module, example: Tensor, job: Prune) -> CutNetwork:
    """Remove the least important channels of each group.

    Raises:
        BadParameters: when nothing can be removed, with the reasons.
    """
    for through_reshapes in (True, False):
        groups, left_alone = find_groups(module, example, through_reshapes=through_reshapes)
        keep, narrow = _choose(module, groups, job)
        edits = _edits(module, groups, keep)
        made = apply_edits(copy.deepcopy(module), edits)
        if edits and _runs(made, example):
            widths = {
                group.name: f"{len(group.units)} -> {len(kept)}"
                for group, kept in zip(groups, keep, strict=True)
            }
            return CutNetwork(made, edits, widths, left_alone | narrow)
    reasons = "; ".join(f"{k}: {v}" for k, v in list((left_alone | narrow).items())[:5])
    msg = (
        f"nothing could be cut at ratio {job.ratio}, round_to {job.round_to}: {reasons}; "
        "use another ratio, a smaller round_to, or method magnitude"
    )
    raise BadParameters(msg)


def _choose(
    module: nn.Module, groups: Sequence[Group], job: Prune
) -> tuple[list[tuple[int, ...]], dict[str, str]]:
    """The units that stay, for each group; and the groups that are too narrow to lose any."""
    import torch

    state = module.state_dict()
    scores = [_importance(group, state, job.importance) for group in groups]
    everything = torch.cat(scores) if scores else torch.zeros(1)
    limit = everything.kthvalue(max(1, round(job.ratio * len(everything)))).values
    keep: list[tuple[int, ...]] = []
    narrow: dict[str, str] = {}
    for group, score in zip(groups, scores, strict=True):
        size = len(group.units)
        wanted = size * (1 - job.ratio) if job.scope == "local" else int((score > limit).sum())
        count = min(size, max(1, round(wanted / job.round_to + 1e-9)) * job.round_to)
        if count == size:
            narrow[group.name] = f"its {size} channels cannot lose a multiple of {job.round_to}"
        best = score.topk(count).indices.sort().values
        keep.append(tuple(best.tolist()))
    return keep, narrow


def _importance(group: Group, state: Mapping[str, Tensor], norm: str) -> Tensor:
    """For each unit the norms of its weights, each tensor's scaled to a mean of 1, averaged."""
    import torch

    total = torch.zeros(len(group.units))
    count = 0
    for position, (parameter, axis) in enumerate(group.tensors):
        if parameter.endswith((f".{PADDING}", ".running_mean", ".running_var")):
            continue
        weight = state[parameter].float().movedim(axis, 0)
        weight = weight.reshape(len(weight), -1)
        power = weight.abs().sum(1) if norm == "l1" else weight.square().sum(1)
        places = [unit[position].indices for unit in group.units]
        owner = torch.tensor([number for number, i in enumerate(places) for _ in i])
        index = torch.tensor([i for indices in places for i in indices])
        summed = torch.zeros(len(places)).index_add(0, owner, power[index])
        size = summed if norm == "l1" else summed.sqrt()
        total += size / size.mean().clamp_min(1e-12)
        count += 1
    return total / max(1, count)


def _edits(
    module: nn.Module, groups: Sequence[Group], keep: Sequence[tuple[int, ...]]
) -> tuple[Cut, ...]:
    """One edit for each axis that gets narrower."""
    gone: dict[tuple[str, int], set[int]] = {}
    for group, kept in zip(groups, keep, strict=True):
        for number in set(range(len(group.units))) - set(kept):
            for place in group.units[number]:
                gone.setdefault((place.parameter, place.axis), set()).update(place.indices)
    state = module.state_dict()
    edits = []
    for (parameter, axis), lost in sorted(gone.items()):
        owner = parameter.removesuffix(f".{PADDING}")
        if owner != parameter:
            _, _, _, _, left, right = module.get_submodule(owner).padding  # type: ignore[misc]
            size = left + right
        else:
            size = state[parameter].shape[axis]
        kept_indices = tuple(i for i in range(size) if i not in lost)
        edits.append(Cut(parameter=parameter, axis=axis, keep=kept_indices))
    return tuple(edits)


def _runs(module: nn.Module, example: Tensor) -> bool:
    """Whether the cut network still works: a size that stands in its code cannot be cut."""
    import torch

    try:
        with torch.no_grad():
            module.eval()(example)
    except (RuntimeError, ValueError, IndexError):
        return False
    return True
