"""Decode one encoded image at a time into an array of equal images.

Only formats whose decoders are small are allowed, and an image's size is read from its header and
checked before a pixel is decoded: a bomb costs nothing.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.data.sources.raw import too_large

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

    from slimline.data.spec import FolderSource, ParquetSource

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_CHANNELS = {"rgb": 3, "grey": 1}


class ImageArray:
    """Collects decoded images; room for all of them is taken when the first one is known."""

    def __init__(self, spec: FolderSource | ParquetSource, count: int) -> None:
        """Make ready for at most `count` images."""
        if count > spec.max_examples:
            raise too_large("number of images", count, spec.max_examples, "max_examples")
        self._spec, self._count, self._filled = spec, count, 0
        self._x: NDArray[np.uint8] | None = None

    def add(self, encoded: bytes, where: str) -> None:
        """Decode an image and keep it.

        Raises:
            BadData: when it is damaged, too large, or of another size than those before.
        """
        image = decode(encoded, self._spec, where)
        if self._x is None:
            self._x = self._room(image)
        if image.shape != self._x.shape[1:]:
            shapes = f"{image.shape[0]}x{image.shape[1]}, those before it are {self._x.shape[1]}x"
            msg = f"{where} is {shapes}{self._x.shape[2]}: give source.size to resize all to one"
            raise BadData(msg)
        self._x[self._filled] = image
        self._filled += 1

    def array(self) -> NDArray[np.uint8]:
        """All images so far, shape (n, height, width, channels)."""
        import numpy as np

        if self._x is None:
            return np.empty((0, 0, 0, _CHANNELS[self._spec.color]), np.uint8)
        return self._x[: self._filled]

    def _room(self, first: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import numpy as np

        size = first.nbytes * self._count
        if size > self._spec.max_bytes:
            raise too_large("all images in bytes", size, self._spec.max_bytes, "max_mib")
        return np.empty((self._count, *first.shape), np.uint8)


def decode(encoded: bytes, spec: FolderSource | ParquetSource, where: str) -> NDArray[np.uint8]:
    """One image as uint8 (height, width, channels); transparency is dropped.

    Pixels stay as they are stored: an orientation that EXIF asks for is not applied, since nothing
    applies it to what a deployed model is given.

    Raises:
        BadData: names the image and what is wrong with it.
    """
    import numpy as np
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            _check(image, spec.max_side, where)
            plain = image.convert("RGB" if spec.color == "rgb" else "L")
            if spec.size is not None and plain.size != spec.size[::-1]:
                plain = plain.resize(spec.size[::-1], PIL.Image.Resampling.BILINEAR)
            array = np.asarray(plain)
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, struct.error) as e:
        msg = f"{where} is no sound image ({e}): replace or remove it; read are {_FORMATS}"
        raise BadData(msg) from e
    except PIL.Image.DecompressionBombError as e:
        msg = f"{where} is too large an image ({e}): replace or remove it"
        raise BadData(msg) from e
    return array.reshape((*array.shape[:2], _CHANNELS[spec.color]))


def _check(image: PIL.Image.Image, max_side: int, where: str) -> None:
    if max(image.size) > max_side:
        raise too_large(f"{where}: longer side in pixels", max(image.size), max_side, "max_side")
    if image.mode not in _MODES:
        msg = f"{where} has pixels of type {image.mode!r}, not 8 bits a channel: convert it"
        raise BadData(msg)
