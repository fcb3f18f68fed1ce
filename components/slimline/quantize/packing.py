"""Narrow tensors in the file, restored when the model is loaded.

ONNX Runtime folds constants once, at load, but never a DequantizeLinear: a weight stored that way
is restored in every call and the model runs slower than the float one. So codes are restored by
Cast, Mul and Gather, which it does fold: four bits in the file, and int8 or float operators at
their full speed (measured; onnxruntime 1.31).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray

NARROW_OPSET = 21
"""Cast and QuantizeLinear know 4-bit integers since then."""
_LEAST_IR = 10
_LOW, _HIGH = -8, 7


def with_narrow_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of at least opset 21, which has 4-bit integers."""
    import onnx
    from onnx import version_converter

    version = next(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"})
    if version < NARROW_OPSET:
        return inferred(version_converter.convert_version(model, NARROW_OPSET))
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = max(copy.ir_version, _LEAST_IR)
    return copy


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose inner shapes are those that its operators and constants give."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    bare.ir_version = max(bare.ir_version, _LEAST_IR)
    return onnx.shape_inference.infer_shapes(bare)


def nibbles(name: str, codes: NDArray[np.int64], *, signed: bool) -> onnx.TensorProto:
    """A tensor of INT4 (codes -8..7) or UINT4 (0..15), two in a byte, the first one low."""
    import numpy as np
    from onnx import TensorProto, helper

    flat = codes.reshape(-1).astype(np.int64) & 0xF
    padded = np.append(flat, 0) if len(flat) % 2 else flat
    packed = (padded[0::2] | padded[1::2] << 4).astype(np.uint8).tobytes()
    kind = TensorProto.INT4 if signed else TensorProto.UINT4
    return helper.make_tensor(name, kind, codes.shape, packed, raw=True)


def pack_int4(model: onnx.ModelProto, weights: Collection[str]) -> tuple[onnx.ModelProto, int]:
    """Store the int8 form of these weights in 4 bits wherever it needs no more.

    Returns:
        The new model, and how many weights were packed.
    """
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    packed = onnx.ModelProto()
    packed.CopyFrom(model)
    wanted = {f"{name}_quantized" for name in weights}
    kept, casts = [], []
    for constant in packed.graph.initializer:
        codes = numpy_helper.to_array(constant) if constant.name in wanted else None
        if codes is None or codes.min() < _LOW or codes.max() > _HIGH:
            kept.append(constant)
            continue
        narrow = f"{constant.name}_int4"
        kept.append(nibbles(narrow, codes.astype(np.int64), signed=True))
        casts.append(helper.make_node("Cast", [narrow], [constant.name], to=TensorProto.INT8))
    replace_nodes(packed, kept, [*casts, *packed.graph.node])
    return packed, len(casts)


def replace_nodes(
    model: onnx.ModelProto,
    constants: Sequence[onnx.TensorProto],
    nodes: Sequence[onnx.NodeProto],
) -> None:
    """Give a graph other constants and nodes, in place."""
    constants, nodes = list(constants), list(nodes)
    copies = [type(c).FromString(c.SerializeToString()) for c in constants]
    node_copies = [type(n).FromString(n.SerializeToString()) for n in nodes]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(copies)
    model.graph.node.extend(node_copies)
