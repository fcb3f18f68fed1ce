"""What a renewal takes: the fleet's repository, and its keys as a secret."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from slimline.contract import Access, Component, Output, Receipt, Resources, output


class Renew(Component):
    """Sign a fleet's metadata anew before it expires; what the fleet runs stays as it is.

    Snapshot and timestamp are signed each time. Releases and campaigns are when half of their
    time is over. Targets is too where its key is at hand; root, whose key may lie in a safe, is
    not.
    """

    image: ClassVar[str] = "ship"
    needs: ClassVar[Resources] = Resources(network=True, timeout_minutes=10)
    secrets: ClassVar[tuple[str, ...]] = ("tuf",)
    cached: ClassVar[bool] = False
    access: ClassVar[tuple[Access, ...]] = (
        Access("fleet", "read", "tuf/*"),
        Access("fleet", "write", "tuf/metadata/*"),
    )

    receipt: Output[Receipt] = output("Until when each role's word counts.")

    repository: str = Field(
        "", min_length=1, description="The fleet: s3://bucket/prefix, or a directory."
    )
