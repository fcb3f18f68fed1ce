"""From an array to few bytes and back: as numbers on a grid, as a table, or as byte planes.

Zeros may be left out first, a mask telling where they were: so pruned weights cost a fraction of a
bit each. Each form is made where it fits, coded by each of the standard library's coders, and the
smallest is kept: Huffman codes of DEFLATE (RFC 1951) without its matches, DEFLATE, or LZMA.
"""

from __future__ import annotations

import lzma
import zlib
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from slimline.contract import BadData

if TYPE_CHECKING:
    from numpy.typing import NDArray

Coder = Literal["stored", "huffman", "deflate", "lzma"]
_LARGEST_LEVEL = 2**15 - 1
_LARGEST_TABLE = 256
_MOST_BETWEEN = 16
"""Levels below the smallest weight that is not zero."""
_LZMA = [{"id": lzma.FILTER_LZMA1, "dict_size": 2**20, "lc": 0, "lp": 0, "pb": 0}]


class Plane(BaseModel):
    """One run of bytes in the body."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coder: Coder
    coded: int = Field(ge=0)
    """Bytes in the body."""
    size: int = Field(ge=0)
    """Bytes when decoded."""


class Stream(BaseModel):
    """How an array is written.

    A `grid` holds whole numbers; the array is their product with `step` in float32. A `table` holds
    the distinct values first, then their places in it. `planes` holds the first bytes of all
    elements, then the second ones, and so on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["grid", "table", "planes"]
    planes: tuple[Plane, ...] = Field(max_length=9)
    step: str = Field("", max_length=40)
    """The float32 as `float.hex` writes it; of a grid alone."""
    zeros_out: bool = False
    """Elements of zero bits are left out; the first plane has a bit for each element: 1 is kept."""


def encode(data: bytes, itemsize: int, *, floats: bool) -> tuple[Stream, bytes]:
    """Write the bytes of an array in the smallest form that restores them exactly.

    Args:
        data: little-endian elements.
        itemsize: bytes of an element: 1, 2, 4 or 8.
        floats: whether they are float32, which may lie on a grid.
    """
    import numpy as np

    elements = np.frombuffer(data, np.uint8).reshape(-1, itemsize)
    made = _encode_elements(elements, floats=floats)
    kept = elements.any(axis=1)
    if not kept.all():
        mask = np.packbits(kept).reshape(1, -1)
        first, bits = _encode_planes(mask, "planes")
        for stream, body in _encode_elements(elements[kept], floats=floats):
            update = {"zeros_out": True, "planes": (*first.planes, *stream.planes)}
            made.append((stream.model_copy(update=update), bits + body))
    return min(made, key=lambda one: len(one[1]))


def decode(stream: Stream, body: memoryview, size: int) -> bytes:
    """Restore the bytes of an array.

    Args:
        stream: what `encode` said.
        body: what it wrote, and maybe more.
        size: how many bytes the array has.

    Raises:
        BadData: when stream and body do not make exactly that many.
    """
    import numpy as np

    if sum(plane.size for plane in stream.planes) > 2 * size + 4 * _LARGEST_TABLE:
        raise BadData(f"coded weights say more than their {size} bytes: fetch them again")
    planes, at = [], 0
    for plane in stream.planes:
        planes.append(np.frombuffer(_inflate(plane, body[at : at + plane.coded]), np.uint8))
        at += plane.coded
    try:
        if stream.zeros_out:
            kept = _FORMS[stream.form](planes[1:], stream)
            restored = _put_zeros(planes[0], kept, size)
        else:
            restored = _FORMS[stream.form](planes, stream)
    except (ValueError, IndexError, TypeError) as error:
        msg = f"coded weights of form {stream.form} are damaged: {error}; fetch them again"
        raise BadData(msg) from error
    if restored.nbytes != size:
        raise BadData(f"coded weights make {restored.nbytes} bytes, not {size}: fetch them again")
    return restored.tobytes()


def _encode_elements(elements: NDArray[Any], *, floats: bool) -> list[tuple[Stream, bytes]]:
    """Every form of an array of elements, a row of bytes each."""
    made = [_encode_planes(elements.T, "planes")]
    if floats and elements.size:
        made += _encode_grid(elements.view("<f4").ravel())
        made += _encode_table(elements.view("<u4").ravel())
    return made


