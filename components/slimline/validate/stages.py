"""The models that are compared: loaded, and checked against the test split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData
from slimline.data.dataset import Examples, load_examples
from slimline.measure.runtime import answer, session
from slimline.models.info import ModelInfo, load_model_info

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from slimline.contract import Model

_TABLE_AXES = 2


@dataclass(frozen=True)
class Stage:
    """One model."""

    info: ModelInfo
    digest: str
    path: Path
    session: Any
    first_input: NDArray[np.float32]
    """The first example as a batch of one."""

    @property
    def bytes(self) -> int:
        """Size of `model.onnx`."""
        return self.path.stat().st_size

    @property
    def what(self) -> str:
        """The model's name in errors."""
        return _name(self.info)


def load_test(source: Path) -> Examples:
    """Map the test split, of any task, into memory.

    Raises:
        BadData: on another split, or an empty one; see `load_examples` for the rest.
    """
    examples = load_examples(source, split="test", task=None, mapped=True)
    if len(examples) == 0:
        msg = (
            f"dataset {examples.info.name}: its test split is empty: nothing can be shown; "
            "give more data"
        )
        raise BadData(msg)
    return examples


def load_stage(model: Model, examples: Examples, threads: int, *, classifies: bool) -> Stage:
    """Load a model and let it answer to the first example.

    Args:
        model: the artifact.
        examples: the test split.
        threads: inside one operator.
        classifies: it must give a logit for each label.

    Raises:
        BadData: when it is not ONNX, its labels or raw input differ from the test split's, or its
            answer is not finite, or no logit for each label.
    """
    info, path = load_model_info(model.path), model.path / "model.onnx"
    check_fits(info, examples)
    loaded = session(path, threads)
    first = info.preprocessing.apply(examples.x[:1])
    shape = answer(loaded, first, _name(info)).shape
    if classifies and len(shape) != _TABLE_AXES:
        msg = (
            f"{_name(info)} answers {list(shape)}: (examples, classes) is needed; cut it to the "
            "classifier"
        )
        raise BadData(msg)
    if classifies and shape[1] != len(info.labels):
        msg = f"{_name(info)} gives {shape[1]} logits for {len(info.labels)} labels"
        raise BadData(msg)
    return Stage(info, model.digest, path, loaded, first)


def check_fits(info: ModelInfo, examples: Examples) -> None:
    """Refuse a model that was made for other data; raises BadData with both sides."""
    if info.format != "onnx":
        msg = f"{_name(info)} is in {info.format}: export it first, validate measures ONNX"
        raise BadData(msg)
    if info.labels != examples.info.labels:
        msg = (
            f"{_name(info)} has labels {_few(info.labels)}, the test split has "
            f"{_few(examples.info.labels)}: give models trained on this dataset"
        )
        raise BadData(msg)
    given = f"{examples.x.dtype}{list(examples.info.shape)}"
    taken = f"{info.preprocessing.dtype}{list(info.preprocessing.shape)}"
    if given != taken:
        msg = f"{_name(info)} takes {taken}, the test split holds {given}: give the same raw form"
        raise BadData(msg)


def _name(info: ModelInfo) -> str:
    return f"model {info.name} ({info.stage})"


def _few(labels: tuple[str, ...]) -> str:
    shown = ", ".join(labels[:5])
    return f"[{shown}, ... {len(labels)}]" if len(labels) > 5 else f"[{shown}]"  # noqa: PLR2004
