"""What a reshaped network's latency is beside the old one's, in the runtime that will serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.measure.latency import measure
from slimline.measure.runtime import session
from slimline.models.network import example_input
from slimline.models.to_onnx import to_onnx

if TYPE_CHECKING:
    from torch import nn

    from slimline.contract import Numbers
    from slimline.models.info import ModelInfo

_OPSET = 20


def latency_numbers(
    before: nn.Module, after: nn.Module, info: ModelInfo, rounds: int, seed: int
) -> Numbers:
    """Latency of two networks in ONNX Runtime, one thread, batch 1, interleaved.

    Args:
        before: the old one, in evaluation mode.
        after: the new one.
        info: says what input they take.
        rounds: of measuring.
        seed: draws the order within a round.

    Raises:
        BadData: when one of them cannot be exported.
    """
    sample = example_input(info, batch=2).numpy()
    files = [to_onnx(module, sample, _OPSET) for module in (before, after)]
    old, new = measure([session(f) for f in files], [sample[:1]] * 2, rounds=rounds, seed=seed)
    return {
        "latency_ms_before": old.median_ms.value,
        "latency_ms": new.median_ms.value,
        "speedup": new.speedup.value,
        "speedup_low": new.speedup.low,
        "speedup_high": new.speedup.high,
    }