def _put_zeros(mask: NDArray[Any], kept: NDArray[Any], size: int) -> NDArray[Any]:
    """Put elements where the mask has ones."""
    import numpy as np

    where = np.unpackbits(mask).view(bool)
    count = int(where.sum())
    if not count:
        return np.zeros(size, np.uint8)
    item = kept.nbytes // count
    whole = np.zeros((size // item, item), np.uint8)
    whole[where[: len(whole)]] = kept.view(np.uint8).reshape(count, item)
    return whole


def _encode_grid(values: NDArray[Any]) -> list[tuple[Stream, bytes]]:
    found = find_grid(values)
    if found is None:
        return []
    levels, step = found
    width = 1 if abs(levels).max(initial=0) < _LARGEST_TABLE // 2 else 2
    planes = levels.astype(f"<i{width}").view("u1").reshape(-1, width).T
    stream, body = _encode_planes(planes, "grid")
    return [(stream.model_copy(update={"step": float(step).hex()}), body)]


def find_grid(values: NDArray[Any]) -> tuple[NDArray[Any], Any] | None:
    """Whole numbers and the float32 step whose products are exactly these float32 values.

    Returns:
        int64 levels of the same shape and the step; None when the values lie on no such grid.
    """
    import numpy as np

    if not np.isfinite(values).all() or (np.signbit(values) & (values == 0)).any():
        return None
    sizes = np.unique(np.abs(values))
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return np.zeros(values.shape, np.int64), np.float32(1)
    for between in range(1, _MOST_BETWEEN + 1):
        for step in _neighbours(np.float32(sizes[0] / np.float32(between))):
            if step <= 0 or float(sizes[-1]) > _LARGEST_LEVEL * float(step):
                continue
            levels = np.rint(sizes / step).astype(np.float32)
            if np.array_equal(levels * step, sizes):
                return np.rint(values / step).astype(np.int64), step
    return None


def _neighbours(step: Any) -> tuple[Any, ...]:
    """A float32 and the ones next to it: a quotient is rounded, its divisor was another."""
    import numpy as np

    return step, np.nextafter(step, np.float32(np.inf)), np.nextafter(step, np.float32(0))


def _encode_table(bits: NDArray[Any]) -> list[tuple[Stream, bytes]]:
    import numpy as np

    table, places = np.unique(bits, return_inverse=True)
    if len(table) > _LARGEST_TABLE:
        return []
    stream, body = _encode_planes(places.astype(np.uint8).reshape(1, -1), "table")
    first = Plane(coder="stored", coded=4 * len(table), size=4 * len(table))
    planes = (first, *stream.planes)
    return [(Stream(form="table", planes=planes), table.astype("<u4").tobytes() + body)]


def _encode_planes(
    rows: NDArray[Any], form: Literal["grid", "table", "planes"]
) -> tuple[Stream, bytes]:
    planes, body = [], b""
    for row in rows:
        raw = row.tobytes()
        coder, coded = min(((c, _deflate(c, raw)) for c in _CODERS), key=lambda one: len(one[1]))
        planes.append(Plane(coder=coder, coded=len(coded), size=len(raw)))
        body += coded
    return Stream(form=form, planes=tuple(planes)), body


def _decode_planes(planes: list[NDArray[Any]], _: Stream) -> NDArray[Any]:
    import numpy as np

    return np.ascontiguousarray(np.stack(planes, axis=1))


def _decode_grid(planes: list[NDArray[Any]], stream: Stream) -> NDArray[Any]:
    import numpy as np

    step = np.float32(float.fromhex(stream.step))
    if not np.isfinite(step):
        raise ValueError("its step is no number")
    levels = np.ascontiguousarray(np.stack(planes, axis=1)).view(f"<i{len(planes)}").ravel()
    return levels.astype("<f4") * step


def _decode_table(planes: list[NDArray[Any]], _: Stream) -> NDArray[Any]:
    table, places = planes
    chosen: NDArray[Any] = table.view("<u4")[places]
    return chosen


_FORMS = {"planes": _decode_planes, "grid": _decode_grid, "table": _decode_table}
_CODERS: tuple[Coder, ...] = ("huffman", "deflate", "lzma", "stored")


def _deflate(coder: Coder, raw: bytes) -> bytes:
    if coder == "stored":
        return raw
    if coder == "lzma":
        return lzma.compress(raw, format=lzma.FORMAT_RAW, filters=_LZMA)
    strategy = zlib.Z_HUFFMAN_ONLY if coder == "huffman" else zlib.Z_DEFAULT_STRATEGY
    made = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    return made.compress(raw) + made.flush()


def _inflate(plane: Plane, coded: memoryview) -> bytes:
    """Never makes more than the plane says: what comes from outside may be a bomb."""
    try:
        if plane.coder == "stored":
            raw = bytes(coded)
        elif plane.coder == "lzma":
            opened = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA)
            raw = opened.decompress(bytes(coded), plane.size + 1) if plane.size else b""
        else:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            raw = inflater.decompress(coded, plane.size + 1) + inflater.flush()
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise BadData(f"coded weights are damaged: {error}; fetch them again") from error
    if len(raw) != plane.size:
        msg = f"coded weights make {len(raw)} bytes where {plane.size} are said: fetch them again"
        raise BadData(msg)
    return raw
