"""The newest operator set that the installed ONNX Runtime runs, found by asking it.

ONNX Runtime tells no such number, but it refuses a model that is stamped with an operator set it
does not know. So models of one Identity node are tried, one version after the other. They are made
here, byte by byte, since a device has no `onnx`. Run as `python -m slimline.measure.opset`, which
prints the number.
"""

from __future__ import annotations

import sys

from slimline.contract import BadData
from slimline.measure.runtime import session

_OLDEST, _BEYOND = 13, 200
_IR_VERSION, _FLOAT = 8, 1


def newest_opset() -> int:
    """The version; loads ONNX Runtime.

    Raises:
        BadData: when it runs none of them.
    """
    newest = 0
    for version in range(_OLDEST, _BEYOND):
        try:
            session(identity_model(version))
        except BadData:
            if newest:
                return newest
            raise
        newest = version
    return newest


def identity_model(opset: int) -> bytes:
    """A `ModelProto` that gives back its input, float32 of shape (1); field numbers are ONNX's."""
    tensor = _field(1, _number(1, _FLOAT) + _field(2, _field(1, _number(1, 1))))
    ports = [_field(1, name) + _field(2, tensor) for name in (b"input", b"logits")]
    node = _field(1, b"input") + _field(2, b"logits") + _field(4, b"Identity")
    graph = _field(1, node) + _field(2, b"probe") + _field(11, ports[0]) + _field(12, ports[1])
    return _number(1, _IR_VERSION) + _field(7, graph) + _field(8, _number(2, opset))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf's wire format."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    """A varint field of protobuf's wire format."""
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


if __name__ == "__main__":
    sys.stdout.write(str(newest_opset()))
