"""Random changes of whole batches at once; the caller seeds torch before each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from torch import Tensor

_IMAGE_BATCH_AXES = 4


def augment(x: Tensor, how: str, batch: int, own: slice) -> Tensor:
    """Change images of a batch (count, channels, height, width).

    What is drawn for an image depends on its place in the batch, not on the process that has it.

    Args:
        x: what `Preprocessing.apply` made, of the images in `own`.
        how: none, shift, or flip_crop; see `FitSettings.augmentation`.
        batch: images in the whole batch, over all processes.
        own: their places in it.
    """
    if how == "none":
        return x
    if x.ndim != _IMAGE_BATCH_AXES:
        msg = f"augmentation {how} is for images, the data has rows: use none"
        raise BadParameters(msg)
    for axis in (2, 3):
        x = _moved(x, axis, batch, own)
    return _mirrored(x, batch, own) if how == "flip_crop" else x


def _moved(x: Tensor, axis: int, batch: int, own: slice) -> Tensor:
    """Each image moved along an axis by up to an eighth, its border repeated."""
    import torch

    size = x.shape[axis]
    most = max(1, size // 8)
    by = torch.randint(-most, most + 1, (batch, 1))[own].to(x.device)
    source = (torch.arange(size, device=x.device) + by).clamp(0, size - 1)
    index = source[:, None, :, None] if axis == 2 else source[:, None, None, :]  # noqa: PLR2004
    return x.gather(axis, index.expand(x.shape))


def _mirrored(x: Tensor, batch: int, own: slice) -> Tensor:
    import torch

    chosen = torch.rand(batch)[own].to(x.device) < 0.5  # noqa: PLR2004 - half of them
    return torch.where(chosen[:, None, None, None], x.flip(-1), x)
