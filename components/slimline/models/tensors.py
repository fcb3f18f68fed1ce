"""From a dataset to batches, through the model's own preprocessing.

Examples stay as they are stored (bytes of images stay bytes, and mapped files stay on disk); what a
network takes is made of them batch by batch, so a dataset never lies in memory as float32.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData
from slimline.data.preprocess import Normalize, Preprocessing, Scale, ToNCHW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from slimline.data.dataset import Examples
    from slimline.data.preprocess import Step
    from slimline.models.info import ModelInfo

_IMAGE_AXES = 3
_PIECE = 1024
"""Examples that are looked at together."""


@dataclass(frozen=True)
class Batchable:
    """A split of which batches are made: `y` int64 (count,), and its examples.

    With a preprocessing, `raw` holds raw examples (count, ...), images with their channels last.
    Without one it is what a network takes, float32, images with their channels first.
    """

    raw: Tensor
    y: Tensor
    preprocessing: Preprocessing | None = None

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.y)

    @property
    def x(self) -> Tensor:
        """All of it as a network takes it: made anew by each call, and as large as float32 is."""
        return self.inputs(slice(None))

    @property
    def is_images(self) -> bool:
        """Whether an example has rows, columns and channels."""
        return self.raw.ndim == _IMAGE_AXES + 1

    def inputs(self, rows: Tensor | slice, pixels: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """What a network takes, float32, of some examples.

        Args:
            rows: which.
            pixels: of which row (examples, height) and which column (examples, width) of the image
                each pixel is taken; where it lies if not given.
        """
        part = self.raw[rows] if pixels is None else self._gathered(rows, *pixels)
        if self.preprocessing is not None:
            return prepared(part, self.preprocessing)
        return part.movedim(-1, 1) if pixels is not None else part

    def _gathered(self, rows: Tensor | slice, down: Tensor, across: Tensor) -> Tensor:
        """Images with their channels last, each pixel taken from where it is asked for."""
        import torch

        images = self.raw if self.preprocessing is not None else self.raw.movedim(1, -1)
        chosen = torch.arange(len(self), device=images.device)[rows]
        return images[chosen[:, None, None], down[:, :, None], across[:, None, :]]

    def some(self, rows: Tensor | slice) -> Batchable:
        """These examples alone."""
        return replace(self, raw=self.raw[rows], y=self.y[rows])

    def to(self, device: torch.device) -> Batchable:
        """The split on a device; prepared images with their channels last in memory."""
        import torch

        raw = self.raw.to(device)
        if self.preprocessing is None and self.is_images:
            raw = raw.to(memory_format=torch.channels_last)
        return replace(self, raw=raw, y=self.y.to(device))

    def pieces(self, size: int = _PIECE, start: int = 0, step: int = 1) -> Iterator[Batchable]:
        """The split in small parts, in order; or every `step`-th example of it from `start` on."""
        for first in range(start, len(self), size * step):
            yield self.some(slice(first, min(len(self), first + size * step), step))


def prepared(raw: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Do what `Preprocessing.apply` does, bit for bit, where the examples are.

    Args:
        raw: raw examples (batch, ...).
        preprocessing: of the model.
    """
    import torch

    x = raw.to(torch.float32, copy=True)
    for step in preprocessing.steps:
        if isinstance(step, Scale):
            x *= step.by
        elif isinstance(step, Normalize):
            x -= torch.tensor(step.mean, device=x.device)
            x /= torch.tensor(step.std, device=x.device)
        else:
            x = x.movedim(-1, 1)
    return x


def make_preprocessing(train: Examples, *, normalize: bool) -> Preprocessing:
    """The preprocessing of a new model.

    Args:
        train: the training split, whose mean and deviation are used.
        normalize: bring each channel to mean 0 and deviation 1.

    Returns:
        Bytes scaled to 0..1, normalised, channels first for images.
    """
    import numpy as np

    info = train.info
    steps: list[Step] = [Scale()] if info.dtype == "uint8" else []
    if normalize:
        scale = steps[0].by if steps and isinstance(steps[0], Scale) else 1.0
        mean, std = (part * scale for part in _mean_and_deviation(train.x))
        std = np.where(std > 0, std, 1.0)
        steps.append(Normalize(mean=_rounded(mean), std=_rounded(std)))
    if len(info.shape) == _IMAGE_AXES:
        steps.append(ToNCHW())
    return Preprocessing(shape=info.shape, dtype=info.dtype, steps=tuple(steps))


def _mean_and_deviation(x: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each channel, float64; looked at in pieces, because `x` may be larger than the memory."""
    import numpy as np

    axes = tuple(range(x.ndim - 1))
    values = max(1, x.size // x.shape[-1])

    def mean_of(change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Any:
        pieces = (x[i : i + _PIECE].astype(np.float64) for i in range(0, len(x), _PIECE))
        return sum(change(piece).sum(axis=axes) for piece in pieces) / values

    mean = mean_of(lambda piece: piece)
    return mean, np.sqrt(mean_of(lambda piece: (piece - mean) ** 2))


def to_tensors(examples: Examples, model: ModelInfo) -> Batchable:
    """Join a split with the preprocessing of a model.

    Raises:
        BadData: when the split is empty, has other labels than the model, or another shape.
    """
    import numpy as np
    import torch

    info = examples.info
    if len(examples) == 0:
        msg = f"dataset {info.name}: its {info.split} split is empty; give it a larger share"
        raise BadData(msg)
    if info.labels != model.labels:
        msg = (
            f"dataset {info.name} has labels {_some(info.labels)}, model {model.name} "
            f"({model.stage}) has {_some(model.labels)}: use data and model of one task"
        )
        raise BadData(msg)
    model.preprocessing.apply(examples.x[:1])  # tells what does not fit
    with warnings.catch_warnings():  # nobody writes to what is mapped
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        raw = torch.from_numpy(np.require(examples.x, requirements="A"))
    return Batchable(raw, torch.from_numpy(np.array(examples.y)).long(), model.preprocessing)


def _rounded(values: object) -> tuple[float, ...]:
    import numpy as np

    return tuple(float(f"{v:.6g}") for v in np.atleast_1d(np.asarray(values, np.float64)))


def _some(labels: tuple[str, ...]) -> str:
    shown = ", ".join(labels[:3])
    return f"{shown} ... ({len(labels)})" if len(labels) > 3 else shown  # noqa: PLR2004 - enough
