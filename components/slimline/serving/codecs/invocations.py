"""What SageMaker's `/invocations` carries: JSON, NumPy's .npy, or CSV for rows of features."""

from __future__ import annotations

import ast
import struct
from typing import TYPE_CHECKING, Any

from slimline.serving.codecs.arrays import (
    check_batch,
    from_buffer,
    from_lists,
    from_numbers,
    parse_json,
)
from slimline.serving.http import JSON, HttpError, Response, as_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slimline.serving.http import Request
    from slimline.serving.model import Prediction, ServedModel

_NPY_MAGIC = b"\x93NUMPY"
_NPY_LENGTH = {1: "<H", 2: "<I", 3: "<I"}
_LONGEST_NPY_HEADER = 1000


def decode(request: Request, model: ServedModel, max_batch: int) -> NDArray[np.generic]:
    """The raw examples of a request, by its content type."""
    kind = request.header(b"content-type").partition(";")[0].strip().lower() or JSON
    if kind == JSON:
        raw = _json(request.body, model)
    elif kind == "application/x-npy":
        raw = _npy(request.body, model, max_batch)
    elif kind == "text/csv":
        raw = _csv(request.body, model)
    else:
        known = f"{JSON}, application/x-npy, text/csv"
        raise HttpError(415, f"content type {kind!r} is not known; there are: {known}")
    check_batch(raw.shape, model.shape, max_batch, "input")
    return raw


def encode(prediction: Prediction, model: ServedModel) -> Response:
    """One object for each example: label, probabilities and logits."""
    rows = zip(prediction.labels, prediction.probabilities, prediction.logits, strict=True)
    predictions = [{"label": n, "probabilities": p, "logits": x} for n, p, x in rows]
    return as_json(
        {"predictions": predictions, "model_name": model.name, "model_version": model.version}
    )


def _json(body: bytes, model: ServedModel) -> NDArray[np.generic]:
    value: Any = parse_json(body)
    if isinstance(value, dict):
        if "instances" not in value:
            raise HttpError(400, 'the JSON object has no "instances"')
        value = value["instances"]
    return from_lists(value, model.shape, model.dtype, "instances")


def _csv(body: bytes, model: ServedModel) -> NDArray[np.generic]:
    if len(model.shape) != 1:
        raise HttpError(415, "text/csv is for models of feature rows; send JSON or .npy")
    parse = int if model.dtype == "uint8" else float
    try:
        lines = body.decode("ascii").strip().splitlines()
        rows = [[parse(cell) for cell in line.split(",")] for line in lines]
    except ValueError as error:
        raise HttpError(400, f"the body is no CSV of numbers: {error}") from error
    if not rows or any(len(row) != model.shape[0] for row in rows):
        raise HttpError(422, f"each CSV row needs {model.shape[0]} numbers, and no header line")
    flat = [cell for row in rows for cell in row]
    return from_numbers(flat, model.dtype, "csv").reshape(len(rows), *model.shape)


def _npy(body: bytes, model: ServedModel, max_batch: int) -> NDArray[np.generic]:
    """Read .npy without letting its header decide what is allocated."""
    header, start = _npy_header(body)
    shape = check_batch(header.get("shape"), model.shape, max_batch, "npy")
    taken = {"uint8": ("|u1", "<u1"), "float32": ("<f4",)}[model.dtype]
    if header.get("descr") not in taken:
        given = f"{header.get('descr')!r:.40}"
        raise HttpError(422, f"npy: dtype is {given}, the model takes {taken[0]} ({model.dtype})")
    if header.get("fortran_order") is not False:
        raise HttpError(422, "npy: the array is in Fortran order; save np.ascontiguousarray(x)")
    return from_buffer(memoryview(body)[start:], shape, model.dtype, "npy")


def _npy_header(body: bytes) -> tuple[dict[str, Any], int]:
    broken = HttpError(400, "the body is no .npy file: its header cannot be read")
    layout = _NPY_LENGTH.get(body[6]) if len(body) > 12 else None  # noqa: PLR2004 - fixed part
    if not body.startswith(_NPY_MAGIC) or layout is None:
        raise broken
    first = 8 + struct.calcsize(layout)
    (length,) = struct.unpack_from(layout, body, 8)
    if length > _LONGEST_NPY_HEADER or first + length > len(body):
        raise broken
    try:
        header = ast.literal_eval(body[first : first + length].decode("ascii").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise broken from error
    if not isinstance(header, dict):
        raise broken
    return header, first + length
