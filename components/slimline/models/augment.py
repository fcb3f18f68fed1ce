"""Random changes of whole batches at once; the caller seeds torch before each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from torch import Tensor

_IMAGE_BATCH_AXES = 4


def augment(x: Tensor, how: str) -> Tensor:
    """Change a batch of images (batch, channels, height, width).

    Args:
        x: what `Preprocessing.apply` made.
        how: none, shift, or flip_crop; see `FitSettings.augmentation`.
    """
    if how == "none":
        return x
    if x.ndim != _IMAGE_BATCH_AXES:
        msg = f"augmentation {how} is for images, the data has rows: use none"
        raise BadParameters(msg)
    moved = _moved(_moved(x, axis=2), axis=3)
    return _mirrored(moved) if how == "flip_crop" else moved


def _moved(x: Tensor, axis: int) -> Tensor:
    """Each image moved along an axis by up to an eighth, its border repeated."""
    import torch

    size = x.shape[axis]
    most = max(1, size // 8)
    by = torch.randint(-most, most + 1, (len(x), 1)).to(x.device)
    source = (torch.arange(size, device=x.device) + by).clamp(0, size - 1)
    index = source[:, None, :, None] if axis == 2 else source[:, None, None, :]  # noqa: PLR2004
    return x.gather(axis, index.expand(x.shape))


def _mirrored(x: Tensor) -> Tensor:
    import torch

    chosen = torch.rand(len(x)).to(x.device) < 0.5  # noqa: PLR2004 - half of them
    return torch.where(chosen[:, None, None, None], x.flip(-1), x)
