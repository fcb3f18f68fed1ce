"""Union-find over channels: which ones of a network can only be removed together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Ids = tuple[int, ...]
"""For each index of an axis, the id of the unit it belongs to."""


@dataclass(frozen=True)
class Place:
    """Indices of one axis of one tensor (or of a padding, see `Edit`)."""

    parameter: str
    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """A number that a forward reads: an attribute of a module, or one item of it."""

    module: str
    name: str
    position: int | None = None


@dataclass(frozen=True)
class Group:
    """Units that lie in the same tensors, so that removing any of them narrows the same layers."""

    tensors: tuple[tuple[str, int], ...]
    """(parameter, axis), in the order in which the network uses them."""
    units: tuple[tuple[Place, ...], ...]
    """For each unit its places, in the order of `tensors`."""
    sizes: tuple[tuple[Size, tuple[int, ...]], ...] = ()
    """Attributes that shrink too, each with the share of it that every unit holds."""
    exact: bool = True
    """False where a norm over the channels lies behind: what stays is then computed otherwise."""
    layer: str = ""
    through: tuple[str, ...] = ()
    """Operations in which their number may stand as a number in the code."""

    @property
    def name(self) -> str:
        """The first layer that makes these channels; a number tells its groups apart."""
        return self.layer or self.tensors[0][0]


@dataclass
class _Found:
    tensors: dict[tuple[str, int], list[int]]
    sizes: dict[Size, int]


class Units:
    """Collects units, their unions and their places while a graph is walked."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._tables: dict[tuple[str, int], Ids] = {}
        self._sizes: dict[Size, Ids] = {}
        self._makers: dict[str, Ids] = {}
        self._frozen: dict[int, str] = {}
        self._inexact: set[int] = set()
        self._suspects: dict[str, list[int]] = {}

    def new(self, count: int) -> Ids:
        """Make units for the channels of a new tensor."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        return tuple(range(first, first + count))

    def join(self, one: Ids, other: Ids) -> Ids:
        """Let channels fall together, pair by pair."""
        for a, b in zip(one, other, strict=True):
            self._parent[self.root(a)] = self.root(b)
        return one

    def tie(self, ids: Sequence[int]) -> None:
        """Let all of these fall together."""
        for i in ids[1:]:
            self._parent[self.root(i)] = self.root(ids[0])

    def place(self, parameter: str, axis: int, ids: Ids) -> None:
        """Note that an axis of a tensor is indexed by these units."""
        self.join(self._tables.setdefault((parameter, axis), ids), ids)

    def placed(self, parameter: str, axis: int, count: int) -> Ids:
        """The units of an axis of a tensor; new ones when it is met for the first time."""
        if (parameter, axis) not in self._tables:
            self._tables[parameter, axis] = self.new(count)
        return self._tables[parameter, axis]

    def size(self, size: Size, ids: Ids) -> None:
        """Note that an attribute counts these units; two axes of one size shrink together."""
        self.join(self._sizes.setdefault(size, ids), ids)

    def made(self, layer: str, ids: Ids) -> None:
        """Note that a layer makes these units."""
        self._makers.setdefault(layer, ids)

    def freeze(self, ids: Iterable[int], why: str) -> None:
        """These units must stay."""
        for i in ids:
            self._frozen.setdefault(i, why)

    def freeze_parameter(self, parameter: str, why: str) -> None:
        """All units that lie in a tensor must stay."""
        for (name, _), ids in self._tables.items():
            if name == parameter:
                self.freeze(ids, why)

    def blur(self, ids: Iterable[int]) -> None:
        """Without one of these units, the others are computed otherwise."""
        self._inexact.update(ids)

    def suspect(self, ids: Iterable[int], operation: str) -> None:
        """Note an operation in which the number of these units may stand as a number."""
        self._suspects.setdefault(operation, []).extend(ids)

    def groups(self) -> tuple[tuple[Group, ...], dict[str, str]]:
        """What can be cut, and by layer why the rest cannot."""
        reasons = {self.root(i): why for i, why in reversed(self._frozen.items())}
        free: dict[object, list[tuple[int, _Found]]] = {}
        for root, found in self._places().items():
            if root not in reasons and found.tensors:
                key = (tuple(found.tensors), tuple(found.sizes))
                free.setdefault(key, []).append((root, found))
        groups = _named(self._group(members) for members in free.values())
        return groups, self._left_alone(reasons)

    def root(self, i: int) -> int:
        """The one id that stands for all that fall together with this one."""
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def _places(self) -> dict[int, _Found]:
        places: dict[int, _Found] = {}
        for tensor, ids in self._tables.items():
            for index, i in enumerate(ids):
                found = places.setdefault(self.root(i), _Found({}, {}))
                found.tensors.setdefault(tensor, []).append(index)
        for size, ids in self._sizes.items():
            for i in ids:
                found = places.setdefault(self.root(i), _Found({}, {}))
                found.sizes[size] = found.sizes.get(size, 0) + 1
        return places

    def _group(self, members: Sequence[tuple[int, _Found]]) -> Group:
        roots = {root for root, _ in members}
        first = members[0][1]
        units = tuple(
            tuple(Place(*tensor, tuple(indices)) for tensor, indices in found.tensors.items())
            for _, found in members
        )
        sizes = tuple((size, tuple(f.sizes[size] for _, f in members)) for size in first.sizes)

        def ours(ids: Iterable[int]) -> bool:
            return any(self.root(i) in roots for i in ids)

        return Group(
            tensors=tuple(first.tensors),
            units=units,
            sizes=sizes,
            exact=not ours(self._inexact),
            layer=next((name for name, ids in self._makers.items() if ours(ids)), ""),
            through=tuple(where for where, ids in self._suspects.items() if ours(ids)),
        )

    def _left_alone(self, reasons: dict[int, str]) -> dict[str, str]:
        told: dict[str, str] = {}
        for layer, ids in self._makers.items():
            why = next((reasons[r] for i in ids if (r := self.root(i)) in reasons), None)
            if why:
                told[layer] = why
        return told


def _named(groups: Iterable[Group]) -> tuple[Group, ...]:
    """Groups of one layer get a number from the second on."""
    seen: dict[str, int] = {}
    named = []
    for group in groups:
        seen[group.name] = seen.get(group.name, 0) + 1
        count = f" ({seen[group.name]})" if seen[group.name] > 1 else ""
        named.append(replace(group, layer=group.name + count))
    return tuple(named)


def merged(base: Group, others: Sequence[Group]) -> Group:
    """One group of several: runs of the first one's units, each with a unit of every other."""
    count = len(others[0].units)
    run = len(base.units) // count
    units, shares = [], []
    for number in range(count):
        members = [(base, i) for i in range(number * run, (number + 1) * run)]
        members += [(other, number) for other in others]
        held: dict[tuple[str, int], list[int]] = {}
        sizes: dict[Size, int] = {}
        for group, i in members:
            for place in group.units[i]:
                held.setdefault((place.parameter, place.axis), []).extend(place.indices)
            for size, each in group.sizes:
                sizes[size] = sizes.get(size, 0) + each[i]
        units.append(tuple(Place(*tensor, tuple(sorted(found))) for tensor, found in held.items()))
        shares.append(sizes)
    return Group(
        tensors=tuple((place.parameter, place.axis) for place in units[0]),
        units=tuple(units),
        sizes=tuple((size, tuple(s[size] for s in shares)) for size in shares[0]),
        exact=base.exact and all(other.exact for other in others),
        layer=base.name,
        through=base.through,
    )
