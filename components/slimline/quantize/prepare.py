"""Bring a float graph into the form that ONNX Runtime's quantizer takes."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadParameters
from slimline.measure.runtime import import_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

_IMAGE_RANK = 4
_PAD_VALUE = _BIAS = 2


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and batch norms, infer shapes, make means over images poolings.

    The quantizer has an integer average pooling but no integer ReduceMean, which is what exporters
    write for it; left alone it would put a float island before every classifier.
    """
    import onnx

    import_onnxruntime()
    tool = importlib.import_module("onnxruntime.quantization.shape_inference")
    with tempfile.TemporaryDirectory(prefix="slimline-") as directory:
        start, end = Path(directory) / "start.onnx", Path(directory) / "end.onnx"
        onnx.save(_means_as_pooling(model), start)
        tool.quant_pre_process(str(start), str(end), skip_symbolic_shape=True)
        return _own_names(_own_biases(_own_pad_values(onnx.load(end))))


def check_excluded(model: onnx.ModelProto, exclude: Iterable[str]) -> None:
    """Refuse names that no node has: the quantizer would pass over them in silence.

    Raises:
        BadParameters: lists the nodes that have weights.
    """
    names = {node.name for node in model.graph.node}
    weighted = [n.name for n in model.graph.node if n.op_type in {"Conv", "Gemm", "MatMul"}]
    for name in exclude:
        if name not in names:
            msg = f"exclude: no node is called {name!r}; those with weights are: " + (
                ", ".join(weighted)
            )
            raise BadParameters(msg)


def _means_as_pooling(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx
    from onnx import numpy_helper

    known = onnx.shape_inference.infer_shapes(model)
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in _values(known.graph)}
    constants = {i.name: i for i in known.graph.initializer}
    for node in known.graph.node:
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != _IMAGE_RANK:
            continue
        keep = {a.name: a.i for a in node.attribute if a.name == "keepdims"}.get("keepdims", 1)
        axes = [list(a.ints) for a in node.attribute if a.name == "axes"]
        axes += [
            numpy_helper.to_array(constants[i]).tolist() for i in node.input[1:] if i in constants
        ]
        if keep and axes and sorted(a % _IMAGE_RANK for a in axes[0]) == [2, 3]:
            node.op_type = "GlobalAveragePool"
            del node.attribute[:], node.input[1:]
    return known


def _own_biases(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give each layer its own bias: exporters share equal ones, and correction changes them."""
    own = type(model)()
    own.CopyFrom(model)
    constants = {i.name: i for i in own.graph.initializer}
    seen = set()
    for index, node in enumerate(own.graph.node):
        if node.op_type not in {"Conv", "Gemm"} or len(node.input) <= _BIAS:
            continue
        name = node.input[_BIAS]
        if name in seen and name in constants:
            node.input[_BIAS] = f"{name}_{index}"
            own.graph.initializer.add().CopyFrom(constants[name])
            own.graph.initializer[-1].name = node.input[_BIAS]
        seen.add(name)
    return own


def _own_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give each node a name of its own: files need not have any, and layers are told by theirs."""
    named = type(model)()
    named.CopyFrom(model)
    taken = {""}
    for index, node in enumerate(named.graph.node):
        if node.name in taken:
            node.name = f"{node.op_type}_{index}"
            while node.name in taken:
                node.name += "_"
        taken.add(node.name)
    return named


def _own_pad_values(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give each Pad its own fill value: the quantizer deletes a shared one after the first Pad."""
    own = type(model)()
    own.CopyFrom(model)
    constants = {i.name: i for i in own.graph.initializer}
    for index, node in enumerate(own.graph.node):
        if node.op_type == "Pad" and len(node.input) > _PAD_VALUE and node.input[_PAD_VALUE]:
            value = constants.get(node.input[_PAD_VALUE])
            if value is not None:
                node.input[_PAD_VALUE] = f"pad_value_{index}"
                own.graph.initializer.add().CopyFrom(value)
                own.graph.initializer[-1].name = node.input[_PAD_VALUE]
    return own


def _values(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    return [*graph.input, *graph.value_info, *graph.output]
