"""What training learned of levels: `quantization.json` beside a model's weights.

A torch model trained with fake quantization holds weights that already lie on their levels; this
record says which levels those are, so that what stores them as integers later need not guess. The
same file beside a `model.onnx` speaks of its tensors instead of the network's parameters.

Both come with a model that may be anybody's, so they are checked when they are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slimline.contract import BadData

if TYPE_CHECKING:
    from pathlib import Path

FILE = "quantization.json"
_MOST_BYTES = 64_000_000

Kind = Literal["integer", "binary", "ternary", "power_of_two", "codebook"]
Step = Annotated[float, Field(gt=0, lt=1e30, allow_inf_nan=False)]
"""The width of a level; zero, infinity and NaN are none."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WeightQuantization(_Frozen):
    """The levels of a weight: one channel's are its scale times the kind's own levels.

    `integer` has -(2^(bits-1) - 1) ... 2^(bits-1) - 1, `binary` -1 and 1, `ternary` those and 0;
    `power_of_two` and `codebook` list theirs in `codebook`.
    """

    kind: Kind
    bits: int = Field(ge=1, le=8)
    scale: tuple[Step, ...] = Field(min_length=1)
    axis: Literal[0] = 0
    """The axis of the channels: the weight's outputs."""
    codebook: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _check_codebook(self) -> Self:
        listed = self.kind in {"power_of_two", "codebook"}
        if listed != bool(self.codebook) or len(self.codebook) > 2**self.bits:
            msg = f"kind {self.kind} of {self.bits} bits with {len(self.codebook)} levels listed"
            raise ValueError(msg)
        return self


class ActivationQuantization(_Frozen):
    """The levels of a layer's input: scale * (0 ... 255 - zero_point)."""

    bits: Literal[8] = 8
    scale: Step
    zero_point: int = Field(ge=0, le=255)


class Quantization(_Frozen):
    """What a torch model's record says.

    Attributes:
        weights: by the parameter's name.
        activations: by the path of the layer whose input it is.
    """

    weights: dict[str, WeightQuantization]
    activations: dict[str, ActivationQuantization] = Field(default_factory=dict)


class TensorQuantization(_Frozen):
    """How a tensor of an ONNX graph is stored as integers: scale * (integer - zero_point)."""

    scale: tuple[Step, ...] = Field(min_length=1)
    zero_point: tuple[Annotated[int, Field(ge=-128, le=255)], ...] = Field(min_length=1)
    bits: int = Field(ge=2, le=8)
    axis: int | None = Field(default=None, ge=0, le=8)
    """Of the channels, which have a scale each; None for one scale."""
    symmetric: bool
    """Signed and around 0, as weights are; else unsigned from 0 on."""

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if len(self.scale) != len(self.zero_point) or (self.axis is None and len(self.scale) > 1):
            msg = f"{len(self.scale)} scales, {len(self.zero_point)} zero points, axis {self.axis}"
            raise ValueError(msg)
        least, most = (0, 0) if self.symmetric else (0, 2**self.bits - 1)
        if not all(least <= zero <= most for zero in self.zero_point):
            msg = f"a zero point is outside {least} ... {most}"
            raise ValueError(msg)
        return self


class OnnxQuantization(_Frozen):
    """What an ONNX model's record says, by the name of the tensor or initialiser."""

    tensors: dict[str, TensorQuantization]


_Record = TypeVar("_Record", Quantization, OnnxQuantization)


def load_quantization(kind: type[_Record], source: Path) -> _Record | None:
    """Read the record of a model artifact; None when it has none.

    Args:
        kind: `Quantization` of a torch model, `OnnxQuantization` of an ONNX one.
        source: directory of the artifact.

    Raises:
        BadData: when it is there and says anything but what it must.
    """
    path = source / FILE
    if not path.exists():
        return None
    if path.stat().st_size > _MOST_BYTES:
        msg = f"{path} has {path.stat().st_size} bytes, at most {_MOST_BYTES} can be: train again"
        raise BadData(msg)
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        msg = f"{path} tells no quantization: {error}; train or export the model again"
        raise BadData(msg) from error


def save_quantization(record: Quantization | OnnxQuantization, target: Path) -> None:
    """Write a record into the directory of a model artifact."""
    (target / FILE).write_text(record.model_dump_json(indent=1))
