"""What a cut is to reach: a share of MACs or parameters, or a latency that is measured."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from slimline.contract import BadParameters, get_logger
from slimline.measure.latency import measure
from slimline.measure.runtime import session
from slimline.models.network import example_input, mac_count, parameter_count
from slimline.models.to_onnx import to_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from slimline.models.info import ModelInfo
    from slimline.prune.cut import Channels, Keep
    from slimline.prune.spec import Prune

log = get_logger(__name__)
_HALVINGS = 7
"""Of the ratio: the last two tries differ by less than a hundredth."""
_OPSET, _ROUNDS, _SECONDS = 20, 60, 15.0


@dataclass
class Target:
    """Judges candidates against the uncut network, and remembers each one that it judged.

    Latency is taken in ONNX Runtime on one thread at batch 1, where it is run, not guessed from
    MACs: the candidate is exported and timed in turns with the uncut network (see
    `slimline.measure.latency`).
    """

    job: Prune
    uncut: nn.Module
    info: ModelInfo
    share: float = 1.0
    """How far on the way to the target this step is to come, 0 to 1."""
    probes: list[dict[str, float]] = field(default_factory=list)
    _exported: bytes | None = None

    PARTS: ClassVar[dict[str, Callable[[nn.Module, ModelInfo], int]]] = {
        "macs": mac_count,
        "parameters": lambda module, _: parameter_count(module),
    }

    def is_met(self, module: nn.Module) -> bool:
        """Whether a candidate is small or fast enough."""
        met, numbers = self._latency(module) if self.job.target == "latency" else self._size(module)
        probe = {"parameters": parameter_count(module), **numbers, "met": float(met)}
        self.probes.append(probe)
        told = ", ".join(f"{name} {value:.6g}" for name, value in probe.items())
        log.info("prune: candidate %d: %s", len(self.probes), told)
        return met

    def unreachable(self, least: str) -> BadParameters:
        """The error when even the smallest network does not meet the target."""
        last = ", ".join(f"{name} {value:.6g}" for name, value in self.probes[-1].items())
        return BadParameters(
            f"target {self.job.target} cannot be met: {least} leaves {last}; "
            "ask for less, use a smaller round_to, or another method"
        )

    def _size(self, module: nn.Module) -> tuple[bool, dict[str, float]]:
        count = self.PARTS[self.job.target]
        removed = 1 - count(module, self.info) / max(1, count(self.uncut, self.info))
        return removed >= self.job.ratio * self.share, {f"{self.job.target}_removed": removed}

    def _latency(self, module: nn.Module) -> tuple[bool, dict[str, float]]:
        if self._exported is None:
            self._exported = self._onnx(self.uncut)
        sessions = [session(self._exported), session(self._onnx(module))]
        x = example_input(self.info).numpy()
        before, after = measure(sessions, [x, x], rounds=_ROUNDS, seconds=_SECONDS)
        uncut_ms, speedup = before.median_ms.value, after.speedup.value
        latency_ms = after.median_ms.value
        numbers = {"latency_ms": latency_ms, "uncut_ms": uncut_ms, "speedup": speedup}
        if self.job.speedup:
            return 1 - 1 / speedup >= self.share * (1 - 1 / self.job.speedup), numbers
        allowed = uncut_ms - self.share * (uncut_ms - self.job.max_latency_ms)
        return latency_ms <= allowed, numbers

    def _onnx(self, module: nn.Module) -> bytes:
        return to_onnx(module, example_input(self.info, batch=2).numpy(), _OPSET)


def narrow_to(channels: Channels, target: Target) -> Keep:
    """The widest network that meets a target, by bisection.

    First over the ratio that all groups share. Between its last two tries several groups narrow at
    once; they then narrow one by one, those first that lose least.

    Raises:
        BadParameters: when the narrowest network does not meet it.
    """
    judged: dict[Keep, bool] = {channels.keep(0.0): target.share <= 0}

    def is_met(keep: Keep) -> bool:
        if keep not in judged:
            judged[keep] = target.is_met(channels.made(keep))
        return judged[keep]

    low, high = 0.0, 1.0
    if not is_met(channels.keep(high)):
        least = f"every group at its narrowest ({channels.job.round_to})"
        raise target.unreachable(least)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if is_met(channels.keep(middle)):
            high = middle
        else:
            low = middle
    way = _one_by_one(channels, channels.keep(low), channels.keep(high))
    first, last = 0, len(way) - 1
    while last - first > 1:
        middle_of_way = (first + last) // 2
        if is_met(way[middle_of_way]):
            last = middle_of_way
        else:
            first = middle_of_way
    return way[last]


def _one_by_one(channels: Channels, wide: Keep, narrow: Keep) -> list[Keep]:
    """From one choice to another, a group at a time, the least important losses first."""
    loss = [
        float(score[sorted(set(before) - set(after))].sum())
        for score, before, after in zip(channels.scores, wide, narrow, strict=True)
    ]
    changed = [i for i in range(len(wide)) if wide[i] != narrow[i]]
    order = sorted(changed, key=lambda i: (loss[i], i))
    chosen = itertools.accumulate(order, lambda done, i: done | {i}, initial=frozenset[int]())
    return [tuple(narrow[i] if i in done else wide[i] for i in range(len(wide))) for done in chosen]
