"""Call ONNX Runtime's quantizer so that equal inputs give equal bytes."""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimline.measure.runtime import import_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from slimline.quantize.spec import Quantize

_LARGEST_BATCH = 32
_DYNAMIC_OPERATORS = ["Attention", "Gemm", "LSTM", "MatMul"]
"""Not Conv: ONNX Runtime's ConvInteger was measured slower than the float convolution."""


def quantize_static(
    prepared: onnx.ModelProto, job: Quantize, calibration: NDArray[np.float32]
) -> onnx.ModelProto:
    """Integer weights and activations; `calibration` is the model's input, float32."""
    ort = _quantizer()

    formats = {"qdq": ort.QuantFormat.QDQ, "qoperator": ort.QuantFormat.QOperator}
    types = {"uint8": ort.QuantType.QUInt8, "int8": ort.QuantType.QInt8}
    methods = {
        "minmax": ort.CalibrationMethod.MinMax,
        "percentile": ort.CalibrationMethod.Percentile,
        "entropy": ort.CalibrationMethod.Entropy,
    }
    with tempfile.TemporaryDirectory(prefix="slimline-") as directory, _quiet():
        start, end = _start(prepared, directory), Path(directory) / "end.onnx"
        ort.quantize_static(
            start,
            end,
            _Reader(prepared.graph.input[0].name, calibration),
            quant_format=formats[job.format],
            per_channel=job.per_channel,
            reduce_range=job.reduce_range,
            activation_type=types[job.activation_type],
            weight_type=ort.QuantType.QInt8,
            nodes_to_exclude=list(job.exclude),
            calibrate_method=methods[job.calibration_method],
            extra_options={"CalibPercentile": job.percentile},
        )
        return _end(end)


def quantize_dynamic(prepared: onnx.ModelProto, job: Quantize) -> onnx.ModelProto:
    """Integer weights of MatMul and Gemm; activations are scaled when the model runs."""
    ort = _quantizer()

    with tempfile.TemporaryDirectory(prefix="slimline-") as directory, _quiet():
        # Gemm becomes MatMul with another weight shape, and old shapes would contradict it.
        del prepared.graph.value_info[:]
        start, end = _start(prepared, directory), Path(directory) / "end.onnx"
        ort.quantize_dynamic(
            start,
            end,
            op_types_to_quantize=_DYNAMIC_OPERATORS,
            per_channel=job.per_channel,
            reduce_range=job.reduce_range,
            weight_type=ort.QuantType.QInt8,
            nodes_to_exclude=list(job.exclude),
        )
        return _end(end)


def _quantizer() -> ModuleType:
    import_onnxruntime()
    return importlib.import_module("onnxruntime.quantization")


class _Reader:
    """What the quantizer asks for: a batch at a time, then None."""

    def __init__(self, name: str, x: NDArray[np.float32]) -> None:
        # All of one size: the histograms of percentile and entropy take no smaller last one.
        size = max(n for n in range(1, _LARGEST_BATCH + 1) if len(x) % n == 0)
        starts = range(0, len(x), size)
        self._batches = iter([{name: x[start : start + size]} for start in starts])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _start(prepared: onnx.ModelProto, directory: str) -> Path:
    import onnx

    path = Path(directory) / "start.onnx"
    onnx.save(prepared, path)
    return path


def _end(path: Path) -> onnx.ModelProto:
    """Read the result without the tool's notes and the operator sets that no node uses."""
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:], model.graph.value_info[:]
    used = {"", *(node.domain for node in model.graph.node)}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer prints its progress and warns of shape tensors, which are never quantized."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(before)
