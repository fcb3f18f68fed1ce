"""The interface of export."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from slimline.contract import Component, Dataset, Input, Model, Output, Resources, output


class Export(Component):
    """Turn a torch model into ONNX, and prove that both answer alike.

    Levels that a model was trained in (qat) go with it, for quantize to use.
    """

    image: ClassVar[str] = "torch"
    needs: ClassVar[Resources] = Resources(cpu=2, memory="4Gi")

    model: Input[Model] = Field(description="A torch model.")
    examples: Input[Dataset | None] = Field(
        default=None,
        description="Train or selection split to check on, beside random inputs; never the test.",
    )
    exported: Output[Model] = output("The same network as model.onnx.")

    opset: int = Field(
        default=20, ge=18, le=21, description="Version of the ONNX operators to write."
    )
    dynamic_batch: bool = Field(
        default=True,
        description="Take any number of examples in a call; false fixes it to one and with it "
        "every shape, as some runtimes need.",
    )
    tolerance: float = Field(
        default=1e-4,
        gt=0,
        le=0.1,
        description="Largest difference of a logit, as a share of the largest logit or 1.",
    )
