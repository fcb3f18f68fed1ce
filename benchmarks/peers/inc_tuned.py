"""Neural Compressor's ONNX side (onnx-neural-compressor 1.0): static, and tuned by accuracy.

It left the main package with version 3; this is where it went.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx_neural_compressor.data_reader import CalibrationDataReader
from onnx_neural_compressor.quantization import quantize
from onnx_neural_compressor.quantization.config import StaticQuantConfig
from onnx_neural_compressor.quantization.tuning import TuningConfig, autotune
from peer_common import INPUTS, examples, points, share_right

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = examples("calibration")[0]
BATCH = 32


class Reader(CalibrationDataReader):  # type: ignore[misc] # it has no types
    """The calibration images in batches."""

    def __init__(self) -> None:
        self.rewind()

    def get_next(self) -> dict[str, Any] | None:
        """The next batch; None at the end."""
        return next(self.batches, None)

    def rewind(self) -> None:
        """Start again."""
        self.batches = iter(
            [{"input": IMAGES[i : i + BATCH]} for i in range(0, len(IMAGES), BATCH)]
        )


def static(target: Path) -> str:
    """All defaults: U8S8, QOperator, a scale for each tensor."""
    config = StaticQuantConfig(calibration_data_reader=Reader(), calibration_sampling_size=256)
    quantize(str(INPUTS / "float.onnx"), str(target), config)
    onnx.save(onnx.load(target), target)  # the weights that it put beside, in one file
    target.with_name(f"{target.name}_data").unlink()
    return "StaticQuantConfig, defaults"


def tuned(target: Path) -> str:
    """Its own list of configurations, until one loses at most a tenth of a point."""
    tried = []
    x, y = examples("selection")

    def accuracy(path: str) -> float:
        loaded = onnxruntime.InferenceSession(path)
        parts = [loaded.run(None, {"input": x[i : i + 250]})[0] for i in range(0, len(x), 250)]
        tried.append(share_right(np.concatenate(parts), y))
        return tried[-1]

    configs = StaticQuantConfig.get_config_set_for_tuning(calibration_sampling_size=256)
    made = autotune(
        str(INPUTS / "float.onnx"),
        TuningConfig(config_set=configs, tolerable_loss=0.001, max_trials=8),
        accuracy,
        calibration_data_reader=Reader(),
    )
    if made is None:
        raise ValueError(f"none of {len(tried) - 1} trials met its goal")
    onnx.save(made, target)
    return f"autotune, tolerable_loss 0.001: {len(tried) - 1} trials"


if __name__ == "__main__":
    points({"static": static, "tuned": tuned})
