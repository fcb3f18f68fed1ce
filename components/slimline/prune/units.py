"""Union-find over channels: which ones of a network can only be removed together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Ids = tuple[int, ...]
"""For each channel of a tensor, the id of the unit it belongs to."""


@dataclass(frozen=True)
class Place:
    """Indices of one axis of one tensor (or of a padding, see `Edit`)."""

    parameter: str
    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Units that lie in the same tensors, so that removing any of them narrows the same layers."""

    tensors: tuple[tuple[str, int], ...]
    """(parameter, axis), in the order in which the network uses them."""
    units: tuple[tuple[Place, ...], ...]
    """For each unit its places, in the order of `tensors`."""

    @property
    def name(self) -> str:
        """The first layer whose outputs these are."""
        makers = [p for p, axis in self.tensors if axis == 0 and p.endswith(".weight")]
        return (makers or [p for p, _ in self.tensors])[0].removesuffix(".weight")


class Units:
    """Collects units, their unions and their places while a graph is walked."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._tables: dict[tuple[str, int], Ids] = {}
        self._frozen: dict[int, str] = {}

    def new(self, count: int) -> Ids:
        """Make units for the channels of a new tensor."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        return tuple(range(first, first + count))

    def join(self, one: Ids, other: Ids) -> Ids:
        """Let channels fall together, pair by pair."""
        for a, b in zip(one, other, strict=True):
            self._parent[self._root(a)] = self._root(b)
        return one

    def place(self, parameter: str, axis: int, ids: Ids) -> None:
        """Note that an axis of a tensor is indexed by these units."""
        known = self._tables.setdefault((parameter, axis), ids)
        if known is not ids:  # a layer that is used twice
            self.join(known, ids)

    def freeze(self, ids: Sequence[int], why: str) -> None:
        """These units must stay."""
        for i in ids:
            self._frozen.setdefault(i, why)

    def freeze_parameter(self, parameter: str, why: str) -> None:
        """All units that lie in a tensor must stay."""
        for (name, _), ids in self._tables.items():
            if name == parameter:
                self.freeze(ids, why)

    def groups(self) -> tuple[tuple[Group, ...], dict[str, str]]:
        """What can be cut, and by layer why the rest cannot."""
        places: dict[int, dict[tuple[str, int], list[int]]] = {}
        for tensor, ids in self._tables.items():
            for index, i in enumerate(ids):
                places.setdefault(self._root(i), {}).setdefault(tensor, []).append(index)
        reasons = {self._root(i): why for i, why in reversed(self._frozen.items())}
        free: dict[tuple[tuple[str, int], ...], list[tuple[Place, ...]]] = {}
        for root, found in places.items():
            if root not in reasons:
                key = tuple(found)
                unit = tuple(Place(*tensor, tuple(found[tensor])) for tensor in key)
                free.setdefault(key, []).append(unit)
        groups = tuple(Group(key, tuple(units)) for key, units in free.items())
        return groups, self._left_alone(reasons)

    def _left_alone(self, reasons: dict[int, str]) -> dict[str, str]:
        told: dict[str, str] = {}
        for (parameter, axis), ids in self._tables.items():
            if axis == 0 and parameter.endswith(".weight"):
                why = next((reasons[r] for i in ids if (r := self._root(i)) in reasons), None)
                if why:
                    told[parameter.removesuffix(".weight")] = why
        return told

    def _root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i
