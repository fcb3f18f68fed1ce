"""State a choice of units as edits that can be replayed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from slimline.models.edit import PADDING
from slimline.models.info import Cut, Edit, SetAttribute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    from slimline.prune.units import Group, Size


def edits_for(
    module: nn.Module, groups: Sequence[Group], keep: Sequence[Sequence[int]]
) -> tuple[Edit, ...]:
    """The edits that leave of each group these of its units.

    Args:
        module: the network as `find_groups` read it.
        groups: of `find_groups`, all or some.
        keep: for each of them the numbers of its units that stay, at least one.

    Returns:
        One `Cut` for each axis that gets narrower, then a `SetAttribute` for each size in code.
    """
    gone: dict[tuple[str, int], set[int]] = defaultdict(set)
    less: dict[Size, int] = defaultdict(int)
    for group, kept in zip(groups, keep, strict=True):
        lost = sorted(set(range(len(group.units))) - set(kept))
        for number in lost:
            for place in group.units[number]:
                gone[place.parameter, place.axis].update(place.indices)
        for size, shares in group.sizes:
            less[size] += sum(shares[number] for number in lost)
    return (*_cuts(module, gone), *_attributes(module, less))


def _cuts(module: nn.Module, gone: Mapping[tuple[str, int], set[int]]) -> Iterator[Edit]:
    state = module.state_dict()
    for (parameter, axis), lost in sorted(gone.items()):
        owner = parameter.removesuffix(f".{PADDING}")
        if owner != parameter:
            _, _, _, _, left, right = module.get_submodule(owner).padding  # type: ignore[misc]
            size = left + right
        else:
            size = state[parameter].shape[axis]
        kept = tuple(i for i in range(size) if i not in lost)
        if len(kept) < size:
            yield Cut(parameter=parameter, axis=axis, keep=kept)


def _attributes(module: nn.Module, less: Mapping[Size, int]) -> Iterator[Edit]:
    values: dict[tuple[str, str], int | list[int]] = {}
    for size, lost in less.items():
        key = size.module, size.name
        before = getattr(module.get_submodule(size.module), size.name)
        if size.position is None:
            values[key] = before - lost
            continue
        changed = values.setdefault(key, list(before))
        changed[size.position] -= lost  # type: ignore[index]
    for (path, name), value in sorted(values.items()):
        made = tuple(value) if isinstance(value, list) else value
        yield SetAttribute(module=path, name=name, value=made)
