"""What a campaign takes: a package, the fleet, the waves, and what counts as failure."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from slimline.contract import Access, Component, Input, Output, Package, Receipt, Resources, output

GROUP = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Ota(Component):
    """Update a group of devices wave by wave; halt and roll back when devices fail."""

    image: ClassVar[str] = "ship"
    needs: ClassVar[Resources] = Resources(network=True, timeout_minutes=24 * 60)
    secrets: ClassVar[tuple[str, ...]] = ("tuf",)
    cached: ClassVar[bool] = False
    access: ClassVar[tuple[Access, ...]] = (
        Access("releases", "read", "artifacts/*"),
        Access("fleet", "read"),
        Access("fleet", "write", "tuf/*"),
        Access("fleet", "write", "packages/*"),
    )

    package: Input[Package] = Field(description="The signed package that the devices shall run.")
    previous: Input[Package | None] = Field(
        None, description="What to go back to; the device's other slot if not given."
    )
    receipt: Output[Receipt] = output("Per device: versions before and after, wave, state, reason.")

    repository: str = Field(
        "", min_length=1, description="The fleet: s3://bucket/prefix, or a directory."
    )
    group: str = Field("default", pattern=GROUP, description="The devices to update.")
    driver: Literal["signed-poll"] = Field(
        "signed-poll", description="How devices are reached; signed-poll: they read the bucket."
    )
    canaries: int = Field(1, ge=0, le=1000, description="Devices of the first wave, by number.")
    waves: tuple[float, ...] = Field(
        (30, 100), max_length=20, description="Later waves: percent of the group, increasing."
    )
    failure_threshold: float = Field(
        0.0, ge=0, lt=1, description="Fraction of a wave's devices that may fail."
    )
    min_reports: float = Field(
        1.0, gt=0, le=1, description="Fraction of a wave's devices that must report."
    )
    wave_timeout_seconds: float = Field(
        600, gt=0, le=86_400, description="How long a wave's reports are waited for."
    )
    poll_seconds: float = Field(2, gt=0, le=600, description="How often reports are read.")
    max_latency_ms: float | None = Field(
        None, gt=0, description="Median time of one inference that a device may need; or no limit."
    )
    max_memory_mb: float | None = Field(
        None, gt=0, description="Memory in MB of 10**6 bytes that the model may take; or no limit."
    )
    tries: int = Field(3, ge=1, le=10, description="Interrupted trials before a device gives up.")
    copy_package: bool = Field(
        default=True,
        description="Copy the package into the fleet's repository: one place for devices.",
    )

    @model_validator(mode="after")
    def _waves_widen(self) -> Self:
        if any(not 0 < percent <= 100 for percent in self.waves) or any(  # noqa: PLR2004 - percent
            a >= b for a, b in pairwise(self.waves)
        ):
            msg = f"waves {self.waves} must be percentages that increase, such as 30 100"
            raise ValueError(msg)
        if not self.waves and not self.canaries:
            msg = "waves is empty and canaries is 0: no device would be updated"
            raise ValueError(msg)
        return self
