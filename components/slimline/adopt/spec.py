"""The interface of adopt."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from slimline.contract import Access, Component, Dataset, Input, Model, Output, Resources, output
from slimline.data.preprocess import Scale, Step, ToNCHW


class Adopt(Component):
    """Take in an ONNX file of your own: checked, brought to one form, proven to answer alike."""

    image: ClassVar[str] = "onnx"
    needs: ClassVar[Resources] = Resources(cpu=2, memory="4Gi", network=True)
    access: ClassVar[tuple[Access, ...]] = (Access("data", "read"),)

    train: Input[Dataset] = Field(description="The training split: shape and labels are its.")
    model: Output[Model] = output("The same network as model.onnx, with a dynamic batch.")

    path: str = Field(min_length=1, description="The .onnx file: a path or an s3:// URI.")
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="What the file must be; others are refused."
    )
    name: str = Field("model", pattern=r"^[\w.-]{1,64}$", description="Name of the model.")
    stage: str = Field("teacher", pattern=r"^[\w.-]{1,64}$", description="Name of this step.")
    preprocessing: tuple[Step, ...] = Field(
        (Scale(), ToNCHW()),
        description="What the input went through in training: scale, normalize, nchw, in order.",
    )

    def outside(self) -> dict[str, str]:
        """The file's bytes as they are now."""
        from slimline.data.sources.fingerprint import fingerprint_path  # noqa: PLC0415 - boto3

        return {"file": fingerprint_path(self.path)}
