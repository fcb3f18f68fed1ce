"""NNCF 3.4: post-training quantization of the ONNX model, plain and with accuracy control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nncf
import numpy as np
import onnx
import onnxruntime
from peer_common import INPUTS, examples, points, share_right

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SELECTION, CLASSES = examples("selection")
BATCH = 250


def _calibration() -> nncf.Dataset:
    return nncf.Dataset(list(examples("calibration")[0]), lambda image: {"input": image[None]})


def _validation() -> nncf.Dataset:
    starts = range(0, len(CLASSES), BATCH)
    return nncf.Dataset([{"input": SELECTION[i : i + BATCH]} for i in starts])


def _accuracy(model: Any, batches: Iterable[Any]) -> tuple[float, None]:
    loaded = onnxruntime.InferenceSession(model.SerializeToString())
    answers = [loaded.run(None, batch)[0] for batch in batches]
    return share_right(np.concatenate(answers), CLASSES), None


def quantize(target: Path) -> str:
    """All defaults, with every calibration image."""
    source = onnx.load(INPUTS / "float.onnx")
    onnx.save(nncf.quantize(source, _calibration(), subset_size=256), target)
    return "nncf.quantize, defaults"


def controlled(target: Path) -> str:
    """Layers go back to float until no more than a tenth of a point is lost."""
    source = onnx.load(INPUTS / "float.onnx")
    made = nncf.quantize_with_accuracy_control(
        source, _calibration(), _validation(), _accuracy, subset_size=256, max_drop=0.001
    )
    onnx.save(made, target)
    return "quantize_with_accuracy_control, max_drop 0.001 on the selection split"


if __name__ == "__main__":
    points({"default": quantize, "accuracy control": controlled})
