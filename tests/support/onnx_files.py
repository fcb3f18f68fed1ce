"""Small ONNX files written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

FLOAT = TensorProto.FLOAT


def graph_model(
    nodes,
    initialisers,
    *,
    input_shape=("batch", 4),
    output_shape=("batch", 3),
    opset=20,
    input_name="input",
    output_name="logits",
    list_initialisers=False,
) -> onnx.ModelProto:
    """A model of one input and one output."""
    inputs = [helper.make_tensor_value_info(input_name, FLOAT, input_shape)]
    if list_initialisers:
        inputs += [
            helper.make_tensor_value_info(i.name, i.data_type, list(i.dims)) for i in initialisers
        ]
    output = helper.make_tensor_value_info(output_name, FLOAT, output_shape)
    graph = helper.make_graph(nodes, "g", inputs, [output], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 3 if list_initialisers else 10
    return model


def linear_model(features: int = 4, classes: int = 3, **changes) -> onnx.ModelProto:
    """`input @ w`, with weights that are the same in every run."""
    weights = np.random.default_rng(1).standard_normal((features, classes)).astype(np.float32)
    node = helper.make_node(
        "MatMul",
        [changes.get("input_name", "input"), "w"],
        [changes.get("output_name", "logits")],
        name="matmul",
    )
    shapes = {"input_shape": ("batch", features), "output_shape": ("batch", classes)}
    return graph_model([node], [numpy_helper.from_array(weights, "w")], **{**shapes, **changes})


def outside_model(location: str) -> onnx.ModelProto:
    """`linear_model`, with its weights said to lie in another file."""
    model = linear_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return model


def write(model: onnx.ModelProto, path: Path) -> Path:
    """Write without any check."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path
