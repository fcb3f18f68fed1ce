"""What goes into a package."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from slimline.contract import (
    Component,
    Dataset,
    Evaluation,
    Input,
    Model,
    Output,
    Package,
    Report,
    Resources,
    Verdict,
    output,
)


class BuildPackage(Component):
    """Build and sign a package of a model that passed the gate.

    What changes between equal runs (DAG run, commit) is read as JSON from SLIMLINE_PROVENANCE, so
    that it is no parameter and no part of the job's identity.
    """

    image: ClassVar[str] = "ship"
    needs: ClassVar[Resources] = Resources(cpu=1, memory="2Gi", timeout_minutes=20)
    secrets: ClassVar[tuple[str, ...]] = ("signing",)

    model: Input[Model] = Field(description="The ONNX model that passed.")
    verdict: Input[Verdict] = Field(description="The gate's verdict about it.")
    evaluation: Input[Evaluation] = Field(description="The numbers it was judged by.")
    report: Input[Report] = Field(description="The report for people, index.html.")
    test: Input[Dataset] = Field(description="The test split; the golden inputs come from it.")
    package: Output[Package] = output("The signed tree.")

    name: str = Field(
        "model",
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        description="Name of the package: the recipe's.",
    )
    version: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._+-]{0,63})?$",
        description="Version for people; the first 12 digits of the model's digest if empty.",
    )
    security_version: int = Field(
        1, ge=0, description="Devices never go back to a lower one; raise it to bar old packages."
    )
    golden_count: int = Field(16, ge=1, le=1000, description="How many golden inputs to include.")
    golden_tolerance: float = Field(
        0.05, gt=0, description="Largest difference of a golden logit on another machine."
    )
    onnxruntime: str = Field(
        ">=1.20,<2", description="Versions of ONNX Runtime that may run it, as pip writes them."
    )
    arch: tuple[str, ...] = Field(
        ("x86_64", "aarch64"), min_length=1, description="Machines that may run it."
    )
    owner: str = Field("", description="Who answers for the model.")
    description: str = Field("", description="What the model is for, one paragraph.")
    limits: str = Field("", description="What the model is not for, and where it fails.")
    licence: str = Field("", description="SPDX identifier of the model's licence.")
