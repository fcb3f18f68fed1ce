"""A task as files, for processes that share it: JSON beside safetensors, which all of them map.

Nothing is pickled, and nothing goes through /dev/shm, which is small in containers. Images lie with
their channels last, as training wants them, so that no process needs a copy of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from slimline.models.fake_quantize_plan import FakeQuantization
from slimline.models.info import ModelInfo
from slimline.models.settings import FitSettings
from slimline.models.task import Guide, Task
from slimline.models.tensors import Batchable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from slimline.data.preprocess import Preprocessing

_WORDS, _TENSORS = "task.json", "task.safetensors"
_IMAGE_BATCH_AXES = 4


class _Words(BaseModel):
    """All of a task but its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    info: ModelInfo
    settings: FitSettings
    guide: Guide | None
    raw: tuple[bool, bool]
    """Whether training and selection split hold raw examples, not prepared ones."""
    frozen: str
    quantization: FakeQuantization | None


def write_task(place: Path, task: Task) -> None:
    """Write a task into a directory."""
    from safetensors.torch import save_file

    words = _Words(
        what=task.what,
        info=task.info,
        settings=task.settings,
        guide=task.guide,
        raw=(_is_raw(task.train), _is_raw(task.selection)),
        frozen=task.frozen,
        quantization=task.quantization,
    )
    (place / _WORDS).write_text(words.model_dump_json())
    tensors = {f"weights.{k}": v.contiguous().clone() for k, v in task.weights.items()}
    tensors |= {f"masks.{k}": v.contiguous().clone() for k, v in task.masks.items()}
    for name, split in (("train", task.train), ("selection", task.selection)):
        x = split.raw.contiguous() if _is_raw(split) else _channels_last(split.raw)
        tensors |= {f"{name}.x": x, f"{name}.y": split.y.contiguous()}
    save_file(tensors, place / _TENSORS)


def read_task(place: Path) -> Task:
    """Read what `write_task` wrote."""
    from safetensors.torch import load_file

    words = _Words.model_validate_json((place / _WORDS).read_text())
    tensors = load_file(place / _TENSORS)
    train, selection = (
        _split(tensors[f"{name}.x"], tensors[f"{name}.y"], words.info.preprocessing, raw=raw)
        for name, raw in zip(("train", "selection"), words.raw, strict=True)
    )
    return Task(
        words.what,
        words.info,
        _part(tensors, "weights."),
        train,
        selection,
        words.settings,
        words.guide,
        words.frozen,
        _part(tensors, "masks."),
        words.quantization,
    )


def _is_raw(split: Batchable) -> bool:
    return split.preprocessing is not None


def _split(x: Tensor, y: Tensor, preprocessing: Preprocessing, *, raw: bool) -> Batchable:
    return Batchable(x, y, preprocessing) if raw else Batchable(_channels_first(x), y)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _channels_last(x: Tensor) -> Tensor:
    return (x.permute(0, 2, 3, 1) if x.ndim == _IMAGE_BATCH_AXES else x).contiguous()


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2) if x.ndim == _IMAGE_BATCH_AXES else x
