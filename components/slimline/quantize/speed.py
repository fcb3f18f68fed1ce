"""Is it faster: latency beside the float model, in the same rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.measure import latency
from slimline.measure.runtime import session

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from slimline.quantize.spec import Quantize

_SECONDS = 20.0
_CONFIDENCE = 0.99
_NOTICED_MS = 0.05
"""A network whose call takes some microseconds more is not refused for that: it is told."""


def speedups(models: Sequence[bytes], x: NDArray[np.float32], rounds: int) -> list[latency.Latency]:
    """Time models at batch 1 on one thread, each against the first; 99 % intervals.

    Args:
        models: the float one first.
        x: one example.
        rounds: of the measurement; it ends after 20 seconds, but makes eleven.
    """
    loaded = [session(model) for model in models]
    return latency.measure(
        loaded, [x] * len(loaded), rounds=rounds, seconds=_SECONDS, confidence=_CONFIDENCE
    )


def check_fast(job: Quantize, before: latency.Latency, after: latency.Latency) -> None:
    """Refuse what is surely too slow.

    Raises:
        BadData: when the whole interval lies below what is required; where nothing is, when a call
            surely takes longer than the float model's, and by more than 0.05 ms.
    """
    least, speedup = job.least_speedup(), after.speedup
    if least is None or speedup.high >= least:
        return
    longer = after.median_ms.value - before.median_ms.value
    if job.require_speedup is None and longer < _NOTICED_MS:
        return
    found = f"{speedup.value:.2f} times as fast as the float model ({speedup.high:.2f} at most)"
    if job.require_speedup is not None:
        msg = f"require_speedup: {job.scheme} is {found}, {least} is required: lower it, or let "
        msg += "scheme int8 choose the fastest form"
        raise BadData(msg)
    msg = (
        f"{job.scheme} with activations {job.activation_type} is slower on this machine: {found}; "
        "use scheme int8, which measures what is fast, or set allow_slower if only size matters"
    )
    raise BadData(msg)
