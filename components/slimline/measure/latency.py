"""Latency of several models, measured side by side on a machine that others may use.

In every round each model is called a few times, in an order drawn anew, so that a slow moment of
the machine meets all models alike. A round gives one number for each model, the median of its
calls; ratios are taken within rounds. What is timed is `session.run`, warm: no loading, no
preprocessing, no network. With one thread ONNX Runtime works in the thread that calls it, and that
is pinned to one processor while it is timed.
"""

from __future__ import annotations

import gc
import os
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from slimline.measure.intervals import median_interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from slimline.measure.evaluation import Interval

_CALLS = 5
"""Calls of one model in one round; their median drops the one that an interrupt hit."""
_WARM_CALLS = 20
_LEAST_ROUNDS = 11
_NANO_PER_MILLI = 1e6
_GLANCE_SECONDS = 0.05
_IDLE = 4
"""Column of `idle` in a line of /proc/stat."""


@dataclass(frozen=True)
class Latency:
    """One model's latency in milliseconds, beside that of the first model."""

    median_ms: Interval
    minimum_ms: float
    speedup: Interval
    """Median over rounds of (first model's time / this one's)."""
    rounds_ms: tuple[float, ...]
    p95_ms: float
    """95 of 100 single calls took no longer."""
    cpu_ms: float
    """Median over rounds of the processor time of one call, all threads together."""


@dataclass(frozen=True)
class _Round:
    """A model's calls in one round, in milliseconds."""

    calls_ms: tuple[float, ...]
    cpu_ms: float


def measure(
    sessions: Sequence[Any],
    inputs: Sequence[NDArray[np.float32]],
    *,
    rounds: int = 200,
    seconds: float = 120,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Latency]:
    """Time models against the first of them.

    Args:
        sessions: what `runtime.session` gave, the baseline first.
        inputs: for each, the batch that is timed.
        rounds: rounds to measure.
        seconds: when this time is over, no further round is begun, but eleven are always made.
        confidence: of the intervals.
        seed: draws the order within each round.
    """
    calls = [_caller(s, x) for s, x in zip(sessions, inputs, strict=True)]
    table: list[list[_Round]] = [[] for _ in calls]
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    with _without_garbage_collection():
        for call in calls:
            _round(call, _WARM_CALLS)
        end = time.monotonic() + seconds
        for done in range(max(rounds, _LEAST_ROUNDS)):
            if done >= _LEAST_ROUNDS and time.monotonic() > end:
                break
            for index in draw.sample(range(len(calls)), len(calls)):
                table[index].append(_round(calls[index], _CALLS))
    return [_summary(table[0], row, confidence) for row in table]


def _caller(session: Any, x: NDArray[np.float32]) -> Any:
    feed = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, feed)


def _round(call: Any, times: int) -> _Round:
    """Time a few calls; one more before them brings the model's data back."""
    call()
    taken = []
    cpu = time.process_time_ns()
    for _ in range(times):
        start = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - start) / _NANO_PER_MILLI)
    return _Round(tuple(taken), (time.process_time_ns() - cpu) / times / _NANO_PER_MILLI)


def _summary(baseline: list[_Round], row: list[_Round], confidence: float) -> Latency:
    first, own = ([median(found.calls_ms) for found in rounds] for rounds in (baseline, row))
    single = sorted(taken for found in row for taken in found.calls_ms)
    return Latency(
        median_ms=median_interval(own, confidence),
        minimum_ms=min(own),
        speedup=median_interval([a / b for a, b in zip(first, own, strict=True)], confidence),
        rounds_ms=tuple(own),
        p95_ms=single[int(0.95 * (len(single) - 1))],
        cpu_ms=median(found.cpu_ms for found in row),
    )


@contextmanager
def pinned(threads: int) -> Iterator[str]:
    """Keep the calling thread on the processor that is idle most; gives a note of what was done.

    With more threads ONNX Runtime's own pool does the work, and nothing is pinned.
    """
    if threads > 1 or not hasattr(os, "sched_setaffinity"):
        yield "threads not pinned"
        return
    allowed = os.sched_getaffinity(0)
    chosen = _idlest(allowed)
    os.sched_setaffinity(0, {chosen})
    try:
        yield f"pinned to processor {chosen}"
    finally:
        os.sched_setaffinity(0, allowed)


def _idlest(allowed: set[int]) -> int:
    before = _idle_ticks()
    time.sleep(_GLANCE_SECONDS)
    after = _idle_ticks()
    return max(sorted(allowed), key=lambda cpu: after.get(cpu, 0) - before.get(cpu, 0))


def _idle_ticks() -> dict[int, int]:
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    return {int(row[0][3:]): int(row[_IDLE]) for row in lines if row[0][3:].isdigit()}


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
