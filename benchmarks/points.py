"""Points of several tools measured side by side, and which point dominates which.

All accuracies are of the same test images, in pairs; all latencies of one run, in the same rounds:
ONNX Runtime, one thread, batch 1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from cifar import PREPROCESSING

from slimline.measure import latency
from slimline.measure.intervals import median_interval, tango_upper
from slimline.measure.runtime import logits, session

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from slimline.data.dataset import Examples

OURS = "slimline"
_BATCH = 250
_TWO_SIDED = 0.975


@dataclass(frozen=True)
class Made:
    """What a tool made, or why it made nothing."""

    tool: str
    name: str
    note: str = ""
    seconds: float = 0.0
    """Of the tool's own work."""
    file: Path | None = None
    error: str = ""


@dataclass(frozen=True)
class Point:
    """A model, measured."""

    made: Made
    bytes: int
    right: NDArray[np.bool_]
    """Of each test image."""
    latency: latency.Latency

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return float(self.right.mean())


@dataclass(frozen=True)
class Duel:
    """One of our points beside a peer's; every figure is better for us where it is larger."""

    tool: str
    peer: str
    ours: str
    accuracy: float
    """Points of accuracy that ours has more."""
    accuracy_low: float
    accuracy_high: float
    bytes: int
    """Bytes that ours has less."""
    speed: float
    """The peer's latency in ours: median of the ratios within rounds."""
    speed_low: float
    speed_high: float
    seconds: float
    """Seconds of work that ours took less."""

    @property
    def verdict(self) -> str:
        """By the figures as they are; then by whether they can be told from equal."""
        if self.accuracy >= 0 and self.bytes >= 0 and self.speed >= 1:
            strict = self.accuracy_low > 0 or self.bytes > 0 or self.speed_low > 1
            return "better or equal in all three" if strict else "equal"
        if self.accuracy_high >= 0 and self.bytes >= 0 and self.speed_high >= 1:
            return "within the noise"
        worse = {
            "accuracy": self.accuracy_high < 0,
            "bytes": self.bytes < 0,
            "latency": self.speed_high < 1,
        }
        return f"worse in {' and '.join(what for what, is_so in worse.items() if is_so)}"

    @property
    def rank(self) -> tuple[int, float]:
        """The larger, the better ours stands."""
        order = ("worse", "within", "equal", "better")
        return order.index(self.verdict.split()[0]), self.speed


def measured(made: list[Made], test: Examples, rounds: int) -> list[Point]:
    """Measure what was made, the float model first; nothing is chosen by it."""
    files = [one.file for one in made if one.file]
    inputs = [PREPROCESSING.apply(test.x[i : i + _BATCH]) for i in range(0, len(test.x), _BATCH)]
    loaded = [session(file) for file in files]
    right = [
        np.concatenate([logits(one, part) for part in inputs]).argmax(1) == test.y for one in loaded
    ]
    with latency.pinned(1):
        times = latency.measure(loaded, [inputs[0][:1]] * len(loaded), rounds=rounds, seconds=300)
    parts = zip([one for one in made if one.file], files, right, times, strict=True)
    return [Point(one, file.stat().st_size, own, taken) for one, file, own, taken in parts]


def duels(points: list[Point]) -> list[Duel]:
    """For each point of a peer the one of ours that stands best beside it."""
    ours = [point for point in points if point.made.tool == OURS]
    peers = [point for point in points[1:] if point.made.tool != OURS]
    return [max((_duel(own, peer) for own in ours), key=lambda d: d.rank) for peer in peers]


def _duel(ours: Point, peer: Point) -> Duel:
    lost, won = (
        int((a & ~b).sum()) for a, b in ((peer.right, ours.right), (ours.right, peer.right))
    )
    count = len(ours.right)
    ratios = zip(peer.latency.rounds_ms, ours.latency.rounds_ms, strict=True)
    speed = median_interval([theirs / own for theirs, own in ratios])
    return Duel(
        tool=peer.made.tool,
        peer=peer.made.name,
        ours=ours.made.name,
        accuracy=100 * (won - lost) / count,
        accuracy_low=-100 * tango_upper(lost, won, count, _TWO_SIDED),
        accuracy_high=100 * tango_upper(won, lost, count, _TWO_SIDED),
        bytes=peer.bytes - ours.bytes,
        speed=speed.value,
        speed_low=speed.low,
        speed_high=speed.high,
        seconds=peer.made.seconds - ours.made.seconds,
    )


def rows(made: list[Made], points: list[Point]) -> list[dict[str, Any]]:
    """Everything that is told of each point, those that failed too."""
    by_made = {id(point.made): point for point in points}
    first = points[0]
    found = []
    for one in made:
        row = asdict(one) | {"file": str(one.file or "")}
        if point := by_made.get(id(one)):
            lost = int((first.right & ~point.right).sum())
            won = int((point.right & ~first.right).sum())
            count = len(first.right)
            row |= {
                "bytes": point.bytes,
                "accuracy": point.accuracy,
                "drop": (lost - won) / count,
                "upper_bound": tango_upper(lost, won, count),
                "latency_ms": point.latency.median_ms.value,
                "speedup": point.latency.speedup.model_dump(),
            }
        found.append(row)
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The points in Markdown."""
    titles = "tool | point | bytes | accuracy | drop, points (95 % bound) | ms | speed (95 %)"
    lines = [f"| {titles} | work, s |", f"|{8 * '---|'}"]
    for row in rows:
        if row["error"]:
            lines.append(f"| {row['tool']} | {row['name']} | failed: {row['error']} | | | | | |")
            continue
        speed = row["speedup"]
        cells = [
            row["tool"],
            f"{row['name']} ({row['note']})" if row["note"] else row["name"],
            f"{row['bytes']:,}",
            f"{100 * row['accuracy']:.2f} %",
            f"{100 * row['drop']:+.2f} ({100 * row['upper_bound']:.2f})",
            f"{row['latency_ms']:.3f}",
            f"{speed['value']:.2f}x ({speed['low']:.2f}, {speed['high']:.2f})",
            f"{row['seconds']:.0f}" if row["seconds"] else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def duel_table(found: list[Duel]) -> list[str]:
    """The verdicts in Markdown."""
    titles = "peer's point | ours beside it | accuracy, points (95 %) | bytes | speed (95 %)"
    lines = [f"| {titles} | ours is |", f"|{6 * '---|'}"]
    for duel in found:
        accuracy = f"{duel.accuracy:+.2f} ({duel.accuracy_low:+.2f}, {duel.accuracy_high:+.2f})"
        speed = f"{duel.speed:.2f}x ({duel.speed_low:.2f}, {duel.speed_high:.2f})"
        cells = [f"{duel.tool}: {duel.peer}", duel.ours, accuracy, f"{-duel.bytes:+,}", speed]
        lines.append(f"| {' | '.join([*cells, duel.verdict])} |")
    return lines
