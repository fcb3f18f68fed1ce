"""How a `Model` artifact is kept: `model.json` beside `model.safetensors` or `model.onnx`.

A torch model is factory + structural edits + safetensors: the factory is called with its arguments,
the edits cut it to shape, the weights are loaded. Nothing is unpickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slimline.contract import BadData
from slimline.data.preprocess import Preprocessing

if TYPE_CHECKING:
    from pathlib import Path


class Factory(BaseModel):
    """What builds the uncut network: `module:function` and keyword arguments."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    call: str = Field(pattern=r"^[\w.]+:\w+$", description="Import path, module:function.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments.")


class Cut(BaseModel):
    """Keep these indices of one axis of a tensor; the layer's sizes follow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameter: str
    """Name of a parameter or buffer in `state_dict`, such as `layer1.0.conv1.weight`.

    `<layer>.padding` of an `nn.ConstantPad3d` stands for the channels it adds, left then right.
    """
    axis: int
    keep: tuple[int, ...]


class SetAttribute(BaseModel):
    """Give an attribute of a module another value: a size that its `forward` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: str
    name: str = Field(pattern=r"^[A-Za-z]\w*$")
    value: int | tuple[int, ...]


class Layer(BaseModel):
    """A fresh layer: the name of its class in `torch.nn`, one of `models.layers.KNOWN`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    arguments: dict[str, int | float | bool | str | tuple[int, ...] | None] = Field(
        default_factory=dict
    )
    children: dict[str, Layer] = Field(default_factory=dict)
    """By name, in order; of a `Sequential` alone."""


class Replace(BaseModel):
    """Put a fresh layer in the place of a module; its weights are those of the artifact.

    A folded batch norm or a removed block becomes an `Identity`, a factorised convolution a
    `Sequential`: whatever changes a network's shape is this, a cut, or an attribute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: str = Field(min_length=1)
    layer: Layer


Edit = Cut | SetAttribute | Replace
"""One structural change, replayed at load."""


class ModelInfo(BaseModel):
    """What `model.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    stage: str
    """The step that made it: teacher, student, pruned, quantized."""
    format: Literal["torch", "onnx"]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    factory: Factory | None = None
    edits: tuple[Edit, ...] = ()
    opset: int | None = None
    history: tuple[str, ...] = ()
    """What was done, oldest first, a short sentence each."""


def load_model_info(source: Path) -> ModelInfo:
    """Read `model.json` of a model artifact.

    Raises:
        BadData: when it is not there or does not say what it must.
    """
    try:
        return ModelInfo.model_validate_json((source / "model.json").read_bytes())
    except (OSError, ValidationError) as error:
        msg = f"{source / 'model.json'} describes no model: {error}"
        raise BadData(msg) from error


def save_model_info(info: ModelInfo, target: Path) -> None:
    """Write `model.json` into the directory of an output artifact."""
    (target / "model.json").write_text(info.model_dump_json(indent=1))
