"""One file with a coded model: a header, the model without its weights, the weights.

SLMC, version (1 byte), size of the header (4 bytes, big-endian), header (JSON), body
"""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slimline.coding import streams
from slimline.coding.streams import Stream
from slimline.coding.tensors import find_weights
from slimline.contract import BadData

MAGIC = b"SLMC\x01"
_SIZE_BYTES = 4
_MOST_HEADER = 2**24
_ITEM_SIZES = {1: 4, 5: 2, 4: 2, 6: 4, 7: 8, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""By `TensorProto.DataType`; all others are coded byte by byte."""
_FLOAT = 1
_LEAST = 64
"""Bytes; smaller weights stay where they are."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at: int = Field(ge=0)
    size: int = Field(ge=1)
    stream: Stream


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rest: Stream
    """What lies between the weights, put together."""
    weights: tuple[_Part, ...]


def encode_model(model: bytes) -> bytes:
    """Code a serialized ONNX model so that `decode_model` gives back the same bytes.

    Nothing is lost: small are weights that were brought to few levels before (`quantize`, schemes
    step, kmeans, int8; pruned ones), since those are what was validated.

    Raises:
        BadData: when the bytes are no model.
    """
    parts, bodies, rest, at = [], [], [], 0
    for found in find_weights(model):
        if found.size < _LEAST:
            continue
        item = _ITEM_SIZES.get(found.data_type, 1)
        item = item if found.size % item == 0 else 1
        raw = model[found.at : found.at + found.size]
        stream, body = streams.encode(raw, item, floats=found.data_type == _FLOAT and item > 1)
        parts.append(_Part(at=found.at, size=found.size, stream=stream))
        bodies.append(body)
        rest.append(model[at : found.at])
        at = found.at + found.size
    between, first = streams.encode(b"".join([*rest, model[at:]]), 1, floats=False)
    header = _Header(
        size=len(model),
        sha256=hashlib.sha256(model).hexdigest(),
        rest=between,
        weights=tuple(parts),
    )
    said = header.model_dump_json().encode()
    told, coded = streams.encode(said, 1, floats=False)
    opening = told.model_dump_json().encode() + b"\n" + coded
    sizes = len(opening).to_bytes(_SIZE_BYTES)
    return b"".join([MAGIC, sizes, opening, first, *bodies])


def decode_model(coded: bytes, most_bytes: int) -> bytes:
    """Restore the model, bit for bit; its sha256 was checked when this returns.

    Args:
        coded: what `encode_model` gave; hostile until checked.
        most_bytes: how large the model may be at most.

    Raises:
        BadData: when it is damaged, or larger.
    """
    header, body = _read(coded)
    if header.size > most_bytes:
        msg = f"the coded model makes {header.size} bytes, at most {most_bytes} are expected"
        raise BadData(msg)
    rest_size = header.size - sum(part.size for part in header.weights)
    rest, at = streams.decode(header.rest, body, rest_size), _length(header.rest)
    pieces, used, end = [], 0, 0
    for part in header.weights:
        gap = part.at - end
        raw = streams.decode(part.stream, body[at:], part.size)
        pieces += [rest[used : used + gap], raw]
        used, end, at = used + gap, part.at + part.size, at + _length(part.stream)
    model = b"".join([*pieces, rest[used:]])
    if hashlib.sha256(model).hexdigest() != header.sha256:
        raise BadData("the coded model does not make the bytes it was made of: fetch it again")
    return model


def _read(coded: bytes) -> tuple[_Header, memoryview]:
    start = len(MAGIC) + _SIZE_BYTES
    if coded[: len(MAGIC)] != MAGIC or len(coded) < start:
        raise BadData("this is no coded model: it does not begin with SLMC and version 1")
    size = int.from_bytes(coded[len(MAGIC) : start])
    told, _, opening = coded[start : start + size].partition(b"\n")
    try:
        stream = Stream.model_validate_json(told)
        said = sum(plane.size for plane in stream.planes)
        if said > _MOST_HEADER:
            raise BadData(f"the coded model's header has {said} bytes: that is none of ours")
        header = _Header.model_validate_json(streams.decode(stream, memoryview(opening), said))
    except ValidationError as error:
        raise BadData(f"the coded model's header cannot be read: {error}") from error
    return header, memoryview(coded)[start + size :]


def _length(stream: Stream) -> int:
    return sum(plane.coded for plane in stream.planes)
