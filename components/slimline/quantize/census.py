"""What a graph stores and computes with: proof that quantizing changed it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.contract import BadData

if TYPE_CHECKING:
    import onnx

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "Attention"})
_INTEGER = frozenset(
    {
        "QLinearConv",
        "QLinearMatMul",
        "QGemm",
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "QAttention",
        "MatMulNBits",
    }
)
_RESTORING = frozenset({"Cast", "DequantizeLinear", "Gather", "GatherElements", "Mul", "Reshape"})
_RESTORING_TOO = frozenset({"Sub", "Transpose"})
_WEIGHT_INPUT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
_WIDE = frozenset({"float32", "float64", "int32", "int64", "bool"})


@dataclass(frozen=True)
class Census:
    """Operators with weights by kind and arithmetic, how they are stored, and bytes by type."""

    integer: dict[str, int]
    floating: dict[str, int]
    """In float arithmetic on float weights."""
    restored: dict[str, int]
    """In float arithmetic on weights that the file keeps in fewer bits."""
    storage: dict[str, int]
    """Operators by the type in which the file keeps their weights."""
    bytes_of: dict[str, int]
    """Bytes of constants by type, wherever in the graph they stand."""

    @property
    def integer_bytes(self) -> int:
        """Bytes of constants of at most 8 bits."""
        return sum(self.bytes_of.get(t, 0) for t in ("int4", "uint4", "int8", "uint8"))

    @property
    def floating_bytes(self) -> int:
        """Bytes of constants of 32 and 64 bits."""
        return sum(self.bytes_of.get(t, 0) for t in ("float32", "float64"))


def census(model: onnx.ModelProto) -> Census:
    """Count. Weights are followed back through what restores them at load."""
    types = {i.name: _type(i) for i in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    integer: Counter[str] = Counter()
    floating: Counter[str] = Counter()
    restored: Counter[str] = Counter()
    storage: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type not in _INTEGER | _WEIGHTED:
            continue
        weight = node.input[_WEIGHT_INPUT.get(node.op_type, 1)]
        stored = _stored_type(weight, types, makers)
        maker = makers.get(weight)
        kind = integer
        if node.op_type not in _INTEGER:
            quantized = maker is not None and maker.op_type == "DequantizeLinear"
            kind = integer if quantized else restored if stored not in _WIDE else floating
        kind[node.op_type] += 1
        storage["int4" if node.op_type == "MatMulNBits" else stored] += 1
    sizes: Counter[str] = Counter()
    for constant in model.graph.initializer:
        sizes[types[constant.name]] += _size(constant)
    parts = (integer, floating, restored, storage, sizes)
    return Census(*(dict(sorted(part.items())) for part in parts))


def check_changed(before: Census, after: Census, scheme: str) -> None:
    """Refuse a result that is the old model under a new name.

    Raises:
        BadData: when no operator became narrower, or no float weight went.
    """
    narrow = after.restored if scheme not in {"int8", "int8-static", "int8-dynamic"} else {}
    if (after.integer or narrow) and after.floating_bytes < before.floating_bytes:
        return
    has = ", ".join(f"{count} {kind}" for kind, count in before.floating.items()) or "none"
    cure = "int8-static takes convolutions" if scheme == "int8-dynamic" else "check exclude"
    does = "computes with integers" if scheme.startswith("int8") else "has narrower weights"
    msg = (
        f"{scheme} changed nothing: no operator {does} now; operators with "
        f"weights: {has}; {cure}, or leave the pass out"
    )
    raise BadData(msg)


def check_smaller(before: int, after: int, *, allow_larger: bool) -> None:
    """Refuse a file that is not smaller, in bytes, unless that is allowed.

    Raises:
        BadData: scales and extra nodes outweigh the weights of a very small network.
    """
    if after < before or allow_larger:
        return
    msg = (
        f"the quantized file has {after} bytes, the float one {before}: scales and extra nodes "
        "outweigh the weights of so small a network; use format qoperator, leave the pass out, "
        "or set allow_larger"
    )
    raise BadData(msg)


def _stored_type(name: str, types: dict[str, str], makers: dict[str, onnx.NodeProto]) -> str:
    """The type of the constant that a weight is restored from, or of no constant: float32."""
    while name not in types:
        maker = makers.get(name)
        if maker is None or maker.op_type not in _RESTORING | _RESTORING_TOO:
            return "float32"
        # A Gather's list comes first, its indices are what is stored for each weight.
        name = maker.input[1] if maker.op_type.startswith("Gather") else maker.input[0]
    return types[name]


def _type(constant: onnx.TensorProto) -> str:
    from onnx import TensorProto

    name = str(TensorProto.DataType.Name(constant.data_type)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _size(constant: onnx.TensorProto) -> int:
    from onnx import helper

    count: int = math.prod(constant.dims)
    if _type(constant) in {"int4", "uint4"}:
        return -(-count // 2)
    width = int(helper.tensor_dtype_to_np_dtype(constant.data_type).itemsize)
    return count * width
