"""Look inside a graph: the values of inner tensors, a batch of examples at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.measure.runtime import import_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from slimline.quantize.examples import Stream

_ONLY_FATAL = 4


def inner_values(
    model: onnx.ModelProto, names: Sequence[str], stream: Stream, most: int | None = None
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Run the model and give the named tensors, one dictionary for each batch.

    Args:
        model: with float32 tensors of these names.
        names: tensors, graph inputs too.
        stream: the examples.
        most: stop after this many.
    """
    source = model.graph.input[0].name
    run = _session(model, [name for name in names if name != source])
    for x in stream.batches(most):
        values = dict(zip(run[1], run[0].run(run[1], {source: x}), strict=True)) if run[1] else {}
        yield {name: x if name == source else values[name] for name in names}


def _session(model: onnx.ModelProto, names: Sequence[str]) -> tuple[Any, list[str]]:
    import onnx

    ort = import_onnxruntime()
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    there = {output.name for output in open_model.graph.output}
    for name in sorted(set(names) - there):
        open_model.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ONLY_FATAL
    data = open_model.SerializeToString()
    loaded = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return loaded, sorted(set(names))
