"""From a torch module to the bytes of an ONNX file that are the same in every run."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import onnx
    import torch
    from numpy.typing import NDArray


def to_onnx(module: torch.nn.Module, sample: NDArray[np.float32], opset: int) -> bytes:
    """Export with torch's own exporter: input `input`, output `logits`, the batch dynamic.

    Args:
        module: in evaluation mode.
        sample: two inputs; a batch of one would be taken for a constant.
        opset: version of the ONNX operators.

    Raises:
        BadData: when torch.export cannot trace the network; says why.
    """
    import torch

    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (torch.from_numpy(sample),),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["input"],
                output_names=["logits"],
                opset_version=opset,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        msg = (
            f"torch cannot export {type(module).__name__} with a dynamic batch: {cause}; "
            "write its forward without branches on data and without a fixed batch"
        )
        raise BadData(msg) from error
    assert program is not None  # noqa: S101 - dynamo=True returns a program
    data: bytes = strip(program.model_proto).SerializeToString(deterministic=True)
    return data


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without notes: source paths and stack traces differ between machines and leak them."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    _clear(bare)
    _clear_graph(bare.graph)
    for function in bare.functions:
        _clear(function)
        for node in function.node:
            _clear_node(node)
    return bare


def _clear(message: Any) -> None:
    message.doc_string = ""
    del message.metadata_props[:]


def _clear_graph(graph: onnx.GraphProto) -> None:
    _clear(graph)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        _clear(value)
    for node in graph.node:
        _clear_node(node)


def _clear_node(node: onnx.NodeProto) -> None:
    _clear(node)
    for attribute in node.attribute:
        attribute.doc_string = ""
        for graph in (attribute.g, *attribute.graphs):
            if graph.node:
                _clear_graph(graph)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on libraries that are not installed out of the log."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
