"""What `receipt.json` of a deployment says."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field


class GoldenAnswer(BaseModel):
    """The golden request, as the endpoint answered it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    count: int
    """Examples that were asked."""
    difference: float
    """Largest absolute difference between a logit and the expected one."""
    tolerance: float
    label: str
    """What the model said of the first example."""
    probability: float
    """How sure it was."""


class DeployReceipt(BaseModel):
    """One deployment that is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    endpoint: str
    address: str
    """URL for `local`, ARN for `sagemaker`."""
    package: str
    """Name of the package."""
    version: str
    before: str
    """Digest of the package that served until now; "" when there was none."""
    after: str
    """Digest of the package that serves now."""
    changed: bool
    """False when the same package served already."""
    golden: GoldenAnswer
    time: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
