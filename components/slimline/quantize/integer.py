"""Call ONNX Runtime's quantizer so that equal inputs give equal bytes.

Ranges come from `ranges.py`, not from its own calibration: that keeps every activation of every
example in memory for percentile and entropy, and knows no squared error.
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slimline.measure.runtime import import_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from slimline.quantize.layers import Layer
    from slimline.quantize.ranges import Ranges

_DYNAMIC_OPERATORS = ["Attention", "Gemm", "LSTM", "MatMul"]
"""Not Conv: ONNX Runtime's ConvInteger was measured slower than the float convolution."""

Overrides = dict[str, list[dict[str, Any]]]
"""Scales that are given, not computed: for a tensor one entry, or one for each channel."""


@dataclass(frozen=True)
class Form:
    """How a graph becomes an integer one."""

    format: Literal["qdq", "qoperator"] = "qdq"
    activation_type: Literal["uint8", "int8"] = "uint8"
    per_channel: bool = True
    reduce_range: bool = False

    @property
    def name(self) -> str:
        """`u8s8-qdq`: activations, weights, format."""
        return f"{'u' if self.activation_type == 'uint8' else 's'}8s8-{self.format}"


def quantize_static(
    prepared: onnx.ModelProto,
    form: Form,
    ranges: Ranges,
    *,
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
    overrides: Overrides | None = None,
) -> onnx.ModelProto:
    """Integer weights and activations.

    Args:
        prepared: what `prepare` gave.
        form: types and format.
        ranges: of every activation.
        exclude: names of nodes that stay float.
        only: when given, all other nodes stay float.
        overrides: scales that are given.
    """
    import numpy as np

    ort, types = _quantizer(), _part("quant_utils")
    registry = _part("registry")
    kinds = sorted({*registry.QLinearOpsRegistry, *registry.QDQRegistry})
    activations = ort.QuantType.QUInt8 if form.activation_type == "uint8" else ort.QuantType.QInt8
    calibrate = _part("calibrate")
    data = {
        name: calibrate.TensorData(lowest=np.array(a, np.float32), highest=np.array(b, np.float32))
        for name, (a, b) in ranges.items()
    }
    found = calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, data)
    options = {"TensorQuantOverrides": overrides} if overrides else {}
    with _quiet():
        start = types.save_and_reload_model_with_shape_infer(_copy(prepared))
        shared = (found, list(only), list(exclude), kinds, options)
        widths = (form.per_channel, form.reduce_range)
        if form.format == "qdq":
            made = _part("qdq_quantizer").QDQQuantizer(
                start, *widths, ort.QuantType.QInt8, activations, *shared
            )
        else:
            mode = types.QuantizationMode.QLinearOps
            made = _part("onnx_quantizer").ONNXQuantizer(
                start,
                *widths,
                mode,
                True,  # noqa: FBT003 - static
                ort.QuantType.QInt8,
                activations,
                *shared,
            )
        made.quantize_model()
    return without_notes(made.model.model)


def quantize_dynamic(
    prepared: onnx.ModelProto, form: Form, exclude: Sequence[str] = ()
) -> onnx.ModelProto:
    """Integer weights of MatMul and Gemm; activations are scaled when the model runs."""
    import onnx

    ort = _quantizer()
    with tempfile.TemporaryDirectory(prefix="slimline-") as directory, _quiet():
        start, end = Path(directory) / "start.onnx", Path(directory) / "end.onnx"
        bare = _copy(prepared)
        # Gemm becomes MatMul with another weight shape, and old shapes would contradict it.
        del bare.graph.value_info[:]
        onnx.save(bare, start)
        ort.quantize_dynamic(
            start,
            end,
            op_types_to_quantize=_DYNAMIC_OPERATORS,
            per_channel=form.per_channel,
            reduce_range=form.reduce_range,
            weight_type=ort.QuantType.QInt8,
            nodes_to_exclude=list(exclude),
        )
        return without_notes(onnx.load(end))


def weight_override(layer: Layer, scale: NDArray[np.float32]) -> list[dict[str, Any]]:
    """The entries for a weight whose scales, one for each output channel, are chosen already."""
    import numpy as np

    quant_type = _quantizer().QuantType.QInt8
    zero = np.array(0, np.int8)
    return [
        {
            "quant_type": quant_type,
            "axis": layer.axis,
            "scale": np.array(s, np.float32),
            "zero_point": zero,
        }
        for s in scale
    ]


def activation_override(scale: float, zero_point: int, kind: str) -> list[dict[str, Any]]:
    """The entry for an activation whose scale is given; `kind` is uint8 or int8."""
    import numpy as np

    types = _quantizer().QuantType
    return [
        {
            "quant_type": types.QUInt8 if kind == "uint8" else types.QInt8,
            "scale": np.array(scale, np.float32),
            "zero_point": np.array(zero_point, np.dtype(kind)),
        }
    ]


def without_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the tool's notes and the operator sets that no node uses."""
    bare = _copy(model)
    del bare.metadata_props[:], bare.graph.value_info[:]
    used = {"", *(node.domain for node in bare.graph.node)}
    kept = [opset for opset in bare.opset_import if opset.domain in used]
    del bare.opset_import[:]
    bare.opset_import.extend(kept)
    return bare


def _quantizer() -> ModuleType:
    import_onnxruntime()
    return importlib.import_module("onnxruntime.quantization")


def _part(name: str) -> ModuleType:
    import_onnxruntime()
    return importlib.import_module(f"onnxruntime.quantization.{name}")


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


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
