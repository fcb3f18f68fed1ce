"""The network on the bench: each change is tried on examples, and kept if the network bears it."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slimline.contract import BadData, BadParameters
from slimline.models.edit import apply_edits
from slimline.models.info import Replace
from slimline.models.traced import operation
from slimline.reshape.graph import Graph, LeftAloneError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from slimline.models.info import Edit
    from slimline.reshape.graph import Chain

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Change:
    """One change: what is said of it, the edits, and the weights that fill what they make."""

    where: str
    said: str
    edits: tuple[Edit, ...]
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """By name in `state_dict`; every tensor of a fresh layer is among them."""


class Bench:
    """Collects the changes that a network bears.

    Attributes:
        module: as the changes so far left it.
        edits: of these changes, in order.
        changed: by layer, what was done.
        left_alone: by layer, why nothing was done.
    """

    def __init__(
        self, module: nn.Module, probe: Tensor, *, tolerance: float | None = None, layers: str = ""
    ) -> None:
        """Start with a network.

        Args:
            module: stays as it is; the bench works on a copy.
            probe: a few inputs, at least two.
            tolerance: largest difference that one change may make to an answer, over the largest
                answer; None where the function may change.
            layers: regular expression of the layers that may be changed.
        """
        self.module = copy.deepcopy(module).eval()
        self.probe, self.tolerance = probe, tolerance
        self.edits: list[Edit] = []
        self.changed: dict[str, str] = {}
        self.left_alone: dict[str, str] = {}
        self._answer = answers(self.module, probe)
        try:
            self._wanted = re.compile(layers)
        except re.error as error:
            msg = f"layers {layers!r} is no regular expression: {error}"
            raise BadParameters(msg) from error

    def graph(self) -> Graph:
        """The network as it is now."""
        return Graph(self.module, self.probe[:2])

    def chains(self) -> list[Chain]:
        """The layers of units that one layer takes; of all others it is noted why they stay."""
        graph, found = self.graph(), list["Chain"]()
        for path, node in graph.layers.items():
            if operation(node) != "batch_norm" and self.wants(path):
                try:
                    found.append(graph.chain(path))
                except LeftAloneError as why:
                    self.leave(path, why)
        for path, odd in graph.odd.items():
            self.leave(path, odd)
        return found

    def wants(self, layer: str) -> bool:
        """Whether the parameter `layers` lets a layer be changed."""
        return self._wanted.search(layer) is not None

    def leave(self, layer: str, why: object) -> None:
        """Note why a layer stays as it is."""
        if self.wants(layer) and layer not in self.changed:
            self.left_alone[layer] = str(why)

    def attempt(self, change: Change) -> bool:
        """Make a change, unless the network then fails or answers otherwise."""
        try:
            trial = apply_edits(copy.deepcopy(self.module), change.edits)
        except BadData as error:
            self.leave(change.where, error)
            return False
        _fill(trial, change)
        try:
            answer = answers(trial, self.probe)
        except (RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            self.leave(change.where, f"forward fails after it: {str(error).splitlines()[0]:.120}")
            return False
        apart = difference(answer, self._answer)
        if self.tolerance is not None and not apart <= self.tolerance:
            self.leave(change.where, f"answers would differ by {apart:.1e} of the largest")
            return False
        self.module = trial.eval()
        self.edits += change.edits
        self.left_alone.pop(change.where, None)
        before = self.changed.get(change.where)
        self.changed[change.where] = f"{before}, {change.said}" if before else change.said
        return True


def answers(module: nn.Module, x: Tensor, batch: int = 256) -> Tensor:
    """What a network answers, float32."""
    import torch

    with torch.no_grad():
        return torch.cat([module(part).float() for part in torch.split(x, batch)])


def difference(new: Tensor, old: Tensor) -> float:
    """Largest difference of an answer, over the largest answer or 1; infinite if shapes differ."""
    if new.shape != old.shape:
        return float("inf")
    apart = (new - old).abs().max() / old.abs().max().clamp_min(1.0)
    return float(apart) if apart.isfinite() else float("inf")


def _fill(module: nn.Module, change: Change) -> None:
    """Set the weights; a fresh layer must not keep random ones."""
    import torch

    state = module.state_dict()
    fresh = tuple(f"{e.module}." for e in change.edits if isinstance(e, Replace))
    for name, tensor in state.items():
        if name in change.weights:
            given = change.weights[name]
            if given.shape != tensor.shape:
                msg = f"{name} is {list(tensor.shape)}, not {list(given.shape)}"
                raise AssertionError(msg)
            with torch.no_grad():
                tensor.copy_(given)
        elif name.startswith(fresh) and fresh and not name.endswith(_COUNTER):
            msg = f"{change.where}: {name} would stay random"
            raise AssertionError(msg)
