"""What a graph computes with: proof that quantizing changed it."""

from __future__ import annotations

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
    }
)


@dataclass(frozen=True)
class Census:
    """Operators with weights by kind, integer and float, and the bytes of their constants."""

    integer: dict[str, int]
    floating: dict[str, int]
    integer_bytes: int
    floating_bytes: int


def census(model: onnx.ModelProto) -> Census:
    """Count. An operator fed by DequantizeLinear of a constant counts as an integer one."""
    from onnx import TensorProto, numpy_helper

    weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    kinds = {i.name: i.data_type for i in model.graph.initializer}
    small = {TensorProto.INT8, TensorProto.UINT8}
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}
    restored = {
        n.output[0]
        for n in model.graph.node
        if n.op_type == "DequantizeLinear" and kinds.get(n.input[0]) in small
    }
    integer: Counter[str] = Counter()
    floating: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type in _INTEGER or (node.op_type in _WEIGHTED and node.input[1] in restored):
            integer[node.op_type] += 1
        elif node.op_type in _WEIGHTED:
            floating[node.op_type] += 1
    return Census(
        integer=dict(sorted(integer.items())),
        floating=dict(sorted(floating.items())),
        integer_bytes=sum(int(w.nbytes) for n, w in weights.items() if kinds[n] in small),
        floating_bytes=sum(int(w.nbytes) for n, w in weights.items() if kinds[n] in floats),
    )


def check_changed(before: Census, after: Census, scheme: str) -> None:
    """Refuse a result that is the old model under a new name.

    Raises:
        BadData: when no operator became an integer one, or no float weight went.
    """
    if after.integer and after.integer_bytes and after.floating_bytes < before.floating_bytes:
        return
    has = ", ".join(f"{count} {kind}" for kind, count in before.floating.items()) or "none"
    cure = "int8-static takes convolutions" if scheme == "int8-dynamic" else "check exclude"
    msg = (
        f"{scheme} changed nothing: no operator computes with integers now; operators with "
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
        f"the integer file has {after} bytes, the float one {before}: scales and extra nodes "
        "outweigh the weights of so small a network; use format qoperator, leave the pass out, "
        "or set allow_larger"
    )
    raise BadData(msg)
