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

    # A new tensor: strides that numpy leaves on an axis of length 1 can look like channels-last,
    # and the exporter would then write a gather where a reshape does.
    example = torch.zeros(sample.shape).copy_(torch.from_numpy(sample))
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (example,),
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
    data: bytes = without_notes(program.model_proto).SerializeToString(deterministic=True)
    return data


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
