"""Read the header of a .npy member before its data: what it promises is checked, never believed."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

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
