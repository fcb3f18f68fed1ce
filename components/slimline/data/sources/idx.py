"""The idx format of MNIST: a header that says type and sizes, then the bytes.

The header is four bytes (0, 0, type code, number of axes) and a big-endian uint32 for each axis:
http://yann.lecun.com/exdb/mnist/. Type code 8 is uint8, the only one that images and labels use.
"""

from __future__ import annotations

import gzip
import io
import lzma
import math
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

from slimline.contract import BadData
from slimline.data.sources.classes import from_indices, numbered
from slimline.data.sources.files import Files
from slimline.data.sources.raw import Part, Raw, join, too_large, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slimline.data.spec import IdxSource

_UINT8 = 8
_SUFFIXES = ("", ".gz", ".xz")
_IMAGE_AXES = (3, 4)


def read_idx(spec: IdxSource) -> Raw:
    """Read the four files, or two where there is no official test part."""
    files = Files(spec.max_bytes)
    train = _part(spec, files, "train", spec.train_images, spec.train_labels)
    test = None
    if spec.test_images is not None and spec.test_labels is not None:
        test = _part(spec, files, "test", spec.test_images, spec.test_labels)
    labels = spec.labels or numbered(train.y, *([test.y] if test else []))
    return join(train, test, labels, files.digest)


def _part(spec: IdxSource, files: Files, part: str, images: str, labels: str) -> Part:
    x = _array(spec, files, images, f"{part}_images", _IMAGE_AXES)
    y = _array(spec, files, labels, f"{part}_labels", (1,))
    if len(x) != len(y):
        msg = f"{images} has {len(x)} images, {labels} has {len(y)} labels: they do not belong"
        raise BadData(f"{msg} together; give the pair of one part")
    if x.ndim == _IMAGE_AXES[0]:
        x = x[..., None]
    return whole(x, from_indices(y, spec.labels, labels))


def _array(
    spec: IdxSource, files: Files, name: str, parameter: str, axes: tuple[int, ...]
) -> NDArray[np.uint8]:
    """One idx file; no more is decompressed than its header names, and a byte to see the end."""
    import numpy as np

    data = files.read(spec.path, name, parameter, _SUFFIXES)
    try:
        stream = _decompressed(data)
        shape = _header(stream, name, axes)
        if shape[0] > spec.max_examples:
            raise too_large(
                f"{name}: number of examples", shape[0], spec.max_examples, "max_examples"
            )
        size = math.prod(shape)
        if size > spec.max_bytes:
            raise too_large(f"{name}: size in bytes", size, spec.max_bytes, "max_mib")
        body = stream.read(size + 1)
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        msg = f"{name} is damaged ({error}): fetch it again"
        raise BadData(msg) from error
    if len(body) != size:
        held = "more" if len(body) > size else str(len(body))
        msg = f"{name}: its header says {size} bytes {list(shape)}, it holds {held}: fetch it again"
        raise BadData(msg)
    return np.frombuffer(body, np.uint8).reshape(shape)


def _decompressed(data: bytes) -> BinaryIO:
    """What compression it has is told by its first bytes, not by its name."""
    if data[:2] == b"\x1f\x8b":
        return cast("BinaryIO", gzip.GzipFile(fileobj=io.BytesIO(data)))
    if data[:6] == b"\xfd7zXZ\x00":
        return cast("BinaryIO", lzma.LZMAFile(io.BytesIO(data)))
    return io.BytesIO(data)


def _header(stream: BinaryIO, name: str, axes: tuple[int, ...]) -> tuple[int, ...]:
    head = stream.read(4)
    if len(head) != 4 or head[:2] != b"\x00\x00":  # noqa: PLR2004 - the format's magic number
        msg = f"{name} is no idx file: it starts with {head!r}; give an idx file, plain, .gz or .xz"
        raise BadData(msg)
    kind, count = head[2], head[3]
    if kind != _UINT8 or count not in axes:
        wanted = " or ".join(str(a) for a in axes)
        msg = f"{name} has type {kind:#04x} and {count} axes: must be uint8 (0x08) and {wanted}"
        raise BadData(msg)
    sizes = stream.read(4 * count)
    if len(sizes) != 4 * count:
        msg = f"{name} ends in its header: fetch it again"
        raise BadData(msg)
    return struct.unpack(f">{count}I", sizes)
