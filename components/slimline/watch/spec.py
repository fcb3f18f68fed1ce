"""What is watched: an endpoint, a fleet, or both, and for how long."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from slimline.contract import Access, Component, Input, Output, Package, Receipt, Resources, output


class Watch(Component):
    """Watch an endpoint and a fleet for a while after a release; say whether they do well."""

    image: ClassVar[str] = "ship"
    needs: ClassVar[Resources] = Resources(network=True, timeout_minutes=24 * 60)
    cached: ClassVar[bool] = False
    access: ClassVar[tuple[Access, ...]] = (
        Access("releases", "read", "artifacts/*"),
        Access("fleet", "read", "devices/*"),
        Access("fleet", "read", "status/*"),
    )

    package: Input[Package | None] = Field(
        None, description="What must run: its digest, and its golden inputs as requests."
    )
    receipt: Output[Receipt] = output("What was seen, look by look.")

    seconds: float = Field(60, ge=0, le=86_400, description="How long to look.")
    poll_seconds: float = Field(5, gt=0, le=3600, description="Pause between two looks.")
    address: str = Field("", description="The endpoint's URL, such as http://127.0.0.1:8080.")
    max_error_rate: float = Field(
        0.01, ge=0, lt=1, description="Fraction of answers with a 5xx code while watching."
    )
    repository: str = Field("", description="The fleet: s3://bucket/prefix, or a directory.")
    group: str = Field("default", description="The devices to watch.")
    min_devices: float = Field(
        1.0, gt=0, le=1, description="Fraction of the group that must run what it should."
    )

    @model_validator(mode="after")
    def _something_is_watched(self) -> Self:
        if not self.address and not self.repository:
            msg = "neither address nor repository is given: there is nothing to watch"
            raise ValueError(msg)
        return self
