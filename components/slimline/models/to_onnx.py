"""From a torch module to the bytes of an ONNX file that are the same in every run."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.models.onnx_graph import without_notes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import onnx
    import torch
    from numpy.typing import NDArray


def to_onnx(
    module: torch.nn.Module, sample: NDArray[np.float32], opset: int, *, dynamic_batch: bool = True
) -> bytes:
    """Export with torch's own exporter: input `input`, output `logits`.

    Args:
        module: in evaluation mode.
        sample: two inputs; a batch of one would be taken for a constant.
        opset: version of the ONNX operators.
        dynamic_batch: any number of examples in a call; else always one, and every shape is fixed.

    Raises:
        BadData: when torch.export cannot trace the network; says why.
    """
    import torch

    # A new tensor: strides that numpy leaves on an axis of length 1 can look like channels-last,
    # and the exporter would then write a gather where a reshape does.
    example = torch.zeros(sample.shape).copy_(torch.from_numpy(sample))
    example = example if dynamic_batch else example[:1].clone()
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},) if dynamic_batch else None,
                input_names=["input"],
                output_names=["logits"],
                opset_version=opset,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        batch, cure = "a batch of one", "write its forward without branches on data"
        if dynamic_batch:
            batch = "a dynamic batch"
            cure += " and without a fixed batch, or set dynamic_batch to false"
        msg = f"torch cannot export {type(module).__name__} with {batch}: {cause}; {cure}"
        raise BadData(msg) from error
    assert program is not None  # noqa: S101 - dynamo=True returns a program
    made = without_notes(program.model_proto)
    _clear_negative_zeros(made)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def _clear_negative_zeros(model: onnx.ModelProto) -> None:
    """Pruned weights are 0 times what they were, some of them -0: equal, but of other bits."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    for constant in model.graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(constant)
            if (np.signbit(values) & (values == 0)).any():
                constant.CopyFrom(numpy_helper.from_array(values + np.float32(0), constant.name))


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
