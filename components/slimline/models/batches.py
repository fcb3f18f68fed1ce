"""The batches of a fit: which examples, how changed, blended with which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.models.augment import Draws, augmented, draw, draw_view, image_size

if TYPE_CHECKING:
    from torch import Tensor

    from slimline.models.settings import FitSettings
    from slimline.models.tensors import Batchable


@dataclass(frozen=True)
class Batch:
    """One process's share of a step's examples."""

    x: Tensor
    """What the network takes."""
    y: Tensor
    """Class indices (examples,), or shares of the classes (examples, classes) where blended."""
    rows: Tensor
    """Places in the training split."""
    views: Tensor
    """Which of its fixed views each example shows; 0 where there are none."""


class Batches:
    """Makes batches of a training split; the caller seeds torch before each."""

    def __init__(self, split: Batchable, settings: FitSettings, classes: int) -> None:
        self.split, self.settings, self.classes = split, settings, classes
        self._views = self._draw_views()

    def make(self, epoch: int, rows: Tensor, share: slice) -> Batch:
        """The batch of a step.

        Args:
            epoch: from 0; it chooses the view.
            rows: of the whole step, over all processes.
            share: places of this process's examples among them.
        """
        import torch

        views = self._views_of(epoch, rows)
        draws = self._draws(rows, views)
        order = torch.randperm(len(rows)) if self.settings.mixup else None
        blend = self._blend() if self.settings.mixup else 1.0
        own = rows[share].to(self.split.y.device)
        x, y = self._inputs(own, draws, share), self.split.y[own]
        if order is not None:
            other = rows[order][share].to(self.split.y.device)
            x = x * blend + self._inputs(other, draws, order[share]) * (1 - blend)
            y = self._blended(y, self.split.y[other], blend)
        return Batch(x, y, own, views[share].to(own.device))

    def _inputs(self, rows: Tensor, draws: Draws | None, places: Tensor | slice) -> Tensor:
        if draws is None:
            return self.split.inputs(rows)
        return augmented(self.split, rows, self.settings.augmentation, draws.of(places))

    def _draws(self, rows: Tensor, views: Tensor) -> Draws | None:
        if self.settings.augmentation == "none":
            return None
        if self._views is not None:
            return self._views.of((views, rows))
        return draw(len(rows), *image_size(self.split))

    def _views_of(self, epoch: int, rows: Tensor) -> Tensor:
        """Neighbours show other views in an epoch; each example shows all of its own in turn."""
        if self._views is None:
            return rows.new_zeros(len(rows))
        return (rows + epoch) % self.settings.augmentation_views

    def _draw_views(self) -> Draws | None:
        import torch

        settings = self.settings
        if settings.augmentation == "none" or not settings.augmentation_views:
            return None
        views = [
            draw_view(self.split, settings.seed, view)
            for view in range(settings.augmentation_views)
        ]
        names = Draws.__dataclass_fields__
        return Draws(*(torch.stack([getattr(v, name) for v in views]) for name in names))

    def _blend(self) -> float:
        from torch.distributions import Beta

        return float(Beta(self.settings.mixup, self.settings.mixup).sample())

    def _blended(self, y: Tensor, other: Tensor, blend: float) -> Tensor:
        """Labels of mixup, Zhang et al. 2017 (arXiv:1710.09412): blended as the inputs are."""
        from torch.nn import functional

        both = [functional.one_hot(part, self.classes).float() for part in (y, other)]
        return both[0] * blend + both[1] * (1 - blend)
