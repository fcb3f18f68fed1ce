"""What `receipt.json` of a deployment says."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from slimline.trust.request import GoldenAnswer


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
