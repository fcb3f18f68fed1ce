"""The operators that hold constant weights, and each weight as a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import onnx
    from numpy.typing import NDArray

_KINDS = ("Conv", "Gemm", "MatMul")
_CONV_INPUTS = 3


@dataclass(frozen=True)
class Layer:
    """A Conv, Gemm or MatMul whose weight is a float constant that it alone uses."""

    name: str
    kind: str
    weight: str
    bias: str
    """Name of the bias, or "" where there is none."""
    source: str
    """Tensor that it reads."""
    target: str
    """Tensor that it writes."""
    shape: tuple[int, ...]
    groups: int
    transposed: bool
    """Rows of the stored weight are outputs: Conv, and Gemm with transB."""

    @property
    def axis(self) -> int:
        """The axis of the stored weight that counts output channels."""
        return 0 if self.transposed else len(self.shape) - 1

    def matrix(self, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """The stored weight as (outputs, inputs), a row for each output channel."""
        import numpy as np

        rows = weight if self.transposed else np.moveaxis(weight, -1, 0)
        return np.ascontiguousarray(rows.reshape(self.shape[self.axis], -1))

    def stored(self, matrix: NDArray[np.generic]) -> NDArray[np.generic]:
        """Back from (outputs, inputs) to the shape in the file."""
        import numpy as np

        if self.transposed:
            return np.ascontiguousarray(matrix.reshape(self.shape))
        return np.ascontiguousarray(matrix.T.reshape(self.shape))


def find_layers(model: onnx.ModelProto) -> tuple[list[Layer], dict[str, str]]:
    """The layers in the order of the graph, and for each operator left alone the reason."""
    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    users: dict[str, int] = {}
    for name in _read(graph):
        users[name] = users.get(name, 0) + 1
    layers, alone = [], {}
    for node in graph.node:
        if node.op_type not in _KINDS:
            continue
        weight = constants.get(node.input[1])
        reason = _reason(node, weight, users)
        if reason or weight is None:
            alone[node.name] = reason
        else:
            layers.append(_layer(node, tuple(weight.dims), constants))
    return layers, alone


def _read(graph: onnx.GraphProto) -> Iterator[str]:
    """Every tensor that an operator reads, in branches and loops too."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _read(inner)


def _reason(node: onnx.NodeProto, weight: onnx.TensorProto | None, users: dict[str, int]) -> str:
    """Why an operator is left alone; "" when it is not."""
    from onnx import TensorProto

    if weight is None:
        return "its second input is no constant"
    if weight.data_type != TensorProto.FLOAT:
        return "its weight is not float32"
    if users[weight.name] > 1:
        return "its weight is shared with another operator"
    if node.op_type != "Conv" and len(weight.dims) != 2:  # noqa: PLR2004 - a matrix
        return f"its weight has {len(weight.dims)} axes"
    if node.op_type == "Gemm" and not _plain_gemm(node):
        return "it scales or transposes its input (alpha, beta, transA)"
    return ""


def _layer(node: onnx.NodeProto, shape: tuple[int, ...], constants: dict[str, object]) -> Layer:
    attributes = {a.name: a.i for a in node.attribute}
    has_bias = len(node.input) == _CONV_INPUTS and node.input[2] in constants
    return Layer(
        name=node.name,
        kind=node.op_type,
        weight=node.input[1],
        bias=node.input[2] if has_bias else "",
        source=node.input[0],
        target=node.output[0],
        shape=shape,
        groups=attributes.get("group", 1) if node.op_type == "Conv" else 1,
        transposed=node.op_type == "Conv" or bool(attributes.get("transB", 0)),
    )


def _plain_gemm(node: onnx.NodeProto) -> bool:
    attributes = {a.name: a for a in node.attribute}
    scales = [attributes[n].f for n in ("alpha", "beta") if n in attributes]
    return all(s == 1.0 for s in scales) and not ("transA" in attributes and attributes["transA"].i)


def weights_of(model: onnx.ModelProto, layers: list[Layer]) -> dict[str, NDArray[np.float32]]:
    """The stored weight of each layer, by the name of the weight."""
    from onnx import numpy_helper

    wanted = {layer.weight for layer in layers}
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer if i.name in wanted}


def with_constants(
    model: onnx.ModelProto, values: dict[str, NDArray[np.generic]]
) -> onnx.ModelProto:
    """A copy in which constants have other values; a name that is new is added."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    left = dict(values)
    for constant in copy.graph.initializer:
        if constant.name in left:
            value = np.ascontiguousarray(left.pop(constant.name))
            constant.CopyFrom(numpy_helper.from_array(value, constant.name))
    for name, value in left.items():
        copy.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return copy
