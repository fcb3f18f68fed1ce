"""What `trial.json` says: one network of a search, measured beside the teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from slimline.contract import BadData
from slimline.measure.evaluation import Interval
from slimline.measure.intervals import tango_upper, wilson
from slimline.search.space import Chain, chain_key

if TYPE_CHECKING:
    from pathlib import Path

    from slimline.search.settings import SearchSettings

FILE = "trial.json"


class Measured(BaseModel):
    """A network's size and speed. Latency is of the run that measured it; another one differs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    parameters: int
    macs: int
    """Multiply-accumulates of one example."""
    bytes: int
    """Size of `model.onnx`."""
    latency_ms: Interval
    """Median of one call at batch 1, one thread, interleaved with the baseline."""
    latency_min_ms: float
    baseline_ms: float
    """The baseline's median in the same rounds."""
    speedup: Interval
    """Median over rounds of the baseline's latency over this one's in the same round."""
    memory_mb: float | None = None


class Answers(BaseModel):
    """How a trained network answers on the selection split, example by example."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    right: str
    """Which examples are right: a bit each, most significant first, in hexadecimal digits."""
    examples: int
    accuracy: float
    lost: int = 0
    """Examples that only the baseline has right."""
    won: int = 0
    """Examples that only this network has right."""

    @property
    def drop(self) -> float:
        """The baseline's accuracy less this one's, on the same examples."""
        return (self.lost - self.won) / self.examples


class TrialResult(BaseModel):
    """The whole of `trial.json`; `failed` says in words why there is nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    chain: Chain
    epochs: tuple[int, ...]
    """Rounds of training; none is the untrained network."""
    failed: str = ""
    measured: Measured | None = None
    answers: Answers | None = None
    """None of an untrained network."""
    exact: bool = True
    """Whether an untrained network has the shape that the trained one will have."""
    onnx: str = ""
    """Digest of the `Model` artifact that was measured."""
    torch: str = ""
    """Digest of the one that it was exported from."""
    training_seconds: float = 0.0
    """What the last round of training took, when it was done."""

    @property
    def key(self) -> str:
        """The chain's short name."""
        return chain_key(self.chain)

    @property
    def relative_time(self) -> float:
        """Time of a call over the baseline's; 1 where nothing was measured."""
        return 1 / self.measured.speedup.value if self.measured else 1.0

    def objectives(self) -> tuple[float, float, float]:
        """Drop, relative time, bytes: each is better when it is less.

        An untrained network counts as one that knows nothing.
        """
        drop = self.answers.drop if self.answers else 1.0
        return drop, self.relative_time, float(self.measured.bytes if self.measured else 0)


def drop_of(answers: Answers, settings: SearchSettings) -> float:
    """The teacher's accuracy less this network's, on examples that neither has seen."""
    known = settings.teacher_accuracy
    return answers.drop if known is None else known - answers.accuracy


def upper_of(answers: Answers, settings: SearchSettings) -> float:
    """One-sided upper bound of the drop.

    Tango's score interval for paired proportions; where the teacher's accuracy was given, Wilson's
    of this network's own accuracy.
    """
    if settings.teacher_accuracy is None:
        return tango_upper(answers.lost, answers.won, answers.examples, settings.confidence)
    right = round(answers.accuracy * answers.examples)
    own = wilson(right, answers.examples, 2 * settings.confidence - 1)
    return settings.teacher_accuracy - own.low


def save_result(result: TrialResult, target: Path) -> None:
    """Write `trial.json` into the directory of an output artifact."""
    (target / FILE).write_text(result.model_dump_json(indent=1))


def load_result(source: Path) -> TrialResult:
    """Read `trial.json`.

    Raises:
        BadData: when the artifact is no trial's result.
    """
    try:
        return TrialResult.model_validate_json((source / FILE).read_bytes())
    except (OSError, ValidationError) as error:
        msg = f"{source} holds no result of a trial: give what a trial wrote ({error})"
        raise BadData(msg) from error


def violations(
    result: TrialResult, settings: SearchSettings, *, surely: bool
) -> tuple[tuple[str, float], ...]:
    """Which limits a network breaks, in words, and by how much of the limit.

    Args:
        result: of a network that was measured.
        settings: has the limits.
        surely: count only what the intervals of the measurement leave no doubt about; else count
            whatever is not surely kept.
    """
    measured = result.measured
    if measured is None:
        return ()
    latency = measured.latency_min_ms if surely else measured.latency_ms.value
    speedup = measured.speedup.high if surely else measured.speedup.low
    upper: tuple[tuple[str, float | None, float | None], ...] = (
        ("parameters", measured.parameters, settings.max_parameters),
        ("multiply-accumulates", measured.macs, settings.max_macs),
        ("bytes", measured.bytes, settings.max_bytes),
        ("MB of memory", measured.memory_mb, settings.max_memory_mb),
        ("ms latency", latency, settings.max_latency_ms),
    )
    found = [
        (f"{_number(value)} {what}, the limit is {_number(limit)}", value / limit - 1)
        for what, value, limit in upper
        if value is not None and limit is not None and value > limit
    ]
    limit = settings.min_speedup
    if limit is not None and speedup < limit:
        found.append((f"{speedup:.2f} times as fast, the limit is {limit:g}", limit / speedup - 1))
    return tuple(found)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
