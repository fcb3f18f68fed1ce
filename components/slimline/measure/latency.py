"""Latency of several models, measured side by side on a machine that others may use.

In every round each model is called a few times, in an order drawn anew, so that a slow moment of
the machine meets all models alike. A round gives one number for each model, the median of its
calls; ratios are taken within rounds. What is timed is `session.run` at batch 1, warm: no loading,
no preprocessing, no network.
"""

from __future__ import annotations

import gc
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Latency:
    """One model's latency in milliseconds, beside that of the first model."""

    median_ms: Interval
    minimum_ms: float
    speedup: Interval
    """Median over rounds of (first model's time / this one's)."""
    rounds_ms: tuple[float, ...]


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
        inputs: for each, a batch of one example.
        rounds: rounds to measure.
        seconds: when this time is over, no further round is begun, but eleven are always made.
        confidence: of the intervals.
        seed: draws the order within each round.
    """
    calls = [_caller(s, x) for s, x in zip(sessions, inputs, strict=True)]
    table: list[list[float]] = [[] for _ in calls]
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


def _round(call: Any, times: int) -> float:
    """Median milliseconds of a few calls; one more before them brings the model's data back."""
    call()
    taken = []
    for _ in range(times):
        start = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - start)
    return median(taken) / _NANO_PER_MILLI


def _summary(baseline: list[float], row: list[float], confidence: float) -> Latency:
    ratios = [first / own for first, own in zip(baseline, row, strict=True)]
    return Latency(
        median_ms=median_interval(row, confidence),
        minimum_ms=min(row),
        speedup=median_interval(ratios, confidence),
        rounds_ms=tuple(row),
    )


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
