"""Common corruptions of images, applied to raw bytes before any preprocessing.

Noise, blur, contrast, brightness and JPEG's block artefacts at three severities, which are the
first, third and fifth of those for 32 x 32 images in the paper's code; blur grows with larger
images. Equal seeds give equal images.

Source: D. Hendrycks and T. Dietterich, "Benchmarking neural network robustness to common
corruptions and perturbations" (2019), arXiv:1903.12261.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

SEVERITIES = (1, 2, 3)
_SMALL_SIDE, _BLOCK = 32, 8
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Table K.1 of ITU-T T.81 (JPEG)."""


def corrupt(
    images: NDArray[np.uint8], corruption: str, severity: int, seed: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Corrupt a batch.

    Args:
        images: uint8 (N, H, W, C).
        corruption: a key of `CORRUPTIONS`.
        severity: 1, 2 or 3.
        seed: of the noise.

    Returns:
        uint8 of the same shape.
    """
    import numpy as np

    made = CORRUPTIONS[corruption](images.astype(np.float32), severity - 1, seed)
    bytes_: NDArray[np.uint8] = np.clip(np.rint(made), 0, 255).astype(np.uint8)
    return bytes_


def _noise(images: Any, level: int, seed: tuple[int, ...]) -> Any:
    import numpy as np

    draw = np.random.default_rng(seed)
    return images + draw.standard_normal(images.shape) * (255 * (0.04, 0.08, 0.10)[level])


def _blur(images: Any, level: int, _: tuple[int, ...]) -> Any:
    """Gaussian, edges repeated."""
    import numpy as np

    sigma = (0.4, 0.7, 1.0)[level] * max(1.0, min(images.shape[1:3]) / _SMALL_SIDE)
    reach = math.ceil(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (1, 2):
        edges = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
        padded = np.pad(images, edges, mode="edge")
        size = images.shape[axis]
        images = sum(
            weight * padded.take(range(at, at + size), axis) for at, weight in enumerate(kernel)
        )
    return images


def _contrast(images: Any, level: int, _: tuple[int, ...]) -> Any:
    mean = images.mean(axis=(1, 2), keepdims=True)
    return (images - mean) * (0.75, 0.4, 0.15)[level] + mean


def _brightness(images: Any, level: int, _: tuple[int, ...]) -> Any:
    return images + 255 * (0.05, 0.15, 0.3)[level]


def _jpeg_blocks(images: Any, level: int, _: tuple[int, ...]) -> Any:
    """JPEG's rounding of 8 x 8 blocks, each channel as luminance: no file format, no chroma."""
    import numpy as np

    quality = (80, 58, 40)[level]
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality  # noqa: PLR2004 - libjpeg's rule
    steps = np.clip(np.floor((np.array(_LUMINANCE) * scale + 50) / 100), 1, 255)
    at = np.arange(_BLOCK)
    basis = np.sqrt(2 / _BLOCK) * np.cos((2 * at + 1) * at[:, None] * np.pi / (2 * _BLOCK))
    basis[0] /= np.sqrt(2)
    count, height, width, channels = images.shape
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    more = (0, rows * _BLOCK - height), (0, columns * _BLOCK - width)
    padded = np.pad(images - 128, ((0, 0), *more, (0, 0)), mode="edge")
    blocks = padded.reshape(count, rows, _BLOCK, columns, _BLOCK, channels)
    blocks = np.moveaxis(blocks, (3, 5), (2, 3))
    rounded = np.rint(basis @ blocks @ basis.T / steps) * steps
    back = np.moveaxis(basis.T @ rounded @ basis, (2, 3), (3, 5))
    return back.reshape(count, rows * _BLOCK, -1, channels)[:, :height, :width] + 128


CORRUPTIONS: dict[str, Callable[[Any, int, tuple[int, ...]], Any]] = {
    "gaussian noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "jpeg blocks": _jpeg_blocks,
}
