"""Random changes of images, drawn first and done to a whole batch at once.

What is drawn for an image depends on the seed of its step and its place in the batch, or, where
each image has a fixed number of views, on (seed, image, view) alone. It never depends on which
process has the image.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.contract import BadParameters

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from slimline.models.tensors import Batchable


def derived_seed(*parts: int | str) -> int:
    """A seed that depends on all of the parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) % 2**63


@dataclass(frozen=True)
class Draws:
    """What was drawn for each of some images, all (images,)."""

    down: Tensor
    """Pixels by which it moves."""
    across: Tensor
    mirrored: Tensor
    hole_down: Tensor
    """Centre of the square that is blanked, as a share of the image."""
    hole_across: Tensor

    def of(self, rows: Tensor | slice | tuple[Tensor, Tensor]) -> Draws:
        """Those of some of the images."""
        return Draws(*(getattr(self, name)[rows] for name in Draws.__dataclass_fields__))


def draw(count: int, height: int, width: int, generators: list[Generator] | None = None) -> Draws:
    """Draw for a number of images, whatever of it the augmentation then uses.

    Args:
        count: images.
        height: of an image.
        width: of an image.
        generators: one for each attribute, so that no draw depends on `count`; torch's own if none.
    """
    import torch

    own = generators or [torch.default_generator] * 5
    moves = [
        torch.randint(-most, most + 1, (count,), generator=g)
        for most, g in zip((max(1, height // 8), max(1, width // 8)), own, strict=False)
    ]
    mirrored = torch.rand(count, generator=own[2]) < 0.5  # noqa: PLR2004 - half of them
    centres = [torch.rand(count, generator=g) for g in own[3:]]
    return Draws(moves[0], moves[1], mirrored, centres[0], centres[1])


def draw_view(split: Batchable, seed: int, view: int) -> Draws:
    """Draw one of the fixed views of every image of a split."""
    import torch

    height, width = image_size(split)
    generators = [
        torch.Generator().manual_seed(derived_seed(seed, "view", view, attribute))
        for attribute in Draws.__dataclass_fields__
    ]
    return draw(len(split), height, width, generators)


def image_size(split: Batchable) -> tuple[int, int]:
    """Height and width of the images of a split.

    Raises:
        BadParameters: when its examples are rows.
    """
    if not split.is_images:
        msg = "augmentation is for images, the data has rows: use none"
        raise BadParameters(msg)
    shape = split.raw.shape[1:]
    return (shape[0], shape[1]) if split.preprocessing is not None else (shape[1], shape[2])


def augmented(split: Batchable, rows: Tensor, how: str, draws: Draws) -> Tensor:
    """What a network takes of some images, changed.

    Args:
        split: the training split.
        rows: which images.
        how: shift, flip_crop or cutout; see `FitSettings.augmentation`.
        draws: of these images.
    """
    height, width = image_size(split)
    down = _sources(draws.down, height).to(rows.device)
    across = _sources(draws.across, width)
    if how != "shift":
        across[draws.mirrored] = across[draws.mirrored].flip(1)
    x = split.inputs(rows, (down, across.to(rows.device)))
    return _blanked(x, draws) if how == "cutout" else x


def _sources(by: Tensor, size: int) -> Tensor:
    """The line of the image that each line shows; the border is repeated."""
    import torch

    return (torch.arange(size) + by[:, None]).clamp(0, size - 1)


def _blanked(x: Tensor, draws: Draws) -> Tensor:
    """Cutout, DeVries and Taylor 2017 (arXiv:1708.04552): a square of a half of the image is 0.

    Its centre lies anywhere in the image, so part of it may lie outside; after normalisation 0 is
    the mean.
    """
    inside = []
    for axis, centre in ((2, draws.hole_down), (3, draws.hole_across)):
        size = x.shape[axis]
        inside.append(_near(centre, size, size // 4).to(x.device))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return x.masked_fill_(hole, 0.0)


def _near(centre: Tensor, size: int, reach: int) -> Tensor:
    import torch

    middle = (centre * size).long()
    return (torch.arange(size) - middle[:, None]).abs() < max(1, reach)
