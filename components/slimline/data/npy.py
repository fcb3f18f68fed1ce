"""Read the header of a .npy member before its data: what it promises is checked, never believed."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_LOCAL_HEADER, _LENGTHS = 30, 26
"""Bytes of a ZIP member's own header before its name; where in it two lengths stand."""
_PIECE = 2**20

DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError, KeyError),
    *(SyntaxError, tokenize.TokenError, TypeError, MemoryError),
)
"""What `zipfile` raises on damage, encryption and methods it does not know, and what numpy lets
through from the Python literal that a header is: TokenError, IndentationError, MemoryError."""


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype; leaves `file` at the first byte of the data.

    Raises:
        ValueError: on a version that is not known, or a size that is no whole number from 0.
    """
    from numpy.lib import format as npy

    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        msg = f"npy version {version} is not known"
        raise ValueError(msg)
    shape, _, dtype = readers[version](file)
    if any(isinstance(n, bool) or n < 0 for n in shape):
        msg = f"a shape of {shape} cannot be"
        raise ValueError(msg)
    return shape, dtype


def map_member(path: Path, name: str) -> NDArray[Any]:
    """An array of an .npz that is not compressed, mapped into memory: what is not read takes none.

    The member is read through once, in pieces, so that its checksum is known to be right.

    Raises:
        ValueError: on an array of objects, one that is compressed, or one that ends early; or what
            else is in `DAMAGE`.
    """
    import numpy as np
    from numpy.lib import format as npy

    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(f"{name}.npy")
        if entry.compress_type != zipfile.ZIP_STORED:
            msg = f"array {name} is compressed"
            raise ValueError(msg)
        with archive.open(entry) as member:
            shape, dtype = read_header(member)
            while member.read(_PIECE):
                pass
    with path.open("rb") as file:
        file.seek(entry.header_offset + _LENGTHS)
        begin = entry.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", file.read(4)))
        file.seek(begin)
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        by_column = read(file)[1]
        start = file.tell()
    if dtype.hasobject or start - begin + math.prod(shape) * dtype.itemsize != entry.file_size:
        msg = f"array {name} of {dtype}{list(shape)} does not fill its {entry.file_size} bytes"
        raise ValueError(msg)
    if 0 in shape:
        return np.empty(shape, dtype)
    order: Any = "F" if by_column else "C"
    return np.memmap(path, dtype, "r", start, shape, order)
