"""Choose the channels that go, and state them as edits that can be replayed."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slimline.models.edit import apply_edits
from slimline.prune.edits import edits_for
from slimline.prune.graph import find_groups
from slimline.prune.importance import rank_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from slimline.models.info import Edit
    from slimline.models.tensors import Batchable
    from slimline.prune.spec import Prune
    from slimline.prune.units import Group

Keep = tuple[tuple[int, ...], ...]
"""For each group the units that stay, rising."""

_SLACK = 0.1
"""A snapped layer may lose this share of its channels more than it was asked to."""


@dataclass(frozen=True)
class CutNetwork:
    """A network that lost something, how, and what was left alone."""

    module: nn.Module
    edits: tuple[Edit, ...] = ()
    masks: dict[str, Tensor] = field(default_factory=dict)
    """By parameter: 0 where a weight went, else 1."""
    widths: dict[str, str] = field(default_factory=dict)
    """By group: width before and after."""
    left_alone: dict[str, str] = field(default_factory=dict)
    """By layer: why."""
    notes: dict[str, str] = field(default_factory=dict)
    """What else is to be told: the groups that were ranked otherwise, the order of blocks."""
    probes: tuple[dict[str, float], ...] = ()
    """What was tried on the way to the target."""


@dataclass(frozen=True)
class Channels:
    """The groups of a network, ranked: any ratio says which units stay."""

    module: nn.Module
    groups: tuple[Group, ...]
    scores: tuple[Tensor, ...]
    full: tuple[int, ...]
    """Width of each group in the uncut network."""
    job: Prune
    left_alone: dict[str, str]
    ranked_otherwise: dict[str, str]

    def keep(self, ratio: float) -> Keep:
        """The units that stay when a share of the uncut network's channels goes, 0 to 1."""
        kept = []
        wishes = zip(self.groups, self.scores, self.full, self._wanted(ratio), strict=True)
        for group, score, full, wanted in wishes:
            step = self.job.round_to // math.gcd(self.job.round_to, width_of_unit(group))
            count = min(len(score), snap(full, wanted, step))
            best = score.argsort(descending=True, stable=True)[:count].sort().values
            kept.append(tuple(best.tolist()))
        return tuple(kept)

    def edits(self, keep: Keep) -> tuple[Edit, ...]:
        """The edits that leave these units."""
        return edits_for(self.module, self.groups, keep)

    def made(self, keep: Keep) -> nn.Module:
        """A copy of the network with these units alone."""
        return apply_edits(copy.deepcopy(self.module), self.edits(keep))

    def cut(self, keep: Keep, probes: tuple[dict[str, float], ...] = ()) -> CutNetwork:
        """The network with these units alone, and what is to be told of it."""
        widths: dict[str, str] = {}
        narrow: dict[str, str] = {}
        for group, kept in zip(self.groups, keep, strict=True):
            before, after = (width_of_unit(group) * len(units) for units in (group.units, kept))
            if after < before:
                widths[group.name] = f"{before} -> {after}"
            else:
                step = self.job.round_to
                why = f"its {before} channels cannot lose a multiple of {step} at this ratio"
                narrow[group.name] = why
        return CutNetwork(
            self.made(keep),
            self.edits(keep),
            widths=widths,
            left_alone=self.left_alone | narrow,
            notes=self.ranked_otherwise,
            probes=probes,
        )

    def _wanted(self, ratio: float) -> list[float]:
        """How many units each group should keep, before snapping."""
        import torch

        if self.job.scope == "local":
            return [full * (1 - ratio) for full in self.full]
        everything = torch.cat(self.scores) if self.scores else torch.zeros(0)
        more = round(ratio * sum(self.full)) - (sum(self.full) - len(everything))
        gone = torch.zeros(len(everything))
        gone[everything.argsort(stable=True)[: max(0, more)]] = 1
        parts = gone.split([len(score) for score in self.scores])  # type: ignore[no-untyped-call]
        return [len(part) - float(part.sum()) for part in parts]


def snap(full: int, wanted: float, step: int) -> int:
    """The multiple of `step` that is nearest to a wanted width, at least one step.

    In a narrow layer the nearest one may lie far below what was asked for: 16 channels at ratio
    0.3 and multiples of 8 would lose half. Then it is the next larger one.
    """
    nearest = max(1, round(wanted / step + 1e-9)) * step
    return nearest if wanted - nearest <= _SLACK * full else nearest + step


def width_of_unit(group: Group) -> int:
    """Channels that can only go together: one, or those of a head of attention."""
    return min(len(place.indices) for place in group.units[0])


def cut_channels(
    module: nn.Module,
    example: Tensor,
    job: Prune,
    samples: Batchable | None = None,
    full: Mapping[tuple[tuple[str, int], ...], int] | None = None,
) -> CutNetwork:
    """Remove the least important channels of each group, by ratio; see `rank_channels`."""
    channels = rank_channels(module, example, job, samples, full)
    return channels.cut(channels.keep(job.ratio))


def rank_channels(
    module: nn.Module,
    example: Tensor,
    job: Prune,
    samples: Batchable | None = None,
    full: Mapping[tuple[tuple[str, int], ...], int] | None = None,
) -> Channels:
    """Find the groups of a network whose channels can go, and rank them.

    Args:
        module: in evaluation mode.
        example: an input of at least two examples.
        job: importance, scope and multiples.
        samples: training examples, for importance `taylor`.
        full: what `full_widths` gave for the uncut network, if this is not it.
    """
    groups, left_alone = find_groups(module, example)
    scores, otherwise = rank_units(module, groups, job, samples)
    sizes = {group.tensors: len(group.units) for group in groups} | dict(full or {})
    return Channels(
        module,
        groups,
        tuple(scores),
        tuple(sizes[group.tensors] for group in groups),
        job,
        left_alone,
        otherwise,
    )


def full_widths(module: nn.Module, example: Tensor) -> dict[tuple[tuple[str, int], ...], int]:
    """By a group's tensors, the number of its units."""
    return {group.tensors: len(group.units) for group in find_groups(module, example)[0]}
