"""Find the weights in the bytes of an ONNX file, without any ONNX library.

What is restored must equal the original to the last bit, so a file is never parsed and written
again: the places of its weights are noted, and the same bytes are put back there. A device can do
that with NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.contract import BadData

if TYPE_CHECKING:
    from collections.abc import Iterator

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _RAW_DATA = 1, 2, 9
_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
_MOST_VARINT = 63


@dataclass(frozen=True)
class Weights:
    """The `raw_data` of an initializer: where it lies, and what it holds."""

    at: int
    size: int
    data_type: int
    """`TensorProto.DataType`: 1 float32, 2 uint8, 3 int8, 10 float16, 16 bfloat16, ..."""


def find_weights(model: bytes) -> tuple[Weights, ...]:
    """The initializers that a serialized `ModelProto` keeps as raw data, in the file's order.

    Field numbers are those of onnx.proto3; sub-graphs keep theirs as they are.

    Raises:
        BadData: when the bytes are no protobuf message.
    """
    view = memoryview(model)
    found: list[Weights] = []
    for number, start, end in _fields(view, 0, len(view)):
        if number != _GRAPH:
            continue
        for inner, tensor_start, tensor_end in _fields(view, start, end):
            if inner == _INITIALIZER:
                found += _weights(view, tensor_start, tensor_end)
    return tuple(found)


def _weights(view: memoryview, start: int, end: int) -> list[Weights]:
    data_type, places = 0, []
    for number, at, stop in _fields(view, start, end):
        if number == _DATA_TYPE:
            data_type = _varint(view, at, stop)[0]
        elif number == _RAW_DATA and stop > at:
            places.append((at, stop - at))
    return [Weights(at, size, data_type) for at, size in places]


def _fields(view: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field's content in a message."""
    while at < end:
        key, at = _varint(view, at, end)
        kind = key & 7
        if kind == _VARINT:
            stop = _varint(view, at, end)[1]
        elif kind in (_FOUR_BYTES, _EIGHT_BYTES):
            stop = at + (4 if kind == _FOUR_BYTES else 8)
        elif kind == _SIZED:
            size, at = _varint(view, at, end)
            stop = at + size
        else:
            raise BadData(_NO_MODEL)
        if stop > end:
            raise BadData(_NO_MODEL)
        yield key >> 3, at, stop
        at = stop


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift <= _MOST_VARINT:
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - the last byte's high bit is 0
            return value, at
    raise BadData(_NO_MODEL)


_NO_MODEL = "the bytes are no serialized ONNX model: give a model.onnx that export or quantize made"
