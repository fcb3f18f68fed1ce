"""Weights of 16 bits, and arithmetic too where that is asked for.

bfloat16 keeps float32's range and 8 bits of mantissa (Kalamkar et al. 2019, arXiv:1905.12322);
float16 keeps 11 bits (Micikevicius et al. 2018, arXiv:1710.03740). Stored weights are widened when
the model is loaded, at no cost in any call. Arithmetic in float16 pays on hardware that has it; on
CPUs that do not, ONNX Runtime casts back and forth, which the measured speed tells.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from slimline.contract import BadParameters
from slimline.measure.runtime import import_onnxruntime
from slimline.quantize.integer import without_notes
from slimline.quantize.packing import inferred, replace_nodes
from slimline.quantize.work import Made, Work

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

_LEAST_VALUES = 16
"""A smaller constant would grow by the node that widens it."""
_LARGEST_HALF = 65504.0


def half_weights(work: Work) -> Made:
    """The schemes `fp16` and `bf16`."""
    if not work.job.half_compute:
        model = stored_half(work.prepared, work.job.scheme, work.job.exclude)
        return Made(
            model,
            f"weights stored as {work.job.scheme}",
            reasons=("Weights are widened when the model is loaded; arithmetic stays float32.",),
        )
    if work.job.scheme == "bf16":
        msg = (
            "half_compute: ONNX Runtime's CPU has no bfloat16 convolution: leave it off to store "
            "weights as bf16, or use scheme fp16"
        )
        raise BadParameters(msg)
    return Made(computing_half(work.prepared, work.job.exclude), "computes in fp16")


def stored_half(model: onnx.ModelProto, scheme: str, exclude: tuple[str, ...]) -> onnx.ModelProto:
    """Every float constant of 16 values or more in 16 bits, widened by a Cast.

    Args:
        model: the float graph.
        scheme: fp16 or bf16.
        exclude: nodes whose own constants stay as they are.
    """
    from onnx import TensorProto, helper, numpy_helper

    made = type(model)()
    made.CopyFrom(model)
    kept_names = {n for node in model.graph.node if node.name in exclude for n in node.input}
    constants, casts = [], []
    for constant in made.graph.initializer:
        value = numpy_helper.to_array(constant)
        wide = constant.data_type == TensorProto.FLOAT and value.size >= _LEAST_VALUES
        if not wide or constant.name in kept_names or not _fits(value, scheme):
            constants.append(constant)
            continue
        name = f"{constant.name}_{scheme}"
        constants.append(_narrow(name, value, scheme))
        casts.append(helper.make_node("Cast", [name], [constant.name], to=TensorProto.FLOAT))
    replace_nodes(made, constants, [*casts, *made.graph.node])
    return without_notes(made)


def computing_half(model: onnx.ModelProto, exclude: tuple[str, ...]) -> onnx.ModelProto:
    """Weights and arithmetic in float16; input and output stay float32."""
    import_onnxruntime()
    tool = importlib.import_module("onnxruntime.transformers.float16")
    made = tool.convert_float_to_float16(
        inferred(model), keep_io_types=True, node_block_list=list(exclude)
    )
    return without_notes(made)


def _fits(value: NDArray[np.float32], scheme: str) -> bool:
    """Whether the largest value is inside the type's range."""
    import numpy as np

    return scheme == "bf16" or float(np.abs(value).max()) <= _LARGEST_HALF


def _narrow(name: str, value: NDArray[np.float32], scheme: str) -> onnx.TensorProto:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    if scheme == "fp16":
        return numpy_helper.from_array(value.astype(np.float16), name)
    bits = np.ascontiguousarray(value).view(np.uint32).astype(np.uint64)
    # To nearest, ties to even: what is cut off is compared with half of the last bit kept.
    top = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return helper.make_tensor(name, TensorProto.BFLOAT16, value.shape, top.tobytes(), raw=True)
