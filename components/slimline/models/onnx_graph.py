"""Small changes of ONNX graphs: names, notes, the batch; each gives back a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

INPUT, OUTPUT, BATCH = "input", "logits", "batch"

_LEAST_IR = 8
"""Before 4, initialisers had to be graph inputs as well; 8 came with opset 15."""


def outside_files(model: onnx.ModelProto) -> list[str]:
    """The places outside the file that any tensor in it names, at any depth."""
    from onnx import TensorProto

    found = []
    for message in _messages(model):
        if isinstance(message, TensorProto) and (
            message.external_data or message.data_location == TensorProto.EXTERNAL
        ):
            places = [e.value for e in message.external_data if e.key == "location"]
            found.append(places[0] if places else "(unnamed)")
    return found


def without_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without doc strings and metadata: source paths and stack traces differ between machines."""
    bare = _copy(model)
    for message in _messages(bare):
        known = message.DESCRIPTOR.fields_by_name
        for note in ("doc_string", "metadata_props"):
            if note in known:
                message.ClearField(note)
    return bare


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller gives; older files list their initialisers as well."""
    constant = {i.name for i in graph.initializer}
    return [i for i in graph.input if i.name not in constant]


def name_ports(model: onnx.ModelProto) -> onnx.ModelProto:
    """The one input becomes `input`, the one output `logits`; initialisers are no inputs."""
    named = _copy(model)
    graph = named.graph
    inputs, outputs = real_inputs(graph), list(graph.output)
    del graph.input[:]
    graph.input.extend(inputs)
    named.ir_version = max(named.ir_version, _LEAST_IR)
    wanted = {inputs[0].name: INPUT, outputs[0].name: OUTPUT}
    for taken in (INPUT, OUTPUT):
        if taken not in wanted:
            wanted[taken] = f"{taken}__inner"
    for message in _messages(named):
        _rename(message, wanted)
    return named


def make_batch_dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """The first axis of input and output becomes `batch`, also where a Reshape had it fixed."""
    free = _copy(model)
    graph = free.graph
    size = _first(graph.input[0]).dim_value
    del graph.value_info[:]
    _first(graph.input[0]).dim_param = BATCH
    if graph.output[0].type.tensor_type.shape.dim:
        _first(graph.output[0]).dim_param = BATCH
    if size:
        _free_reshapes(graph, size)
    return free


def _free_reshapes(graph: onnx.GraphProto, size: int) -> None:
    """Let a Reshape to a constant shape that begins with the old batch keep the batch it gets."""
    import numpy as np
    from onnx import numpy_helper

    constants = {i.name: i for i in graph.initializer}
    made = {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant"}
    for index, node in enumerate(graph.node):
        shape = constants.get(node.input[1]) or made.get(node.input[1]) if _reshapes(node) else None
        if shape is None or node.input[0] in constants:
            continue
        sizes = numpy_helper.to_array(shape).tolist()
        if sizes and sizes[0] == size:
            # -1 is sure where it is free; 0 copies the batch of the Reshape's input.
            sizes[0] = 0 if -1 in sizes else -1
            name = f"{BATCH}_free_{index}"
            graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), name))
            node.input[1] = name


def _reshapes(node: onnx.NodeProto) -> bool:
    return node.op_type == "Reshape" and not any(
        a.name == "allowzero" and a.i for a in node.attribute
    )


def _first(value: onnx.ValueInfoProto) -> Any:
    return value.type.tensor_type.shape.dim[0]


def _rename(message: Any, wanted: dict[str, str]) -> None:
    from onnx import NodeProto, TensorProto, ValueInfoProto

    if isinstance(message, NodeProto):
        for names in (message.input, message.output):
            names[:] = [wanted.get(name, name) for name in names]
    elif isinstance(message, (TensorProto, ValueInfoProto)):
        message.name = wanted.get(message.name, message.name)


def _messages(message: Any) -> Iterator[Any]:
    """A message and all those in it, each before its parts."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, "__len__") else (value,):
                yield from _messages(part)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
