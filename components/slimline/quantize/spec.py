"""The interface of quantize."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slimline.contract import Component, Dataset, Input, Model, Output, Report, Resources, output

_NEED_NONE = ("int8-dynamic", "int4-weights", "fp16", "bf16", "kmeans", "power-of-two", "step")
_FOR_SPEED = ("int8", "int8-static", "int8-dynamic", "mixed")


class Quantize(Component):
    """Store and compute a float ONNX model in fewer bits, and prove that it did change."""

    image: ClassVar[str] = "onnx"
    needs: ClassVar[Resources] = Resources(cpu=2, memory="4Gi")

    model: Input[Model] = Field(description="A float ONNX model.")
    calibration: Input[Dataset | None] = Field(
        default=None,
        description="Train split; its examples choose ranges and rounding, others of it judge.",
    )
    quantized: Output[Model] = output("The smaller model as model.onnx.")
    report: Output[Report] = output("What was tried, measured, chosen, and why.")

    stage: str = Field(
        default="quantized",
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="Name of the stage in reports.",
    )
    scheme: Literal[
        "int8-static",
        "int8-dynamic",
        "int8",
        "mixed",
        "int4-weights",
        "fp16",
        "bf16",
        "kmeans",
        "power-of-two",
        "step",
    ] = Field(
        default="int8-static",
        description="int8-static calibrates activations and takes convolutions too; int8-dynamic "
        "scales activations at run time and takes MatMul and Gemm alone; int8 chooses among both "
        "and their formats; mixed gives each layer 4, 8 or 32 bits under max_drop; int4-weights "
        "stores 4 bits; fp16 and bf16 store 16; kmeans and power-of-two store indices of a list; "
        "step stores 8, of few levels, for the fewest bytes on the way to devices.",
    )

    # What int8 is made of, where it is not chosen.
    plan: Literal["measure", "rules"] = Field(
        default="measure",
        description="How scheme int8 chooses: by measured latency at equal loss, or by what is "
        "known to be fast on x86, which gives the same bytes in every run.",
    )
    format: Literal["qdq", "qoperator"] = Field(
        default="qdq",
        description="Standard QuantizeLinear pairs, or ONNX Runtime's own integer operators: as "
        "fast there and some kilobytes smaller. Static int8 and mixed.",
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

    # The examples that choose, and those that judge.
    calibration_samples: int = Field(
        default=256, ge=32, le=10_000, description="Examples that choose ranges and rounding."
    )
    calibration_method: Literal["minmax", "percentile", "entropy", "mse", "measured"] = Field(
        default="minmax",
        description="How ranges are chosen; measured tries all and keeps that of least loss.",
    )
    percentile: float = Field(
        default=99.99, ge=90, le=100, description="Share of values kept by method percentile."
    )
    selection_samples: int = Field(
        default=256,
        ge=8,
        le=10_000,
        description="Other examples of the same split, which judge what was made.",
    )
    max_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Accuracy that may be lost on those, as a fraction; the most sensitive layers "
        "go back to more bits until it holds. mixed needs it; int8 schemes take it.",
    )

    # Fewer bits than 8.
    activations: Literal["float", "int8"] = Field(
        default="float",
        description="What int4-weights computes with: float, or int8 calibrated like int8-static, "
        "which is fast for convolutions too.",
    )
    block_size: Literal[16, 32, 64, 128] = Field(
        default=32, description="Weights that share a scale in int4-weights with float activations."
    )
    symmetric: bool = Field(
        default=True, description="int4-weights: zero is code 0; else each block is moved."
    )
    codebook_bits: int = Field(
        default=4, ge=2, le=8, description="Bits of an index of kmeans and power-of-two."
    )
    step: float = Field(
        default=0.3,
        gt=0,
        le=4,
        description="Scheme step: distance of the levels, in root mean squares of all weights.",
    )
    codebook_per: Literal["tensor", "channel"] = Field(
        default="tensor", description="Weights that share a list: a tensor's, or a channel's."
    )
    half_compute: bool = Field(
        default=False,
        description="fp16: compute in half precision too; off, weights are widened at load.",
    )
    rounding: Literal["auto", "nearest", "compensated"] = Field(
        default="auto",
        description="Round weights to the nearest value, or so that errors undo one another in "
        "the layer's output; auto compensates up to 4 bits, and lists, when there are examples.",
    )
    correction: Literal["auto", "none", "bias", "variance"] = Field(
        default="auto",
        description="Put channels' means (bias), and their variances too, right again; kept only "
        "if the judges' loss falls. auto tries all for weights of at most 4 bits, and for lists.",
    )

    # What is refused.
    allow_larger: bool = Field(
        default=False, description="Accept a file that is not smaller than the float one."
    )
    allow_slower: bool = Field(
        default=False,
        description="Accept an int8 model that is surely slower than the float one, by more than "
        "0.05 ms a call.",
    )
    require_speedup: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="Refuse a model that is surely not this many times as fast as the float one.",
    )
    latency_rounds: int = Field(
        default=31, ge=11, le=2000, description="Rounds of each latency measurement."
    )
    seed: int = Field(default=0, ge=0, description="Draws the calibration examples.")

    def needs_examples(self) -> bool:
        """Whether there must be a calibration set."""
        computes_int8 = self.scheme == "int4-weights" and self.activations == "int8"
        return computes_int8 or self.scheme not in _NEED_NONE

    def least_speedup(self) -> float | None:
        """The speed against the float model below which the result is refused."""
        if self.require_speedup is not None:
            return self.require_speedup
        return 1.0 if self.scheme in _FOR_SPEED and not self.allow_slower else None
