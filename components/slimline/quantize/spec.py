"""The interface of quantize."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slimline.contract import Component, Dataset, Input, Model, Output, Resources, output


class Quantize(Component):
    """Turn a float ONNX model into an integer one, and prove that it did change."""

    image: ClassVar[str] = "onnx"
    needs: ClassVar[Resources] = Resources(cpu=2, memory="4Gi")

    model: Input[Model] = Field(description="A float ONNX model.")
    calibration: Input[Dataset | None] = Field(
        default=None,
        description="Train split that chooses the activation ranges; int8-static needs it.",
    )
    quantized: Output[Model] = output("The integer model as model.onnx.")

    stage: str = Field(
        default="quantized",
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="Name of the stage in reports.",
    )
    scheme: Literal["int8-static", "int8-dynamic"] = Field(
        default="int8-static",
        description="Static calibrates activations and takes convolutions too; dynamic scales "
        "activations at run time and takes MatMul and Gemm alone.",
    )
    format: Literal["qdq", "qoperator"] = Field(
        default="qdq",
        description="Standard QuantizeLinear pairs, or ONNX Runtime's own integer operators: as "
        "fast there and some kilobytes smaller. int8-static only.",
    )
    calibration_samples: int = Field(
        default=256, ge=32, le=10_000, description="Examples that choose the activation ranges."
    )
    calibration_method: Literal["minmax", "percentile", "entropy"] = Field(
        default="minmax", description="How ranges are chosen from the examples."
    )
    percentile: float = Field(
        default=99.99, ge=90, le=100, description="Share of values kept by method percentile."
    )
    activation_type: Literal["uint8", "int8"] = Field(
        default="uint8", description="On x86, uint8 is the fast one; int8 can be slower than float."
    )
    per_channel: bool = Field(
        default=True, description="One weight scale for each output channel, not one for a tensor."
    )
    reduce_range: bool = Field(
        default=False, description="Weights of 7 bits, for x86 processors without VNNI."
    )
    exclude: tuple[str, ...] = Field(default=(), description="Names of nodes that stay float.")
    allow_larger: bool = Field(
        default=False, description="Accept a file that is not smaller than the float one."
    )
    seed: int = Field(default=0, ge=0, description="Draws the calibration examples.")
