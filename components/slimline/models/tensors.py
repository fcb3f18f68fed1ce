"""From a dataset to tensors that stay in memory, through the model's own preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.data.preprocess import Normalize, Preprocessing, Scale, ToNCHW

if TYPE_CHECKING:
    from torch import Tensor

    from slimline.data.dataset import Examples
    from slimline.data.preprocess import Step
    from slimline.models.info import ModelInfo

_IMAGE_AXES = 3


@dataclass(frozen=True)
class Batchable:
    """A split ready for a network: `x` float32 (count, ...), `y` int64 (count,)."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.y)


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
        axes = tuple(range(train.x.ndim - 1))
        scale = steps[0].by if steps and isinstance(steps[0], Scale) else 1.0
        mean = train.x.mean(axis=axes, dtype=np.float64) * scale
        std = train.x.std(axis=axes, dtype=np.float64) * scale
        std = np.where(std > 0, std, 1.0)
        steps.append(Normalize(mean=_rounded(mean), std=_rounded(std)))
    if len(info.shape) == _IMAGE_AXES:
        steps.append(ToNCHW())
    return Preprocessing(shape=info.shape, dtype=info.dtype, steps=tuple(steps))


def to_tensors(examples: Examples, model: ModelInfo) -> Batchable:
    """Apply a model's preprocessing to a split, once.

    Raises:
        BadData: when the split is empty, has other labels than the model, or another shape.
    """
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
    x = torch.from_numpy(model.preprocessing.apply(examples.x))
    return Batchable(x, torch.from_numpy(examples.y).long())


def _rounded(values: object) -> tuple[float, ...]:
    import numpy as np

    return tuple(float(f"{v:.6g}") for v in np.atleast_1d(np.asarray(values, np.float64)))


def _some(labels: tuple[str, ...]) -> str:
    shown = ", ".join(labels[:3])
    return f"{shown} ... ({len(labels)})" if len(labels) > 3 else shown  # noqa: PLR2004 - enough
