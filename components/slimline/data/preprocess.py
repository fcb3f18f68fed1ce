"""The preprocessing that goes with a model: data, not code, and run by one function everywhere.

Training, evaluation, endpoint and device call `Preprocessing.apply` on the same specification,
which the model carries in its `model.json`, also inside a package. Needs numpy only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from slimline.contract import BadData

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Scale(BaseModel):
    """Multiply by a number: 1/255 turns bytes into 0..1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    op: Literal["scale"] = "scale"
    by: float = 1 / 255


class Normalize(BaseModel):
    """Subtract the mean and divide by the standard deviation, a number for each channel."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    op: Literal["normalize"] = "normalize"
    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]


class ToNCHW(BaseModel):
    """Move channels from the last axis to the second."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    op: Literal["nchw"] = "nchw"


Step = Annotated[Scale | Normalize | ToNCHW, Field(discriminator="op")]


class Preprocessing(BaseModel):
    """What turns raw examples into a model's float32 input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    shape: tuple[PositiveInt, ...]
    """Shape of one raw example: (height, width, channels) or (features,)."""
    dtype: Literal["uint8", "float32"] = "uint8"
    steps: tuple[Step, ...] = ()

    def apply(self, raw: NDArray[np.generic]) -> NDArray[np.float32]:
        """Turn a batch of raw examples into model input.

        Args:
            raw: shape (batch, *shape), of the dtype that the specification names.

        Returns:
            float32, C-contiguous; (batch, channels, height, width) after `nchw`.

        Raises:
            BadData: on another shape or dtype, or on a value that is not finite.
        """
        import numpy as np

        if raw.shape[1:] != self.shape or str(raw.dtype) != self.dtype:
            given, taken = f"{raw.dtype}{list(raw.shape[1:])}", f"{self.dtype}{list(self.shape)}"
            msg = f"input is {given}, the model takes {taken}"
            raise BadData(msg)
        x = raw.astype(np.float32)
        if not np.isfinite(x).all():
            msg = "input holds NaN or infinity: clean the data"
            raise BadData(msg)
        for step in self.steps:
            if isinstance(step, Scale):
                x = x * np.float32(step.by)
            elif isinstance(step, Normalize):
                mean, std = np.asarray(step.mean, np.float32), np.asarray(step.std, np.float32)
                x = ((x - mean) / std).astype(np.float32, copy=False)
            else:
                x = np.moveaxis(x, -1, 1)
        return np.ascontiguousarray(x, dtype=np.float32)
