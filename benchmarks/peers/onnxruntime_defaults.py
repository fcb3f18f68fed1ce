"""onnxruntime's own quantizer, called as its documentation does: pre-processed, then static."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from peer_common import INPUTS, examples, points

IMAGES = examples("calibration")[0]
BATCH = 32
U8S8 = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}


class Reader(CalibrationDataReader):  # type: ignore[misc] # it has no types
    """The calibration images in batches."""

    def __init__(self) -> None:
        self.batches = iter(
            [{"input": IMAGES[i : i + BATCH]} for i in range(0, len(IMAGES), BATCH)]
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next batch; None at the end."""
        return next(self.batches, None)


def static(source: Path, target: Path, **options: Any) -> None:
    """Pre-process and quantize."""
    with TemporaryDirectory() as work:
        ready = Path(work) / "ready.onnx"
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        quantize_static(ready, target, Reader(), **options)


def defaults(target: Path) -> str:
    """Every option as it is."""
    static(INPUTS / "float.onnx", target)
    return "S8S8, QDQ, a scale for each tensor"


def per_channel(target: Path) -> str:
    """What its documentation advises for x86 with VNNI."""
    static(INPUTS / "float.onnx", target, per_channel=True, **U8S8)
    return "U8S8, QDQ, a scale for each channel"


def qoperator(target: Path) -> str:
    """The same in its own integer operators."""
    options = {"per_channel": True, "quant_format": QuantFormat.QOperator, **U8S8}
    static(INPUTS / "float.onnx", target, **options)
    return "U8S8, QOperator, a scale for each channel"


if __name__ == "__main__":
    points({"defaults": defaults, "U8S8 QDQ": per_channel, "U8S8 QOperator": qoperator})
