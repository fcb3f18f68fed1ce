"""The Open Inference Protocol, version 2: JSON, and its binary tensor extension both ways.

The input tensor holds raw examples; the server preprocesses them. Outputs are `logits` and
`probabilities` (FP32) and `label` (BYTES).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from slimline.serving.codecs.arrays import (
    check_batch,
    from_buffer,
    from_lists,
    from_numbers,
    parse_json,
)
from slimline.serving.http import HttpError, Response, as_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slimline.serving.http import Request
    from slimline.serving.model import Prediction, ServedModel

DATATYPES = {"uint8": "UINT8", "float32": "FP32"}
INPUT = "input"
OUTPUTS = {"logits": "FP32", "probabilities": "FP32", "label": "BYTES"}
HEADER = b"inference-header-content-length"


@dataclass(frozen=True)
class Wanted:
    """What a request wants back: its id, and each output with True where it is to be binary."""

    id: str | None
    outputs: dict[str, bool]


def metadata(model: ServedModel) -> dict[str, Any]:
    """What `GET /v2/models/{name}` answers."""
    classes = len(model.info.labels)
    shapes = {"logits": [-1, classes], "probabilities": [-1, classes], "label": [-1]}
    datatype = DATATYPES[model.dtype]
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": datatype, "shape": [-1, *model.shape]}],
        "outputs": [{"name": n, "datatype": d, "shape": shapes[n]} for n, d in OUTPUTS.items()],
    }


def decode(
    request: Request, model: ServedModel, max_batch: int
) -> tuple[NDArray[np.generic], Wanted]:
    """The raw examples of a request, and what it wants back."""
    head, rest = _split(request)
    message = parse_json(head)
    if not isinstance(message, dict):
        raise HttpError(400, "the body is no JSON object")
    wanted = _wanted(message)
    tensors = message.get("inputs")
    if not isinstance(tensors, list) or len(tensors) != 1 or not isinstance(tensors[0], dict):
        raise HttpError(400, f'"inputs" must be a list of one tensor, {INPUT!r}')
    return _tensor(tensors[0], rest, model, max_batch), wanted


def encode(prediction: Prediction, model: ServedModel, wanted: Wanted) -> Response:
    """The answer, in JSON, or with the outputs that were asked for so as raw bytes behind it."""
    outputs, blobs = [], []
    for name, binary in wanted.outputs.items():
        values = _values(prediction, name)
        tensor: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name]}
        tensor["shape"] = list(values.shape)
        if binary:
            blobs.append(_bytes(values))
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = values.ravel() if values.dtype == "float32" else values.tolist()
        outputs.append(tensor)
    message: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if wanted.id is not None:
        message["id"] = wanted.id
    answer = as_json({**message, "outputs": outputs})
    if not blobs:
        return answer
    length = str(len(answer.body)).encode()
    body = b"".join([answer.body, *blobs])
    return Response(body, content_type="application/octet-stream", headers=((HEADER, length),))


def _split(request: Request) -> tuple[bytes, memoryview]:
    given = request.header(HEADER)
    if not given:
        return request.body, memoryview(b"")
    if not (given.isascii() and given.isdigit()) or len(given) > 12:  # noqa: PLR2004 - digits
        raise HttpError(400, f"Inference-Header-Content-Length is {given!r:.40}: give a number")
    length, size = int(given), len(request.body)
    if length > size:
        raise HttpError(400, f"Inference-Header-Content-Length is {length}, the body has {size}")
    return request.body[:length], memoryview(request.body)[length:]


def _wanted(message: dict[str, Any]) -> Wanted:
    identity = message.get("id")
    if not isinstance(identity, str | None):
        raise HttpError(400, '"id" must be a string')
    default = _flag(message, "binary_data_output", otherwise=False)
    listed = message.get("outputs")
    if listed is None:
        return Wanted(identity, dict.fromkeys(OUTPUTS, default))
    if not isinstance(listed, list) or not listed:
        raise HttpError(400, '"outputs" must be a list of at least one output')
    outputs: dict[str, bool] = {}
    for item in listed:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or name not in OUTPUTS:
            there = ", ".join(OUTPUTS)
            raise HttpError(422, f"output {name!r:.60} is not known; there are: {there}")
        outputs[name] = _flag(item, "binary_data", otherwise=default)
    return Wanted(identity, outputs)


def _flag(owner: dict[str, Any], name: str, *, otherwise: bool) -> bool:
    value = _parameters(owner).get(name, otherwise)
    if not isinstance(value, bool):
        raise HttpError(400, f"parameter {name} must be true or false")
    return value


def _parameters(owner: dict[str, Any]) -> dict[str, Any]:
    parameters = owner.get("parameters", {})
    if not isinstance(parameters, dict):
        raise HttpError(400, '"parameters" must be an object')
    return parameters


def _tensor(
    tensor: dict[str, Any], rest: memoryview, model: ServedModel, max_batch: int
) -> NDArray[np.generic]:
    if tensor.get("name") != INPUT:
        given = f"{tensor.get('name')!r:.60}"
        raise HttpError(422, f"input {given} is not known; the model takes {INPUT!r}")
    datatype = DATATYPES[model.dtype]
    if tensor.get("datatype") != datatype:
        given = f"{tensor.get('datatype')!r:.60}"
        raise HttpError(422, f"input: datatype is {given}, the model takes {datatype!r}")
    shape = check_batch(tensor.get("shape"), model.shape, max_batch, INPUT)
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        if rest:
            raise HttpError(400, f"{len(rest)} bytes follow the JSON, no input claims them")
        return _data(tensor.get("data"), shape, model)
    if "data" in tensor or type(size) is not int or size != len(rest):
        raise HttpError(
            400, f"binary_data_size is {size!r:.40}, {len(rest)} bytes follow; no data beside it"
        )
    return from_buffer(rest, shape, model.dtype, INPUT)


def _data(data: Any, shape: tuple[int, ...], model: ServedModel) -> NDArray[np.generic]:
    """JSON data, flat in row-major order or nested as its shape says."""
    if not isinstance(data, list):
        raise HttpError(400, 'input: "data" must be a list')
    if data and isinstance(data[0], list):
        if len(data) != shape[0]:
            raise HttpError(422, f"input: {len(data)} examples in data, shape says {shape[0]}")
        return from_lists(data, model.shape, model.dtype, INPUT)
    if len(data) != prod(shape):
        raise HttpError(422, f"input: {len(data)} numbers in data, shape says {prod(shape)}")
    return from_numbers(data, model.dtype, INPUT).reshape(shape)


def _values(prediction: Prediction, name: str) -> NDArray[Any]:
    import numpy as np

    return np.asarray(getattr(prediction, "labels" if name == "label" else name))


def _bytes(values: NDArray[Any]) -> bytes:
    """Little-endian bytes; strings as BYTES: each with its length before it."""
    if values.dtype == "float32":
        data: bytes = values.astype("<f4", copy=False).tobytes()
        return data
    texts = [text.encode() for text in values.tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
